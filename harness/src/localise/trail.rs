//! What the history says about the cycle of a finding: the fault, and what each member's watermarks were.
//!
//! The end of `history.jsonl` is read back: what was written down is what there is to go by, here as in a check that is done later.

use crate::oracle::log_replay::{LogEvidence, Logged};
use crate::record::localisation::Watermarks;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes at the end of the history that are looked at: a cycle is a few hundred kilobytes.
const TAIL_BYTES: u64 = 32 << 20;

/// The part of the history that belongs to one cycle.
#[derive(Debug, Default)]
pub(super) struct Trail {
    lines: Vec<Value>,
    /// All of the tail, for answers that may have come in the cycle before.
    text: String,
}

/// What a dead member's log added.
#[derive(Deserialize)]
struct RaftLogLine {
    log: LogEvidence,
}

/// Events of the pipeline; the load's are looked at only when they are asked for.
const KINDS: [&str; 7] = ["cycle", "reading", "inspected", "recovery", "fence-answers", "cycle-end", "did"];

impl Trail {
    /// # Errors
    /// Those of reading the file.
    pub fn read(path: &Path, cycle: Option<u32>) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Self::of(String::from_utf8_lossy(&bytes).into_owned(), cycle))
    }

    pub(super) fn of(text: String, cycle: Option<u32>) -> Self {
        let mut lines = Vec::new();
        for line in text.lines() {
            if !KINDS.iter().any(|kind| line.contains(&format!("\"event\":\"{kind}\""))) {
                continue;
            }
            let Ok(value) = serde_json::from_str::<Value>(line).map(plain) else { continue };
            if value["event"] == "cycle" && cycle.is_none_or(|cycle| value["cycle"] == cycle) {
                // A cycle has one beginning, and the last one counts.
                lines.clear();
            }
            lines.push(value);
        }
        Self { lines, text }
    }

    /// Lines of one kind; of steps, those of one name.
    fn of_kind<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["event"] == kind)
    }

    /// The plan's step.
    pub fn step(&self) -> Option<&str> {
        self.of_kind("cycle").next()?["what"].as_str()
    }

    /// Members that were killed, in order.
    pub fn killed(&self) -> Vec<u64> {
        self.of_kind("kill").filter_map(|line| line["member"].as_u64()).collect()
    }

    /// The last window that was armed on `member`, here or at its start.
    pub fn armed(&self, member: u64) -> Option<&str> {
        let armed = |line: &&Value| (line["event"] == "arm" || line["event"] == "start") && line["member"] == member;
        self.lines.iter().rev().filter(armed).find_map(|line| line["what"].as_str())
    }

    /// Where `member` installed a snapshot in its last recovery, if it did.
    pub fn snapshot(&self, member: u64) -> Option<u64> {
        let last = self.of_kind("recovery").rfind(|line| line["member"] == member)?;
        last["snapshot_installed"].as_u64()
    }

    /// Each member's answer for the last fence.
    pub fn answers(&self) -> Vec<&Value> {
        let last = self.of_kind("fence-answers").next_back();
        last.and_then(|line| line["answers"].as_array()).map(|answers| answers.iter().collect()).unwrap_or_default()
    }

    /// The operation that was answered as having written `revision`.
    pub fn operation_of(&self, revision: u64) -> Option<String> {
        let at = format!("\"revision\":{revision},");
        let lines = self.text.lines().filter(|line| line.contains(&at) && line.contains("\"event\":\"done\""));
        let wrote = |value: &Value| {
            let reply = &value["reply"];
            reply == "put" || reply["deleted"].as_u64() > Some(0) || reply["txn"]["succeeded"] == true
        };
        lines
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|value| value["revision"] == revision && wrote(value))
            .and_then(|value| value["op"].as_str().map(str::to_owned))
    }

    /// The committed entries from `first` to `last` that dead members' logs told, with the member that told each: a log that is
    /// read now may have purged them.
    pub fn logged(&self, first: u64, last: u64) -> BTreeMap<u64, (u64, Logged)> {
        let mut entries = BTreeMap::new();
        for line in self.text.lines().filter(|line| line.contains("\"event\":\"raft-log\"")) {
            let Ok(told) = serde_json::from_str::<RaftLogLine>(line) else { continue };
            let (member, told) = (told.log.member, told.log.entries);
            let here = told.into_iter().filter(|entry| (first..=last).contains(&entry.index));
            entries.extend(here.map(|entry| (entry.index, (member, entry))));
        }
        entries
    }

    /// What `member`'s watermarks were, in order of time.
    pub fn watermarks(&self, member: u64) -> Vec<Watermarks> {
        let mut rows = Vec::new();
        for line in self.lines.iter().filter(|line| line["member"] == member) {
            let row = match line["event"].as_str() {
                Some("reading") => reading(member, line),
                Some("inspected") => dead(member, line),
                Some("recovery") => recovery(member, line),
                _ => continue,
            };
            rows.push(row);
        }
        for answer in self.answers().into_iter().filter(|answer| answer["member"] == member) {
            let (index, revision) = (answer["index"].as_u64(), &answer["revision"]);
            let compact = &answer["compact_revision"];
            let kv = answer["kv"].as_str().map_or("", |kv| kv.get(..16).unwrap_or(kv));
            let remark = format!("revision {revision}, compact revision {compact}, kv section {kv}");
            let when = "at the fence".to_owned();
            rows.push(Watermarks { member, when, applied: index, remark: Some(remark), ..Watermarks::default() });
        }
        rows
    }
}

