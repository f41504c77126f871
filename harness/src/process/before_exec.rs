//! The only unsafe code of the harness: what runs in a child between fork and exec.
#![allow(unsafe_code)]

use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes `command`'s child die by SIGKILL as soon as the calling thread ends, however that happens.
pub fn die_with_this_thread(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs in a forked copy of a process that had other threads, so it may only do what is
    // async-signal-safe: it makes two raw system calls, compares two integers, and allocates nothing on any path.
    unsafe {
        command.pre_exec(move || set_death_signal(parent));
    }
}

/// Gives `command`'s child a limit of open files, soft and hard, that it cannot raise again unless it is root.
pub fn limit_open_files(command: &mut Command, limit: u64) {
    // SAFETY: as above; the closure makes one raw system call with two integers that it owns.
    unsafe {
        command.pre_exec(move || {
            let limit = Some(limit);
            Ok(setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?)
        });
    }
}

fn set_death_signal(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that died before the line above sends nothing any more: then this child must end by itself.
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()))
    }
}
