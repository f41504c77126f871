//! Questions that only a leader may answer which has just made sure that it leads.
//!
//! 1. *The leadership is confirmed by a quorum, and the confirmation begins after the question
//!    arrived.* One round confirms it for every question that waits when the round begins.
//! 2. *The answer is given in the confirmed term, from a state that holds the term's first entry*:
//!    the round yields an index at or above that entry, and the answer waits until it is applied.
//! 3. *Asking is harmless.* Whatever goes wrong on the way, the question may be asked again, here
//!    or elsewhere.
//!
//! Proposals that only the leader of one term may make ([`Router::propose_in_term`]) stand here as
//! well: they are never forwarded, and the library refuses them in any other term.

use crate::api::{LeaderService, ProposeError, Proposed};
use crate::clock::Deadline;
use crate::peers;
use crate::propose::{Attempt, COMMIT_WAIT, FORWARD_WAIT, READ_WAIT, Router, refused_by_transport, unknown_member};
use crate::read_index::ReadRounds;
use crate::types::{Blob, TypeConfig, log_id};
use bytes::Bytes;
use node_base::LogId;
use node_base::sabotage::{Bug, planted};
use node_base::watermarks::Watermarks;
use node_proto::peer::AskRequest;
use node_proto::peer::ask_response::Outcome;
use openraft::LinearizerOption;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::impls::ProgressResponder;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A round's result. The refusal names the leader, if one is known.
type Round = Result<LogId, (Option<u64>, String)>;

/// The leader's desk: it confirms, and hands questions to the service. Clones share it.
#[derive(Clone)]
pub struct Desk {
    router: Router,
    rounds: Arc<ReadRounds<Round>>,
    marks: Arc<Watermarks>,
    service: Arc<OnceLock<Arc<dyn LeaderService>>>,
}

impl Desk {
    /// Must be called in a runtime.
    pub fn new(router: Router, marks: Arc<Watermarks>) -> Self {
        let rounds = ReadRounds::spawn({
            let router = router.clone();
            move || {
                let router = router.clone();
                async move {
                    match router.confirm_here().await {
                        Attempt::Done(confirmed) => Ok(confirmed),
                        Attempt::Refused { leader, reason } => Err((leader, reason)),
                        Attempt::Failed(error) => Err((None, error.to_string())),
                    }
                }
            }
        });
        Self { router, rounds: Arc::new(rounds), marks, service: Arc::default() }
    }

    /// Lets `service` answer from here on; false if another one does already.
    pub fn open(&self, service: Arc<dyn LeaderService>) -> bool {
        self.service.set(service).is_ok()
    }

    /// Claims 1 and 2 for this member: the term that it leads.
    pub async fn confirm(&self) -> Attempt<u64> {
        let confirmed = match self.rounds.next().await {
            Ok(Ok(confirmed)) => confirmed,
            Ok(Err((leader, reason))) => return Attempt::Refused { leader, reason },
            Err(error) => return Attempt::Failed(error),
        };
        let mut marks = self.marks.subscribe();
        let applied = marks.wait_for(|marks| marks.applied.is_some_and(|id| id.index >= confirmed.index));
        match Deadline::after(COMMIT_WAIT).bound(applied).await {
            Some(Ok(_)) => Attempt::Done(confirmed.term),
            Some(Err(_)) => Attempt::Failed(ProposeError::Fatal("the watermarks are gone".to_owned())),
            None => {
                let reason = format!("it has not applied {confirmed} within {COMMIT_WAIT:?}");
                Attempt::Refused { leader: None, reason }
            }
        }
    }

    /// Answers here, if this member leads.
    pub async fn answer_here(&self, question: Bytes) -> Attempt<Bytes> {
        let term = match self.believed_term() {
            Some(term) if planted(Bug::KeepaliveUnconfirmed) => term,
            _ => match self.confirm().await {
                Attempt::Done(term) => term,
                Attempt::Refused { leader, reason } => return Attempt::Refused { leader, reason },
                Attempt::Failed(error) => return Attempt::Failed(error),
            },
        };
        let Some(service) = self.service.get() else {
            return Attempt::Refused { leader: None, reason: "it has just started".to_owned() };
        };
        match service.answer(term, question).await {
            Ok(answer) if answer.len() > ANSWER_BYTES_MAX => Attempt::Failed(ProposeError::TooLarge {
                what: "the leader's answer",
                found: answer.len(),
                max: ANSWER_BYTES_MAX,
            }),
            Ok(answer) => Attempt::Done(answer),
            Err(reason) => Attempt::Refused { leader: None, reason },
        }
    }

    /// The planted bug `keepalive-unconfirmed`: the term in which this member was the elected
    /// leader, as far as its own log knows.
    fn believed_term(&self) -> Option<u64> {
        let vote = self.router.log.facts().vote?;
        (vote.committed && vote.node_id == self.router.own_id()).then_some(vote.term)
    }

