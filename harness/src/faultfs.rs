//! The fault filesystem: a member's data directory, as a FUSE mount that hands everything on to the
//! directory below it, and that can stand still before or after the n-th write, sync or rename of a
//! class of file.
//!
//! ```text
//!   member ── system call ──▶ kernel ── request ──▶ Passthrough ──▶ Gate ──▶ the directory below
//!                                                                    │ an armed operation came: hold it, and
//!                                                                    ▼ whatever else would change something
//!                                                             NodeState: "at wal.sync, hit 3"
//! ```
//!
//! The mount lies *over* the directory whose contents it shows: the descriptor that was opened
//! before leads below it. So nothing has another path than without it, and what remains after the
//! unmounting is a plain directory.
//!
//! What it promises: all that reached the directory before a hold is there, the operation in
//! question is there or not as its window says, and nothing else reaches it until the member goes
//! on, or is dead and started again. What it does not: that un-synced data is lost: a process is
//! killed, not a machine. And what a server writes through a shared mapping is written by the
//! kernel when it likes (etcd maps its files to read them).
//!
//! It runs in the harness's own process. A harness that is killed takes the connection with it, and
//! leaves a mount that answers "transport endpoint is not connected"; `run --resume` takes such
//! mounts away, and so does `umount -l`. The data lies below.

mod attr;
mod below;
mod gate;
mod mount;
mod passthrough;
mod point;
#[cfg(test)]
mod tests;
mod tree;

pub use gate::Gate;
pub use mount::Mount;
pub use point::{Class, Deed, Point, Side};
