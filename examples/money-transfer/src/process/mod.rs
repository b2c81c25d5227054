//! The strengths that need three machines: a coordinator and two banks, each a process with a store of its own. A
//! machine dies by `SIGKILL`.
//!
//! - `bank`, `coordinator`: the two services, to copy. `remote`: how they reach each other.
//! - `message`, `steps`, `standard_streams`: what a service tells the program that started it.
//! - `child`, `cluster`, `run`: the program that starts, kills and restarts them.

mod bank;
mod child;
mod cluster;
mod coordinator;
mod message;
mod remote;
mod run;
mod standard_streams;
mod steps;

pub(crate) use bank::{BankArguments, run as run_bank};
pub(crate) use cluster::Machine;
pub(crate) use coordinator::{CoordinatorArguments, run as run_coordinator};
pub(crate) use run::transfer_once;
