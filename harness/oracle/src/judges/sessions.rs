//! Promise: a member never answers from a state older than its own acknowledgements. A client that
//! wrote through a member, and reads there without a quorum, finds its write; and the revision in
//! the answer to a write does not lie in the future.
//!
//! It holds in one life of a member, between an acknowledgement and a read that was sent after it:
//! a member that was killed may serve such reads before it has replayed everything. A difference
//! between two members breaks no promise.

use super::Alarms;
use super::asked::{Asked, Newest};
use ninelives_evidence::operation::Action;
use ninelives_evidence::verdict::findings::Answers;
use std::collections::BTreeMap;
use std::sync::Arc;

/// etcd's answer to a read at a revision that it has not reached.
const FUTURE: &str = "required revision is a future revision";

/// Acknowledgements of one member in one of its lives.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    life: u64,
    newest: Newest,
}

/// Acknowledgements of each member in its present life.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    members: BTreeMap<u64, Own>,
}

impl Sessions {
    /// The acknowledgements of `member`, for a request that is about to be sent to it.
    pub fn of(&self, member: u64) -> Own {
        self.members.get(&member).cloned().unwrap_or_default()
    }

    /// The member that `asked` was sent to has answered at `revision`. An answer of a life that is
    /// over by now, and was on its way, says nothing about the next one.
    pub fn answered(&mut self, asked: &Arc<Asked>, own: &Own, revision: u64) {
        let now = self.members.entry(asked.member).or_default();
        if now.life == own.life {
            now.newest.answered(revision, asked);
        }
    }

    pub fn died(&mut self, member: u64) {
        let own = self.members.entry(member).or_default();
        *own = Own { life: own.life + 1, newest: Newest::default() };
    }

    pub fn all_died(&mut self) {
        let members: Vec<u64> = self.members.keys().copied().collect();
        members.into_iter().for_each(|member| self.died(member));
    }

    /// Judges an answer at `revision`; `own`: what the member had acknowledged before it was asked.
    pub fn check_answer(&self, asked: &Asked, own: &Own, revision: u64, alarms: &mut Alarms) {
        // Other reads promise more, and other judges hold them to that.
        let Action::Read { serializable: true, .. } = asked.action else { return };
        if revision < own.newest.revision && self.lives(asked.member, own) {
            let (member, request, floor) = (asked.member, asked.request(), own.newest.floor());
            alarms.push(asked.alarm(Answers::BehindItself { member, request, revision, floor }));
        }
    }

    /// Judges a refusal.
    pub fn check_refusal(&self, asked: &Asked, own: &Own, why: &str, alarms: &mut Alarms) {
        let Action::Read { revision: Some(at), .. } = asked.action else { return };
        if why.contains(FUTURE) && at <= own.newest.revision && self.lives(asked.member, own) {
            let (member, request, floor) = (asked.member, asked.request(), own.newest.floor());
            alarms.push(asked.alarm(Answers::OwnRevisionRefused { member, request, answer: why.to_owned(), floor }));
        }
    }

    /// Whether the life of `member` that acknowledged `own` goes on.
    fn lives(&self, member: u64, own: &Own) -> bool {
        self.of(member).life == own.life
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::operation::{Keys, OpId};
    use ninelives_evidence::verdict::Class;

    fn asked(member: u64, action: Action) -> Arc<Asked> {
        Arc::new(Asked { id: OpId { client: 1, seq: 1 }, member, action, purpose: None })
    }

    fn put(member: u64) -> Arc<Asked> {
        asked(member, Action::Put { key: "p/1".into(), value: "1.1".into(), lease: 0 })
    }

    fn read(member: u64, revision: Option<u64>) -> Arc<Asked> {
        asked(member, Action::Read { keys: Keys::one("p/1"), revision, serializable: true })
    }

    fn refusal(sessions: &Sessions, asked: &Asked, own: &Own) -> Alarms {
        let mut alarms = Alarms::new();
        let why = "OutOfRange: etcdserver: mvcc: required revision is a future revision";
        sessions.check_refusal(asked, own, why, &mut alarms);
        alarms
    }

    #[test]
    fn what_a_member_acknowledged_is_not_its_future() {
        let mut sessions = Sessions::default();
        sessions.answered(&put(2), &Own::default(), 57);
        let own = sessions.of(2);
        let alarms = refusal(&sessions, &read(2, Some(57)), &own);
        assert_eq!(alarms[0].class(), Class::Linearizability);
        assert!(
            alarms[0].sentence().contains("though n2 had answered operation 1.1 (put p/1) at revision 57"),
            "{alarms:?}"
        );
        assert_eq!(refusal(&sessions, &read(2, Some(58)), &own), [], "that one it has not acknowledged");
        assert_eq!(refusal(&sessions, &read(1, Some(57)), &sessions.of(1)), [], "another member may lag");
        let mut alarms = Alarms::new();
        let why = "OutOfRange: etcdserver: mvcc: required revision has been compacted";
        sessions.check_refusal(&read(2, Some(57)), &own, why, &mut alarms);
        assert_eq!(alarms, []);
        sessions.died(2);
        assert_eq!(refusal(&sessions, &read(2, Some(57)), &own), [], "it has yet to replay");
        sessions.answered(&put(2), &own, 58);
        assert_eq!(sessions.of(2).newest.revision, 1, "the answer of a life that is over");
    }

    #[test]
    fn a_local_read_is_not_older_than_what_its_member_acknowledged() {
        let mut sessions = Sessions::default();
        sessions.answered(&put(2), &Own::default(), 57);
        let own = sessions.of(2);
        let check = |sessions: &Sessions, asked: &Asked, revision| {
            let mut alarms = Alarms::new();
            sessions.check_answer(asked, &own, revision, &mut alarms);
            alarms.len()
        };
        assert_eq!((check(&sessions, &read(2, None), 56), check(&sessions, &read(2, None), 57)), (1, 0));
        sessions.all_died();
        assert_eq!(check(&sessions, &read(2, None), 56), 0);
    }
}
