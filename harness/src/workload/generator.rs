//! The next step of a client, from its stream alone.

use super::WorkloadOptions;
use crate::scenario::mix::{Kind, Mix};
use crate::seed::Stream;
use ninelives_evidence::limits;
use ninelives_evidence::operation::{
    DEPTH_REFUSED, DEPTH_TAKEN, Expected, Fate, PADDING_OVERFLOWS, PADDING_REFUSED, PADDING_TAKEN, Purpose, Shape,
};
use std::collections::VecDeque;

/// One step: the decision. The requests that carry it out (one, or a read and a write) get their
/// parameters later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Reads the list at `key` and extends it, unless it has changed meanwhile.
    Append {
        key: String,
    },
    /// Reads the counter at `key` and adds one, unless it has changed meanwhile.
    Count {
        key: String,
    },
    /// Puts a value with `filler` bytes before its id.
    Put {
        key: String,
        filler: u64,
    },
    Delete {
        key: String,
    },
    /// Deletes `[from, to)`.
    DeleteRange {
        from: String,
        to: String,
    },
    /// Puts all of `puts` and deletes `delete`; if `guarded`, only if the first key is as it was
    /// just read.
    Multi {
        puts: Vec<String>,
        delete: Option<String>,
        guarded: bool,
        filler: u64,
    },
    /// Reads a block of neighbouring keys, and if none of them has changed since, puts `puts` and
    /// deletes `deletes`: the block. At least one is put.
    Block {
        puts: Vec<String>,
        deletes: Vec<String>,
        filler: u64,
    },
    /// Puts all of `puts`, in a transaction of that shape.
    Packed {
        puts: Vec<String>,
        shape: Shape,
        filler: u64,
    },
    /// Compares all of `keys`, which are neighbours, in the innermost of `depth` transactions: with
    /// what a read before it found, or with keys that are not there.
    Check {
        keys: Vec<String>,
        depth: u32,
        read: bool,
    },
    Grant {
        lease: i64,
    },
    PutLeased {
        key: String,
        lease: i64,
        filler: u64,
    },
    Revoke {
        lease: i64,
    },
    Read {
        key: String,
        serializable: bool,
    },
    ReadRange {
        from: String,
        to: String,
        serializable: bool,
    },
    /// Reads `key` as it was `back` revisions ago.
    ReadOld {
        key: String,
        back: u64,
    },
    /// Has the member give unused space back.
    Defragment,
    /// Puts a value, and reads it back from the member that answered, at the revision of the
    /// answer, without a quorum.
    Session {
        key: String,
        filler: u64,
    },
    /// Compacts all but the last `keep` revisions, or less.
    Compact {
        keep: u64,
    },
}

impl Step {
    /// The purpose of its requests.
    pub fn purpose(&self) -> Purpose {
        use Expected::{Always, Never, Sometimes};
        let (step, refusal) = match self {
            Step::Append { .. } => ("append", Never),
            Step::Count { .. } => ("count", Never),
            Step::Put { .. } => ("put", Never),
            Step::Delete { .. } => ("delete", Never),
            Step::DeleteRange { .. } => ("delete-range", Never),
            Step::Multi { .. } => ("multi", Never),
            Step::Block { .. } => ("block", Never),
            // A lease that was asked for may not be there: its grant never came through, or its
            // revocation did.
            Step::Grant { .. } => ("grant", Sometimes),
            Step::PutLeased { .. } => ("put-leased", Sometimes),
            Step::Revoke { .. } => ("revoke", Sometimes),
            Step::Read { .. } => ("read", Never),
            Step::ReadRange { .. } => ("read-range", Never),
            // What it asks for may be compacted by then.
            Step::ReadOld { .. } => ("read-old", Sometimes),
            Step::Compact { .. } => ("compact", Sometimes),
            Step::Defragment => ("defragment", Never),
            Step::Session { .. } => ("session", Never),
            Step::Check { .. } => ("check", Never),
            Step::Packed { shape, .. } => match shape.fate() {
                Fate::Taken => ("packed", Never),
                Fate::Either => ("packed-between-the-limits", Always),
                Fate::Refused | Fate::RefusedByNode => ("packed-beyond-the-limits", Always),
            },
        };
        Purpose { step: step.into(), refusal }
    }
}

