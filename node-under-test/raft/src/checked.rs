//! Checks of other members' messages, before the library hears them.
//!
//! The library trusts its peers: it asserts what an honest one can only say, compares positions by
//! their term first, and adds one to terms and indexes. Here every message and every answer is held
//! against what it is sure of, and refused in words; a member that lies can be wrong in ways that
//! no receiver sees, but it cannot end another member.
//!
//! 1. *Bounded.* A term lies at most [`TERM_AHEAD_MAX`] above this member's own, an index below
//!    [`INDEX_MAX`]; a message has at most [`ENTRIES_MAX`] entries, a membership at most
//!    [`MEMBERS_MAX`] members.
//! 2. *In its own name.* A candidate asks for itself, a leader speaks for itself, in a term that
//!    has begun.
//! 3. *Consistent with itself.* Entries follow each other and what they are appended to, without a
//!    hole; terms never fall, and none is above the leader's.
//! 4. *Consistent with what is committed here.* Of two positions of one history, the one with the
//!    greater index never has the smaller term. What is committed is of the history of every leader
//!    of this term or a later one; an earlier leader is told so by the library, which looks at no
//!    more than its vote.
//! 5. *A membership is one that this program makes*: a single configuration, not empty, of members
//!    that it describes.
//! 6. *An answer fits its question.* It confirms nothing that was not sent, and grants no vote but
//!    the one that was asked for; a higher vote is a reason to step down, never one to lead.

use crate::types::{
    RawEntry, RawLogId, RawMembership, RawPayload, RawSnapshotMeta, RawVote, TypeConfig, log_id, vote_parts,
};
use node_base::LogId;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use std::net::SocketAddr;

/// Elections between two messages that a member hears: many more than it could miss in its life.
pub const TERM_AHEAD_MAX: u64 = 1 << 32;
/// Room for what is added to an index.
pub const INDEX_MAX: u64 = 1 << 62;
/// Entries of one message.
pub const ENTRIES_MAX: usize = 1024;
/// Members and learners together: a cluster has a handful.
pub const MEMBERS_MAX: usize = 64;
/// Bytes of a name or an address in a membership.
const TEXT_BYTES_MAX: usize = 1024;

/// The facts that this member is sure of.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub own_id: u64,
    /// Its own term.
    pub term: u64,
    pub committed: Option<LogId>,
}

/// A sentence that begins with what was expected.
pub type Checked = Result<(), String>;

impl Known {
    pub fn vote_request(&self, from: u64, request: &VoteRequest<TypeConfig>) -> Checked {
        let term = self.candidate(from, &request.vote)?;
        // Its uncommitted entries may contradict what is committed here; then they are simply lost.
        bounded("the candidate's log end", request.last_log_id.as_ref(), term).map(drop)
    }

    pub fn append_request(&self, from: u64, request: &AppendEntriesRequest<TypeConfig>) -> Checked {
        let term = self.leader(from, &request.vote)?;
        self.position("the position before the entries", request.prev_log_id.as_ref(), term)?;
        self.position("the leader's commit position", request.leader_commit.as_ref(), term)?;
        let found = request.entries.len();
        expect(found <= ENTRIES_MAX, || format!("at most {ENTRIES_MAX} entries, found {found}"))?;
        let mut before = request.prev_log_id.as_ref().map(log_id);
        for entry in &request.entries {
            self.entry(entry, before, term)?;
            before = Some(log_id(&entry.log_id));
        }
        Ok(())
    }

    pub fn transfer_request(&self, from: u64, request: &TransferLeaderRequest<TypeConfig>) -> Checked {
        let term = self.leader(from, request.from_leader())?;
        self.position("the leader's log end", request.last_log_id(), term)
    }

    /// `meta` is what a leader announces.
    pub fn snapshot(&self, from: u64, vote: &RawVote, meta: &RawSnapshotMeta) -> Checked {
        let term = self.leader(from, vote)?;
        let at = meta.last_log_id.as_ref();
        expect(at.is_some(), || "a snapshot of something, found one of nothing".to_owned())?;
        self.position("the snapshot's position", at, term)?;
        let named = meta.last_membership.log_id().as_ref();
        expect(named <= at, || "a membership from before the snapshot's end, found a later one".to_owned())?;
        membership(&meta.last_membership)
    }

