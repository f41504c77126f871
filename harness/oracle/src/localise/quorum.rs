//! The choice of the committed entries, by the logs of all members together.
//!
//! Raft commits an entry that a majority of the members holds. So here an entry counts if a
//! majority of the logs holds it alike, byte by byte. The position that a log saved as committed
//! does not count, and neither does the index that a member says it applied, because the wrong
//! member would accuse all others by it. Entries behind the last one with a majority do not count.
//!
//! Before it, purges leave entries that fewer logs hold. Those count too, if every log that holds
//! them agrees, and none of these logs contradicts the majority anywhere.

use crate::judges::log_replay::logged;
use crate::raft_log::RaftLog;
use ninelives_evidence::logged::{Digest, Logged};
use std::collections::{BTreeMap, BTreeSet};

/// The committed entries of a cluster of `members` members, ascending, from the logs of those that
/// can be read.
pub(super) fn entries(logs: &[&RaftLog], members: usize) -> Vec<Logged> {
    let majority = members / 2 + 1;
    let mut by_index: BTreeMap<u64, Vec<(usize, Logged)>> = BTreeMap::new();
    for (witness, log) in logs.iter().enumerate() {
        for entry in &log.entries {
            by_index.entry(entry.id.index).or_default().push((witness, logged(entry)));
        }
    }
    let chosen: BTreeMap<u64, &Logged> =
        by_index.iter().filter_map(|(index, told)| Some((*index, held_by(told, majority)?))).collect();
    let Some(last) = chosen.last_key_value().map(|(index, _)| *index) else { return Vec::new() };
    let contradicts = |(index, told): (&u64, &Vec<(usize, Logged)>)| {
        let chosen = chosen.get(index).copied().map(name);
        told.iter()
            .filter(|(_, entry)| chosen.is_some_and(|chosen| name(entry) != chosen))
            .map(|(witness, _)| *witness)
            .collect::<Vec<_>>()
    };
    let unsound: BTreeSet<usize> = by_index.iter().flat_map(contradicts).collect();
    let sound = |told: &[(usize, Logged)]| {
        let told: Vec<&Logged> =
            told.iter().filter(|(witness, _)| !unsound.contains(witness)).map(|(_, entry)| entry).collect();
        let first = *told.first()?;
        told.iter().all(|entry| name(entry) == name(first)).then(|| first.clone())
    };
    let entry = |(index, told): (&u64, &Vec<(usize, Logged)>)| match chosen.get(index) {
        Some(entry) => Some((*entry).clone()),
        None => sound(told),
    };
    by_index.range(..=last).filter_map(entry).collect()
}

/// The identity of an entry: entries with the same term and digest are the same.
fn name(entry: &Logged) -> (u64, Digest<8>) {
    (entry.term, entry.digest)
}

/// The entry that `majority` of the witnesses tell alike.
fn held_by(told: &[(usize, Logged)], majority: usize) -> Option<&Logged> {
    let alike = |entry: &Logged| told.iter().filter(|(_, other)| name(other) == name(entry)).count();
    told.iter().map(|(_, entry)| entry).find(|entry| alike(entry) >= majority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft_log::{Entry, LogId, Payload};

    /// An entry whose bytes are `what`.
    fn entry(term: u64, index: u64, what: &str) -> Entry {
        Entry { id: LogId { term, index }, payload: Payload::Blank, bytes: what.into() }
    }

    fn log(committed: u64, entries: Vec<Entry>) -> RaftLog {
        RaftLog { entries, committed: Some(LogId { term: 2, index: committed }), ..RaftLog::default() }
    }

    fn sound(indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
        indexes.map(|index| entry(2, index, "right")).collect()
    }

    fn indexes(logs: &[RaftLog]) -> Vec<u64> {
        let logs: Vec<&RaftLog> = logs.iter().collect();
        entries(&logs, 3).iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn a_suspects_own_word_commits_nothing() {
        // The log says that entry 9 is committed; no other log has its entries from 8 on.
        let mut suspect = sound(5..=7);
        suspect.extend([entry(1, 8, "wrong"), entry(1, 9, "wrong")]);
        let logs = [log(9, suspect), log(8, sound(5..=8)), log(8, sound(5..=8))];
        let logs: Vec<&RaftLog> = logs.iter().collect();
        let told = entries(&logs, 3);
        assert_eq!(
            told.iter().map(|entry| (entry.term, entry.index)).collect::<Vec<_>>(),
            [(2, 5), (2, 6), (2, 7), (2, 8)]
        );
    }

    #[test]
    fn what_one_log_alone_still_holds_counts_if_it_is_sound() {
        assert_eq!(
            indexes(&[log(9, sound(1..=9)), log(9, sound(6..=9)), log(9, sound(6..=9))]),
            (1..=9).collect::<Vec<_>>()
        );
        let mut twisted = sound(1..=9);
        twisted[7] = entry(2, 8, "wrong");
        assert_eq!(indexes(&[log(9, twisted), log(9, sound(6..=9)), log(9, sound(6..=9))]), [6, 7, 8, 9]);
    }

    #[test]
    fn without_a_majority_nothing_is_committed() {
        assert_eq!(indexes(&[log(9, sound(1..=9))]), Vec::<u64>::new(), "one log of three");
        assert_eq!(indexes(&[log(9, sound(1..=9)), log(9, sound(4..=7))]), (1..=7).collect::<Vec<_>>());
    }
}
