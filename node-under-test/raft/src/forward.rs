//! Proposals that wait to be passed on to the member that leads: as many as wait go in one message,
//! a *frame*.
//!
//! A member that does not lead gets two thirds of a cluster's writes, and a call costs both ends
//! more than the command that it carries.
//!
//! 1. *A proposal is in one frame at most*, and a frame is sent once.
//! 2. *A proposal waits for no other one's answer* while fewer than [`FRAMES_MAX`] frames are under
//!    way to its leader. Then it waits for the first of them, and shares the next one with all that
//!    have come meanwhile.
//! 3. *A proposal that still waits was certainly not sent.* Its proposer takes it back when another
//!    member leads, when its time is up, or by going away; and so no more wait than are asked for.

use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Frames under way to one member. More of them wait less for each other; fewer are fuller.
const FRAMES_MAX: usize = 8;
/// Proposals of one frame.
pub const FRAME_PROPOSALS_MAX: usize = 256;
/// Bytes of commands after which a frame is full.
const FRAME_BYTES: usize = 1 << 20;

/// A proposal that waits to be sent, and for an answer of type `A`.
pub struct Parcel<A> {
    pub command: Bytes,
    pub answer: oneshot::Sender<A>,
}

/// The way to one member.
struct Lane<A> {
    /// By ticket, in the order of coming.
    waiting: BTreeMap<u64, Parcel<A>>,
    /// At most [`FRAMES_MAX`].
    carriers: usize,
    /// One of the carriers is about to take what waits.
    starting: bool,
}

/// Proposals that wait, by the member that they wait for. Clones share them.
pub struct Forwards<A> {
    lanes: Arc<Mutex<Lanes<A>>>,
}

struct Lanes<A> {
    last_ticket: u64,
    /// Only those with something in them: which ids there are, a peer may have said.
    by_leader: HashMap<u64, Lane<A>>,
}

/// Claim 3: takes its proposal back with itself.
pub struct Ticket<'a, A> {
    forwards: &'a Forwards<A>,
    leader: u64,
    number: u64,
}

impl<A> Ticket<'_, A> {
    /// True if the proposal still waited, and so will not be sent.
    pub fn take_back(&self) -> bool {
        let mut lanes = self.forwards.lock();
        let Some(lane) = lanes.by_leader.get_mut(&self.leader) else { return false };
        let waited = lane.waiting.remove(&self.number).is_some();
        lanes.sweep(self.leader);
        waited
    }
}

impl<A> Drop for Ticket<'_, A> {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Carries one frame after the other to one member, until none waits.
pub struct Carrier<A> {
    forwards: Forwards<A>,
    pub leader: u64,
    employed: bool,
}

impl<A> Carrier<A> {
    /// What waits, as far as one frame holds it. `None`: nothing does, and the carrier is done.
    pub fn take_frame(&mut self) -> Option<Vec<Parcel<A>>> {
        let mut lanes = self.forwards.lock();
        let lane = lanes.by_leader.get_mut(&self.leader)?;
        lane.starting = false;
        let (mut frame, mut bytes) = (Vec::new(), 0);
        while frame.len() < FRAME_PROPOSALS_MAX
            && let Some(first) = lane.waiting.first_entry()
            && (frame.is_empty() || bytes + first.get().command.len() <= FRAME_BYTES)
        {
            let parcel = first.remove();
            bytes += parcel.command.len();
            frame.push(parcel);
        }
        if frame.is_empty() {
            // Under the same lock: who comes next must find a free place.
            lane.carriers -= 1;
            self.employed = false;
            lanes.sweep(self.leader);
            return None;
        }
        Some(frame)
    }
}

impl<A> Drop for Carrier<A> {
    fn drop(&mut self) {
        let mut lanes = self.forwards.lock();
        if let Some(lane) = lanes.by_leader.get_mut(&self.leader).filter(|_| self.employed) {
            lane.carriers -= 1;
            lane.starting = false;
            lanes.sweep(self.leader);
        }
    }
}

impl<A> Lanes<A> {
    fn sweep(&mut self, leader: u64) {
        if self.by_leader.get(&leader).is_some_and(|lane| lane.waiting.is_empty() && lane.carriers == 0) {
            self.by_leader.remove(&leader);
        }
    }
}

impl<A> Clone for Forwards<A> {
    fn clone(&self) -> Self {
        Self { lanes: self.lanes.clone() }
    }
}

