//! Random sequences of calls, on the host's filesystem and on a mount of it.

use super::calls::{Calls, Opened};
use super::case::{Both, differences};
use nix::fcntl::{FallocateFlags, RenameFlags};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use rustix::fs::{FlockOperation, OFlags, SeekFrom};
use std::cell::Cell;

/// Names in three levels: short sequences meet each other.
const NAMES: [&str; 8] = ["a", "b", "d", "d/a", "d/b", "d/d", "d/d/a", "e/a"];
/// Directories as they are listed at the end.
const DIRECTORIES: [&str; 5] = [".", "d", "d/d", "e", "a"];
/// Descriptors that a sequence holds at most.
const DESCRIPTORS: usize = 3;

#[derive(Debug, Clone)]
enum Call {
    Open { descriptor: usize, name: &'static str, how: OFlags },
    Close { descriptor: usize },
    Write { descriptor: usize, byte: u8, length: usize },
    WriteAt { descriptor: usize, byte: u8, at: u64, length: usize },
    ReadAt { descriptor: usize, at: u64 },
    Resize { descriptor: usize, size: u64 },
    Allocate { descriptor: usize, how: FallocateFlags, at: i64, length: i64 },
    Copy { from: usize, to: usize, at: u64, length: usize },
    Sync { descriptor: usize, data_only: bool },
    Lock { descriptor: usize, how: FlockOperation },
    Seek { descriptor: usize, at: u64 },
    Attributes { descriptor: usize },
    Mkdir(&'static str),
    Rmdir(&'static str),
    Unlink(&'static str),
    Link(&'static str, &'static str),
    Rename(&'static str, &'static str, RenameFlags),
    Chmod(&'static str, u32),
    Stat(&'static str),
    List(&'static str),
    Content(&'static str),
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.to_vec())
}

fn call() -> impl Strategy<Value = Call> {
    let descriptor = || 0..DESCRIPTORS;
    let hows = [
        OFlags::RDWR | OFlags::CREATE,
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
        OFlags::RDONLY,
        OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
        OFlags::RDWR | OFlags::CREATE | OFlags::APPEND,
        OFlags::WRONLY | OFlags::DSYNC,
        OFlags::RDONLY | OFlags::DIRECTORY,
    ];
    let renames = [RenameFlags::empty(), RenameFlags::RENAME_NOREPLACE, RenameFlags::RENAME_EXCHANGE];
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let rooms = [
        FallocateFlags::empty(),
        keep,
        FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep,
        FallocateFlags::FALLOC_FL_ZERO_RANGE,
    ];
    let locks = [
        FlockOperation::NonBlockingLockShared,
        FlockOperation::NonBlockingLockExclusive,
        FlockOperation::NonBlockingUnlock,
    ];
    let select = |hows: Vec<OFlags>| prop::sample::select(hows);
    prop_oneof![
        6 => (descriptor(), name(), select(hows.to_vec()))
            .prop_map(|(descriptor, name, how)| Call::Open { descriptor, name, how }),
        1 => descriptor().prop_map(|descriptor| Call::Close { descriptor }),
        2 => (descriptor(), any::<u8>(), 0..5_000usize)
            .prop_map(|(descriptor, byte, length)| Call::Write { descriptor, byte, length }),
        4 => (descriptor(), any::<u8>(), 0..20_000u64, 0..9_000usize)
            .prop_map(|(descriptor, byte, at, length)| Call::WriteAt { descriptor, byte, at, length }),
        2 => (descriptor(), 0..20_000u64).prop_map(|(descriptor, at)| Call::ReadAt { descriptor, at }),
        2 => (descriptor(), 0..20_000u64).prop_map(|(descriptor, size)| Call::Resize { descriptor, size }),
        2 => (descriptor(), prop::sample::select(rooms.to_vec()), 0..9_000i64, 0..9_000i64)
            .prop_map(|(descriptor, how, at, length)| Call::Allocate { descriptor, how, at, length }),
        1 => (descriptor(), descriptor(), 0..9_000u64, 0..9_000usize)
            .prop_map(|(from, to, at, length)| Call::Copy { from, to, at, length }),
        2 => (descriptor(), any::<bool>()).prop_map(|(descriptor, data_only)| Call::Sync { descriptor, data_only }),
        1 => (descriptor(), prop::sample::select(locks.to_vec()))
            .prop_map(|(descriptor, how)| Call::Lock { descriptor, how }),
        1 => (descriptor(), 0..9_000u64).prop_map(|(descriptor, at)| Call::Seek { descriptor, at }),
        2 => descriptor().prop_map(|descriptor| Call::Attributes { descriptor }),
        3 => name().prop_map(Call::Mkdir),
        1 => name().prop_map(Call::Rmdir),
        2 => name().prop_map(Call::Unlink),
        2 => (name(), name()).prop_map(|(from, to)| Call::Link(from, to)),
        5 => (name(), name(), prop::sample::select(renames.to_vec()))
            .prop_map(|(from, to, how)| Call::Rename(from, to, how)),
        1 => (name(), 0..0o1000u32).prop_map(|(name, mode)| Call::Chmod(name, mode)),
        2 => name().prop_map(Call::Stat),
        1 => name().prop_map(Call::List),
        1 => name().prop_map(Call::Content),
    ]
}

fn carry_out(all: &[Call], calls: &mut Calls) {
    let mut open: [Opened; DESCRIPTORS] = Default::default();
    for call in all {
        match *call {
            Call::Open { descriptor, name, how } => open[descriptor] = calls.open(name, how, 0o640),
            Call::Close { descriptor } => open[descriptor] = None,
            Call::Write { descriptor, byte, length } => calls.write(&open[descriptor], &vec![byte; length]),
            Call::WriteAt { descriptor, byte, at, length } => {
                calls.pwrite(&open[descriptor], &vec![byte; length], at);
            }
            Call::ReadAt { descriptor, at } => calls.pread(&open[descriptor], 9_000, at),
            Call::Resize { descriptor, size } => calls.ftruncate(&open[descriptor], size),
            Call::Allocate { descriptor, how, at, length } => calls.allocate(&open[descriptor], how, at, length),
            Call::Copy { from, to, at, length } => calls.copy_range(&open[from], &open[to], (at, at), length),
            Call::Sync { descriptor, data_only: true } => calls.fdatasync(&open[descriptor]),
            Call::Sync { descriptor, data_only: false } => calls.fsync(&open[descriptor]),
            Call::Lock { descriptor, how } => calls.flock(&open[descriptor], how),
            Call::Seek { descriptor, at } => calls.seek(&open[descriptor], SeekFrom::Start(at)),
            Call::Attributes { descriptor } => drop(calls.fstat(&open[descriptor])),
            Call::Mkdir(name) => calls.mkdir(name, 0o750),
            Call::Rmdir(name) => calls.rmdir(name),
            Call::Unlink(name) => calls.unlink(name),
            Call::Link(from, to) => calls.link(from, to),
            Call::Rename(from, to, how) => calls.rename_with(from, to, how),
            Call::Chmod(name, mode) => calls.chmod(name, mode),
            Call::Stat(name) => drop(calls.stat(name)),
            Call::List(name) => calls.names(name),
            Call::Content(name) => calls.content(name),
        }
    }
    for name in NAMES {
        calls.stat(name);
        calls.content(name);
    }
    DIRECTORIES.into_iter().for_each(|dir| calls.names(dir));
}

/// Compares so many random sequences.
///
/// # Errors
/// The shortest sequence that was found to differ, with the lines that do.
pub fn compare(sequences: u32, both: Both<'_>) -> Result<(), String> {
    let begun = Cell::new(0);
    let config = ProptestConfig { cases: sequences, failure_persistence: None, ..ProptestConfig::default() };
    let told = TestRunner::new(config).run(&prop::collection::vec(call(), 1..60), |all| {
        begun.set(begun.get() + 1);
        let (host, mount) = both.see(&format!("sequence-{}", begun.get()), |calls| carry_out(&all, calls));
        let differences: Vec<_> = differences(&host, &mount).collect();
        prop_assert!(differences.is_empty(), "{differences:#?}");
        Ok(())
    });
    told.map_err(|error| match error {
        TestError::Fail(why, calls) => format!("{calls:#?}\n{why}"),
        TestError::Abort(why) => why.to_string(),
    })
}
