//! One member's raft: configured, started, watched.

use crate::api::{
    ChangeError, Changed, Farewell, LeaderService, MembershipChange, ProposeError, Proposed, RaftOptions, RaftStatus,
    Roster, StateMachine,
};
use crate::ask::Desk;
use crate::belief;
use crate::checked::ENTRIES_MAX;
use crate::forward::Forwards;
use crate::identity::Identity;
use crate::log_store::LogStore;
use crate::membership;
use crate::network::Network;
use crate::peers::Peers;
use crate::probe;
use crate::propose::{Attempt, Leadership, Router};
use crate::read_index::ReadRounds;
use crate::server::PeerService;
use crate::silence::{self, Rhythm, Silence};
use crate::startup::{self, StartError};
use crate::state_machine::{Adapter, RawRaft};
use crate::types::TypeConfig;
use bytes::Bytes;
use node_base::LogId;
use node_base::sabotage::{Bug, planted};
use node_base::watermarks::{Marks, Watermarks};
use node_proto::peer::peer_server::PeerServer;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, RaftMetrics, SnapshotPolicy};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A running member; clones share it.
#[derive(Clone)]
pub struct RaftNode {
    inner: Arc<Inner>,
}

struct Inner {
    router: Router,
    service: PeerService,
    reads: ReadRounds<Result<u64, ProposeError>>,
    desk: Desk,
    /// See `belief`.
    believed: watch::Receiver<Option<u64>>,
    silence: Duration,
    log: LogStore,
    /// The error of the state machine that ended raft.
    failed: watch::Receiver<Option<Arc<io::Error>>>,
    status: watch::Receiver<RaftStatus>,
    stop: watch::Sender<bool>,
}

