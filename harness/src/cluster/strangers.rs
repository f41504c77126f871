//! Strangers: members of another cluster at the peer addresses of dead members of this one.
//!
//! Ports are used again. In its own view the other cluster has the slots' numbers as ids and their
//! peer addresses, and other names, so it is another cluster. Each slot has one stranger, which
//! keeps its data directory for the whole run. So a single stranger has no quorum, and waits; those
//! of several dead members elect, serve and remember each other.
//!
//! A stranger has clients' ports of its own. No client of ours is ever answered by it, because the
//! answer would be held against the members.

use super::ports::PortHolder;
use super::{Cluster, Member, Site};
use crate::contact::{self, Contact};
use crate::dial::url;
use crate::pace::Pace;
use crate::process::{Child, Launch};
use crate::subject::events::{self, NodeState};
use crate::subject::{Addresses, Life, Origin};
use crate::timer;
use anyhow::{Context, anyhow};
use etcd_client::{Client, Error, GetOptions};
use futures_util::future::join;
use ninelives_evidence::StrangerSeen;
use ninelives_evidence::ended::Ended;
use ninelives_evidence::limits;
use ninelives_evidence::member::{Engine, Slot};
use ninelives_evidence::record::strangers::StrangersRecord;
use ninelives_evidence::stretched::Stretched;
use ninelives_evidence::verdict::findings::Members;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

/// The other cluster, which has one member for each slot.
#[derive(Debug)]
pub struct Strangers {
    /// Its founders, in its own view.
    founders: Vec<(u64, Addresses)>,
    /// The id of its cluster when a stranger was first read, by slot.
    founded: BTreeMap<Slot, u64>,
    pub record: StrangersRecord,
    _ports: Vec<PortHolder>,
}

/// One life of a stranger.
pub struct Stranger {
    pub slot: Slot,
    child: Child,
    said: watch::Receiver<NodeState>,
    contact: Contact,
    client: Client,
    /// It had no life before.
    first: bool,
}

/// What a stranger did while it stayed, and showed before it was killed.
#[derive(Debug)]
pub struct Stay {
    /// Its own cluster acknowledged its write.
    pub wrote: bool,
    pub refused: u64,
    cluster: u64,
    keys: Vec<Vec<u8>>,
}

/// Reason why a stranger is not what it has to be.
#[derive(Debug)]
pub enum Misfortune {
    Died { ended: Ended, remark: Option<String>, served: bool },
    Late { awaited: &'static str, bound: Stretched },
}

impl Strangers {
    fn prepare(members: &[Member]) -> anyhow::Result<Self> {
        let (mut founders, mut ports) = (Vec::new(), Vec::new());
        for member in members {
            let (at, held) = beside(member.addresses)?;
            founders.push((member.slot.0, at));
            ports.extend(held);
        }
        Ok(Self { founders, founded: BTreeMap::new(), record: StrangersRecord::default(), _ports: ports })
    }

    /// The evidence of a stay. The first one in a slot says which cluster is its own.
    pub fn seen(&mut self, slot: Slot, stay: &Stay) -> StrangerSeen {
        let founded = *self.founded.entry(slot).or_insert(stay.cluster);
        let foreign = stay.keys.iter().filter(|key| !StrangerSeen::is_own_key(key));
        let named = foreign.take(limits::FOREIGN_KEYS_NAMED).map(|key| String::from_utf8_lossy(key).into_owned());
        StrangerSeen { founded, cluster: stay.cluster, keys: stay.keys.len() as u64, foreign: named.collect() }
    }

    async fn start(&self, site: &Site, slot: Slot) -> anyhow::Result<Stranger> {
        let at = self.founders.iter().find(|(id, _)| *id == slot.0).map(|(_, at)| *at);
        let at = at.ok_or_else(|| anyhow!("there is no {slot} for a stranger"))?;
        let data_dir = site.paths.stranger_data(slot.0);
        let detours = site.detours(slot);
        let origin = Origin::Stranger(&self.founders);
        // Its engine stays the same in all its lives; that of the dead member may change.
        let engine = Engine::Redb;
        let life = Life { id: slot.0, engine, at, data_dir: &data_dir, origin, arm: None, detours: &detours };
        Stranger::launch(site, slot, &life).await
    }
}

const NO_PORT: &str = "cannot reserve a loopback port for a stranger";

impl Cluster {
    /// Starts a stranger in each of `slots`, whose members are dead.
    ///
    /// # Errors
    /// A port or a process cannot be had.
    pub async fn let_strangers_in(&mut self, slots: &[Slot]) -> anyhow::Result<Vec<Stranger>> {
        let strangers = match &mut self.strangers {
            Some(strangers) => strangers,
            none => none.insert(Strangers::prepare(&self.members)?),
        };
        let mut started = Vec::new();
        for slot in slots {
            started.push(strangers.start(&self.site, *slot).await?);
        }
        Ok(started)
    }
}

impl Stranger {
    /// Starts `life` in `slot`.
    ///
    /// # Errors
    /// The program cannot be executed, or its log cannot be opened.
    pub async fn launch(site: &Site, slot: Slot, life: &Life<'_>) -> anyhow::Result<Self> {
        let first = !life.data_dir.exists();
        let launch = Launch::new(site.target.binary(), site.target.serve_args(life));
        let launch = launch.log_to(&site.paths.stranger_log(slot.0)).limit_open_files(site.nofile);
        let started = site.spawner.spawn(launch).await?;
        let (publish, said) = watch::channel(NodeState::default());
        events::follow(started.stdout, publish);
        let contact = Contact::with(&site.target, life.id, life.at).await?;
        let client = contact::connect(&url(life.at.client)).await?;
        Ok(Self { slot, child: started.child, said, contact, client, first })
    }

