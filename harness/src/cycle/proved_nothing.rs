//! Whether a cycle proved anything: a fault that changed nothing does not test a member.

use ninelives_evidence::record::{CycleRecord, FaultOutcome};

pub(super) fn proved_nothing(record: &CycleRecord) -> Option<String> {
    let undisturbed =
        record.terms_passed == 0 && record.lasting.iter().all(|lasting| lasting.behind == 0 && lasting.met == 0);
    match &record.outcome {
        FaultOutcome::Skipped { why } if record.kills.landed == 0 => Some(why.clone()),
        _ if record.fence_index.is_none() => Some("no fence was answered".to_owned()),
        _ if record.damage.as_ref().is_some_and(|damage| damage.damage.is_some()) => None,
        _ if record.kills.none_planned && undisturbed => {
            Some("no member fell behind, no leader was elected, and no disk was asked for what it refused".to_owned())
        }
        _ if record.kills.none_planned => None,
        _ if record.recovery.snapshot_installed || record.restored => None,
        _ if record.killed_only_opaque() && record.recovery.behind == 0 => {
            Some("nothing was written between kill and restart".to_owned())
        }
        _ if record.killed_only_opaque() => None,
        _ if !record.killed_an_lsm() && record.recovery.lost_entries == 0 && record.recovery.replayed == 0 => {
            Some("nothing was lost or replayed".to_owned())
        }
        _ if !record.killed_an_lsm() => None,
        _ if record.recovery.lost_entries == 0 => Some("nothing was lost from a memtable".to_owned()),
        _ if record.recovery.replayed == 0 => Some("nothing was replayed".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::work::tests::{lasting, work};
    use ninelives_evidence::member::Engine;
    use ninelives_evidence::record::LastingKind;
    use ninelives_evidence::record::LastingRecord;

    #[test]
    fn a_cycle_says_when_it_proved_nothing() {
        let mut record = work().record;
        record.fence_index = Some(9);
        record.kills.landed = 1;
        record.kills.by_engine = [(Engine::Rocksdb, 1)].into();
        assert!(proved_nothing(&record).unwrap().contains("memtable"));
        record.recovery.lost_entries = 3;
        assert!(proved_nothing(&record).unwrap().contains("replayed"));
        record.recovery.replayed = 3;
        assert_eq!(proved_nothing(&record), None);
        record.fence_index = None;
        assert!(proved_nothing(&record).unwrap().contains("fence"));
    }

    #[test]
    fn an_unnoticed_pause_proved_nothing() {
        let mut record = work().record;
        (record.fence_index, record.kills.none_planned, record.outcome) = (Some(9), true, FaultOutcome::Landed);
        record.lasting = vec![lasting(0)];
        assert!(proved_nothing(&record).unwrap().contains("no leader was elected"));
        record.terms_passed = 1;
        assert_eq!(proved_nothing(&record), None);
        (record.terms_passed, record.lasting) = (0, vec![lasting(0), lasting(4)]);
        assert_eq!(proved_nothing(&record), None);
        record.lasting = vec![LastingRecord { kind: LastingKind::Fill, met: 1, ..lasting(0) }];
        assert_eq!(proved_nothing(&record), None, "a disk was asked for room that it did not have");
    }

    /// On such an engine a commit is durable once it is answered: only entries that are in the log
    /// and not in the engine can be missing.
    #[test]
    fn on_redb_a_replay_alone_is_proof() {
        let mut record = work().record;
        (record.fence_index, record.kills.landed, record.recovery.replayed) = (Some(9), 1, 2);
        record.kills.by_engine = [(Engine::Redb, 1)].into();
        assert_eq!(proved_nothing(&record), None);
        record.recovery.replayed = 0;
        assert!(proved_nothing(&record).unwrap().contains("lost or replayed"));
    }
}
