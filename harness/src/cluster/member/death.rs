//! The end of a life: by our kill, or by itself, and what is then told of it.

use super::{Life, Member};
use crate::cluster::{Site, Trouble};
use anyhow::anyhow;
use ninelives_evidence::ended::Ended;
use ninelives_evidence::{clock, limits};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The end of a life by our kill.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    pub at: Instant,
    /// Highest applied index received before the kill.
    pub applied_received: Option<u64>,
    pub ended: Ended,
}

impl Member {
    /// Kills it, if it is up, and waits until it is dead. It may have ended by itself, of its disk.
    /// `None`: it was down.
    pub async fn kill(&mut self) -> Option<Result<Death, Trouble>> {
        let may_end = self.may_end(self.life.as_ref()?);
        self.kill_unless(may_end).await
    }

    /// [`Member::kill`] for a member that was removed from its cluster. It may have learnt that and
    /// ended by itself.
    pub async fn kill_removed(&mut self) -> Option<Result<Death, Trouble>> {
        self.kill_unless(|ended| ended == Ended::Exited(0)).await
    }

    /// [`Member::kill`] for a member that may have ended by itself for any reason: its end, and
    /// whether it had begun to serve.
    pub async fn end(&mut self) -> Result<Option<(Ended, bool)>, Trouble> {
        let served = self.life.as_ref().is_some_and(|life| life.said.borrow().serving);
        let death = self.kill_unless(|_| true).await.transpose()?;
        Ok(death.map(|death| (death.ended, served)))
    }

    async fn kill_unless(&mut self, may_end: impl Fn(Ended) -> bool) -> Option<Result<Death, Trouble>> {
        let life = self.life.take()?;
        life.board.set(self.place(), false);
        let applied_received = self.applied.load(Ordering::Acquire).checked_sub(1);
        if let Err(error) = life.child.kill() {
            return Some(Err(Trouble::Harness(anyhow!("cannot signal n{}: {error}", self.id))));
        }
        if let Some(gate) = self.gate() {
            // The requests are answered only now, so that no process can act on the answers.
            // Without answers it could not die.
            gate.refuse();
        }
        let Ok(ended) = life.pace.within(limits::DEATH, life.child.ended()).await else {
            let bound = limits::DEATH;
            return Some(Err(Trouble::Harness(anyhow!(
                "n{} did not end within {bound:?} of a SIGKILL: is its disk stuck? its threads by state: {}",
                self.id,
                life.child.threads_in_words()
            ))));
        };
        match ended {
            _ if may_end(ended) => Some(Ok(Death { at: clock::now(), applied_received, ended })),
            Ended::KilledByUs(_) => Some(Ok(Death { at: clock::now(), applied_received, ended })),
            _ => Some(Err(self.died(&life, ended))),
        }
    }

    /// The last words of this life in its log; `None`: the log cannot be read.
    pub fn last_words(&self, site: &Site) -> Option<String> {
        let mut log = File::open(site.paths.node_log(self.id)).ok()?;
        let length = log.metadata().ok()?.len();
        log.seek(SeekFrom::Start(self.log_from.max(length.saturating_sub(limits::LAST_WORDS_READ)))).ok()?;
        let mut words = Vec::new();
        log.take(limits::LAST_WORDS_READ).read_to_end(&mut words).ok()?;
        Some(String::from_utf8_lossy(&words).into_owned())
    }

    /// Its end, if it ended without having been killed, and its disk does not explain that.
    pub fn stray_death(&self) -> Option<Trouble> {
        let life = self.life.as_ref()?;
        life.child.state().ended.filter(|ended| !self.may_end(life)(*ended)).map(|ended| self.died(life, ended))
    }

    /// Its end, if it ends within the time that such news may take. The caller asks after a broken
    /// connection.
    pub async fn death_news(&self) -> Option<Trouble> {
        let life = self.life.as_ref()?;
        let ended = life.pace.within(limits::DEATH_NEWS, life.child.ended()).await.ok()?;
        Some(self.died(life, ended))
    }

    /// The trouble of a member whose event pipe has closed: its death, as soon as that is known.
    pub async fn trouble_of_a_broken_pipe(&self) -> Trouble {
        match self.death_news().await {
            Some(trouble) => trouble,
            None => Trouble::Harness(anyhow!("n{} closed its event pipe and lives on", self.id)),
        }
    }

    pub(super) fn died(&self, life: &Life, ended: Ended) -> Trouble {
        let said = life.said.borrow();
        let (served, remark) = (said.serving, said.remark.clone());
        Trouble::Died { member: self.id, ended, served, lived_before: self.lives > 1, remark }
    }
}