impl RaftNode {
    /// Repairs the log, writes the founding membership into it if this member founds a cluster, and
    /// starts raft.
    ///
    /// Returns after the entries after N that were saved as committed have been applied (or
    /// verified) again. Must be called in a runtime; give it more than one thread.
    ///
    /// # Errors
    /// [`StartError`]; no request was answered.
    pub async fn start(
        options: RaftOptions,
        log: LogStore,
        state_machine: Arc<dyn StateMachine>,
        marks: Arc<Watermarks>,
    ) -> Result<Self, StartError> {
        check_member(&options)?;
        let config = config(&options)?;
        startup::repair(&log, state_machine.replay_after(), &marks).await?;
        log.attach(marks.clone());
        log.set_own_id(options.id);
        if !options.join {
            startup::found(&log, &options.members).await?;
        }
        if let Some(cluster) = options.cluster.filter(|_| log.cluster().is_none()) {
            log.join(cluster).await?;
        }
        let roster = membership::roster(&*state_machine)?;
        let identity = Identity::new(options.id, log.clone(), &options.members, roster);
        let peers = Peers::new(options.id, &options.members, &options.dial);
        let peers = peers.map_err(|error| StartError::Options(error.to_string()))?;
        let silence = Silence::default();
        let network = Network {
            peers: peers.clone(),
            identity: identity.clone(),
            state_machine: state_machine.clone(),
            silence: silence.clone(),
        };
        let (failed, died_of) = watch::channel(None);
        let adapter = Adapter::new(state_machine.clone(), log.clone(), marks.clone(), identity.clone(), failed)?;
        let started = RawRaft::new(options.id, Arc::new(config), network, log.clone(), adapter).await;
        let raft = started.map_err(|error| StartError::Raft(error.to_string()))?;
        let (stop, stopped) = watch::channel(false);
        let (status, leadership) = watch_status(&raft, &peers, stopped.clone());
        let rhythm = Rhythm::new(options.heartbeat_ms, options.election_ms.1);
        tokio::spawn(silence::run(raft.clone(), silence, rhythm, stopped.clone()));
        let (every, index) = (options.snapshot_every_entries, |id: Option<LogId>| id.map(|id| id.index));
        if planted(Bug::PurgePastFlushed) {
            let applied = (marks.subscribe(), move |marks: &Marks| index(marks.applied));
            tokio::spawn(follow_flushes(raft.clone(), log.clone(), applied, 8, stopped.clone()));
        } else {
            let persisted = (marks.subscribe_persisted(), move |persisted: &_| index(*persisted));
            tokio::spawn(follow_flushes(raft.clone(), log.clone(), persisted, every, stopped.clone()));
        }
        let router = Router {
            identity,
            raft,
            log: log.clone(),
            peers,
            leadership,
            state_machine,
            marks: marks.clone(),
            forwards: Forwards::new(),
            changing: Arc::default(),
        };
        let silence = belief::silence(options.election_ms.1);
        let believed = belief::watch_belief(&router.raft, router.identity.clone(), silence, stopped.clone());
        tokio::spawn(probe::run(router.clone(), stopped));
        let desk = Desk::new(router.clone(), marks);
        let service = PeerService::new(router.clone(), desk.clone());
        let reads = ReadRounds::spawn({
            let router = router.clone();
            move || {
                let router = router.clone();
                async move { router.read_index().await }
            }
        });
        let inner = Inner { router, service, reads, desk, believed, silence, log, failed: died_of, status, stop };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The gRPC service for the peer listener.
    pub fn peer_service(&self) -> PeerServer<PeerService> {
        self.inner.service.clone().into_server()
    }

    #[cfg(test)]
    pub(crate) fn service(&self) -> &PeerService {
        &self.inner.service
    }

    /// Proposes a command on the leader, wherever it is, and waits until it is applied there and
    /// here.
    ///
    /// # Errors
    /// See [`ProposeError`]; only `NoLeader`, `Unavailable` and `Unfit` say that nothing was
    /// proposed.
    pub async fn propose(&self, command: Bytes) -> Result<Proposed, ProposeError> {
        self.inner.router.propose(command).await
    }

    /// An index that covers everything acknowledged before this call, confirmed by a quorum. A read
    /// is linearizable once this member has applied it.
    ///
    /// # Errors
    /// As for [`RaftNode::propose`], though nothing is ever proposed.
    pub async fn read_index(&self) -> Result<u64, ProposeError> {
        self.inner.reads.next().await?
    }

    /// From here on `service` answers what is asked of this member while it leads; false: another
    /// one does already.
    pub fn answer_by(&self, service: Arc<dyn LeaderService>) -> bool {
        self.inner.desk.open(service)
    }

    /// Asks the leader, wherever it is; see [`LeaderService`].
    ///
    /// # Errors
    /// As for [`RaftNode::propose`], though nothing is ever proposed.
    pub async fn ask_leader(&self, question: Bytes) -> Result<Bytes, ProposeError> {
        self.inner.desk.ask(question).await
    }

    /// The term that this member leads, confirmed by a quorum after the call; the term's first
    /// entry is applied here.
    ///
    /// # Errors
    /// It does not lead, or no quorum says so in time.
    pub async fn confirm_leadership(&self) -> Result<u64, ProposeError> {
        match self.inner.desk.confirm().await {
            Attempt::Done(term) => Ok(term),
            Attempt::Refused { reason, .. } => Err(ProposeError::Unavailable(reason)),
            Attempt::Failed(error) => Err(error),
        }
    }

    /// Proposes a command if this member leads `term`, and waits until it is applied here. Never
    /// forwarded.
    ///
    /// # Errors
    /// See [`ProposeError`]; only `NoLeader` and `Unavailable` say that nothing was proposed.
    pub async fn propose_in_term(&self, term: u64, command: Bytes) -> Result<Proposed, ProposeError> {
        self.inner.router.propose_in_term(term, command).await
    }

    /// The leader that this member believes in: `None` once nothing was heard of it for
    /// [`RaftNode::silence`], or, at the leader itself, of a quorum.
    pub fn believed_leader(&self) -> watch::Receiver<Option<u64>> {
        self.inner.believed.clone()
    }

    /// Time without a word from the leader after which it is forgotten.
    pub fn silence(&self) -> Duration {
        self.inner.silence
    }

    /// Changes the membership, on the leader, wherever it is, and waits until the change is applied
    /// there and here; a member that removes itself may never come to know of it by its log, and
    /// does not wait.
    ///
    /// # Errors
    /// See [`ChangeError`]; a refusal says that nothing was proposed, and so do `NoLeader` and
    /// `Unavailable`.
    pub async fn change_membership(&self, change: MembershipChange) -> Result<Changed, ChangeError> {
        let router = self.inner.router.clone();
        // In a task of its own, as the server does it: the waiter may go away, and the change still
        // runs to its end.
        let changed = tokio::spawn(async move { router.change(change).await }).await;
        changed.unwrap_or_else(|error| Err(ProposeError::Fatal(error.to_string()).into()))
    }

    /// The members as the state machine has them; woken at every change.
    pub fn roster(&self) -> watch::Receiver<Roster> {
        self.inner.router.identity.roster()
    }

    /// True if this member gets the log and has no vote.
    pub fn is_learner(&self) -> bool {
        let own_id = self.inner.router.own_id();
        self.roster().borrow().members.get(&own_id).copied().unwrap_or(false)
    }

    /// Holds the reason, once there is one, why this member must not go on: it was removed, or it
    /// lost its log.
    pub fn farewell(&self) -> watch::Receiver<Option<Farewell>> {
        self.inner.router.identity.farewell()
    }

    /// Number of messages of others that were refused for what they say or for who says it, and of
    /// answers that were not believed.
    pub fn refused_messages(&self) -> u64 {
        self.inner.router.identity.refused()
    }

    /// This member's log.
    pub fn log(&self) -> &LogStore {
        &self.inner.log
    }

    pub fn status(&self) -> RaftStatus {
        let metrics = self.inner.router.raft.metrics();
        status_of(&metrics.borrow_watched())
    }

    /// A member, this one included, that has too little room on its disk for more writes, as far as
    /// is known here.
    pub fn short_of_space(&self) -> Option<u64> {
        let router = &self.inner.router;
        if router.state_machine.is_short_of_space() { Some(router.own_id()) } else { router.peers.shortage.any() }
    }

    /// Woken at every change of [`RaftNode::status`].
    pub fn status_watch(&self) -> watch::Receiver<RaftStatus> {
        self.inner.status.clone()
    }

    /// Resolves, with the reason, when raft has died of an error of the log or of the state
    /// machine: the process must exit. Never resolves because of [`RaftNode::shutdown`]. The causes
    /// of an error of the state machine are the state machine's own.
    pub async fn fatal(&self) -> Arc<io::Error> {
        let mut log_failed = self.inner.log.failed();
        let log_failed = async {
            match log_failed.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => "the raft log is gone".to_owned(),
            }
        };
        let mut failed = self.inner.failed.clone();
        let reason = tokio::select! {
            // The cause first: the state machine waits for the log, and raft dies of either.
            biased;
            reason = log_failed => Arc::new(io::Error::other(reason)),
            Some(error) = async { failed.wait_for(Option::is_some).await.ok()?.clone() } => error,
            reason = raft_died(&self.inner.router.raft) => Arc::new(io::Error::other(reason)),
        };
        if *self.inner.stop.borrow() {
            return std::future::pending().await;
        }
        reason
    }

