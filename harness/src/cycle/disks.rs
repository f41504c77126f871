//! Members whose disks fail, and what they may do then.
//!
//! A member that a disk gives an error that no member survives ends by itself, with the exit code
//! that the node documents. It is then a casualty like one that was killed: inspected, started
//! again, and judged. Nothing else excuses an end: a member that dies of a shortage that it
//! promises to survive has died.
//!
//! A member may live on after an error that it can survive, but not with a hole in its data. The
//! harness kills it once all are live again, so that its next life reads what it wrote.

use super::{Casualty, Stage, Work};
use crate::cluster::{Member, Trouble};
use crate::faultfs::Ailing;
use crate::pace::{Lap, Pace};
use crate::plan::Ailment;
use crate::process::Signals;
use crate::timer;
use ninelives_evidence::limits;
use ninelives_evidence::record::Victim;
use ninelives_evidence::stretched::Stretched;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Members;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// A member whose disk is to fail a sync.
pub(super) struct Failing {
    member: u64,
    ailing: Ailing,
    process: watch::Receiver<Signals>,
    pace: Pace,
}

/// A sync that failed.
pub(super) struct Failure {
    pub member: u64,
    /// Within the data directory.
    pub file: String,
    /// What it was for counts as written.
    losing: bool,
    /// The member did not end within so long.
    went_on: Option<Stretched>,
}

/// A member whose disk is to refuse reads or writes.
pub(super) struct Refusing {
    member: u64,
    ailing: Ailing,
}

impl Refusing {
    /// Waits until the disk refuses an operation, within a bound of `lap`, and then for so `long`
    /// while it refuses all others of its kind. The operations that it refused, and the member with
    /// the file of the first.
    pub(super) async fn end(self, lap: &Lap, long: Duration) -> (u64, Option<String>) {
        let mut failed = self.ailing.failed();
        let file = async { failed.wait_for(Option::is_some).await.ok().and_then(|file| file.clone()) };
        let file = lap.within(Duration::from_millis(limits::DISK_MEET_MS_MAX), file).await.ok().flatten();
        if file.is_some() {
            timer::sleep(long).await;
        }
        (self.ailing.met(), file.map(|file| format!("n{} {}", self.member, file.display())))
    }
}

impl Failing {
    /// Waits until a sync fails, within `bound` of `lap`, and then until the member has ended.
    /// `None`: no sync came.
    pub(super) async fn end(&self, lap: &Lap, bound: Duration, losing: bool) -> Option<Failure> {
        let mut failed = self.ailing.failed();
        let file = async { failed.wait_for(Option::is_some).await.ok().and_then(|file| file.clone()) };
        let file = lap.within(bound, file).await.ok().flatten()?.display().to_string();
        let mut process = self.process.clone();
        // Without its sender the process is dead as well.
        let ended = async { process.wait_for(|process| process.ended.is_some()).await.map(drop) };
        let ended = self.pace.within(limits::DISK_END, ended).await;
        Some(Failure { member: self.member, file, losing, went_on: ended.err() })
    }
}

/// Whether a member has to end when a sync of this file fails: the raft log, the engine's own
/// files, and the index are what it answers for. A received image, for one, may be asked for again.
fn has_to_end(file: &str) -> bool {
    let path = Path::new(file);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let of_engine = path.starts_with("member/snap/db");
    name == "raft-log.redb"
        || name == "last-flushed-index.tmp"
        || of_engine && (name == "db" || name.ends_with(".sst") || name.starts_with("MANIFEST-"))
}

