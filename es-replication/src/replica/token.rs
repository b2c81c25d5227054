//! [`Token`]: what a client has seen, and waiting for it.

use std::collections::BTreeMap;
use std::time::Duration;

use es_core::model::{Dot, LogId, VectorClock};
use es_core::{Position, StoreError};
use serde::{Deserialize, Serialize};

use crate::error::StaleReplica;
use crate::replica::Replica;
use crate::rows;

/// The period in which a wait checks the knowledge even if no event arrives.
const POLL: Duration = Duration::from_millis(100);

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
    pub(crate) const fn new(clock: VectorClock) -> Self {
        Self { clock, logs: BTreeMap::new() }
    }

    /// Returns the replicated events that the token names.
    #[must_use]
    pub const fn clock(&self) -> &VectorClock {
        &self.clock
    }

    /// Returns the position that the session has seen in a log; `None` if the session has not used the log.
    pub(super) fn position_in(&self, log: LogId) -> Option<Position> {
        self.logs.get(&log).copied()
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

/// The events of a token did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The timeout expired. Retry, or use another node.
    #[error(transparent)]
    Stale(#[from] StaleReplica),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Replica {
    /// Returns the token of everything that this node has now. A [`Session`](crate::Session) takes it by itself.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn token(&self) -> Result<Token, StoreError> {
        let clock = self.knowledge().await?;
        let head = self.store.watch_head().current();
        Ok(Token { clock, logs: head.map(|head| (self.store.log_id(), head)).into_iter().collect() })
    }

    /// Waits until this node has every replicated event of a token, for example until the nodes of a test are equal. A
    /// [`Session`](crate::Session) waits by itself.
    ///
    /// # Errors
    /// - [`WaitError::Stale`] if the events do not arrive within `timeout`.
    /// - [`WaitError::Store`] if the store fails.
    pub async fn wait_for(&self, token: &Token, timeout: Duration) -> Result<(), WaitError> {
        let mut head = self.store.watch_head();
        let wait = async {
            loop {
                // ORDER: the head before the knowledge, so that a commit in between wakes this task.
                let seen = head.current();
                if self.missing(token).await?.is_empty() {
                    return Ok(());
                }
                // Events that were removed at their node arrive as a gap, which does not move the head.
                if let Ok(moved) = tokio::time::timeout(POLL, head.wait_after(seen)).await {
                    moved?;
                }
            }
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(result) => result,
            Err(_) => {
                let (have, missing) = (self.knowledge().await?, self.missing(token).await?);
                match missing.is_empty() {
                    true => Ok(()),
                    false => Err(StaleReplica { have, need: token.clock.clone(), missing }.into()),
                }
            }
        }
    }

    /// Returns the position of this node's log up to which it has every event of a token, which must all be stored;
    /// `None` if the token names no event of this node.
    pub(super) async fn position_of(&self, token: &Token) -> Result<Option<Position>, StoreError> {
        let mut last = token.position_in(self.store.log_id());
        for dot in token.clock.iter() {
            let position = match self.store.row(&self.table, &rows::dot_key(dot)).await? {
                Some(row) => Some(rows::position_of(&row)?),
                // The event was removed before it arrived. Earlier events of its origin are stored before the head.
                None => self.store.watch_head().current(),
            };
            last = last.max(position);
        }
        Ok(last)
    }

    async fn missing(&self, token: &Token) -> Result<Vec<Dot>, StoreError> {
        let have = self.knowledge().await?;
        Ok(token.clock.iter().filter(|dot| !have.includes(*dot)).collect())
    }
}
