//! The search on one key; see the module above for why it is small.

use super::Basis;
use super::register::{Does, Place, Register};
use ninelives_evidence::limits;
use ninelives_evidence::operation::OpId;
use std::collections::HashSet;

/// The end of an operation whose answer never came.
pub(super) const NEVER: u64 = u64::MAX;

/// One operation, as far as it is about this key.
#[derive(Debug, Clone)]
struct Part {
    /// Ascending per key.
    number: u32,
    op: OpId,
    does: Does,
    place: Place,
    /// Its value names it.
    shows: bool,
    /// Events of the book.
    invoked: u64,
    returned: u64,
}

impl Part {
    /// Its rank among the operations with a revision: writes come before answers about the same
    /// revision.
    fn rank(&self) -> Option<(u64, bool, u32)> {
        match self.place {
            Place::At(at) => Some((at, !self.does.writes(), self.number)),
            Place::UpTo(_) | Place::Anywhere => None,
        }
    }

    fn words(&self) -> String {
        let place = match self.place {
            Place::At(at) => format!(" at revision {at}"),
            Place::UpTo(at) => format!(" not after revision {at}"),
            Place::Anywhere => ", never answered".to_owned(),
        };
        let when = |when: Option<u64>| when.map_or_else(String::new, |at| format!(" if it is of revision {at}"));
        let what = match self.does {
            Does::Put { when: only, .. } => format!("puts it{}", when(only)),
            Does::Delete { when: only, .. } => format!("deletes it{}", when(only)),
            Does::Detach { lease } => format!("deletes it if it is attached to lease {lease}"),
            Does::Reads(None) => "finds it absent".to_owned(),
            Does::Reads(Some(row)) => {
                format!("reads it as of revision {}, version {}", row.modified.unwrap_or(0), row.version)
            }
            Does::Holds { modified } => format!("finds it of revision {modified}"),
            Does::Fails { modified } => format!("finds it not of revision {modified}"),
        };
        format!("{} {what}{place}", self.op)
    }
}

/// One explanation of everything answered so far.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Config {
    register: Register,
    /// The numbers of the open operations that took effect already, ascending.
    took_effect: Vec<u32>,
}

impl Config {
    fn has(&self, part: &Part) -> bool {
        self.took_effect.binary_search(&part.number).is_ok()
    }

    fn after(&self, part: &Part, register: Register) -> Self {
        let mut took_effect = self.took_effect.clone();
        if let Err(at) = took_effect.binary_search(&part.number) {
            took_effect.insert(at, part.number);
        }
        Self { register, took_effect }
    }

    fn forget(&mut self, number: u32) {
        if let Ok(at) = self.took_effect.binary_search(&number) {
            self.took_effect.remove(at);
        }
    }
}

/// Reason why a key is judged no further.
pub(super) enum End {
    /// `ordered` answers have an order, which ends with `last` and does not go on to `next`.
    /// `beside`: the key before that, and the open operations.
    Refused { ordered: u64, last: Option<String>, next: String, beside: String },
    /// The search reached the bound `why` at the answer `next`, the `judged`-th of `answers`.
    OutOfBudget { why: String, next: String, judged: u64, answers: u64, beside: String },
}

/// One key's operations and explanations.
#[derive(Debug)]
pub(super) struct Search {
    /// Answered (or found at a revision), and not judged.
    waiting: Vec<Part>,
    /// Sent before the answer that was judged last came, and still open then.
    open: Vec<Part>,
    /// Never answered, and without a revision.
    free: Vec<Part>,
    configs: Vec<Config>,
    numbers: u32,
    judged: u64,
    last: Option<String>,
    /// The key was refused or given up, and is judged no further.
    over: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self::from(Register::default())
    }
}

impl From<Register> for Search {
    /// The search on a key that begins with this register.
    fn from(register: Register) -> Self {
        Self {
            waiting: Vec::new(),
            open: Vec::new(),
            free: Vec::new(),
            configs: vec![Config { register, took_effect: Vec::new() }],
            numbers: 0,
            judged: 0,
            last: None,
            over: false,
        }
    }
}

/// The budget left for the search.
struct Budget {
    steps: u64,
}

impl Search {
    pub fn judged(&self) -> u64 {
        self.judged
    }

