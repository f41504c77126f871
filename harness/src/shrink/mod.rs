//! Making a failing report small: the fewest steps, faults and clients with which the same class
//! still comes back.
//!
//! ```text
//!   report → candidate → minimise (decides, runs nothing) ⇄ prober (runs, decides nothing) → confirm → report
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | [`candidate`] | a plan and the scenario that it belongs to, as texts that fit each other |
//! | [`simpler`] | what a step can be replaced by |
//! | [`knobs`] | what a scenario can be reduced in, by editing its text |
//! | [`minimise`] | the search, over any oracle |
//! | [`ruling`] | how many runs decide about one candidate |
//! | [`prober`] | the oracle: real runs, within a budget |
//! | [`progress`] | how far it is |
//!
//! A reduction counts only if the *same class* heads the report again: another failure is another
//! bug, and a shrinker that follows it does not reach its goal. A seed fixes the operations and not
//! how an operating system interleaves them, so one run may miss a failure that the next one shows;
//! [`ruling`] says how that affects a candidate. Further runs confirm the result, and if those miss
//! too often, the result is the search's last larger candidate that holds.

pub mod candidate;
pub mod knobs;
pub mod minimise;
pub mod prober;
pub mod progress;
pub mod ruling;
pub mod simpler;

pub use candidate::Candidate;
pub use minimise::{Answer, Shrunk, minimise};
pub use prober::{Budget, Prober};
pub use ruling::Rate;
