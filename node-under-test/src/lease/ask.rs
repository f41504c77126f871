//! A member's questions about leases to the leader, in the form in which they are sent
//! (`lease.proto`).

use crate::clock;
use bytes::Bytes;
use node_proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use node_proto::lease as wire;
use node_proto::lease::answer::About as Answer;
use node_proto::lease::question::About as Question;
use node_raft::{ProposeError, RaftNode};
use prost::Message;
use std::collections::BTreeMap;
use std::time::Duration;

/// Outcome of the wish to renew one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// Seconds; 0: there is no such lease.
    Ttl(i64),
    /// It ran out, and its revocation is under way: ask again once that is settled.
    BeingRevoked,
}

/// The way to the leader: the bytes of a question go there, and those of its answer come back.
pub trait Line: Send + Sync + 'static {
    fn ask_leader(&self, question: Bytes) -> impl Future<Output = Result<Bytes, ProposeError>> + Send;
}

impl Line for RaftNode {
    async fn ask_leader(&self, question: Bytes) -> Result<Bytes, ProposeError> {
        RaftNode::ask_leader(self, question).await
    }
}

/// Question to the leader about the leases of one member's clients.
pub trait Ask: Send + Sync + 'static {
    fn renew(&self, ids: Vec<i64>) -> impl Future<Output = Result<BTreeMap<i64, Renewed>, ProposeError>> + Send;

    /// Waits until none of `ids` is being revoked, or for a while.
    fn settle(&self, ids: Vec<i64>) -> impl Future<Output = Result<(), ProposeError>> + Send;
}

impl<L: Line> Ask for L {
    async fn renew(&self, ids: Vec<i64>) -> Result<BTreeMap<i64, Renewed>, ProposeError> {
        let Answer::Renewed(answer) = ask(self, Question::Renew(wire::Renew { ids })).await? else {
            return Err(other_answer());
        };
        let renewed = |one: wire::Renewal| {
            let renewed = if one.being_revoked { Renewed::BeingRevoked } else { Renewed::Ttl(one.ttl_seconds) };
            (one.id, renewed)
        };
        Ok(answer.renewals.into_iter().map(renewed).collect())
    }

    async fn settle(&self, ids: Vec<i64>) -> Result<(), ProposeError> {
        match ask(self, Question::Settle(wire::Settle { ids })).await? {
            Answer::Settled(wire::Settled {}) => Ok(()),
            _ => Err(other_answer()),
        }
    }
}

/// Time that a lease still lives, and what is attached to it, as the leader knows it.
///
/// # Errors
/// No leader answered, or its answer is larger than a message between members.
pub async fn time_to_live(
    line: &impl Line,
    request: LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse, ProposeError> {
    match ask(line, Question::TimeToLive(request)).await? {
        Answer::TimeToLive(answer) => Ok(answer),
        _ => Err(other_answer()),
    }
}

/// Time for which a question is repeated while it has no answer: a quorum may be slow, or an
/// election take a few tries. Below the limit of a request, so that the answer is still of use.
const PATIENCE: Duration = Duration::from_secs(5);

async fn ask(line: &impl Line, about: Question) -> Result<Answer, ProposeError> {
    let question: Bytes = wire::Question { about: Some(about) }.encode_to_vec().into();
    let deadline = clock::now() + PATIENCE;
    let answer = loop {
        match line.ask_leader(question.clone()).await {
            // It has waited for another leader meanwhile.
            Err(ProposeError::NoLeader | ProposeError::Unavailable(_)) if clock::now() < deadline => {}
            answered => break answered?,
        }
    };
    let answer = wire::Answer::decode(answer).map_err(|error| ProposeError::Unavailable(error.to_string()))?;
    answer.about.ok_or_else(other_answer)
}

fn other_answer() -> ProposeError {
    ProposeError::Unavailable("the leader answered another question than it was asked".to_owned())
}
