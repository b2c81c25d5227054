//! A killed process (SIGKILL) loses no acknowledged commit.
//!
//! The child is this test program: it commits with several threads and prints each acknowledgement.
//!
//! `ES_CRASH_CYCLES=2000` runs the long form.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use es_log::Log;

use crate::support::{History, Random, commit, number, real_options, seed};

/// The variable with the directory of a child.
const DIRECTORY: &str = "ES_LOG_CHILD";
/// The variable with the number of the first commit of a child.
const FIRST: &str = "ES_LOG_FIRST";
const CALLERS: u64 = 4;

/// The work of the child. Without its variable, the test has nothing to do.
#[test]
fn child_commits_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let log = Log::open(Path::new(&directory), real_options()).expect("it opens");
    let first = number(FIRST, 0);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let log = &log;
            scope.spawn(move || {
                for index in 0.. {
                    let number = first + index * CALLERS + caller;
                    let size = 1 + (number % 3) as u32;
                    let position = commit(log, number, size).expect("it commits");
                    let line = format!("A {position} {number} {size}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent reads");
                }
            });
        }
    });
}

/// Runs a child and kills it after a delay. Adds its acknowledgements.
fn kill_child(directory: &Path, first: u64, delay: Duration, history: &mut History) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["kill::child_commits_until_it_is_killed", "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let stdout = child.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
        // A line without its end was cut by the kill.
        while stdout.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
            lines.push(std::mem::take(&mut line));
        }
        lines
    });
    std::thread::sleep(delay);
    child.kill().expect("SIGKILL");
    child.wait().expect("it ends");
    for line in reader.join().expect("no panic") {
        let Some((_, line)) = line.split_once("A ") else { continue };
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let &[position, number, size] = numbers.as_slice() else { continue };
        history.acknowledge(position, number, u32::try_from(size).expect("small"));
    }
}

#[test]
fn acknowledged_commits_survive_a_kill() {
    let (seed, cycles) = (seed(), number("ES_CRASH_CYCLES", 20));
    let mut random = Random::new(seed);
    let mut acknowledged = 0;
    let mut done = 0;
    while done < cycles {
        let directory = tempfile::tempdir().expect("a directory");
        let mut history = History::default();
        // Several kills per directory, so that recovery meets what an earlier one left.
        for run in 0..10.min(cycles - done) {
            let delay = Duration::from_millis(10 + random.below(150));
            kill_child(directory.path(), 1 + run * 1_000_000, delay, &mut history);
            let log = Log::open(directory.path(), real_options())
                .unwrap_or_else(|error| panic!("kill {} of ES_SEED={seed}: {error}", done + run));
            history.check(&log).unwrap_or_else(|error| panic!("kill {} of ES_SEED={seed}: {error}", done + run));
        }
        acknowledged += history.len();
        done += 10;
    }
    println!("{cycles} kills, {acknowledged} acknowledged commits, none lost");
    assert!(acknowledged as u64 > cycles, "too few acknowledged commits: {acknowledged}");
}
