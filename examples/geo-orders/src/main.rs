//! Three nodes that all take orders, while links are cut and nodes are killed.
//!
//! ```text
//! cargo run -p geo-orders                              # for ten seconds, with a line of progress each second
//! cargo run -p geo-orders -- --seconds 60 --seed 7     # longer, with other choices
//! cargo run -p geo-orders -- --json                    # one JSON object at the end
//! cargo run -p geo-orders -- --loans ../shared/data    # replays 20 cases of the loan log; all with --cases 13087
//! ```
//!
//! Each node is a process with a RocksDB store. The nodes replicate over TCP with mutual TLS, through proxies that the
//! program cuts and heals. A client that gets no answer repeats its command on another node.
//!
//! Exit codes: 0 success, 1 a promise was broken or a node failed, 2 usage error.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

mod group;
mod loan;
mod message;
mod node;
mod order;
mod process;
mod proxy;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use es_core::model::ErrorChain;

use crate::group::{Group, NODES, Report};
use crate::loan::LoanLog;

/// Run three nodes that all take orders, while links are cut and nodes are killed
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How long to add lines, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seed of the random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Replay the loan log in this directory in place of random lines, until all its steps are taken
    #[arg(long, value_name = "DIR", conflicts_with = "seconds")]
    loans: Option<PathBuf>,
    /// The number of cases of the loan log to replay; it has 13,087
    #[arg(long, value_name = "N", default_value_t = 20, requires = "loans")]
    cases: usize,
    /// Print one JSON object at the end, and no progress
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node, which the program controls over its standard streams
    #[command(hide = true)]
    Node,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Command::Node) => node::run().await.map(|()| true),
        None => run(&arguments).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", ErrorChain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Runs the group, and returns whether it kept every promise.
async fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let started = Instant::now();
    let loans = arguments.loans.as_ref().map(|directory| LoanLog::read(directory, arguments.cases)).transpose()?;
    let expected = loans.as_ref().map(LoanLog::fold);
    if !arguments.json {
        match &expected {
            Some(cases) => println!("{NODES} nodes, {} cases of the loan log, seed {}", cases.len(), arguments.seed),
            None => println!("{NODES} nodes, {} seconds, seed {}", arguments.seconds, arguments.seed),
        }
    }
    let mut group = Group::start(directory.path(), arguments.seed, loans).await?;
    let progress = |line: String| {
        if !arguments.json {
            println!("{line}");
        }
    };
    group.run(Duration::from_secs(arguments.seconds), progress).await?;
    let report = group.finish(arguments.seed, started, expected).await?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report)?;
    }
    Ok(report.is_correct())
}

fn print(report: &Report) -> Result<(), Box<dyn Error>> {
    let serde_json::Value::Object(fields) = serde_json::to_value(report)? else { return Ok(()) };
    for (name, value) in fields {
        println!("{:<18} {value}", name.replace('_', " "));
    }
    println!("{}", if report.is_correct() { "all nodes are equal and complete" } else { "A PROMISE WAS BROKEN" });
    Ok(())
}
