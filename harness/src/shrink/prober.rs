//! The oracle that asks real clusters: runs of a candidate, as many as [`super::ruling`] needs,
//! within a budget.
//!
//! A probe ends at its first finding, as every run does. A probe that takes several times as long
//! as any failing one is ended: for the search that is a miss. With less load a kill at a window
//! comes later; a kill that comes near its bound here would not land at all on a busier machine, so
//! a failure with less load counts only if its kills came about as soon as with all of the load.
//! Two probes of one candidate run side by side, so that one round mostly decides. For each
//! accepted candidate the report of its last failing run is kept until the end.

use super::candidate::Candidate;
use super::minimise::{Answer, Shrunk};
use super::progress::Progress;
use super::ruling::{Rate, Ruling, rule, wanted};
use crate::directory;
use crate::paths::Paths;
use crate::probe::{Sighting, side_by_side};
use crate::run::Job;
use anyhow::Context;
use ninelives_evidence::verdict::Class;
use ninelives_evidence::{clock, limits};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The share of the confirming runs that have to fail again.
const CONFIRMED: f64 = 0.9;

/// The time and the probes that a shrinker may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// The total time, from the first probe on.
    pub total: Duration,
    /// Probes of the search; the confirming runs come on top.
    pub probes: u32,
}

/// Runs candidates.
pub struct Prober {
    /// The job that is the same in every probe.
    base: Job,
    class: Class,
    /// Reports of probes; removed with this value.
    dir: PathBuf,
    lanes: usize,
    interrupt: watch::Receiver<bool>,
    budget: Budget,
    started: Instant,
    /// The rate of the best candidate.
    rate: Rate,
    /// Digest of its scenario.
    scenario: String,
    /// Digest of the start's scenario, and how long the quickest failing run on it waited for its
    /// slowest kill.
    start: (String, Option<Duration>),
    /// The search is over.
    confirming: bool,
    /// Milliseconds of the longest failing run so far.
    longest_ms: u64,
    /// The longest that runs side by side have taken, start and end of a run included.
    batch: Duration,
    probes: u32,
    /// The heads of runs that did not fail as they should have.
    instead: BTreeMap<String, u32>,
    /// By candidate: the report of its last failing run.
    evidence: HashMap<String, PathBuf>,
    progress: Progress,
    failed: Option<anyhow::Error>,
}

/// The confirming runs of a search's result.
#[derive(Debug, Clone)]
pub struct Confirmed {
    pub candidate: Candidate,
    pub rate: Rate,
    /// The report of a failing run of it.
    pub evidence: PathBuf,
    /// Smaller candidates that came back too rarely: steps, faults, rate.
    pub unreliable: Vec<(usize, usize, Rate)>,
}

/// The end of a search: there are no further runs.
struct SearchOver;

