//! Shapes of transactions near etcd's limits, and beyond them.
//!
//! If such a request is carried out, it does what its effects say, whatever its shape; so every
//! judge of writes judges it like any other. Its shape only adds whether a server has to take it.
//! The limits are etcd's defaults (128 operations, counted from each transaction down through those
//! nested in it; 1.5 MiB a request, 2 MiB a message).

use serde::{Deserialize, Serialize};

/// The packing of a transaction's effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// In the innermost of so many transactions, each alone in the one around it.
    Deep(u32),
    /// Each in a transaction of its own, side by side.
    Wide,
    /// Beside a branch that is never taken, which puts a value of so many bytes.
    Padded(u32),
    /// Beside counts of the whole store: as many operations as a transaction may have.
    Dear,
    /// Beside reads: one more operation than a transaction may have.
    Crowded,
    /// Beside nested transactions of reads: each level keeps the limit, and the two together do
    /// not.
    Overspent,
    /// Beside a nested transaction that puts the first of the same keys.
    Twice,
    /// Beside an operation that asks for nothing.
    Empty,
    /// Beside a put that names no key.
    Nameless,
    /// With a comparison of something that no version of the protocol has.
    UnknownTarget,
    /// With a comparison whose result no version of the protocol has.
    UnknownResult,
    /// Beside a read in an order that no version of the protocol has.
    UnknownOrder,
}

/// The fate that a server has to give a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Taken,
    Refused,
    /// The node refuses it. Servers differ: an etcd may let an unknown comparison hold.
    RefusedByNode,
    /// Servers differ; both are right.
    Either,
}

/// A depth that every server takes, and one that every server refuses.
pub const DEPTH_TAKEN: u32 = 40;
pub const DEPTH_REFUSED: u32 = 128;
/// Bytes of padding that leave a request below the limit, and that take it above; and above that of
/// a message.
pub const PADDING_TAKEN: u32 = 1_400 << 10;
pub const PADDING_REFUSED: u32 = 1_537 << 10;
pub const PADDING_OVERFLOWS: u32 = 2_049 << 10;

/// The gRPC code of a request that no state could make good, and that of one that is too large.
pub(super) const UNFIT: &str = "InvalidArgument";
const TOO_LARGE: &str = "ResourceExhausted";

impl Shape {
    /// The gRPC codes with which it is refused where it has to be; `None`: it may be taken, and a
    /// refusal depends on the state. They are etcd's own in 3.4 to 3.6; a request of more than
    /// 1.5 MiB may also meet a server that has too many of them in hand.
    pub fn refusal_codes(self) -> Option<&'static [&'static str]> {
        match (self, self.fate()) {
            (_, Fate::Taken | Fate::Either) => None,
            (Shape::Padded(PADDING_OVERFLOWS..), _) => Some(&[TOO_LARGE]),
            (Shape::Padded(_), _) => Some(&[UNFIT, TOO_LARGE]),
            _ => Some(&[UNFIT]),
        }
    }

    pub fn fate(self) -> Fate {
        let between = |size: u32, taken: u32, refused: u32| match size {
            size if size <= taken => Fate::Taken,
            size if size >= refused => Fate::Refused,
            _ => Fate::Either,
        };
        match self {
            Shape::Wide | Shape::Dear => Fate::Taken,
            Shape::Deep(depth) => between(depth, DEPTH_TAKEN, DEPTH_REFUSED),
            Shape::Padded(bytes) => between(bytes, PADDING_TAKEN, PADDING_REFUSED),
            Shape::Crowded | Shape::Overspent | Shape::Twice | Shape::Empty | Shape::Nameless => Fate::Refused,
            Shape::UnknownTarget | Shape::UnknownResult | Shape::UnknownOrder => Fate::RefusedByNode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_taken_up_to_a_limit_and_refused_from_another_one_on() {
        for (shape, fate) in [
            (Shape::Deep(1), Fate::Taken),
            (Shape::Deep(40), Fate::Taken),
            (Shape::Deep(49), Fate::Either),
            (Shape::Deep(128), Fate::Refused),
            (Shape::Padded(1_400 << 10), Fate::Taken),
            (Shape::Padded(1_500 << 10), Fate::Either),
            (Shape::Padded(2_100 << 10), Fate::Refused),
            (Shape::Twice, Fate::Refused),
            (Shape::UnknownTarget, Fate::RefusedByNode),
        ] {
            assert_eq!(shape.fate(), fate, "{shape:?}");
        }
    }
}
