//! The long forms of the tests, followed by a table of the results. A failure does not stop the tests after it.

use std::time::{Duration, Instant};

use crate::bench;
use crate::cli::{MutantsArgs, SoakArgs};
use crate::console;
use crate::failure::Failure;
use crate::fuzz::{Fuzzer, Target};
use crate::mutants;
use crate::package::{self, Store};
use crate::prerequisites::Permission;
use crate::workspace::Workspace;

/// A test program with a number of rounds.
struct LongTest {
    name: &'static str,
    /// The name of the test program.
    program: &'static str,
    /// Selects tests by a part of their names; empty for all.
    filter: &'static str,
    /// The environment variable that sets the number of rounds.
    variable: &'static str,
    rounds: u32,
    unit: &'static str,
}

/// The result of a stage.
#[derive(Debug, PartialEq)]
struct Outcome {
    name: &'static str,
    amount: String,
    passed: bool,
    duration: Duration,
}

/// The number of events in the loan log.
const LOANS: u32 = 262_200;
/// The number of kills of the order service under twelve clients.
const SERVICE_KILLS: u32 = 25;
/// The number of sagas of the killed fulfilment.
const FULFILMENTS: u32 = 10_000;
/// The number of idle connections in the load test of the HTTP edge.
const IDLE_CONNECTIONS: u32 = 9_000;
/// The duration of the three replicas that are cut off and killed.
const GEO_SECONDS: u32 = 600;
/// The number of cases of the loan log on three replicas.
const GEO_CASES: u32 = 300;
/// The number of simulated groups of replicas.
const REPLICA_SEEDS: u32 = 2_000;
/// The number of seeds of transactions with crashes.
const TRANSACTION_SEEDS: u32 = 2_000;
/// The number of streams for the test of memory.
const STREAMS: u32 = 400_000;

fn stages(args: &SoakArgs) -> [LongTest; 26] {
    let stage = |name, [program, filter]: [&'static str; 2], variable, rounds, unit| LongTest {
        name,
        program,
        filter,
        variable,
        rounds,
        unit,
    };
    [
        stage("killed processes", ["kill", ""], "ES_CRASH_CYCLES", args.cycles, "kills"),
        stage("power failures", ["power_loss", ""], "ES_CRASH_CYCLES", args.cycles, "failures"),
        stage("flipped bits", ["bit_flips", ""], "ES_FLIPS", args.flips, "flips"),
        stage("model", ["model", ""], "ES_MODEL_CASES", args.cases, "histories"),
        stage("decoding", ["decoding", ""], "ES_DECODING", args.inputs, "inputs each"),
        stage("schedules", ["writer", ""], "ES_SCHEDULES", args.schedules, "schedules each"),
        stage("repair", ["repair", ""], "ES_FLIPS", args.flips, "flips"),
        stage("projections", ["projection_chaos", ""], "ES_PROJECTION_RUNS", args.runs, "runs"),
        stage("killed projections", ["projection_kill", ""], "ES_PROJECTION_KILLS", args.runs, "kills"),
        stage("killed process managers", ["process_kill", ""], "ES_PROCESS_KILLS", args.runs, "kills"),
        stage("consumer groups", ["group", ""], "ES_CRASH_CYCLES", args.runs, "crashes"),
        stage("reactors", ["reactor", ""], "ES_CRASH_CYCLES", args.runs, "crashes"),
        stage("the loan log", ["program", "the_loan_log"], "ES_LOANS", LOANS, "events"),
        stage("memory", ["memory", ""], "ES_STREAMS", STREAMS, "streams"),
        stage("a killed service", ["program", "killed_service"], "ES_SERVICE_KILLS", SERVICE_KILLS, "kills"),
        stage("a killed fulfilment", ["program", "killed_fulfilment"], "ES_FULFILMENT", FULFILMENTS, "sagas"),
        stage("the simulated log", ["log", "simulation"], "ES_LOG_SEEDS", args.log_seeds, "lives"),
        stage("a killed log", ["log", "kill::"], "ES_CRASH_CYCLES", args.cycles, "kills"),
        stage("power failures of the log", ["log", "power_loss::"], "ES_CRASH_CYCLES", args.cycles, "failures"),
        stage("flipped bits of the log", ["log", "flips::"], "ES_FLIPS", args.inputs, "flips"),
        stage("schedules of the log", ["group_commit", ""], "ES_SCHEDULES", args.schedules, "schedules each"),
        stage("simulated replicas", ["simulation", ""], "ES_SEEDS", REPLICA_SEEDS, "groups"),
        stage("killed replicas", ["run", "three_processes"], "ES_GEO_SECONDS", GEO_SECONDS, "seconds"),
        stage("the loan log on replicas", ["run", "the_loan_log"], "ES_GEO_CASES", GEO_CASES, "cases"),
        stage("crashed transactions", ["crashes", "transactions_are"], "ES_SEEDS", TRANSACTION_SEEDS, "seeds"),
        stage("killed backups", ["program", "backup_kill"], "ES_BACKUP_KILLS", args.backups, "kills each"),
    ]
}

