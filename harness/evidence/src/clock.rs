//! The only source of time. Everything else asks here, so that no timing hides in the pipeline.
#![allow(clippy::disallowed_methods, reason = "this file is where the rest of the harness gets its time from")]

use nix::time::ClockId;
use std::io;
use std::time::{Duration, Instant, SystemTime};

/// A point of the monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since `start`, rounded down.
pub fn ms_since(start: Instant) -> u64 {
    ms(start.elapsed())
}

/// A duration in whole milliseconds.
pub fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Processor time that the calling thread has had so far.
///
/// # Errors
/// The kernel has no such clock.
pub fn thread_time() -> io::Result<Duration> {
    Ok(nix::time::clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Processor time that this process has had so far, all threads together.
///
/// # Errors
/// The kernel has no such clock.
pub fn process_time() -> io::Result<Duration> {
    Ok(nix::time::clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// Wall time, UTC, `YYYY-MM-DDTHH:MM:SSZ`.
pub fn utc_now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// [`utc_now`] as a part of a file name: `YYYYMMDDTHHMMSSZ`.
pub fn utc_stamp() -> String {
    utc_now().replace(['-', ':'], "")
}

/// A seed for a run that was given none. Wall time is enough: it only has to differ between runs,
/// and it is printed and stored like a given one.
pub fn seed_from_time() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() ^ (u64::from(since.subsec_nanos()) << 32)
}

#[cfg(test)]
mod tests {
    /// A waiting thread uses no processor time.
    #[test]
    fn processor_time_is_the_threads_own() {
        let (wall, before) = (super::now(), super::thread_time().unwrap());
        while super::thread_time().unwrap() - before < std::time::Duration::from_millis(2) {}
        assert!(wall.elapsed() >= std::time::Duration::from_millis(2));
    }

    #[test]
    fn the_stamp_sorts_and_holds_nothing_a_shell_would_mind() {
        let stamp = super::utc_stamp();
        assert_eq!(stamp.len(), "20260101T000000Z".len());
        assert!(stamp.chars().all(|c| c.is_ascii_alphanumeric()), "{stamp}");
    }
}
