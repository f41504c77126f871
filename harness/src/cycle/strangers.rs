//! Strangers in the places of the dead: they come after the kill and the inspection, and are gone
//! before the members come back.
//!
//! The members that live must neither admit them nor end because of them, which the rest of the
//! cycle judges as ever. The strangers must not end by themselves either, and show what they hold
//! before they are killed.

use super::{Stage, Work};
use crate::cluster::Trouble;
use crate::cluster::strangers::Misfortune;
use crate::plan::Fault;
use anyhow::anyhow;
use futures_util::future::join_all;
use ninelives_evidence::member::Slot;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::{Did, Evidence, StrangerSeen};
use std::collections::BTreeMap;
use std::time::Duration;

impl Stage<'_> {
    /// Lets strangers into the places of the members that are down, if the step says so.
    pub(super) async fn strangers(&mut self, work: &mut Work) -> Result<(), Trouble> {
        let stay = work.step.faults.iter().find_map(|fault| match fault {
            Fault::Strangers { ms } => Some(Duration::from_millis(*ms)),
            _ => None,
        });
        let vacant: Vec<Slot> =
            self.cluster.members.iter().filter(|member| !member.is_up()).map(|member| member.slot).collect();
        // A kill that was skipped leaves no place, and its skip is recorded.
        let Some(stay) = stay.filter(|_| !vacant.is_empty()) else { return Ok(()) };
        let cycle = work.step.cycle;
        let places = vacant.iter().map(Slot::to_string).collect::<Vec<_>>().join(", ");
        let what = format!("strangers in {places}");
        self.note(cycle, Did::Begin, None, Some(&what));
        let before = self.refused_by_ours().await;
        let strangers = self.cluster.let_strangers_in(&vacant).await?;
        let (pace, restart) =
            (self.cluster.site.pace().clone(), Duration::from_millis(self.scenario.bounds.restart_ms_max));
        let stays = strangers.iter().map(|stranger| {
            let key = StrangerSeen::own_key(cycle, stranger.slot.0);
            let pace = &pace;
            async move { stranger.stay(pace, (restart, stay), &key).await }
        });
        let stays = join_all(stays).await;
        let after = self.refused_by_ours().await;
        self.note(cycle, Did::End, None, Some(&what));
        let beside = vacant.len() < self.cluster.members.len();
        for (stranger, stayed) in strangers.into_iter().zip(stays) {
            let (slot, first) = (stranger.slot, stranger.is_first_life());
            let ended = stranger.kill(&pace).await?;
            let stayed = stayed.and_then(|stay| ended.map(|()| stay));
            let known = self.cluster.strangers.as_mut();
            let known = known.ok_or_else(|| anyhow!("a stranger came, and none was prepared"))?;
            match stayed {
                Ok(stay) => {
                    known.record.came += 1;
                    known.record.beside += u64::from(beside);
                    known.record.heard += u64::from(beside && stay.refused > 0);
                    known.record.wrote += u64::from(stay.wrote);
                    let seen = known.seen(slot, &stay);
                    self.judge(work, &Evidence::Stranger { cycle, slot, seen });
                }
                Err(misfortune) => self.tell_misfortune(work, slot, first, misfortune),
            }
        }
        if let Some(known) = &mut self.cluster.strangers {
            known.record.stays += 1;
            let of = |(member, refused): (&u64, &u64)| refused.saturating_sub(*before.get(member).unwrap_or(refused));
            known.record.refused += after.iter().map(of).sum::<u64>();
        }
        self.cluster.stray_death().map_or(Ok(()), Err)
    }

    /// Tells that the stranger in `slot` is not what it has to be. `first`: it had no life before.
    pub(super) fn tell_misfortune(&self, work: &mut Work, slot: Slot, first: bool, misfortune: Misfortune) {
        let finding = Finding::new(misfortune.finding(slot, first)).in_cycle(work.step.cycle);
        self.tell(work, self.excuse(finding));
    }

    /// Messages that each of our members refused in its life so far.
    async fn refused_by_ours(&self) -> BTreeMap<u64, u64> {
        let statuses = self.cluster.statuses().await;
        statuses.iter().map(|status| (status.member_id, status.messages_refused)).collect()
    }
}
