//! Acknowledged commits survive a kill of the process.
//!
//! A child commits through the public API: four writers, commits of 1 to 12 events to one or two streams, with tags,
//! rows, unique keys and repeats. It prints an acknowledgement when the future of a commit has resolved. The parent
//! kills it (SIGKILL) at a random time, which may be during the open, then opens the store, reads all content and
//! compares it with the acknowledgements. The next child continues in the same directory.
//!
//! This shows that a commit is acknowledged after the write, that commits are atomic, that recovery restores a
//! consistent state of all column families, and that recovery can be interrupted. It does **not** show that data was
//! synced: the operating system keeps what a killed process wrote, so a store that never syncs passes. `power_loss.rs`
//! tests that.
//!
//! `ES_CRASH_CYCLES=2000` runs the long form; `ES_SEED` repeats the random choices.

use std::time::Duration;

use es_core::model::ErrorChain;
use es_tests::crash::{History, Random, Run, number, read_all, seed};

/// Number of children per directory, which bounds the cost of reading all content.
const PER_DIRECTORY: u64 = 10;

#[test]
fn acknowledged_commits_survive_a_kill_of_the_process() {
    println!("{}", kill_and_compare(number("ES_CRASH_CYCLES", 50)));
}

/// Kills children in stores of one kind, and compares what is left with what they acknowledged. Returns the counts.
fn kill_and_compare(cycles: u64) -> String {
    let seed = seed();
    let mut random = Random::new(seed);
    let (mut acknowledged, mut events) = (0, 0);
    let mut completed = 0;
    while completed < cycles {
        let dir = tempfile::tempdir().expect("a directory");
        let store = dir.path().join("store");
        let mut history = History::default();
        for run in 1..=PER_DIRECTORY.min(cycles - completed) {
            let cycle = completed + run;
            let number = u32::try_from(run).expect("a small number");
            let run = Run::new(env!("CARGO_BIN_EXE_crash-child"), &store, number);
            let mut child = run.start();
            // With 0, the child may be killed while it opens the store.
            child.wait_for("A ", random.pick(&[0, 0, 1]));
            let lines = child.kill_after(Duration::from_millis(20 + random.below(300)));
            let checked = history.add(&lines).and_then(|()| {
                let contents = read_all(&store, &history).map_err(|error| ErrorChain(&error).to_string())?;
                history.check(&contents)?;
                Ok(contents.log.len())
            });
            events = checked.unwrap_or_else(|error| panic!("cycle {cycle} of ES_SEED={seed}: {error}"));
        }
        (acknowledged, completed) = (acknowledged + history.len(), completed + PER_DIRECTORY);
    }
    assert!(acknowledged as u64 > cycles, "ES_SEED={seed}: too few acknowledged commits: {acknowledged}");
    format!("{cycles} kills, {acknowledged} acknowledged commits, none lost; the last directory had {events} events")
}

/// Returns whether a message names the limit of open files.
fn lacks_files(message: &str) -> bool {
    message.contains("oo many open files") || message.contains("`ulimit -n")
}

#[test]
fn a_limit_of_open_files_is_an_error_without_loss() {
    limit_open_files();
}

/// Runs children with limits of open files from too few to open the store up to enough.
fn limit_open_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    let mut history = History::default();
    let (mut failed_opens, mut failed_commits) = (0, 0);
    for (run, open_files) in (1..).zip([0, 16, 20, 24, 28, 32, 36, 40, 48, 64]) {
        let run = Run::new(env!("CARGO_BIN_EXE_crash-child"), &store, run);
        let (lines, errors) = Run { commits: 60, open_files, ..run }.start().wait();
        assert!(!errors.contains("panicked"), "{open_files} open files: {errors}");
        let failures: Vec<_> = lines.iter().filter(|line| line.starts_with("O ") || line.starts_with("E ")).collect();
        assert!(failures.iter().all(|line| lacks_files(line) || line.contains("takes no more writes")), "{failures:?}");
        let has_failed = |kind| usize::from(failures.iter().any(|line| line.starts_with(kind)));
        failed_opens += has_failed("O ");
        failed_commits += has_failed("E ");
        history.add(&lines).expect("acknowledgements");
        // After a failed commit, reads return all acknowledged events, unless a read needs a new file.
        for read in lines.iter().filter_map(|line| line.strip_prefix("R ")) {
            match read.parse::<u64>() {
                Ok(events) => assert!(events >= history.last(), "{open_files} open files: read {events} events"),
                Err(_) => assert!(lacks_files(read), "{open_files} open files: {read}"),
            }
        }
        let contents = read_all(&store, &history).expect("the store opens with enough files");
        history.check(&contents).unwrap_or_else(|error| panic!("{open_files} open files: {error}"));
    }
    assert!(failed_opens > 0, "no run reached the limit of open files while it opened the store");
    assert!(failed_commits > 0, "no run reached the limit of open files with a commit");
}
