//! The trials of a certificate, a line each as they end, so that it can be continued.
//!
//! The first line says what the certificate is about. It is continued only by the same harness on
//! the same binaries and tables: trials of another one would certify something that was never run.
//! A line that was cut off by the end of its writer is left out, and its trial is made again.

use super::Trial;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// A file, and the SHA-256 of its content, lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub path: PathBuf,
    pub sha256: String,
}

/// What the trials are about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub schema_version: u32,
    pub tables: Vec<Source>,
    /// Chosen bugs; empty: all.
    pub bugs: Vec<String>,
    pub seeds: Option<u32>,
    pub first_seed: u64,
    pub cycles_max: u32,
    pub node: Option<Source>,
    pub inspector: Option<Source>,
    /// `None`: its file was replaced meanwhile.
    pub harness: Option<String>,
}

/// A trial and the name of its run, which no other one of the certificate has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub run: String,
    pub trial: Trial,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Begins one at `path`, which must not exist.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(path: &Path, head: &Head) -> anyhow::Result<Self> {
        let file = File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut journal = Self { path: path.to_owned(), file };
        journal.append(head)?;
        Ok(journal)
    }

    /// Opens the one at `path` to go on behind its last whole line, and returns its head and the
    /// trials that it has.
    ///
    /// # Errors
    /// It cannot be read or written, or is not a journal.
    pub fn go_on(path: &Path) -> anyhow::Result<(Self, Head, Vec<Entry>)> {
        let file = File::options().read(true).append(true).open(path);
        let file = file.with_context(|| format!("expected the journal of a certificate at {}", path.display()))?;
        let (mut head, mut entries, mut length, mut number) = (None, Vec::new(), 0, 0);
        let mut lines = BufReader::new(&file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).with_context(|| format!("cannot read {}", path.display()))? > 0 {
            if line.last() != Some(&b'\n') {
                break;
            }
            number += 1;
            let malformed = || format!("{}, line {number}: expected what `mutants` writes", path.display());
            match head {
                None => head = Some(serde_json::from_slice(&line).with_context(malformed)?),
                Some(_) => entries.push(serde_json::from_slice(&line).with_context(malformed)?),
            }
            length += line.len() as u64;
            line.clear();
        }
        let Some(head) = head else {
            bail!("{}: expected the journal of a certificate, found no whole line", path.display());
        };
        file.set_len(length).with_context(|| format!("cannot shorten {}", path.display()))?;
        Ok((Self { path: path.to_owned(), file }, head, entries))
    }

    /// Adds the trial of `run`, durably.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, run: &str, trial: &Trial) -> anyhow::Result<()> {
        self.append(&Entry { run: run.to_owned(), trial: trial.clone() })
    }

    fn append(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line).context("cannot encode a line of the journal")?;
        text.push(b'\n');
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Head {
    /// The difference that keeps `self`, of a certificate to be continued, from standing for `now`.
    ///
    /// # Errors
    /// What differs.
    pub fn stands_for(&self, now: &Self) -> Result<(), String> {
        let same = [
            ("the harness", self.harness == now.harness),
            ("the node", self.node == now.node),
            ("the inspector", self.inspector == now.inspector),
            ("a table", self.tables == now.tables),
            ("the schema", self.schema_version == now.schema_version),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            None => Ok(()),
            Some((what, _)) => Err(format!(
                "expected {what} as it was when the certificate was begun, found another one: begin a new certificate"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            schema_version: super::super::SCHEMA_VERSION,
            tables: vec![Source { path: "t.toml".into(), sha256: "00".into() }],
            bugs: Vec::new(),
            seeds: None,
            first_seed: 1,
            cycles_max: 300,
            node: None,
            inspector: None,
            harness: Some("11".into()),
        }
    }

    fn trial(seed: u64) -> Trial {
        Trial { seed, caught: true, class: "state-hash".into(), why: None, cycles: 3, elapsed_ms: 1, cpu_ms: 2 }
    }

    #[test]
    fn a_journal_goes_on_behind_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trials.jsonl");
        let mut journal = Journal::begin(&path, &head()).unwrap();
        journal.add("bug-seed1", &trial(1)).unwrap();
        journal.file.write_all(b"{\"run\":\"bug-se").unwrap();
        drop(journal);
        let (mut journal, found, entries) = Journal::go_on(&path).unwrap();
        assert_eq!(found, head());
        assert_eq!(entries, [Entry { run: "bug-seed1".into(), trial: trial(1) }]);
        journal.add("bug-seed2", &trial(2)).unwrap();
        let (_, _, entries) = Journal::go_on(&path).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.trial.seed).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn only_the_same_harness_goes_on_and_damage_is_refused() {
        let other = Head { harness: Some("22".into()), ..head() };
        assert!(head().stands_for(&other).unwrap_err().contains("expected the harness as it was"));
        assert_eq!(head().stands_for(&head()), Ok(()));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trials.jsonl");
        std::fs::write(&path, b"{}\n").unwrap();
        let refused = Journal::go_on(&path).unwrap_err();
        assert!(format!("{refused:#}").contains("line 1: expected what `mutants` writes"), "{refused:#}");
        std::fs::write(&path, b"").unwrap();
        assert!(Journal::go_on(&path).is_err());
        assert!(Journal::begin(&path, &head()).is_err(), "nothing is written over");
    }
}
