//! Planted bug `ack-before-quorum`: a proposer on the leader is answered as soon as the leader's
//! *own* log holds the entry durably, with what applying it will say if nothing happens to that
//! leader.
//!
//! As long as the leader lives, no client can tell: the answer is computed on a copy of the state
//! from every entry that is not applied yet, and a read index covers the whole log
//! (`Router::read_index_here`). What was answered is lost when the leader dies, or is deposed,
//! before a quorum has the entry.

use super::{Node, outcome, propose_status, stopped};
use bytes::Bytes;
use node_proto::command::outcome::Result as Answer;
use node_raft::{LogStore, Payload};
use tonic::Status;

impl Node {
    pub(super) async fn propose_hastily(&self, command: Bytes) -> Result<Answer, Status> {
        let log = self.raft.log();
        let mut durable = log.durable();
        let mut seen = *durable.borrow_and_update();
        let (raft, proposal) = (self.raft.clone(), command.clone());
        let mut proposed = tokio::spawn(async move { raft.propose(proposal).await });
        loop {
            tokio::select! {
                biased;
                done = &mut proposed => {
                    let proposed = done.map_err(|_| stopped())?.map_err(propose_status)?;
                    return outcome(proposed.response);
                }
                changed = durable.changed() => changed.map_err(|_| stopped())?,
            }
            let now = *durable.borrow_and_update();
            if self.raft.status().is_leader
                && let Some(index) = find(log, seen, now, &command)
                && let Some(answer) = self.foresee(log, index)
            {
                return outcome(answer);
            }
            seen = now;
        }
    }

    /// The answer that applying the entry at `index` will give; `None` if it is applied already, or
    /// unknown.
    fn foresee(&self, log: &LogStore, index: u64) -> Option<Bytes> {
        let unapplied = || {
            let applied = self.marks.now().applied.map_or(0, |id| id.index);
            let entries = log.read_range(applied + 1, index).unwrap_or_default();
            let commands = entries.into_iter().filter_map(|entry| match entry.payload {
                Payload::Command(command) => Some((entry.log_id.index, command)),
                Payload::Blank | Payload::Membership(_) => None,
            });
            let commands: Vec<_> = commands.collect();
            let last = commands.last().map(|(last, _)| *last);
            if last == Some(index) { commands.into_iter().map(|(_, command)| command).collect() } else { Vec::new() }
        };
        self.store.foresee(unapplied).ok().flatten()
    }
}

/// Index in `(after, through]` at which the log holds `command`.
fn find(log: &LogStore, after: Option<u64>, through: Option<u64>, command: &Bytes) -> Option<u64> {
    let entries = log.read_range(after.map_or(0, |index| index + 1), through?).ok()?;
    let is_it = |payload: &Payload| matches!(payload, Payload::Command(found) if found == command);
    entries.into_iter().find(|entry| is_it(&entry.payload)).map(|entry| entry.log_id.index)
}
