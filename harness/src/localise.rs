//! The search after a divergence: for the first wrong raft index and revision, the wrong members,
//! and the fault before it.
//!
//! 1. The load stops, and the members come to rest; from here on the state does not change while it
//!    is read.
//! 2. Each living member shows its rows since the last fence on which all members agreed with the
//!    model, over the client API: a new watch reads them from the engine, tombstones included, as
//!    the hash does. Its keys at the fence are read as well.
//! 3. All members are killed, and all raft logs are decoded. A replay of the committed entries
//!    ([`ninelives_oracle::log_replay`]) begins at that fence and goes on to the end: its rows of
//!    each revision are the correct ones. It uses no member's apply code. A majority of the logs
//!    decides which entries are committed, and no single log does (`quorum`).
//! 4. The first revision at which a member's rows differ is the first wrong one; the replay knows
//!    which entry made it.
//!
//! The report names the limits of the search: a member that is down shows nothing; rows that a
//! compaction dropped are gone; if no raft log reaches back to the last fence, the search uses the
//! watches' history, which knows no raft index.
//!
//! A run that gets here is over: the search leaves all members dead.

mod compare;
mod live;
mod quorum;
mod sections;
mod sentences;
mod server;
mod told;
mod trail;

use crate::cluster::Cluster;
use crate::contact::Standing;
use crate::pace::Pace;
use crate::workload::Workload;
use compare::{Difference, Shape, Shown, Truth, first_difference};
use futures_util::future::join_all;
use ninelives_evidence::hex::hex;
use ninelives_evidence::limits;
use ninelives_evidence::operation::KeyState;
use ninelives_evidence::record::localisation::{Excerpt, ExcerptLine, FirstWrong, Localisation, WrongKey};
use ninelives_evidence::verdict::{Class, Finding};
use ninelives_oracle::Ledger;
use ninelives_oracle::log_replay::{Effect, LogReplay, effect, in_words};
use ninelives_oracle::raft_log::{self, LogId, Payload, RaftLog};
use std::collections::BTreeMap;
use trail::Trail;

/// Classes of findings about a wrong state, the most telling one first.
const LOCALISED: [Class; 6] =
    [Class::StateHash, Class::Model, Class::LostWrite, Class::Phantom, Class::Watch, Class::Linearizability];

/// The localiser's knowledge of one member.
#[derive(Debug, Default)]
struct Witness {
    member: u64,
    /// At rest.
    status: Option<Standing>,
    shown: Option<Shown>,
    /// Its keys at the fence, if it still has that revision.
    keys: Option<Vec<KeyState>>,
    log: Option<RaftLog>,
}

/// The evidence for the conclusion.
#[derive(Default)]
struct Clues {
    witnesses: Vec<Witness>,
    trail: Trail,
    truth: Truth,
    /// The truth comes from the raft logs, and not from the watches.
    by_log: bool,
    /// Index and revision of the last fence on which all members agreed with the model.
    agreed: (u64, u64),
    /// The first revision that was asked for.
    from: u64,
    /// By member: its own digest of the kv section at the fence, and the model's.
    digests: BTreeMap<u64, (String, String)>,
    unknown: Vec<String>,
}

/// Looks into the first of `findings` that is about the state; `None`: there is none. Kills all
/// members.
pub async fn localise(
    cluster: &mut Cluster,
    ledger: &Ledger,
    workload: &mut Option<Workload>,
    findings: &[Finding],
) -> Option<Localisation> {
    let finding = LOCALISED.iter().find_map(|class| findings.iter().find(|finding| finding.class() == *class))?;
    let pace = cluster.site.pace().clone();
    let looked = async {
        match cluster.site.target.inspector() {
            Some(_) => look(cluster, ledger, workload, finding).await,
            None => server::look(cluster, ledger, workload, finding).await,
        }
    };
    let looked = pace.within(limits::LOCALISE, looked).await;
    Some(looked.unwrap_or_else(|bound| {
        empty(finding, vec![format!("where it begins: the search did not end within {bound}")])
    }))
}

