//! Acknowledged commits survive a power failure.
//!
//! Like `kill.rs`, but before the store is opened again, data that was not synced is removed: dropped, or torn at a
//! random offset with holes of 64 bytes. A shim under the child (`shim/power.c`) records the syncs;
//! `es_tests::crash::power` documents the model. The store may refuse to open if its manifest is torn or missing, which
//! is not a silent loss; then a repair must recover all acknowledged commits. The store must never open with fewer.
//!
//! This does not test that a disk that reports a sync has synced.
//!
//! As a control, the same cycles with `Durability::Buffered`, which does not sync, must detect losses.
//!
//! `ES_CRASH_CYCLES=2000` runs the long form; `ES_SEED` repeats the random choices.

use es_core::model::ErrorChain;
use std::path::Path;
use std::time::Duration;

use es_rocksdb::{Durability, OpenError, Salvage};
use es_tests::crash::power::Loss;
use es_tests::crash::{History, Power, Random, Run, StoreRefusal, number, read_all, read_all_read_only, seed};

/// Number of children per directory, which bounds the cost of reading all content.
const PER_DIRECTORY: u32 = 10;

/// The result of a cycle.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The store has all acknowledged commits.
    Complete,
    /// Acknowledged events are missing, with the reason.
    Lost(String),
    /// The store refused to open, and a repair recovered all acknowledged commits.
    Refused(String),
}

struct TestDir<'a> {
    store: &'a Path,
    power: &'a Power,
    durability: Durability,
    history: History,
    /// Number of power failures that removed bytes of the write-ahead log.
    effective_failures: u64,
}

impl TestDir<'_> {
    /// Runs a child, kills it after at least `acknowledgements`, and simulates a power failure.
    fn cycle(&mut self, run: u32, acknowledgements: usize, loss: Loss, random: &mut Random) -> Outcome {
        let run = Run {
            program: env!("CARGO_BIN_EXE_crash-child"),
            dir: self.store,
            number: run,
            durability: self.durability,
            commits: 0,
            power: Some(self.power),
            open_files: 0,
            is_segmented: false,
        };
        std::fs::create_dir_all(self.store).expect("a directory");
        let mut child = run.start();
        child.wait_for("A ", acknowledgements);
        let lines = child.kill_after(Duration::from_millis(10 + random.below(250)));
        self.history.add(&lines).expect("acknowledgements");
        let lost_bytes = self.power.fail(self.store, loss, random).expect("simulate a power failure");
        self.effective_failures += u64::from(lost_bytes > 0);
        let read_only = read_all_read_only(self.store, &self.history);
        match read_all(self.store, &self.history) {
            Err(StoreRefusal::Open(error @ OpenError::Damaged { .. })) => match self.repair() {
                Ok(()) => Outcome::Refused(error.to_string()),
                Err(found) => Outcome::Lost(format!("lost also after a repair: {found}; open failed with: {error}")),
            },
            Err(error) => Outcome::Lost(ErrorChain(&error).to_string()),
            Ok(contents) => match self.history.check(&contents) {
                // A torn end of the log is normal and must not be an error of a read-only open, which does not create a
                // missing store.
                Ok(()) => match read_only {
                    Err(StoreRefusal::Open(OpenError::NoSuchDirectory { .. })) if contents.log.is_empty() => {
                        Outcome::Complete
                    }
                    Err(error) => Outcome::Lost(format!("read-only open: {error}")),
                    Ok(_) => Outcome::Complete,
                },
                Err(error) => Outcome::Lost(format!("{} events lost: {error}", self.history.lost(&contents))),
            },
        }
    }
}

impl TestDir<'_> {
    /// Repairs the store into another directory and checks that it has all acknowledged commits.
    fn repair(&mut self) -> Result<(), String> {
        let parent = tempfile::tempdir().expect("a directory");
        let target = parent.path().join("repaired");
        let salvage = Salvage::survey(self.store, &mut |_, _, _| {}).map_err(|error| ErrorChain(&error).to_string())?;
        let loss = &salvage.report().loss;
        // Commits that were not acknowledged may be lost.
        let accepted = (!loss.is_none()).then_some(loss.events);
        let written = salvage.write(&target, accepted, &mut |_| Ok(()), &mut |_, _, _| {});
        written.map_err(|error| ErrorChain(&error).to_string())?;
        self.history.check(&read_all(&target, &self.history).map_err(|error| ErrorChain(&error).to_string())?)
    }
}

