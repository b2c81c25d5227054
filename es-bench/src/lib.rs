//! Benchmarks of event stores, in one run on one machine: the stores of this project, the limits of engine and disk,
//! and, if the program is built with them, the peers, which a user could choose instead.
//!
//! ```text
//!   workload (operations)  x  contender (implementation)  --interleaved rounds-->  Figure
//!                                                                                   |
//!                                     table | JSON | SVG | docs    <--  Report  <---+-- goals
//! ```
//!
//! A contender implements [`Contender`] and [`Opened`]. This crate has the contenders of the project and the limits;
//! the crate `es-bench/peers`, outside the workspace, has the peers and calls [`main`] with them. Compare ratios: an
//! absolute figure depends on the machine.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its results")]

mod bench;
mod cli;
mod contender;
pub mod domain;
mod drive;
mod failure;
pub mod gather;
mod limits;
mod loans;
mod machine;
mod ours;
mod profile;
mod publish;
mod report;
pub mod rows;
mod run;
mod sagas;
mod workload;

use std::process::ExitCode;

use clap::Parser;

pub use contender::{Append, Contender, Durability, Opened, Role, SagaSteps, Seen, Selection, Setup, Shape, Task};
pub use domain::{Folded, Sample};
pub use failure::Failure;

/// Parses the arguments and runs the benchmark with the contenders of this crate and these peers.
#[must_use]
pub fn main(peers: Vec<Box<dyn Contender>>) -> ExitCode {
    let arguments = cli::Arguments::parse();
    match run::run(&arguments, peers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
