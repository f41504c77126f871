//! The last read of a run: every key of every member, read over the public API at one revision.
//!
//! The fences compare the content of engines; this compares the answers to a client.

use crate::cluster::{Cluster, Trouble};
use crate::contact::{self, rows};
use ninelives_evidence::Evidence;
use ninelives_evidence::limits;
use ninelives_evidence::operation::KeyState;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::{Harness, Members};
use ninelives_oracle::Ledger;

/// Reads all members and judges their answers. A failed read leads to a finding about the harness
/// or about liveness, and is never passed over. Findings wait with the ledger, so that an
/// interruption loses none.
pub async fn read_and_check(cluster: &Cluster, ledger: &Ledger) {
    for (slot, endpoint) in cluster.endpoints() {
        let Some(member) = cluster.in_slot(slot).map(|member| member.id) else { continue };
        // A member has applied the revisions that its own watch has delivered; another member's
        // stream may be ahead of it.
        let revision = ledger.delivered(slot);
        match cluster.site.pace().within(limits::LAST_READ, read_all(&endpoint, revision)).await {
            Ok(Ok(rows)) => ledger.record(&Evidence::LastRead { member, revision, rows }),
            Ok(Err(error)) => tell(
                ledger,
                match death_of(cluster, member).await {
                    Some(trouble) => trouble.finding(None),
                    None => {
                        let what = Harness::LastReadFailed { member, error: format!("{error:#}") };
                        Finding::new(what).at_member(member)
                    }
                },
            ),
            Err(bound) => {
                let late = Finding::new(Members::LastReadLate { member, bound }).at_member(member);
                tell(ledger, late);
            }
        }
    }
}

fn tell(ledger: &Ledger, finding: Finding) {
    ledger.record(&Evidence::Told { finding });
}

/// The death of `member`, if that is why it does not answer.
async fn death_of(cluster: &Cluster, member: u64) -> Option<Trouble> {
    cluster.member(member)?.death_news().await
}

async fn read_all(endpoint: &str, revision: u64) -> anyhow::Result<Vec<KeyState>> {
    let client = contact::connect(endpoint).await?;
    // It is this member's own state that is asked for, at a revision that it has certainly applied.
    Ok(rows::at(&client, revision).await?)
}