impl Prober {
    /// Probes run as `base` does, and fail if they are headed by `class`; `failed_ms` is how long
    /// the report's run took. Their reports are made in `dir`.
    ///
    /// # Errors
    /// `dir` cannot be made.
    pub fn new(
        base: Job,
        class: Class,
        failed_ms: u64,
        dir: &Path,
        lanes: usize,
        budget: Budget,
        interrupt: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self {
            base: Job { quiet: true, ..base },
            class,
            dir: dir.to_owned(),
            lanes,
            interrupt,
            budget,
            started: clock::now(),
            rate: Rate::default(),
            scenario: String::new(),
            start: (String::new(), None),
            confirming: false,
            longest_ms: failed_ms,
            batch: Duration::ZERO,
            probes: 0,
            instead: BTreeMap::new(),
            evidence: HashMap::new(),
            progress: Progress::new(budget.total),
            failed: None,
        })
    }

    /// Measures how often `start` fails: by two runs if both fail, and by more if not. A rate
    /// without a hit: it did not fail in any of the runs that fit into a quarter of the time.
    ///
    /// # Errors
    /// A run could not be carried out.
    pub async fn measure(&mut self, start: &Candidate) -> anyhow::Result<Rate> {
        let mut rate = Rate::default();
        self.start.0 = start.scenario().digest();
        self.progress.best(start);
        while !(rate.is_reliable() || rate.hits > 0 && rate.tries >= 4) {
            let enough = rate.tries >= limits::SHRINK_START_TRIES_MAX || self.elapsed() >= self.budget.total / 4;
            if enough && rate.tries >= limits::SHRINK_START_TRIES {
                break;
            }
            if self.runs(start, self.lanes as u32, &mut rate).await.is_err() {
                break;
            }
        }
        (self.rate, self.scenario) = (rate, self.start.0.clone());
        self.failed.take().map_or(Ok(rate), Err)
    }

    /// The oracle of the search.
    pub async fn ask(&mut self, candidate: &Candidate) -> Answer {
        let mut own = Rate::default();
        let scenario = candidate.scenario().digest();
        let wanted = wanted(scenario != self.scenario);
        loop {
            let open = match rule(own, self.rate, wanted) {
                Ruling::Accept => {
                    (self.rate, self.scenario) = (own, scenario);
                    self.progress.accepted(candidate, self.elapsed());
                    return Answer::Same;
                }
                Ruling::Reject => {
                    self.forget(candidate);
                    return Answer::Other;
                }
                Ruling::Open(runs) => runs,
            };
            // A rare failure: each run counts, so no lane stands idle.
            let runs = if self.rate.is_reliable() { open } else { self.lanes as u32 };
            if self.over_budget() || self.runs(candidate, runs, &mut own).await.is_err() {
                self.forget(candidate);
                return Answer::Stop;
            }
        }
    }

    /// Confirms the smallest candidate that comes back reliably; if none does, the candidate that
    /// comes back most often.
    ///
    /// # Errors
    /// A run could not be carried out, or no candidate failed again.
    pub async fn confirm(&mut self, shrunk: &Shrunk) -> anyhow::Result<Confirmed> {
        self.confirming = true;
        let mut unreliable = Vec::new();
        let mut fallback: Option<(Candidate, Rate)> = None;
        for candidate in shrunk.trail.iter().rev() {
            let mut rate = Rate::default();
            while rate.tries < limits::SHRINK_CONFIRMING_RUNS && rate.misses() < 2 {
                let runs = (limits::SHRINK_CONFIRMING_RUNS - rate.tries).min(self.lanes as u32);
                let ended = self.runs(candidate, runs, &mut rate).await.is_err();
                // Past its time, two runs have to be enough.
                if ended || self.over_time() && rate.tries > 1 {
                    break;
                }
            }
            let stop = *self.interrupt.borrow() || self.over_time() || self.failed.is_some();
            if rate.tries > 1 && rate.share() >= CONFIRMED || stop && fallback.is_none() && rate.misses() == 0 {
                return self.confirmed(candidate.clone(), rate, unreliable);
            }
            if fallback.as_ref().is_none_or(|(_, best)| rate.share() > best.share()) {
                fallback = Some((candidate.clone(), rate));
            }
            if stop {
                break;
            }
            unreliable.push((candidate.steps().len(), candidate.faults(), rate));
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let (candidate, rate) = fallback.context("a search without a single candidate")?;
        self.confirmed(candidate, rate, unreliable)
    }

    fn confirmed(
        &mut self,
        candidate: Candidate,
        rate: Rate,
        unreliable: Vec<(usize, usize, Rate)>,
    ) -> anyhow::Result<Confirmed> {
        let evidence = self.evidence.remove(&candidate.key()).context("no failing run of the shrunk plan was kept")?;
        Ok(Confirmed { candidate, rate, evidence, unreliable })
    }

    /// The heads of runs that did not fail as they should have, with their numbers: `nothing 3,
    /// state-hash 2`.
    pub fn instead(&self) -> String {
        self.instead.iter().map(|(seen, runs)| format!("{seen} {runs}")).collect::<Vec<_>>().join(", ")
    }

    pub fn probes(&self) -> u32 {
        self.probes
    }

    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(clock::ms_since(self.started))
    }

    /// The error that ended the search, if one did.
    pub fn take_failure(&mut self) -> Option<anyhow::Error> {
        self.failed.take()
    }

    /// Runs `candidate` this often, and counts it in `rate`.
    async fn runs(&mut self, candidate: &Candidate, runs: u32, rate: &mut Rate) -> Result<(), SearchOver> {
        let bound = self.bound();
        let jobs: Vec<_> = (1..=runs).map(|run| (self.job(candidate, run), bound)).collect();
        let roots: Vec<_> = jobs.iter().map(|(job, _)| job.paths.root().to_owned()).collect();
        let begun = clock::now();
        self.probes += runs;
        let mut sightings: Vec<Option<Sighting>> = roots.iter().map(|_| None).collect();
        let take = |place: usize, sighting| {
            sightings[place] = Some(sighting);
            true
        };
        if let Err(error) = side_by_side(jobs, self.lanes, &self.interrupt.clone(), take).await {
            self.failed = Some(error);
            return Err(SearchOver);
        }
        self.batch = self.batch.max(Duration::from_millis(clock::ms_since(begun)));
        let mut cut = false;
        for (sighting, root) in sightings.into_iter().zip(roots) {
            let hit = sighting.as_ref().is_some_and(|sighting| self.is_hit(candidate, sighting));
            match sighting {
                Some(sighting) if hit => {
                    rate.count(true);
                    self.longest_ms = self.longest_ms.max(sighting.summary.elapsed_ms);
                    self.keep(candidate, root);
                }
                // Ended by us and not by its plan.
                Some(sighting) if sighting.summary.interrupted && !sighting.late => {
                    cut = true;
                    self.remove(&root);
                }
                None => cut = true,
                Some(sighting) => {
                    rate.count(false);
                    let seen = sighting.headline().map_or_else(|| "nothing".to_owned(), |class| class.to_string());
                    *self.instead.entry(seen).or_default() += 1;
                    self.remove(&root);
                }
            }
        }
        self.progress.probed(self.probes, self.elapsed());
        if cut || self.failed.is_some() { Err(SearchOver) } else { Ok(()) }
    }

    /// Whether the run failed as it should have; in the search, also with a margin.
    fn is_hit(&mut self, candidate: &Candidate, sighting: &Sighting) -> bool {
        if sighting.headline() != Some(self.class) {
            return false;
        }
        let kill_ms = sighting.summary.cycles.iter().map(|cycle| cycle.phases.kill).max().unwrap_or(0);
        let waited = Duration::from_millis(kill_ms);
        let (start, quickest) = &mut self.start;
        if candidate.scenario().digest() == *start {
            *quickest = quickest.map_or(waited, |quickest| quickest.min(waited)).into();
            return true;
        }
        let bound = Duration::from_millis(candidate.scenario().bounds.window_wait_ms_max);
        let soon = quickest.unwrap_or_default() * 3 / 2;
        // A run that fails without its kill does not show whether there is enough load for a kill.
        let landed = sighting.summary.cycles.iter().all(|cycle| cycle.landed());
        self.confirming || landed && waited <= soon.max(bound / limits::SHRINK_WAIT_SHARE)
    }

    fn job(&self, candidate: &Candidate, run: u32) -> Job {
        let root = self.dir.join(format!("{}", self.probes + run));
        Job {
            scenario: candidate.scenario().clone(),
            plan: candidate.plan().clone(),
            paths: Paths::new(root),
            ..self.base.clone()
        }
    }

    /// The time that one probe may take.
    fn bound(&self) -> Duration {
        let several = Duration::from_millis(self.longest_ms) * limits::SHRINK_PROBE_FACTOR;
        several.max(limits::SHRINK_PROBE_MIN)
    }

    fn over_time(&self) -> bool {
        self.elapsed() >= self.budget.total
    }

    /// Leaves room for the confirming runs.
    fn over_budget(&self) -> bool {
        let confirming = self.batch * limits::SHRINK_CONFIRMING_RUNS.div_ceil(self.lanes as u32);
        self.probes >= self.budget.probes || self.elapsed() + confirming.min(self.budget.total / 3) >= self.budget.total
    }

    /// One report for each candidate: the last that failed.
    fn keep(&mut self, candidate: &Candidate, root: PathBuf) {
        if let Some(before) = self.evidence.insert(candidate.key(), root) {
            self.remove(&before);
        }
    }

    fn forget(&mut self, candidate: &Candidate) {
        if let Some(root) = self.evidence.remove(&candidate.key()) {
            self.remove(&root);
        }
    }

    fn remove(&mut self, root: &Path) {
        if let Err(error) = directory::remove(root) {
            self.failed.get_or_insert(error);
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        // The reports that are worth keeping are elsewhere by now.
        let _ = directory::remove(&self.dir);
    }
}
