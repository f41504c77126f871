//! Strangers: members of another cluster in the places of dead ones.

use crate::verdict::findings::Lack;
use serde::{Deserialize, Serialize};

/// Counts over a whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrangersRecord {
    /// Kills after which strangers were to come.
    pub stays: u64,
    /// Strangers that served, and were read in the end.
    pub came: u64,
    /// Those of them that came while a member of ours lived.
    pub beside: u64,
    /// Those of `beside` that refused a message.
    pub heard: u64,
    /// Messages that our living members refused meanwhile; of hostile peers as well, if there are
    /// any.
    pub refused: u64,
    /// Keys that strangers wrote and that their own cluster acknowledged.
    pub wrote: u64,
}

impl StrangersRecord {
    pub fn add(&mut self, other: &Self) {
        self.stays += other.stays;
        self.came += other.came;
        self.beside += other.beside;
        self.heard += other.heard;
        self.refused += other.refused;
        self.wrote += other.wrote;
    }

    /// The reason why the run says nothing about strangers; `None`: it says something. Half of them
    /// have to be heard, because a short stay may end before a member looks for its dead one.
    pub fn lacking(&self) -> Option<Lack> {
        let Self { stays, beside, heard, refused, .. } = *self;
        let enough = beside > 0 && heard * 2 >= beside && refused > 0;
        (!enough).then_some(Lack::StrangersUnheard { stays, beside, heard, refused })
    }

    /// A line for a report.
    pub fn sentence(&self) -> String {
        let Self { stays, came, beside, heard, refused, wrote } = self;
        format!(
            "after {stays} kills {came} members of another cluster came, {beside} of them beside living members; {heard} of \
             those refused messages of ours, and ours refused {refused} of others meanwhile; their own cluster \
             acknowledged {wrote} writes"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_that_were_not_heard_prove_nothing() {
        let heard = StrangersRecord { stays: 4, came: 5, beside: 4, heard: 2, refused: 9, wrote: 1 };
        assert_eq!(heard.lacking(), None);
        assert!(StrangersRecord { heard: 1, ..heard.clone() }.lacking().is_some());
        assert!(StrangersRecord { refused: 0, ..heard.clone() }.lacking().is_some());
        assert!(StrangersRecord { beside: 0, heard: 0, ..heard }.lacking().is_some());
    }

    #[test]
    fn lanes_add_up() {
        let one = StrangersRecord { stays: 1, came: 2, beside: 3, heard: 4, refused: 5, wrote: 6 };
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!(sum, StrangersRecord { stays: 2, came: 4, beside: 6, heard: 8, refused: 10, wrote: 12 });
    }
}
