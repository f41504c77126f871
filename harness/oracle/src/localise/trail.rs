//! The history's account of the cycle of a finding: the fault, and each member's watermarks.
//!
//! It reads the end of the history back, so that the live run and a later check rely on the same
//! evidence.

use ninelives_evidence::hex::hex;
use ninelives_evidence::history::{self, Lines};
use ninelives_evidence::logged::Logged;
use ninelives_evidence::operation::{KeyState, Reply};
use ninelives_evidence::record::localisation::WatermarksRow;
use ninelives_evidence::{
    DeadMember, Did, Evidence, EvidenceKind, FenceAnswer, IndexRange, Look, MemberWatermarks, Recovered,
};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

/// Bytes at the end of the history that are looked at: a cycle is a few hundred kilobytes.
const TAIL_BYTES: u64 = 32 << 20;

/// The part of the history that belongs to one cycle.
#[derive(Debug, Default)]
pub struct Trail {
    /// Evidence of the pipeline; of the load only operations that may have written a revision.
    pieces: Vec<Evidence>,
    /// Entries in dead members' logs, of earlier cycles as well, by index, with the member whose
    /// log held each.
    logged: BTreeMap<u64, (u64, Logged)>,
}

impl Trail {
    /// # Errors
    /// The file cannot be read, or a line is not one of a history.
    pub fn read(path: &Path, cycle: Option<u32>) -> Result<Self, history::Error> {
        Self::of(Lines::of_the_end(path, TAIL_BYTES)?, cycle)
    }

    /// Without `cycle`, the last one counts.
    pub(super) fn of(mut lines: Lines<impl BufRead>, cycle: Option<u32>) -> Result<Self, history::Error> {
        let mut trail = Self::default();
        while let Some((_, piece)) = lines.read()? {
            match piece {
                Evidence::RaftLog { log } => {
                    let member = log.member;
                    trail.logged.extend(log.entries.into_iter().map(|entry| (entry.index, (member, entry))));
                }
                // Answers are kept because they may name the author of a revision; the rest of the
                // load, which is most of a history, is not.
                piece if piece.kind().is_of_the_load() && piece.kind() != EvidenceKind::Done => {}
                piece => {
                    if let Evidence::Cycle { cycle: begun, .. } = &piece
                        && cycle.is_none_or(|cycle| cycle == *begun)
                    {
                        // An answer may have come before the cycle that it is about.
                        trail.pieces.retain(|piece| matches!(piece, Evidence::Done { .. }));
                    }
                    trail.pieces.push(piece);
                }
            }
        }
        Ok(trail)
    }

    /// The plan's step.
    pub fn step(&self) -> Option<&str> {
        self.pieces.iter().find_map(|piece| match piece {
            Evidence::Cycle { what, .. } => Some(what.as_str()),
            _ => None,
        })
    }

    /// Members that were killed, in order.
    pub fn killed(&self) -> Vec<u64> {
        let killed = self.pieces.iter().filter_map(|piece| match piece {
            Evidence::Killed { member, engine: Some(_), .. } => Some(*member),
            _ => None,
        });
        killed.collect()
    }

    /// The last window that was armed on `member`, here or at its start.
    pub fn armed(&self, member: u64) -> Option<&str> {
        self.pieces.iter().rev().find_map(|piece| match piece {
            Evidence::Did { did: Did::Arm | Did::Start, member: Some(one), what, .. } if *one == member => {
                what.as_deref()
            }
            _ => None,
        })
    }

    /// The index of the snapshot that `member` installed in its last recovery, if it did.
    pub fn snapshot(&self, member: u64) -> Option<u64> {
        let last = self.pieces.iter().rev().find_map(|piece| match piece {
            Evidence::Recovery { member: one, recovery, .. } if *one == member => Some(recovery),
            _ => None,
        });
        last?.snapshot_installed
    }

    /// Each member's answer for the last fence.
    pub fn answers(&self) -> &[(u64, FenceAnswer)] {
        let last = self.pieces.iter().rev().find_map(|piece| match piece {
            Evidence::FenceAnswers { answers, .. } => Some(answers.0.as_slice()),
            _ => None,
        });
        last.unwrap_or_default()
    }

