//! Progress of a run on standard error: a bar on a terminal, plain lines elsewhere.
//!
//! It only consumes events: a line or a redraw happens when a cycle ends, never because time
//! passed, and it reads no clock (the caller says how far the run is).

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ninelives_evidence::record::{CycleRecord, FaultOutcome};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Off a terminal: a line at the first and the last cycle, at each multiple of this, …
const LINE_EVERY_CYCLES: u64 = 100;
/// … and at the first cycle that ends this long after the line before it.
const LINE_EVERY: Duration = Duration::from_secs(10);

enum Sink {
    Bar(ProgressBar),
    Lines { out: Box<dyn Write + Send>, last: Option<Duration> },
}

/// The progress so far, and the place where it is shown.
pub struct Progress {
    sink: Sink,
    planned: u64,
    done: u64,
    kills: u64,
    skipped: u64,
    findings: u64,
}

impl Progress {
    /// A bar if standard error is a terminal, plain lines if not.
    pub fn new(cycles_planned: u32) -> Self {
        let planned = u64::from(cycles_planned);
        if !io::stderr().is_terminal() {
            return Self::lines(planned, Box::new(io::stderr()));
        }
        let bar = ProgressBar::with_draw_target(Some(planned), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} cycles · {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self::with(Sink::Bar(bar), planned)
    }

    /// Shows nothing.
    pub fn silent() -> Self {
        Self::with(Sink::Bar(ProgressBar::hidden()), 0)
    }

    fn lines(planned: u64, out: Box<dyn Write + Send>) -> Self {
        Self::with(Sink::Lines { out, last: None }, planned)
    }

    fn with(sink: Sink, planned: u64) -> Self {
        Self { sink, planned, done: 0, kills: 0, skipped: 0, findings: 0 }
    }

    /// A cycle ended; `elapsed` is the time since the first one began.
    pub fn cycle(&mut self, cycle: &CycleRecord, elapsed: Duration) {
        self.done += 1;
        self.kills += u64::from(cycle.kills.landed);
        self.skipped += u64::from(matches!(cycle.outcome, FaultOutcome::Skipped { .. }));
        self.findings += u64::from(cycle.findings);
        let state = self.state(elapsed);
        match &mut self.sink {
            Sink::Bar(bar) => {
                bar.set_message(state);
                bar.set_position(self.done);
            }
            Sink::Lines { out, last } => {
                let due = last.is_none_or(|last| elapsed.saturating_sub(last) >= LINE_EVERY);
                if due || self.done.is_multiple_of(LINE_EVERY_CYCLES) || self.done == self.planned || cycle.findings > 0
                {
                    *last = Some(elapsed);
                    // The reader may be gone; the run continues, and its report is what counts.
                    let _ = writeln!(out, "cycle {}/{} · {state}", self.done, self.planned);
                }
            }
        }
    }

    /// Leaves the last state where it is, and the cursor on a line of its own. The bar is gone
    /// after an error too.
    pub fn finish(&mut self) {
        if let Sink::Bar(bar) = &self.sink {
            bar.abandon();
        }
    }

    fn state(&self, elapsed: Duration) -> String {
        let minutes = elapsed.as_secs_f64() / 60.0;
        let per_minute = if minutes > 0.0 { self.done as f64 / minutes } else { 0.0 };
        let left = self.planned.saturating_sub(self.done);
        let left = if per_minute > 0.0 { left as f64 / per_minute * 60.0 } else { 0.0 };
        let findings = match self.findings {
            0 => String::new(),
            findings => format!(" · {findings} findings"),
        };
        format!(
            "{} kills landed · {} skipped · {per_minute:.0} cycles/min · {} left{findings}",
            self.kills,
            self.skipped,
            minutes_and_seconds(left.round() as u64),
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// `1:05`.
pub fn minutes_and_seconds(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Feeds `cycles` to plain lines, each one `step` after the one before it.
    fn lines(planned: u64, cycles: &[CycleRecord], step: Duration) -> Vec<String> {
        let out = Shared::default();
        let mut progress = Progress::lines(planned, Box::new(out.clone()));
        for (cycle, at) in cycles.iter().zip(1..) {
            progress.cycle(cycle, step * at);
        }
        drop(progress);
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_says_where_the_run_is() {
        let lines = lines(12, &sample::run().cycles, Duration::from_secs(10));
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[5], "cycle 6/12 · 6 kills landed · 1 skipped · 6 cycles/min · 1:00 left");
    }

    #[test]
    fn a_fast_run_does_not_flood_the_log() {
        let cycles = vec![sample::run().cycles[0].clone(); 250];
        let lines = lines(250, &cycles, Duration::from_millis(30));
        let heads: Vec<_> = lines.iter().map(|line| line.split(" · ").next().unwrap()).collect();
        assert_eq!(heads, ["cycle 1/250", "cycle 100/250", "cycle 200/250", "cycle 250/250"]);
    }

    #[test]
    fn a_finding_is_said_at_once() {
        let mut cycles = vec![sample::run().cycles[0].clone(); 3];
        cycles[1].findings = 2;
        let lines = lines(250, &cycles, Duration::from_millis(30));
        assert!(lines[1].starts_with("cycle 2/250") && lines[1].ends_with("2 findings"), "{lines:?}");
    }
}
