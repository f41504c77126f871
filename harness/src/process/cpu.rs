//! The CPU time of processes that have ended.

use nix::unistd::{Pid, SysconfVar, sysconf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A sum of CPU times, user and system. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct CpuTime {
    ticks: Arc<AtomicU64>,
}

impl CpuTime {
    /// Adds what all threads of `pid` took: a process that has ended, and is not reaped. A process
    /// that cannot be read adds nothing.
    pub(super) fn add_all_of(&self, pid: Pid) {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        self.ticks.fetch_add(ticks(&stat).unwrap_or(0), Ordering::Relaxed);
    }

    /// The sum in milliseconds.
    pub fn ms(&self) -> u64 {
        // The kernel's unit of this file; it is 100 a second everywhere that Linux runs.
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().map_or(100, |ticks| ticks.max(1) as u64);
        self.ticks.load(Ordering::Relaxed) * 1_000 / per_second
    }
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
