//! Child processes. None of them survives the harness, whatever ends it.
//!
//! 1. Every child is spawned by one thread that lives as long as the last handle to it or to a
//!    child, because the parent-death signal fires when the *thread* that spawned ends, not the
//!    process ([`spawner`]).
//! 2. Every child gets SIGKILL when the harness dies, set between fork and exec; `getppid` is
//!    checked after it, for a harness that died in between ([`before_exec`]).
//! 3. A child is watched and signalled through its pidfd: the harness never uses a number that
//!    could mean another process by now, and every change of state is an event ([`child`]).
//! 4. A child's standard output is its event pipe ([`events`]).
//! 5. A child inherits nothing that could change a verdict, unless the report tells it
//!    ([`environment`]).

pub mod before_exec;
pub mod child;
pub mod cpu;
pub mod environment;
pub mod spawner;

pub use child::{Child, Pauser, Signals};
pub use environment::Environment;
pub use spawner::{Launch, Output, Spawner, last_line};