    /// Waits until it serves, lets it write `key` to its own cluster if that has a quorum, and
    /// reads it after `stay`.
    ///
    /// # Errors
    /// It ended, or did not serve or answer in time.
    pub async fn stay(
        &self,
        pace: &Pace,
        (restart, stay): (Duration, Duration),
        key: &str,
    ) -> Result<Stay, Misfortune> {
        self.unless_it_ends(async {
            self.serves(pace, restart).await?;
            let (wrote, ()) = join(timer::within(stay, self.write(key)), timer::sleep(stay)).await;
            let read = pace.within(limits::CONTROL_REQUEST, self.read()).await;
            let (cluster, keys, refused) =
                read.map_err(|bound| Misfortune::Late { awaited: "show its keys", bound })?;
            Ok(Stay { wrote: wrote.is_some(), refused, cluster, keys })
        })
        .await
    }

    /// Waits until it serves, and has refused a message or follows a leader; gives its cluster's
    /// id, and that leader, or 0.
    ///
    /// # Errors
    /// It ended, or did not serve within `restart`, or nothing else happened within as long.
    pub async fn meet(&self, pace: &Pace, restart: Duration) -> Result<(u64, u64), Misfortune> {
        let met = async {
            loop {
                if let (Ok((cluster, _)), Ok(status)) = (range(&self.client).await, self.contact.status().await)
                    && (status.messages_refused > 0 || status.leader_id != 0)
                {
                    return (cluster, status.leader_id);
                }
                timer::sleep(limits::LEADER_RETRY_PAUSE).await;
            }
        };
        self.unless_it_ends(async {
            self.serves(pace, restart).await?;
            let met = pace.within(restart, met).await;
            met.map_err(|bound| Misfortune::Late { awaited: "refuse a message of the others", bound })
        })
        .await
    }

    async fn unless_it_ends<T>(&self, so_far: impl Future<Output = Result<T, Misfortune>>) -> Result<T, Misfortune> {
        tokio::select! {
            biased;
            ended = self.child.ended() => Err(self.died(ended)),
            done = so_far => done,
        }
    }

    async fn serves(&self, pace: &Pace, restart: Duration) -> Result<(), Misfortune> {
        match pace.within(restart, self.contact.serves(self.said.clone())).await {
            Ok(true) => Ok(()),
            // Its pipe is closed: it is ending, and the caller waits for that.
            Ok(false) => std::future::pending().await,
            Err(bound) => Err(Misfortune::Late { awaited: "serve", bound }),
        }
    }

    async fn write(&self, key: &str) {
        while self.client.kv_client().put(key, "", None).await.is_err() {
            // Without a quorum no write is acknowledged; only another one tells when there is one.
            timer::sleep(limits::LEADER_RETRY_PAUSE).await;
        }
    }

    /// Its cluster's id, its keys, and the number of messages that it refused.
    async fn read(&self) -> (u64, Vec<Vec<u8>>, u64) {
        loop {
            if let (Ok((cluster, keys)), Ok(status)) = (range(&self.client).await, self.contact.status().await) {
                return (cluster, keys, status.messages_refused);
            }
            timer::sleep(limits::LEADER_RETRY_PAUSE).await;
        }
    }

    /// Kills it, and waits until it is dead.
    ///
    /// # Errors
    /// It had ended before.
    pub async fn kill(self, pace: &Pace) -> anyhow::Result<Result<(), Misfortune>> {
        let slot = self.slot;
        self.child.kill().with_context(|| format!("cannot signal the stranger in {slot}"))?;
        let ended = pace.within(limits::DEATH, self.child.ended()).await;
        let ended = ended.map_err(|bound| anyhow!("the stranger in {slot} did not end within {bound} of a SIGKILL"))?;
        Ok(if matches!(ended, Ended::KilledByUs(_)) { Ok(()) } else { Err(self.died(ended)) })
    }

