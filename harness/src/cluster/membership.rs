//! Changes of the membership, over etcd's Cluster service.
//!
//! A request whose answer never came may have been carried out, or may still be. So no request is
//! assumed to have failed: before it is sent again, the member list shows whether it was carried
//! out. A second sending is harmless: an id is removed and promoted once, and a peer address
//! belongs to one member, so a second learner at it is refused.

use super::Trouble;
use crate::contact;
use crate::pace::Pace;
use crate::timer;
use etcd_client::{ClusterClient, Error, MemberAddOptions};
use ninelives_evidence::limits;
use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

/// A server's words for a member that is a voter already, and for one that is not yet fit to be a
/// voter.
const NO_LEARNER: &str = "can only promote a learner member";
const NOT_IN_SYNC: &str = "which is in sync with leader";

/// The members through which the membership is changed.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Id and client endpoint; never empty.
    doors: Vec<(u64, String)>,
    /// The pace by which its bounds are stretched.
    pace: Pace,
}

/// A member, as a member list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    id: u64,
    peers: Vec<String>,
    learner: bool,
}

/// The result of one request, or of the list after it.
#[derive(Debug, PartialEq, Eq)]
enum Settled<T> {
    Done(T),
    /// Not known to be carried out; the words of the last answer.
    Open(String),
}

impl Membership {
    pub fn through(doors: Vec<(u64, String)>, pace: Pace) -> Self {
        Self { doors, pace }
    }

    /// Removes member `id`.
    pub async fn remove(&self, id: u64) -> Result<(), Trouble> {
        let what = format!("remove n{id} from the cluster");
        self.until_settled(&what, limits::MEMBERSHIP, async |client: &mut ClusterClient| {
            let answer = within(client.member_remove(id)).await;
            match answer {
                Ok(_) => Settled::Done(()),
                Err(why) if why.ends_with("member not found") => Settled::Done(()),
                Err(why) => settle(client, why, |list| removed(list, id)).await,
            }
        })
        .await
    }

    /// Adds a learner at `peer`, and returns the id that the cluster gave it: none of `used`.
    pub async fn add_learner(&self, peer: &str, used: &BTreeSet<u64>) -> Result<u64, Trouble> {
        let what = format!("add a learner at {peer}");
        let id = self
            .until_settled(&what, limits::MEMBERSHIP, async |client: &mut ClusterClient| {
                let options = MemberAddOptions::new().with_is_learner();
                let answer = within(client.member_add([peer.to_owned()], Some(options))).await;
                match answer.map(|answer| answer.member().map(|member| member.id())) {
                    Ok(Some(id)) => Settled::Done(id),
                    Ok(None) => settle(client, "no member".to_owned(), |list| added(list, peer, used)).await,
                    Err(why) => settle(client, why, |list| added(list, peer, used)).await,
                }
            })
            .await?;
        if used.contains(&id) {
            return Err(Trouble::IdUsedBefore { member: id });
        }
        Ok(id)
    }

    /// Makes the learner `id` a voter, as soon as the leader finds it in sync.
    pub async fn promote(&self, id: u64, bound: Duration) -> Result<(), Trouble> {
        let what = format!("promote n{id}, which has caught up");
        self.until_settled(&what, bound, async |client: &mut ClusterClient| {
            match within(client.member_promote(id)).await {
                Ok(_) => Settled::Done(()),
                Err(why) if why.ends_with(NOT_IN_SYNC) => Settled::Open(why),
                Err(why) if why.ends_with(NO_LEARNER) => Settled::Done(()),
                Err(why) => settle(client, why, |list| promoted(list, id)).await,
            }
        })
        .await
    }

