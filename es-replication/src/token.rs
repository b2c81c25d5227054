//! [`Token`]: what a client has seen.

use std::collections::BTreeMap;

use es_core::model::{LogId, Table, VectorClock};
use es_core::{EventStore, Position, StoreError};
use serde::{Deserialize, Serialize};

use crate::rows;

/// The events that a session has read and written: for each origin the last one, and for each log that the session has
/// used its head. The heads cover the aggregates that are not replicated.
///
/// A client sends the token of its last answer with its next request, and the node that answers continues the
/// [`Session`](crate::Session). Its text form is JSON. Its size grows with the number of origins and of used nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    clock: VectorClock,
    #[serde(default)]
    logs: BTreeMap<LogId, Position>,
}

impl Token {
    /// Returns the replicated events that the token names.
    #[must_use]
    pub const fn clock(&self) -> &VectorClock {
        &self.clock
    }

    /// Returns the position that the session has seen in a log; `None` if the session has not used the log.
    pub(crate) fn position_in(&self, log: LogId) -> Option<Position> {
        self.logs.get(&log).copied()
    }

    /// Returns the token of everything that a store has now.
    pub(crate) async fn of_store(store: &dyn EventStore, table: &Table) -> Result<Self, StoreError> {
        let clock = rows::knowledge(store, table).await?.clock().clone();
        let head = store.watch_head().current();
        Ok(Self { clock, logs: head.map(|head| (store.log_id(), head)).into_iter().collect() })
    }

    /// Adds the events of another token, for a session that uses several nodes at once.
    pub fn merge(&mut self, other: &Self) {
        self.clock.merge(&other.clock);
        for (log, position) in &other.logs {
            let last = self.logs.entry(*log).or_insert(*position);
            *last = (*position).max(*last);
        }
    }
}