fn empty(finding: &Finding, unknown: Vec<String>) -> Localisation {
    Localisation {
        class: finding.class(),
        cycle: finding.cycle,
        cluster: finding.cluster,
        sentences: Vec::new(),
        wrong: Vec::new(),
        first: None,
        keys: Vec::new(),
        watermarks: Vec::new(),
        excerpt: None,
        unknown,
    }
}

async fn look(
    cluster: &mut Cluster,
    ledger: &Ledger,
    workload: &mut Option<Workload>,
    finding: &Finding,
) -> Localisation {
    let mut evidence = Clues::default();
    stop_load(cluster, workload, finding, &mut evidence).await;
    evidence.agreed = ledger.last_agreed().unwrap_or((0, 1));
    for known in ledger.known().into_iter().filter(|known| known.count > 0 && LOCALISED.contains(&known.class)) {
        evidence.unknown.push(format!(
            "which part of it is the known \"{}\" ({} of its findings were suppressed before): it may be what begins here",
            known.name, known.count
        ));
    }
    witness(cluster, &mut evidence).await;
    cluster.kill_all().await;
    read_logs(cluster, &mut evidence);
    let replay = evidence.replay(ledger.log_replay().at_last_fence(), cluster.members.len());
    evidence.take_truth(&replay, ledger);
    if evidence.differences().is_empty() {
        evidence.take_digests(ledger);
    }
    conclude(finding, &evidence)
}

/// Stops the load, and reads the trail of the cycle of `finding`.
async fn stop_load(cluster: &Cluster, workload: &mut Option<Workload>, finding: &Finding, evidence: &mut Clues) {
    if let Some(workload) = workload.take()
        && cluster.site.pace().within(limits::LOCALISE_LOAD, workload.stop()).await.is_err()
    {
        evidence.unknown.push("a state at rest: the load did not stop in time, and wrote on".to_owned());
    }
    match Trail::read(&cluster.site.paths.history_jsonl(), finding.cycle) {
        Ok(trail) => evidence.trail = trail,
        Err(error) => evidence.unknown.push(format!("what happened in the cycle: {error}")),
    }
}

/// Asks all living members for their rows.
async fn witness(cluster: &Cluster, evidence: &mut Clues) {
    let mark = cluster.applied_mark();
    join_all(cluster.members.iter().map(|member| member.wait_applied(mark, limits::LOCALISE_REST))).await;
    let statuses = join_all(cluster.members.iter().map(|member| member.status())).await;
    let compact = statuses.iter().flatten().map(|status| unsigned(status.compact_revision)).max().unwrap_or(0);
    evidence.from = evidence.agreed.1.max(compact) + 1;
    if compact > evidence.agreed.1 {
        evidence.unknown.push(format!(
            "whether the rows of revisions {} to {compact} were right one by one: they are compacted since, and what survives of them was \
             compared only at the fence",
            evidence.agreed.1 + 1
        ));
    }
    for (member, status) in cluster.members.iter().zip(statuses) {
        let mut found = Witness { member: member.id, ..Witness::default() };
        match status {
            Ok(status) => {
                let endpoint = format!("http://{}", member.addresses.client);
                let fence = evidence.fence_revision(member.id);
                if let Err(error) =
                    hear((&endpoint, cluster.site.pace()), evidence.from, &status, fence, &mut found).await
                {
                    evidence.unknown.push(format!("all that n{} holds: {error:#}", member.id));
                }
                found.status = Some(status);
            }
            Err(trouble) => {
                let why = trouble.finding(None).sentence();
                evidence.unknown.push(format!("what n{} holds, because it does not answer: {why}", member.id));
            }
        }
        evidence.witnesses.push(found);
    }
}

