//! The questions to servers that are known by their API only, after a divergence.
//!
//! They have no logs and no dead directories: the conclusion ([`without_logs`]) rests on the
//! histories that they show to a new watch.

use super::{live, stop_load, unanswered, unsigned};
use crate::cluster::Cluster;
use crate::contact;
use crate::dial::url;
use crate::pace::Pace;
use crate::workload::Workload;
use futures_util::future::join_all;
use ninelives_evidence::limits;
use ninelives_evidence::record::localisation::Localisation;
use ninelives_evidence::verdict::Finding;
use ninelives_oracle::Ledger;
use ninelives_oracle::localise::{Clues, Shown, Witness, without_logs};

/// Kills all members.
pub(super) async fn look(
    cluster: &mut Cluster,
    ledger: &Ledger,
    workload: &mut Option<Workload>,
    finding: &Finding,
) -> Localisation {
    let mut clues = Clues::default();
    stop_load(cluster, ledger, workload, (finding, &mut clues)).await;
    clues.take_fence_of(finding, ledger);
    witness(cluster, &mut clues).await;
    cluster.kill_all().await;
    without_logs(finding, clues, ledger)
}

async fn witness(cluster: &Cluster, clues: &mut Clues) {
    let index = cluster.applied_max();
    join_all(cluster.members.iter().map(|member| member.wait_applied(index, limits::LOCALISE_REST))).await;
    for member in &cluster.members {
        let mut found = Witness { member: member.id, ..Witness::default() };
        match member.status().await {
            Ok(status) => {
                let endpoint = url(member.addresses.client);
                match hear(&endpoint, (clues.from, unsigned(status.revision)), cluster.site.pace()).await {
                    Ok(shown) => found.shown = Some(shown),
                    Err(error) => clues.unknown.push(format!("the history of n{}: {error:#}", member.id)),
                }
            }
            Err(trouble) => clues.unknown.push(unanswered(member.id, &trouble)),
        }
        clues.witnesses.push(found);
    }
}

async fn hear(endpoint: &str, (from, through): (u64, u64), pace: &Pace) -> anyhow::Result<Shown> {
    let mut client = contact::connect(endpoint).await?;
    live::history(&mut client, (from, through), pace).await
}
