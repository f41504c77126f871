//! The fault filesystem: a member's data directory, as a FUSE mount that hands everything on to the
//! directory below it, and that can stand still before or after the n-th operation of a kind
//! (write, sync, rename, create, unlink) on a class of file.
//!
//! ```text
//!   member ── system call ──▶ kernel ── request ──▶ Passthrough ──▶ Gate ──▶ the directory below
//!                                                                    │ an armed operation came: hold it, and
//!                                                                    ▼ whatever else would change something
//!                                                             NodeState: "at wal.sync, hit 3"
//! ```
//!
//! The mount lies *over* the directory whose contents it shows: the descriptor that was opened
//! before leads below it. So all paths are the same as without it, and a plain directory remains
//! after the unmounting.
//!
//! The disk that it pretends to have can be full, slow, and fail what it is asked for ([`Disk`]).
//!
//! With [`Names`](ninelives_evidence::power::Names) it also keeps account of what no sync has made
//! durable (`unsynced`, `lossy`), and [`Mount::cut`] takes that away from a dead member's
//! directory.
//!
//! Without a cut it promises that everything that reached the directory before a hold is there,
//! that the operation in question is there or not as its window says, and that nothing else reaches
//! the directory until the member goes on, or is dead and started again. And the kernel decides
//! when it writes changes that a server makes through a shared mapping (etcd maps its files only to
//! read them).
//!
//! It runs in the harness's own process. A harness that is killed takes the connection with it, and
//! leaves a mount that answers "transport endpoint is not connected"; `run --resume` takes such
//! mounts away, and so does `umount -l`. The data lies below.

mod attr;
mod below;
mod change;
mod crash;
mod delayed;
mod disk;
#[cfg(test)]
mod disk_tests;
mod effect;
mod failing;
mod gate;
mod instant;
mod lossy;
#[cfg(test)]
pub(crate) mod lossy_tests;
mod mount;
mod passthrough;
mod point;
#[cfg(test)]
mod posix;
mod scratch;
#[cfg(test)]
mod tests;
mod tree;
mod unsynced;
mod walked;

pub use crash::Crash;
pub use disk::{Ailing, Disk};
pub use failing::Access;
pub use gate::Gate;
pub use instant::{Instant, State};
pub use mount::Mount;
pub use point::{Class, Deed, Point, STEPS, Side};
pub use scratch::Scratch;
