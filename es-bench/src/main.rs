//! Benchmarks of the event store beside the limits of engine and disk, all in one run on one machine.
//!
//! `cargo xtask bench -- --help` says what can be chosen. A figure of a run means little by itself: compare ratios.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

mod direct;
mod file;
mod measure;
mod report;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use measure::{Contender, Failure, Load};
use report::Report;

/// Durable appends of one event per commit, beside the limits of RocksDB and of the disk.
///
/// Rounds of all contenders are interleaved, so that what disturbs one disturbs all. Every acknowledged event is on disk:
/// each contender syncs before it answers.
#[derive(Debug, Parser)]
#[command(
    name = "es-bench",
    after_help = "Example:\n  cargo xtask bench -- --writers 1,16,64 --seconds 5 --rounds 5 --json"
)]
struct Arguments {
    /// How many writers append at the same time, one stream each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64", value_parser = clap::value_parser!(u32).range(1..=4096))]
    writers: Vec<u32>,
    /// How long each contender appends in each round.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How many rounds; medians are of these.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The size of a payload in bytes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    payload: u32,
    /// Where the stores are made, and removed again; the disk that is measured.
    #[arg(long, env = "ES_BENCH_DIR")]
    dir: Option<PathBuf>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String, Failure> {
    let home = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let home = home.map_err(|error| Failure::new("make a folder for the stores", error))?;
    let mut report = Report::new(arguments.rounds, arguments.seconds, arguments.payload);
    for &writers in &arguments.writers {
        for round in 0..arguments.rounds {
            let store = home.path().join(format!("store-{writers}-{round}"));
            let load =
                Load { writers, payload: arguments.payload as usize, duration: Duration::from_secs(arguments.seconds) };
            // NOTE: the store goes first in each round: what it writes per event is what the others must write.
            let (measured, shape) = store::append(&store, load)?;
            report.add(writers, Contender::Store, measured);
            for limit in [Contender::EachThread, Contender::OneThread, Contender::File] {
                let folder = home.path().join(format!("{limit:?}-{writers}-{round}"));
                let measured = match limit {
                    Contender::File => file::append(&folder, load, shape)?,
                    _ => direct::append(&folder, load, shape, limit)?,
                };
                report.add(writers, limit, measured);
                measure::remove(&folder)?;
            }
            measure::remove(&store)?;
        }
    }
    if arguments.json { report.json() } else { Ok(report.table()) }
}
