//! [`Token`]: what a client has seen, and waiting for it.

use std::time::Duration;

use es_core::model::{Dot, VectorClock};
use es_core::{Position, StoreError};
use serde::{Deserialize, Serialize};

use crate::error::StaleReplica;
use crate::replica::Replica;
use crate::rows;

/// The period in which a wait checks the knowledge even if no event arrives.
const POLL: Duration = Duration::from_millis(100);

/// The events that a session has read and written: for each origin, the last one.
///
/// A client sends the token of its last answer with its next request. A node that waits for the token before it answers
/// gives the client four guarantees of Terry et al. 1994 ("Session Guarantees for Weakly Consistent Replicated Data"),
/// on any node: read your writes, monotonic reads, monotonic writes, and writes follow reads.
///
/// Its text form is JSON. Its size grows with the number of origins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(VectorClock);

impl Token {
    pub(crate) const fn new(clock: VectorClock) -> Self {
        Self(clock)
    }

    /// Returns the events that the token names.
    #[must_use]
    pub const fn clock(&self) -> &VectorClock {
        &self.0
    }

    /// Adds the events of another token, for a session that uses several nodes at once.
    pub fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }
}

/// The events of a session did not arrive in time.
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
    /// Returns the token of everything that this node has now. A client that gets it after a read or a write sees at
    /// least the same on every node that waits for it.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn token(&self) -> Result<Token, StoreError> {
        Ok(Token(self.knowledge().await?))
    }

    /// Waits until this node has every event of a token. Loads and commands then see them.
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
                    false => Err(StaleReplica { have, need: token.0.clone(), missing }.into()),
                }
            }
        }
    }

    /// Returns the position of this node's log after which every event of a token is stored. A view has the events of
    /// the session once its projection has reached it. `None` if the token names no event.
    ///
    /// # Errors
    /// - [`WaitError::Stale`] if this node does not have the events yet; see [`wait_for`](Self::wait_for).
    /// - [`WaitError::Store`] if the store fails.
    pub async fn position_of(&self, token: &Token) -> Result<Option<Position>, WaitError> {
        let missing = self.missing(token).await?;
        if !missing.is_empty() {
            return Err(StaleReplica { have: self.knowledge().await?, need: token.0.clone(), missing }.into());
        }
        let mut last = None;
        for dot in token.0.iter() {
            // A dot without a row was removed before it arrived.
            if let Some(row) = self.store.row(&self.table, &rows::dot_key(dot)).await? {
                last = last.max(Some(rows::position_of(&row)?));
            }
        }
        Ok(last)
    }

    async fn missing(&self, token: &Token) -> Result<Vec<Dot>, StoreError> {
        let have = self.knowledge().await?;
        Ok(token.0.iter().filter(|dot| !have.includes(*dot)).collect())
    }
}
