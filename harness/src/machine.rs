//! The resources that the machine has left, by the kernel's own account, while a run goes on.
//!
//! A machine that runs out of something makes members die, refuse and be late, and nothing of that
//! says anything about the system. But a member's words alone excuse it of nothing, because a bug
//! may speak of a full disk as well. So three things are told apart:
//!
//! 1. *The disk is full*: the filesystem of the report directory has nothing left. The run ends at
//!    once, as [`Class::MachineExhausted`].
//! 2. *It was short of something*: little was left of the disk or of the system's file table, or
//!    the kernel killed a process for memory, a moment ago. Then a death whose last words speak of
//!    that, and a lateness, are the machine's ([`Machine::short`]).
//! 3. *The harness's own* file operation failed for that reason ([`of_error`]).
//!
//! A broken invariant, wrong data and wrong answers are the system's whatever the machine was short
//! of: nothing here excuses them.
//!
//! [`Class::MachineExhausted`]: ninelives_evidence::verdict::Class::MachineExhausted

use crate::process::environment::unified;
use crate::timer;
use ninelives_evidence::resource::Resource;
use ninelives_evidence::{clock, limits};
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A moment in which there was too little of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    pub resource: Resource,
    /// The kernel's words.
    pub found: String,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found)
    }
}

/// The watch over one run's machine. It ends when the last handle is gone.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    kills_before: u64,
    seen: Mutex<Vec<(Resource, Instant, String)>>,
    full: watch::Sender<Option<Shortage>>,
}

/// One reading of the report's filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Disk {
    free_bytes: u64,
    /// `None`: it has no fixed number of them.
    free_inodes: Option<u64>,
}

impl Machine {
    /// Begins to watch the machine, and the filesystem that holds `root`. To be called within a
    /// tokio runtime.
    pub fn watch(root: &Path) -> Arc<Self> {
        let machine = Arc::new(Self {
            root: root.to_owned(),
            kills_before: kills_for_memory(),
            seen: Mutex::default(),
            full: watch::channel(None).0,
        });
        let watched = Arc::downgrade(&machine);
        tokio::spawn(async move {
            while let Some(machine) = watched.upgrade() {
                machine.look();
                drop(machine);
                // There is no event for it.
                timer::sleep(limits::MACHINE_LOOK_PAUSE).await;
            }
        });
        machine
    }

    /// Looks now.
    fn look(&self) {
        if let Some(disk) = free(&self.root) {
            let words = || format!("{disk} at {}", self.root.display());
            if disk.is_low() {
                self.note(Resource::Disk, words());
            }
            if disk.is_full() {
                let shortage = Shortage { resource: Resource::Disk, found: words() };
                self.full.send_if_modified(|full| full.is_none() && full.replace(shortage).is_none());
            }
        }
        let kills = kills_for_memory();
        if kills > self.kills_before {
            self.note(
                Resource::Memory,
                format!("the kernel killed {} processes for memory", kills - self.kills_before),
            );
        }
        if let Some((open, most)) = file_table().filter(|(open, most)| *open >= most / 100 * limits::FILE_TABLE_PERCENT)
        {
            self.note(Resource::Files, format!("{open} of the {most} files that the system may have open"));
        }
    }

    fn note(&self, resource: Resource, found: String) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(one, ..)| *one != resource);
        seen.push((resource, clock::now(), found));
    }

    /// The shortages now and within the last `lately`.
    pub fn short(&self, lately: Duration) -> Vec<Shortage> {
        self.look();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = seen.iter().filter(|(_, at, _)| clock::now() - *at <= lately);
        recent.map(|(resource, _, found)| Shortage { resource: *resource, found: found.clone() }).collect()
    }

    /// Becomes ready once the disk is full.
    pub async fn full(&self) {
        if self.full.subscribe().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The shortage when the disk was first full; `None`: it never was.
    pub fn was_full(&self) -> Option<Shortage> {
        self.full.borrow().clone()
    }

    #[cfg(test)]
    pub fn that_was_short(resource: Resource) -> Arc<Self> {
        let machine =
            Self { root: "/".into(), kills_before: u64::MAX, seen: Mutex::default(), full: watch::channel(None).0 };
        machine.note(resource, "a test".to_owned());
        Arc::new(machine)
    }
}

impl Disk {
    /// Writes fail that a database makes in one piece.
    fn is_low(self) -> bool {
        self.free_bytes < limits::DISK_LOW_BYTES || self.free_inodes.is_some_and(|free| free < limits::DISK_LOW_INODES)
    }

    /// All writes fail.
    fn is_full(self) -> bool {
        self.free_bytes < limits::DISK_FULL_BYTES || self.free_inodes == Some(0)
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", self.free_bytes / 1024)?;
        if let Some(inodes) = self.free_inodes {
            write!(f, " and {inodes} inodes")?;
        }
        f.write_str(" free")
    }
}

