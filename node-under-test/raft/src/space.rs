//! Members that have too little room on their disks to take more writes.
//!
//! Entries reach a follower through append messages alone, so that is the way on which it says that
//! it is short: each answer to its leader says so or not. The leader's own messages say in turn
//! whether any member is short, itself included, so that each member can refuse a write where its
//! client asked. What a member passes on is its own measurement, or, if it leads, a follower's;
//! never what it was told by a leader, or two members would keep a shortage alive between them.
//!
//! A word holds for [`WORD_HOLDS`]: a member that is gone does not stop the others.

use crate::clock::Deadline;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Some dozens of heartbeats.
const WORD_HOLDS: Duration = Duration::from_secs(2);

/// The others' last word about their disks. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shortage {
    short: Arc<Mutex<BTreeMap<u64, Deadline>>>,
}

impl Shortage {
    /// Member `id` says whether it is short, or knows of one that is.
    pub fn note(&self, id: u64, is_short: bool) {
        self.note_until(id, is_short, Deadline::after(WORD_HOLDS));
    }

    fn note_until(&self, id: u64, is_short: bool, until: Deadline) {
        let mut short = self.short.lock().unwrap_or_else(PoisonError::into_inner);
        if is_short {
            short.insert(id, until);
        } else {
            short.remove(&id);
        }
    }

    /// A member that is short, by a word that still holds.
    pub fn any(&self) -> Option<u64> {
        let mut short = self.short.lock().unwrap_or_else(PoisonError::into_inner);
        short.retain(|_, until| !until.is_over());
        short.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_until_it_is_taken_back_or_is_over() {
        let shortage = Shortage::default();
        assert_eq!(shortage.any(), None);
        shortage.note(2, true);
        shortage.note(3, true);
        shortage.note(2, false);
        assert_eq!(shortage.any(), Some(3));
        shortage.note_until(3, true, Deadline::after(Duration::ZERO));
        assert_eq!(shortage.any(), None);
    }
}