/// Leases that a client holds at most; then it revokes the oldest.
const LEASES_MAX: usize = 4;
/// Keys that a range operation spans at most.
const SPAN_MAX: u64 = 4;
/// Keys that a block has at most; etcd takes transactions of up to 128 comparisons and 128
/// operations.
const BLOCK_KEYS_MAX: u64 = 32;
/// Transactions that are nested side by side at most.
const WIDE_MAX: u64 = 32;
/// Keys that a transaction that only compares has at most, and the depth of its comparisons. An
/// etcd answers comparisons of the outermost transaction, with no operation beside them, from its
/// own state.
const CHECKED_MAX: u64 = 4;
const CHECK_DEPTH: (u64, u64) = (1, 3);
/// Revisions that a read of the past goes back at most.
const BACK_MAX: u64 = 200;
/// Lease ids of a client: `(client + 1) * LEASE_STRIDE + n`.
const LEASE_STRIDE: i64 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Generator {
    client: u32,
    stream: Stream,
    keys: u64,
    filler_min: u64,
    filler_max: u64,
    block_max: u64,
    /// The client's own stretch of the plain keys: its beginning, and how many. Blocks that many
    /// clients draw anywhere collide, and a transaction that fails its comparisons writes nothing.
    stretch: (u64, u64),
    mix: &'static Mix,
    compact_every: u64,
    compact_keep: u64,
    steps: u64,
    /// Leases that it asked for and did not revoke yet, whatever came of it.
    leases: VecDeque<i64>,
    leases_asked: i64,
}

impl Generator {
    pub fn new(client: u32, stream: Stream, options: &WorkloadOptions) -> Self {
        let (keys, value_bytes_max) = (u64::from(options.keys.max(1)), u64::from(options.value_bytes_max));
        let filler_max = value_bytes_max.saturating_sub(32);
        let filler_min = if options.mix.large { (value_bytes_max / 2).min(filler_max) } else { 0 };
        Self {
            client,
            stream,
            keys,
            filler_min,
            filler_max,
            block_max: (limits::BLOCK_BYTES_MAX / value_bytes_max.max(1)).clamp(1, BLOCK_KEYS_MAX),
            stretch: stretch(client.saturating_sub(options.first_client), options.clients, keys),
            mix: options.mix,
            compact_every: if client == options.first_client { u64::from(options.compact_every) } else { 0 },
            compact_keep: options.compact_keep,
            steps: 0,
            leases: VecDeque::new(),
            leases_asked: 0,
        }
    }

    pub fn client(&self) -> u32 {
        self.client
    }

    pub fn next(&mut self) -> Step {
        self.steps += 1;
        if self.compact_every > 0 && self.steps.is_multiple_of(self.compact_every) {
            return Step::Compact { keep: self.compact_keep };
        }
        match self.stream.weighted(self.mix.weights).copied().unwrap_or(Kind::Put) {
            Kind::Append => Step::Append { key: self.key("a") },
            Kind::Count => Step::Count { key: self.key("c") },
            Kind::Put => Step::Put { key: self.key("p"), filler: self.filler() },
            Kind::Delete => {
                let kind = *self.stream.pick(&["a", "c", "p", "p"]).unwrap_or(&"p");
                Step::Delete { key: self.key(kind) }
            }
            Kind::DeleteRange => {
                let (from, to) = self.span();
                Step::DeleteRange { from, to }
            }
            Kind::Multi => self.multi(),
            Kind::Block => self.block(),
            Kind::Lease => self.lease(),
            Kind::Packed => {
                let shape = self.shape();
                self.packed(shape)
            }
            Kind::Refused => {
                let shape = self.refused_shape();
                self.packed(shape)
            }
            Kind::Check => self.check(),
            Kind::Read => {
                let kind = *self.stream.pick(&["a", "c", "p"]).unwrap_or(&"p");
                Step::Read { key: self.key(kind), serializable: self.stream.chance(1, 3) }
            }
            Kind::ReadRange => {
                let (from, to) = self.span();
                Step::ReadRange { from, to, serializable: self.stream.chance(1, 3) }
            }
            Kind::ReadAll => {
                let (from, to) = all_plain();
                Step::ReadRange { from, to, serializable: self.stream.chance(1, 3) }
            }
            Kind::DeleteAll => {
                let (from, to) = all_plain();
                Step::DeleteRange { from, to }
            }
            Kind::Defragment => Step::Defragment,
            Kind::Session => Step::Session { key: self.key("p"), filler: self.filler() },
            Kind::ReadOld => Step::ReadOld { key: self.key("c"), back: self.stream.between(1, BACK_MAX) },
        }
    }

