//! Places where a member stands still: at a window, or in a pause.

use super::Member;
use crate::cluster::Trouble;
use crate::cluster::pause::Paused;
use crate::contact::Contact;
use crate::faultfs::Gate;
use crate::process::Signals;
use crate::subject::events::NodeState;
use crate::subject::{self, Window};
use anyhow::{Context, anyhow};
use ninelives_evidence::limits;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Result of a wait for a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    AtWindow,
    /// The life ended before.
    Ended,
}

impl Member {
    /// Becomes ready when it stands still in `window`, or ends. It borrows nothing, so the caller
    /// can act on other members meanwhile.
    pub fn stop(&self, window: &str) -> impl Future<Output = Stop> + use<> {
        let life = self
            .life
            .as_ref()
            .map(|life| (life.child.subscribe(), life.said.clone(), life.windows_left.load(Ordering::Acquire)));
        let (window, of_files) = (window.to_owned(), is_of_files(window));
        async move {
            let Some((mut state, mut said, left)) = life else { return Stop::Ended };
            // The name is checked first, then the stop, because a pause is a stop as well, and the
            // member has left earlier windows.
            let here = |said: &NodeState| {
                let now = if of_files { said.held } else { said.windows > left };
                now && said.window.as_ref().is_some_and(|(at, _)| *at == window)
            };
            let named = said.wait_for(|said| said.closed || here(said)).await.is_ok_and(|said| here(&said));
            // A process that waits for its filesystem is not stopped, but goes no further either.
            let stands = |state: &Signals| of_files || state.stopped || state.ended.is_some();
            let still = named && state.wait_for(stands).await.is_ok();
            if still && state.borrow().ended.is_none() { Stop::AtWindow } else { Stop::Ended }
        }
    }

    /// Stops it, and waits until it stands still; at a window it may stand still already.
    pub async fn pause(&self) -> Result<Paused, Trouble> {
        let life = self.life()?;
        let gate = self.gate().cloned();
        let paused = Paused::stop(life.child.pauser(), life.said.clone(), Arc::clone(&life.windows_left), gate);
        let mut paused = paused.with_context(|| format!("cannot stop n{}", self.id))?;
        match self.or_death(life.pace.within(limits::DEATH, paused.stopped())).await? {
            Ok(true) => Ok(paused),
            Ok(false) => Err(self.died(life, life.child.ended().await)),
            Err(_) => {
                Err(Trouble::Harness(anyhow!("n{} does not stand still after a SIGSTOP: is its disk stuck?", self.id)))
            }
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.child.state().stopped || life.said.borrow().held)
    }

    /// Arms `window` for its `hit`-th pass from now; 0 disarms it.
    pub async fn arm(&self, window: &str, hit: u64) -> Result<(), Trouble> {
        if is_of_files(window) {
            return self.arm_files(window, hit).await;
        }
        let window = window.to_owned();
        let arm = |contact: Contact| async move { contact.arm(&window, hit).await };
        self.ask("arm a window", limits::CONTROL_REQUEST, arm).await
    }

    /// Arms a window of its files. Disarming takes effect at once: the member stands still there
    /// already, and has said so, or does not stop there any more.
    async fn arm_files(&self, window: &str, hit: u64) -> Result<(), Trouble> {
        let gate = self.arm_gate(window, hit)?;
        if hit == 0 && gate.is_holding() {
            let mut said = self.life()?.said.clone();
            let told = async { said.wait_for(|said| said.held).await.map(drop) };
            // Without a sender the member is dead; the next request finds that out.
            let _ = self.or_death(told).await?;
        }
        Ok(())
    }

    pub(super) fn arm_gate(&self, window: &str, hit: u64) -> Result<&Arc<Gate>, Trouble> {
        let gate = self.gate().ok_or_else(|| {
            anyhow!("{window} is to be armed at n{}, whose files are not under the fault filesystem", self.id)
        })?;
        gate.arm(window, hit).map_err(|why| anyhow!(why))?;
        Ok(gate)
    }
}

pub(super) fn is_of_files(window: &str) -> bool {
    subject::find_window(window).is_some_and(Window::is_of_files)
}
