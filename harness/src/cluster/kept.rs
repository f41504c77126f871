//! The instant of a member's last cut, with what was known of the member by then.

use crate::faultfs::{Crash, Instant};
use ninelives_oracle::alone::Known;
use std::sync::Arc;

/// See the module's documentation.
#[derive(Debug)]
pub struct Kept {
    pub known: Known,
    pub instant: Arc<Instant>,
    /// An explored crash state that failed, and its number.
    pub broken: Option<(u64, Crash)>,
}

impl Kept {
    pub fn new(known: Known, instant: Instant) -> Self {
        Self { known, instant: Arc::new(instant), broken: None }
    }

    /// The crash state that a finding is about: an explored one, or else the cut's own.
    pub fn failing(&self, state: Option<u64>) -> &Crash {
        let explored = self.broken.as_ref().filter(|(number, _)| Some(*number) == state);
        explored.map_or_else(|| self.instant.of_the_cut(), |(_, crash)| crash)
    }
}