    /// Asks one member after the other until one of them, or its list, says that the change is
    /// done.
    async fn until_settled<T>(
        &self,
        what: &str,
        bound: Duration,
        ask: impl AsyncFn(&mut ClusterClient) -> Settled<T>,
    ) -> Result<T, Trouble> {
        let lap = self.pace.begin();
        let mut last = (0, "no member was asked".to_owned());
        for (member, endpoint) in self.doors.iter().cycle() {
            if lap.is_over(bound) {
                break;
            }
            let mut client = connect(endpoint).await?;
            match ask(&mut client).await {
                Settled::Done(value) => return Ok(value),
                Settled::Open(why) => last = (*member, why),
            }
            timer::sleep(limits::MEMBERSHIP_RETRY_PAUSE).await;
        }
        let (member, why) = last;
        Err(Trouble::Late { member, what: format!("{what} (the last answer was: {why})"), bound: lap.stretched(bound) })
    }
}

async fn connect(endpoint: &str) -> Result<ClusterClient, Trouble> {
    let client = contact::connect(endpoint)
        .await
        .map_err(|error| anyhow::anyhow!("expected a client endpoint, found {endpoint:?}: {error}"))?;
    Ok(client.cluster_client())
}

/// The answer of one request, or words for why there is none.
async fn within<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match timer::within(limits::CONTROL_REQUEST, request).await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(Error::GRpcStatus(status))) => Err(status.message().to_owned()),
        Some(Err(other)) => Err(other.to_string()),
        None => Err(format!("no answer within {:?}", limits::CONTROL_REQUEST)),
    }
}

/// Asks the member list whether a request that ended with `why` was carried out all the same.
async fn settle<T>(client: &mut ClusterClient, why: String, done: impl Fn(&[Listed]) -> Option<T>) -> Settled<T> {
    let Ok(answer) = within(client.member_list()).await else { return Settled::Open(why) };
    let listed = |member: &etcd_client::Member| Listed {
        id: member.id(),
        peers: member.peer_urls().to_vec(),
        learner: member.is_learner(),
    };
    let list: Vec<_> = answer.members().iter().map(listed).collect();
    done(&list).map_or(Settled::Open(why), Settled::Done)
}

/// An id never comes back, so even an old list without it is proof; an empty list proves nothing.
fn removed(list: &[Listed], id: u64) -> Option<()> {
    (!list.is_empty() && list.iter().all(|member| member.id != id)).then_some(())
}

/// An old list may still show the member that was at `peer` before.
fn added(list: &[Listed], peer: &str, used: &BTreeSet<u64>) -> Option<u64> {
    list.iter().find(|member| !used.contains(&member.id) && member.peers.iter().any(|at| at == peer)).map(|one| one.id)
}

fn promoted(list: &[Listed], id: u64) -> Option<()> {
    list.iter().any(|member| member.id == id && !member.learner).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(members: &[(u64, &str, bool)]) -> Vec<Listed> {
        let listed = |(id, peer, learner): &(u64, &str, bool)| Listed {
            id: *id,
            peers: vec![(*peer).to_owned()],
            learner: *learner,
        };
        members.iter().map(listed).collect()
    }

    #[test]
    fn only_the_list_settles_what_was_not_answered() {
        let before = list(&[(1, "http://a", false), (2, "http://b", false)]);
        let without = list(&[(1, "http://a", false)]);
        let after = list(&[(1, "http://a", false), (4, "http://b", true)]);
        assert_eq!(removed(&before, 2), None);
        assert_eq!(removed(&[], 2), None, "a member that knows no others knows nothing");
        assert_eq!(removed(&without, 2), Some(()));
        let used = BTreeSet::from([1, 2, 3]);
        assert_eq!(added(&before, "http://b", &used), None, "an old list shows who was there before");
        assert_eq!(added(&after, "http://b", &used), Some(4));
        assert_eq!(promoted(&after, 4), None);
        assert_eq!(promoted(&after, 1), Some(()));
        assert_eq!(promoted(&after, 5), None);
    }

    #[tokio::test]
    async fn a_door_that_nobody_answers_at_is_lateness() {
        let membership = Membership::through(vec![(1, "http://127.0.0.1:1".to_owned())], Pace::idle());
        let trouble = membership.promote(4, Duration::from_millis(60)).await.unwrap_err();
        let sentence = trouble.finding(None).sentence();
        assert!(sentence.contains("n1: expected it to promote n4"), "{sentence}");
    }
}