    /// Operations and explanations that are held.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.waiting.len() + self.open.len() + self.free.len() + self.configs.len()
    }

    pub fn add(&mut self, op: OpId, does: Does, place: Place, shows: bool, (invoked, returned): (u64, u64)) {
        if self.over {
            return;
        }
        self.numbers = self.numbers.wrapping_add(1);
        let part = Part { number: self.numbers, op, does, place, shows, invoked, returned };
        if place == Place::Anywhere { self.free.push(part) } else { self.waiting.push(part) }
    }

    /// Notes that the unanswered operation `op` happened at `revision`. In an explanation that uses
    /// it already it stays without a revision, which explains no less.
    pub fn place(&mut self, op: OpId, revision: u64) {
        let used = |part: &Part| self.configs.iter().any(|config| config.has(part));
        if let Some(at) = self.free.iter().position(|part| part.op == op && !used(part)) {
            let part = self.free.remove(at);
            self.waiting.push(Part { place: Place::At(revision), ..part });
        }
    }

    /// Judges the answers before the event `horizon` that lie in `basis`.
    pub fn run(&mut self, horizon: u64, basis: Basis) -> Option<End> {
        if self.over || self.waiting.is_empty() && self.open.iter().all(|part| part.returned == NEVER) {
            return None;
        }
        let mut budget = Budget { steps: limits::LINEARIZABILITY_STEPS_MAX };
        let mut arriving = std::mem::take(&mut self.waiting);
        arriving.sort_unstable_by_key(|part| part.invoked);
        let mut answers: Vec<(u64, u32)> =
            arriving.iter().chain(&self.open).map(|part| (part.returned, part.number)).collect();
        answers.sort_unstable();
        let mut arriving = arriving.into_iter().peekable();
        let total = answers.len();
        let mut end = None;
        for (judged, (returned, number)) in answers.into_iter().enumerate() {
            if returned >= horizon {
                break;
            }
            while let Some(part) = arriving.next_if(|part| part.invoked < returned) {
                self.open.push(part);
            }
            let Some(at) = self.open.iter().position(|part| part.number == number) else { continue };
            if later_than(&self.open[at], basis) {
                break;
            }
            let part = self.open.swap_remove(at);
            end = self.judge(&part, basis, &mut budget, (judged, total));
            if end.is_some() {
                break;
            }
        }
        self.waiting.extend(arriving);
        if end.is_some() {
            *self = Self { over: true, judged: self.judged, ..Self::default() };
            self.configs = Vec::new();
        }
        end
    }

    fn judge(&mut self, part: &Part, basis: Basis, budget: &mut Budget, progress: (usize, usize)) -> Option<End> {
        let next = match self.extend(part, basis, budget) {
            Ok(next) => next,
            Err(why) => {
                let (judged, total) = progress;
                let (judged, answers) = (judged as u64, total as u64);
                let (next, beside) = (part.words(), self.surroundings(part));
                return Some(End::OutOfBudget { why, next, judged, answers, beside });
            }
        };
        if next.is_empty() {
            let (next, beside) = (part.words(), self.surroundings(part));
            return Some(End::Refused { ordered: self.judged, last: self.last.clone(), next, beside });
        }
        self.configs = next;
        self.judged += 1;
        self.last = Some(part.words());
        self.drop_settled();
        None
    }

    /// The key before the refusal, and the operations in flight beside it.
    fn surroundings(&self, part: &Part) -> String {
        const LISTED_MAX: usize = 6;
        let before = self.configs.first().map_or_else(String::new, |config| {
            let row = config.register.row.map_or_else(
                || "absent".to_owned(),
                |row| {
                    let modified = row.modified.map_or_else(|| "an unknown revision".to_owned(), |at| at.to_string());
                    format!("of revision {modified}, version {}", row.version)
                },
            );
            let others = self.configs.len() - 1;
            let others = if others > 0 { format!(" (or one of {others} other states)") } else { String::new() };
            format!("before it the key was {row}{others}, the store at revision {}", config.register.revision)
        });
        let beside: Vec<&Part> =
            self.open.iter().chain(self.free.iter().filter(|one| one.invoked < part.returned)).collect();
        let mut listed: Vec<String> = beside.iter().take(LISTED_MAX).map(|one| one.words()).collect();
        if beside.len() > LISTED_MAX {
            listed.push(format!("{} more", beside.len() - LISTED_MAX));
        }
        let listed = if listed.is_empty() { "nothing".to_owned() } else { listed.join("; ") };
        format!("{before}; open beside it: {listed}")
    }

    /// Every explanation of all answers so far that explains `part` as well. This is Lowe's step:
    /// open operations take effect only as far as `part` needs them, and `part` takes effect last.
    fn extend(&self, part: &Part, basis: Basis, budget: &mut Budget) -> Result<Vec<Config>, String> {
        let mut stack = self.configs.clone();
        let mut seen: HashSet<Config> = HashSet::new();
        let mut next: Vec<Config> = Vec::new();
        while let Some(mut config) = stack.pop() {
            budget.steps = budget
                .steps
                .checked_sub(1)
                .ok_or_else(|| format!("the search needs more than {} steps", limits::LINEARIZABILITY_STEPS_MAX))?;
            if config.has(part) {
                config.forget(part.number);
                next.push(config);
                continue;
            }
            if stack.len() + seen.len() + next.len() > limits::LINEARIZABILITY_CONFIGS_MAX {
                return Err(format!(
                    "more than {} explanations had to be kept apart",
                    limits::LINEARIZABILITY_CONFIGS_MAX
                ));
            }
            let mut go = |one: &Part, next: &mut Vec<Config>, branch: bool| {
                let Some(register) = one.does.apply(one.place, config.register) else { return };
                // An unanswered operation that changes nothing need not have happened.
                if one.place == Place::Anywhere && register == config.register {
                    return;
                }
                if one.number == part.number {
                    next.push(Config { register, took_effect: config.took_effect.clone() });
                    return;
                }
                let after = config.after(one, register);
                if !branch || seen.insert(after.clone()) {
                    stack.push(after);
                }
            };
            // Operations with a revision have one order: the lowest first, and all below `part`'s
            // revision before `part`.
            let due = self.open.iter().chain([part]).filter(|one| !config.has(one) && is_due(one, part));
            let lowest = due.min_by_key(|one| one.rank());
            // Operations without a revision may come before it: each is a branch.
            let loose = self.open.iter().chain([part]).filter(|one| matches!(one.place, Place::UpTo(_)));
            let free = self.free.iter().filter(|one| one.invoked < part.returned && may_happen(one, basis));
            let mut tried: Vec<Does> = Vec::new();
            for one in loose.chain(free).filter(|one| !config.has(one)) {
                // Unanswered operations with the same effect stand for each other: the oldest goes
                // first.
                if one.place == Place::Anywhere {
                    if tried.contains(&one.does) {
                        continue;
                    }
                    tried.push(one.does);
                }
                go(one, &mut next, true);
            }
            if let Some(lowest) = lowest {
                go(lowest, &mut next, false);
            }
        }
        Ok(self.prune(next))
    }

    /// Drops explanations that are dead, double, or have fewer possibilities left than another one
    /// with the same register.
    fn prune(&self, mut next: Vec<Config>) -> Vec<Config> {
        next.retain(|config| self.open.iter().all(|one| config.has(one) || !overtaken(one, config.register)));
        if next.len() < 2 {
            return next;
        }
        let set: HashSet<Config> = next.drain(..).collect();
        let mut all: Vec<Config> = set.into_iter().collect();
        // The order of a set is random, and the choice of kept explanations must not be.
        all.sort_unstable_by(|a, b| {
            (a.took_effect.len(), &a.took_effect, order(a)).cmp(&(b.took_effect.len(), &b.took_effect, order(b)))
        });
        let mut kept: Vec<Config> = Vec::new();
        for config in all {
            if !kept.iter().take(PRUNED_AGAINST_MAX).any(|other| self.covers(other, &config)) {
                kept.push(config);
            }
        }
        kept
    }

    /// Whether `this` can go on in every way that `other` can: they differ only in unanswered
    /// operations, which `this` can still use.
    fn covers(&self, this: &Config, other: &Config) -> bool {
        this.register == other.register
            && this.took_effect.iter().all(|number| other.took_effect.binary_search(number).is_ok())
            && other
                .took_effect
                .iter()
                .filter(|number| this.took_effect.binary_search(number).is_err())
                .all(|number| self.free.iter().any(|one| one.number == *number))
    }

    /// Forgets operations that are never answered and took effect in every explanation.
    fn drop_settled(&mut self) {
        let Self { open, free, configs, .. } = self;
        let mut settled = |one: &Part| {
            let everywhere = one.returned == NEVER && configs.iter().all(|config| config.has(one));
            if everywhere {
                configs.iter_mut().for_each(|config| config.forget(one.number));
            }
            !everywhere
        };
        open.retain(&mut settled);
        free.retain(settled);
    }
}