    fn died(&self, ended: Ended) -> Misfortune {
        let said = self.said.borrow();
        Misfortune::Died { ended, remark: said.remark.clone(), served: said.serving }
    }

    /// Whether it had no life before this one.
    pub fn is_first_life(&self) -> bool {
        self.first
    }
}

/// The id of the cluster that a member belongs to, and its keys: as it knows them, asking no other.
async fn range(client: &Client) -> Result<(u64, Vec<Vec<u8>>), Error> {
    let all = GetOptions::new().with_all_keys().with_keys_only().with_serializable();
    let answer = client.kv_client().get("", Some(all.with_limit(limits::ROWS_PER_PAGE))).await?;
    let cluster = answer.header().map_or(0, etcd_client::ResponseHeader::cluster_id);
    Ok((cluster, answer.kvs().iter().map(|kv| kv.key().to_vec()).collect()))
}

/// The id of the cluster of the member at `at`.
///
/// # Errors
/// It does not answer.
pub async fn cluster_of(at: Addresses, pace: &Pace) -> anyhow::Result<u64> {
    let client = contact::connect(&url(at.client)).await?;
    let answered = pace.within(limits::CONTROL_REQUEST, range(&client)).await;
    let answered = answered.map_err(|bound| anyhow!("no answer to a range within {bound}"))?;
    Ok(answered.with_context(|| format!("cannot read from {}", at.client))?.0)
}

/// Clients' ports beside those of `at`, and the reservations that hold them.
pub fn beside(at: Addresses) -> anyhow::Result<(Addresses, [PortHolder; 2])> {
    let [client, control] = [PortHolder::reserve(), PortHolder::reserve()];
    let (client, control) = (client.context(NO_PORT)?, control.context(NO_PORT)?);
    Ok((Addresses { client: client.address(), control: control.address(), ..at }, [client, control]))
}

impl Misfortune {
    /// The finding for it. `first`: it is of a stranger's first life.
    pub fn finding(self, slot: Slot, first: bool) -> Members {
        match self {
            // No process sends itself one of these.
            Misfortune::Died { ended: ended @ (Ended::KilledByOther(1 | 2 | 9 | 15) | Ended::Unknown), .. } => {
                Members::StrangerEndedFromOutside { slot, ended }
            }
            // A program that never ran says nothing about what it was told.
            Misfortune::Died { ended, remark, served: false } if first => {
                Members::StrangerNeverStarted { slot, ended, remark }
            }
            Misfortune::Died { ended, remark, .. } => Members::StrangerDied { slot, ended, remark },
            Misfortune::Late { awaited, bound } => Members::StrangerLate { slot, awaited: awaited.to_owned(), bound },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::verdict::Class;

    #[test]
    fn only_keys_of_its_own_are_a_strangers_and_its_first_cluster_stays_its_own() {
        let stay = |cluster, keys: &[&str]| Stay {
            wrote: false,
            refused: 0,
            cluster,
            keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
        };
        let mut strangers = Strangers::prepare(&[]).unwrap();
        let own = StrangerSeen::own_key(4, 2);
        let seen = strangers.seen(Slot(2), &stay(7, &[&own]));
        assert_eq!((seen.founded, seen.cluster, seen.keys, seen.foreign), (7, 7, 1, Vec::new()));
        let seen = strangers.seen(Slot(2), &stay(8, &["p/1", &own]));
        assert_eq!((seen.founded, seen.cluster, seen.keys, seen.foreign), (7, 8, 2, vec!["p/1".to_owned()]));
        assert_eq!(strangers.seen(Slot(1), &stay(8, &[])).founded, 8);
    }

    #[test]
    fn a_stranger_that_never_ran_or_was_killed_from_outside_accuses_no_member() {
        let class = |ended, served, first| {
            let died = Misfortune::Died { ended, remark: None, served };
            died.finding(Slot(2), first).class()
        };
        let exited = |code, served, first| class(Ended::Exited(code), served, first);
        assert_eq!(exited(1, false, true), Class::HarnessError);
        assert_eq!((exited(1, true, true), exited(1, false, false)), (Class::NodeDied, Class::NodeDied));
        // "Removed" is one of the things that it must not believe.
        assert_eq!(
            (exited(0, true, true), class(Ended::KilledByOther(6), true, true)),
            (Class::NodeDied, Class::NodeDied)
        );
        assert_eq!(class(Ended::KilledByOther(9), true, false), Class::HarnessError, "the OOM killer, or a person");
    }
}
