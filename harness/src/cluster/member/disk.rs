//! The disk that a member believes to have: its data directory, under the fault filesystem or not.

use super::{Life, Member};
use crate::cluster::kept::Kept;
use crate::cluster::{Site, Trouble};
use crate::faultfs::{Access, Ailing, Disk, Gate, Mount};
use crate::plan::Ailment;
use crate::seed::Stream;
use crate::subject::FileOperation;
use crate::subject::events::NodeState;
use anyhow::anyhow;
use ninelives_evidence::ended::Ended;
use ninelives_evidence::power::{Lost, Names};
use ninelives_oracle::alone::Known;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

impl Member {
    /// Puts its data directory under the fault filesystem, for all its lives. `names`: what is not
    /// synced can be lost.
    ///
    /// # Errors
    /// This machine, or this user, lacks FUSE.
    pub(in crate::cluster) fn mount(&mut self, site: &Site, names: Option<Names>) -> anyhow::Result<()> {
        self.files = Some(Mount::over(&site.paths.node_data(self.id), names)?);
        Ok(())
    }

    /// Puts its data directory where that of `before`, the member that had its slot, was: under the
    /// fault filesystem or not.
    ///
    /// # Errors
    /// The directory cannot be mounted.
    pub(in crate::cluster) fn mount_like(&mut self, site: &Site, before: &Member) -> anyhow::Result<()> {
        before.files.as_ref().map_or(Ok(()), |files| self.mount(site, files.names()))
    }

    /// Lets nothing more reach its disk: the power is about to fail.
    pub fn freeze(&self) {
        if let Some(gate) = self.gate() {
            gate.freeze();
        }
    }

    /// Lets the power fail under it, after its death: each change that was not synced survives with
    /// a chance of `keep_percent`. If its dead directories can be read, the instant is kept in the
    /// place of the one before. `known`: what was known of it by then; `None`: the one before
    /// stays.
    ///
    /// # Errors
    /// Its directory is not one that can lose anything, or the disk below has failed.
    pub fn cut(
        &mut self,
        site: &Site,
        (keep_percent, draws): (u32, &mut Stream),
        known: Option<Known>,
    ) -> Result<Lost, Trouble> {
        if known.is_some() {
            // Its directory becomes that of the next one.
            self.kept = None;
        }
        let files = self.files.as_mut().filter(|_| self.life.is_none());
        let files = files.ok_or_else(|| {
            anyhow!("the power of n{} is to fail: expected a dead member, under the fault filesystem", self.id)
        })?;
        let keep_at = site.target.inspector().and(known).map(|_| site.paths.instant(self.id));
        let (lost, instant) = files.cut((keep_percent, draws), keep_at.as_deref())?;
        if let Some((known, instant)) = known.zip(instant) {
            self.kept = Some(Kept::new(known, instant));
        }
        Ok(lost)
    }

    /// The instant of its last cut.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    #[cfg(test)]
    pub fn keep(&mut self, kept: Kept) {
        self.kept = Some(kept);
    }

    pub fn kept_mut(&mut self) -> Option<&mut Kept> {
        self.kept.as_mut()
    }

    /// Lets a command work on its files while it is dead.
    pub fn open_files(&self) {
        if let Some(gate) = self.gate() {
            // A command says itself where it stands still.
            gate.open(watch::channel(NodeState::default()).0);
        }
    }

    /// The command has ended, or been killed: nothing of it reaches the disk any more.
    pub fn close_files(&self) {
        if let Some(gate) = self.gate() {
            gate.refuse();
        }
    }

    /// The place where the harness reads its data directory while it is dead.
    pub fn dead_directory(&self, site: &Site) -> PathBuf {
        self.files.as_ref().and_then(Mount::below).unwrap_or_else(|| site.paths.node_data(self.id))
    }

    /// Has its disk fail, until what is returned is dropped; `draws`: the delays of one that is
    /// slow, and the parts of writes.
    ///
    /// # Errors
    /// Its directory is not under the fault filesystem.
    pub fn ail(&self, ailment: Ailment, draws: Stream) -> Result<Ailing, Trouble> {
        let disk = self
            .disk()
            .ok_or_else(|| anyhow!("the disk of n{} is to fail: expected it under the fault filesystem", self.id))?;
        Ok(match ailment {
            Ailment::Fill { left_kib, .. } => disk.fill(left_kib << 10),
            Ailment::Slow { by_ms, .. } => disk.slow(by_ms, draws),
            Ailment::FailSync { losing } => disk.fail_sync(losing),
            Ailment::Fail { operation, hit, ms } => disk.fail(access(operation)?, (hit, ms == 0), draws),
            Ailment::Shorten { operation, .. } => disk.shorten(access(operation)?, draws),
        })
    }

    /// Its end in this life, if its disk was made to give it an error that explains it.
    pub fn ended_of_its_disk(&self) -> Option<Ended> {
        let life = self.life.as_ref()?;
        life.child.state().ended.filter(|ended| self.may_end(life)(*ended))
    }

    /// True if the fault filesystem, and not the machine, refused this life room.
    pub fn was_refused_room(&self) -> bool {
        self.disk().is_some_and(|disk| disk.refused_room())
    }

    /// True if it lives although a write of this life failed or was cut short: only a next life
    /// reads what is on its disk.
    pub fn outlived_a_write(&self) -> bool {
        self.is_up() && self.disk().is_some_and(|disk| disk.wrote_less())
    }

    /// The ends that an error of its disk, which it was made to give, explains.
    pub(super) fn may_end(&self, life: &Life) -> impl Fn(Ended) -> bool + use<> {
        let (disk, served) = (self.disk().cloned(), life.said.borrow().serving);
        move |ended| disk.as_ref().is_some_and(|disk| disk.excuses(ended, served))
    }

    /// The disk that it believes to have, under the fault filesystem.
    pub(super) fn disk(&self) -> Option<&Arc<Disk>> {
        self.files.as_ref().map(Mount::disk)
    }

    /// The gate that its changes of files pass, if it has one.
    pub(super) fn gate(&self) -> Option<&Arc<Gate>> {
        self.files.as_ref().map(Mount::gate)
    }
}

/// What the fault filesystem has to refuse for `operation` to fail.
fn access(operation: &FileOperation) -> Result<Access, Trouble> {
    let known = Access::parse(operation.name);
    Ok(known.ok_or_else(|| anyhow!("the fault filesystem does not know {}", operation.name))?)
}
