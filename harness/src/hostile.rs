//! Hostile peers: programs that speak to the members' peer ports all through the load, and say what
//! no member says. Bytes that are no HTTP/2, calls of methods that do not exist, and the peer
//! service's own calls in the name of members of other clusters, of lives and ids that do not
//! exist, or with contents that no honest member sends ([`act`]).
//!
//! They know the cluster's id, because every answer to a client names it. They claim no id that a
//! member has or could get: a program that is the first to claim a member's id is believed, as the
//! node's documentation says.
//!
//! Most of what they break shows elsewhere: members die, terms rise, the load stands still, a key
//! appears that no operation writes. One thing they judge themselves: a member answers a call that
//! it must not let in.

mod act;
mod call;
mod library;

use crate::dial::channel;
use crate::endpoints::Board;
use crate::scenario::HostileSpec;
use crate::seed::{Seed, Stream};
use crate::subject::Addresses;
use crate::timer;
use act::{Act, Target};
use call::Heard;
use ninelives_evidence::Evidence;
use ninelives_evidence::limits;
use ninelives_evidence::record::hostile::HostileRecord;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Members;
use ninelives_oracle::Ledger;
use node_proto::etcdserverpb::StatusRequest;
use node_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::Status;

/// Between two acts of one peer at one member: enough for the members to do their work beside it.
const PAUSE: Duration = Duration::from_millis(25);

/// Hostile peers at the members of one cluster; they are gone when this is dropped.
#[derive(Debug)]
pub struct Hostile {
    /// By member.
    counts: Vec<Arc<Mutex<HostileRecord>>>,
    _tasks: JoinSet<()>,
}

impl Hostile {
    /// Sets `spec` on each member; `members` are their addresses, in the order of `board`. `name`
    /// tells this life of the harness and this cluster from others that draw from `seed`.
    pub fn start(
        spec: HostileSpec,
        members: &[Addresses],
        (board, ledger): (&Board, &Arc<Ledger>),
        (seed, name): (&Seed, &str),
    ) -> Self {
        let counts: Vec<_> = members.iter().map(|_| Arc::<Mutex<HostileRecord>>::default()).collect();
        let mut tasks = JoinSet::new();
        for (place, (at, counts)) in members.iter().zip(&counts).enumerate() {
            for number in 0..u64::from(spec.peers) {
                let peer = Peer {
                    at: *at,
                    // The members have the ids below.
                    guest: members.len() as u64 + 1 + number,
                    draws: seed.stream(&format!("hostile/{name}/{number}/{place}")),
                    ledger: Arc::clone(ledger),
                    counts: Arc::clone(counts),
                };
                tasks.spawn(peer.live((board.clone(), place)));
            }
        }
        Self { counts, _tasks: tasks }
    }

    /// The record up to now.
    pub fn record(&self) -> HostileRecord {
        let mut sum = HostileRecord::default();
        for counts in &self.counts {
            let of_one = counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
            sum.add(&HostileRecord { members: 1, heard: u64::from(of_one.is_heard()), ..of_one });
        }
        sum
    }
}

/// One hostile peer at one member.
struct Peer {
    at: Addresses,
    /// The id under which it is let in.
    guest: u64,
    draws: Stream,
    ledger: Arc<Ledger>,
    counts: Arc<Mutex<HostileRecord>>,
}

impl Peer {
    async fn live(mut self, (board, place): (Board, usize)) {
        loop {
            board.wait_serves(place).await;
            tokio::select! {
                // A member that dies breaks it off; other judges look at that.
                _ = self.speak() => timer::sleep(PAUSE).await,
                () = board.wait_gone(place) => {}
            }
        }
    }

    /// Speaks to one life of the member until that cannot be reached any more.
    async fn speak(&mut self) -> Result<(), Status> {
        let target = learn(self.at.client, self.guest).await?;
        let channel = channel(self.at.peer)?;
        loop {
            let act = Act::draw(&mut self.draws, &target);
            let heard = call::carry_out(&act, self.at.peer, &channel).await;
            self.take(&act, heard, target.member);
            timer::sleep(PAUSE).await;
        }
    }

    fn take(&self, act: &Act, heard: Heard, member: u64) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).note(heard.into());
        if let (Heard::Answer, Act::Call { whom, path, .. }) = (heard, act)
            && !whom.may_be_let_in()
        {
            let what = Members::HostilePeerAnswered { member, call: path.clone(), whom: *whom };
            self.ledger.record(&Evidence::Told { finding: Finding::new(what).at_member(member) });
        }
    }
}

/// What a hostile peer can know of the member whose clients are served at `client`.
async fn learn(client: SocketAddr, guest: u64) -> Result<Target, Status> {
    let mut client = MaintenanceClient::new(channel(client)?);
    let said = timer::within(limits::CONTROL_REQUEST, client.status(StatusRequest {})).await;
    let said = said.ok_or_else(|| Status::deadline_exceeded("no status"))??.into_inner();
    let header = said.header.ok_or_else(|| Status::data_loss("a status without a header"))?;
    Ok(Target { member: header.member_id, cluster: header.cluster_id, term: header.raft_term, guest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::member::Slot;
    use tokio::net::TcpListener;

    /// Without a member that serves no peer says a word; with one, each of them asks it for its
    /// name first.
    #[tokio::test]
    async fn they_come_to_a_member_that_serves_and_count_what_they_hear() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (board, ledger) = (Board::new(1), Ledger::new(&[Slot(1)]));
        let addresses = Addresses { peer: at, client: at, control: at };
        let seed = Seed::new(1);
        let hostile = Hostile::start(HostileSpec { peers: 2 }, &[addresses], (&board, &ledger), (&seed, "1/0"));
        assert_eq!((hostile.record().members, hostile.record().calls()), (1, 0));
        board.set(0, true);
        for _ in 0..2 {
            drop(listener.accept().await.unwrap());
        }
        assert_eq!(hostile.record().heard, 0, "a broken connection is no answer");
    }
}