impl<A> Forwards<A> {
    pub fn new() -> Self {
        Self { lanes: Arc::new(Mutex::new(Lanes { last_ticket: 0, by_leader: HashMap::new() })) }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<A>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a proposal wait for `leader`; a carrier comes back if there is a place for one.
    pub fn enter(&self, leader: u64, parcel: Parcel<A>) -> (Ticket<'_, A>, Option<Carrier<A>>) {
        let mut lanes = self.lock();
        lanes.last_ticket += 1;
        let number = lanes.last_ticket;
        let empty = || Lane { waiting: BTreeMap::new(), carriers: 0, starting: false };
        let lane = lanes.by_leader.entry(leader).or_insert_with(empty);
        lane.waiting.insert(number, parcel);
        let hire = !lane.starting && lane.carriers < FRAMES_MAX;
        let carrier = hire.then(|| {
            lane.carriers += 1;
            lane.starting = true;
            Carrier { forwards: self.clone(), leader, employed: true }
        });
        (Ticket { forwards: self, leader, number }, carrier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(bytes: usize) -> Parcel<()> {
        Parcel { command: vec![0; bytes].into(), answer: oneshot::channel().0 }
    }

    fn sizes(frame: Option<Vec<Parcel<()>>>) -> Vec<usize> {
        frame.into_iter().flatten().map(|parcel| parcel.command.len()).collect()
    }

    #[test]
    fn claim_2_what_comes_before_a_carrier_starts_shares_its_frame() {
        let forwards = Forwards::new();
        let (_first, carrier) = forwards.enter(2, parcel(1));
        let (_second, none) = forwards.enter(2, parcel(2));
        let (_elsewhere, other) = forwards.enter(3, parcel(3));
        assert!(none.is_none());
        assert_eq!(sizes(carrier.unwrap().take_frame()), [1, 2]);
        assert_eq!(sizes(other.unwrap().take_frame()), [3]);
    }

    #[test]
    fn claim_2_carriers_are_bounded_and_a_free_one_takes_all_that_waits() {
        let forwards = Forwards::new();
        let mut carriers = Vec::new();
        for number in 0..FRAMES_MAX {
            let (ticket, carrier) = forwards.enter(2, parcel(number));
            let mut carrier = carrier.unwrap();
            assert_eq!(sizes(carrier.take_frame()), [number]);
            carriers.push(carrier);
            drop(ticket);
        }
        let (_waits, none) = forwards.enter(2, parcel(50));
        let (_too, none_either) = forwards.enter(2, parcel(51));
        assert!(none.is_none() && none_either.is_none());
        assert_eq!(sizes(carriers[3].take_frame()), [50, 51]);
        assert_eq!(sizes(carriers[3].take_frame()), [] as [usize; 0]);
        let (_another, carrier) = forwards.enter(2, parcel(52));
        assert!(carrier.is_some(), "the place of the one that found nothing is free");
        drop(carriers);
        drop(carrier);
        assert_eq!(forwards.lock().by_leader[&2].carriers, 0);
    }

    #[test]
    fn claim_3_what_is_taken_back_is_not_sent_and_leaves_nothing_behind() {
        let forwards = Forwards::new();
        let (first, carrier) = forwards.enter(2, parcel(1));
        let (second, _) = forwards.enter(2, parcel(2));
        assert!(first.take_back() && !first.take_back());
        let mut carrier = carrier.unwrap();
        assert_eq!(sizes(carrier.take_frame()), [2]);
        assert!(!second.take_back(), "it is on its way");
        let (third, _) = forwards.enter(2, parcel(3));
        drop(third);
        assert_eq!(sizes(carrier.take_frame()), [] as [usize; 0]);
        assert!(forwards.lock().by_leader.is_empty());
    }

    #[test]
    fn a_frame_is_bounded_in_number_and_in_bytes_but_holds_one_always() {
        let forwards = Forwards::new();
        let (_large, carrier) = forwards.enter(2, parcel(2 * FRAME_BYTES));
        let many: Vec<_> = (0..FRAME_PROPOSALS_MAX + 1).map(|_| forwards.enter(2, parcel(1)).0).collect();
        let mut carrier = carrier.unwrap();
        assert_eq!(sizes(carrier.take_frame()), [2 * FRAME_BYTES]);
        assert_eq!(sizes(carrier.take_frame()).len(), FRAME_PROPOSALS_MAX);
        assert_eq!(sizes(carrier.take_frame()).len(), 1);
        drop(many);
    }
}
