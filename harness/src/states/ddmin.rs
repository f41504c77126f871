//! Zeller's ddmin: a smallest set of losses that still fails.

use std::collections::{BTreeSet, HashMap};

/// The result of a search.
#[derive(Debug, PartialEq, Eq)]
pub struct Smallest {
    /// It fails.
    pub set: BTreeSet<u64>,
    /// Without any one of its elements it does not fail. Otherwise the search was stopped.
    pub is_smallest: bool,
}

/// Finds a smallest part of `all`, which fails, that still fails by what `fails` says. Neighbours
/// in `all` are tried together first. `fails`: `None` ends the search.
pub async fn ddmin(all: Vec<u64>, fails: impl AsyncFnMut(&BTreeSet<u64>) -> Option<bool>) -> Smallest {
    let mut search = Search { fails, said: HashMap::new() };
    let mut set = all;
    let mut pieces = 2;
    let is_smallest = loop {
        // Nothing at all may still fail: then no loss is to blame.
        if set.len() < 2 {
            break match search.fails(&[]).await {
                Some(true) => {
                    set.clear();
                    true
                }
                Some(false) => true,
                None => false,
            };
        }
        match search.smaller(&set, pieces).await {
            Some(Some((smaller, next))) => (set, pieces) = (smaller, next),
            Some(None) if pieces >= set.len() => break true,
            Some(None) => pieces = (pieces * 2).min(set.len()),
            None => break false,
        }
    };
    Smallest { set: set.into_iter().collect(), is_smallest }
}

struct Search<F> {
    fails: F,
    said: HashMap<Vec<u64>, bool>,
}

impl<F: AsyncFnMut(&BTreeSet<u64>) -> Option<bool>> Search<F> {
    /// A piece of `set` that fails, or `set` without a piece that is not needed, with the number of
    /// pieces to go on with. The inner `None`: there is neither.
    async fn smaller(&mut self, set: &[u64], pieces: usize) -> Option<Option<(Vec<u64>, usize)>> {
        let cut = |at: usize| at * set.len() / pieces;
        for piece in 0..pieces {
            let part = &set[cut(piece)..cut(piece + 1)];
            if self.fails(part).await? {
                return Some(Some((part.to_vec(), 2)));
            }
        }
        for piece in (0..pieces).filter(|_| pieces > 2) {
            let rest = [&set[..cut(piece)], &set[cut(piece + 1)..]].concat();
            if self.fails(&rest).await? {
                return Some(Some((rest, (pieces - 1).max(2))));
            }
        }
        Some(None)
    }

    async fn fails(&mut self, set: &[u64]) -> Option<bool> {
        if let Some(said) = self.said.get(set) {
            return Some(*said);
        }
        let said = (self.fails)(&set.iter().copied().collect()).await?;
        self.said.insert(set.to_vec(), said);
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn search(all: Vec<u64>, mut asks: u64, fails: impl Fn(&BTreeSet<u64>) -> bool) -> Smallest {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(ddmin(all, async |set: &BTreeSet<u64>| {
            asks = asks.checked_sub(1)?;
            Some(fails(set))
        }))
    }

    proptest! {
        /// It fails exactly where one of two sets of operations is lost.
        #[test]
        fn it_finds_a_minimal_failing_set_of_a_monotone_predicate(
            all in 1..200u64,
            one in proptest::collection::vec(any::<prop::sample::Index>(), 1..5),
            other in proptest::collection::vec(any::<prop::sample::Index>(), 1..5),
        ) {
            let pick = |of: Vec<prop::sample::Index>| -> BTreeSet<u64> {
                of.into_iter().map(|index| index.index(all as usize) as u64).collect()
            };
            let (one, other) = (pick(one), pick(other));
            let fails = |set: &BTreeSet<u64>| set.is_superset(&one) || set.is_superset(&other);
            let found = search((0..all).collect(), u64::MAX, fails);
            prop_assert!(found.is_smallest && fails(&found.set), "{found:?}");
            for element in &found.set {
                let mut without = found.set.clone();
                without.remove(element);
                prop_assert!(!fails(&without), "{element} is not needed in {:?}", found.set);
            }
        }

        /// A predicate that is not monotone: the search ends, and what it found fails.
        #[test]
        fn it_ends_and_fails_whatever_is_said(all in 1..60u64, salt in any::<u64>()) {
            let whole: BTreeSet<u64> = (0..all).collect();
            let fails = |set: &BTreeSet<u64>| {
                *set == whole || set.iter().fold(salt, |sum, op| sum.wrapping_mul(31).wrapping_add(*op)) % 3 == 0
            };
            let found = search(whole.iter().copied().collect(), u64::MAX, fails);
            prop_assert!(found.is_smallest && fails(&found.set), "{found:?}");
        }
    }

    #[test]
    fn one_cause_among_a_thousand_takes_a_few_questions() {
        let fails = |set: &BTreeSet<u64>| set.contains(&777);
        let found = search((0..1000).collect(), 45, fails);
        assert_eq!(found, Smallest { set: [777].into(), is_smallest: true });
    }

    #[test]
    fn a_search_that_is_stopped_says_so() {
        let found = search((0..1000).collect(), 5, |set| set.contains(&777));
        assert!(!found.is_smallest && found.set.contains(&777) && found.set.len() < 1000, "{found:?}");
    }

    #[test]
    fn no_loss_may_be_to_blame() {
        assert_eq!(search(vec![1, 2, 3], 99, |_| true), Smallest { set: BTreeSet::new(), is_smallest: true });
    }
}
