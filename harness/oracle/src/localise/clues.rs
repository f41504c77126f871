//! The clues to the place where a divergence begins: each member's own account of the state, and
//! the truth that it is measured by.

use super::compare::{Difference, Shown, Truth, first_difference};
use super::trail::Trail;
use super::{quorum, told};
use crate::judges::Ledger;
use crate::judges::log_replay::{LogReplay, effect};
use crate::raft_log::{self, LogId, RaftLog};
use ninelives_evidence::hex::hex;
use ninelives_evidence::operation::KeyState;
use ninelives_evidence::verdict::{Class, Finding};
use std::collections::BTreeMap;

/// Classes of findings about a wrong state, the most telling one first.
const LOCALISED: [Class; 6] =
    [Class::StateHash, Class::Model, Class::LostWrite, Class::Phantom, Class::Watch, Class::Linearizability];

/// The first of `findings` that is about the state.
pub fn subject(findings: &[Finding]) -> Option<&Finding> {
    LOCALISED.iter().find_map(|class| findings.iter().find(|finding| finding.class() == *class))
}

/// The localiser's knowledge of one member.
#[derive(Debug, Default)]
pub struct Witness {
    pub member: u64,
    pub shown: Option<Shown>,
    /// Its keys at the fence, if it still has that revision.
    pub keys: Option<Vec<KeyState>>,
    pub log: Option<RaftLog>,
}

/// The material of one conclusion.
#[derive(Debug, Default)]
pub struct Clues {
    pub witnesses: Vec<Witness>,
    pub trail: Trail,
    pub(super) truth: Truth,
    /// The truth comes from the raft logs, and not from the watches.
    pub(super) by_log: bool,
    /// Index and revision of the last fence on which all members agreed with the model.
    pub(super) agreed: (u64, u64),
    /// The first revision that was asked for.
    pub from: u64,
    /// By member: its own digest of the kv section at the fence, and the model's.
    pub(super) digests: BTreeMap<u64, (String, String)>,
    pub unknown: Vec<String>,
}

impl Clues {
    /// Takes the last fence on which all members agreed, and names the known findings before it
    /// that may be where the divergence begins.
    pub fn take_fence(&mut self, ledger: &Ledger) {
        self.agreed = ledger.last_agreed().unwrap_or((0, 1));
        for known in ledger.known().into_iter().filter(|known| known.count > 0 && LOCALISED.contains(&known.class)) {
            self.unknown.push(format!(
                "which part of it is the known \"{}\" ({} of its findings were suppressed before): it may be what begins here",
                known.name, known.count
            ));
        }
    }

    /// Takes that fence, and asks for the revisions behind it, or from the revision of `finding` on
    /// if that is older.
    pub fn take_fence_of(&mut self, finding: &Finding, ledger: &Ledger) {
        self.agreed = ledger.last_agreed().unwrap_or((0, 1));
        let behind = self.agreed.1 + 1;
        self.from = finding.revision.map_or(behind, |revision| revision.min(behind)).max(2);
    }

    /// Asks for the revisions behind the fence that no member has compacted: `compact` is the
    /// highest compact revision.
    pub fn ask_behind(&mut self, compact: u64) {
        self.from = self.agreed.1.max(compact) + 1;
        if compact > self.agreed.1 {
            self.unknown.push(format!(
                "whether the rows of revisions {} to {compact} were right one by one: they are compacted since, and what survives of them was \
                 compared only at the fence",
                self.agreed.1 + 1
            ));
        }
    }

    /// The beginning of the range in which the state may be wrong, for a sentence.
    pub(super) fn since(&self) -> String {
        match self.agreed {
            (0, _) => "since the cluster was founded".to_owned(),
            (fence, _) => format!("since the last fence on which all agreed (raft index {fence})"),
        }
    }

    /// The raft index of the last fence; without a fence, no limit.
    pub(super) fn fence_index(&self) -> u64 {
        self.trail.answers().first().map_or(u64::MAX, |(_, answer)| answer.index)
    }

    /// The revision at which `member` stood at the last fence, by its own answer.
    pub fn fence_revision(&self, member: u64) -> Option<u64> {
        let answer = self.trail.answers().iter().find(|(one, _)| *one == member);
        answer.and_then(|(_, answer)| u64::try_from(answer.revision).ok())
    }

