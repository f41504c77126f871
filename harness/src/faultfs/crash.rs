//! A crash state, by its difference from the live state.

use super::change::Numbered;
use super::unsynced::{Ino, PAGE};
use crate::seed::Stream;
use std::collections::BTreeSet;

/// Unit that a disk writes whole.
const SECTOR: usize = 512;

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Crash {
    /// Changes of names that are lost, newest first.
    pub names: Vec<Numbered>,
    pub files: Vec<Damage>,
}

/// The data that a file loses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Damage {
    pub ino: Ino,
    /// The size that it gets, if that is another one.
    pub size: Option<LostSize>,
    pub pages: Vec<LostPage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LostSize {
    /// The first operation that changed it and is lost.
    pub operation: u64,
    pub was: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LostPage {
    pub page: u64,
    /// The first operation that wrote to it and is lost.
    pub operation: u64,
    /// The content that it gets; nothing is zeros.
    pub bytes: Vec<u8>,
    /// Sectors of both states stand in it.
    pub is_torn: bool,
}

impl Crash {
    /// The operations that lose something, each once; those of one file side by side.
    pub fn operations(&self) -> Vec<u64> {
        let of_files = self.files.iter().flat_map(Damage::operations);
        of_files.chain(self.names.iter().map(|named| named.operation)).collect()
    }
}

impl Damage {
    /// The operations that lose something, each once.
    pub fn operations(&self) -> BTreeSet<u64> {
        let pages = self.pages.iter().map(|page| page.operation);
        pages.chain(self.size.map(|size| size.operation)).collect()
    }

    /// The part that loses no other operations than these; `None`: nothing.
    pub fn part(&self, operations: &BTreeSet<u64>) -> Option<Self> {
        let size = self.size.filter(|size| operations.contains(&size.operation));
        let pages = self.pages.iter().filter(|page| operations.contains(&page.operation));
        let part = Self { ino: self.ino, size, pages: pages.cloned().collect() };
        (part.size.is_some() || !part.pages.is_empty()).then_some(part)
    }

    /// The pages in which sectors of both states stand.
    pub fn torn(&self) -> u64 {
        self.pages.iter().filter(|page| page.is_torn).count() as u64
    }
}

/// A page in which each sector is that of one state or of the other.
pub fn torn(durable: &[u8], live: &[u8], draws: &mut Stream) -> Vec<u8> {
    let whole = |bytes: &[u8]| [bytes, &vec![0; (PAGE as usize).saturating_sub(bytes.len())]].concat();
    let (mut page, live) = (whole(durable), whole(live));
    for (sector, new) in page.chunks_mut(SECTOR).zip(live.chunks(SECTOR)) {
        if draws.chance(1, 2) {
            sector.copy_from_slice(new);
        }
    }
    page
}
