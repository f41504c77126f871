//! Explores the instant of a cut: many of its crash states, each tried alone and side by side.
//!
//! Every state is looked at by the inspector, and its member is started on it by the binary under
//! test. States with the same names and contents are one state, and count once.

use super::bench::{Bench, Depth, Tried};
use super::enumerate::{KEEPS, enumerate};
use crate::cluster::Cluster;
use crate::faultfs::Crash;
use crate::seed::Seed;
use futures_util::stream::{self, StreamExt};
use ninelives_evidence::record::explored::ExploredRecord;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::{clock, limits};
use std::cell::Cell;

/// Tries up to `states` crash states of the instant that is kept of `member`'s last cut. Ends with
/// the first one that breaks a promise: its findings are the second part.
///
/// # Errors
/// The harness could not do its part.
pub async fn explore(
    cluster: &mut Cluster,
    member: u64,
    states: u32,
    seed: &Seed,
) -> anyhow::Result<Option<(ExploredRecord, Vec<Finding>)>> {
    let one = cluster.members.iter().find(|one| one.id == member);
    let bench = one.map(|one| Bench::of(&cluster.site, one)).transpose()?.flatten();
    let Some(bench) = bench else { return Ok(None) };
    let explored = Exploration { bench: &bench, states: states as usize, seed }.run().await;
    bench.clear()?;
    let (record, failed) = explored?;
    let mut findings = Vec::new();
    if let Some(Failed { number, crash, tried }) = failed {
        findings.extend(tried.findings.into_iter().map(|finding| Finding { state: Some(number), ..finding }));
        if let Some(kept) = cluster.members.iter_mut().find(|one| one.id == member).and_then(|one| one.kept_mut()) {
            kept.broken = Some((number, crash));
        }
    }
    Ok(Some((record, findings)))
}

struct Exploration<'a> {
    bench: &'a Bench<'a>,
    states: usize,
    seed: &'a Seed,
}

/// A state that broke a promise.
struct Failed {
    number: u64,
    crash: Crash,
    tried: Tried,
}

impl Exploration<'_> {
    async fn run(&self) -> anyhow::Result<(ExploredRecord, Option<Failed>)> {
        let start = clock::now();
        let kept = self.bench.kept();
        let (member, operations) = (kept.known.member, self.all_lost()?.operations().len() as u64);
        let mut record =
            ExploredRecord { member, operations, in_memory: self.bench.is_in_memory(), ..ExploredRecord::default() };
        let mut failed = None;
        let enumerated = self.enumerated()?;
        let drawn = (0..self.states as u64 * limits::DRAWS_PER_STATE_MAX).map(|nth| self.drawn(nth));
        let over = Cell::new(false);
        let crashes = enumerated.chain(drawn).take_while(|_| !over.get());
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let side_by_side = cores * limits::EXPLORED_PER_CORE;
        let tries = crashes.enumerate().map(|(nth, crash)| async move {
            let crash = crash?;
            let tried = self.bench.try_new(nth % side_by_side, &crash, Depth::Start).await?;
            anyhow::Ok((crash, tried))
        });
        // In order, so that no two of those under way have the same place. Those that are under way
        // at the end are awaited: they work in the directories that are removed next.
        let mut tries = stream::iter(tries).buffered(side_by_side);
        while let Some(tried) = tries.next().await {
            match tried? {
                _ if over.get() => {}
                (_, None) => record.equal += 1,
                (crash, Some(tried)) => {
                    record.states += 1;
                    let number = record.states;
                    failed = (!tried.findings.is_empty()).then_some(Failed { number, crash, tried });
                    over.set(failed.is_some() || number >= self.states as u64);
                }
            }
        }
        record.elapsed_ms = clock::ms_since(start);
        Ok((record, failed))
    }

    /// The crash state that loses everything that was not synced.
    fn all_lost(&self) -> anyhow::Result<Crash> {
        // Everything is lost, so nothing is drawn from this stream that matters.
        self.bench.instant().all_lost(&mut self.seed.stream("all lost"))
    }

    /// Half of the states at most, so that the others are drawn.
    fn enumerated(&self) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Crash>>> {
        let (instant, all_lost) = (self.bench.instant(), self.all_lost()?);
        let operations = all_lost.operations().into_iter().collect();
        let sets = enumerate(&operations, self.states.div_ceil(2));
        Ok(sets.into_iter().map(move |lost| Ok(instant.part(&all_lost, &lost, instant.mode()))))
    }

    fn drawn(&self, nth: u64) -> anyhow::Result<Crash> {
        let kept = self.bench.kept();
        let mut draws = self.seed.stream(&format!("states/{}/{}/{nth}", kept.known.cycle, kept.known.member));
        let keep_percent = KEEPS[nth as usize % KEEPS.len()];
        self.bench.instant().drawn(keep_percent, &mut draws)
    }
}
