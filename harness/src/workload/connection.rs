//! One request to one member: from [`Action`] to RPC, and from answer to [`Outcome`].

use super::packed;
use super::refusal::outcome_of;
use crate::contact::rows::key_state;
use crate::timer;
use etcd_client::{
    Client, CompareOp, ConnectOptions, DeleteOptions, Error, GetOptions, LeaseGrantOptions, PutOptions, ResponseHeader,
    Txn, TxnOp,
};
use ninelives_evidence::operation::{Action, Compare, Effect, Keys, Outcome, Reply};
use node_proto::etcdserverpb::lease_client::LeaseClient;
use node_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// Establishing a connection on loopback takes microseconds; a stopped process or a full backlog
/// must not cost a client more than this.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// One lazy connection per endpoint: nothing is sent before the first request, and each request to
/// a dead endpoint tries to connect again and fails at once.
pub(super) async fn connect(endpoints: &[String], op_timeout: Duration) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let options = ConnectOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(op_timeout);
        let client = Client::connect([endpoint], Some(options))
            .await
            .map_err(|error| anyhow::anyhow!("expected a client endpoint, found {endpoint:?}: {error}"))?;
        let by_hand = Endpoint::from_shared(endpoint.clone())
            .map_err(|error| anyhow::anyhow!("expected a client endpoint, found {endpoint:?}: {error}"))?;
        let by_hand = by_hand.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect_lazy();
        connections.push(Connection { client, by_hand, op_timeout });
    }
    Ok(connections)
}

#[derive(Clone)]
pub(super) struct Connection {
    client: Client,
    /// For what the library does not send, or whose answers it keeps to itself; connects when it is
    /// first needed.
    by_hand: Channel,
    op_timeout: Duration,
}

impl Connection {
    /// Sends `action` once. Bounded by the operation timeout.
    pub async fn send(&mut self, action: &Action) -> Outcome {
        match timer::within(self.op_timeout, self.call(action)).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => outcome_of(&error),
            None => Outcome::Unknown { why: format!("no answer within {} ms", self.op_timeout.as_millis()) },
        }
    }

    /// For streams that live as long as their client.
    pub fn leases(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.by_hand.clone())
    }

    async fn call(&mut self, action: &Action) -> Result<Outcome, Error> {
        let client = &mut self.client;
        Ok(match action {
            Action::Put { key, value, lease } => {
                let answer =
                    client.put(key.as_str(), value.as_str(), Some(PutOptions::new().with_lease(*lease))).await?;
                done(answer.header(), Reply::Put)
            }
            Action::Delete { keys } => {
                let answer = client.delete(keys.from.as_str(), Some(delete_options(keys))).await?;
                done(answer.header(), Reply::Deleted(unsigned(answer.deleted())))
            }
            Action::Txn { when, then } => {
                let answer = client.txn(txn(when, then)).await?;
                done(answer.header(), Reply::Txn { succeeded: answer.succeeded() })
            }
            Action::Packed { shape, then } => packed::send(&self.by_hand, *shape, then).await,
            Action::Check { when, depth } => packed::check(&self.by_hand, when, *depth).await,
            Action::Grant { lease, ttl_seconds } => {
                let answer = client.lease_grant(*ttl_seconds, Some(LeaseGrantOptions::new().with_id(*lease))).await?;
                done(answer.header(), Reply::Granted)
            }
            Action::Revoke { lease } => done(client.lease_revoke(*lease).await?.header(), Reply::Revoked),
            Action::KeepAlive { lease } => keep_alive(self.leases(), *lease).await?,
            Action::Compact { revision } => {
                done(client.compact(signed(*revision), None).await?.header(), Reply::Compacted)
            }
            Action::Defragment => {
                // etcd's own answer has no header, and places nothing in the history.
                let answer = client.defragment().await?;
                let header = answer.header();
                let (revision, term) = header.map_or((0, 0), |of| (unsigned(of.revision()), of.raft_term()));
                Outcome::Done { revision, term, reply: Reply::Defragmented }
            }
            Action::Read { keys, revision, serializable } => {
                let answer = client.get(keys.from.as_str(), Some(get_options(keys, *revision, *serializable))).await?;
                done(answer.header(), Reply::Read(answer.kvs().iter().map(key_state).collect()))
            }
        })
    }
}

/// One keep-alive on a stream of its own.
async fn keep_alive(mut leases: LeaseClient<Channel>, lease: i64) -> Result<Outcome, Error> {
    let requests = futures_util::stream::iter([LeaseKeepAliveRequest { id: lease }]);
    let mut answers = leases.lease_keep_alive(requests).await?.into_inner();
    Ok(match answers.message().await? {
        Some(answer) if answer.id != lease => {
            Outcome::Unknown { why: format!("the answer is about lease {}", answer.id) }
        }
        Some(answer) => renewed(&answer),
        None => Outcome::Unknown { why: "the stream ended without an answer".to_owned() },
    })
}

pub(super) fn renewed(answer: &LeaseKeepAliveResponse) -> Outcome {
    let header = answer.header.as_ref().map(|header| (header.revision, header.raft_term));
    answered(header, Reply::Renewed { ttl_seconds: answer.ttl.max(0) })
}

/// An answer without a header cannot be placed in the history, so its outcome is not known.
fn done(header: Option<&ResponseHeader>, reply: Reply) -> Outcome {
    answered(header.map(|header| (header.revision(), header.raft_term())), reply)
}

/// Like the function above; `header` holds revision and raft term.
pub(super) fn answered(header: Option<(i64, u64)>, reply: Reply) -> Outcome {
    match header {
        Some((revision, term)) => Outcome::Done { revision: unsigned(revision), term, reply },
        None => Outcome::Unknown { why: "the answer has no header".to_owned() },
    }
}

fn delete_options(keys: &Keys) -> DeleteOptions {
    let options = DeleteOptions::new();
    match &keys.to {
        Some(to) => options.with_range(to.as_str()),
        None => options,
    }
}

fn get_options(keys: &Keys, revision: Option<u64>, serializable: bool) -> GetOptions {
    let mut options = GetOptions::new();
    if let Some(to) = &keys.to {
        options = options.with_range(to.as_str());
    }
    if let Some(revision) = revision {
        options = options.with_revision(signed(revision));
    }
    if serializable { options.with_serializable() } else { options }
}

fn txn(when: &[Compare], then: &[Effect]) -> Txn {
    let compares: Vec<_> = when
        .iter()
        .map(|one| etcd_client::Compare::mod_revision(one.key.as_str(), CompareOp::Equal, signed(one.mod_revision)))
        .collect();
    let effects: Vec<_> = then
        .iter()
        .map(|effect| match effect {
            Effect::Put { key, value } => TxnOp::put(key.as_str(), value.as_str(), None),
            Effect::Delete { keys } => TxnOp::delete(keys.from.as_str(), Some(delete_options(keys))),
        })
        .collect();
    Txn::new().when(compares).and_then(effects)
}

/// Revisions are positive on the wire; a negative one is impossible and becomes one that no check
/// accepts.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