/// A step's name is its kind, and each member's answer stands alone.
fn plain(mut line: Value) -> Value {
    if line["event"] == "did" {
        line["event"] = line["did"].clone();
    }
    if let Some(groups) = line["answers"].as_array() {
        let alone = |group: &Value| {
            let members = group["members"].as_array().cloned().unwrap_or_default();
            members
                .into_iter()
                .map(|member| {
                    let mut answer = group.clone();
                    answer["member"] = member;
                    answer
                })
                .collect::<Vec<_>>()
        };
        line["answers"] = groups.iter().flat_map(alone).collect();
    }
    line
}

fn reading(member: u64, line: &Value) -> Watermarks {
    let number = |name: &str| line["status"][name].as_u64();
    Watermarks {
        member,
        when: "before the kill".to_owned(),
        persisted: number("persisted"),
        flushed: number("flushed"),
        applied: number("applied"),
        committed: number("committed"),
        log_last: number("log_last"),
        purged: number("last_purged"),
        remark: None,
    }
}

fn dead(member: u64, line: &Value) -> Watermarks {
    let number = |name: &str| line["dead"][name].as_u64();
    let heard = line["applied_received"].as_u64();
    let errors = ["last_flushed_index_error", "engine_error", "log_error"];
    let errors: Vec<&str> = errors.iter().filter_map(|name| line["dead"][*name].as_str()).collect();
    let heard = heard.map(|index| format!("it was heard to have applied {index}"));
    let remark: Vec<String> = heard.into_iter().chain(errors.into_iter().map(str::to_owned)).collect();
    Watermarks {
        member,
        when: "dead, from its directory".to_owned(),
        persisted: number("last_flushed_index"),
        flushed: number("engine_index"),
        applied: None,
        committed: number("committed"),
        log_last: number("log_last"),
        purged: number("last_purged"),
        remark: Some(remark.join("; ")).filter(|remark| !remark.is_empty()),
    }
}

fn recovery(member: u64, line: &Value) -> Watermarks {
    let number = |name: &str| line[name].as_u64();
    let range = |name: &str| {
        let (first, last) = (line[name][0].as_u64()?, line[name][1].as_u64()?);
        Some(format!("{first} to {last}"))
    };
    let mut remark = Vec::new();
    remark.extend(number("scan_start").map(|start| format!("scanned from {start}")));
    remark.push(format!("verified {}", range("verified").unwrap_or_else(|| "nothing".to_owned())));
    remark.push(format!("applied again {}", range("replayed").unwrap_or_else(|| "nothing".to_owned())));
    remark.extend(number("snapshot_installed").map(|at| format!("installed a snapshot at {at}")));
    Watermarks {
        member,
        when: "recovered, by its own account".to_owned(),
        persisted: number("last_flushed_index"),
        flushed: number("engine_index"),
        applied: None,
        committed: None,
        log_last: number("log_last"),
        purged: number("last_purged"),
        remark: Some(remark.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"event":"cycle","cycle":3,"what":"kill leader after 9 ms"}
{"event":"did","did":"kill","cycle":3,"member":1}
{"event":"cycle","cycle":4,"what":"kill follower#1 at flush.completed hit 2"}
{"event":"did","did":"arm","cycle":4,"member":2,"what":"flush.completed"}
{"event":"done","op":"3.17","revision":61,"term":2,"reply":{"read":[["a",61]]}}
{"event":"done","op":"3.18","revision":61,"term":2,"reply":{"deleted":2}}
{"event":"reading","cycle":4,"member":2,"status":{"persisted":40,"flushed":44,"applied":60,"committed":61,"log_last":61,"last_purged":9}}
{"event":"did","did":"kill","cycle":4,"member":2}
{"event":"inspected","cycle":4,"member":2,"applied_received":60,"dead":{"last_flushed_index":40,"engine_index":44,"log_last":61,"last_purged":9}}
{"event":"recovery","cycle":4,"member":2,"last_flushed_index":40,"engine_index":44,"log_last":61,"last_purged":9,"scan_start":41,"verified":[41,44],"replayed":[45,61],"snapshot_installed":null}
{"event":"fence-answers","cycle":4,"answers":[{"members":[1,2],"index":90,"revision":70,"compact_revision":5,"kv":"0123456789abcdef01"}]}
not json
"#;

    #[test]
    fn a_cycle_is_read_back_from_its_lines() {
        let trail = Trail::of(TEXT.to_owned(), Some(4));
        assert_eq!(trail.step(), Some("kill follower#1 at flush.completed hit 2"));
        assert_eq!((trail.killed(), trail.armed(2), trail.armed(1)), (vec![2], Some("flush.completed"), None));
        assert_eq!(trail.operation_of(61).as_deref(), Some("3.18"), "a read wrote nothing");
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