async fn hear(
    (endpoint, pace): (&str, &Pace),
    from: u64,
    status: &Standing,
    fence: Option<u64>,
    found: &mut Witness,
) -> anyhow::Result<()> {
    let mut client = live::connect(endpoint).await?;
    found.shown = Some(live::history(&mut client, (from, unsigned(status.revision)), pace).await?);
    if let Some(revision) = fence.filter(|revision| *revision >= unsigned(status.compact_revision)) {
        found.keys = Some(live::keys(&client, revision).await?);
    }
    Ok(())
}

/// Decodes the logs of the members, which are dead by now.
fn read_logs(cluster: &Cluster, evidence: &mut Clues) {
    for witness in &mut evidence.witnesses {
        match raft_log::read(&cluster.site.paths.node_data(witness.member)) {
            Ok(log) => witness.log = Some(log),
            Err(error) => evidence.unknown.push(format!("the raft log of n{}: {error}", witness.member)),
        }
    }
}

impl Clues {
    /// The beginning of the range in which the state may be wrong, for a sentence.
    fn since(&self) -> String {
        match self.agreed {
            (0, _) => "since the cluster was founded".to_owned(),
            (fence, _) => format!("since the last fence on which all agreed (raft index {fence})"),
        }
    }

    /// The raft index of the last fence; without a fence, no limit.
    fn fence_index(&self) -> u64 {
        self.trail.answers().first().map_or(u64::MAX, |(_, answer)| answer.index)
    }

    /// The revision at which `member` stood at the last fence, by its own answer.
    fn fence_revision(&self, member: u64) -> Option<u64> {
        let answer = self.trail.answers().iter().find(|(one, _)| *one == member);
        answer.and_then(|(_, answer)| u64::try_from(answer.revision).ok())
    }

    /// Lets `replay` go on through the entries that the logs of a cluster of `members` members show
    /// to be committed. Its alarms are not judged, because the finding that led here is enough.
    fn replay(&self, mut replay: LogReplay, members: usize) -> LogReplay {
        let logs: Vec<&RaftLog> = self.witnesses.iter().filter_map(|witness| witness.log.as_ref()).collect();
        replay.read_committed(&quorum::entries(&logs, members));
        replay
    }

