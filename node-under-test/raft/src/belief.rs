//! Whom a member still believes to lead.
//!
//! The library keeps a leader's name until it hears of another one, so a member that is cut off
//! would name its old leader for ever, and a leader without a quorum would name itself. What a
//! client is told has to time out: a follower believes in a leader whose messages arrive, a leader
//! in itself while a quorum answers it.

use crate::clock::{Moment, pause};
use crate::identity::Identity;
use crate::state_machine::RawRaft;
use crate::types::TypeConfig;
use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver;
use std::time::Duration;
use tokio::sync::watch;

/// Shortest silence after which a leader is forgotten: etcd's default election timeout. A busy
/// machine keeps members from hearing each other for longer than a short election timeout, and the
/// cluster goes on all the same.
const SILENCE_MIN: Duration = Duration::from_secs(1);
/// Looks in one such silence.
const LOOKS: u32 = 8;

/// Time without a sign of life after which the leader is forgotten.
pub fn silence(election_ms_max: u64) -> Duration {
    SILENCE_MIN.max(Duration::from_millis(election_ms_max.saturating_mul(2)))
}

/// The findings of one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    leader: Option<u64>,
    term: u64,
    /// A follower: the leader's messages so far.
    messages: u64,
    /// A leader: the newest moment that a quorum has confirmed.
    acknowledged: Option<Moment>,
}

/// The last sign of life of any leader.
#[derive(Debug)]
struct Belief {
    look: Look,
    sign: Moment,
}

impl Belief {
    /// The leader to believe in after another look at `now`.
    fn next(&mut self, look: Look, now: Moment, silence: Duration) -> Option<u64> {
        let elected = (look.leader, look.term) != (self.look.leader, self.look.term);
        if elected || look.messages != self.look.messages {
            self.sign = now;
        }
        if let Some(acknowledged) = look.acknowledged {
            self.sign = self.sign.max(acknowledged);
        }
        self.look = look;
        look.leader.filter(|_| now.saturating_duration_since(self.sign) < silence)
    }
}

fn look(metrics: &RaftMetrics<TypeConfig>, identity: &Identity) -> Look {
    let leads = metrics.state.is_leader();
    let alone = || metrics.membership_config.membership().voter_ids().count() == 1;
    let acknowledged = match metrics.last_quorum_acked {
        _ if leads && alone() => Some(Moment::now()),
        Some(acknowledged) if leads => Some(Moment::of(acknowledged.into_inner())),
        _ => None,
    };
    Look {
        leader: metrics.current_leader,
        term: metrics.current_term,
        messages: identity.leader_messages(),
        acknowledged,
    }
}

/// Follows the library's metrics until `stopped`.
pub fn watch_belief(
    raft: &RawRaft,
    identity: Identity,
    silence: Duration,
    mut stopped: watch::Receiver<bool>,
) -> watch::Receiver<Option<u64>> {
    let mut metrics = raft.metrics();
    let first = look(&metrics.borrow_watched(), &identity);
    let mut belief = Belief { look: first, sign: Moment::now() };
    let (believed, receiver) = watch::channel(first.leader);
    tokio::spawn(async move {
        loop {
            let seen = look(&metrics.borrow_watched(), &identity);
            let leader = belief.next(seen, Moment::now(), silence);
            believed.send_if_modified(|old| std::mem::replace(old, leader) != leader);
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { return },
                () = pause(silence / LOOKS) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(1);

    fn look(leader: Option<u64>, messages: u64, acknowledged: Option<Moment>) -> Look {
        Look { leader, term: 1, messages, acknowledged }
    }

    #[test]
    fn a_follower_forgets_a_leader_that_is_silent() {
        let start = Moment::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut belief = Belief { look: look(Some(2), 5, None), sign: start };
        assert_eq!(belief.next(look(Some(2), 6, None), at(900), SILENCE), Some(2));
        assert_eq!(belief.next(look(Some(2), 6, None), at(1_800), SILENCE), Some(2), "it spoke at 900");
        assert_eq!(belief.next(look(Some(2), 6, None), at(1_900), SILENCE), None);
        assert_eq!(belief.next(look(Some(2), 7, None), at(5_000), SILENCE), Some(2), "it speaks again");
        assert_eq!(belief.next(look(None, 7, None), at(5_001), SILENCE), None, "an election");
    }

    #[test]
    fn a_leader_forgets_itself_without_a_quorum() {
        let start = Moment::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut belief = Belief { look: look(None, 0, None), sign: start };
        assert_eq!(belief.next(look(Some(1), 0, None), at(500), SILENCE), Some(1), "just elected");
        assert_eq!(belief.next(look(Some(1), 0, Some(at(1_000))), at(1_700), SILENCE), Some(1));
        assert_eq!(belief.next(look(Some(1), 0, Some(at(1_000))), at(2_000), SILENCE), None);
        assert_eq!(belief.next(look(Some(1), 0, Some(at(2_900))), at(3_000), SILENCE), Some(1));
    }
}
