//! Drawing windows with quotas in mind: as long as cells lack kills, every other window is drawn
//! from those cells, each by what it still lacks; the others by the scenario's weights, as without
//! quotas.
//!
//! Only kills of one leader or one follower count for a cell, because the members of a minority are
//! not known beforehand.

use crate::scenario::{Quota, Scenario, WhomKind, whom_of};
use crate::seed::Stream;
use crate::subject::Window;
use ninelives_evidence::limits;

/// Kills that the cells of the grid still lack.
pub(super) struct Lack {
    cells: Vec<(Quota, u32)>,
}

impl Lack {
    pub fn new(scenario: &Scenario) -> Self {
        let cells = scenario.quotas.iter().map(|quota| (*quota, quota.kills + limits::QUOTA_MARGIN));
        Self { cells: cells.collect() }
    }

    /// The cell that is to be filled next; `None`: the scenario's weights decide. Nothing is drawn
    /// without quotas, so that such a scenario's plans stay what they were.
    pub fn draw(&mut self, stream: &mut Stream) -> Option<(&'static Window, WhomKind)> {
        if self.cells.iter().all(|(_, lacking)| *lacking == 0) || !stream.chance(1, 2) {
            return None;
        }
        let quota = *stream.weighted(&self.cells)?;
        Some((quota.window, whom_of(quota.role)))
    }

    /// A kill of `kind` at `window` is planned.
    pub fn planned(&mut self, window: &Window, kind: WhomKind) {
        for (quota, lacking) in &mut self.cells {
            if quota.window.name == window.name && whom_of(quota.role) == kind {
                *lacking = lacking.saturating_sub(1);
            }
        }
    }
}