    fn take_truth(&mut self, replay: &LogReplay, ledger: &Ledger) {
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

    fn take_digests(&mut self, ledger: &Ledger) {
        for (member, answer) in self.trail.answers() {
            let (revision, compact) = (unsigned(answer.revision), unsigned(answer.compact_revision));
            if let Ok(digest) = ledger.kv_digest(revision, compact) {
                self.digests.insert(*member, (hex(&answer.kv), hex(&digest.sha256)));
            }
        }
    }

    /// The first difference of each member that shows its rows and has one.
    fn differences(&self) -> BTreeMap<u64, Difference> {
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
    fn doubtful(&self, differences: &BTreeMap<u64, Difference>) -> Vec<(u64, u64)> {
        let differs = |witness: &Witness| {
            let difference = first_difference(&self.truth, witness.shown.as_ref()?)?;
            (!differences.contains_key(&witness.member)).then_some((witness.member, difference.revision))
        };
        self.witnesses.iter().filter_map(differs).collect()
    }

    /// Whether `member` shows none of the requested revisions before `revision`, because a
    /// compaction dropped them.
    fn begins_at(&self, member: u64, revision: u64) -> bool {
        let shown = self.witnesses.iter().find(|witness| witness.member == member).and_then(|one| one.shown.as_ref());
        shown.is_some_and(|shown| shown.from == revision && shown.from > self.from)
    }

    /// Members that show their rows and differ nowhere.
    fn right(&self, differences: &BTreeMap<u64, Difference>) -> Vec<u64> {
        let doubtful = self.doubtful(differences);
        let shows = |witness: &&Witness| {
            let differs =
                differences.contains_key(&witness.member) || doubtful.iter().any(|(id, _)| *id == witness.member);
            witness.shown.is_some() && !differs
        };
        self.witnesses.iter().filter(shows).map(|witness| witness.member).collect()
    }

    /// The log entry `id`, from any log that still has it.
    fn entry(&self, id: LogId) -> Option<&raft_log::Entry> {
        self.witnesses.iter().find_map(|witness| witness.log.as_ref()?.at(id.index).filter(|entry| entry.id == id))
    }
}

fn conclude(finding: &Finding, evidence: &Clues) -> Localisation {
    let differences = evidence.differences();
    let mut found = empty(finding, evidence.unknown.clone());
    found.wrong = differences.keys().copied().collect();
    for (member, revision) in evidence.doubtful(&differences) {
        found.unknown.push(format!(
            "whether n{member} is right from revision {revision} on: what it is measured by may be a wrong member's word there; up to \
             there it is"
        ));
    }
    let first = differences.iter().min_by_key(|(_, difference)| difference.revision);
    if let Some((member, difference)) = first {
        let first = first_wrong(evidence, *member, difference);
        found.keys = wrong_keys(evidence, difference);
        found.excerpt = first.index.and_then(|index| excerpt(evidence, *member, index));
        found.first = Some(first);
    }
    let section = sections::conclusion(finding, evidence).filter(|_| differences.is_empty());
    if let Some(index) = section.as_ref().and_then(|(_, index)| *index) {
        found.excerpt = excerpt(evidence, finding.member.unwrap_or(0), index);
    }
    let older = found.keys.is_empty() && !keys_at_fence(evidence).is_empty();
    if found.keys.is_empty() {
        found.keys = keys_at_fence(evidence);
    }
    let mut told = found.wrong.clone();
    told.extend(finding.member.filter(|_| told.is_empty()));
    if told.is_empty() {
        told = evidence.trail.killed();
        told.sort_unstable();
        told.dedup();
    }
    for member in told {
        found.watermarks.extend(evidence.trail.watermarks(member));
    }
    found.sentences = sentences::conclusion(
        evidence,
        &differences,
        found.first.as_ref(),
        section.map(|(sentence, _)| sentence),
        older,
    );
    found
}

fn first_wrong(evidence: &Clues, member: u64, difference: &Difference) -> FirstWrong {
    let made = match difference.shape {
        Shape::Again(earlier) => earlier,
        _ => difference.revision,
    };
    let id = evidence.truth.get(&made).and_then(|(id, _)| *id);
    let entry = id.and_then(|id| evidence.entry(id));
    let proposed = entry.and_then(|entry| match &entry.payload {
        Payload::Command(request) => raft_log::operation(request),
        _ => None,
    });
    FirstWrong {
        member,
        revision: difference.revision,
        index: id.map(|id| id.index),
        term: id.map(|id| id.term),
        // A delete does not name its operation; the answer to it does.
        operation: proposed.map(|id| id.to_string()).or_else(|| evidence.trail.operation_of(made)),
        does: entry.map(raft_log::describe).or_else(|| {
            let index = id?.index;
            let (_, entry) = evidence.trail.logged(index, index).next()?;
            Some(in_words(&entry.step))
        }),
    }
}

/// The keys of the first wrong revision, as the model and as each member has them there.
fn wrong_keys(evidence: &Clues, difference: &Difference) -> Vec<WrongKey> {
    let at = |effects: &[Effect], key: &str| {
        let of_key = effects.iter().find(|effect| effect.key == key);
        of_key.map_or_else(|| "no row".to_owned(), Effect::to_string)
    };
    let mut keys: Vec<&str> = Vec::new();
    for effect in difference.expected.iter().chain(&difference.found) {
        if !keys.contains(&effect.key.as_str())
            && at(&difference.expected, &effect.key) != at(&difference.found, &effect.key)
        {
            keys.push(&effect.key);
        }
    }
    let shown: Vec<(u64, &[Effect])> = evidence
        .witnesses
        .iter()
        .filter_map(|witness| {
            let changes = &witness.shown.as_ref()?.changes;
            Some((witness.member, changes.get(&difference.revision).map_or(&[][..], Vec::as_slice)))
        })
        .collect();
    keys.into_iter()
        .take(limits::WRONG_KEYS_MAX)
        .map(|key| WrongKey {
            key: key.to_owned(),
            expected: at(&difference.expected, key),
            found: grouped(shown.iter().map(|(member, effects)| (*member, at(effects, key)))),
        })
        .collect()
}

/// Keys whose values differ between members at the fence. The model is not asked, because it may
/// have heard a wrong member first.
fn keys_at_fence(evidence: &Clues) -> Vec<WrongKey> {
    let states: Vec<(u64, BTreeMap<&[u8], &KeyState>)> = evidence
        .witnesses
        .iter()
        .filter_map(|witness| {
            let keys = witness.keys.as_ref()?;
            Some((witness.member, keys.iter().map(|state| (state.key.as_slice(), state)).collect()))
        })
        .collect();
    let mut keys: Vec<&[u8]> = states.iter().flat_map(|(_, keys)| keys.keys().copied()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter_map(|key| {
            let found = grouped(states.iter().map(|(member, keys)| (*member, words(keys.get(key)))));
            let key = key.escape_ascii().to_string();
            (found.len() > 1).then(|| WrongKey {
                key,
                expected: "unknown: compared between the members".to_owned(),
                found,
            })
        })
        .take(limits::WRONG_KEYS_MAX)
        .collect()
}

/// A member's value of a key, for a report.
fn words(row: Option<&&KeyState>) -> String {
    let Some(row) = row else { return "absent".to_owned() };
    format!("{} (changed at {}, version {})", raft_log::shown_value(&row.value), row.mod_revision, row.version)
}

/// Members by their values, in the order of the first member of each group.
fn grouped(values: impl Iterator<Item = (u64, String)>) -> Vec<(Vec<u64>, String)> {
    let mut groups: Vec<(Vec<u64>, String)> = Vec::new();
    for (member, value) in values {
        match groups.iter_mut().find(|(_, known)| *known == value) {
            Some((members, _)) => members.push(member),
            None => groups.push((vec![member], value)),
        }
    }
    groups
}

/// The entries around `index`: from the log of `member`, or of another member that still has it, or
/// as a dead member's log told them.
fn excerpt(evidence: &Clues, member: u64, index: u64) -> Option<Excerpt> {
    let revisions: BTreeMap<u64, u64> =
        evidence.truth.iter().filter_map(|(revision, (id, _))| Some(((*id)?.index, *revision))).collect();
    let line = |index: u64, term: u64, does: String, wrong: u64| ExcerptLine {
        index,
        term,
        does,
        revision: revisions.get(&index).copied(),
        here: index == wrong,
    };
    let (first, last) = (index.saturating_sub(limits::EXCERPT_ENTRIES), index + limits::EXCERPT_ENTRIES);
    let has = |witness: &&Witness| witness.log.as_ref().is_some_and(|log| log.at(index).is_some());
    let own = evidence.witnesses.iter().filter(has).find(|witness| witness.member == member);
    if let Some(witness) = own.or_else(|| evidence.witnesses.iter().find(has)) {
        let log = witness.log.as_ref()?;
        let entries = (first..=last).filter_map(|at| log.at(at));
        let entries = entries.map(|entry| line(entry.id.index, entry.id.term, raft_log::describe(entry), index));
        return Some(Excerpt { member: witness.member, entries: entries.collect() });
    }
    let member = evidence.trail.logged(index, index).next()?.0;
    let told = evidence.trail.logged(first, last);
    let entries = told.map(|(_, entry)| line(entry.index, entry.term, in_words(&entry.step), index));
    Some(Excerpt { member, entries: entries.collect() })
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests;