    /// Lets `replay` go on through the entries that the logs of a cluster of `members` members show
    /// to be committed. Its alarms are not judged, because the finding that led here is enough.
    pub(super) fn replay(&self, mut replay: LogReplay, members: usize) -> LogReplay {
        let logs: Vec<&RaftLog> = self.witnesses.iter().filter_map(|witness| witness.log.as_ref()).collect();
        replay.read_committed(&quorum::entries(&logs, members));
        replay
    }

    pub(super) fn take_truth(&mut self, replay: &LogReplay, ledger: &Ledger) {
        let lately = replay.lately();
        if lately.range(self.from..).next().is_some() {
            self.by_log = true;
            self.truth = lately.iter().map(|(revision, (id, made))| (*revision, (Some(*id), made.clone()))).collect();
        } else {
            for (revision, change) in ledger.told_since(self.from) {
                self.truth.entry(revision).or_default().1.push(effect(revision, &change));
            }
            let logs: Vec<&RaftLog> = self.witnesses.iter().filter_map(|witness| witness.log.as_ref()).collect();
            told::find_entries(&mut self.truth, &logs);
            self.unknown.push(format!(
                "what the raft logs make of every revision {}: no majority of them reaches back that far, so the members are measured by what the watches \
                 delivered first, and entries are recognised by the operations that their values name",
                self.since()
            ));
        }
        if let Some((first, _)) = self.truth.first_key_value().filter(|(first, _)| **first > self.from) {
            self.unknown.push(format!("whether revisions {} to {} are right", self.from, first - 1));
        }
    }

    pub(super) fn take_digests(&mut self, ledger: &Ledger) {
        for (member, answer) in self.trail.answers() {
            let (revision, compact) = (unsigned(answer.revision), unsigned(answer.compact_revision));
            if let Ok(digest) = ledger.kv_digest(revision, compact) {
                self.digests.insert(*member, (hex(&answer.kv), hex(&digest.sha256)));
            }
        }
    }

    /// The first difference of each member that shows its rows and has one.
    pub(super) fn differences(&self) -> BTreeMap<u64, Difference> {
        let differs = |witness: &Witness| {
            let difference = first_difference(&self.truth, witness.shown.as_ref()?)?;
            Some((witness.member, difference))
        };
        let mut differences: BTreeMap<u64, Difference> = self.witnesses.iter().filter_map(differs).collect();
        let first = differences.values().map(|difference| difference.revision).min();
        // From there on the watches' history may come from the first wrong member itself, so it
        // accuses no other member.
        differences.retain(|_, difference| self.by_log || Some(difference.revision) == first);
        differences
    }

    /// Members that leave the watches' history only behind the first wrong revision, and the place
    /// where each does.
    pub(super) fn doubtful(&self, differences: &BTreeMap<u64, Difference>) -> Vec<(u64, u64)> {
        let differs = |witness: &Witness| {
            let difference = first_difference(&self.truth, witness.shown.as_ref()?)?;
            (!differences.contains_key(&witness.member)).then_some((witness.member, difference.revision))
        };
        self.witnesses.iter().filter_map(differs).collect()
    }

    /// Whether `member` shows none of the requested revisions before `revision`, because a
    /// compaction dropped them.
    pub(super) fn begins_at(&self, member: u64, revision: u64) -> bool {
        let shown = self.witnesses.iter().find(|witness| witness.member == member).and_then(|one| one.shown.as_ref());
        shown.is_some_and(|shown| shown.from == revision && shown.from > self.from)
    }

    /// Members that show their rows and differ nowhere.
    pub(super) fn right(&self, differences: &BTreeMap<u64, Difference>) -> Vec<u64> {
        let doubtful = self.doubtful(differences);
        let shows = |witness: &&Witness| {
            let differs =
                differences.contains_key(&witness.member) || doubtful.iter().any(|(id, _)| *id == witness.member);
            witness.shown.is_some() && !differs
        };
        self.witnesses.iter().filter(shows).map(|witness| witness.member).collect()
    }

    /// The log entry `id`, from any log that still has it.
    pub(super) fn entry(&self, id: LogId) -> Option<&raft_log::Entry> {
        self.witnesses.iter().find_map(|witness| witness.log.as_ref()?.at(id.index).filter(|entry| entry.id == id))
    }
}

/// A number of the wire, which has no unsigned ones.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
