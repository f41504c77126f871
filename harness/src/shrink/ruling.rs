//! The number of runs that decide about one candidate.
//!
//! One run may miss a failure that the next one shows. A search that always believes the first hit
//! ends with a plan that fails once in ten times: each accepted candidate may be worse than the one
//! before it, and none is tried twice. So while the best candidate fails reliably, another one has
//! to do the same: by a number of hits in a row ([`wanted`]), or by all hits but one in two more
//! runs. Only a failure that was rare from the beginning is followed at its first hit, and given up
//! after so many misses that its chance is down to a tenth.

/// From here on a failure comes back reliably.
pub const RELIABLE: f64 = 0.8;

/// The chance of giving up a candidate that comes back as often as the best one, when the best is
/// not reliable.
const UNLUCKY: f64 = 0.1;

/// Runs that a candidate may miss at most, when the best is not reliable.
const MISSES_MAX: u32 = 6;

/// The rate at which a class came back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    pub hits: u32,
    pub tries: u32,
}

impl Rate {
    pub fn count(&mut self, hit: bool) {
        self.tries += 1;
        self.hits += u32::from(hit);
    }

    pub fn misses(self) -> u32 {
        self.tries - self.hits
    }

    pub fn share(self) -> f64 {
        if self.tries == 0 { 0.0 } else { f64::from(self.hits) / f64::from(self.tries) }
    }

    /// Whether it came back often enough, in more than a single run.
    pub fn is_reliable(self) -> bool {
        self.tries > 1 && self.share() >= RELIABLE
    }
}

/// The ruling on a candidate after its runs so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    Accept,
    Reject,
    /// The ruling needs this many further runs, at least.
    Open(u32),
}

/// Hits in a row that a candidate needs beside a reliable best. A plan with fewer steps mostly
/// fails as often as before, and each removed step makes it easier to read. A plan with less load
/// fails more and more rarely, and a smaller number is not easier to read: such a candidate has to
/// prove itself.
pub fn wanted(less_load: bool) -> u32 {
    if less_load { 4 } else { 2 }
}

/// The ruling whether a candidate with `own` runs replaces one with `best`; see [`wanted`].
pub fn rule(own: Rate, best: Rate, wanted: u32) -> Ruling {
    if best.is_reliable() { as_reliable(own, wanted) } else { at_first_hit(own, best) }
}

fn as_reliable(own: Rate, wanted: u32) -> Ruling {
    let enough = if own.misses() == 0 { wanted } else { wanted + 2 };
    match (own.hits, own.misses()) {
        (_, 2..) => Ruling::Reject,
        (hits, _) if hits >= enough => Ruling::Accept,
        (0, 1) => Ruling::Open(1),
        (hits, _) => Ruling::Open(enough - hits),
    }
}

fn at_first_hit(own: Rate, best: Rate) -> Ruling {
    // Laplace's estimate: few runs do not make a certainty.
    let rate = f64::from(best.hits + 1) / f64::from(best.tries + 2);
    let misses = (UNLUCKY.ln() / (1.0 - rate).ln()).ceil().clamp(2.0, f64::from(MISSES_MAX)) as u32;
    match own {
        Rate { hits: 1.., .. } => Ruling::Accept,
        Rate { tries, .. } if tries >= misses => Ruling::Reject,
        Rate { .. } => Ruling::Open(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(hits: u32, tries: u32) -> Rate {
        Rate { hits, tries }
    }

    #[test]
    fn beside_a_reliable_best_one_hit_is_not_enough() {
        let of = |hits, tries| rule(rate(hits, tries), rate(2, 2), wanted(false));
        assert_eq!((of(0, 0), of(1, 1), of(2, 2)), (Ruling::Open(2), Ruling::Open(1), Ruling::Accept));
        assert_eq!((of(0, 1), of(0, 2), of(1, 2)), (Ruling::Open(1), Ruling::Reject, Ruling::Open(3)));
        assert_eq!((of(4, 5), of(3, 5)), (Ruling::Accept, Ruling::Reject));
        let of = |hits, tries| rule(rate(hits, tries), rate(2, 2), wanted(true));
        assert_eq!((of(2, 2), of(4, 4)), (Ruling::Open(2), Ruling::Accept));
        assert_eq!((of(4, 5), of(6, 7), of(5, 7)), (Ruling::Open(2), Ruling::Accept, Ruling::Reject));
    }

    #[test]
    fn a_rare_failure_is_followed_at_its_first_hit() {
        let best = rate(1, 4);
        assert_eq!(rule(rate(1, 3), best, 2), Ruling::Accept);
        assert_eq!(rule(rate(0, 5), best, 2), Ruling::Open(1));
        assert_eq!(rule(rate(0, 6), best, 2), Ruling::Reject);
        // Not known to be rare, and not known to be reliable.
        assert_eq!(rule(rate(0, 2), rate(1, 1), 2), Ruling::Open(1));
        assert_eq!(rule(rate(0, 3), rate(1, 1), 2), Ruling::Reject);
    }

    /// Whatever the runs say, some number of them decides.
    #[test]
    fn every_question_is_answered() {
        for best in [rate(5, 5), rate(1, 6), rate(1, 1), rate(0, 0)] {
            for pattern in 0..1u32 << 12 {
                let mut own = Rate::default();
                let decided = (0..12).any(|run| match rule(own, best, 2 + pattern % 3) {
                    Ruling::Accept | Ruling::Reject => true,
                    Ruling::Open(more) => {
                        assert!(more > 0);
                        own.count(pattern >> run & 1 == 1);
                        false
                    }
                });
                assert!(decided, "{own:?} beside {best:?}");
            }
        }
    }
}