    /// Asks the leader, wherever it is.
    pub async fn ask(&self, question: Bytes) -> Result<Bytes, ProposeError> {
        if planted(Bug::KeepaliveUnconfirmed)
            && self.believed_term().is_some()
            && let Attempt::Done(answer) = self.answer_here(question.clone()).await
        {
            return Ok(answer);
        }
        self.router
            .route(|leader| {
                let (desk, question) = (self.clone(), question.clone());
                async move {
                    if leader == desk.router.own_id() {
                        desk.answer_here(question).await
                    } else {
                        desk.ask_at(leader, question).await
                    }
                }
            })
            .await
    }

    /// Asks another member. Given up at once when this member hears of another leader or term: the
    /// one that was asked may be cut off, and would leave every question behind it waiting.
    async fn ask_at(&self, leader: u64, question: Bytes) -> Attempt<Bytes> {
        let router = &self.router;
        let Some(mut client) = router.messages(leader) else { return unknown_member(leader) };
        let request = AskRequest { route: router.identity.route(leader), question };
        let mut leadership = router.leadership.clone();
        let asked_under = *leadership.borrow_and_update();
        let answer = tokio::select! {
            answer = Deadline::after(FORWARD_WAIT).bound(client.ask(request)) => answer,
            _ = leadership.wait_for(|now| (now.term, now.leader) != (asked_under.term, asked_under.leader)) => {
                return Attempt::Refused { leader: None, reason: "the leader changed meanwhile".to_owned() };
            }
        };
        match answer {
            None => Attempt::Refused { leader: None, reason: format!("no answer within {FORWARD_WAIT:?}") },
            Some(Err(status)) => {
                router.identity.heed(leader, &status);
                refused_by_transport(&status)
            }
            Some(Ok(answer)) => {
                let answer = answer.into_inner();
                if let Err(error) = router.identity.count(leader, answer.from).await {
                    return Attempt::Refused { leader: None, reason: error.to_string() };
                }
                match answer.outcome {
                    Some(Outcome::Answer(answer)) => Attempt::Done(answer),
                    Some(Outcome::NotLeading(not)) => Attempt::refused(not),
                    Some(Outcome::TooLarge(found)) => Attempt::Failed(ProposeError::TooLarge {
                        what: "the leader's answer",
                        found: usize::try_from(found).unwrap_or(usize::MAX),
                        max: ANSWER_BYTES_MAX,
                    }),
                    None => Attempt::Refused { leader: None, reason: "no outcome".to_owned() },
                }
            }
        }
    }
}

/// Bytes that fit into one message between members, its envelope included.
const ANSWER_BYTES_MAX: usize = peers::ANSWER_BYTES_MAX - 1024;

impl Router {
    /// The position up to which a leader must have applied before it may speak for the cluster;
    /// confirmed by a quorum after the call. It is at or above the first entry of the term that was
    /// confirmed, and of that term.
    async fn confirm_here(&self) -> Attempt<LogId> {
        let confirm = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(READ_WAIT);
        match self.raft.get_read_log_id(confirm).await {
            Ok((read, _applied)) => Attempt::Done(log_id(read.log_id())),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => Attempt::not_leading(&forward),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(error))) => {
                Attempt::Refused { leader: None, reason: error.to_string() }
            }
            Err(RaftError::Fatal(error)) => Attempt::Failed(ProposeError::Fatal(error.to_string())),
        }
    }

    /// Proposes here if this member leads `term`. Never forwarded, never proposed in another term,
    /// never tried again.
    ///
    /// # Errors
    /// As for [`Router::propose`].
    pub async fn propose_in_term(&self, term: u64, command: Bytes) -> Result<Proposed, ProposeError> {
        let fatal = |error: String| Err(ProposeError::Fatal(error));
        let (responder, written) = ProgressResponder::<TypeConfig, _>::complete_only();
        if let Err(error) = self.raft.write(Blob(command)).with_leader(term).responder(responder).await {
            return fatal(error.to_string());
        }
        match Deadline::after(COMMIT_WAIT).bound(written).await {
            None => Err(ProposeError::Unknown(format!("not committed and applied within {COMMIT_WAIT:?}"))),
            Some(Err(error)) => fatal(error.to_string()),
            Some(Ok(Ok(done))) => Ok(Proposed { log_id: log_id(&done.log_id), response: done.data.0 }),
            Some(Ok(Err(ClientWriteError::ForwardToLeader(forward)))) => {
                match Attempt::<Proposed>::not_leading(&forward) {
                    Attempt::Refused { reason, .. } => Err(ProposeError::Unavailable(reason)),
                    Attempt::Failed(error) => Err(error),
                    Attempt::Done(done) => Ok(done),
                }
            }
            Some(Ok(Err(error))) => Err(ProposeError::Unknown(error.to_string())),
        }
    }
}
