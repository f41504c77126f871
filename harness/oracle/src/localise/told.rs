//! The raft entries that made revisions, if only the watches' history is at hand: values name the
//! operations that wrote them, and so do the entries of the logs.

use super::compare::Truth;
use crate::raft_log::{Entry, LogId, Payload, RaftLog, operation};
use ninelives_evidence::operation::OpId;
use node_proto::command::command::Request;
use std::collections::BTreeMap;

/// Fills in the entries of `truth` that `logs` tell: entries with a put, by their operation; and a
/// delete, if it is the only entry without a put between its neighbours.
pub(super) fn find_entries(truth: &mut Truth, logs: &[&RaftLog]) {
    let mut by_operation: BTreeMap<OpId, LogId> = BTreeMap::new();
    let mut deletes: BTreeMap<u64, LogId> = BTreeMap::new();
    for entry in logs.iter().flat_map(|log| &log.entries) {
        match &entry.payload {
            Payload::Command(request) => match operation(request) {
                Some(id) => drop(by_operation.insert(id, entry.id)),
                None if may_delete(entry) => drop(deletes.insert(entry.id.index, entry.id)),
                None => {}
            },
            Payload::Blank | Payload::NoCommand(_) | Payload::Membership(_) => {}
        }
    }
    for (id, effects) in truth.values_mut() {
        let writer = effects.iter().find_map(|effect| effect.row?.value.writer());
        *id = writer.and_then(|writer| by_operation.get(&writer)).copied();
    }
    let known: BTreeMap<u64, u64> =
        truth.iter().filter_map(|(revision, (id, _))| Some((*revision, (*id)?.index))).collect();
    for (revision, (id, _)) in truth.iter_mut().filter(|(_, (id, _))| id.is_none()) {
        let (before, after) = (known.get(&(revision - 1)), known.get(&(revision + 1)));
        if let (Some(before), Some(after)) = (before, after)
            && before < after
        {
            let mut between = deletes.range(before + 1..*after);
            if let (Some((_, only)), None) = (between.next(), between.next()) {
                *id = Some(*only);
            }
        }
    }
}

fn may_delete(entry: &Entry) -> bool {
    matches!(&entry.payload, Payload::Command(Request::DeleteRange(_) | Request::LeaseRevoke(_) | Request::Txn(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::log_replay::effect;
    use ninelives_evidence::Change;
    use node_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};

    fn put(index: u64, writer: u64) -> Entry {
        let value = format!("x,1.{writer}").into_bytes().into();
        entry(index, Request::Put(PutRequest { key: "k".into(), value, ..PutRequest::default() }))
    }

    fn delete(index: u64) -> Entry {
        entry(index, Request::DeleteRange(DeleteRangeRequest { key: "k".into(), ..DeleteRangeRequest::default() }))
    }

    fn entry(index: u64, request: Request) -> Entry {
        Entry { id: LogId { term: 2, index }, payload: Payload::Command(request), bytes: Vec::new() }
    }

    fn told(revision: u64, writer: Option<u64>) -> (u64, (Option<LogId>, Vec<crate::judges::log_replay::Effect>)) {
        let change = match writer {
            Some(writer) => Change::Put {
                key: "k".into(),
                value: format!("x,1.{writer}").into_bytes(),
                create_revision: revision,
                version: 1,
                lease: 0,
            },
            None => Change::Delete { key: "k".into() },
        };
        (revision, (None, vec![effect(revision, &change)]))
    }

    fn found(entries: Vec<Entry>) -> Vec<Option<u64>> {
        let mut truth: Truth = [told(7, Some(3)), told(8, None), told(9, Some(4))].into();
        find_entries(&mut truth, &[&RaftLog { entries, ..RaftLog::default() }]);
        truth.into_values().map(|(id, _)| id.map(|id| id.index)).collect()
    }

    #[test]
    fn a_put_is_known_by_its_writer_and_a_lone_delete_by_its_neighbours() {
        assert_eq!(found(vec![put(20, 3), delete(21), put(22, 4)]), [Some(20), Some(21), Some(22)]);
        assert_eq!(
            found(vec![put(20, 3), delete(21), delete(22), put(23, 4)]),
            [Some(20), None, Some(23)],
            "which one?"
        );
        assert_eq!(found(vec![delete(21), put(22, 4)]), [None, None, Some(22)], "purged");
    }
}
