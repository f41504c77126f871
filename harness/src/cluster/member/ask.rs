//! Requests to a member, each raced against its end.

use super::{Life, Member};
use crate::cluster::Trouble;
use crate::contact::{Contact, KvLook, Standing};
use anyhow::anyhow;
use ninelives_evidence::limits;
use ninelives_evidence::stretched::Stretched;
use ninelives_evidence::{FenceAnswer, Recovered};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tonic::{Code, Status};

impl Member {
    /// One reading, at once.
    pub async fn status(&self) -> Result<Standing, Trouble> {
        let ask = |contact: Contact| async move { contact.status().await };
        self.read("answer a status request", limits::CONTROL_REQUEST, ask).await
    }

    /// Waits until it has applied `index`.
    pub async fn wait_applied(&self, index: u64, bound: Duration) -> Result<Standing, Trouble> {
        let wait = |contact: Contact| async move { contact.wait_applied(index).await };
        self.read(&format!("apply index {index}"), bound, wait).await
    }

    /// Asks for its standing, and keeps the answer to be judged.
    async fn read<F>(&self, what: &str, bound: Duration, call: impl FnOnce(Contact) -> F) -> Result<Standing, Trouble>
    where
        F: Future<Output = Result<Standing, Status>>,
    {
        let asked = self.readings.ask();
        let status = self.ask(what, bound, call).await?;
        self.readings.answered(asked, &self.life()?.contact.testimony(&status));
        note(&self.applied, status.applied);
        Ok(status)
    }

    /// [`Member::wait_applied`] for a member that has to get there: if it does not, its own account
    /// may give the reason.
    pub async fn catch_up(&self, index: u64, bound: Duration) -> Result<(), Trouble> {
        match self.wait_applied(index, bound).await {
            Ok(_) => Ok(()),
            Err(late @ Trouble::Late { .. }) => Err(match self.status().await {
                Ok(account) => late.with_account(&account),
                Err(died @ Trouble::Died { .. }) => died,
                // A member too stuck to answer has no account.
                Err(_) => late,
            }),
            Err(trouble) => Err(trouble),
        }
    }

    /// This life's account of its recovery so far; `None`: the target gives no account.
    pub async fn recovery(&self) -> Result<Option<Recovered>, Trouble> {
        let ask = |contact: Contact| async move { contact.recovery().await };
        self.ask("answer for its recovery", limits::CONTROL_REQUEST, ask).await
    }

    /// Proposes a fence, and gives its raft index. `None`: refused or without an answer (no leader,
    /// an election); it may have been proposed all the same, which does not matter, because another
    /// fence follows.
    pub async fn propose_fence(&self, id: u64, bound: Duration) -> Result<Option<u64>, Trouble> {
        let Life { contact, pace, .. } = self.life()?;
        let proposed = pace.within(bound, contact.propose_fence(id));
        Ok(self.or_death(proposed).await?.ok().and_then(Result::ok))
    }

    /// Its own answer for the fence at `index`.
    pub async fn fence_answer(&self, index: u64, bound: Duration) -> Result<FenceAnswer, Trouble> {
        let what = format!("answer for the fence at index {index}");
        self.ask(&what, bound, |contact: Contact| async move { contact.fence_answer(index).await }).await
    }

    /// The newest revision of the cluster, by a linearizable read here. `None`: it does not answer
    /// now (no leader, an election).
    pub async fn newest_revision(&self, bound: Duration) -> Result<Option<u64>, Trouble> {
        let Life { contact, pace, .. } = self.life()?;
        let asked = pace.within(bound, contact.newest_revision());
        Ok(self.or_death(asked).await?.ok().and_then(Result::ok))
    }

    /// Its own state at `revision`, which it has applied. `None`: it has compacted that meanwhile.
    pub async fn look(&self, revision: u64, bound: Duration) -> Result<Option<KvLook>, Trouble> {
        let what = format!("show its state at revision {revision}");
        let look = |contact: Contact| async move {
            match contact.look(revision).await {
                Err(status) if status.code() == Code::OutOfRange => Ok(None),
                look => look.map(Some),
            }
        };
        self.ask(&what, bound, look).await
    }

    pub(super) async fn ask<T, F>(
        &self,
        what: &str,
        bound: Duration,
        call: impl FnOnce(Contact) -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let life = self.life()?;
        let call = call(life.contact.clone());
        match self.or_death(life.pace.within(bound, call)).await? {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => match self.death_news().await {
                Some(trouble) => Err(trouble),
                None => Err(Trouble::Harness(anyhow!("expected n{} to {what}, found: {status}", self.id))),
            },
            Err(bound) => Err(self.late(what, bound)),
        }
    }

    /// `future`'s output, unless the process ends first.
    pub(super) async fn or_death<T>(&self, future: impl Future<Output = T>) -> Result<T, Trouble> {
        let life = self.life()?;
        tokio::select! {
            biased;
            output = future => Ok(output),
            ended = life.child.ended() => Err(self.died(life, ended)),
        }
    }

    pub(super) fn late(&self, what: &str, bound: Stretched) -> Trouble {
        Trouble::Late { member: self.id, what: what.to_owned(), bound }
    }
}

pub(super) fn note(highest: &AtomicU64, applied: Option<u64>) {
    if let Some(applied) = applied {
        highest.fetch_max(applied + 1, Ordering::AcqRel);
    }
}
