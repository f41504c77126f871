//! Having another member propose: frames of proposals on their way to the leader, and the answers
//! back.
//!
//! What certainly was not proposed, and what is unknown, is told apart as for a single proposal
//! (claim 1 of `propose`): the leader answers each proposal of a frame by itself, in their order,
//! and those without an answer when the call ends are unknown, unless it certainly never began.

use crate::api::{ProposeError, Proposed};
use crate::clock::Deadline;
use crate::forward::{Carrier, Parcel};
use crate::propose::{Attempt, FORWARD_WAIT, Router, certainly_not_proposed, refused_by_transport, unknown_member};
use bytes::Bytes;
use node_base::LogId;
use node_proto::delimited;
use node_proto::peer::propose_response::Outcome;
use node_proto::peer::{ProposeRequest, ProposeResponse};
use tokio::sync::oneshot;
use tonic::Streaming;

type Answer = oneshot::Sender<Attempt<Proposed>>;

impl Router {
    /// Has `leader` propose what was vetted.
    pub async fn propose_at(&self, leader: u64, command: Bytes) -> Attempt<Proposed> {
        let (answer, mut answered) = oneshot::channel();
        let (ticket, carrier) = self.forwards.enter(leader, Parcel { command, answer });
        if let Some(carrier) = carrier {
            tokio::spawn(self.clone().carry(carrier));
        }
        let mut leadership = self.leadership.clone();
        let waited = Deadline::after(FORWARD_WAIT).bound(async {
            tokio::select! {
                biased;
                answered = &mut answered => return answered.ok(),
                _ = leadership.wait_for(|now| now.leader != Some(leader)) => {}
            }
            if ticket.take_back() {
                let reason = "it no longer led when the proposal was to be sent".to_owned();
                return Some(Attempt::Refused { leader: None, reason });
            }
            answered.await.ok()
        });
        match waited.await {
            Some(Some(attempt)) => attempt,
            Some(None) => unknown(format!("the message to member {leader} came to no end")),
            None if ticket.take_back() => {
                let reason = format!("no message left for it within {FORWARD_WAIT:?}");
                Attempt::Refused { leader: None, reason }
            }
            None => unknown(format!("no answer from member {leader} within {FORWARD_WAIT:?}")),
        }
    }

    async fn carry(self, mut carrier: Carrier<Attempt<Proposed>>) {
        // What is ready to run may have something to send: requests come in bursts, because
        // answers do.
        tokio::task::yield_now().await;
        while let Some(frame) = carrier.take_frame() {
            self.deliver(carrier.leader, frame).await;
        }
    }

    async fn deliver(&self, leader: u64, frame: Vec<Parcel<Attempt<Proposed>>>) {
        let (commands, answers): (Vec<_>, Vec<_>) =
            frame.into_iter().map(|Parcel { command, answer }| (command, answer)).unzip();
        let Some(mut client) = self.messages(leader) else { return tell_all(answers, || unknown_member(leader)) };
        let request = ProposeRequest { route: self.identity.route(leader), commands: delimited::join(&commands) };
        let deadline = Deadline::after(FORWARD_WAIT);
        match deadline.bound(client.propose(request)).await {
            None => {
                tell_all(answers, || unknown(format!("no answer from member {leader} within {FORWARD_WAIT:?}")));
            }
            Some(Err(status)) if certainly_not_proposed(&status) => {
                self.identity.heed(leader, &status);
                tell_all(answers, || refused_by_transport(&status));
            }
            Some(Err(status)) => tell_all(answers, || unknown(format!("member {leader}: {status}"))),
            Some(Ok(told)) => self.pass_answers(leader, answers, told.into_inner(), deadline).await,
        }
    }

    async fn pass_answers(
        &self,
        leader: u64,
        answers: Vec<Answer>,
        mut told: Streaming<ProposeResponse>,
        deadline: Deadline,
    ) {
        let mut answers = answers.into_iter();
        let broken = loop {
            let Some(answer) = answers.next() else {
                // All answers are passed on, so the way in which the call ends changes nothing; but
                // a call that is dropped before its end is reset.
                let _ = deadline.bound(told.message()).await;
                return;
            };
            let broken = match deadline.bound(told.message()).await {
                Some(Ok(Some(response))) => {
                    // The proposer may have given up.
                    let _ = answer.send(self.attempt(leader, response).await);
                    continue;
                }
                Some(Ok(None)) => format!("member {leader} gave no answer"),
                Some(Err(status)) => format!("member {leader}: {status}"),
                None => format!("no answer from member {leader} within {FORWARD_WAIT:?}"),
            };
            let _ = answer.send(unknown(broken.clone()));
            break broken;
        };
        tell_all(answers, || unknown(broken.clone()));
    }

    async fn attempt(&self, leader: u64, response: ProposeResponse) -> Attempt<Proposed> {
        if let Err(error) = self.identity.count(leader, response.from).await {
            return unknown(error.to_string());
        }
        match response.outcome {
            Some(Outcome::Applied(applied)) => {
                let log_id = LogId::new(applied.term, applied.index);
                Attempt::Done(Proposed { log_id, response: applied.response })
            }
            Some(Outcome::NotProposed(not)) => Attempt::refused(not),
            Some(Outcome::Unknown(reason)) => unknown(reason),
            Some(Outcome::Unfit(reason)) => Attempt::Failed(ProposeError::Unfit(reason)),
            None => unknown(format!("member {leader} gave no outcome")),
        }
    }
}

fn unknown(reason: String) -> Attempt<Proposed> {
    Attempt::Failed(ProposeError::Unknown(reason))
}

fn tell_all(answers: impl IntoIterator<Item = Answer>, attempt: impl Fn() -> Attempt<Proposed>) {
    for answer in answers {
        // The proposer may have given up.
        let _ = answer.send(attempt());
    }
}
