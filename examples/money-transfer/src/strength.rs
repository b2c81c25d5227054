//! [`Strength`]: the five ways to transfer money, side by side.

use std::path::Path;

use clap::ValueEnum;
use es_transaction::Protocol;

use crate::account::Transfer;
use crate::failure::Failure;
use crate::local::{self, AccountStore, Ledger, SagaBanks};
use crate::outcome::TransferRun;
use crate::process::{self, Machine};

/// How a transfer is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strength {
    UnitOfWork,
    Dcb,
    Saga,
    TwoPhase,
    ThreePhase,
}

/// The step at which a run crashes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    /// The machine that dies; `None` if there is one only.
    pub(crate) machine: Option<Machine>,
    /// The number of the step, from 1.
    pub(crate) step: u64,
}

impl Strength {
    /// Returns the name in tables and reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::UnitOfWork => "unit-of-work",
            Self::Dcb => "dcb",
            Self::Saga => "saga",
            Self::TwoPhase => "two-phase",
            Self::ThreePhase => "three-phase",
        }
    }

    /// Returns what happens when a machine dies.
    pub(crate) const fn promise(self) -> &'static str {
        match self {
            Self::UnitOfWork => "all or nothing, at once; nobody else can have the accounts",
            Self::Dcb => "all or nothing, at once; conflicts only with events of these accounts",
            Self::Saga => "continues or is undone after the restart; others see the money missing meanwhile",
            Self::TwoPhase => "all or nothing; accounts in doubt are locked until the coordinator is back",
            Self::ThreePhase => "all or nothing; the banks decide without the coordinator; not in a partition",
        }
    }

    /// Returns the machines that can die; `None` is the only one.
    pub(crate) fn machines(self) -> Vec<Option<Machine>> {
        match self {
            Self::UnitOfWork | Self::Dcb | Self::Saga => vec![None],
            Self::TwoPhase | Self::ThreePhase => Machine::ALL.map(Some).into(),
        }
    }

    /// Returns a crash that shows the recovery.
    pub(crate) const fn example(self) -> Crash {
        match self {
            // After the commit: the caller is not told.
            Self::UnitOfWork | Self::Dcb => Crash { machine: None, step: 2 },
            // The money is withdrawn, and the deposit has not begun.
            Self::Saga => Crash { machine: None, step: 5 },
            // The decision is recorded, and no bank is told.
            Self::TwoPhase => Crash { machine: Some(Machine::Coordinator), step: 6 },
            // The banks are told that all are prepared, and nothing is decided.
            Self::ThreePhase => Crash { machine: Some(Machine::Coordinator), step: 10 },
        }
    }

    /// Runs a transfer with new stores below a directory, with a crash if the step is reached.
    pub(crate) async fn transfer(
        self,
        directory: &Path,
        transfer: &Transfer,
        crash: Option<Crash>,
    ) -> Result<TransferRun, Failure> {
        let step = crash.map(|crash| crash.step);
        let stop = crash.and_then(|crash| Some((crash.machine?, crash.step)));
        match self {
            Self::UnitOfWork => local::transfer_once::<AccountStore>(directory, transfer, step).await,
            Self::Dcb => local::transfer_once::<Ledger>(directory, transfer, step).await,
            Self::Saga => local::transfer_once::<SagaBanks>(directory, transfer, step).await,
            Self::TwoPhase => process::transfer_once(directory, Protocol::TwoPhase, transfer, stop).await,
            Self::ThreePhase => process::transfer_once(directory, Protocol::ThreePhase, transfer, stop).await,
        }
    }
}
