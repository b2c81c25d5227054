//! A process that is killed loses nothing that it acknowledged.
//!
//! A child commits through the public API: four writers, commits of one to twelve events to one or two streams, with
//! tags, rows, unique keys and repeats. It says so on a pipe once the future of the commit has resolved. The parent
//! kills it with SIGKILL at a random moment, also while it opens the directory, opens the directory itself, reads
//! everything and compares it with what was said; the next child goes on in the same directory.
//!
//! What this proves: acknowledgement comes behind the write; commits are whole; recovery brings all families to one
//! point; recovery can itself be killed. What it does **not** prove: that anything was synced. The system still has what a
//! killed process wrote; a store that never syncs passes. `power_loss.rs` is for that.
//!
//! `ES_CRASH_CYCLES=2000` for long; `ES_SEED` for the same plan again.

use es_core::model::ErrorChain;
use std::time::Duration;

use es_rocksdb::Durability;
use es_tests::crash::{History, Random, Run, number, read_all, seed};

/// How many children go on in one directory, so that the cost of reading everything stays bounded.
const PER_DIRECTORY: u64 = 10;

#[test]
fn what_was_acknowledged_survives_the_kill_of_the_process() {
    let (seed, cycles) = (seed(), number("ES_CRASH_CYCLES", 50));
    let mut random = Random::new(seed);
    let (mut acknowledged, mut events) = (0, 0);
    let mut begun = 0;
    while begun < cycles {
        let dir = tempfile::tempdir().expect("a directory");
        let store = dir.path().join("store");
        let mut history = History::default();
        for run in 1..=PER_DIRECTORY.min(cycles - begun) {
            let cycle = begun + run;
            let run = Run {
                program: env!("CARGO_BIN_EXE_crash-child"),
                dir: &store,
                number: u32::try_from(run).expect("a small number"),
                durability: Durability::Sync,
                commits: 0,
                power: None,
                open_files: 0,
            };
            let lines = run.start().kill_after(Duration::from_millis(20 + random.below(300)));
            let checked = history.note(&lines).and_then(|()| {
                let contents = read_all(&store, &history).map_err(|error| ErrorChain(&error).to_string())?;
                history.check(&contents)?;
                Ok(contents.log.len())
            });
            events = checked.unwrap_or_else(|error| panic!("cycle {cycle} of ES_SEED={seed}: {error}"));
        }
        (acknowledged, begun) = (acknowledged + history.len(), begun + PER_DIRECTORY);
    }
    println!("{cycles} kills, {acknowledged} commits acknowledged, none lost; the last directory had {events} events");
    assert!(acknowledged as u64 > cycles, "ES_SEED={seed}: only {acknowledged} commits were acknowledged at all");
}

/// A process may have fewer files than RocksDB wants: the limits go from too few to open up to enough.
#[test]
fn too_many_open_files_are_an_error_and_no_loss() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    let mut history = History::default();
    let (mut refused, mut read_on) = (0, 0);
    for (run, open_files) in (1..).zip([0, 16, 20, 24, 28, 32, 36, 40, 48, 64]) {
        let run = Run {
            program: env!("CARGO_BIN_EXE_crash-child"),
            dir: &store,
            number: run,
            durability: Durability::Sync,
            commits: 60,
            power: None,
            open_files,
        };
        let (lines, errors) = run.start().end();
        assert!(!errors.contains("panicked"), "{open_files} open files: {errors}");
        let told: Vec<_> = lines.iter().filter(|line| line.starts_with("O ") || line.starts_with("E ")).collect();
        assert!(
            told.iter().all(|line| line.contains("oo many open files") || line.contains("takes no more writes")),
            "{told:?}"
        );
        refused += usize::from(!told.is_empty());
        history.note(&lines).expect("acknowledgements");
        // Reads go on behind the refusal, of all that was acknowledged, unless they need a file themselves.
        for read in lines.iter().filter_map(|line| line.strip_prefix("R ")) {
            match read.parse::<u64>() {
                Ok(events) => {
                    read_on += 1;
                    assert!(events >= history.last(), "{open_files} open files: read {events} events");
                }
                Err(_) => assert!(read.contains("oo many open files"), "{open_files} open files: {read}"),
            }
        }
        let contents = read_all(&store, &history).expect("with enough files it opens");
        history.check(&contents).unwrap_or_else(|error| panic!("{open_files} open files: {error}"));
    }
    assert!(refused > 0, "nobody ran out of files");
    assert!(read_on > 0, "nobody who ran out of files could read");
}
