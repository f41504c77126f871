//! Reads and writes that fail, and writes that are cut short.
//!
//! *Failing.* Of the operations of a kind on a class of file the n-th gets EIO, and it alone, or
//! all that come after it as well. Of a write that fails a part may be in the file, from its
//! beginning on. What a read was to give is not given.
//!
//! *Short.* Each write of more than a byte is carried out in part, and says so. POSIX allows that
//! at any time; the writer has to write the rest.
//!
//! A read that the kernel's page cache can answer does not come here. A read fails for as long as
//! its disk does and never once alone: the kernel repeats what it could not read ahead, so that no
//! program would see the error.

use super::point::Class;
use crate::seed::Stream;

/// A read or a write of a class of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    pub class: Class,
    pub reads: bool,
}

impl Access {
    /// `raft-log.write` or `sst.read`, of the node's files.
    pub fn parse(name: &str) -> Option<Self> {
        let (class, operation) = name.split_once('.')?;
        let class = Class::of_the_node(class)?;
        let reads = match operation {
            "read" => true,
            "write" => false,
            _ => return None,
        };
        Some(Self { class, reads })
    }
}

/// What becomes of a read or a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is carried out.
    Whole,
    /// So many of its bytes are written, and that is what the writer is told.
    Short(u64),
    /// So many of its bytes are written, and the answer is an error.
    Fails(u64),
}

#[derive(Debug)]
pub(super) struct Failing {
    pub access: Access,
    pub hit: u64,
    /// The operations after the one that is hit do not fail.
    pub once: bool,
    pub draws: Stream,
    pub passed: u64,
    pub met: u64,
}

#[derive(Debug)]
pub(super) struct Short {
    pub access: Access,
    pub draws: Stream,
    pub met: u64,
}

impl Failing {
    pub fn meet(&mut self, access: Access, length: u64) -> Fate {
        if self.access != access {
            return Fate::Whole;
        }
        self.passed += 1;
        let fails = if self.once { self.passed == self.hit } else { self.passed >= self.hit };
        if !fails {
            return Fate::Whole;
        }
        self.met += 1;
        Fate::Fails(if access.reads { 0 } else { self.draws.between(0, length) })
    }
}

impl Short {
    pub fn meet(&mut self, access: Access, length: u64) -> Fate {
        if self.access != access || length < 2 {
            return Fate::Whole;
        }
        self.met += 1;
        Fate::Short(self.draws.between(1, length - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use ninelives_evidence::damage::FileClass;

    const WRITE: Access = Access { class: Class::File(FileClass::RaftLog), reads: false };
    const READ: Access = Access { class: Class::File(FileClass::RaftLog), reads: true };

    fn failing(access: Access, hit: u64, once: bool) -> Failing {
        Failing { access, hit, once, draws: Seed::new(7).stream("disk"), passed: 0, met: 0 }
    }

    #[test]
    fn the_hit_fails_and_what_comes_after_it_unless_it_fails_alone() {
        let fates = |once| {
            let mut failing = failing(WRITE, 2, once);
            let other = Access { class: Class::File(FileClass::Sst), ..WRITE };
            assert_eq!((failing.meet(other, 9), failing.meet(READ, 9)), (Fate::Whole, Fate::Whole));
            let fates = [(); 4].map(|()| matches!(failing.meet(WRITE, 9), Fate::Fails(0..=9)));
            (fates, failing.met)
        };
        assert_eq!(fates(true), ([false, true, false, false], 1));
        assert_eq!(fates(false), ([false, true, true, true], 3));
    }

    #[test]
    fn a_read_gives_nothing_and_a_short_write_something() {
        assert_eq!(failing(READ, 1, false).meet(READ, 4096), Fate::Fails(0));
        let mut short = Short { access: WRITE, draws: Seed::new(7).stream("disk"), met: 0 };
        assert!((0..100).all(|_| matches!(short.meet(WRITE, 4096), Fate::Short(1..4096))));
        assert_eq!((short.meet(WRITE, 2), short.meet(WRITE, 1)), (Fate::Short(1), Fate::Whole));
        assert_eq!((short.meet(READ, 9), short.met), (Fate::Whole, 101));
    }
}
