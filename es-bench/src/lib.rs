//! Benchmarks of the event stores, all in one run on one machine: this project's stores, the limits of engine and disk,
//! and, where the program is built with them, what a user would pick instead.
//!
//! ```text
//!   workload (what is done)  x  contender (who does it)  --interleaved rounds-->  Figure
//!                                                                                   |
//!                                     table | JSON | SVG | docs    <--  Report  <---+-- goals
//! ```
//!
//! A contender implements [`Contender`] and [`Opened`]; this crate has those of the project and the limits. The peers stand
//! in a crate of their own beside this one, outside of the workspace, which calls [`main`] with them. A figure of a run means
//! little by itself: compare ratios.
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
mod workload;

use std::process::ExitCode;

use clap::Parser;

pub use contender::{Append, Contender, Durability, Opened, Role, Seen, Selection, Setup, Shape, Task};
pub use domain::{Folded, Sample};
pub use failure::Failure;

/// Parses the arguments and runs what they ask for, with the contenders of this crate and with these peers.
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