    /// Stops raft, makes durable what was applied in a group, and closes the log's file. Requests
    /// that come after fail.
    pub async fn shutdown(&self) {
        self.inner.stop.send_replace(true);
        if let Err(error) = self.inner.router.raft.shutdown().await {
            tracing::error!(%error, "raft did not end cleanly");
        }
        let (state_machine, log) = (self.inner.router.state_machine.clone(), self.inner.log.clone());
        let close = move || {
            // What works on a stopped member's directory reads the engine alone.
            if let Err(error) = state_machine.settle() {
                tracing::error!(%error, "what was applied last is not durable");
            }
            log.close();
        };
        if let Err(error) = tokio::task::spawn_blocking(close).await {
            tracing::error!(%error, "the raft log was not closed cleanly");
        }
    }
}

fn check_member(options: &RaftOptions) -> Result<(), StartError> {
    let known: Vec<_> = options.members.iter().map(|member| member.id).collect();
    if !known.contains(&options.id) {
        return Err(StartError::NotAMember { id: options.id, known });
    }
    if options.cluster == Some(0) || (options.cluster.is_none() && !options.join) {
        let found = options.cluster;
        return Err(StartError::Options(format!("expected a founding member's cluster id, not 0, found {found:?}")));
    }
    Ok(())
}

