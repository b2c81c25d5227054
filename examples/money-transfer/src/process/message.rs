//! The messages between the program and the services that it starts: one JSON object in a line.

use es_transaction::Protocol;
use serde::{Deserialize, Serialize};

use crate::account::{Reply, Transfer};

/// A request to a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Transfer money, at the coordinator.
    Transfer { transfer: Transfer, protocol: Protocol },
    /// Return the status.
    Status,
}

/// A line that a service writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The service runs.
    Started,
    /// The service has reached the step to stop at, and does nothing more.
    Reached { step: u64, place: String },
    /// The transfer has ended for its caller.
    Transferred(Reply),
    /// The status of a bank.
    Bank(BankStatus),
    /// The status of the coordinator.
    Coordinator(CoordinatorStatus),
    /// The service could not execute the request.
    Failed(String),
}

/// The status of a bank.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BankStatus {
    pub(crate) cents: u64,
    /// Whether a transaction has locked the account.
    pub(crate) is_locked: bool,
    /// The number of transactions in doubt.
    pub(crate) prepared: usize,
    /// The number of answered requests since the bank was started.
    pub(crate) requests: u64,
    /// The number of syncs since the bank was started.
    pub(crate) syncs: u64,
}

/// The status of the coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CoordinatorStatus {
    /// The number of transactions that have a record and have not ended.
    pub(crate) unfinished: usize,
    /// The number of syncs since the coordinator was started.
    pub(crate) syncs: u64,
}