    pub fn vote_answer(&self, asked: &VoteRequest<TypeConfig>, answer: &VoteResponse<TypeConfig>) -> Checked {
        self.term(vote_parts(&answer.vote).0)?;
        // A preliminary vote is granted without being adopted, so only the real one is compared;
        // but neither is granted by a member that has seen a later term.
        let granted = !answer.vote_granted || vote_parts(&answer.vote).0 <= vote_parts(&asked.vote).0;
        expect(granted, || format!("a vote for {}, found one that is granted and {}", asked.vote, answer.vote))?;
        expect(answer.last_log_id.as_ref().is_none_or(|at| log_id(at).index < INDEX_MAX), || {
            format!("a log that ends below index {INDEX_MAX}, found {:?}", answer.last_log_id)
        })
    }

    pub fn append_answer(
        &self,
        asked: &AppendEntriesRequest<TypeConfig>,
        answer: &AppendEntriesResponse<TypeConfig>,
    ) -> Checked {
        match answer {
            AppendEntriesResponse::Success => Ok(()),
            AppendEntriesResponse::PartialSuccess(at) => {
                let sent = asked.entries.iter().map(|entry| &entry.log_id).chain(&asked.prev_log_id);
                let was_sent = sent.into_iter().any(|sent| Some(sent) == at.as_ref());
                let nothing = at.is_none() && asked.prev_log_id.is_none();
                expect(was_sent || nothing, || format!("a position that was sent to be confirmed, found {at:?}"))
            }
            AppendEntriesResponse::Conflict => {
                expect(asked.prev_log_id.is_some(), || "no conflict before the first entry, found one".to_owned())
            }
            AppendEntriesResponse::HigherVote(vote) => self.higher(&asked.vote, vote),
        }
    }

    /// `asked`: the vote by which this member leads.
    pub fn snapshot_answer(&self, asked: &RawVote, answer: &SnapshotResponse<TypeConfig>) -> Checked {
        self.higher(asked, &answer.vote)
    }

    /// A vote that the one who answers follows.
    fn higher(&self, asked: &RawVote, vote: &RawVote) -> Checked {
        let (term, node_id) = vote_parts(vote);
        self.term(term)?;
        // The one that this member leads by comes back in answers; another one of its own would
        // make it the leader of a term that it was never elected in.
        let own = node_id == self.own_id && vote.committed && vote != asked;
        expect(!own, || format!("a vote that this member may follow, found one of its own: {vote}"))
    }

    /// The candidate's term.
    fn candidate(&self, from: u64, vote: &RawVote) -> Result<u64, String> {
        let (term, node_id) = vote_parts(vote);
        expect(node_id == from, || format!("a vote for member {from}, who asks, found one for {node_id}"))?;
        expect(!vote.committed, || format!("a vote to be granted, found one that is: {vote}"))?;
        expect(term > 0, || "a candidate of term 1 or later, found one of term 0".to_owned())?;
        self.term(term)?;
        Ok(term)
    }

    /// The leader's term.
    fn leader(&self, from: u64, vote: &RawVote) -> Result<u64, String> {
        let (term, node_id) = vote_parts(vote);
        expect(node_id == from, || format!("a message of the leader itself, found one of {from} for {node_id}"))?;
        expect(vote.committed, || format!("a leader that was elected, found {vote}"))?;
        expect(term > 0, || "a leader of term 1 or later, found one of term 0".to_owned())?;
        self.term(term)?;
        Ok(term)
    }

    fn term(&self, term: u64) -> Checked {
        let most = self.term.saturating_add(TERM_AHEAD_MAX).min(u64::MAX - TERM_AHEAD_MAX);
        expect(term <= most, || format!("a term of {most} at most, found {term}"))
    }

    /// Claims 3 and 4 for one position that a leader of `term` names.
    fn position(&self, what: &str, at: Option<&RawLogId>, term: u64) -> Checked {
        let Some(at) = bounded(what, at, term)? else { return Ok(()) };
        let agrees = term < self.term || self.committed.is_none_or(|committed| agree(committed, at));
        expect(agrees, || format!("{what} to agree with {:?}, which is committed here, found {at}", self.committed))
    }

    fn entry(&self, entry: &RawEntry, before: Option<LogId>, term: u64) -> Checked {
        self.position("an entry", Some(&entry.log_id), term)?;
        let (at, next) = (log_id(&entry.log_id), before.map_or(0, |before| before.index + 1));
        expect(at.index == next, || format!("an entry at index {next}, found {at}"))?;
        expect(before.is_none_or(|before| before.term <= at.term), || {
            format!("an entry of no earlier term than the one before it, {before:?}, found {at}")
        })?;
        match &entry.payload {
            RawPayload::Membership(members) => membership(&RawMembership::new(Some(entry.log_id), members.clone())),
            RawPayload::Blank | RawPayload::Normal(_) => Ok(()),
        }
    }
}

