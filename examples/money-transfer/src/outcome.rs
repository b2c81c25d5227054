//! [`TransferRun`]: what happened in one transfer, and whether it was atomic.

use std::time::Duration;

use crate::account::{BOB, Balances, Cost, Reply, Transfer};

/// A transfer, with or without a crash.
#[derive(Debug)]
pub(crate) struct TransferRun {
    /// Where it crashed; `None` if the step was not reached.
    pub(crate) place: Option<String>,
    pub(crate) reply: Reply,
    /// The balances at the end.
    pub(crate) balances: Balances,
    /// The number of accounts that are locked at the end.
    pub(crate) locked: usize,
    /// The number of transactions and sagas that did not end.
    pub(crate) in_doubt: usize,
    /// What it cost. `None` after a crash, which loses the counters.
    pub(crate) cost: Option<Cost>,
    /// How long the recovery took.
    pub(crate) recovery: Duration,
    /// Whether the banks ended the transaction while its coordinator was down.
    pub(crate) without_coordinator: bool,
}

impl TransferRun {
    /// Returns whether the money was transferred.
    pub(crate) fn is_transferred(&self) -> bool {
        self.balances != Balances::BEFORE
    }

    /// Returns whether both accounts have changed or neither, the sum of the money is constant, no account is locked,
    /// and what the caller was told is what happened.
    pub(crate) fn is_atomic(&self, transfer: &Transfer) -> bool {
        let is_possible = match self.balances {
            Balances::BEFORE => self.reply != Reply::Done,
            after => after == Balances::after(transfer.cents) && transfer.to == BOB && self.reply != Reply::Refused,
        };
        is_possible && self.locked == 0
    }
}
