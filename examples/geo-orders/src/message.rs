//! The messages between the program and its nodes: one JSON object in a line, over the standard streams of a node.

use std::collections::BTreeMap;
use std::path::PathBuf;

use es_core::EventId;
use serde::{Deserialize, Serialize};

use crate::loan::{CaseId, Loan, Step};
use crate::order::{LineId, Order, OrderId};

/// What a node needs to start; the first line that it reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    /// The name of the node.
    pub(crate) name: String,
    /// The directory of its store.
    pub(crate) directory: PathBuf,
    /// The directory with its certificate.
    pub(crate) certificates: PathBuf,
    /// The names and addresses of its peers.
    pub(crate) peers: BTreeMap<String, String>,
}

/// A request to a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Add a line to an order.
    Add {
        /// The order.
        order: OrderId,
        /// The line.
        line: LineId,
        /// The number of pieces.
        quantity: u32,
    },
    /// Take a step of a case.
    Take {
        /// The case.
        case: CaseId,
        /// The step.
        step: Step,
    },
    /// Return what the node has.
    Status,
    /// Return all orders.
    Orders,
    /// Return all cases.
    Loans,
    /// Read the log, and check that each event follows the one that its client had seen.
    Check,
}

/// The answer of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The node runs.
    Started {
        /// The port on which it answers the other nodes.
        port: u16,
        /// The origin of its events.
        origin: String,
    },
    /// The line or the step is stored.
    Added,
    /// The node does not have the preceding step of the case yet. Nothing was stored.
    Stale,
    /// What the node has.
    Status {
        /// For each origin, the last sequence.
        knowledge: BTreeMap<String, u64>,
    },
    /// All orders.
    Orders(BTreeMap<OrderId, Order>),
    /// All cases.
    Loans(BTreeMap<CaseId, Loan>),
    /// The result of the check.
    Checked {
        /// The number of events.
        events: usize,
        /// The events that are stored before the one that their client had seen.
        violations: Vec<EventId>,
    },
    /// The node failed to do it.
    Failed(String),
}
