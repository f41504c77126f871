//! Making the log agree with the engine, and founding a cluster, before raft starts.
//!
//! N is the persisted last-flushed index, E the engine's consistent index.
//!
//! 1. *Normally the log holds LogId(N)*, as an entry or as the last purged position, because N is
//!    persisted only when the log is durable through it. Then there is nothing to do.
//! 2. *An interrupted snapshot install leaves E = N without it*: the exchange and N are durable,
//!    the purge is not. The log ends before N, or holds another entry there. The purge is finished:
//!    everything up to N goes, and where the log contradicts the engine at N, everything after N
//!    goes too. N was committed, so what follows a contradicting entry never was, and no member was
//!    told that it is.
//! 3. *Anything else is refused*: a log that was purged beyond where replay starts has lost entries
//!    that the engine may lack; a log that does not know N while the engine is past it was not left
//!    by any crash of ours, and neither was one without a vote, because a snapshot is taken only
//!    from a leader whose vote was saved first.
//! 4. *Doing it again is harmless*: after a crash in the middle the same conditions hold, or claim
//!    1 does.
//! 5. *Every founder writes the same first entry at the same position*, before it starts raft: the
//!    founding membership, in term 0, in which no member ever leads. An empty log gets it at
//!    index 0. The log of a restored member begins behind its image: it holds nothing, was purged
//!    up to a position in term 0, and gets the entry right after that. So a newcomer finds no log
//!    that reaches back to its beginning and is sent the image. A founder is recognised by its log
//!    alone: no entry, no vote.

use crate::api::Member;
use crate::log_store::{LogError, LogFacts, LogStore, VoteFacts};
use crate::types::{RawEntry, RawPayload, TypeConfig, founding_nodes, raw_log_id};
use node_base::LogId;
use node_base::failpoint::{Window, pass};
use node_base::watermarks::Watermarks;
use openraft::Membership;
use openraft::storage::RaftLogStorageExt;
use std::io;

/// Reason why raft does not start on this member.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("member id {id}: expected one of the configured members {known:?}")]
    NotAMember { id: u64, known: Vec<u64> },
    #[error("raft options: {0}")]
    Options(String),
    #[error(
        "the raft log was purged up to {purged}, beyond {replay_after:?}, where replay starts: entries that the engine may \
         have lost are gone. Remove this member and add it under a new id"
    )]
    PurgedTooFar { purged: LogId, replay_after: Option<LogId> },
    #[error(
        "the raft log (last {last:?}) does not hold {flushed}, which is persisted as flushed; the engine is at \
         {engine:?}, the vote is {vote:?}: no crash of this program leaves that. Remove this member and add it under a new id"
    )]
    ForeignLog { flushed: LogId, last: Option<LogId>, engine: Option<LogId>, vote: Option<VoteFacts> },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("raft log: {0}")]
    Storage(#[from] io::Error),
    #[error("raft did not start: {0}")]
    Raft(String),
}

/// Claims 1 to 3; `replay_after` is LogId(N).
pub async fn repair(log: &LogStore, replay_after: Option<LogId>, marks: &Watermarks) -> Result<(), StartError> {
    let facts = log.facts();
    let Some(flushed) = replay_after else {
        return match facts.last_purged {
            None => Ok(()),
            Some(purged) => Err(StartError::PurgedTooFar { purged, replay_after }),
        };
    };
    if let Some(purged) = facts.last_purged.filter(|purged| purged.index > flushed.index) {
        return Err(StartError::PurgedTooFar { purged, replay_after });
    }
    let in_log = log.log_id(flushed.index)?;
    if in_log == Some(flushed) {
        return Ok(());
    }
    let engine = marks.now().applied;
    if engine != Some(flushed) || facts.vote.is_none() {
        return Err(StartError::ForeignLog { flushed, last: facts.last, engine, vote: facts.vote });
    }
    pass(Window::RecoveryLogRepair);
    tracing::warn!(%flushed, ?in_log, last = ?facts.last, "finishing the purge of an interrupted snapshot install");
    if in_log.is_some() {
        // Purging first would leave the contradicting suffix looking as if it followed N.
        let before = flushed.index.checked_sub(1).map(|index| log.log_id(index)).transpose()?.flatten();
        log.drop_after(before).await?;
    }
    Ok(log.purge_through(flushed).await?)
}

