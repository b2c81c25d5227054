//! One money transfer in five strengths, side by side: a unit of work, a dynamic consistency boundary (DCB), a saga,
//! two-phase commit and three-phase commit.
//!
//! ```text
//! cargo run -p money-transfer                                  # a table, then one crash of each strength
//! cargo run -p money-transfer -- --crash-everywhere            # a crash at each step of each strength
//! cargo run -p money-transfer -- --crash-everywhere --json     # one JSON object at the end
//! cargo run -p money-transfer -- --strengths saga,two-phase    # only some of them
//! ```
//!
//! The last two strengths need three machines: the program starts a coordinator and two banks as processes, which reach
//! each other over HTTP, and kills them with `SIGKILL`.
//!
//! Exit codes: 0 success, 1 a promise was broken or a service failed, 2 usage error.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

mod account;
mod failure;
mod local;
mod outcome;
mod process;
mod report;
mod strength;
mod sweep;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use es_core::model::ErrorChain;
use tokio::runtime::{Builder, Runtime};

use crate::account::{BOB, Transfer};
use crate::failure::Failure;
use crate::process::{BankArguments, CoordinatorArguments};
use crate::report::{StrengthReport, describe};
use crate::strength::Strength;
use crate::sweep::Sweep;

/// Transfer money in five strengths, and kill the machines
///
/// Exit codes: 0 success, 1 a promise was broken or a service failed, 2 usage error
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Crash at each step of each strength in turn
    #[arg(long)]
    crash_everywhere: bool,
    /// Seed of the amounts
    #[arg(long, value_name = "S", default_value_t = 1, requires = "crash_everywhere")]
    seed: u64,
    /// How often to crash at each step
    #[arg(long, value_name = "N", default_value_t = 1, requires = "crash_everywhere",
        value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only these strengths, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    strengths: Vec<Strength>,
    /// Print one JSON object at the end, and nothing else
    #[arg(long, requires = "crash_everywhere")]
    json: bool,
    /// Keep the stores in this directory, which must be empty or new [default: a temporary directory, which is removed]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(subcommand)]
    service: Option<Service>,
}

#[derive(Debug, Subcommand)]
enum Service {
    /// Run a bank, which the program controls over its standard streams
    #[command(hide = true)]
    Bank(BankArguments),
    /// Run the coordinator, which the program controls over its standard streams
    #[command(hide = true)]
    Coordinator(CoordinatorArguments),
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", ErrorChain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Runs the program or a service of it. Returns whether every promise was kept.
fn start(mut arguments: Arguments) -> Result<bool, Failure> {
    let Some(service) = arguments.service.take() else { return Runtime::new()?.block_on(run(arguments)) };
    // One thread: a service that stops at a step stops completely.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    match service {
        Service::Bank(bank) => runtime.block_on(process::run_bank(bank))?,
        Service::Coordinator(coordinator) => runtime.block_on(process::run_coordinator(coordinator))?,
    }
    Ok(true)
}

/// Runs the program, and returns whether every promise was kept.
async fn run(mut arguments: Arguments) -> Result<bool, Failure> {
    if arguments.strengths.is_empty() {
        arguments.strengths = <Strength as clap::ValueEnum>::value_variants().to_vec();
    }
    let temporary = tempfile::tempdir()?;
    let directory = arguments.directory.as_deref().unwrap_or_else(|| temporary.path());
    check_empty(directory)?;
    let sweep = Sweep::new(directory, arguments.directory.is_some(), !arguments.json);
    if arguments.crash_everywhere {
        crash_everywhere(&Arc::new(sweep), &arguments).await
    } else {
        show(&sweep, &arguments).await
    }
}

/// Stores of an earlier run would change the balances.
fn check_empty(directory: &Path) -> Result<(), Failure> {
    let is_empty = match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => return Err(error.into()),
    };
    if is_empty {
        return Ok(());
    }
    let directory = directory.display();
    Err(format!("expected an empty or a new directory, found files in {directory}; choose another one").into())
}

/// Prints what each strength costs and promises, and one crash of each.
async fn show(sweep: &Sweep, arguments: &Arguments) -> Result<bool, Failure> {
    println!("{:<13} {:>11} {:>6}  when a machine dies", "strength", "round trips", "syncs");
    for strength in &arguments.strengths {
        let cost = sweep.cost(*strength).await?;
        println!("{:<13} {:>11} {:>6}  {}", strength.name(), cost.round_trips, cost.syncs, strength.promise());
    }
    println!();
    let transfer = Transfer { to: BOB.to_owned(), cents: 30 };
    let mut is_correct = true;
    for strength in &arguments.strengths {
        let crash = strength.example();
        let run = sweep.run(*strength, &transfer, Some(crash)).await?;
        is_correct &= run.is_atomic(&transfer) && run.in_doubt == 0;
        println!("{}", describe(*strength, crash, &transfer, &run));
    }
    Ok(is_correct)
}

/// Crashes at each step, and prints the report.
async fn crash_everywhere(sweep: &Arc<Sweep>, arguments: &Arguments) -> Result<bool, Failure> {
    let mut reports: BTreeMap<&str, StrengthReport> = BTreeMap::new();
    for strength in &arguments.strengths {
        let report = sweep.crash_everywhere(*strength, (arguments.seed, arguments.runs)).await?;
        reports.insert(strength.name(), report);
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&reports)?);
    } else {
        for (name, report) in &reports {
            println!(
                "{name:<13} {} runs, {} atomic, {} left in doubt",
                report.runs, report.atomic, report.in_doubt_left
            );
        }
    }
    Ok(reports.values().all(StrengthReport::is_correct))
}
