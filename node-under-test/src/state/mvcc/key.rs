//! A key among many, in a check whose cost must not grow with the square of their number.
//!
//! Code reaches its bytes only by comparing or copying keys, and test builds count both. So a check
//! that looks at each pair of keys is seen in the counts.

use bytes::Bytes;
use std::cmp::Ordering;

#[derive(Debug, Eq)]
pub struct Key(Bytes);

impl From<Bytes> for Key {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        steps::count();
        Self(self.0.clone())
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        steps::count();
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

#[cfg(not(test))]
mod steps {
    pub fn count() {}
}

/// Comparisons and copies of keys on this thread.
#[cfg(test)]
pub mod steps {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub fn count() {
        STEPS.set(STEPS.get() + 1);
    }

    /// The steps that `work` takes, beside its result.
    pub fn of<T>(work: impl FnOnce() -> T) -> (u64, T) {
        let before = STEPS.get();
        let done = work();
        (STEPS.get() - before, done)
    }
}