/// Free space on the filesystem of `path` for this user; `None`: it does not tell.
fn free(path: &Path) -> Option<Disk> {
    let stat = statvfs(path).ok()?;
    let (blocks, inodes) = if geteuid().is_root() {
        (stat.blocks_free(), stat.files_free())
    } else {
        (stat.blocks_available(), stat.files_available())
    };
    let free_inodes = (stat.files() > 0).then_some(inodes);
    Some(Disk { free_bytes: blocks.saturating_mul(stat.fragment_size()), free_inodes })
}

/// Processes that the kernel has killed for memory: in this control group if it counts, or else on
/// this machine.
fn kills_for_memory() -> u64 {
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let events = unified(&group).map(|path| format!("/sys/fs/cgroup{path}/memory.events"));
    let events = events.and_then(|path| std::fs::read_to_string(path).ok());
    events
        .or_else(|| std::fs::read_to_string("/proc/vmstat").ok())
        .and_then(|text| counter(&text, "oom_kill"))
        .unwrap_or(0)
}

/// The number behind `name` in lines of name and number.
fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once(' ').filter(|(one, _)| *one == name)?.1.trim().parse().ok())
}

/// Files that are open on this machine, and how many may be.
fn file_table() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/sys/fs/file-nr").ok()?;
    let mut words = text.split_whitespace();
    let open = words.next()?.parse().ok()?;
    Some((open, words.nth(1)?.parse().ok()?))
}

/// The resource that ran out, by an error of one of our own system calls.
pub fn of_error(error: &anyhow::Error) -> Option<Resource> {
    error.chain().find_map(|cause| Resource::of_io(cause.downcast_ref::<std::io::Error>()?))
}

/// The resource that ran out, by a program's words, in the forms of the C library and of Go, Rust
/// and C++ programs.
pub fn of_words(text: &str) -> Option<Resource> {
    let text = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|one| text.contains(one));
    if says(&["no space left on device", "os error 28)", "enospc", "disk quota exceeded", "os error 122)"]) {
        Some(Resource::Disk)
    } else if says(&[
        "cannot allocate memory",
        "out of memory",
        "memory allocation of",
        "os error 12)",
        "std::bad_alloc",
    ]) {
        Some(Resource::Memory)
    } else if says(&["too many open files", "os error 24)", "os error 23)"]) {
        Some(Resource::Files)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_low_before_it_is_full() {
        let disk = |free_bytes, free_inodes| Disk { free_bytes, free_inodes };
        for (disk, low, full) in [
            (disk(1 << 30, Some(1_000_000)), false, false),
            (disk(1 << 30, None), false, false),
            (disk(limits::DISK_LOW_BYTES - 1, None), true, false),
            (disk(0, None), true, true),
            (disk(1 << 30, Some(0)), true, true),
        ] {
            assert_eq!((disk.is_low(), disk.is_full()), (low, full), "{disk}");
        }
        assert_eq!(disk(4096, Some(7)).to_string(), "4 KiB and 7 inodes free");
        assert!(free(Path::new("/")).is_some() && free(Path::new("/nonexistent")).is_none());
    }

    #[test]
    fn words_and_errors_name_what_there_was_none_of() {
        for (words, resource) in [
            ("IO error: No space left on device: While appending to file", Some(Resource::Disk)),
            ("write failed: No space left on device (os error 28)", Some(Resource::Disk)),
            ("memory allocation of 4096 bytes failed", Some(Resource::Memory)),
            ("accept: too many open files; retrying", Some(Resource::Files)),
            ("checksum mismatch", None),
        ] {
            assert_eq!(of_words(words), resource, "{words}");
        }
        let error = anyhow::Error::new(std::io::Error::from_raw_os_error(28)).context("cannot copy n1");
        assert_eq!(of_error(&error), Some(Resource::Disk));
        assert_eq!(of_error(&anyhow::anyhow!("No space left on device")), None, "words alone are not an error of ours");
    }

    #[test]
    fn the_kernels_counters_are_read() {
        assert_eq!(counter("low 0\noom 3\noom_kill 2\n", "oom_kill"), Some(2));
        assert_eq!(counter("oom_kill_disable 1\n", "oom_kill"), None);
        let (open, most) = file_table().unwrap();
        assert!(open > 0 && most >= open);
    }

    #[tokio::test]
    async fn a_shortage_is_remembered_for_a_while() {
        let machine = Machine::that_was_short(Resource::Disk);
        let found: Vec<_> = machine.short(Duration::from_secs(60)).into_iter().map(|one| one.resource).collect();
        assert!(found.contains(&Resource::Disk), "{found:?}");
        assert!(timer::within(Duration::from_millis(20), machine.full()).await.is_none());
    }
}