/// Claims 1 and 3 for one position that a member names in `term`.
fn bounded(what: &str, at: Option<&RawLogId>, term: u64) -> Result<Option<LogId>, String> {
    let Some(at) = at.map(log_id) else { return Ok(None) };
    expect(at.index < INDEX_MAX, || format!("{what} below index {INDEX_MAX}, found {at}"))?;
    expect(at.term <= term, || format!("{what} in no later term than {term}, found {at}"))?;
    Ok(Some(at))
}

/// True if both may be of one history.
fn agree(one: LogId, other: LogId) -> bool {
    let (earlier, later) = if one.index <= other.index { (one, other) } else { (other, one) };
    if earlier.index == later.index { earlier.term == later.term } else { earlier.term <= later.term }
}

/// Claim 5.
fn membership(stored: &RawMembership) -> Checked {
    let membership = stored.membership();
    let [voters] = membership.get_joint_config().as_slice() else {
        let found = membership.get_joint_config().len();
        return Err(format!("expected a membership of one configuration, found {found}"));
    };
    let nodes = membership.nodes().count();
    expect(!voters.is_empty() && nodes <= MEMBERS_MAX, || {
        format!("1 to {MEMBERS_MAX} members, found {nodes}, {} of them voters", voters.len())
    })?;
    let stranger = voters.iter().find(|voter| membership.get_node(voter).is_none());
    expect(stranger.is_none(), || format!("voters that are members, found {stranger:?}, which is not"))?;
    for (id, node) in membership.nodes() {
        let long = [&node.name, &node.peer_addr, &node.client_addr].into_iter().any(|text| text.len() > TEXT_BYTES_MAX);
        expect(*id != 0 && !long, || format!("an id above 0 and texts of {TEXT_BYTES_MAX} bytes, found member {id}"))?;
        let address = node.peer_addr.parse::<SocketAddr>();
        expect(address.is_ok(), || format!("a peer address HOST:PORT of member {id}, found {:?}", node.peer_addr))?;
    }
    Ok(())
}

