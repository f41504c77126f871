//! Ending and stopping this process from any thread: the two things that the standard library does not offer.

#![expect(unsafe_code, reason = "two functions of the C library, neither of which can break memory safety")]

use rustix::process::Signal;
use std::ffi::c_int;

unsafe extern "C" {
    /// POSIX; the C library is linked anyway.
    safe fn _exit(code: c_int) -> !;
    /// POSIX. In a process with threads the signal goes to the calling one.
    safe fn raise(signal: c_int) -> c_int;
}

/// Ends the process at once, without destructors.
///
/// `std::process::exit` would run the static destructors of C++ libraries while our threads still use them: now and then
/// the process then dies of a signal instead, and its exit code, which is a verdict, is lost.
pub fn end(code: i32) -> ! {
    _exit(code)
}

/// Stops the whole process (SIGSTOP) with the calling thread at this very instruction; returns after a SIGCONT.
///
/// A signal sent to the process would go to any thread, usually the main one, and this thread would run on for a moment:
/// enough to leave the step in which it had to stop.
pub fn stop_here() {
    raise(Signal::STOP.as_raw());
}
