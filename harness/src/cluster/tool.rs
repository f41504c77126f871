//! The node's offline commands as children: a command may be armed, and is then killed where it
//! stands still.

use super::{Site, Trouble};
use crate::process::Launch;
use crate::subject::events::{self, NodeState};
use anyhow::anyhow;
use ninelives_evidence::ended::Ended;
use ninelives_evidence::limits;
use std::ffi::OsString;
use std::time::Duration;
use tokio::sync::watch;

/// Result of one run.
#[derive(Debug)]
pub(super) enum Run {
    /// It stood still in the armed window, and was killed there.
    Killed,
    /// It ended by itself; its news until then.
    Ended(Ended, NodeState),
}

/// Runs the command `name` for the member `id` with `args`; it has to do `what` within `bound`. Its
/// standard error goes to the member's log.
///
/// # Errors
/// It did not end in time, or stood still outside of a window.
pub(super) async fn run(
    site: &Site,
    id: u64,
    (name, args): (&str, Vec<OsString>),
    (what, bound): (&str, Duration),
) -> Result<Run, Trouble> {
    let launch = Launch::new(site.target.binary(), args).log_to(&site.paths.node_log(id));
    let started = site.spawner.spawn(launch).await?;
    let (publish, mut said) = watch::channel(NodeState::default());
    events::follow(started.stdout, publish);
    let child = started.child;
    let mut state = child.subscribe();
    let halted = async {
        let halted = state.wait_for(|state| state.stopped || state.ended.is_some()).await;
        halted.is_ok_and(|state| state.stopped)
    };
    let stopped = site.pace().within(bound, halted).await;
    let stopped = stopped.map_err(|bound| Trouble::Late { member: id, what: what.to_owned(), bound })?;
    if stopped {
        let window =
            said.wait_for(|said| said.closed || said.window.is_some()).await.is_ok_and(|said| said.window.is_some());
        if !window {
            return Err(Trouble::Harness(anyhow!(
                "`{name}` of n{id} was stopped, and not in a window: look for a stranger"
            )));
        }
        child.kill().map_err(|error| anyhow!("cannot signal `{name}` of n{id}: {error}"))?;
    }
    let ended = site.pace().within(limits::DEATH, child.ended()).await.map_err(|_| {
        let (bound, threads) = (limits::DEATH, child.threads_in_words());
        anyhow!("`{name}` of n{id} did not end within {bound:?}: is its disk stuck? its threads by state: {threads}")
    })?;
    // All of its output is read before it is judged.
    let said = said.wait_for(|said| said.closed).await.map(|said| said.clone()).unwrap_or_default();
    Ok(match ended {
        Ended::KilledByUs(_) => Run::Killed,
        ended => Run::Ended(ended, said),
    })
}
