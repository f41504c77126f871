//! The number of bytes of the file that hold rows, or lead to them.
//!
//! redb can tell only by reading every page. So the pages are counted once for each file, at the
//! first question; from then on each commit says by how many bytes its rows differ from those that
//! they replace. Asking again costs nothing.

use super::lock;
use node_base::backend::Result;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

#[derive(Default)]
pub(super) struct InUse {
    /// The file whose pages were counted, and their bytes less `grown` at that moment. Held while
    /// they are counted, so that they are counted once.
    counted: Mutex<Option<(u64, i64)>>,
    /// Bytes by which rows have grown since the member was started.
    grown: AtomicI64,
    /// Number of files that were in use before this one.
    file: AtomicU64,
}

impl InUse {
    /// Notes that rows grew by `bytes`.
    pub fn grew(&self, bytes: i64) {
        self.grown.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn grown(&self) -> i64 {
        self.grown.load(Ordering::Relaxed)
    }

    /// Bytes in use; `count` reads the pages of a view, and says what [`grown`](Self::grown) was
    /// when that was taken.
    pub fn bytes(&self, count: impl FnOnce() -> Result<(u64, i64)>) -> Result<u64> {
        let mut counted = lock(&self.counted);
        let file = self.file.load(Ordering::Acquire);
        let base = match *counted {
            Some((of, base)) if of == file => base,
            _ => {
                let (bytes, grown) = count()?;
                let base = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_sub(grown);
                *counted = Some((file, base));
                base
            }
        };
        Ok(u64::try_from(base.saturating_add(self.grown())).unwrap_or(0))
    }

    /// Another file has taken this one's place. Never waits.
    pub fn forget(&self) {
        self.file.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_once_for_each_file() {
        let in_use = InUse::default();
        in_use.grew(100);
        assert_eq!(in_use.bytes(|| Ok((8_192, 100))).unwrap(), 8_192);
        in_use.grew(50);
        in_use.grew(-20);
        assert_eq!(in_use.bytes(|| panic!("counted again")).unwrap(), 8_222);
        in_use.forget();
        assert_eq!(in_use.bytes(|| Ok((4_096, 130))).unwrap(), 4_096);
    }
}
