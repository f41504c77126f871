//! Costs of the engines: applying, moving a whole state between any two of them, and changing from
//! one to the other.
//!
//! `cargo bench --workspace --bench engines` prints
//! - how fast each applies entries, in groups of several sizes that share a commit where the engine
//!   asks for it, and without that;
//! - for each pair of engines the time of a snapshot between two processes and the peak memory of
//!   each, for a small and a large state: memory that grows with the state is a bug, and shows in
//!   the second line of a pair;
//! - how long an engine takes to open after its process was aborted;
//! - a change of engine there and back, with equal hashes.
//!
//! `STATE_MIB` (default 1024) and `KEYS` (default 1000000) set the sizes.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark ends where it fails, and measures time"
)]

use node_backend::dispatch;
use node_backend::engine::{Engine, EngineKind, EngineOptions};
use node_backend::layout::DataDir;
use node_backend::marker;
use node_backend::migrate::migrate;
use node_backend::snapshot;
use node_base::LogId;
use node_base::backend::{Batch, Bucket, Declared, hash};
use node_base::watermarks::Watermarks;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

const SMALL_MIB: u64 = 64;
const VALUE_BYTES: usize = 1_000;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["send", kind, dir] => send(EngineKind::parse(kind).unwrap(), Path::new(dir)),
        ["receive", kind, dir] => receive(EngineKind::parse(kind).unwrap(), Path::new(dir)),
        ["abort", kind, dir] => abort(EngineKind::parse(kind).unwrap(), Path::new(dir)),
        // `cargo bench` adds a flag of its own.
        _ => measure(),
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: expected a number")))
}

fn measure() {
    let tmp = tempfile::tempdir().unwrap();
    for kind in EngineKind::ALL {
        for (group, share) in [(1, true), (16, true), (128, true), (128, false)] {
            let dir = tmp.path().join(format!("apply-{kind}-{group}-{share}"));
            let rate = apply_rate(kind, &dir, group, share);
            let each = if share { "" } else { ", a commit each" };
            println!("{:20} {rate:10.0} entries/s in groups of {group}{each}", format!("{kind} applies"));
        }
    }
    println!(
        "{:20} {:>10} {:>9} {:>16} {:>18}",
        "snapshot", "wire bytes", "seconds", "sender peak KiB", "receiver peak KiB"
    );
    for from in EngineKind::ALL {
        for mib in [SMALL_MIB, number("STATE_MIB", 1024)] {
            let source = tmp.path().join(format!("{from}-{mib}"));
            fill(from, &source, (mib << 20) / VALUE_BYTES as u64, VALUE_BYTES);
            for to in EngineKind::ALL {
                transfer(from, to, &source, &tmp.path().join("target"));
            }
            reopen(from, &source, mib);
            std::fs::remove_dir_all(source).unwrap();
        }
    }
    let keys = number("KEYS", 1_000_000);
    let dir = DataDir::new(tmp.path().join("migrated"));
    fill(EngineKind::Redb, dir.root(), keys, 100);
    let before = content(EngineKind::Redb, &dir);
    for to in [EngineKind::Rocksdb, EngineKind::Redb] {
        let started = Instant::now();
        let done = migrate(&dir, to).unwrap().unwrap();
        let seconds = started.elapsed().as_secs_f64();
        assert_eq!(content(to, &dir), before, "the content hashes must be equal");
        println!("migrate {} to {to}: {} rows in {seconds:.1} s, equal content hashes", done.from, done.rows.unwrap());
    }
}

/// Entries of 300 bytes per second, a settle after each `group` of them: how fast a member that has
/// a backlog catches up. `share`: a group is one commit, if the engine asks for it.
fn apply_rate(kind: EngineKind, dir: &Path, group: u64, share: bool) -> f64 {
    const ENTRIES: u64 = 8_192;
    let backend = open(kind, dir);
    let share = share && backend.commits_are_costly();
    let started = Instant::now();
    let mut batch = Batch::default();
    for index in 0..ENTRIES {
        let ends = (index + 1) % group == 0;
        batch.put(Bucket::Key, index.to_be_bytes(), vec![index as u8; 300]);
        if ends || !share {
            backend.commit(std::mem::take(&mut batch), LogId::new(1, index)).unwrap();
        }
        if ends {
            backend.settle().unwrap();
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    backend.close().unwrap();
    ENTRIES as f64 / seconds
}

fn content(kind: EngineKind, dir: &DataDir) -> [u8; 32] {
    hash(&*kind.open_image(&dir.db()).unwrap()).unwrap()
}

fn open(kind: EngineKind, dir: &Path) -> Arc<dyn Engine> {
    marker::claim(&DataDir::new(dir), kind).unwrap();
    let backend = dispatch::open(DataDir::new(dir), kind, EngineOptions::default()).unwrap();
    let opened = backend.opened();
    backend.attach(Arc::new(Watermarks::at_start(opened.engine, opened.engine, Some(u64::MAX)))).unwrap();
    if let Some(engine) = opened.engine {
        backend.verified(engine).unwrap();
    }
    backend
}

/// Rows whose values do not compress, a thousand to an entry.
fn fill(kind: EngineKind, dir: &Path, rows: u64, value_bytes: usize) {
    let backend = open(kind, dir);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for entry in 0..rows.div_ceil(1_000) {
        let mut batch = Batch::default();
        for row in entry * 1_000..((entry + 1) * 1_000).min(rows) {
            let value: Vec<u8> = std::iter::repeat_with(|| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random.to_le_bytes()
            })
            .flatten()
            .take(value_bytes)
            .collect();
            batch.put(Bucket::Key, row.to_be_bytes(), value);
        }
        backend.commit(batch, LogId::new(1, entry)).unwrap();
        backend.settle().unwrap();
    }
    backend.flush().unwrap();
    backend.close().unwrap();
}

fn child(role: &str, kind: EngineKind, dir: &Path, stdin: Stdio, stdout: Stdio) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([role, kind.name()]).arg(dir).stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
}