/// Returns whether a power failure may cause this error of opening.
///
/// - RocksDB refuses a torn manifest. It must not refuse a torn end of the write-ahead log.
/// - RocksDB creates a new manifest, renames the file that names it, and then syncs the directory. A file system that
///   persists a later change of a directory without an earlier one (no common file system does) can persist the rename
///   without the new manifest. The previous manifest and all other files still exist.
fn may_be_refused(loss: Loss, error: &str) -> bool {
    match loss {
        Loss::Tear => !error.contains("write-ahead log"),
        Loss::Drop => error.contains("/MANIFEST-") && error.contains("No such file"),
    }
}

#[test]
fn acknowledged_commits_survive_a_power_failure() {
    let Some(power) = Power::new() else { return println!("skipped: the shim needs Linux") };
    let (seed, cycles) = (seed(), number("ES_CRASH_CYCLES", 50));
    let mut random = Random::new(seed);
    let (mut cycle, mut acknowledged, mut effective_failures, mut refused) = (0, 0, 0, Vec::new());
    while cycle < cycles {
        let dir = tempfile::tempdir().expect("a directory");
        let store = dir.path().join("store");
        let mut dir = TestDir {
            store: &store,
            power: &power,
            durability: Durability::Sync,
            history: History::default(),
            effective_failures: 0,
        };
        for run in 1..=PER_DIRECTORY {
            cycle += 1;
            let loss = random.pick(&[Loss::Drop, Loss::Tear]);
            // With 0, the child may be killed while it opens the store.
            let acknowledgements = random.pick(&[0, 1, 30]);
            match dir.cycle(run, acknowledgements, loss, &mut random) {
                Outcome::Complete => {}
                Outcome::Refused(error) if may_be_refused(loss, &error) => {
                    refused.push(error);
                    break;
                }
                other => panic!("cycle {cycle} ({loss:?}) of ES_SEED={seed}: {other:?}"),
            }
            if cycle == cycles {
                break;
            }
        }
        acknowledged += dir.history.len();
        effective_failures += dir.effective_failures;
    }
    println!("{cycles} power failures, {effective_failures} of them removed bytes of the write-ahead log");
    println!("{acknowledged} acknowledged commits, none lost; {} stores repaired: {refused:?}", refused.len());
    // The expected rate is about one in 200.
    assert!(refused.len() as u64 <= 2 + cycles / 50, "ES_SEED={seed}: too many stores refused to open");
    assert!(effective_failures > 0, "ES_SEED={seed}: none of {cycles} power failures removed any bytes");
    assert!(acknowledged as u64 > cycles, "ES_SEED={seed}: too few acknowledged commits: {acknowledged}");
}

/// The control of the test above.
#[test]
fn the_loss_of_a_store_that_does_not_sync_is_detected() {
    let Some(power) = Power::new() else { return println!("skipped: the shim needs Linux") };
    let seed = seed();
    let mut random = Random::new(seed);
    let mut detected = 0;
    for run in 1..=10 {
        let dir = tempfile::tempdir().expect("a directory");
        let store = dir.path().join("store");
        let durability = Durability::Buffered;
        let history = History::default();
        let mut dir = TestDir { store: &store, power: &power, durability, history, effective_failures: 0 };
        match dir.cycle(run, 20, Loss::Drop, &mut random) {
            Outcome::Lost(error) => {
                assert!(error.contains("lost"), "ES_SEED={seed}: expected a loss, found {error}");
                detected += 1;
            }
            other => println!("cycle {run} of ES_SEED={seed}: {other:?}"),
        }
    }
    println!("10 power failures without syncs, {detected} losses detected");
    assert!(detected >= 9, "ES_SEED={seed}: only {detected} of 10 losses were detected");
}
