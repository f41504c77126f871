//! Promise: a member whose file was damaged while it was dead ends with an exit code that the node
//! documents and a last line that names the file and the way back, or it starts with everything
//! that it had acknowledged.
//!
//! What such a member answers is judged as any answer is. Here its start is judged by what the
//! directory held before the damage. Its engine may have gone back to an earlier state of its own,
//! which the raft log makes whole again. The log may lack nothing that had been answered: none of
//! it, if the number beside it says that its last commit had been. Otherwise the kill may have come
//! before the last commit was answered, and the log may lack that, but no entry that was heard to
//! be applied.

use super::replay_start::{Restart, check_replay_start};
use ninelives_evidence::damage::{Damage, Refusal};
use ninelives_evidence::ended::Ended;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::parts::DeadWatermark;
use ninelives_evidence::verdict::findings::{Members, Restarts};
use ninelives_evidence::{DeadMember, Recovered};
use std::path::Path;

/// Exit codes of a member that does not trust its disk: a refusal to start, its own invariant, its
/// storage.
const DOCUMENTED: [i32; 3] = [1, 65, 74];

/// The folder of RocksDB's files. RocksDB may blame another of them: a MANIFEST names tables.
const ENGINE_FOLDER: &str = "member/snap/db";

/// The way back of a member whose data is damaged, in its own words.
const WAY_BACK: &str = "under a new id";

/// Judges the end of a member with a damaged file.
pub fn check_refusal((cycle, member): (u32, u64), damage: &Damage, refusal: &Refusal) -> Option<Finding> {
    let Refusal { ended, words, .. } = refusal;
    let documented = matches!(ended, Ended::Exited(code) if DOCUMENTED.contains(code));
    if documented && names(words, &damage.file) && words.contains(WAY_BACK) {
        return None;
    }
    let what = Members::RefusedUnclearly { member, damage: damage.to_string(), ended: *ended, words: words.clone() };
    Some(Finding::new(what).in_cycle(cycle).at_member(member))
}

/// Whether `words` say which file it is.
fn names(words: &str, file: &Path) -> bool {
    let own = file.file_name().and_then(|name| name.to_str());
    let of_the_engine = file.starts_with(ENGINE_FOLDER);
    own.is_some_and(|own| words.contains(own)) || of_the_engine && words.contains(ENGINE_FOLDER)
}

/// Judges the account of a member that recovered on a damaged directory. `restart` has what the
/// directory held before.
pub fn check_damaged_start(restart: &Restart<'_>, damage: &Damage, recovery: &Recovered) -> Vec<Finding> {
    let dead = restart.dead;
    let all = dead.log_last.max(dead.last_purged);
    let had = match dead.log_answered {
        Some(true) => all,
        _ => restart.applied_received.max(dead.engine_index).min(all),
    };
    if recovery.log_last < had {
        let (was, is) = (had, recovery.log_last);
        return vec![restart.finding(Restarts::ForgotAfterDamage { damage: damage.to_string(), was, is })];
    }
    let mut findings = Vec::new();
    let mut not_above = |mark, dead: Option<u64>, told: Option<u64>| {
        if told > dead {
            findings.push(restart.finding(Restarts::RecoveredOtherMark { mark, dead, told }));
        }
    };
    not_above(DeadWatermark::Persisted, dead.last_flushed_index, recovery.last_flushed_index);
    not_above(DeadWatermark::Engine, dead.engine_index, recovery.engine_index);
    not_above(DeadWatermark::LastPurged, dead.last_purged, recovery.last_purged);
    not_above(DeadWatermark::LogLast, dead.log_last, recovery.log_last);
    let went_back = DeadMember {
        last_flushed_index: recovery.last_flushed_index,
        engine_index: recovery.engine_index,
        last_purged: recovery.last_purged,
        log_last: recovery.log_last,
        ..dead.clone()
    };
    findings.extend(check_replay_start(&Restart { dead: &went_back, ..*restart }, recovery));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::{dead, recovered};
    use ninelives_evidence::IndexRange;
    use ninelives_evidence::damage::{DamageKind, FileClass};
    use ninelives_evidence::verdict::Class;

    fn damage(file: &str) -> Damage {
        let (was, is) = ("0a".to_owned(), "0b".to_owned());
        Damage { class: FileClass::Sst, kind: DamageKind::BitFlip, file: file.into(), offset: 9, bytes: 1, was, is }
    }

    #[test]
    fn a_refusal_has_a_documented_code_and_names_the_file() {
        let class = |file: &str, ended, words: &str| {
            let refusal = Refusal { ended, served: false, words: words.to_owned() };
            check_refusal((3, 2), &damage(file), &refusal).map(|found| found.class())
        };
        let table = "member/snap/db/000012.sst";
        let words = "/r/member/snap/db/000012.sst: bad checksum: add it under a new id";
        for code in DOCUMENTED {
            assert_eq!(class(table, Ended::Exited(code), words), None);
        }
        assert_eq!(class(table, Ended::Exited(1), "cannot open /r/member/snap/db: add it under a new id"), None);
        let unclear = Some(Class::NodeDied);
        assert_eq!(class(table, Ended::Exited(101), words), unclear, "a panic");
        assert_eq!(class(table, Ended::KilledByOther(11), words), unclear);
        assert_eq!(class(table, Ended::Exited(74), "storage failed: add it under a new id"), unclear);
        assert_eq!(class(table, Ended::Exited(74), "/r/member/snap/db/000012.sst: bad checksum"), unclear);
        assert_eq!(class("member/raft/raft-log.redb", Ended::Exited(1), words), unclear, "another file");
    }

    #[test]
    fn an_engine_may_go_back_and_a_log_may_not() {
        let judged = |log_answered, alter: fn(&mut Recovered)| {
            let (dead, mut recovered) = (DeadMember { log_answered, ..dead() }, recovered());
            alter(&mut recovered);
            let restart = Restart { cycle: 3, member: 2, dead: &dead, applied_received: Some(19) };
            let found = check_damaged_start(&restart, &damage("member/snap/db"), &recovered);
            found.iter().map(Finding::class).collect::<Vec<_>>()
        };
        let found = |alter| judged(Some(false), alter);
        assert_eq!(found(|_| {}), []);
        let without_the_last: fn(&mut Recovered) = |recovered| {
            (recovered.log_last, recovered.replayed) = (Some(19), Some(IndexRange { first: 15, last: 19 }));
        };
        assert_eq!(found(without_the_last), [], "the kill may have come before the last commit was answered");
        assert_eq!(judged(None, without_the_last), []);
        assert_eq!(judged(Some(true), without_the_last), [Class::LostWrite]);
        assert_eq!(judged(Some(true), |_| {}), []);
        let earlier: fn(&mut Recovered) = |recovered| {
            (recovered.last_flushed_index, recovered.engine_index, recovered.scan_start) = (Some(9), Some(9), Some(10));
            (recovered.verified, recovered.replayed) = (None, Some(IndexRange { first: 10, last: 20 }));
        };
        assert_eq!(found(earlier), []);
        assert_eq!(found(|recovered| recovered.log_last = Some(18)), [Class::LostWrite]);
        assert_eq!(found(|recovered| recovered.log_last = None), [Class::LostWrite]);
        assert!(found(|recovered| recovered.engine_index = Some(15)).contains(&Class::ReplayStart));
        assert_eq!(
            found(|recovered| recovered.replayed = Some(IndexRange { first: 16, last: 20 })),
            [Class::ReplayStart]
        );
    }
}
