//! The CPU time of processes, user and system, all threads together.

use nix::unistd::{Pid, SysconfVar, sysconf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A sum of CPU times of processes that have ended. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct CpuTime {
    ms: Arc<AtomicU64>,
}

impl CpuTime {
    /// Adds the time of `pid`, which has ended and is not reaped.
    pub(super) fn add(&self, pid: Pid) {
        self.ms.fetch_add(ms_of(pid), Ordering::Relaxed);
    }

    /// The sum in milliseconds.
    pub fn ms(&self) -> u64 {
        self.ms.load(Ordering::Relaxed)
    }
}

/// The time of `pid` so far, milliseconds; 0: it is gone.
pub(super) fn ms_of(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The kernel's unit of this file; it is 100 a second everywhere that Linux runs.
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().map_or(100, |ticks| ticks.max(1) as u64);
    ticks(&stat).unwrap_or(0) * 1_000 / per_second
}

/// User and system time in a line of `/proc/PID/stat` (proc_pid_stat(5): fields 14 and 15). The
/// name in the second field may hold anything, so counting begins behind its parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let behind_name = stat.rsplit_once(')')?.1;
    let mut fields = behind_name.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let line = "17 (a) b (c) Z 1 17 17 0 -1 4 10 0 0 0 250 30 0 0 20 0 1 0 5 0 0";
        assert_eq!(ticks(line), Some(280));
        assert_eq!(ticks("17 (a"), None);
        assert_eq!(ticks(""), None);
    }
}
