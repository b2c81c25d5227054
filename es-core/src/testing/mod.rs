//! For tests: of domains ([`given`], [`golden`]), of stores ([`conformance`]), and of what stands on them
//! ([`FaultyStore`], [`ManualClock`]).

pub mod conformance;
mod faults;
pub mod golden;
mod manual_clock;
mod scenario;

pub use faults::{Fault, FaultyStore};
pub use manual_clock::ManualClock;
pub use scenario::{Given, Then, given};