impl Stage<'_> {
    pub(super) fn ail(&self, cycle: u32, ailment: Ailment, victims: &[Victim]) -> Result<Vec<Ailing>, Trouble> {
        let ail = |victim: &Victim| {
            let name = if ailment.operation().is_some() { "parts" } else { "slow" };
            let draws = self.seed.stream(&format!("{name}/{cycle}/{}", victim.member));
            self.member(victim.member)?.ail(ailment, draws)
        };
        victims.iter().map(ail).collect()
    }

    /// `done`, unless it is the end of a member that its disk explains: then the step's kill came
    /// too late.
    pub(super) fn unless_of_a_disk(&self, work: &mut Work, done: Result<(), Trouble>) -> Result<(), Trouble> {
        match done {
            Err(Trouble::Died { member, .. }) if self.ended_of_its_disk(member) => {
                work.skip(format!("n{member} had ended before, of its disk"));
                Ok(())
            }
            done => done,
        }
    }

    /// Brings all members back, and once more those that ended meanwhile of what their disks had
    /// done to them. A life is excused at most once, and the one after a start that failed meets a
    /// disk that is well.
    ///
    /// Members that live on after a write that failed or was cut short are killed then: only a next
    /// life reads what is on their disks.
    pub(super) async fn heal(&mut self, work: &mut Work) -> Result<(), Trouble> {
        loop {
            self.end_mortal(work).await?;
            self.bury(work).await?;
            self.draw_consequences(work).await?;
            match self.come_back(work).await {
                Err(Trouble::Died { member, .. }) if self.ended_of_its_disk(member) => {
                    self.end_met_by_starts(work).await?;
                }
                Err(Trouble::Died { member, .. }) if work.is_damaged(member) => self.replace_damaged(work).await?,
                Ok(()) => {
                    let outlived = self.cluster.members.iter().filter(|member| member.outlived_a_write());
                    let outlived: Vec<_> = outlived.map(|member| member.id).collect();
                    if outlived.is_empty() {
                        return Ok(());
                    }
                    self.kill(work, &outlived).await?;
                }
                failed => return failed,
            }
        }
    }

    /// The victims with their disks and their processes.
    pub(super) fn failing(&self, ailing: Vec<Ailing>, victims: &[Victim]) -> Result<Vec<Failing>, Trouble> {
        let failing = victims.iter().zip(ailing).map(|(victim, ailing)| {
            let process = self.member(victim.member)?.process()?;
            Ok(Failing { member: victim.member, ailing, process, pace: self.cluster.site.pace().clone() })
        });
        failing.collect()
    }

    pub(super) fn refusing(&self, ailing: Vec<Ailing>, victims: &[Victim]) -> Vec<Refusing> {
        let refusing = victims.iter().zip(ailing);
        refusing.map(|(victim, ailing)| Refusing { member: victim.member, ailing }).collect()
    }

    /// A member that goes on after a failed sync is told of, and the power fails under those whose
    /// sync lost what it was for, before they start again.
    async fn draw_consequences(&mut self, work: &mut Work) -> Result<(), Trouble> {
        for Failure { member, file, losing, went_on } in std::mem::take(&mut work.failures) {
            if let Some(bound) = went_on.filter(|_| has_to_end(&file)) {
                let what = Members::WentOnAfterFailedSync { member, file, bound };
                self.tell(work, Finding::new(what).in_cycle(work.step.cycle).at_member(member));
            }
            if !losing {
                continue;
            }
            if self.member(member)?.is_up() {
                work.keep_percent = Some(0);
                let struck = self.strike_down(work, &[member]).await;
                work.keep_percent = None;
                struck?;
            } else {
                self.cut_power(work, member, 0)?;
            }
        }
        Ok(())
    }

    async fn come_back(&mut self, work: &mut Work) -> Result<(), Trouble> {
        self.inspect_dead(work).await?;
        self.strangers(work).await?;
        self.damage(work)?;
        self.restart(work).await?;
        if let Some(id) = work.joined.take() {
            self.bring_in(work, id, &self.membership_without(id)).await?;
        }
        self.end_lasting(work).await?;
        self.catch_up(work).await
    }

    /// Counts the members that ended of their disks among the dead.
    async fn bury(&mut self, work: &mut Work) -> Result<(), Trouble> {
        let mut dead = Vec::new();
        for member in self.cluster.members.iter_mut().filter(|member| member.ended_of_its_disk().is_some()) {
            let (id, engine) = (member.id, member.engine);
            if let Some(death) = member.kill().await.transpose()? {
                dead.push(Casualty { member: id, engine, death, dead: None });
            }
        }
        dead.into_iter().for_each(|casualty| self.casualty(work, casualty));
        Ok(())
    }

    pub(super) fn ended_of_its_disk(&self, member: u64) -> bool {
        self.cluster.member(member).and_then(Member::ended_of_its_disk).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_to_end_for_what_it_answers_for() {
        for file in [
            "member/raft/raft-log.redb",
            "member/snap/last-flushed-index.tmp",
            "member/snap/db",
            "member/snap/db/000012.sst",
            "member/snap/db/MANIFEST-000005",
        ] {
            assert!(has_to_end(file), "{file}");
        }
        for file in ["", "ballast", "member/snap/db.incoming/000012.sst", "member/snap/db/OPTIONS-000007.dbtmp"] {
            assert!(!has_to_end(file), "{file}");
        }
    }
}