/// Explanations that each new one is compared with when looking for one that covers it.
const PRUNED_AGAINST_MAX: usize = 64;

#[expect(clippy::type_complexity, reason = "a key to sort by, used once")]
fn order(config: &Config) -> (u64, Option<(Option<u64>, Option<u64>, u64, u64, i64)>) {
    let row = config.register.row.map(|row| (row.modified, row.created, row.version, row.value, row.lease));
    (config.register.revision, row)
}

/// Whether the answer lies beyond the basis.
fn later_than(part: &Part, basis: Basis) -> bool {
    match (basis, part.place) {
        (Basis::History(known), Place::At(at) | Place::UpTo(at)) => at > known,
        _ => false,
    }
}

/// Whether an unanswered operation may have happened: with a history, one that its value would name
/// has not.
fn may_happen(one: &Part, basis: Basis) -> bool {
    basis == Basis::Answers || !one.shows
}

/// Whether `one` must have taken effect before `part` does, or (where `part` has no revision) may.
fn is_due(one: &Part, part: &Part) -> bool {
    match (one.rank(), part.rank(), part.place) {
        (Some(one), Some(part), _) => one <= part,
        (Some((at, ..)), None, Place::UpTo(limit)) => at <= limit,
        _ => false,
    }
}

/// Whether the register has passed `one`, which has not taken effect.
fn overtaken(one: &Part, register: Register) -> bool {
    match one.place {
        Place::At(at) if one.does.writes() => register.revision >= at,
        Place::At(at) | Place::UpTo(at) => register.revision > at,
        Place::Anywhere => false,
    }
}
