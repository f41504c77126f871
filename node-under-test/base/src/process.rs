//! This process: ending and stopping it from any thread, its file descriptors, the signals that it
//! was told to ignore.

#![expect(unsafe_code, reason = "two functions of the C library, neither of which can break memory safety")]

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use std::ffi::c_int;
use std::io;

unsafe extern "C" {
    /// POSIX; the C library is linked anyway.
    safe fn _exit(code: c_int) -> !;
    /// POSIX. In a process with threads the signal goes to the calling one.
    safe fn raise(signal: c_int) -> c_int;
}

/// Ends the process at once, without destructors.
///
/// `std::process::exit` would run the static destructors of C++ libraries while our threads still
/// use them: now and then the process then dies of a signal instead, and its exit code, which is a
/// verdict, is lost.
pub fn end(code: i32) -> ! {
    _exit(code)
}

/// Stops the whole process (SIGSTOP) with the calling thread at this very instruction; returns
/// after a SIGCONT.
///
/// A signal sent to the process would go to any thread, usually the main one, and this thread would
/// run on for a moment: enough to leave the step in which it had to stop.
pub fn stop_here() {
    raise(Signal::STOP.as_raw());
}

/// Number of file descriptors that this process may have open now (RLIMIT_NOFILE, the soft one).
pub fn descriptors_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the soft limit of file descriptors to the hard one, and returns what holds now.
///
/// The soft limit of a login or of a service, 1,024, is there for programs that use `select`; a
/// server is expected to raise it.
pub fn raise_descriptors_max() -> u64 {
    let found = getrlimit(Resource::Nofile);
    // A refusal leaves the limit as it was, and what it allows is what counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: found.maximum, maximum: found.maximum });
    descriptors_max()
}

/// True if `error` says that this process, or the machine, has no descriptor or no buffer left for
/// now.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

/// True if SIGHUP is ignored, as `nohup` leaves it for the programs that it starts.
pub fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, Signal::HUP)
}

/// `status` as in proc(5): its line `SigIgn` is a mask in hexadecimal, with signal 1 in the lowest
/// bit.
fn ignores(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_ignored_shows_in_the_status() {
        assert!(ignores("Name:\tx\nSigIgn:\t0000000000001001\n", Signal::HUP));
        assert!(!ignores("SigIgn:\t0000000000001000\n", Signal::HUP));
        assert!(!ignores("", Signal::HUP));
    }

    #[test]
    fn exhaustion_is_told_from_other_errors() {
        for (errno, exhausted) in [(24, true), (23, true), (12, true), (105, true), (103, false)] {
            assert_eq!(is_out_of_descriptors(&io::Error::from_raw_os_error(errno)), exhausted, "{errno}");
        }
    }
}