fn config(options: &RaftOptions) -> Result<Config, StartError> {
    if options.snapshot_every_entries == 0 {
        return Err(StartError::Options("expected snapshot_every_entries of at least 1, found 0".to_owned()));
    }
    let config = Config {
        cluster_name: "ninelives".to_owned(),
        heartbeat_interval: options.heartbeat_ms,
        election_timeout_min: options.election_ms.0,
        election_timeout_max: options.election_ms.1,
        enable_pre_vote: Some(true),
        // The library's own default resumes a leader's term: the planted bug.
        enable_leader_restore: if planted(Bug::LeaderRestore) { None } else { Some(false) },
        // N decides when there is a new snapshot, not the number of entries.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: if planted(Bug::PurgePastFlushed) { 0 } else { options.keep_entries },
        purge_batch_size: 1,
        // A laggard gets entries for as long as there are any.
        replication_lag_threshold: 1 << 40,
        max_payload_entries: ENTRIES_MAX as u64,
        // The core waits once this many batches of committed entries wait to be applied, and a core
        // that waits sends no heartbeats. An entry that changes every key may take seconds.
        state_machine_channel_size: Some(65_536),
        backoff: "20ms 40ms 80ms ..80ms".to_owned(),
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::Options(error.to_string()))
}

fn status_of(metrics: &RaftMetrics<TypeConfig>) -> RaftStatus {
    RaftStatus {
        term: metrics.current_term,
        leader: metrics.current_leader,
        last_log: metrics.last_log_index,
        committed: metrics.local_committed.as_ref().map(|id| id.index),
        applied: metrics.last_applied.as_ref().map(|id| id.index),
        is_leader: metrics.state.is_leader(),
    }
}

/// Follows the library's metrics until it stops.
fn watch_status(
    raft: &RawRaft,
    peers: &Peers,
    mut stopped: watch::Receiver<bool>,
) -> (watch::Receiver<RaftStatus>, watch::Receiver<Leadership>) {
    let mut metrics = raft.metrics();
    let (status, status_receiver) = watch::channel(status_of(&metrics.borrow_watched()));
    let (leadership, leadership_receiver) = watch::channel(Leadership::default());
    let peers = peers.clone();
    tokio::spawn(async move {
        loop {
            let (now, leads) = {
                let metrics = metrics.borrow_watched();
                let (now, membership) = (status_of(&metrics), *metrics.membership_config.log_id());
                // The library's clients live on when a member moves: they ask `peers` for each
                // call.
                if leadership.borrow().membership != membership {
                    let nodes = metrics.membership_config.membership().nodes();
                    nodes.for_each(|(id, node)| peers.learn(*id, &node.peer_addr));
                }
                (now, Leadership { term: now.term, leader: now.leader, membership })
            };
            // Who wakes because the status changed, and proposes, must not be sent to the leader of
            // before.
            leadership.send_if_modified(|old| std::mem::replace(old, leads) != leads);
            status.send_if_modified(|old| std::mem::replace(old, now) != now);
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { return },
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
    });
    (status_receiver, leadership_receiver)
}

/// Each time N has grown: the deferred rest of a purge, and after `every` so many entries a new
/// snapshot position, after which the library purges what it need not keep. `position` finds N in
/// what `marks` holds.
async fn follow_flushes<M>(
    raft: RawRaft,
    log: LogStore,
    (mut marks, position): (watch::Receiver<M>, impl Fn(&M) -> Option<u64>),
    every: u64,
    mut stopped: watch::Receiver<bool>,
) {
    let mut seen = position(&marks.borrow_and_update());
    // From what was purged, not from this life's N: a member that always dies young must purge as
    // well.
    let mut snapshot_at = log.facts().last_purged.map_or(0, |id| id.index);
    loop {
        tokio::select! {
            changed = marks.changed() => if changed.is_err() { return },
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let now = position(&marks.borrow_and_update());
        if now == seen {
            continue;
        }
        seen = now;
        log.recheck_purge();
        if now.is_some_and(|now| now >= snapshot_at.saturating_add(every)) {
            snapshot_at = now.unwrap_or(snapshot_at);
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    }
}

/// Resolves when the library's core has ended.
async fn raft_died(raft: &RawRaft) -> String {
    let mut metrics = raft.metrics();
    loop {
        if let Err(fatal) = &metrics.borrow_watched().running_state {
            return fatal.to_string();
        }
        if metrics.changed().await.is_err() {
            return "raft ended".to_owned();
        }
    }
}
