//! The versions of one key, ascending by revision.
//!
//! Clones share what they hold, so a published index costs nothing to keep. The newest versions lie
//! in one short chunk, the older ones in full chunks that are shared as they are: a change copies a
//! chunk and the list of chunks, never a whole history, however often a key was written.

use super::index::Version;
use super::row::Revision;
use std::collections::VecDeque;
use std::sync::Arc;

/// Versions in a full chunk.
const CHUNK: usize = 32;

/// At least one version, unless every one of them was removed.
#[derive(Debug, Clone)]
pub enum Versions {
    /// Most keys of a compacted store: no allocation of their own.
    One(Version),
    Many(Arc<Chunks>),
}

#[derive(Debug, Clone, Default)]
pub struct Chunks {
    /// Older than every version in `tail`; none is empty.
    full: VecDeque<Arc<[Version]>>,
    /// At most [`CHUNK`].
    tail: Vec<Version>,
}

impl Versions {
    pub fn of(version: Version) -> Self {
        Self::One(version)
    }

    /// Adds a version that is newer than all others.
    pub fn push(&mut self, version: Version) {
        match self {
            Self::One(old) => {
                *self = Self::Many(Arc::new(Chunks { full: VecDeque::new(), tail: vec![*old, version] }));
            }
            Self::Many(chunks) => Arc::make_mut(chunks).push(version),
        }
    }

    pub fn newest(&self) -> Option<&Version> {
        match self {
            Self::One(version) => Some(version),
            Self::Many(chunks) => chunks.tail.last().or_else(|| chunks.full.back()?.last()),
        }
    }

    /// The newest version at or below main revision `at`, a tombstone included.
    pub fn at(&self, at: i64) -> Option<&Version> {
        match self {
            Self::One(version) => Some(version).filter(|version| version.revision.main <= at),
            Self::Many(chunks) => last_through(&chunks.tail, at).or_else(|| {
                let starts_later = |chunk: &Arc<[Version]>| chunk.first().is_none_or(|first| first.revision.main <= at);
                let behind = chunks.full.partition_point(starts_later);
                last_through(chunks.full.get(behind.checked_sub(1)?)?, at)
            }),
        }
    }

    /// Removes the version at `revision`, and says whether none is left.
    pub fn remove(&mut self, revision: Revision) -> bool {
        match self {
            Self::One(version) => version.revision == revision,
            Self::Many(chunks) => {
                let chunks = Arc::make_mut(chunks);
                chunks.remove(revision);
                if let (true, [last]) = (chunks.full.is_empty(), chunks.tail.as_slice()) {
                    *self = Self::One(*last);
                    return false;
                }
                chunks.full.is_empty() && chunks.tail.is_empty()
            }
        }
    }
}

impl Chunks {
    fn push(&mut self, version: Version) {
        if self.tail.len() >= CHUNK {
            self.full.push_back(std::mem::take(&mut self.tail).into());
        }
        self.tail.push(version);
    }

    /// Compactions remove the oldest first, so the chunk is nearly always the first one.
    fn remove(&mut self, revision: Revision) {
        let ends_before = |chunk: &Arc<[Version]>| chunk.last().is_some_and(|last| last.revision < revision);
        let place = self.full.partition_point(ends_before);
        let Some(chunk) = self.full.get_mut(place) else {
            self.tail.retain(|version| version.revision != revision);
            return;
        };
        let kept: Vec<_> = chunk.iter().copied().filter(|version| version.revision != revision).collect();
        if kept.is_empty() {
            self.full.remove(place);
        } else {
            *chunk = kept.into();
        }
    }
}

fn last_through(versions: &[Version], at: i64) -> Option<&Version> {
    let seen = versions.partition_point(|version| version.revision.main <= at);
    versions.get(seen.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(main: i64) -> Version {
        Version { revision: Revision { main, sub: 0 }, create: 1, version: 1 }
    }

    proptest! {
        /// Against a plain list: whatever is pushed and removed, lookups agree, and a clone stays
        /// as it was.
        #[test]
        fn versions_are_an_ascending_list(ops in proptest::collection::vec(any::<Option<prop::sample::Index>>(), 0..200)) {
            let mut plain = vec![version(1)];
            let mut versions = Versions::of(version(1));
            let before = versions.clone();
            for (step, op) in ops.into_iter().enumerate() {
                match op {
                    Some(index) if plain.len() > 1 => {
                        let gone = plain.remove(index.index(plain.len()));
                        prop_assert!(!versions.remove(gone.revision));
                    }
                    _ => {
                        let next = version(2 * step as i64 + 2);
                        plain.push(next);
                        versions.push(next);
                    }
                }
                prop_assert_eq!(versions.newest(), plain.last());
            }
            let last = plain.last().map_or(0, |version| version.revision.main);
            for at in 0..=last + 1 {
                prop_assert_eq!(versions.at(at), plain.iter().rfind(|version| version.revision.main <= at));
            }
            prop_assert_eq!((before.newest(), before.at(9)), (Some(&version(1)), Some(&version(1))));
            while plain.len() > 1 {
                prop_assert!(!versions.remove(plain.remove(0).revision));
            }
            prop_assert!(versions.remove(plain[0].revision));
        }
    }
}
