//! A small report that verifies; and every way of changing it is noticed.

use super::*;
use crate::report::sample;
use crate::seed::Seed;
use ninelives_evidence::history::{History, Stream};
use ninelives_evidence::member::{Engine, Slot};
use ninelives_evidence::operation::{Action, KeyState, Keys, OpId, Outcome, Reply};
use ninelives_evidence::record::strangers::StrangersRecord;
use ninelives_evidence::record::{CycleRecord, FaultOutcome, KillsRecord, PlannedRecord, RecoveryRecord, SlotRecord};
use ninelives_evidence::{
    Answers, Change, DeadMember, End, Evidence, FenceAnswer, HISTORY_VERSION, Head, IndexRange, Look, Recovered,
};
use ninelives_oracle::Ledger;
use ninelives_oracle::fold::Fold;
use sha2::{Digest, Sha256};
use std::path::Path;

const SCENARIO: &str = r#"cycles = 1
[cluster]
members = 3
backend = "rocksdb"
memtable_bytes = 65536
keep_entries = 500
snapshot_every_entries = 500
[load]
clients = 1
keys = 10
value_bytes_max = 64
op_timeout_ms = 2000
compact_every_ops = 500
[whom]
follower = 1
[when]
time = 1
[floors]
acked_writes_per_cycle_min = 1
"#;

const A: OpId = OpId { client: 0, seq: 0 };
const B: OpId = OpId { client: 0, seq: 1 };
const C: OpId = OpId { client: 0, seq: 2 };

struct Report {
    dir: tempfile::TempDir,
}

impl Report {
    fn paths(&self) -> Paths {
        Paths::new(self.dir.path())
    }

    fn verify(&self) -> Verification {
        verify(&self.paths(), Claims::read(&self.paths()).unwrap()).unwrap()
    }

    fn history(&self) -> String {
        io::read_to_string(Stream::open(&self.paths().history_jsonl()).unwrap()).unwrap()
    }

    /// Leaves a history of these lines, as a harness that was killed early does.
    fn put_history(&self, text: &str) {
        let _ = std::fs::remove_file(self.frames());
        std::fs::write(self.paths().history_jsonl(), text).unwrap();
    }

    fn frames(&self) -> std::path::PathBuf {
        self.paths().history_jsonl().with_extension("jsonl.zst")
    }

    /// Changes the history's text, which has to hold `from`.
    fn edit(&self, from: &str, to: &str) -> Verification {
        let text = self.history();
        assert!(text.contains(from), "{from} is not in\n{text}");
        self.put_history(&text.replacen(from, to, 1));
        self.verify()
    }

    /// Removes the lines that hold `what`.
    fn without(&self, what: &str) -> Verification {
        let text = self.history();
        let kept: String = text.lines().filter(|line| !line.contains(what)).map(|line| format!("{line}\n")).collect();
        assert_ne!(text, kept, "{what} is in no line");
        self.put_history(&kept);
        self.verify()
    }
}

/// A run of one cycle that found nothing: a write, a delete, a read, a kill, a fence, a full read.
fn report() -> Report {
    report_of(SCENARIO, |_| {})
}