    /// The rows that members showed in full reads, by revision and member.
    pub fn rows(&self) -> BTreeMap<u64, BTreeMap<u64, Vec<KeyState>>> {
        let mut shown: BTreeMap<u64, BTreeMap<u64, Vec<KeyState>>> = BTreeMap::new();
        for piece in &self.pieces {
            if let Evidence::LastRead { member, revision, rows } = piece {
                shown.entry(*revision).or_default().insert(*member, rows.clone());
            }
        }
        shown
    }

    /// The operation that was answered as having written `revision`.
    pub fn operation_of(&self, revision: u64) -> Option<String> {
        self.pieces.iter().find_map(|piece| match piece {
            Evidence::Done { op, revision: at, reply, .. } if *at == revision => {
                let wrote = matches!(reply, Reply::Put | Reply::Deleted(1..) | Reply::Txn { succeeded: true });
                wrote.then(|| op.to_string())
            }
            _ => None,
        })
    }

    /// The committed entries from `first` to `last` that dead members' logs told, with the member
    /// that told each: a log that is read now may have purged them.
    pub fn logged(&self, first: u64, last: u64) -> impl DoubleEndedIterator<Item = &(u64, Logged)> {
        self.logged.range(first..=last.max(first)).map(|(_, told)| told)
    }

    /// The watermarks of `member`, in order of time.
    pub fn watermarks(&self, member: u64) -> Vec<WatermarksRow> {
        let row = |piece: &Evidence| match piece {
            Evidence::Reading { member: one, status, .. } if *one == member => Some(reading(member, status)),
            Evidence::Inspected { member: one, look: Look::Killed, applied_received, dead, .. } if *one == member => {
                Some(dead_row(member, *applied_received, dead))
            }
            Evidence::Recovery { member: one, recovery, .. } if *one == member => Some(recovered(member, recovery)),
            _ => None,
        };
        let mut rows: Vec<WatermarksRow> = self.pieces.iter().filter_map(row).collect();
        for (_, answer) in self.answers().iter().filter(|(one, _)| *one == member) {
            let (revision, compact) = (answer.revision, answer.compact_revision.max(0));
            let kv = hex(&answer.kv[..answer.kv.len().min(8)]);
            let remark = format!("revision {revision}, compact revision {compact}, kv section {kv}");
            let when = "at the fence".to_owned();
            let applied = Some(answer.index);
            rows.push(WatermarksRow { member, when, applied, remark: Some(remark), ..WatermarksRow::default() });
        }
        rows
    }
}

fn reading(member: u64, watermarks: &MemberWatermarks) -> WatermarksRow {
    WatermarksRow {
        member,
        when: "before the kill".to_owned(),
        persisted: watermarks.persisted,
        flushed: watermarks.flushed,
        applied: watermarks.applied,
        committed: watermarks.committed,
        log_last: watermarks.log_last,
        purged: watermarks.last_purged,
        remark: None,
    }
}

fn dead_row(member: u64, heard: Option<u64>, dead: &DeadMember) -> WatermarksRow {
    let errors = [&dead.last_flushed_index_error, &dead.engine_error, &dead.log_error];
    let heard = heard.map(|index| format!("it was heard to have applied {index}"));
    let remark: Vec<String> = heard.into_iter().chain(errors.into_iter().flatten().cloned()).collect();
    WatermarksRow {
        member,
        when: "dead, from its directory".to_owned(),
        persisted: dead.last_flushed_index,
        flushed: dead.engine_index,
        applied: None,
        committed: dead.committed,
        log_last: dead.log_last,
        purged: dead.last_purged,
        remark: Some(remark.join("; ")).filter(|remark| !remark.is_empty()),
    }
}

