//! [`Token`]: what a client has seen, and waiting for it.

use std::num::NonZeroU64;
use std::time::Duration;

use es_core::model::{Dot, OriginId, VectorClock};
use es_core::store::RowScan;
use es_core::{Position, StoreError};
use serde::{Deserialize, Serialize};

use crate::error::StaleReplica;
use crate::knowledge::Knowledge;
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
    /// The token of a node that withholds events names those, too, because a list of them could be long. So only a
    /// handle with a [filter](Self::with_filter) can wait for it on this node.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn token(&self) -> Result<Token, StoreError> {
        Ok(Token(self.knowledge().await?.clock().clone()))
    }

    /// Waits until this node has every event of a token. Loads and commands then see them.
    ///
    /// Withheld events are waited for: they arrive if a link selects them. If this handle has a
    /// [filter](Self::with_filter), this only waits until every event of the token is accounted for. The node then has
    /// those that the filter selects, if all of its links select them and its peers do not withhold them; and it has
    /// everything that it had when it returned a token itself.
    ///
    /// # Errors
    /// - [`WaitError::Stale`] if the events do not arrive within `timeout`.
    /// - [`WaitError::Store`] if the store fails.
    pub async fn wait_for(&self, token: &Token, timeout: Duration) -> Result<(), WaitError> {
        self.wait_until_has(&token.0.clone().into(), timeout).await
    }

    /// Waits until this node has every event that `needed` holds; see [`wait_for`](Self::wait_for).
    pub(super) async fn wait_until_has(&self, needed: &Knowledge, timeout: Duration) -> Result<(), WaitError> {
        let mut head = self.store.watch_head();
        let wait = async {
            loop {
                // ORDER: the head before the knowledge, so that a commit in between wakes this task.
                let seen = head.current();
                if self.missing(needed).await?.is_empty() {
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
                let missing = self.missing(needed).await?;
                if missing.is_empty() { Ok(()) } else { Err(self.stale(needed, missing).await?.into()) }
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
        let needed = token.0.clone().into();
        let missing = self.missing(&needed).await?;
        if !missing.is_empty() {
            return Err(self.stale(&needed, missing).await?.into());
        }
        let (mut last, origins) = (None, rows::origins(&*self.store, &self.table).await?);
        for dot in token.0.iter() {
            // The last stored event up to the dot, which itself may be withheld or removed.
            let scan = RowScan::new(self.table.clone(), rows::dots_of(dot.origin), 1).backward();
            let next = dot.sequence.checked_add(1).map(|sequence| rows::dot_key(Dot { sequence, ..dot }));
            if let Some(row) = self.store.rows(RowScan { after: next, ..scan }).await?.pop() {
                last = last.max(Some(rows::position_of(&row.value)?));
            }
            // Earlier events of the origin may be stored after it.
            last = last.max(origins.get(&dot.origin).and_then(|known| known.late));
        }
        Ok(last)
    }

    async fn stale(&self, needed: &Knowledge, missing: Vec<Dot>) -> Result<StaleReplica, StoreError> {
        let have = self.knowledge().await?.clock().clone();
        Ok(StaleReplica { have, need: needed.clock().clone(), missing })
    }

    /// Returns for each origin the first missing event that is withheld, or the last one if events are not accounted
    /// for.
    async fn missing(&self, needed: &Knowledge) -> Result<Vec<Dot>, StoreError> {
        let (have, mut missing) = (self.knowledge().await?, Vec::new());
        for dot in needed.clock().iter() {
            if !have.clock().includes(dot) {
                missing.push(dot);
            } else if self.filter.selects_all() {
                missing.extend(self.missing_withheld(&have, needed, dot).await?);
            }
        }
        Ok(missing)
    }

    /// Returns the first event of an origin up to `last` that `needed` holds, and that is withheld here.
    async fn missing_withheld(
        &self,
        have: &Knowledge,
        needed: &Knowledge,
        last: Dot,
    ) -> Result<Option<Dot>, StoreError> {
        let Some(withheld) = have.ranges(last.origin) else { return Ok(None) };
        let mut withheld = withheld.clone();
        withheld.remove(last.sequence.get().saturating_add(1), u64::MAX);
        needed.ranges(last.origin).into_iter().for_each(|ranges| withheld.remove_all(ranges));
        for (first, end) in withheld.iter() {
            if let Some(sequence) = self.first_without_row(last.origin, first, end).await? {
                return Ok(Some(Dot { sequence, ..last }));
            }
        }
        Ok(None)
    }

    /// Returns the first sequence from `first` to `end` whose event is not stored. A range of withheld events can
    /// include stored ones, which have rows.
    async fn first_without_row(
        &self,
        origin: OriginId,
        first: u64,
        end: u64,
    ) -> Result<Option<NonZeroU64>, StoreError> {
        let mut next = first;
        loop {
            let dots = rows::dots(&*self.store, &self.table, origin, next, end).await?;
            for (sequence, _) in &dots {
                if *sequence > next {
                    return Ok(NonZeroU64::new(next));
                }
                if next == end {
                    return Ok(None);
                }
                next += 1;
            }
            if dots.len() < rows::DOTS {
                return Ok(NonZeroU64::new(next));
            }
        }
    }
}
