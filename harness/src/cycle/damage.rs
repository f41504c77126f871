//! A file of a dead member is damaged, and what the member may do then.
//!
//! It is damaged after the inspection, so that what was there is known, and before the start. The
//! member may refuse: with an exit code that the node documents and a last line that names the
//! file, in its start or later. It may also serve, and then nothing that it answers may be wrong,
//! and nothing that it acknowledged forgotten; the fence and all other judges look at it as at any
//! member.
//!
//! Either way it is replaced within the cycle, under a new id and from an empty directory, as a
//! user would do it. So at most one member of the cluster ever has a damaged file, and the others
//! have an intact copy of everything.

use super::strike::unknown;
use super::{Stage, Work};
use crate::cluster::Trouble;
use crate::damage::{Older, damage, older};
use crate::plan::{Corruption, Fault};
use crate::process::last_line;
use ninelives_evidence::damage::{DamageKind, DamageRecord, Refusal};
use ninelives_evidence::ended::Ended;
use ninelives_evidence::{Did, Evidence};
use std::time::Duration;

/// The damage of a cycle.
#[derive(Debug, Default)]
pub(super) struct Damages {
    /// The file as it was when the cycle began.
    older: Option<Older>,
    /// The member with a damaged file, until it is replaced.
    member: Option<u64>,
}

impl Stage<'_> {
    /// Keeps the file whose older chunk is to come back, while the first victim lives.
    pub(super) fn keep_older(&self, work: &mut Work) -> Result<(), Trouble> {
        let Some(Corruption { class, kind: DamageKind::OlderChunk }) = work.corruption() else { return Ok(()) };
        if let Some(victim) = work.victims.first() {
            work.damages.older = older(&self.cluster.dead_directory(victim.member), class)?;
        }
        Ok(())
    }

    /// Damages a file of the member that the step has killed, if the step says so.
    pub(super) fn damage(&self, work: &mut Work) -> Result<(), Trouble> {
        let Some(corruption) = work.corruption().filter(|_| work.record.damage.is_none()) else { return Ok(()) };
        let Corruption { class, kind } = corruption;
        let record = DamageRecord { class, kind, damage: None, skipped: None, not_applicable: false, refusal: None };
        let dead = work.victims.first().and_then(|victim| self.cluster.member(victim.member));
        let Some(dead) = dead.filter(|member| !member.is_up()) else {
            let skipped = Some("the kill before it did not land".to_owned());
            work.record.damage = Some(Box::new(DamageRecord { skipped, ..record }));
            return Ok(());
        };
        let (member, cycle) = (dead.id, work.step.cycle);
        if !class.exists_on(dead.engine) {
            let skipped = Some(format!("n/a on {}, which n{member} runs", dead.engine));
            work.record.damage = Some(Box::new(DamageRecord { skipped, not_applicable: true, ..record }));
            return Ok(());
        }
        self.note(cycle, Did::Damage, Some(member), Some(&corruption.to_string()));
        let mut draws = self.seed.stream(&format!("damage/{cycle}/{}", dead.slot));
        let landed = damage(&self.cluster.dead_directory(member), corruption, work.damages.older.as_ref(), &mut draws)?;
        let (landed, skipped) = landed.map_or_else(|why| (None, Some(why)), |landed| (Some(landed), None));
        if let Some(damage) = &landed {
            work.damages.member = Some(member);
            self.judge(work, &Evidence::Damaged { cycle, member, damage: damage.clone() });
        }
        work.record.damage = Some(Box::new(DamageRecord { damage: landed, skipped, ..record }));
        Ok(())
    }

    /// Replaces the member with a damaged file, if there is one: one that has ended is judged by
    /// its end, and one that serves is killed.
    pub(super) async fn replace_damaged(&mut self, work: &mut Work) -> Result<(), Trouble> {
        let Some(id) = work.damages.member.take() else { return Ok(()) };
        let (cycle, others) = (work.step.cycle, self.membership_without(id));
        let engine = self.member(id)?.engine;
        self.note(cycle, Did::Kill, Some(id), None);
        let member = self.cluster.member_mut(id).ok_or_else(|| unknown(id))?;
        // Its directory is not inspected: what is there is known to be damaged.
        match member.end().await? {
            Some((Ended::KilledByUs(_), _)) | None => {
                self.ledger.record(&Evidence::Killed { cycle, member: id, engine: Some(engine) });
            }
            Some((ended, served)) => {
                let words = self.member(id)?.last_words(&self.cluster.site).unwrap_or_default();
                let words = last_line(&words).unwrap_or_default().to_owned();
                let refusal = Refusal { ended, served, words };
                self.judge(work, &Evidence::RefusedDamage { cycle, member: id, refusal: refusal.clone() });
                if let Some(record) = &mut work.record.damage {
                    record.refusal = Some(refusal);
                }
            }
        }
        self.note(cycle, Did::MemberRemove, Some(id), None);
        others.remove(id).await?;
        let new = self.add(work, id, engine, &others).await?;
        self.start(work, new, None).await?;
        let bound = Duration::from_millis(self.scenario.bounds.restart_ms_max);
        let member = self.cluster.member_mut(new).ok_or_else(|| unknown(new))?;
        member.wait_serving(bound).await?;
        self.bring_in(work, new, &others).await
    }
}

impl Work {
    fn corruption(&self) -> Option<Corruption> {
        self.step.faults.iter().find_map(|fault| match fault {
            Fault::Corrupt(corruption) => Some(*corruption),
            _ => None,
        })
    }

    /// Whether a file of `member` was damaged in this cycle, so that it may end of it.
    pub(super) fn is_damaged(&self, member: u64) -> bool {
        self.damages.member == Some(member)
    }
}
