//! One operation from its invocation to its outcome, written down and judged on the way.

use super::connection::Connection;
use ninelives_evidence::operation::{Action, OpId, Outcome, Purpose};
use ninelives_oracle::Ledger;

/// Sends `action` once, as `op`, to the `endpoint`-th member. The invocation is evidence before it
/// is sent, the outcome once it is known.
pub(super) async fn attempt(
    ledger: &Ledger,
    op: OpId,
    (endpoint, connection): (usize, &mut Connection),
    (action, purpose): (&Action, Purpose),
) -> Outcome {
    ledger.ask(op, endpoint, action.clone(), purpose);
    let outcome = connection.send(action).await;
    ledger.complete(op, &outcome);
    outcome
}
