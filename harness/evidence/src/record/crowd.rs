//! Results of the crowd, and the latencies of small answers meanwhile.

use crate::verdict::findings::Lack;
use crate::verdict::findings::parts::LongStream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Counts over a whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrowdRecord {
    /// Connections that had to come: all of the crowd to each member once.
    pub expected: u64,
    /// Connections that came, in all lives.
    pub connections: u64,
    /// Raw ones that a member ended, or that ended with it.
    pub ended_by_members: u64,
    pub watches: u64,
    pub snapshots: u64,
    /// With RESOURCE_EXHAUSTED.
    pub snapshots_refused: u64,
    /// From a keep-alive to its answer.
    pub keep_alive: Histogram,
    /// From a request for a watch's progress to its answer.
    pub watch: Histogram,
}

impl CrowdRecord {
    pub fn add(&mut self, other: Self) {
        self.expected += other.expected;
        self.connections += other.connections;
        self.ended_by_members += other.ended_by_members;
        self.watches += other.watches;
        self.snapshots += other.snapshots;
        self.snapshots_refused += other.snapshots_refused;
        self.keep_alive.add(other.keep_alive);
        self.watch.add(other.watch);
    }

    /// The reason why the run says nothing about a crowd; `None`: it says something.
    pub fn lacking(&self) -> Option<Lack> {
        let (came, expected) = (self.connections, self.expected);
        (came < expected).then_some(Lack::CrowdStayedAway { expected, came })
    }

    /// The times of the answers on its long streams: how many, and their median in microseconds.
    pub fn pulses(&self) -> Vec<(LongStream, u64, u64)> {
        let all = [(LongStream::KeepAlives, &self.keep_alive), (LongStream::WatchProgress, &self.watch)];
        let pulse = |(stream, times): (LongStream, &Histogram)| Some((stream, times.count(), times.median_us()?));
        all.into_iter().filter_map(pulse).collect()
    }

    /// Lines for a report.
    pub fn sentences(&self) -> [String; 2] {
        let Self { connections, ended_by_members, watches, snapshots, snapshots_refused, keep_alive, watch, .. } = self;
        [
            format!(
                "{connections} connections came, members ended {ended_by_members}; {watches} watches and {snapshots} snapshots were \
                 never read, {snapshots_refused} more snapshots were refused"
            ),
            format!("answers to keep-alives: {keep_alive}; to requests for watch progress: {watch}"),
        ]
    }
}

/// Durations in tenths of a millisecond, rounded down, with how often each was met: exact where it
/// matters, and flat in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram(BTreeMap<u32, u64>);

impl Histogram {
    pub fn note(&mut self, took: Duration) {
        let tenths = u32::try_from(took.as_micros() / 100).unwrap_or(u32::MAX);
        *self.0.entry(tenths).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        for (tenths, count) in other.0 {
            *self.0.entry(tenths).or_default() += count;
        }
    }

    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// The smallest duration that half of all do not exceed, microseconds; `None`: there is none.
    pub fn median_us(&self) -> Option<u64> {
        self.percentile_tenths(50).map(|tenths| u64::from(tenths) * 100)
    }

    /// The smallest duration that `percent` of all do not exceed, milliseconds.
    fn percentile(&self, percent: u64) -> Option<f64> {
        self.percentile_tenths(percent).map(|tenths| f64::from(tenths) / 10.0)
    }

    fn percentile_tenths(&self, percent: u64) -> Option<u32> {
        let wanted = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.0.iter().find(|(_, count)| {
            seen += **count;
            seen >= wanted
        });
        found.map(|(tenths, _)| *tenths)
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |percent| self.percentile(percent);
        match (of(50), of(95), of(100)) {
            (Some(median), Some(most), Some(longest)) => {
                let count = self.count();
                write!(f, "median {median:.1} ms, 95 % within {most:.1} ms, longest {longest:.1} ms ({count})")
            }
            _ => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(micros: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        micros.into_iter().for_each(|took| histogram.note(Duration::from_micros(took)));
        histogram
    }

    #[test]
    fn percentiles_are_of_what_was_met() {
        let all = histogram((1..=100).map(|ms| ms * 1_000));
        assert_eq!(all.to_string(), "median 50.0 ms, 95 % within 95.0 ms, longest 100.0 ms (100)");
        assert_eq!((all.median_us(), histogram([]).median_us()), (Some(50_000), None));
        assert_eq!(histogram([1_234]).to_string(), "median 1.2 ms, 95 % within 1.2 ms, longest 1.2 ms (1)");
        assert_eq!(histogram([]).to_string(), "none");
    }

    #[test]
    fn lanes_add_up_and_read_back() {
        let mut one = CrowdRecord { expected: 3, connections: 2, keep_alive: histogram([100]), ..Default::default() };
        assert!(one.lacking() == Some(Lack::CrowdStayedAway { expected: 3, came: 2 }));
        one.add(CrowdRecord { connections: 1, keep_alive: histogram([100, 900]), ..Default::default() });
        assert_eq!((one.lacking(), one.keep_alive.count()), (None, 3));
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<CrowdRecord>(&text).unwrap(), one);
    }
}