    fn key(&mut self, kind: &str) -> String {
        format!("{kind}/{:05}", self.stream.below(self.keys))
    }

    fn filler(&mut self) -> u64 {
        self.stream.between(self.filler_min, self.filler_max)
    }

    fn span(&mut self) -> (String, String) {
        let from = self.stream.below(self.keys);
        let to = from + self.stream.between(1, SPAN_MAX);
        (format!("p/{from:05}"), format!("p/{to:05}"))
    }

    fn multi(&mut self) -> Step {
        let first = self.stream.below(self.keys);
        let wanted = self.stream.between(2, 4).min(self.keys);
        let puts = (0..wanted).map(|n| format!("p/{:05}", (first + n) % self.keys)).collect();
        let delete = self.stream.chance(1, 2).then(|| self.key("c"));
        Step::Multi { puts, delete, guarded: self.stream.chance(1, 2), filler: self.filler() / 2 }
    }

    fn block(&mut self) -> Step {
        let (first, room) = if self.stream.chance(3, 4) { self.stretch } else { (0, self.keys) };
        let most = self.block_max.min(room);
        let count = self.stream.between(most.div_ceil(4), most);
        let from = first + self.stream.below(room - count + 1);
        let kept = from + self.stream.below(count);
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        for number in from..from + count {
            let deleted = self.stream.chance(1, 8) && number != kept;
            let side = if deleted { &mut deletes } else { &mut puts };
            side.push(format!("p/{number:05}"));
        }
        Step::Block { puts, deletes, filler: self.filler() }
    }

    fn check(&mut self) -> Step {
        let count = self.stream.between(1, CHECKED_MAX.min(self.keys));
        let from = self.stream.below(self.keys - count + 1);
        let keys = (from..from + count).map(|number| format!("p/{number:05}")).collect();
        let depth = self.stream.between(CHECK_DEPTH.0, CHECK_DEPTH.1) as u32;
        Step::Check { keys, depth, read: self.stream.chance(1, 2) }
    }

    fn packed(&mut self, shape: Shape) -> Step {
        let most = if shape == Shape::Wide { WIDE_MAX } else { 2 }.min(self.keys);
        let first = self.stream.below(self.keys);
        let count = self.stream.between(1, most);
        let puts = (0..count).map(|n| format!("p/{:05}", (first + n) % self.keys)).collect();
        Step::Packed { puts, shape, filler: self.filler() / 4 }
    }

    /// Two of three are taken. A request of a mebibyte costs as much as a thousand others, so those
    /// are few.
    fn shape(&mut self) -> Shape {
        let mut between = |from: u32, to: u32| self.stream.between(from.into(), to.into()) as u32;
        match between(0, 99) {
            0..=34 => Shape::Deep(between(1, DEPTH_TAKEN)),
            35..=64 => Shape::Wide,
            65 => Shape::Padded(between(PADDING_TAKEN / 2, PADDING_TAKEN)),
            // Between what every server takes and what every server refuses lie servers' own
            // limits.
            66..=73 => Shape::Deep(between(DEPTH_TAKEN, DEPTH_REFUSED)),
            74..=79 => Shape::Deep(between(DEPTH_REFUSED, 4 * DEPTH_REFUSED)),
            80 => Shape::Padded(PADDING_REFUSED),
            81 => Shape::Padded(PADDING_OVERFLOWS),
            82..=86 => Shape::Crowded,
            87..=89 => Shape::Overspent,
            90..=94 => Shape::Twice,
            _ => Shape::Empty,
        }
    }

