//! Saving and restoring a cluster: the snapshot of a live member in a file, the inspector's account
//! of that file, and a directory made from it.

use super::tool::{self, Run};
use super::{Site, Trouble};
use crate::contact;
use crate::pace::Pace;
use crate::process::Launch;
use crate::subject::Node;
use crate::timer;
use anyhow::{Context, anyhow, bail};
use etcd_client::GetOptions;
use ninelives_evidence::ended::Ended;
use ninelives_evidence::limits;
use ninelives_evidence::member::Engine;
use serde::Deserialize;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The inspector's account of a saved snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct SavedStatus {
    pub revision: u64,
}

/// Result of one run of `snapshot restore`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restoration {
    /// It stood still in the armed window, and was killed there.
    Killed,
    Done,
}

/// Saves a snapshot of the member at `endpoint` to `file`, once the member has applied everything
/// that was acknowledged before. A linearizable read makes sure of that, because a snapshot holds
/// the state of one member.
///
/// # Errors
/// The member gives no snapshot, or the file cannot be written.
pub async fn save(endpoint: &str, file: &Path, pace: &Pace) -> anyhow::Result<()> {
    let saved = pace.within(limits::SAVE, save_now(endpoint, file)).await;
    saved.map_err(|bound| anyhow!("no snapshot was saved from {endpoint} within {bound}"))?
}

async fn save_now(endpoint: &str, file: &Path) -> anyhow::Result<()> {
    let client = contact::connect(endpoint).await?;
    let mut kv = client.kv_client();
    while kv.get("", Some(GetOptions::new().with_all_keys().with_count_only())).await.is_err() {
        // During an election no read is answered; only another read tells when a leader is back.
        timer::sleep(limits::LEADER_RETRY_PAUSE).await;
    }
    let mut stream = client.maintenance_client().snapshot().await.context("asking for a snapshot")?;
    let mut out = File::create(file).with_context(|| format!("cannot create {}", file.display()))?;
    let mut remaining = None;
    while let Some(message) = stream.message().await.context("receiving a snapshot")? {
        out.write_all(message.blob()).with_context(|| format!("cannot write {}", file.display()))?;
        remaining = Some(message.remaining_bytes());
    }
    match remaining {
        Some(0) => Ok(()),
        left => bail!("the snapshot ended with {left:?} bytes to come, expected 0"),
    }
}

/// The inspector's account of the saved snapshot `file`.
///
/// # Errors
/// The file is not a snapshot, or is damaged.
pub async fn status(site: &Site, file: &Path) -> anyhow::Result<SavedStatus> {
    let inspector = site.target.inspector().context("this target's snapshots cannot be read")?;
    let launch = Launch::new(inspector, Node::snapshot_status_args(file));
    let output = site.spawner.output(launch, limits::INSPECT, limits::INSPECT_BYTES_MAX).await?;
    if !output.success() {
        bail!(
            "expected exit code 0 of `snapshot status {}`, found {}{}",
            file.display(),
            output.ended,
            output.stderr_tail()
        );
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("expected one JSON object of `snapshot status`, found {:?}", output.text()))
}

/// Makes `dir`, a directory of the member `id` on `into`, out of the saved snapshot `file`; kills
/// the command in the window of `arm`, if it gets there.
///
/// # Errors
/// It ended in any other way, or not at all within its bound.
pub async fn restore(
    site: &Site,
    (id, dir): (u64, &Path),
    file: &Path,
    into: Engine,
    arm: Option<(&str, u64)>,
) -> Result<Restoration, Trouble> {
    let args = site.target.restore_args(file, dir, into, arm);
    let args = args.ok_or_else(|| anyhow!("n{id} is to be restored, and nothing here can do that"))?;
    let what = format!("be restored into {into}");
    match tool::run(site, id, ("snapshot restore", args), (&what, limits::RESTORE)).await? {
        Run::Killed => Ok(Restoration::Killed),
        Run::Ended(Ended::Exited(0), _) => Ok(Restoration::Done),
        Run::Ended(ended, _) => Err(Trouble::RestoreFailed { member: id, into, ended }),
    }
}
