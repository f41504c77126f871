//! One operation from its invocation to its outcome, written down and judged on the way.

use super::connection::Connection;
use crate::history::{Event, History};
use crate::operation::{Action, OpId, Outcome};
use crate::oracle::Ledger;

/// Sends `action` once, as `op`, to the `endpoint`-th member. The invocation is written down before it is sent, the outcome
/// once it is known.
pub(super) async fn attempt(
    (history, ledger): (&History, &Ledger),
    op: OpId,
    (endpoint, connection): (usize, &mut Connection),
    action: &Action,
) -> Outcome {
    history.record(&Event::Invoke { op, endpoint, action });
    ledger.invoke(op, action);
    let outcome = connection.send(action).await;
    ledger.complete(op, &outcome);
    match &outcome {
        Outcome::Done { revision, term, reply } => {
            history.record(&Event::Done { op, revision: *revision, term: *term, reply });
        }
        Outcome::Refused { why } => history.record(&Event::Refused { op, why }),
        Outcome::Unknown { why } => history.record(&Event::Unknown { op, why }),
    }
    outcome
}
