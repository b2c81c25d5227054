//! Tools for tests of domains, projections and stores.
//!
//! ```text
//!   given::<Order>(id, [events]).when(command)     --> then([events]) | then_rejected(..) | then_state(..)
//!   given_events().of::<Order>(id, [events])       --> project(projection) --> then(|views| ..)
//!     .on_node(..) .. .project_in_any_order(..)    --> fails if two orders of arrival give different views
//!     .on_node(..) .. .fold_in_any_order::<A>(id)  --> fails if two orders of arrival give different states
//!   check_convergence::<A>(id, [events])           --> the same for many histories of these events
//!   golden: samples of an event type               --> files of every version, compared with each run
//!   conformance: a store                           --> the checks that every store must pass
//!   FaultyStore, ManualClock, SeededEntropy        --> failures, times and random numbers that the test chooses
//! ```
//!
//! Not in this module: code that a running service needs. `golden` is the only code of es-core that opens a file.

mod arrival;
pub mod conformance;
mod convergence;
mod faults;
pub mod golden;
mod manual_clock;
mod orders;
mod projected;
mod scenario;
mod seeded_entropy;

pub use convergence::check_convergence;
pub use faults::{Fault, FaultyStore};
pub use manual_clock::ManualClock;
pub use projected::{GivenEvents, Projected, given_events};
pub use scenario::{Given, Then, given};
pub use seeded_entropy::SeededEntropy;
