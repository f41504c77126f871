//! Falling silent: what a leader does that its quorum no longer answers.
//!
//! The library never deposes a leader that cannot hear. It refuses proposals, and goes on sending,
//! so its followers, whom its messages still reach, never stand for election; and a connected
//! majority stays without a leader for as long as the cut lasts.
//!
//! 1. *A leader that no quorum has answered for a while sends no entries and no heartbeats*,
//!    neither new ones nor again: each of them would renew its lease at whom it reaches. Its
//!    followers elect another leader among themselves if they can.
//! 2. *It speaks again from time to time.* Where no other member can be elected (the others' logs
//!    are shorter, or the others were away) one answer of a quorum is all that it needs to go on.
//! 3. *Patience is longer than what a disk may stall*: three of the longest election timeouts. An
//!    answer that comes later than that ends the silence at once.
//!
//! The library's own `quorum_loss_probe_interval` is not used. It begins after a single election
//! timeout, which an fsync on a busy disk may take, and it holds back heartbeats alone: entries
//! that wait for a quorum are sent again and again.

use crate::clock::{self, Moment};
use crate::state_machine::RawRaft;
use node_base::sabotage::{Bug, planted};
use openraft::async_runtime::watch::WatchReceiver;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// A switch: true while this member must keep silent as a leader. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Silence(Arc<AtomicBool>);

impl Silence {
    pub fn is_kept(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn keep(&self, kept: bool) {
        if self.0.swap(kept, Ordering::Relaxed) != kept {
            match kept {
                true => tracing::warn!("no quorum answers this leader: it falls silent, so that others may be elected"),
                false => tracing::info!("this member speaks again"),
            }
        }
    }
}

/// Lengths of a leader's silences, of the time before and between them, and of that between two
/// looks.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// Without an answer of a quorum until the first silence.
    patience: Duration,
    silent: Duration,
    /// Between two silences.
    speaking: Duration,
    /// Between two looks.
    look_every: Duration,
}

impl Rhythm {
    /// Milliseconds: the heartbeat's interval, and the longest election timeout.
    pub fn new(heartbeat_ms: u64, election_ms_max: u64) -> Self {
        let elections = |count| Duration::from_millis(election_ms_max.saturating_mul(count));
        Self {
            patience: elections(3),
            // A follower's lease and its timeout are one each; the rest is for the votes.
            silent: elections(4),
            speaking: elections(2),
            look_every: Duration::from_millis(heartbeat_ms),
        }
    }

    /// Claims 1 and 2; `unheard`: for how long no quorum has answered.
    fn is_silent(&self, unheard: Duration) -> bool {
        let Some(over) = unheard.checked_sub(self.patience) else { return false };
        let period = (self.silent + self.speaking).as_nanos().max(1);
        over.as_nanos() % period < self.silent.as_nanos()
    }
}

/// Runs until `stopped`.
pub async fn run(raft: RawRaft, silence: Silence, rhythm: Rhythm, mut stopped: watch::Receiver<bool>) {
    let mut leading = None;
    loop {
        let unheard = unheard(&raft, &mut leading);
        silence.keep(unheard.is_some_and(|unheard| rhythm.is_silent(unheard)) && !planted(Bug::DeafLeaderStays));
        tokio::select! {
            () = clock::pause(rhythm.look_every) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// For how long no quorum has answered this leader. `None`: it does not lead, or is a quorum by
/// itself. `leading` remembers the term and since when it is led.
fn unheard(raft: &RawRaft, leading: &mut Option<(u64, Moment)>) -> Option<Duration> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let mut voters = metrics.membership_config.membership().voter_ids();
    let alone = voters.next() == Some(metrics.id) && voters.next().is_none();
    if !metrics.state.is_leader() || alone {
        *leading = None;
        return None;
    }
    let (term, since) = *leading.get_or_insert_with(|| (metrics.current_term, Moment::now()));
    if term != metrics.current_term {
        *leading = Some((metrics.current_term, Moment::now()));
        return None;
    }
    let led_for = since.elapsed();
    let acked = metrics.last_quorum_acked.as_ref().map(|at| clock::ago(at.into_inner()));
    Some(acked.map_or(led_for, |acked| acked.min(led_for)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_1_to_3_patience_silence_and_a_word_from_time_to_time() {
        let rhythm = Rhythm::new(30, 150);
        let at = |ms| rhythm.is_silent(Duration::from_millis(ms));
        // An fsync that stalls for twice the longest election timeout is borne.
        assert!(!at(0) && !at(300) && !at(449));
        // Longer than a follower's lease (150 ms) and its longest timeout (150 ms) together.
        assert!(at(450) && at(600) && at(1_049));
        assert!(!at(1_050) && !at(1_349), "it speaks for a while");
        assert!(at(1_350) && at(1_949) && !at(1_950));
    }
}
