//! The strengths that need one process only. A crash drops everything in the middle of a transfer and opens it again.
//!
//! - `unit_of_work`, `dcb`, `saga`: the strengths, to copy.
//! - `strength`: what they have in common. `crash`, `store`: where they crash. `run`: a transfer with a crash.

mod crash;
mod dcb;
mod run;
mod saga;
mod store;
mod strength;
mod unit_of_work;

pub(crate) use dcb::Ledger;
pub(crate) use run::transfer_once;
pub(crate) use saga::SagaBanks;
pub(crate) use unit_of_work::AccountStore;
