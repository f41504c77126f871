//! The search after a divergence: the questions to a cluster that is still alive.
//!
//! 1. The load stops, and the members come to rest; from here on the state does not change while it
//!    is read.
//! 2. Each living member shows its rows since the last fence on which all members agreed with the
//!    model, over the client API: a new watch reads them from the engine, tombstones included, as
//!    the hash does. Its keys at the fence are read as well.
//! 3. All members are killed, and all raft logs are decoded.
//!
//! [`ninelives_oracle::localise`] concludes from the answers and the logs, which needs no member.
//!
//! A run that gets here is over: the search leaves all members dead.

mod live;
mod server;

use crate::cluster::{Cluster, Trouble};
use crate::contact::{self, Standing};
use crate::dial::url;
use crate::pace::Pace;
use crate::workload::Workload;
use futures_util::future::join_all;
use ninelives_evidence::limits;
use ninelives_evidence::record::localisation::Localisation;
use ninelives_evidence::verdict::Finding;
use ninelives_oracle::localise::{Clues, Trail, Witness, by_logs, empty, subject};
use ninelives_oracle::{Ledger, raft_log};

/// Looks into the first of `findings` that is about the state, if any is. Then all members are
/// dead.
pub async fn localise(
    cluster: &mut Cluster,
    ledger: &Ledger,
    workload: &mut Option<Workload>,
    findings: &[Finding],
) -> Option<Localisation> {
    let finding = subject(findings)?;
    let pace = cluster.site.pace().clone();
    let looked = async {
        match cluster.site.target.inspector() {
            Some(_) => look(cluster, ledger, workload, finding).await,
            None => server::look(cluster, ledger, workload, finding).await,
        }
    };
    let looked = pace.within(limits::LOCALISE, looked).await;
    Some(looked.unwrap_or_else(|bound| {
        empty(finding, vec![format!("where it begins: the search did not end within {bound}")])
    }))
}

async fn look(
    cluster: &mut Cluster,
    ledger: &Ledger,
    workload: &mut Option<Workload>,
    finding: &Finding,
) -> Localisation {
    let mut clues = Clues::default();
    stop_load(cluster, ledger, workload, (finding, &mut clues)).await;
    clues.take_fence(ledger);
    witness(cluster, &mut clues).await;
    cluster.kill_all().await;
    read_logs(cluster, &mut clues);
    by_logs(finding, clues, ledger, cluster.members.len())
}

/// Stops the load, and reads the trail of the cycle of `finding`.
async fn stop_load(
    cluster: &Cluster,
    ledger: &Ledger,
    workload: &mut Option<Workload>,
    (finding, clues): (&Finding, &mut Clues),
) {
    if let Some(workload) = workload.take()
        && cluster.site.pace().within(limits::LOCALISE_LOAD, workload.stop()).await.is_err()
    {
        clues.unknown.push("a state at rest: the load did not stop in time, and wrote on".to_owned());
    }
    ledger.flush();
    match Trail::read(&cluster.site.paths.history_jsonl(), finding.cycle) {
        Ok(trail) => clues.trail = trail,
        Err(error) => clues.unknown.push(format!("what happened in the cycle: {error}")),
    }
}

/// Asks all living members for their rows.
async fn witness(cluster: &Cluster, clues: &mut Clues) {
    let index = cluster.applied_max();
    join_all(cluster.members.iter().map(|member| member.wait_applied(index, limits::LOCALISE_REST))).await;
    let statuses = join_all(cluster.members.iter().map(|member| member.status())).await;
    let compact = statuses.iter().flatten().map(|status| unsigned(status.compact_revision)).max().unwrap_or(0);
    clues.ask_behind(compact);
    for (member, status) in cluster.members.iter().zip(statuses) {
        let mut found = Witness { member: member.id, ..Witness::default() };
        match status {
            Ok(status) => {
                let endpoint = url(member.addresses.client);
                let fence = clues.fence_revision(member.id);
                if let Err(error) = hear((&endpoint, cluster.site.pace()), clues.from, &status, fence, &mut found).await
                {
                    clues.unknown.push(format!("all that n{} holds: {error:#}", member.id));
                }
            }
            Err(trouble) => clues.unknown.push(unanswered(member.id, &trouble)),
        }
        clues.witnesses.push(found);
    }
}

async fn hear(
    (endpoint, pace): (&str, &Pace),
    from: u64,
    status: &Standing,
    fence: Option<u64>,
    found: &mut Witness,
) -> anyhow::Result<()> {
    let mut client = contact::connect(endpoint).await?;
    found.shown = Some(live::history(&mut client, (from, unsigned(status.revision)), pace).await?);
    if let Some(revision) = fence.filter(|revision| *revision >= unsigned(status.compact_revision)) {
        found.keys = Some(live::keys(&client, revision).await?);
    }
    Ok(())
}

/// The question that a member without an answer leaves open.
fn unanswered(member: u64, trouble: &Trouble) -> String {
    format!("what n{member} holds, because it does not answer: {}", trouble.finding(None).sentence())
}

/// Decodes the logs of the members, which are dead by now.
fn read_logs(cluster: &Cluster, clues: &mut Clues) {
    for witness in &mut clues.witnesses {
        match raft_log::read(&cluster.dead_directory(witness.member)) {
            Ok(log) => witness.log = Some(log),
            Err(error) => clues.unknown.push(format!("the raft log of n{}: {error}", witness.member)),
        }
    }
}

/// A number of the wire, which has no unsigned ones.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
