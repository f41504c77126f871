//! The vocabulary of the harness, and what is written down: what clients do, blame, what a cycle
//! and a run leave behind, and the history.
//!
//! Everything here reads back as it was written, and asks neither a member nor another process. The
//! crate links no runtime and no gRPC.
//!
//! - [`Evidence`]: what was done and seen, a line of [`history`] each.
//! - [`operation`]: what clients do. [`member`]: members, slots, engines, roles.
//! - [`power`]: what a power loss takes. [`damage`]: what a disk does to files at rest.
//! - [`verdict`]: blame, with the kinds of findings. [`known`]: findings that a scenario expects.
//! - [`record`]: what a cycle and a run leave behind, as `verdict.json` stores it.
//! - [`limits`]: every bound, with its reason. [`stretched`]: bounds that follow the machine's
//!   pace.
//! - [`clock`]: the only source of time. [`set_once`]: a value that wakes all that wait for it.
//! - [`ended`]: how a process ended. [`resource`]: what a machine runs out of. [`hex`] and
//!   [`text`]: bytes as the history writes them.

pub mod clock;
pub mod damage;
pub mod ended;
mod evidence;
pub mod hex;
pub mod history;
pub mod limits;
pub mod member;
pub mod operation;
pub mod power;
pub mod record;
pub mod resource;
pub mod set_once;
pub mod signature;
pub mod stretched;
pub mod text;
pub mod verdict;

pub use evidence::*;
