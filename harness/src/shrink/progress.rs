//! The progress of a search, on standard error: a line that redraws itself on a terminal, plain
//! lines elsewhere. It only consumes events.

use super::candidate::Candidate;
use crate::progress::minutes_and_seconds;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Off a terminal: a line at each candidate that is accepted, and at the first probe that ends this
/// long after the line before it.
const LINE_EVERY: Duration = Duration::from_secs(10);

pub struct Progress {
    /// `None`: plain lines.
    bar: Option<ProgressBar>,
    total: Duration,
    probes: u32,
    accepted: u32,
    best: String,
    last: Duration,
}

impl Progress {
    pub fn new(total: Duration) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total.as_secs()), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:20} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, total, probes: 0, accepted: 0, best: String::new(), last: Duration::ZERO }
    }

    /// Shows the candidate with which the search begins.
    pub fn best(&mut self, candidate: &Candidate) {
        self.best = size(candidate);
    }

    /// Probes so far.
    pub fn probed(&mut self, probes: u32, elapsed: Duration) {
        self.probes = probes;
        self.show(elapsed, elapsed.saturating_sub(self.last) >= LINE_EVERY);
    }

    pub fn accepted(&mut self, candidate: &Candidate, elapsed: Duration) {
        self.accepted += 1;
        self.best = size(candidate);
        self.show(elapsed, true);
    }

    fn show(&mut self, elapsed: Duration, line: bool) {
        let text = self.line(elapsed);
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.set_position(elapsed.as_secs().min(self.total.as_secs()));
            }
            None if line => {
                self.last = elapsed;
                // The reader may be gone; the search continues, and its report is what counts.
                let _ = writeln!(io::stderr(), "{text}");
            }
            None => {}
        }
    }

    fn line(&self, elapsed: Duration) -> String {
        format!(
            "{} · {} probes · {} accepted · {} of {}",
            self.best,
            self.probes,
            self.accepted,
            minutes_and_seconds(elapsed.as_secs()),
            minutes_and_seconds(self.total.as_secs())
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// `1 step, 2 faults, 3 members, 4 clients, 100 keys, 64 bytes`.
pub fn size(candidate: &Candidate) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let scenario = candidate.scenario();
    format!(
        "{}, {}, {} members, {}, {}, values to {} bytes",
        count(candidate.steps().len(), "step"),
        count(candidate.faults(), "fault"),
        scenario.cluster.members,
        count(scenario.load.clients as usize, "client"),
        count(scenario.load.keys as usize, "key"),
        scenario.load.value_bytes_max
    )
}

#[cfg(test)]
mod tests {
    use super::super::candidate::tests::candidate;
    use super::*;

    #[test]
    fn a_line_says_how_small_it_is_by_now() {
        let mut progress = Progress::new(Duration::from_secs(300));
        progress.bar = None;
        progress.best(&candidate(&["kill all at time 3ms", "kill leader at applied +7"]));
        progress.probed(9, Duration::from_secs(65));
        let line = progress.line(Duration::from_secs(65));
        assert!(line.starts_with("2 steps, 2 faults, 3 members, "), "{line}");
        assert!(line.ends_with(" · 9 probes · 0 accepted · 1:05 of 5:00"), "{line}");
    }
}
