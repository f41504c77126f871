//! A run among many, for what it finds: replays, a shrinker's trials, runs against planted bugs.
//!
//! It is the same run as any other, with a report of its own; it only says nothing on the terminal,
//! and ends as an interrupted run does once it takes longer than its caller can wait. Such an end
//! proves nothing.

use crate::exit::Exit;
use crate::run::{self, Job};
use crate::timer;
use futures_util::stream::{FuturesUnordered, StreamExt};
use ninelives_evidence::limits;
use ninelives_evidence::record::RunSummary;
use ninelives_evidence::verdict::Class;
use std::time::Duration;
use tokio::sync::watch;

/// Result of a probe.
#[derive(Debug, Clone)]
pub struct Sighting {
    pub summary: RunSummary,
    pub exit: Exit,
    /// It took longer than its bound, and was ended.
    pub late: bool,
}

impl Sighting {
    /// The class that names what was found best; `None`: nothing was.
    pub fn headline(&self) -> Option<Class> {
        headline(&self.summary)
    }
}

/// The class at the head of a report; `None` if it found nothing, or was ended before it could.
pub fn headline(run: &RunSummary) -> Option<Class> {
    let first = run.findings.first().map(|finding| finding.class());
    // "Interrupted" and "too few kills" say how much a run was worth, and not what is wrong with
    // the system.
    first.filter(|class| *class != Class::NotProven)
}

/// Runs `job` for at most `bound`. `interrupt` ends it early as well.
///
/// # Errors
/// Those of [`run::run`].
pub async fn probe(job: &Job, bound: Duration, mut interrupt: watch::Receiver<bool>) -> anyhow::Result<Sighting> {
    let (end, ended) = watch::channel(false);
    let run = run::run(job, ended);
    tokio::pin!(run);
    let mut late = false;
    let early = tokio::select! {
        done = &mut run => Some(done),
        () = wanted(&mut interrupt) => None,
        () = timer::sleep(bound) => { late = true; None }
    };
    let (summary, exit) = match early {
        Some(done) => done?,
        None => {
            end.send_replace(true);
            run.await?
        }
    };
    Ok(Sighting { summary, exit, late })
}

/// Becomes ready when everything is to end; never, once the sender is gone.
async fn wanted(interrupt: &mut watch::Receiver<bool>) {
    if interrupt.wait_for(|interrupted| *interrupted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Runs `jobs`, at most `lanes` of them side by side, each on a cluster and ports of its own.
/// `ended` hears of each as it ends, with its place in `jobs`; none is begun once it returned
/// `false`, or after an interruption.
///
/// # Errors
/// The first error of a run; the others are ended first.
pub async fn side_by_side(
    jobs: Vec<(Job, Duration)>,
    lanes: usize,
    interrupt: &watch::Receiver<bool>,
    mut ended: impl FnMut(usize, Sighting) -> bool,
) -> anyhow::Result<()> {
    let start = |(place, (job, bound)): (usize, (Job, Duration))| {
        let interrupt = interrupt.clone();
        // A thread of its own: the checks of one run must not hold up the cycles of another.
        let here = tokio::runtime::Handle::current();
        let task = tokio::task::spawn_blocking(move || here.block_on(probe(&job, bound, interrupt)));
        async move { (place, task.await) }
    };
    let mut waiting = jobs.into_iter().enumerate();
    let mut running: FuturesUnordered<_> = waiting.by_ref().take(lanes.max(1)).map(start).collect();
    let (mut more, mut failed) = (true, None);
    while let Some((place, done)) = running.next().await {
        match done.map_err(anyhow::Error::from).and_then(|done| done) {
            Ok(sighting) => more &= ended(place, sighting),
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
        if more && failed.is_none() && !*interrupt.borrow() {
            running.extend(waiting.next().map(start));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The number of runs side by side that this machine carries without becoming the limit of their
/// bounds.
pub fn lanes() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(limits::LANES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use ninelives_evidence::verdict::Finding;

    #[test]
    fn what_a_run_was_worth_is_no_headline() {
        let mut run = sample::failing();
        assert_eq!(headline(&run), run.findings.first().map(|finding| finding.class()));
        run.findings = vec![Finding::of_class(Class::NotProven)];
        assert_eq!(headline(&run), None);
        run.findings.clear();
        assert_eq!(headline(&run), None);
    }
}
