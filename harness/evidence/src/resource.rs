//! The resources that a machine runs out of, by the errors of our own system calls.

use nix::errno::Errno;
use std::io;

/// The resource that ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Disk,
    Memory,
    Files,
}

impl Resource {
    /// The resource that ran out, by one system call's error.
    pub fn of_io(error: &io::Error) -> Option<Self> {
        match Errno::from_raw(error.raw_os_error()?) {
            Errno::ENOSPC | Errno::EDQUOT => Some(Self::Disk),
            Errno::ENOMEM => Some(Self::Memory),
            Errno::EMFILE | Errno::ENFILE => Some(Self::Files),
            _ => None,
        }
    }
}
