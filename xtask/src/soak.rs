//! The long forms of the tests, one after the other, whatever becomes of each; then a table.

use std::time::{Duration, Instant};

use crate::cli::SoakArgs;
use crate::failure::Failure;
use crate::fuzz::{Fuzzer, Target};
use crate::package::{self, Store};
use crate::prerequisites::Permission;
use crate::say;
use crate::workspace::Workspace;

/// A test with a number of rounds.
struct Stage {
    name: &'static str,
    /// The package, its test program, and the tests in it whose names have this.
    test: [&'static str; 3],
    variable: &'static str,
    rounds: u32,
    unit: &'static str,
}

/// What became of a stage.
#[derive(Debug, PartialEq)]
struct Outcome {
    name: &'static str,
    amount: String,
    passed: bool,
    took: Duration,
}

/// How many events the loan log has.
const LOANS: u32 = 262_200;
/// To how many streams the memory is watched.
const STREAMS: u32 = 400_000;

fn stages(args: &SoakArgs) -> [Stage; 14] {
    let stage = |name, test, variable, rounds, unit| Stage { name, test, variable, rounds, unit };
    [
        stage("killed processes", ["es-tests", "kill", ""], "ES_CRASH_CYCLES", args.cycles, "kills"),
        stage("power failures", ["es-tests", "power_loss", ""], "ES_CRASH_CYCLES", args.cycles, "failures"),
        stage("flipped bits", ["es-tests", "bit_flips", ""], "ES_FLIPS", args.flips, "flips"),
        stage("a model", ["es-tests", "model", ""], "ES_MODEL_CASES", args.cases, "histories"),
        stage("decoding", ["es-tests", "decoding", ""], "ES_DECODING", args.inputs, "inputs each"),
        stage("schedules", ["es-schedules", "writer", ""], "ES_SCHEDULES", args.schedules, "schedules each"),
        stage("repair", ["es-rocksdb", "repair", ""], "ES_FLIPS", args.flips, "flips"),
        stage("projections", ["es-tests", "projection_chaos", ""], "ES_PROJECTION_RUNS", args.runs, "runs"),
        stage("killed projections", ["es-tests", "projection_kill", ""], "ES_PROJECTION_KILLS", args.runs, "kills"),
        stage("consumer groups", ["es-tests", "group", ""], "ES_CRASH_CYCLES", args.runs, "crashes"),
        stage("reactors", ["es-tests", "reactor", ""], "ES_CRASH_CYCLES", args.runs, "crashes"),
        stage("the loan log", ["es-cli", "program", "the_loan_log"], "ES_LOANS", LOANS, "events"),
        stage("memory", ["es-tests", "memory", ""], "ES_STREAMS", STREAMS, "streams"),
        stage("killed backups", ["es-cli", "program", "backup_kill"], "ES_BACKUP_KILLS", args.backups, "kills each"),
    ]
}

/// Runs everything; fails where anything failed.
pub(crate) fn run(workspace: &Workspace, permission: Permission, args: &SoakArgs) -> Result<(), Failure> {
    workspace.announce_rocksdb();
    let mut outcomes: Vec<Outcome> = stages(args).iter().map(|stage| of_stage(workspace, stage)).collect();
    if args.fuzz_seconds > 0 {
        outcomes.extend(of_fuzzing(workspace, permission, args.fuzz_seconds));
    }
    outcomes.push(timed("user's crate", "RocksDB store".to_owned(), || package::run(workspace, Store::RocksDb)));
    say::heading("soak");
    table(&outcomes).iter().for_each(|line| say::note(line));
    match outcomes.iter().filter(|outcome| !outcome.passed).count() {
        0 => Ok(()),
        failed => Err(Failure::new(format!("expected every part of the soak to pass, found {failed} that failed"))
            .next("see above; where a part says ES_SEED, that environment variable runs the same again")),
    }
}

fn of_stage(workspace: &Workspace, stage: &Stage) -> Outcome {
    say::heading(stage.name);
    let [package, program, filter] = stage.test;
    let line = workspace
        .cargo(["test", "--package", package, "--test", program, "--"])
        .args(["--nocapture", filter].into_iter().filter(|word| !word.is_empty()))
        .variable(stage.variable, stage.rounds.to_string());
    timed(stage.name, format!("{} {}", stage.rounds, stage.unit), || line.hand_over())
}

fn of_fuzzing(workspace: &Workspace, permission: Permission, seconds: u32) -> Vec<Outcome> {
    say::heading("fuzzing");
    match Fuzzer::prepare(workspace, permission) {
        Ok(fuzzer) => {
            let amount = || say::duration(Duration::from_secs(seconds.into()));
            Target::ALL.map(|target| timed(target.title(), amount(), || fuzzer.run(target, seconds))).into()
        }
        Err(failure) => vec![timed("fuzzing", "not begun".to_owned(), || Err(failure))],
    }
}

fn timed(name: &'static str, amount: String, work: impl FnOnce() -> Result<(), Failure>) -> Outcome {
    let start = Instant::now();
    let result = work();
    if let Err(failure) = &result
        && !failure.is_said()
    {
        say::failure(failure);
    }
    Outcome { name, amount, passed: result.is_ok(), took: start.elapsed() }
}

/// The lines of the table, with columns as wide as they must be.
fn table(outcomes: &[Outcome]) -> Vec<String> {
    let name = outcomes.iter().map(|outcome| outcome.name.len()).max().unwrap_or_default();
    let amount = outcomes.iter().map(|outcome| outcome.amount.len()).max().unwrap_or_default();
    let row = |outcome: &Outcome| {
        let result = if outcome.passed { "passed" } else { "FAILED" };
        format!("{:<name$}  {:>amount$}  {result}  {}", outcome.name, outcome.amount, say::duration(outcome.took))
    };
    outcomes.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_of_each_part_what_became_of_it() {
        let outcome = |name, amount: &str, passed, seconds| Outcome {
            name,
            amount: amount.to_owned(),
            passed,
            took: Duration::from_secs(seconds),
        };
        let lines = table(&[outcome("kills", "2000 kills", true, 3600), outcome("flipped bits", "9 flips", false, 12)]);
        assert_eq!(lines, ["kills         2000 kills  passed  60 min 00 s", "flipped bits     9 flips  FAILED  12 s"]);
    }

    #[test]
    fn a_part_that_fails_is_told_and_does_not_end_the_others() {
        let failed = timed("a", String::new(), || Err(Failure::new("no")));
        assert!(!failed.passed);
        assert!(timed("b", String::new(), || Ok(())).passed);
    }
}