fn expect(so: bool, sentence: impl FnOnce() -> String) -> Checked {
    if so { Ok(()) } else { Err(format!("expected {}", sentence())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Blob, MemberNode, raw_log_id};
    use openraft::{Membership, Vote};
    use std::collections::{BTreeMap, BTreeSet};

    const KNOWN: Known = Known { own_id: 1, term: 5, committed: Some(LogId { term: 3, index: 10 }) };

    fn at(term: u64, index: u64) -> RawLogId {
        raw_log_id(LogId::new(term, index))
    }

    fn entry(term: u64, index: u64) -> RawEntry {
        RawEntry { log_id: at(term, index), payload: RawPayload::Normal(Blob::default()) }
    }

    fn append(prev: Option<RawLogId>, entries: Vec<RawEntry>) -> AppendEntriesRequest<TypeConfig> {
        AppendEntriesRequest {
            vote: Vote::new_committed(5, 2),
            prev_log_id: prev,
            entries,
            leader_commit: Some(at(3, 10)),
        }
    }

    /// Reason why an honest message is refused after `alter` has made a lie of it.
    fn refused(alter: impl Fn(&mut AppendEntriesRequest<TypeConfig>)) -> String {
        let mut message = append(Some(at(3, 11)), vec![entry(4, 12), entry(5, 13)]);
        assert_eq!(KNOWN.append_request(2, &message), Ok(()));
        alter(&mut message);
        KNOWN.append_request(2, &message).expect_err("a lie")
    }

    #[test]
    fn claim_1_terms_indexes_and_entries_are_bounded() {
        assert!(refused(|lie| lie.vote = Vote::new_committed(u64::MAX, 2)).contains("expected a term of"));
        assert!(refused(|lie| lie.vote = Vote::new_committed(6 + TERM_AHEAD_MAX, 2)).contains("expected a term of"));
        assert!(refused(|lie| lie.prev_log_id = Some(at(3, u64::MAX))).contains("below index"));
        assert!(refused(|lie| lie.leader_commit = Some(at(3, INDEX_MAX))).contains("below index"));
        let many = |lie: &mut AppendEntriesRequest<TypeConfig>| {
            lie.entries = (12..13 + ENTRIES_MAX as u64).map(|index| entry(4, index)).collect();
        };
        assert!(refused(many).contains("at most 1024 entries, found 1025"));
        let candidate = |term| VoteRequest::new(Vote::new(term, 2), None);
        assert_eq!(KNOWN.vote_request(2, &candidate(5 + TERM_AHEAD_MAX)), Ok(()));
        assert!(KNOWN.vote_request(2, &candidate(u64::MAX)).is_err());
        // However often a member is led on, there is room for its own next term.
        let late = Known { term: u64::MAX - TERM_AHEAD_MAX, ..KNOWN };
        assert!(late.vote_request(2, &candidate(u64::MAX - TERM_AHEAD_MAX + 1)).is_err());
    }

    #[test]
    fn claim_2_members_speak_for_themselves_in_a_term_that_has_begun() {
        assert!(refused(|lie| lie.vote = Vote::new_committed(5, 3)).contains("of the leader itself"));
        assert!(refused(|lie| lie.vote = Vote::new_committed(5, 1)).contains("of the leader itself"));
        assert!(refused(|lie| lie.vote = Vote::new(5, 2)).contains("a leader that was elected"));
        assert!(refused(|lie| lie.vote = Vote::new_committed(0, 2)).contains("term 1 or later"));
        let ask = |vote: RawVote| KNOWN.vote_request(2, &VoteRequest::new(vote, None));
        assert_eq!(ask(Vote::new(6, 2)), Ok(()));
        assert!(
            ask(Vote::new(6, 1)).is_err() && ask(Vote::new_committed(6, 2)).is_err() && ask(Vote::new(0, 2)).is_err()
        );
        let hand_over = |vote| KNOWN.transfer_request(2, &TransferLeaderRequest::new(vote, 1, None));
        assert_eq!(hand_over(Vote::new_committed(5, 2)), Ok(()));
        assert!(hand_over(Vote::new_committed(5, 3)).is_err());
    }

    #[test]
    fn claim_3_entries_follow_each_other() {
        assert!(refused(|lie| lie.prev_log_id = None).contains("an entry at index 0"));
        assert!(refused(|lie| lie.entries[1] = entry(5, 14)).contains("an entry at index 13"));
        assert!(refused(|lie| lie.entries[1] = entry(3, 13)).contains("no earlier term"));
        assert!(refused(|lie| lie.entries[1] = entry(6, 13)).contains("in no later term than 5"));
        assert!(refused(|lie| lie.prev_log_id = Some(at(6, 11))).contains("in no later term than 5"));
        assert!(refused(|lie| lie.leader_commit = Some(at(6, 11))).contains("in no later term than 5"));
    }

    #[test]
    fn claim_4_what_is_committed_is_not_contradicted() {
        assert!(refused(|lie| lie.leader_commit = Some(at(5, 0))).contains("committed here"));
        assert!(refused(|lie| *lie = append(Some(at(4, 9)), vec![])).contains("committed here"));
        assert!(refused(|lie| *lie = append(Some(at(3, 9)), vec![entry(4, 10)])).contains("committed here"));
        assert!(refused(|lie| *lie = append(Some(at(2, 11)), vec![])).contains("committed here"));
        // From behind what is committed, and an overlap with it, as when an answer was lost.
        assert_eq!(KNOWN.append_request(2, &append(Some(at(2, 8)), vec![entry(3, 9), entry(3, 10)])), Ok(()));
        // An earlier leader may hold uncommitted entries; it learns from the library that it is
        // deposed.
        let mut old = append(Some(at(2, 30)), vec![]);
        old.vote = Vote::new_committed(4, 2);
        assert_eq!(KNOWN.append_request(2, &old), Ok(()));
        assert_eq!(KNOWN.vote_request(2, &VoteRequest::new(Vote::new(6, 2), Some(at(2, 30)))), Ok(()), "it only loses");
    }

    fn members(voters: &[u64], nodes: &[u64]) -> RawMembership {
        let node = |id: &u64| (*id, MemberNode { peer_addr: "127.0.0.1:1".to_owned(), ..MemberNode::default() });
        let nodes: BTreeMap<_, _> = nodes.iter().map(node).collect();
        // Not all of these can be made: what is on the wire is what `Membership` serializes as.
        let bytes = postcard::to_stdvec(&(vec![BTreeSet::from_iter(voters.iter().copied())], nodes)).unwrap();
        RawMembership::new(Some(at(3, 10)), postcard::from_bytes(&bytes).unwrap())
    }

    #[test]
    fn claim_5_a_membership_is_one_that_this_program_makes() {
        assert_eq!(membership(&members(&[1, 2], &[1, 2, 3])), Ok(()));
        assert!(membership(&members(&[], &[1])).unwrap_err().contains("0 of them voters"));
        assert!(membership(&members(&[1, 2], &[1])).unwrap_err().contains("voters that are members"));
        assert!(membership(&members(&[0], &[0])).is_err());
        assert!(membership(&RawMembership::default()).unwrap_err().contains("one configuration, found 0"));
        let many: Vec<_> = (1..=65).collect();
        assert!(membership(&members(&[1], &many)).unwrap_err().contains("1 to 64 members, found 65"));
        let node = |peer_addr: &str, name: &str| MemberNode {
            peer_addr: peer_addr.to_owned(),
            name: name.to_owned(),
            client_addr: String::new(),
        };
        for node in [node("nowhere", ""), node("", ""), node("127.0.0.1:1", &"x".repeat(1025))] {
            let odd = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, node)])).unwrap();
            assert!(membership(&RawMembership::new(None, odd)).is_err());
        }
        let inside =
            RawEntry { log_id: at(4, 12), payload: RawPayload::Membership(members(&[], &[1]).membership().clone()) };
        assert!(refused(|lie| lie.entries[0] = inside.clone()).contains("voters"));
    }

    #[test]
    fn claims_1_to_5_hold_for_snapshots() {
        let meta = |at, members| RawSnapshotMeta { last_log_id: at, last_membership: members };
        let check = |at, members| KNOWN.snapshot(2, &Vote::new_committed(5, 2), &meta(at, members));
        let three = || members(&[1, 2], &[1, 2, 3]);
        assert_eq!(check(Some(at(5, 20)), three()), Ok(()));
        assert_eq!(check(Some(at(3, 10)), three()), Ok(()), "it is not needed, that is all");
        assert!(check(None, three()).is_err());
        assert!(check(Some(at(5, 0)), three()).unwrap_err().contains("committed here"));
        assert!(check(Some(at(u64::MAX, 0)), three()).unwrap_err().contains("in no later term"));
        assert!(check(Some(at(5, u64::MAX)), three()).unwrap_err().contains("below index"));
        assert!(check(Some(at(2, 9)), three()).unwrap_err().contains("found a later one"));
        assert!(check(Some(at(5, 20)), RawMembership::default()).is_err());
        assert!(KNOWN.snapshot(3, &Vote::new_committed(5, 2), &meta(Some(at(5, 20)), three())).is_err());
    }

    #[test]
    fn claim_6_an_answer_fits_its_question() {
        let leading: RawVote = Vote::new_committed(5, 1);
        let mut asked = append(Some(at(3, 11)), vec![entry(4, 12)]);
        asked.vote = leading;
        let check = |answer| KNOWN.append_answer(&asked, &answer);
        assert_eq!(check(AppendEntriesResponse::Success), Ok(()));
        assert_eq!(check(AppendEntriesResponse::PartialSuccess(Some(at(4, 12)))), Ok(()));
        assert_eq!(check(AppendEntriesResponse::Conflict), Ok(()));
        assert_eq!(check(AppendEntriesResponse::HigherVote(Vote::new(7, 3))), Ok(()));
        assert!(check(AppendEntriesResponse::PartialSuccess(Some(at(4, 13)))).is_err());
        assert!(check(AppendEntriesResponse::PartialSuccess(None)).is_err());
        assert!(check(AppendEntriesResponse::HigherVote(Vote::new(u64::MAX, 3))).is_err());
        assert!(
            check(AppendEntriesResponse::HigherVote(Vote::new_committed(7, 1))).unwrap_err().contains("may follow")
        );
        asked.prev_log_id = None;
        assert!(KNOWN.append_answer(&asked, &AppendEntriesResponse::Conflict).is_err());
        assert_eq!(KNOWN.append_answer(&asked, &AppendEntriesResponse::PartialSuccess(None)), Ok(()));
        let snapshot = |vote| KNOWN.snapshot_answer(&leading, &SnapshotResponse::new(vote));
        assert_eq!((snapshot(leading), snapshot(Vote::new(9, 1))), (Ok(()), Ok(())));
        assert!(snapshot(Vote::new_committed(9, 1)).is_err());
        let request = VoteRequest::new(Vote::new(6, 1), None);
        let vote = |vote: RawVote, granted| KNOWN.vote_answer(&request, &VoteResponse::new(vote, None, granted));
        assert_eq!((vote(Vote::new(6, 1), true), vote(Vote::new_committed(5, 2), true)), (Ok(()), Ok(())));
        assert_eq!(vote(Vote::new(8, 2), false), Ok(()));
        assert!(vote(Vote::new(8, 2), true).is_err() && vote(Vote::new(u64::MAX, 2), false).is_err());
    }
}
