//! Signals that end a command early: SIGINT, SIGTERM and SIGHUP, in any order and number.
//!
//! The first one ends the run: members are killed, and the report is written as a partial one.
//! Later ones change nothing, so that a CI job that sends INT, then TERM, still finds a report.
//! Under `nohup` SIGHUP stays ignored. SIGINT is heeded even if it was ignored at the start,
//! because shells start background jobs that way.

use nix::sys::signal::Signal;
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Turns true at the first of these signals.
///
/// # Errors
/// A signal handler cannot be installed.
pub(super) fn interruption() -> io::Result<watch::Receiver<bool>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = if ignores(&status, Signal::SIGHUP) { None } else { Some(signal(SignalKind::hangup())?) };
    let (publish, interrupted) = watch::channel(false);
    tokio::spawn(async move {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hung_up => {}
        }
        publish.send_replace(true);
        // The channel stays open, so that waiting for an interruption never fails.
        publish.closed().await;
    });
    Ok(interrupted)
}

/// Whether a process whose `/proc/PID/status` is `status` ignores `signal`.
fn ignores(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal as i32 - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_told_from_others() {
        let status = |mask: &str| format!("Name:\tninelives\nSigBlk:\tffffffffffffffff\nSigIgn:\t{mask}\nSigCgt:\t0\n");
        assert!(ignores(&status("0000000000000001"), Signal::SIGHUP));
        assert!(!ignores(&status("0000000000001000"), Signal::SIGHUP), "a Rust program ignores SIGPIPE");
        assert!(!ignores("", Signal::SIGHUP));
    }
}
