//! A member in small: a model of what each entry writes, a child process that writes them, and its
//! killing.
//!
//! A copy of a live directory is only nearly what a kill leaves; these tests therefore kill a real
//! process. The child is this test binary, told by the environment to be one.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

use node_backend::dispatch;
use node_backend::engine::{Engine, EngineKind, EngineOptions};
use node_backend::layout::DataDir;
use node_base::LogId;
use node_base::backend::{Backend, Batch, Bucket, ReadView};
use node_base::failpoint::{self, Window};
use node_base::watermarks::Watermarks;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

pub const TERM: u64 = 3;

pub fn at(index: u64) -> LogId {
    LogId::new(TERM, index)
}

pub fn small() -> EngineOptions {
    EngineOptions { memtable_bytes: 64 << 10, cache_bytes: 1 << 20, ..EngineOptions::default() }
}

/// The batch of entry `index`.
pub fn entry(index: u64) -> Batch {
    entries(index..=index)
}

/// The batch of entries that share a commit. Each writes a row of its own, one that every entry
/// overwrites, and deletes an old one; every fifth entry writes nothing.
pub fn entries(indexes: RangeInclusive<u64>) -> Batch {
    let mut batch = Batch::default();
    for index in indexes.filter(|index| index % 5 != 4) {
        batch.put(Bucket::Key, format!("row/{index:08}"), vec![index as u8; 300]);
        batch.put(Bucket::Meta, "last", index.to_be_bytes());
        batch.delete(Bucket::Key, format!("row/{:08}", index.saturating_sub(400)));
    }
    batch
}

/// Commits the entries from `next` to the one before `end`, one to seven at a time if they may
/// share a commit.
pub fn commit_up_to(backend: &dyn Backend, mut next: u64, end: u64, share: bool) {
    while next < end {
        let last = if share { (next + next % 7).min(end - 1) } else { next };
        backend.commit(entries(next..=last), at(last)).unwrap();
        next = last + 1;
    }
}

type Rows = BTreeMap<(Bucket, Vec<u8>), Vec<u8>>;

/// The rows after entries 0 to `last`.
pub fn model(last: Option<u64>) -> Rows {
    let mut rows = Rows::new();
    for index in last.map(|last| 0..=last).into_iter().flatten() {
        for (bucket, key, value) in entry(index).changes() {
            match value {
                Some(value) => rows.insert((bucket, key.to_vec()), value.to_vec()),
                None => rows.remove(&(bucket, key.to_vec())),
            };
        }
    }
    rows
}

pub fn rows(backend: &dyn Backend) -> Rows {
    rows_of(&*backend.read())
}

/// Every row but the consistent index.
pub fn rows_of(view: &dyn ReadView) -> Rows {
    let mut rows = Rows::new();
    for bucket in Bucket::ALL {
        view.scan(bucket, b"", None, &mut |key, value| {
            rows.insert((bucket, key.to_vec()), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    rows.remove(&(Bucket::Meta, node_base::backend::CONSISTENT_INDEX.to_vec()));
    rows
}

pub struct Member {
    pub backend: Arc<dyn Engine>,
    pub marks: Arc<Watermarks>,
    pub next: u64,
}

impl Member {
    /// A member of the RocksDB engine.
    pub fn start(root: &Path, options: EngineOptions) -> Self {
        Self::on(EngineKind::Rocksdb, root, options)
    }

    /// Opens as a start-up does: tidy, sync, open, attach; what is below E counts as verified.
    pub fn on(kind: EngineKind, root: &Path, options: EngineOptions) -> Self {
        let dir = DataDir::new(root);
        node_backend::snapshot::tidy(&dir).unwrap();
        dir.sync_leftovers().unwrap();
        let backend = dispatch::open(dir, kind, options).unwrap();
        let opened = backend.opened();
        // A planted bug may have left N > E; the marks are not what these tests look at then.
        let persisted = opened.persisted.min(opened.engine.map(|e| e.index)).map(at);
        let marks = Arc::new(Watermarks::at_start(persisted, opened.engine, Some(u64::MAX)));
        backend.attach(marks.clone()).unwrap();
        if let Some(e) = opened.engine {
            backend.verified(e).unwrap();
        }
        Self { backend, marks, next: opened.engine.map_or(0, |e| e.index + 1) }
    }

    /// Applies entries as the state machine does: they share commits where the engine asks for it.
    pub fn apply(&mut self, count: u64) {
        let end = self.next + count;
        commit_up_to(&*self.backend, self.next, end, self.backend.commits_are_costly());
        self.next = end;
        self.backend.settle().unwrap();
    }
}

/// N and E of a dead directory of the RocksDB engine, after a check that E's state is a prefix
/// (claim 1).
pub fn open_dead(root: &Path) -> (Option<u64>, Option<u64>) {
    open_dead_on(EngineKind::Rocksdb, root)
}

/// The same for any engine.
pub fn open_dead_on(kind: EngineKind, root: &Path) -> (Option<u64>, Option<u64>) {
    let dir = DataDir::new(root);
    node_backend::snapshot::tidy(&dir).unwrap();
    let backend = dispatch::open(dir, kind, small()).unwrap();
    let opened = backend.opened();
    let e = opened.engine.map(|e| e.index);
    assert!(rows(&*backend) == model(e), "claim 1: the state at {e:?} is not the prefix of the log");
    (opened.persisted, e)
}

/// Differences of a child from a plain writer.
#[derive(Default, Clone)]
pub struct Orders {
    pub role: &'static str,
    pub arm: Option<(Window, u64)>,
    pub bug: Option<&'static str>,
}

pub struct Victim {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Victim {
    pub fn spawn(root: &Path, orders: &Orders) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("CHILD_DIR", root)
            .env("CHILD_ROLE", orders.role);
        if let Some((window, hit)) = orders.arm {
            command.env("CHILD_ARM", format!("{} {hit}", window.name()));
        }
        if let Some(bug) = orders.bug {
            command.env("CHILD_BUG", bug);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for a line that contains `what`; false if the child ends first.
    pub fn wait_for(&mut self, what: &str) -> bool {
        self.lines.by_ref().map_while(Result::ok).any(|line| line.contains(what))
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn exit_code(mut self) -> Option<i32> {
        while self.lines.next().is_some_and(|line| line.is_ok()) {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's directory and role, if this process is one; arms and plants what it was told to.
pub fn orders_of_child() -> Option<(std::path::PathBuf, String)> {
    let root = std::env::var_os("CHILD_DIR")?;
    if let Ok(arm) = std::env::var("CHILD_ARM") {
        let (window, hit) = arm.split_once(' ').unwrap();
        failpoint::arm(window.parse().unwrap(), hit.parse().unwrap());
    }
    #[cfg(feature = "sabotage")]
    if let Ok(bug) = std::env::var("CHILD_BUG") {
        node_base::sabotage::plant(&bug).unwrap();
    }
    Some((root.into(), std::env::var("CHILD_ROLE").unwrap_or_default()))
}

/// Says `line` to the parent; without a parent the child ends.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// The engine that a child's role names, RocksDB if none.
pub fn engine_of(role: &str) -> EngineKind {
    role.split(' ').find_map(EngineKind::parse).unwrap_or(EngineKind::Rocksdb)
}

/// Applies entries until it is killed (or a bound that a lost parent cannot raise), a line for each
/// hundred.
pub fn write_on(kind: EngineKind, root: &Path, options: EngineOptions) {
    let mut member = Member::on(kind, root, options);
    for _ in 0..3_000 {
        member.apply(100);
        say(&format!("applied {}", member.next));
    }
}
