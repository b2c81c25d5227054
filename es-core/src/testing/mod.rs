//! For tests: of domains ([`given`], [`golden`]), of projections ([`given_events`]), of stores ([`conformance`]), and of what stands on them
//! ([`FaultyStore`], [`ManualClock`]).

pub mod conformance;
mod faults;
pub mod golden;
mod manual_clock;
mod projected;
mod scenario;

pub use faults::{Fault, FaultyStore};
pub use manual_clock::ManualClock;
pub use projected::{GivenEvents, Projected, given_events};
pub use scenario::{Given, Then, given};
