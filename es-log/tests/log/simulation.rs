//! Simulated lives of a log in one process: compressions, kills, power failures, failed and refused writes, then a flip
//! or a cut.
//!
//! Nothing acknowledged is lost silently: without a flip or a cut, the log opens and has all acknowledged commits, each
//! complete. After a flip or a cut of a file of a killed process, the log does not open, or a read fails, or nothing is
//! missing.
//!
//! `ES_LOG_SEEDS=1000000` runs the long form.

use std::path::Path;

use es_log::{AppendError, Log};

use crate::support::disk::Fault;
use crate::support::{History, Random, SimDisk, commit, number, options, seed};

const DIRECTORY: &str = "/log";

/// How often each situation occurred. A run without one of them does not test it.
#[derive(Debug, Default)]
struct Coverage {
    acknowledged: u64,
    kills: u64,
    power_failures: u64,
    torn: u64,
    /// Commits after a failed write that succeeded without a restart.
    recovered: u64,
    failed_syncs: u64,
    compressed: u64,
    /// Compressions that a fault has ended.
    failed_compressions: u64,
    flips: u64,
    cuts: u64,
    /// Flips and cuts after which the log did not open.
    refused: u64,
    /// Flips and cuts after which a read failed.
    failed_reads: u64,
    /// Flips and cuts that changed nothing.
    harmless: u64,
    segments: u64,
}

struct Simulation {
    disk: SimDisk,
    random: Random,
    history: History,
    /// The number of the next commit.
    next: u64,
}

impl Simulation {
    fn run(seed: u64, coverage: &mut Coverage) -> Result<(), String> {
        let random = Random::new(seed);
        let mut simulation = Self { disk: SimDisk::new(seed), random, history: History::default(), next: 1 };
        let lives = 1 + simulation.random.below(4);
        for _ in 0..lives {
            simulation.life(coverage)?;
        }
        let names = simulation.disk.all_names();
        coverage.segments +=
            names.iter().filter(|name| name.extension().is_some_and(|end| end == "seg")).count() as u64;
        simulation.damage(coverage)
    }

    /// Opens the log, commits until a fault ends the life, and checks what the next opening finds.
    fn life(&mut self, coverage: &mut Coverage) -> Result<(), String> {
        let fault = if self.random.one_in(4) { Fault::Fail } else { Fault::Crash };
        self.disk.fail_after(self.random.below(60), fault);
        if let Ok(log) = Log::open(Path::new(DIRECTORY), options(&self.disk)) {
            self.commits(&log, coverage);
        }
        self.disk.heal();
        if self.random.one_in(2) {
            coverage.kills += 1;
        } else {
            coverage.power_failures += 1;
            self.disk.fail_power();
        }
        let log = Log::open(Path::new(DIRECTORY), options(&self.disk)).map_err(|error| format!("open: {error}"))?;
        coverage.torn += u64::from(log.removed_bytes() > 0);
        self.history.check(&log)
    }

    fn commits(&mut self, log: &Log, coverage: &mut Coverage) {
        let mut has_failed = false;
        for _ in 0..self.random.below(30) {
            let number = self.next;
            self.next += 1;
            let size = 1 + u32::try_from(self.random.below(3)).expect("small");
            match commit(log, number, size) {
                Ok(position) => {
                    coverage.acknowledged += 1;
                    coverage.recovered += u64::from(std::mem::take(&mut has_failed));
                    self.history.acknowledge(position, number, size);
                }
                Err(AppendError::NotWritten { .. }) => has_failed = true,
                Err(AppendError::SyncFailed { .. }) => coverage.failed_syncs += 1,
                Err(AppendError::Stopped { .. }) => self.history.refuse(number),
                Err(error) => panic!("expected a failed write or sync, found {error}"),
            }
            if log.sealed_segments() > 0 && self.random.one_in(10) {
                let segment = 1 + u32::try_from(self.random.below(log.sealed_segments().into())).expect("small");
                match log.compress(segment, |_| false) {
                    Ok(compressed) => coverage.compressed += u64::from(compressed.bytes > 0),
                    Err(_) => coverage.failed_compressions += 1,
                }
            }
        }
        if self.random.one_in(3) {
            // It fails after a fault.
            let _ = log.close();
        }
    }

    /// Changes a file of the log, whose high-water mark is exact, and checks that nothing is missing silently.
    fn damage(&mut self, coverage: &mut Coverage) -> Result<(), String> {
        let names = self.disk.all_names();
        let name = &names[self.random.index(names.len())];
        let mut content = self.disk.content(name);
        if self.random.one_in(3) {
            coverage.cuts += 1;
            content.truncate(self.random.index(content.len()));
        } else {
            coverage.flips += 1;
            let byte = self.random.index(content.len());
            if let Some(byte) = content.get_mut(byte) {
                *byte ^= 1 << self.random.below(8);
            }
        }
        self.disk.set_content(name, &content);
        match self.history.open_and_check(options(&self.disk)) {
            Err(_) => coverage.refused += 1,
            Ok(Err(message)) if message.starts_with("read: ") => coverage.failed_reads += 1,
            Ok(Err(message)) => return Err(format!("after damage to {}: {message}", name.display())),
            Ok(Ok(())) => coverage.harmless += 1,
        }
        Ok(())
    }
}

#[test]
fn nothing_acknowledged_is_lost_silently_in_simulated_lives() {
    let (first, seeds) = (seed(), number("ES_LOG_SEEDS", 4_000));
    let mut coverage = Coverage::default();
    for index in 0..seeds {
        let seed = first.wrapping_add(index);
        if let Err(message) = Simulation::run(seed, &mut coverage) {
            panic!("ES_SEED={seed}: {message}");
        }
    }
    println!("{seeds} lives: {coverage:?}");
    let Coverage { acknowledged, kills, power_failures, torn, recovered, failed_syncs, .. } = coverage;
    let Coverage { compressed, failed_compressions, flips, cuts, refused, failed_reads, harmless, segments, .. } =
        coverage;
    let situations = [
        acknowledged,
        kills,
        power_failures,
        torn,
        recovered,
        failed_syncs,
        compressed,
        failed_compressions,
        flips,
        cuts,
        refused,
        failed_reads,
        harmless,
    ];
    assert!(seeds < 1_000 || situations.iter().all(|count| *count > 0), "a situation did not occur: {coverage:?}");
    assert!(seeds < 1_000 || segments > seeds, "too few segments: {segments}");
}
