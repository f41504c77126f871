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
//!   workload ∥ observe ∥ crowd ∥ cycle
//!     │                           writes and watches go on while a cycle kills and restarts
//!     │ history, inspect, raft_log  what happened, written ahead; what a dead directory says
//!     ▼
//!   model, oracle, fold           what must hold, from evidence outside the node's own claims
//!     ▼
//!   run, localise, report         the verdict and its worth; where a divergence begins
//!     ▼
//!   probe: replays, shrink, mutants  many runs: how often, how small, which bugs
//!   verify                        a report's history, judged again
//! ```
//!
//! Vocabulary: [`operation`] (what clients do), [`evidence`] (what was done and seen), [`edn`] (a
//! history for other checkers), [`endpoints`] (which of them serve), [`verdict`] (blame), [`known`]
//! (findings that a scenario expects), [`record`] (what a cycle and a run leave behind), [`paths`]
//! (the report directory), [`provenance`] (what ran, and on what), [`limits`] (every bound, with
//! its reason), [`clock`] and [`seed`] (the only sources of time and of chance), [`exit`] (the exit
//! codes), [`ended`] (how a process ended), [`power`]
//! (what a power loss takes), [`stretched`] (bounds that follow the machine's pace),
//! [`output`] (what is said, and to whom), [`shell`] (commands to paste), [`text`] (bytes as the
//! history writes them).
//!
//! Absences that are invariants: nothing here links the node (only its wire formats, `node-proto`);
//! `oracle` and `model` never talk to a live node; only `clock` reads a clock and only `seed` draws
//! at random; only `process::spawner` starts a process, only `process::child` signals one.

pub mod cli;
pub mod clock;
pub mod cluster;
pub mod contact;
pub mod crowd;
pub mod cycle;
pub mod edn;
pub mod ended;
pub mod endpoints;
pub mod evidence;
pub mod exit;
pub mod faultfs;
pub mod fold;
pub mod hex;
pub mod history;
pub mod inspect;
pub mod known;
pub mod last_read;
pub mod limits;
pub mod localise;
pub mod machine;
pub mod member;
pub mod model;
pub mod mutants;
pub mod observe;
pub mod operation;
pub mod oracle;
pub mod output;
pub mod pace;
pub mod paths;
pub mod plan;
pub mod power;
pub mod probe;
pub mod process;
pub mod progress;
pub mod provenance;
pub mod raft_log;
pub mod record;
pub mod replays;
pub mod report;
pub mod run;
pub mod scenario;
pub mod seed;
pub mod shell;
pub mod shrink;
pub mod stretched;
pub mod subject;
pub mod text;
pub mod verdict;
pub mod verify;
pub mod workload;
