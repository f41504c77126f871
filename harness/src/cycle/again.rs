//! Further kills of the first victim, each in the life that follows the kill before it.
//!
//! Recovery has to be safe to repeat from any of its own steps. So the first victim is started with
//! the next window armed, and dies there; its directory is inspected and judged like after any
//! other kill. The others that died with it come back meanwhile. A window that is not passed ends
//! the series, because the member is up by then and serves.

use super::{Stage, Work};
use crate::cluster::Trouble;
use crate::plan::{At, Power};
use ninelives_evidence::Did;
use ninelives_evidence::record::{AgainRecord, FaultOutcome};

impl Stage<'_> {
    /// Kills the first victim again in each window of `again`, in their order.
    pub(super) async fn strike_again(&mut self, work: &mut Work, again: &[At], power: Power) -> Result<(), Trouble> {
        let first = work.victims.first().map(|victim| victim.member);
        let landed = work.record.outcome == FaultOutcome::Landed;
        for (nth, at) in again.iter().enumerate() {
            work.keep_percent = power.keeps(nth + 1, 1 + again.len());
            let reached = match first {
                Some(first) if landed => self.kill_again(work, first, at).await?,
                _ => Err("the kill before it did not land".to_owned()),
            };
            let missed = reached.is_err();
            work.tell_again(first, at, reached.err());
            if missed {
                let rest = &again[nth + 1..];
                rest.iter()
                    .for_each(|at| work.tell_again(first, at, Some("the one before it was not reached".to_owned())));
                break;
            }
        }
        Ok(())
    }

    /// Kills `first` once more, at `at`. `Err`: the reason why the window was not reached.
    async fn kill_again(&mut self, work: &mut Work, first: u64, at: &At) -> Result<Result<(), String>, Trouble> {
        let engine = self.member(first)?.engine;
        if !at.window.exists_on(engine) {
            return Ok(Err(format!("n/a on {engine}, which n{first} runs")));
        }
        self.inspect_dead(work).await?;
        let down: Vec<_> = self.cluster.members.iter().filter(|one| !one.is_up() && one.id != first).collect();
        for member in down.into_iter().map(|member| member.id).collect::<Vec<_>>() {
            self.start(work, member, None).await?;
        }
        self.note(work.step.cycle, Did::Arm, Some(first), Some(at.window.name));
        let reached = self.restart_towards(work, first, *at).await?;
        Ok(self.strike_alone(work, first, reached).await?.map_err(|miss| miss.to_string()))
    }
}

impl Work {
    fn tell_again(&mut self, first: Option<u64>, at: &At, skipped: Option<String>) {
        let member = first.unwrap_or(0);
        self.record.kills.again.push(AgainRecord { member, window: at.window.name.to_owned(), hit: at.hit, skipped });
    }
}