/// The same run under the scenario `text`, with n3's answer for the fence changed by `alter`.
fn report_of(text: &str, alter: fn(&mut FenceAnswer)) -> Report {
    let report = Report { dir: tempfile::tempdir().unwrap() };
    let paths = report.paths();
    let scenario = Scenario::parse(Path::new("scenarios/small.toml"), text.to_owned()).unwrap();
    let plan = Plan::generate(&scenario, &Seed::new(1), 1, 1);
    std::fs::write(paths.scenario_toml(), text).unwrap();
    std::fs::write(paths.plan_txt(), plan.to_string()).unwrap();
    let slots = [1, 2, 3].map(Slot);
    let ledger = Ledger::recorded(&slots, History::create(&paths.history_jsonl()).unwrap());
    ledger.know(&scenario.known);
    ledger.record(&Evidence::History(Head {
        version: HISTORY_VERSION,
        cluster: 1,
        slots: slots.to_vec(),
        scenario_digest: scenario.digest(),
        plan_digest: plan.digest(),
        seed: 1,
        job: None,
    }));
    ledger.record(&Evidence::Cycle { cycle: 1, what: "kill follower#0 at time 3ms".into() });
    write_and_read(&ledger);
    kill_and_fence(&ledger, alter);
    let other = KeyState { key: b"p/2".to_vec(), value: b"0.1".to_vec(), create_revision: 3, mod_revision: 3, ..row() };
    let rows = vec![row(), other];
    assert_eq!(judged(&ledger, &Evidence::LastRead { member: 1, revision: 3, rows }), []);
    ledger.record(&Evidence::End(End { slots: founders(), load_ms: 500, ..End::default() }));
    assert_eq!(findings(&ledger), []);
    let mut fold = Fold::open(&paths.history_jsonl(), &scenario.known).unwrap();
    while fold.step().unwrap().is_some() {}
    assert_eq!(
        fold.ledger().sums(1, None),
        ledger.sums(1, None),
        "the ledger that wrote the history, and a fold over it"
    );
    let run = report.verify().run;
    assert_eq!(run.verdict, Verdict::Pass, "{:?}", run.findings);
    report::write(&paths, &run).unwrap();
    report
}

fn founders() -> Vec<SlotRecord> {
    let founder = |slot| SlotRecord {
        cluster: 1,
        slot: Slot(slot),
        member_at_start: slot,
        engine_at_start: Engine::Rocksdb,
        member_at_end: slot,
        engine_at_end: Engine::Rocksdb,
    };
    (1..=3).map(founder).collect()
}

fn row() -> KeyState {
    let value = b"xxxxxxxxxxxx,0.0".to_vec();
    KeyState { key: b"p/1".to_vec(), value, create_revision: 2, mod_revision: 2, version: 1, lease: 0 }
}

fn invoke(ledger: &Ledger, op: OpId, action: Action) {
    ledger.record(&Evidence::Invoke { op, endpoint: 0, action, purpose: None });
}

fn findings(ledger: &Ledger) -> Vec<Finding> {
    ledger.drain().into_iter().map(|raised| raised.finding).collect()
}

fn judged(ledger: &Ledger, evidence: &Evidence) -> Vec<Finding> {
    ledger.record(evidence);
    findings(ledger)
}

fn write_and_read(ledger: &Ledger) {
    let done = |revision, reply| Outcome::Done { revision, term: 1, reply };
    invoke(ledger, A, Action::Put { key: "p/1".into(), value: "xxxxxxxxxxxx,0.0".into(), lease: 0 });
    ledger.complete(A, &done(2, Reply::Put));
    let KeyState { key, value, .. } = row();
    let put = Change::Put { key, value, create_revision: 2, version: 1, lease: 0 };
    (1..=3).for_each(|slot| ledger.deliver(Slot(slot), 2, std::slice::from_ref(&put)));
    invoke(ledger, B, Action::Put { key: "p/2".into(), value: "0.1".into(), lease: 0 });
    ledger.complete(B, &done(3, Reply::Put));
    let put = Change::Put { key: b"p/2".to_vec(), value: b"0.1".to_vec(), create_revision: 3, version: 1, lease: 0 };
    (1..=3).for_each(|slot| ledger.deliver(Slot(slot), 3, std::slice::from_ref(&put)));
    invoke(ledger, C, Action::Read { keys: Keys::one("p/1"), revision: None, serializable: false });
    ledger.complete(C, &done(3, Reply::Read(vec![row()])));
}