fn recovered(member: u64, said: &Recovered) -> WatermarksRow {
    let range = |range: Option<IndexRange>| {
        range.map_or_else(|| "nothing".to_owned(), |IndexRange { first, last }| format!("{first} to {last}"))
    };
    let mut remark = Vec::new();
    remark.extend(said.scan_start.map(|start| format!("scanned from {start}")));
    remark.push(format!("verified {}", range(said.verified)));
    remark.push(format!("applied again {}", range(said.replayed)));
    remark.extend(said.snapshot_installed.map(|at| format!("installed a snapshot at {at}")));
    WatermarksRow {
        member,
        when: "recovered, by its own account".to_owned(),
        persisted: said.last_flushed_index,
        flushed: said.engine_index,
        applied: None,
        committed: None,
        log_last: said.log_last,
        purged: said.last_purged,
        remark: Some(remark.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECOVERED: &str = r#""last_flushed_index":40,"engine_index":44,"log_first":null,"log_last":61,"last_purged":9,"scan_start":41,"verified":[41,44],"replayed":[45,61],"complete":true,"open_micros":1,"snapshot_installed":null"#;

    #[test]
    fn a_cycle_is_read_back_from_its_lines() {
        let text = format!(
            r#"{{"at_us":1,"event":"cycle","cycle":3,"what":"kill leader after 9 ms"}}
{{"at_us":1,"event":"killed","cycle":3,"member":1,"engine":"rocksdb"}}
{{"at_us":1,"event":"cycle","cycle":4,"what":"kill follower#1 at flush.completed hit 2"}}
{{"at_us":1,"event":"did","cycle":4,"did":"arm","member":2,"what":"flush.completed"}}
{{"at_us":1,"event":"done","op":"3.17","revision":61,"term":2,"reply":"compacted"}}
{{"at_us":1,"event":"done","op":"3.18","revision":61,"term":2,"reply":{{"deleted":2}}}}
{{"at_us":1,"event":"reading","cycle":4,"member":2,"status":{{"persisted":40,"flushed":44,"applied":60,"committed":61,"log_last":61,"last_purged":9}}}}
{{"at_us":1,"event":"killed","cycle":4,"member":2,"engine":"rocksdb"}}
{{"at_us":1,"event":"inspected","cycle":4,"member":2,"look":"killed","applied_received":60,"dead":{{"last_flushed_index":40,"engine_index":44,"log_last":61,"last_purged":9}}}}
{{"at_us":1,"event":"raft-log","log":{{"cycle":4,"member":2,"first":10,"last":61,"committed":60,"entries":[{{"i":60,"t":2,"d":"0123456789abcdef","s":"blank"}}]}}}}
{{"at_us":1,"event":"recovery","cycle":4,"member":2,{RECOVERED}}}
{{"at_us":1,"event":"fence-answers","cycle":4,"answers":[{{"members":[2],"index":90,"term":2,"revision":70,"compact_revision":5,"kv":"0123456789abcdef01","kv_rows":1,"lease":"","auth":"","membership":"","leases":[]}}]}}
"#
        );
        let trail = |text: &str| Trail::of(Lines::of("history.jsonl".to_owned(), text.as_bytes()), Some(4));
        let malformed = trail(&text.replacen("\"killed\"", "\"kilt\"", 1)).unwrap_err().to_string();
        assert!(malformed.contains("line 2: "), "{malformed}");
        let trail = trail(&text).unwrap();
        assert_eq!(trail.step(), Some("kill follower#1 at flush.completed hit 2"));
        assert_eq!((trail.killed(), trail.armed(2), trail.armed(1)), (vec![2], Some("flush.completed"), None));
        assert_eq!(trail.operation_of(61).as_deref(), Some("3.18"), "a compaction wrote no key");
        assert_eq!(trail.logged(59, 62).map(|(member, entry)| (*member, entry.index)).collect::<Vec<_>>(), [(2, 60)]);
        let rows = trail.watermarks(2);
        let at =
            rows.iter().map(|row| (row.when.as_str(), row.persisted, row.flushed, row.applied)).collect::<Vec<_>>();
        assert_eq!(
            at,
            [
                ("before the kill", Some(40), Some(44), Some(60)),
                ("dead, from its directory", Some(40), Some(44), None),
                ("recovered, by its own account", Some(40), Some(44), None),
                ("at the fence", None, None, Some(90)),
            ]
        );
        assert_eq!(rows[2].remark.as_deref(), Some("scanned from 41, verified 41 to 44, applied again 45 to 61"));
        assert_eq!(rows[3].remark.as_deref(), Some("revision 70, compact revision 5, kv section 0123456789abcdef"));
    }
}