/// Claim 5: where the founding membership goes, if this log was never used.
fn founding_position(facts: &LogFacts) -> Option<LogId> {
    let unused = facts.first.is_none() && facts.vote.is_none_or(|vote| vote.term == 0);
    match facts.last.filter(|_| unused) {
        None => unused.then_some(LogId::new(0, 0)),
        Some(purged) => (purged.term == 0).then_some(LogId::new(0, purged.index + 1)),
    }
}

/// Claim 5. `members` is the founding list. Does nothing to a log that was used.
pub async fn found(log: &LogStore, members: &[Member]) -> Result<(), StartError> {
    let Some(at) = founding_position(&log.facts()) else { return Ok(()) };
    let voters = members.iter().map(|member| member.id).collect();
    let membership = Membership::new(vec![voters], founding_nodes(members));
    let membership = membership.map_err(|error| StartError::Options(error.to_string()))?;
    let entry = RawEntry { log_id: raw_log_id(at), payload: RawPayload::Membership(membership) };
    let appended = RaftLogStorageExt::<TypeConfig>::blocking_append(&mut log.clone(), [entry]).await;
    appended.map_err(io::Error::other)?;
    pass(Window::RecoveryFounded);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Blob;
    use openraft::storage::RaftLogStorage;

    async fn log_with(dir: &std::path::Path, term: u64, indexes: std::ops::RangeInclusive<u64>) -> LogStore {
        let mut log = LogStore::open(dir, 7).unwrap();
        let entry = |index| RawEntry {
            log_id: raw_log_id(LogId::new(term, index)),
            payload: RawPayload::Normal(Blob(vec![1].into())),
        };
        RaftLogStorage::<TypeConfig>::save_vote(&mut log, &openraft::Vote::new(term, 1)).await.unwrap();
        RaftLogStorageExt::<TypeConfig>::blocking_append(&mut log, indexes.map(entry)).await.unwrap();
        log
    }

    fn marks(n: LogId, e: LogId) -> Watermarks {
        Watermarks::at_start(Some(n), Some(e), None)
    }

    #[tokio::test]
    async fn claim_1_a_log_that_holds_n_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_with(dir.path(), 1, 0..=9).await;
        let before = log.facts();
        repair(&log, Some(LogId::new(1, 4)), &marks(LogId::new(1, 4), LogId::new(1, 7))).await.unwrap();
        assert_eq!(log.facts(), before);
        repair(&log, None, &Watermarks::at_start(None, None, None)).await.unwrap();
        assert_eq!(log.facts(), before);
    }

    #[tokio::test]
    async fn claim_2_a_log_that_ends_before_n_restarts_there() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_with(dir.path(), 1, 0..=9).await;
        let n = LogId::new(3, 40);
        repair(&log, Some(n), &marks(n, n)).await.unwrap();
        drop(log);
        let facts = LogStore::open(dir.path(), 7).unwrap().facts();
        assert_eq!((facts.first, facts.last, facts.last_purged, facts.durable), (None, Some(n), Some(n), Some(40)));
    }

    #[tokio::test]
    async fn claim_2_a_log_that_contradicts_n_loses_its_suffix() {
        for n in [LogId::new(3, 0), LogId::new(3, 5), LogId::new(3, 9)] {
            let dir = tempfile::tempdir().unwrap();
            let log = log_with(dir.path(), 1, 0..=9).await;
            repair(&log, Some(n), &marks(n, n)).await.unwrap();
            // Claim 4.
            repair(&log, Some(n), &marks(n, n)).await.unwrap();
            drop(log);
            let log = LogStore::open(dir.path(), 7).unwrap();
            assert_eq!((log.facts().last, log.facts().last_purged), (Some(n), Some(n)));
            assert_eq!(log.read_range(0, 99).unwrap(), []);
        }
    }

    #[tokio::test]
    async fn claim_3_what_no_crash_leaves_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_with(dir.path(), 1, 0..=9).await;
        let n = LogId::new(1, 40);
        let error = repair(&log, Some(n), &marks(n, LogId::new(1, 41))).await.unwrap_err();
        assert!(matches!(error, StartError::ForeignLog { .. }), "{error}");
        let wiped = tempfile::tempdir().unwrap();
        let error = repair(&LogStore::open(wiped.path(), 7).unwrap(), Some(n), &marks(n, n)).await.unwrap_err();
        assert!(error.to_string().contains("the vote is None"), "{error}");
        log.purge_through(LogId::new(1, 6)).await.unwrap();
        let error = repair(&log, Some(LogId::new(1, 5)), &marks(LogId::new(1, 5), LogId::new(1, 9))).await.unwrap_err();
        assert!(matches!(error, StartError::PurgedTooFar { .. }), "{error}");
        assert!(repair(&log, None, &Watermarks::at_start(None, None, None)).await.is_err());
    }

    fn founders() -> [Member; 3] {
        [1, 2, 3].map(|id| Member {
            id,
            name: format!("n{id}"),
            peer_addr: format!("127.0.0.1:{id}"),
            client_addr: format!("127.0.0.2:{id}"),
        })
    }

    fn first_and_last(log: &LogStore) -> (Option<u64>, Option<LogId>, Option<LogId>) {
        let facts = log.facts();
        (facts.first, facts.last, facts.last_purged)
    }

    #[tokio::test]
    async fn claim_5_an_empty_log_is_founded_at_index_0_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(dir.path(), 7).unwrap();
        found(&log, &founders()).await.unwrap();
        found(&log, &founders()[..1]).await.unwrap();
        assert_eq!(first_and_last(&log), (Some(0), Some(LogId::new(0, 0)), None));
    }

    #[tokio::test]
    async fn claim_5_the_log_of_a_restored_member_is_founded_behind_its_image() {
        let dir = tempfile::tempdir().unwrap();
        let image = LogId::new(0, 1);
        LogStore::create_at(dir.path(), 7, image).unwrap();
        let refused = LogStore::create_at(dir.path(), 8, image).unwrap_err();
        assert!(matches!(refused, LogError::Exists(_)), "{refused}");
        let log = LogStore::open(dir.path(), 9).unwrap();
        assert_eq!(log.incarnation(), 7);
        assert_eq!(first_and_last(&log), (None, Some(image), Some(image)));
        repair(&log, Some(image), &marks(image, image)).await.unwrap();
        found(&log, &founders()).await.unwrap();
        found(&log, &founders()).await.unwrap();
        drop(log);
        let log = LogStore::open(dir.path(), 9).unwrap();
        assert_eq!(first_and_last(&log), (Some(2), Some(LogId::new(0, 2)), Some(image)));
    }

    #[tokio::test]
    async fn claim_5_a_log_that_was_used_is_not_founded() {
        let dir = tempfile::tempdir().unwrap();
        let voted = LogStore::open(dir.path(), 7).unwrap();
        RaftLogStorage::<TypeConfig>::save_vote(&mut voted.clone(), &openraft::Vote::new(1, 2)).await.unwrap();
        found(&voted, &founders()).await.unwrap();
        assert_eq!(first_and_last(&voted), (None, None, None));
        let dir = tempfile::tempdir().unwrap();
        let used = log_with(dir.path(), 1, 0..=9).await;
        let n = LogId::new(1, 9);
        used.purge_through(n).await.unwrap();
        found(&used, &founders()).await.unwrap();
        assert_eq!(first_and_last(&used), (None, Some(n), Some(n)));
    }
}