fn transfer(from: EngineKind, to: EngineKind, source: &Path, target: &PathBuf) {
    let started = Instant::now();
    let mut sender = child("send", from, source, Stdio::null(), Stdio::piped());
    let stream = sender.stdout.take().unwrap();
    let receiver = child("receive", to, target, stream.into(), Stdio::null());
    let [(wire_size, sent), (_, received)] = [sender, receiver].map(outcome);
    let seconds = started.elapsed().as_secs_f64();
    println!("{:20} {wire_size:10} {seconds:9.1} {sent:16} {received:18}", format!("{from} to {to}"));
    std::fs::remove_dir_all(target).unwrap();
}

/// Measures how long an open takes after an end in the middle of a commit.
fn reopen(kind: EngineKind, dir: &Path, mib: u64) {
    let ended = child("abort", kind, dir, Stdio::null(), Stdio::null()).wait().unwrap();
    assert!(!ended.success());
    let started = Instant::now();
    let backend = open(kind, dir);
    println!("{:20} {mib:7} MiB {:9.2}", format!("{kind} reopened"), started.elapsed().as_secs_f64());
    backend.close().unwrap();
}

fn abort(kind: EngineKind, dir: &Path) {
    let backend = open(kind, dir);
    let next = backend.opened().engine.unwrap().index + 1;
    for index in next..next + 2 {
        // Nothing of an engine's own closing may have run: its files are as a kill finds them.
        let mut batch = Batch::default();
        batch.put(Bucket::Key, index.to_be_bytes(), "unfinished business");
        backend.commit(batch, LogId::new(1, index)).unwrap();
        if index == next {
            backend.settle().unwrap();
        }
    }
    std::process::abort();
}

/// The child's own account: the stream's length, and its peak memory in KiB.
fn outcome(mut child: Child) -> (u64, u64) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    let last = said.lines().last().unwrap();
    let (wire_size, peak) = last.split_once(' ').unwrap();
    (wire_size.parse().unwrap(), peak.parse().unwrap())
}

fn say_outcome(wire_size: u64) {
    let status = BufReader::new(File::open("/proc/self/status").unwrap());
    let peak = status.lines().map_while(Result::ok).find_map(|line| {
        let rest = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.to_owned();
        rest.parse::<u64>().ok()
    });
    eprintln!("{wire_size} {}", peak.unwrap());
}

/// Sends the head (length, whether there is a digest, the digest) and the stream to standard
/// output.
fn send(kind: EngineKind, dir: &Path) {
    let backend = open(kind, dir);
    let mut snapshot = backend.snapshot().unwrap();
    let mut out = io::stdout().lock();
    let Declared { wire_size, sha256 } = snapshot.declared;
    out.write_all(&wire_size.to_be_bytes()).unwrap();
    out.write_all(&snapshot.log_id.encode()).unwrap();
    out.write_all(&[u8::from(sha256.is_some())]).unwrap();
    out.write_all(&sha256.unwrap_or_default()).unwrap();
    assert_eq!(io::copy(&mut snapshot.reader, &mut out).unwrap(), wire_size);
    out.flush().unwrap();
    say_outcome(wire_size);
}

fn receive(kind: EngineKind, dir: &Path) {
    let backend = open(kind, dir);
    let mut source = io::stdin().lock();
    let mut head = [0; 8 + LogId::ENCODED_BYTES + 1 + 32];
    source.read_exact(&mut head).unwrap();
    let wire_size = u64::from_be_bytes(head[..8].try_into().unwrap());
    let log_id = LogId::decode(&head[8..24]).unwrap();
    let sha256 = (head[24] == 1).then(|| head[25..].try_into().unwrap());
    snapshot::receive(&*backend, log_id, Declared { wire_size, sha256 }, &mut source).unwrap();
    backend.install_snapshot(log_id, &mut || Ok(())).unwrap();
    assert_eq!(node_base::backend::consistent_index(&*backend.read()).unwrap(), Some(log_id));
    say_outcome(wire_size);
}
