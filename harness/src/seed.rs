//! The only source of chance: a tree of named ChaCha streams that grows from one root seed.
//!
//! `seed.stream("schedule")` and `seed.stream("client/3")` are independent: their keys are SHA-256
//! of the root and the name, so one more draw from one stream never moves another. Every draw is
//! defined here, bit for bit, and not by a library's notion of uniformity: the same seed gives the
//! same plan in every version.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The root of all chance in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    pub fn new(root: u64) -> Self {
        Self(root)
    }

    pub fn root(self) -> u64 {
        self.0
    }

    /// The stream called `name`, always from its beginning.
    pub fn stream(&self, name: &str) -> Stream {
        let mut key = Sha256::new();
        key.update(b"ninelives seed stream 1\0");
        key.update(self.0.to_be_bytes());
        key.update(name.as_bytes());
        Stream(ChaCha12Rng::from_seed(key.finalize().into()))
    }
}

/// A stream of draws. Not `Clone`: two copies of one stream would draw the same things.
#[derive(Debug)]
pub struct Stream(ChaCha12Rng);

impl Stream {
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A uniform draw from `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // Rejecting the last, incomplete run of `bound` values keeps every result equally likely.
        let reject_from = u64::MAX - (u64::MAX % bound + 1) % bound;
        loop {
            let draw = self.next_u64();
            if draw <= reject_from {
                return draw % bound;
            }
        }
    }

    /// A uniform draw from `low..=high`; `low` if the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        match high.checked_sub(low) {
            Some(u64::MAX) => self.next_u64(),
            Some(width) => low + self.below(width + 1),
            None => low,
        }
    }

    /// True `numerator` times out of `denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// A uniform element; `None` from an empty slice.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }

    /// An element drawn by its integer weight; `None` if all weights are 0.
    pub fn weighted<'a, T>(&mut self, from: &'a [(T, u32)]) -> Option<&'a T> {
        let total: u64 = from.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut left = self.below(total);
        for (item, weight) in from {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return Some(item),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_reproducible_and_independent() {
        let draws = |seed: u64, name: &str| {
            let mut stream = Seed::new(seed).stream(name);
            [stream.next_u64(), stream.next_u64(), stream.next_u64()]
        };
        assert_eq!(draws(7, "client/3"), draws(7, "client/3"));
        assert_ne!(draws(7, "client/3"), draws(7, "client/4"));
        assert_ne!(draws(7, "client/3"), draws(8, "client/3"));
    }

    /// The bits themselves: a plan made by an older version must come out the same. This fails when
    /// the key derivation, the cipher or the byte order changes.
    #[test]
    fn the_first_draws_are_fixed_for_ever() {
        let mut stream = Seed::new(7).stream("schedule");
        let draws: Vec<u64> = (0..8).map(|_| stream.below(1000)).collect();
        assert_eq!(draws, GOLDEN, "the streams moved: stored seeds no longer mean what they meant");
    }

    const GOLDEN: [u64; 8] = [446, 701, 172, 863, 911, 110, 67, 597];

    #[test]
    fn draws_stay_in_range_and_reach_every_value() {
        let mut stream = Seed::new(1).stream("test");
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[stream.below(5) as usize] = true;
            assert!((3..=4).contains(&stream.between(3, 4)));
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.pick::<u8>(&[]), None);
    }

    #[test]
    fn weights_are_respected() {
        let mut stream = Seed::new(1).stream("test");
        let table = [("never", 0), ("often", 9), ("seldom", 1)];
        let often = (0..1000).filter(|_| stream.weighted(&table) == Some(&"often")).count();
        assert!((850..950).contains(&often), "{often}");
        assert!((0..1000).all(|_| stream.weighted(&table) != Some(&"never")));
        assert_eq!(stream.weighted(&[("never", 0)]), None);
    }
}
