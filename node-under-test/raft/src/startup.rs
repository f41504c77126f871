//! Making the log agree with the engine before raft starts.
//!
//! N is the persisted last-flushed index, E the engine's consistent index.
//!
//! 1. *Normally the log holds LogId(N)*, as an entry or as the last purged position, because N is persisted only when
//!    the log is durable through it. Then there is nothing to do.
//! 2. *An interrupted snapshot install leaves E = N without it*: the exchange and N are durable, the purge is not. The
//!    log ends before N, or holds another entry there. The purge is finished: everything up to N goes, and where the
//!    log contradicts the engine at N, everything after N goes too. N was committed, so what follows a contradicting
//!    entry never was, and nobody was told that it is.
//! 3. *Anything else is refused*: a log that was purged beyond where replay starts has lost entries that the engine may
//!    lack; a log that does not know N while the engine is past it was not left by any crash of ours, and neither
//!    was one without a vote, because a snapshot is taken only from a leader whose vote was saved first.
//! 4. *Doing it again is harmless*: after a crash in the middle the same conditions hold, or claim 1 does.

use crate::log_store::{LogError, LogStore, VoteFacts};
use node_base::LogId;
use node_base::failpoint::{Window, pass};
use node_base::watermarks::Watermarks;
use std::io;

/// Why raft does not start on this member.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Blob, RawEntry, RawPayload, TypeConfig, raw_log_id};
    use openraft::storage::{RaftLogStorage, RaftLogStorageExt};

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
}
