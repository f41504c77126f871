//! The order in which crash states of an instant are tried: a bounded enumeration, then draws.

use std::collections::BTreeSet;

/// Shares of changes that survive in a drawn state, percent.
pub const KEEPS: [u32; 4] = [10, 50, 90, 99];

/// Sets of lost operations, of `operations`, in the order of the numbers: everything; nothing,
/// which is what a kill leaves; what came from some operation on; all but one; one alone. At most
/// `count_max`, taken evenly from each kind.
pub fn enumerate(operations: &BTreeSet<u64>, count_max: usize) -> Vec<BTreeSet<u64>> {
    let all: Vec<u64> = operations.iter().copied().collect();
    let mut sets = vec![operations.clone(), BTreeSet::new()];
    let each = count_max.saturating_sub(sets.len()) / 3;
    let spread = || (0..all.len().min(each)).map(|nth| nth * all.len() / all.len().min(each));
    sets.extend(spread().skip(1).map(|from| all[from..].iter().copied().collect()));
    let without = |kept: u64| operations.iter().copied().filter(|operation| *operation != kept).collect();
    sets.extend(spread().map(|at| without(all[at])));
    sets.extend(spread().map(|at| BTreeSet::from([all[at]])));
    sets.truncate(count_max);
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upto(all: u64, count_max: usize) -> Vec<Vec<u64>> {
        let sets = enumerate(&(1..=all).collect(), count_max);
        sets.into_iter().map(|set| set.into_iter().collect()).collect()
    }

    #[test]
    fn few_operations_are_enumerated_whole() {
        let expected: [&[u64]; 10] = [&[1, 2, 3], &[], &[2, 3], &[3], &[2, 3], &[1, 3], &[1, 2], &[1], &[2], &[3]];
        assert_eq!(upto(3, 100), expected);
        assert_eq!(upto(0, 100), [[0u64; 0]; 2]);
    }

    #[test]
    fn many_are_spread_and_bounded() {
        let sets = upto(10_000, 50);
        assert!(sets.len() <= 50 && sets.len() > 40, "{}", sets.len());
        let alone: Vec<u64> = sets.iter().filter(|set| set.len() == 1).map(|set| set[0]).collect();
        assert!(alone.len() > 10 && alone[0] == 1 && alone[alone.len() - 1] > 9_000, "{alone:?}");
        assert_eq!(upto(10_000, 1).len(), 1);
    }
}