fn kill_and_fence(ledger: &Ledger, alter: fn(&mut FenceAnswer)) {
    let cycle = 1;
    ledger.record(&Evidence::Killed { cycle, member: 2, engine: Some(Engine::Rocksdb) });
    let dead = DeadMember {
        engine: Some(Engine::Rocksdb),
        last_flushed_index: Some(4),
        engine_index: Some(4),
        log_first: Some(0),
        log_last: Some(9),
        ..DeadMember::default()
    };
    let applied_received = Some(7);
    let inspected = Evidence::Inspected { cycle, member: 2, look: Look::Killed, applied_received, dead };
    assert_eq!(judged(ledger, &inspected), []);
    ledger.record(&Evidence::Baseline { cycle });
    let digest = ledger.kv_digest(3, 0).unwrap();
    let nothing = Sha256::digest(b"").to_vec();
    let answer = FenceAnswer {
        missed: false,
        index: 12,
        term: 1,
        revision: 3,
        compact_revision: 0,
        kv: digest.sha256.to_vec(),
        lease: nothing.clone(),
        auth: nothing.clone(),
        membership: nothing,
        kv_rows: digest.rows,
        leases: vec![],
    };
    let mut answers: Vec<_> = (1..=3).map(|member| (member, answer.clone())).collect();
    alter(&mut answers[2].1);
    assert_eq!(judged(ledger, &Evidence::FenceAnswers { cycle, answers: Answers::new(&answers) }), []);
    let recovery = Recovered {
        last_flushed_index: Some(4),
        engine_index: Some(4),
        log_first: Some(0),
        log_last: Some(9),
        last_purged: None,
        scan_start: Some(5),
        verified: None,
        replayed: Some(IndexRange { first: 5, last: 9 }),
        complete: true,
        open_micros: 7,
        snapshot_installed: None,
    };
    assert_eq!(judged(ledger, &Evidence::Recovery { cycle, member: 2, recovery }), []);
    let template = sample::run().cycles[0].clone();
    let record = CycleRecord {
        cycle,
        planned: PlannedRecord { window: None, ..template.planned },
        outcome: FaultOutcome::Landed,
        kills: KillsRecord { landed: 1, by_engine: [(Engine::Rocksdb, 1)].into(), ..template.kills },
        recovery: RecoveryRecord { lost_entries: 3, replayed: 5, ..template.recovery },
        fence_index: Some(12),
        findings: 0,
        proved_nothing: None,
        ..template
    };
    ledger.record(&Evidence::CycleEnd { record });
}

#[track_caller]
fn noticed(verification: &Verification, exit: Exit, what: &str) {
    let findings: Vec<_> = verification.run.findings.iter().map(Finding::to_string).collect();
    let words = format!("{:?} {findings:?} {:?}", verification.exit(), verification.disagreements);
    assert_eq!(verification.exit(), exit, "{words}");
    assert!(words.contains(what), "expected {what} in {words}");
}

#[test]
fn an_unchanged_report_verifies() {
    let verification = report().verify();
    assert_eq!(verification.disagreements, Vec::<String>::new());
    assert_eq!((verification.exit(), verification.run.verdict), (Exit::Pass, Verdict::Pass));
    let counts = verification.counts;
    assert_eq!((counts.operations, counts.revisions, counts.redelivered, counts.fences), (3, 2, 4, 1));
}

/// The lines were sealed when the ledger was dropped.
#[test]
fn a_report_whose_frames_were_changed_is_refused_in_words() {
    let report = report();
    let frames = std::fs::read(report.frames()).unwrap();
    let refused = |frames: &[u8]| {
        std::fs::write(report.frames(), frames).unwrap();
        format!("{:#}", verify(&report.paths(), Claims::read(&report.paths()).unwrap()).unwrap_err())
    };
    let mut changed = frames.clone();
    changed[frames.len() / 2] ^= 1;
    let said = refused(&changed);
    assert!(said.contains("expected whole frames in") && said.contains("history.jsonl.zst, found damage"), "{said}");
    let said = refused(&frames[..frames.len() - 1]);
    assert!(said.contains("a part of the history is missing; restore both files"), "{said}");
}