/// Runs all stages; fails if one of them failed.
pub(crate) fn run(workspace: &Workspace, permission: Permission, args: &SoakArgs) -> Result<(), Failure> {
    workspace.announce_rocksdb_build();
    let mut outcomes: Vec<Outcome> = stages(args).iter().map(|stage| run_stage(workspace, stage)).collect();
    outcomes.push(run_load(workspace));
    if args.fuzz_seconds > 0 {
        outcomes.extend(run_fuzzing(workspace, permission, args.fuzz_seconds));
    }
    let mutants = || mutants::run(workspace, &MutantsArgs::default());
    outcomes.push(measured("mutants", "all".to_owned(), mutants));
    let user = || package::run(workspace, Store::RocksDb);
    outcomes.push(measured("user's crate", "RocksDB store".to_owned(), user));
    console::heading("soak");
    table(&outcomes).iter().for_each(|line| console::note(line));
    match outcomes.iter().filter(|outcome| !outcome.passed).count() {
        0 => Ok(()),
        failed => Err(Failure::new(format!("{failed} stages of the soak failed")).next(
            "see the output above; set the environment variable ES_SEED to a printed seed to repeat a random test",
        )),
    }
}

fn run_stage(workspace: &Workspace, stage: &LongTest) -> Outcome {
    console::heading(stage.name);
    // `--package` would select other features of shared dependencies, and Cargo would compile RocksDB again.
    let line = workspace
        .cargo(["test", "--workspace", "--test", stage.program, "--"])
        .args(["--nocapture", stage.filter].into_iter().filter(|word| !word.is_empty()))
        .variable(stage.variable, stage.rounds.to_string());
    measured(stage.name, format!("{} {}", stage.rounds, stage.unit), || line.run_self_reporting())
}

/// Runs the load test of the HTTP edge in the release profile and one test at a time, because it compares rates.
fn run_load(workspace: &Workspace) -> Outcome {
    console::heading("load");
    measured("load", format!("{IDLE_CONNECTIONS} idle connections"), || {
        let line = workspace.cargo(["test", "--package", "es-load", "--test", "load"]);
        let line = bench::in_release_profile(workspace, line)?.args(["--", "--nocapture", "--test-threads=1"]);
        line.variable("ES_LOAD", IDLE_CONNECTIONS.to_string()).run_self_reporting()
    })
}

fn run_fuzzing(workspace: &Workspace, permission: Permission, seconds: u32) -> Vec<Outcome> {
    console::heading("fuzzing");
    match Fuzzer::prepare(workspace, permission) {
        Ok(fuzzer) => {
            let amount = || console::duration(Duration::from_secs(seconds.into()));
            Target::ALL.map(|target| measured(target.title(), amount(), || fuzzer.run(target, seconds))).into()
        }
        Err(failure) => vec![measured("fuzzing", "not started".to_owned(), || Err(failure))],
    }
}

/// Runs the work, prints its failure and measures its duration.
fn measured(name: &'static str, amount: String, work: impl FnOnce() -> Result<(), Failure>) -> Outcome {
    let start = Instant::now();
    let result = work();
    if let Err(failure) = &result
        && !failure.is_reported()
    {
        console::error(failure);
    }
    Outcome { name, amount, passed: result.is_ok(), duration: start.elapsed() }
}

/// Formats the results as aligned lines.
fn table(outcomes: &[Outcome]) -> Vec<String> {
    let name = outcomes.iter().map(|outcome| outcome.name.len()).max().unwrap_or_default();
    let amount = outcomes.iter().map(|outcome| outcome.amount.len()).max().unwrap_or_default();
    let row = |outcome: &Outcome| {
        let result = if outcome.passed { "passed" } else { "FAILED" };
        format!(
            "{:<name$}  {:>amount$}  {result}  {}",
            outcome.name,
            outcome.amount,
            console::duration(outcome.duration)
        )
    };
    outcomes.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_result_of_each_stage() {
        let outcome = |name, amount: &str, passed, seconds| Outcome {
            name,
            amount: amount.to_owned(),
            passed,
            duration: Duration::from_secs(seconds),
        };
        let lines = table(&[outcome("kills", "2000 kills", true, 3600), outcome("flipped bits", "9 flips", false, 12)]);
        assert_eq!(lines, ["kills         2000 kills  passed  60 min 00 s", "flipped bits     9 flips  FAILED  12 s"]);
    }

    #[test]
    fn a_failed_stage_is_recorded() {
        let failed = measured("a", String::new(), || Err(Failure::new("no")));
        assert!(!failed.passed);
        assert!(measured("b", String::new(), || Ok(())).passed);
    }
}
