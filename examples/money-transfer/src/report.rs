//! [`StrengthReport`]: the result of all crashes of a strength, and the lines for a person.

use serde::Serialize;

use crate::account::{Cost, Reply, Transfer};
use crate::outcome::TransferRun;
use crate::strength::{Crash, Strength};

/// The result of all runs of a strength.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct StrengthReport {
    /// The number of runs, each with a crash.
    pub(crate) runs: u64,
    /// Those after which both accounts or neither had changed, none was locked, and the caller was told what happened.
    pub(crate) atomic: u64,
    /// Those after which a transaction or a saga was not ended.
    pub(crate) in_doubt_left: u64,
    /// Those that transferred the money.
    pub(crate) transferred: u64,
    /// Those whose caller was told nothing.
    pub(crate) caller_told_nothing: u64,
    /// Those that the banks ended while the coordinator was down.
    pub(crate) ended_without_coordinator: u64,
    /// Requests to the banks in a transfer without a crash.
    pub(crate) round_trips: u64,
    /// Syncs of all stores in a transfer without a crash.
    pub(crate) syncs: u64,
}

impl StrengthReport {
    pub(crate) fn new(cost: Cost) -> Self {
        Self { round_trips: cost.round_trips, syncs: cost.syncs, ..Self::default() }
    }

    /// Adds a run with a crash.
    pub(crate) fn count(&mut self, run: &TransferRun, transfer: &Transfer) {
        self.runs += 1;
        self.atomic += u64::from(run.is_atomic(transfer));
        self.in_doubt_left += u64::from(run.in_doubt > 0);
        self.transferred += u64::from(run.is_transferred());
        self.caller_told_nothing += u64::from(run.reply == Reply::Nothing);
        self.ended_without_coordinator += u64::from(run.without_coordinator);
    }

    /// Returns whether the strength kept its promise in every run.
    pub(crate) fn is_correct(&self) -> bool {
        self.runs > 0 && self.atomic == self.runs && self.in_doubt_left == 0
    }
}

impl std::ops::Add for StrengthReport {
    type Output = Self;

    /// Adds the runs of another report. The cost is that of this one.
    fn add(self, other: Self) -> Self {
        Self {
            runs: self.runs + other.runs,
            atomic: self.atomic + other.atomic,
            in_doubt_left: self.in_doubt_left + other.in_doubt_left,
            transferred: self.transferred + other.transferred,
            caller_told_nothing: self.caller_told_nothing + other.caller_told_nothing,
            ended_without_coordinator: self.ended_without_coordinator + other.ended_without_coordinator,
            ..self
        }
    }
}

/// Describes a run with a crash in one line.
pub(crate) fn describe(strength: Strength, crash: Crash, transfer: &Transfer, run: &TransferRun) -> String {
    let machine = crash.machine.map_or_else(|| "the process".to_owned(), |machine| machine.to_string());
    let place = run.place.as_deref().unwrap_or("nowhere");
    let ended = if run.without_coordinator { "the banks decided without it" } else { "started again" };
    let told = match run.reply {
        Reply::Done => "that it was done",
        Reply::Refused => "that it was refused",
        Reply::Nothing => "nothing",
    };
    let verdict = if run.is_atomic(transfer) && run.in_doubt == 0 { "" } else { "; A PROMISE WAS BROKEN" };
    format!(
        "{:<13} {machine} died {place}; {ended}; ada {}, bob {}, {} locked, {} in doubt after {} ms; the caller was \
         told {told}{verdict}",
        strength.name(),
        run.balances.ada,
        run.balances.bob,
        run.locked,
        run.in_doubt,
        run.recovery.as_millis(),
    )
}