/// A former version compressed nothing.
#[test]
fn a_report_of_lines_alone_verifies() {
    let report = report();
    let text = report.history();
    report.put_history(&text);
    let verification = report.verify();
    assert_eq!((verification.exit(), verification.disagreements), (Exit::Pass, vec![]));
}

#[test]
fn a_removed_line_is_noticed_whatever_it_says() {
    noticed(&report().without(r#""op":"0.0","revision""#), Exit::Harness, "acknowledged writes");
    noticed(&report().without(r#""op":"0.0""#), Exit::Violation, "phantom");
    noticed(&report().without(r#""event":"revision""#), Exit::Harness, "the history does not have it");
    noticed(&report().without(r#""revision":2,"slot":1"#), Exit::Violation, "went from revision");
    noticed(&report().without(r#""revision":2,"slot":3"#), Exit::Violation, "went from revision");
    noticed(&report().without(r#""event":"fence-answers""#), Exit::Harness, "no evidence of the fence");
    noticed(&report().without(r#""event":"killed""#), Exit::Harness, "kills of cycle 1");
    noticed(&report().without(r#""event":"cycle-end""#), Exit::Harness, "cycles");
    noticed(&report().without(r#""event":"end""#), Exit::Harness, "verdict");
}

#[test]
fn a_changed_line_is_noticed() {
    noticed(&report().edit(r#"[["p/1","~x12~,0.0",2,2,1,0]]"#, "[]"), Exit::Violation, "does not return p/1");
    noticed(
        &report().edit(r#"[["p/1","~x12~,0.0",2,2,1,0]]"#, r#"[["p/1","~x13~,0.0",2,2,1,0]]"#),
        Exit::Violation,
        "p/1",
    );
    noticed(&report().edit(r#"["p/1","~x12~,0.0",2,1,0]"#, r#"["p/1","~x12~,0.7",2,1,0]"#), Exit::Violation, "phantom");
    noticed(&report().edit(r#""kv":""#, r#""kv":"00"#), Exit::Violation, "kv section");
    noticed(&report().edit(r#""engine_index":4"#, r#""engine_index":3"#), Exit::Violation, "index-ahead-of-engine");
    noticed(&report().edit(r#""replayed":[5,9]"#, r#""replayed":[6,9]"#), Exit::Violation, "replay-start");
    noticed(
        &report().edit(r#""event":"killed""#, r#""event":"mark","was":"killed""#),
        Exit::Harness,
        "kills of cycle 1",
    );
}

/// A report whose `verdict.json` was changed, verified.
fn changed(change: fn(&mut RunSummary)) -> Verification {
    let report = report();
    let mut run = report::read(&report.paths()).unwrap();
    change(&mut run);
    report::write(&report.paths(), &run).unwrap();
    report.verify()
}

#[test]
fn a_changed_verdict_is_noticed() {
    noticed(&changed(|run| run.verdict = Verdict::Liveness), Exit::Harness, "verdict.json says liveness");
    noticed(&changed(|run| run.findings.push(Finding::of_class(Class::StateHash))), Exit::Harness, "classes");
    noticed(&changed(|run| run.load.acked_writes += 1), Exit::Harness, "acknowledged writes");
    noticed(&changed(|run| run.cycles[0].recovery.lost_entries += 1), Exit::Harness, "record of a cycle");
    noticed(&changed(|run| run.cycles.clear()), Exit::Harness, "cycles");
    noticed(&changed(|run| run.plan.seed += 1), Exit::Harness, "seed");
    noticed(&changed(|run| run.log_replayed.entries += 1), Exit::Harness, "raft log replay");
}

#[test]
fn a_pass_over_evidence_of_a_violation_is_one() {
    let report = report();
    let verification = report.edit(r#""engine_index":4"#, r#""engine_index":3"#);
    assert_eq!(verification.claimed.as_ref().unwrap().verdict, Verdict::Pass);
    assert_eq!(verification.exit(), Exit::Violation);
}

#[test]
fn testimony_counts_and_is_told_apart() {
    let report = report();
    let finding = Finding::of_class(Class::Liveness).in_cycle(1).at_member(1);
    let told = serde_json::to_string(&Evidence::Told { finding }).unwrap().replacen('{', r#"{"at_us":9,"#, 1);
    let text = report.history();
    let (last, before) = text.trim_end().rsplit_once('\n').map(|(before, last)| (last, before)).unwrap();
    report.put_history(&format!("{before}\n{told}\n{last}\n"));
    let verification = report.verify();
    noticed(&verification, Exit::Harness, "verdict.json says pass, the evidence liveness");
    assert_eq!(verification.classes, [("liveness", (0, 1))].into());
}

/// A history has no line for what strangers, hostile peers and the crowd refused or were refused.
#[test]
fn counts_that_no_evidence_has_are_the_runs() {
    let report = report();
    let mut claims = Claims::read(&report.paths()).unwrap();
    let run = claims.run.as_mut().unwrap();
    run.strangers = Some(StrangersRecord { stays: 1, came: 1, beside: 1, heard: 1, refused: 9, wrote: 0 });
    run.fault_classes.push("strangers".to_owned());
    let verification = verify(&report.paths(), claims).unwrap();
    assert_eq!((verification.disagreements.as_slice(), verification.exit()), (&[][..], Exit::Pass));
    let mut claims = Claims::read(&report.paths()).unwrap();
    claims.run.as_mut().unwrap().strangers = Some(StrangersRecord { stays: 1, ..StrangersRecord::default() });
    assert_eq!(verify(&report.paths(), claims).unwrap().run.verdict, Verdict::Inconclusive, "they were not heard");
}

#[test]
fn a_run_without_an_end_proves_no_pass() {
    let report = report();
    std::fs::remove_file(report.paths().verdict_json()).unwrap();
    let text = report.history();
    report.put_history(&text[..text.len() - 9]);
    let verification = report.verify();
    assert_eq!((verification.run.verdict, verification.torn), (Verdict::Inconclusive, 1));
    assert_eq!((verification.exit(), verification.run.cycles.len()), (Exit::Inconclusive, 1));
}

#[test]
fn another_plan_scenario_or_version_is_refused() {
    let report = report();
    let again = |paths: &Paths| Ok::<_, Failure>(verify(paths, Claims::read(paths)?)?);
    let refused = |report: &Report| format!("{:#}", again(&report.paths()).unwrap_err());
    let plan = std::fs::read_to_string(report.paths().plan_txt()).unwrap();
    std::fs::write(report.paths().plan_txt(), plan.replace("seed 1", "seed 2")).unwrap();
    assert!(refused(&report).contains("seed 2"), "{}", refused(&report));
    std::fs::write(report.paths().plan_txt(), plan).unwrap();
    let text = report.history();
    report.put_history(&text.replacen("\"version\":2", "\"version\":1", 1));
    assert!(refused(&report).contains("has version 1, this binary reads 2"), "{}", refused(&report));
    report.put_history(&text.replacen("\"event\":\"invoke\"", "\"event\":\"x\"", 1));
    assert!(refused(&report).contains("line 3"), "{}", refused(&report));
    std::fs::write(report.paths().scenario_toml(), SCENARIO.replace("keys = 10", "keys = 11")).unwrap();
    assert!(refused(&report).contains("expected a plan for the scenario beside it"), "{}", refused(&report));
}

const KNOWN: &str = r#"[[known]]
name = "old bug"
class = "state-hash"
what = "replicas-disagree"
fields = { part = "lease-section" }
because = "fixed since"
[[known]]
name = "stale"
class = "watch"
because = "gone"
"#;

/// A run that passed although n3 disagreed, because that was known.
fn report_with_a_known_finding() -> Report {
    report_of(&format!("{SCENARIO}{KNOWN}"), |answer| answer.lease[0] ^= 1)
}

#[test]
fn known_findings_are_suppressed_again_and_counted_alike() {
    let verification = report_with_a_known_finding().verify();
    assert_eq!(verification.disagreements, Vec::<String>::new());
    assert_eq!((verification.exit(), verification.run.verdict), (Exit::Pass, Verdict::Pass));
    let known: Vec<_> = verification.run.known.iter().map(|known| (known.name.as_str(), known.count)).collect();
    assert_eq!(known, [("old bug", 1), ("stale", 0)]);
    assert_eq!(verification.claimed.unwrap().known, verification.run.known);
    assert!(
        verification.run.skipped_checks.iter().any(|check| check.starts_with("comparison with the model at 1 fences"))
    );
}

#[test]
fn what_was_suppressed_cannot_be_changed_unnoticed() {
    let said = r#""known":"old bug""#;
    let report = report_with_a_known_finding();
    noticed(&report.edit(said, r#""known":"stale""#), Exit::Harness, "what the scenario does not know");
    noticed(&report_with_a_known_finding().edit(said, r#""was":"known""#), Exit::Harness, "does not lead to");
    let report = report_with_a_known_finding();
    let line = report.history().lines().find(|line| line.contains(said)).unwrap().to_owned();
    noticed(&report.edit(&line, &format!("{line}\n{line}")), Exit::Harness, "suppressed 2 findings");
    let report = report_with_a_known_finding();
    noticed(&report.without(r#""event":"fence-answers""#), Exit::Harness, "known findings: verdict.json says 1 as");
    // Another section than the known one.
    let kv = report_with_a_known_finding().edit(r#""kv":""#, r#""kv":"00"#);
    noticed(&kv, Exit::Violation, "kv section");
}

#[test]
fn a_count_that_was_changed_is_noticed() {
    let report = report_with_a_known_finding();
    let mut run = report::read(&report.paths()).unwrap();
    run.known[0].count = 0;
    report::write(&report.paths(), &run).unwrap();
    noticed(&report.verify(), Exit::Harness, "known findings: verdict.json says 0 as");
}

/// A judge that goes by something else than the evidence would leave other books behind.
#[test]
fn books_that_differ_in_a_field_are_noticed() {
    let other = changed(|run| drop(run.books[0].fields.insert("sessions".to_owned(), "00".to_owned())));
    noticed(&other, Exit::Harness, "books of cluster 1, field sessions: verdict.json says 00");
    noticed(
        &changed(|run| drop(run.books[0].fields.remove("model"))),
        Exit::Harness,
        "field model: verdict.json says nothing",
    );
    noticed(&changed(|run| run.books.clear()), Exit::Harness, "books: verdict.json says those of 0 clusters");
    let another = changed(|run| run.books[0].build = Some("ab".to_owned()));
    assert_eq!((another.exit(), another.disagreements), (Exit::Pass, vec![]));
    assert!(another.run.skipped_checks.iter().any(|check| check.starts_with("comparison of the books")));
}

/// A full disk: the report says so, and its evidence ends in the middle. What is there is judged,
/// and the rest claims nothing.
#[test]
fn a_report_whose_history_found_no_room_is_not_accused_of_that() {
    let cut = |class: Class| {
        let report = report();
        let run = RunSummary {
            verdict: class.verdict(),
            findings: vec![Finding::of_class(class)],
            ..report::read(&report.paths()).unwrap()
        };
        report::write(&report.paths(), &run).unwrap();
        report
    };
    let verified = cut(Class::MachineExhausted).without(r#""event":"end""#);
    assert_eq!(verified.disagreements, [""; 0]);
    assert_eq!((verified.exit(), verified.run.verdict), (Exit::Harness, Verdict::HarnessError));
    assert!(verified.run.skipped_checks.iter().any(|check| check.contains("beyond the end of its history")));
    noticed(&cut(Class::StateHash).without(r#""event":"end""#), Exit::Harness, "verdict");
    noticed(&cut(Class::MachineExhausted).without(r#""op":"0.0""#), Exit::Violation, "phantom");
}
