//! Runs of a strength: without a crash, with one, and with one at each step in turn.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use es_core::model::Entropy;
use es_core::testing::SeededEntropy;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::account::{BOB, CENTS, Cost, EVE, Transfer};
use crate::failure::Failure;
use crate::outcome::TransferRun;
use crate::process::Machine;
use crate::report::{StrengthReport, describe};
use crate::strength::{Crash, Strength};

/// The largest number of steps of a machine: a program that reaches more has a defect.
const MAX_STEPS: u64 = 200;

/// The number of runs at the same time. They wait for the disk most of the time.
const PARALLEL: usize = 3;

/// Makes runs in directories below one.
pub(crate) struct Sweep {
    directory: PathBuf,
    /// Whether the directory of a run is kept.
    keeps: bool,
    /// Whether each run with a crash is printed.
    prints: bool,
    runs: AtomicU64,
    slots: Semaphore,
}

/// The crashes at each step of one machine.
#[derive(Clone, Copy)]
struct StepsOfMachine {
    strength: Strength,
    machine: Option<Machine>,
    /// The account that is paid.
    to: &'static str,
    seed: u64,
}

impl Sweep {
    pub(crate) fn new(directory: &Path, keeps: bool, prints: bool) -> Self {
        let slots = Semaphore::new(PARALLEL);
        Self { directory: directory.to_owned(), keeps, prints, runs: AtomicU64::new(0), slots }
    }

    /// Runs a transfer in a directory of its own.
    pub(crate) async fn run(
        &self,
        strength: Strength,
        transfer: &Transfer,
        crash: Option<Crash>,
    ) -> Result<TransferRun, Failure> {
        let _slot = self.slots.acquire().await?;
        let run = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        let directory = self.directory.join(format!("{}-{run}", strength.name()));
        std::fs::create_dir_all(&directory)?;
        let run = strength.transfer(&directory, transfer, crash).await?;
        if !self.keeps {
            std::fs::remove_dir_all(&directory)?;
        }
        Ok(run)
    }

    /// Runs a transfer without a crash, and returns its cost.
    pub(crate) async fn cost(&self, strength: Strength) -> Result<Cost, Failure> {
        let transfer = Transfer { to: BOB.to_owned(), cents: 30 };
        let run = self.run(strength, &transfer, None).await?;
        match run.cost {
            Some(cost) if run.is_atomic(&transfer) && run.is_transferred() && run.in_doubt == 0 => Ok(cost),
            _ => Err(format!("{}: expected a transfer without a crash, found {run:?}", strength.name()).into()),
        }
    }

    /// Crashes at each step in turn, `passes` times: in a transfer that is done, and in one that is refused.
    pub(crate) async fn crash_everywhere(
        self: &Arc<Self>,
        strength: Strength,
        (seed, passes): (u64, u32),
    ) -> Result<StrengthReport, Failure> {
        let random = SeededEntropy::new(seed);
        let mut report = StrengthReport::new(self.cost(strength).await?);
        let mut sequences = JoinSet::new();
        for _ in 0..passes {
            for to in [BOB, EVE] {
                for machine in strength.machines() {
                    let steps = StepsOfMachine { strength, machine, to, seed: random.next_u64() };
                    let sweep = Arc::clone(self);
                    sequences.spawn(async move { sweep.crash_at_each_step(steps).await });
                }
            }
        }
        while let Some(sequence) = sequences.join_next().await {
            report = report + sequence??;
        }
        Ok(report)
    }

    /// Crashes a machine at its first step, then at its second, until a run does not reach the step.
    async fn crash_at_each_step(&self, steps: StepsOfMachine) -> Result<StrengthReport, Failure> {
        let StepsOfMachine { strength, machine, to, seed } = steps;
        let random = SeededEntropy::new(seed);
        let mut report = StrengthReport::default();
        for step in 1..=MAX_STEPS {
            let transfer = Transfer { to: to.to_owned(), cents: 1 + random.next_u64() % CENTS };
            let crash = Crash { machine, step };
            let run = self.run(strength, &transfer, Some(crash)).await?;
            if run.place.is_none() {
                return Ok(report);
            }
            report.count(&run, &transfer);
            if self.prints {
                println!("{}", describe(strength, crash, &transfer, &run));
            }
        }
        Err(format!("{}: expected at most {MAX_STEPS} steps of a machine, found more", strength.name()).into())
    }
}