    /// Each shape that has to be refused, those of a mebibyte and more at the lowest rate.
    fn refused_shape(&mut self) -> Shape {
        match self.stream.below(100) {
            0..=17 => Shape::UnknownTarget,
            18..=35 => Shape::UnknownResult,
            36..=45 => Shape::UnknownOrder,
            46..=55 => Shape::Nameless,
            56..=63 => Shape::Crowded,
            64..=71 => Shape::Overspent,
            72..=79 => Shape::Twice,
            80..=87 => Shape::Empty,
            88..=97 => Shape::Deep(self.stream.between(DEPTH_REFUSED.into(), (4 * DEPTH_REFUSED).into()) as u32),
            98 => Shape::Padded(PADDING_REFUSED),
            _ => Shape::Padded(PADDING_OVERFLOWS),
        }
    }

    fn lease(&mut self) -> Step {
        let draw = self.stream.below(5);
        match (self.leases.len(), draw) {
            (0, _) | (..LEASES_MAX, 0) => {
                self.leases_asked += 1;
                let lease = (i64::from(self.client) + 1) * LEASE_STRIDE + self.leases_asked;
                self.leases.push_back(lease);
                Step::Grant { lease }
            }
            (held, 1..=3) => {
                let lease = self.leases[self.stream.below(held as u64) as usize];
                let key = format!("l/{:03}/{}", self.client, self.stream.below(6));
                Step::PutLeased { key, lease, filler: self.filler() / 4 }
            }
            _ => Step::Revoke { lease: self.leases.pop_front().unwrap_or_default() },
        }
    }
}

/// All plain keys: `0` comes after `/`.
fn all_plain() -> (String, String) {
    ("p/".to_owned(), "p0".to_owned())
}

