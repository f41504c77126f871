//! A founder that was not restored like the others: before it is started from the snapshot that all
//! of them have, it is started from an earlier one, or from nothing.
//!
//! The state that a cluster was restored from is part of its id, so the others found a cluster
//! without it, and each side refuses the other's messages. If they let it in, members of one
//! cluster would begin with different keys. The founder is started like a stranger, out of a
//! directory of its own and with its own clients' ports, because no client may be answered by it.

use super::{Stage, Work};
use crate::cluster::Trouble;
use crate::cluster::restoration::{self, Restoration};
use crate::cluster::strangers::{self, Stranger};
use crate::directory;
use crate::plan::Unlike;
use crate::scenario::UnlikeKind;
use crate::subject::{Life, Origin};
use anyhow::anyhow;
use ninelives_evidence::member::{Engine, Slot};
use ninelives_evidence::{Did, Evidence};
use std::path::Path;
use std::time::Duration;

impl Stage<'_> {
    /// Starts the founders that are alike, and `unlike` beside them; ends it, with its directory,
    /// once the others have refused it or let it in. `older`: the snapshot that it alone may have;
    /// `revision`: that of the others' snapshot. `Some`: the reason why it was not tried.
    pub(super) async fn try_unlike(
        &mut self,
        work: &mut Work,
        founders: &[(Slot, u64, Engine)],
        unlike: Unlike,
        (older, revision): (&Path, u64),
    ) -> Result<Option<String>, Trouble> {
        let (odd, alike): (Vec<_>, Vec<_>) = founders.iter().copied().partition(|(slot, ..)| *slot == unlike.slot);
        let (Some((slot, id, engine)), Some((_, other, _))) = (odd.first().copied(), alike.first().copied()) else {
            return Err(Trouble::Harness(anyhow!("there is no founder in {}, or no other one", unlike.slot)));
        };
        let cycle = work.step.cycle;
        let dir = self.cluster.site.paths.unlike_data(id);
        directory::remove(&dir)?;
        if unlike.from == UnlikeKind::Older {
            let found = restoration::status(&self.cluster.site, older).await?.revision;
            if found >= revision {
                return Ok(Some(format!("nothing was written between the two snapshots, both of revision {revision}")));
            }
            self.note(cycle, Did::Restore, Some(id), Some("from an earlier snapshot than the others"));
            if restoration::restore(&self.cluster.site, (id, &dir), older, engine, None).await? == Restoration::Killed {
                return Err(Trouble::Harness(anyhow!("`snapshot restore` of n{id} was killed, which was not planned")));
            }
        }
        for (_, like, _) in &alike {
            self.start_unless_up(work, *like).await?;
        }
        self.founders_serve(&alike).await?;
        let what = format!("n{id} from {} state", unlike.from.name());
        self.note(cycle, Did::Begin, Some(id), Some(&what));
        let pace = self.cluster.site.pace().clone();
        let ours = strangers::cluster_of(self.member(other)?.addresses, &pace).await?;
        let (at, _ports) = strangers::beside(self.member(id)?.addresses)?;
        let site = &self.cluster.site;
        let named = site.founders.iter().map(|(one, theirs)| (*one, if *one == id { at } else { *theirs }));
        let named: Vec<_> = named.collect();
        let detours = site.detours(slot);
        let origin = Origin::Founder(&named);
        let life = Life { id, engine, at, data_dir: &dir, origin, arm: None, detours: &detours };
        let founder = Stranger::launch(site, slot, &life).await?;
        let met = founder.meet(&pace, Duration::from_millis(self.scenario.bounds.restart_ms_max)).await;
        self.note(cycle, Did::End, Some(id), Some(&what));
        let first = founder.is_first_life();
        let ended = founder.kill(&pace).await?;
        match met.and_then(|met| ended.map(|()| met)) {
            Ok((cluster, leader)) => {
                self.judge(work, &Evidence::Unlike { cycle, member: id, ours, cluster, leader });
            }
            Err(misfortune) => self.tell_misfortune(work, slot, first, misfortune),
        }
        // With a finding it is evidence.
        if work.findings.is_empty() {
            directory::remove(&dir)?;
        }
        self.cluster.stray_death().map_or(Ok(None), Err)
    }
}
