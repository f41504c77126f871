//! The controller `ninelives`: it spawns real node processes, drives writes, kills them on a seeded
//! schedule, and after every restart proves that nothing diverged.
//!
//! The pipeline, from above to below. Which module may name which says the table of layers that
//! opens `ARCHITECTURE.md`, and a test keeps it.
//!
//! ```text
//!   scenario.toml + seed
//!     │ scenario, seed            what to do, as the user said it
//!     ▼
//!   plan                          the schedule as text, a line per cycle
//!     ▼
//!   process, machine, faultfs     real processes, what they stand on, their disks
//!   subject, contact, cluster     what is under test, one life of a member, all of them
//!     ▼
//!   workload ∥ observe ∥ crowd ∥ hostile ∥ cycle
//!     │                           writes and watches go on while a cycle kills and restarts
//!     │ inspect                   what happened, written ahead; what a dead directory says
//!     ▼
//!   ninelives_oracle              what must hold, from evidence outside the node's own claims
//!     ▼
//!   run, localise, report         the verdict and its worth; where a divergence begins
//!     ▼
//!   probe: replays, shrink, mutants  many runs: how often, how small, which bugs
//!   verify                        a report's history, judged again
//! ```
//!
//! What is written of a run and what is judged by it are crates of their own:
//! [`ninelives_evidence`] and [`ninelives_oracle`]. Beside the pipeline: [`endpoints`] (which
//! members serve), [`paths`] (the report directory), [`provenance`] (what ran, and on what),
//! [`seed`] (the only source of chance), [`timer`] (the only waits for time), [`exit`] (the exit
//! codes), [`output`] (what is said, and to whom), [`shell`] (commands to paste), [`directory`]
//! (directories as wholes).
//!
//! Absences that are invariants: nothing here links the node (only its wire formats, `node-proto`);
//! only `timer` waits for time, and only `seed` draws at random; only `process::spawner` starts a
//! process, only `process::child` signals one.

pub mod cli;
pub mod cluster;
pub mod contact;
pub mod crowd;
pub mod cycle;
pub mod damage;
pub mod dial;
pub mod directory;
pub mod doctor;
pub mod endpoints;
pub mod exit;
pub mod faultfs;
pub mod hostile;
pub mod inspect;
pub mod last_read;
pub mod localise;
pub mod machine;
pub mod mutants;
pub mod observe;
pub mod output;
pub mod pace;
pub mod paths;
pub mod plan;
pub mod probe;
pub mod process;
pub mod progress;
pub mod provenance;
pub mod replays;
pub mod report;
pub mod run;
pub mod scenario;
pub mod seed;
pub mod shell;
pub mod shrink;
pub mod states;
pub mod subject;
pub mod timer;
pub mod verify;
pub mod workload;
