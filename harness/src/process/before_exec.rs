//! The only unsafe code of the harness: the code that runs in a child between fork and exec.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, getpid, getppid};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The permissions that files of a child do not get.
const UMASK: Mode = Mode::S_IWGRP.union(Mode::S_IWOTH);
/// The highest number of a signal on Linux.
const SIGNAL_MAX: i32 = 64;
/// Descriptors that are looked at one by one where the kernel is older than `close_range` with this
/// flag (5.11).
const DESCRIPTORS_MAX: i32 = 4_096;

/// Makes `command`'s child die by SIGKILL as soon as the calling thread ends, however that happens,
/// and begin with nothing of what this process was given or has opened: descriptors, ignored
/// signals, a umask.
pub fn begin_clean(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure runs in a forked copy of a process that had other threads, so it may only
    // do what is async-signal-safe: it makes system calls, compares integers, and allocates
    // nothing on any path.
    unsafe {
        command.pre_exec(move || {
            set_death_signal(parent)?;
            forget_inheritance();
            Ok(())
        });
    }
}

/// Gives `command`'s child a limit of open files, soft and hard, that it cannot raise again unless
/// it is root.
pub fn limit_open_files(command: &mut Command, limit: u64) {
    // SAFETY: as above; the closure makes one system call with two integers that it owns.
    unsafe {
        command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?));
    }
}

fn set_death_signal(parent: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // A parent that died before the line above causes no signal any more: then this child must end
    // by itself.
    if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

fn forget_inheritance() {
    umask(UMASK);
    // A signal that was ignored stays so across an exec. SIGKILL and SIGSTOP are refused, and need
    // nothing; the standard library has emptied the mask of blocked ones. The calls are those of
    // `libc`, because `nix` knows neither real-time signals nor `close_range`.
    for signal in 1..=SIGNAL_MAX {
        // SAFETY: installs no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // Not closed at once, because the standard library still reports through one of them why an
    // exec failed. SAFETY: changes a flag of descriptors, and none is used after the exec but the
    // standard three.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked != 0 {
        for descriptor in 3..DESCRIPTORS_MAX {
            // SAFETY: as above; the kernel refuses a number that is not a descriptor.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}