/// The stretch of `keys` plain keys that is the `nth` client's of `clients`; all of them, where
/// there are too few to share out.
fn stretch(nth: u32, clients: u32, keys: u64) -> (u64, u64) {
    let clients = u64::from(clients.max(1));
    let nth = u64::from(nth) % clients;
    let (from, to) = (nth * keys / clients, (nth + 1) * keys / clients);
    if to - from < 2 { (0, keys) } else { (from, to - from) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::mix;
    use crate::seed::Seed;
    use ninelives_evidence::hex::hex;
    use sha2::{Digest, Sha256};
    use std::collections::BTreeSet;

    fn steps(seed: u64, client: u32, count: usize) -> Vec<Step> {
        steps_of(&WorkloadOptions::default(), seed, client, count)
    }

    fn steps_of(options: &WorkloadOptions, seed: u64, client: u32, count: usize) -> Vec<Step> {
        let mut generator = Generator::new(client, Seed::new(seed).stream(&format!("client/{client}")), options);
        (0..count).map(|_| generator.next()).collect()
    }

    #[test]
    fn the_seed_alone_decides() {
        assert_eq!(steps(7, 3, 500), steps(7, 3, 500));
        assert_ne!(steps(7, 3, 500), steps(8, 3, 500));
        assert_ne!(steps(7, 3, 500), steps(7, 4, 500));
    }

    /// The steps themselves: what a stored seed meant when no scenario named a mix, it means for
    /// ever.
    #[test]
    fn the_default_mix_draws_what_it_always_drew() {
        let all: String = (0..4).map(|client| format!("{:?}", steps(7, client, 3_000))).collect();
        let digest = hex(&Sha256::digest(all.as_bytes()));
        assert_eq!(digest, "69060daeff42042c3e440929227a91edf1b112923e697724612038581a4b9f63");
    }

    fn of_mix(name: &str) -> WorkloadOptions {
        WorkloadOptions {
            mix: mix::find(name).unwrap(),
            keys: 800,
            value_bytes_max: 1_024,
            ..WorkloadOptions::default()
        }
    }

    /// The share, in per cent, of `steps` that are so. They are 4,000 steps of client 1, which
    /// compacts nothing.
    fn percent(steps: &[Step], so: impl Fn(&Step) -> bool) -> usize {
        steps.iter().filter(|step| so(step)).count() * 100 / steps.len()
    }

    #[test]
    fn each_mix_draws_what_it_is_named_for() {
        let drawn = |name| steps_of(&of_mix(name), 7, 1, 4_000);
        let puts = percent(&drawn("writes"), |step| {
            matches!(step, Step::Put { .. } | Step::Append { .. } | Step::Count { .. })
        });
        assert!(puts >= 90, "{puts} %");
        let transactions =
            percent(&drawn("transactions"), |step| matches!(step, Step::Block { .. } | Step::Multi { .. }));
        assert!(transactions >= 70, "{transactions} %");
        let leases = percent(&drawn("leases"), |step| {
            matches!(step, Step::Grant { .. } | Step::PutLeased { .. } | Step::Revoke { .. })
        });
        assert!(leases >= 75, "{leases} %");
        let deletes = percent(&drawn("deletes"), |step| matches!(step, Step::Delete { .. } | Step::DeleteRange { .. }));
        assert!((30..=50).contains(&deletes), "{deletes} %, and as many puts for them to find");
        let limits: Vec<Shape> = drawn("limits")
            .into_iter()
            .filter_map(|step| match step {
                Step::Packed { shape, .. } => Some(shape),
                _ => None,
            })
            .collect();
        let refused = limits.iter().filter(|shape| shape.fate() == Fate::Refused).count() * 100 / limits.len();
        assert!((20..=35).contains(&refused) && limits.len() > 1_200, "{refused} % of {}", limits.len());
        assert!(limits.contains(&Shape::Deep(49)) && limits.contains(&Shape::Padded(PADDING_OVERFLOWS)));
        let comparisons = drawn("comparisons");
        let checks = percent(&comparisons, |step| matches!(step, Step::Check { .. }));
        assert!((45..=55).contains(&checks), "{checks} %");
        let beyond = |step: &Step| match step {
            Step::Packed { shape, .. } => matches!(shape.fate(), Fate::Refused | Fate::RefusedByNode),
            _ => false,
        };
        assert!((8..=12).contains(&percent(&comparisons, beyond)));
        let sessions = percent(&drawn("sessions"), |step| matches!(step, Step::Session { .. }));
        assert!(sessions >= 75, "{sessions} %");
        let large = drawn("large");
        assert!(percent(&large, |step| matches!(step, Step::Put { .. })) >= 60);
        let lengths: BTreeSet<u64> = large
            .iter()
            .filter_map(|step| match step {
                Step::Put { filler, .. } | Step::Block { filler, .. } => Some(*filler),
                _ => None,
            })
            .collect();
        assert!(*lengths.first().unwrap() >= 512 && *lengths.last().unwrap() > 980, "{lengths:?}");
    }

    #[test]
    fn mixes_are_deterministic_and_differ() {
        let drawn = |mix: &'static Mix| steps_of(&of_mix(mix.name), 3, 1, 300);
        for (at, mix) in mix::MIXES.into_iter().enumerate() {
            assert_eq!(drawn(mix), drawn(mix));
            for other in &mix::MIXES[at + 1..] {
                assert_ne!(drawn(mix), drawn(other), "{} and {}", mix.name, other.name);
            }
        }
    }

    #[test]
    fn blocks_are_disjoint_bounded_and_put_something() {
        for (keys, value_bytes_max, most) in [(800, 256, 32), (7, 256, 7), (1, 64, 1), (100_000, 65_536, 16)] {
            let options = WorkloadOptions { keys, value_bytes_max, ..of_mix("transactions") };
            let mut largest = 0;
            for client in [0, 3, 15, 16] {
                for step in steps_of(&options, 5, client, 4_000) {
                    let Step::Block { puts, deletes, filler } = step else { continue };
                    let all: BTreeSet<&String> = puts.iter().chain(&deletes).collect();
                    let numbers: Vec<u64> = all.iter().map(|key| key[2..].parse().unwrap()).collect();
                    let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
                    assert!(!puts.is_empty() && all.len() == puts.len() + deletes.len(), "{puts:?} {deletes:?}");
                    assert!(last < u64::from(keys) && last - first + 1 == all.len() as u64, "contiguous: {numbers:?}");
                    assert!(all.len() as u64 * (filler + 32) <= limits::BLOCK_BYTES_MAX);
                    largest = largest.max(all.len());
                }
            }
            assert_eq!(largest, most, "of {keys} keys");
        }
    }

    #[test]
    fn checked_keys_are_neighbours_and_there() {
        for keys in [1, 3, 800] {
            let options = WorkloadOptions { keys, ..of_mix("comparisons") };
            for step in steps_of(&options, 5, 1, 4_000) {
                let Step::Check { keys: checked, depth, .. } = step else { continue };
                let numbers: Vec<u32> = checked.iter().map(|key| key[2..].parse().unwrap()).collect();
                assert!((1..=4).contains(&numbers.len()) && (1..=3).contains(&depth));
                assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1) && numbers[numbers.len() - 1] < keys);
            }
        }
    }

    #[test]
    fn stretches_share_all_keys_out() {
        let all: Vec<_> = (0..16).map(|nth| stretch(nth, 16, 200)).collect();
        assert_eq!(all.iter().map(|(_, count)| count).sum::<u64>(), 200);
        assert!(all.windows(2).all(|two| two[0].0 + two[0].1 == two[1].0));
        assert_eq!(stretch(3, 16, 16), (0, 16), "one key is not a block");
    }

    #[test]
    fn every_kind_of_step_occurs_and_only_client_0_compacts() {
        let kinds = |client| {
            let name = |step: &Step| format!("{step:?}").split(' ').next().map(str::to_owned);
            steps(1, client, 2_000).iter().filter_map(name).collect::<BTreeSet<_>>()
        };
        assert_eq!(kinds(0).len(), 13, "{:?}", kinds(0));
        assert_eq!(kinds(1).len(), 12, "{:?}", kinds(1));
    }

    #[test]
    fn the_long_mix_reads_and_deletes_everything() {
        let options = of_mix("long");
        let steps = steps_of(&options, 3, 1, 4_000);
        let (from, to) = all_plain();
        let all = |step: &&Step| matches!(step, Step::ReadRange { from: f, to: t, .. } | Step::DeleteRange { from: f, to: t } if (f, t) == (&from, &to));
        let reads = steps.iter().filter(all).filter(|step| matches!(step, Step::ReadRange { .. })).count();
        assert!(reads > 10 && steps.iter().filter(all).count() - reads > 5, "{reads}");
        assert!(steps.contains(&Step::Defragment));
        let last = format!("p/{:05}", options.keys - 1);
        assert!(from < last && last < to);
    }

    #[test]
    fn keys_are_bounded_and_leases_are_revoked_once() {
        let (mut keys, mut held, mut revoked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for step in steps(5, 2, 20_000) {
            match step {
                Step::Append { key } | Step::Count { key } | Step::Put { key, .. } => drop(keys.insert(key)),
                Step::Multi { puts, .. } => {
                    assert_eq!(puts.iter().collect::<BTreeSet<_>>().len(), puts.len(), "a key once per transaction");
                    keys.extend(puts);
                }
                Step::Grant { lease } => assert!(held.insert(lease) && !revoked.contains(&lease)),
                Step::PutLeased { key, lease, .. } => {
                    assert!(held.contains(&lease));
                    keys.insert(key);
                }
                Step::Revoke { lease } => assert!(held.remove(&lease) && revoked.insert(lease)),
                _ => {}
            }
            assert!(held.len() <= LEASES_MAX);
        }
        assert!(keys.len() <= 3 * 64 + 6, "{}", keys.len());
        assert!(revoked.len() > 20);
    }
}
