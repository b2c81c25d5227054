//! Waits for what a client has seen: the methods of [`Replica`] with a [`Token`].

use std::num::NonZeroU64;
use std::time::Duration;

use es_core::model::{Dot, OriginId};
use es_core::store::RowScan;
use es_core::{Position, StoreError};

use crate::error::StaleReplica;
use crate::knowledge::Knowledge;
use crate::replica::Replica;
use crate::rows::{self, StoredDots};
use crate::token::Token;

/// The period in which a wait checks the knowledge even if no event arrives.
const POLL: Duration = Duration::from_millis(100);

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
    /// The token of a node that withholds events names those, too, because a list of them could be long. So only a
    /// handle with a [filter](Self::with_filter) can wait for it on this node.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn token(&self) -> Result<Token, StoreError> {
        Token::of_store(&*self.store, &self.table).await
    }

    /// Waits until this node has every replicated event of a token, for example until the nodes of a test are equal. A
    /// [`Session`](crate::Session) waits by itself.
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
        self.wait_until_has(&token.clock().clone().into(), timeout).await
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

    /// Returns the position of this node's log after which every event of a token is stored; `None` if the token names
    /// no event of this node. A view outside of this process has the events of a session once it has reached this
    /// position. For a projection of this process, use [`Session::view`](crate::Session::view).
    ///
    /// # Errors
    /// - [`WaitError::Stale`] if this node does not have the events yet; see [`wait_for`](Self::wait_for).
    /// - [`WaitError::Store`] if the store fails.
    pub async fn position_of(&self, token: &Token) -> Result<Option<Position>, WaitError> {
        let needed = token.clock().clone().into();
        let missing = self.missing(&needed).await?;
        if !missing.is_empty() {
            return Err(self.stale(&needed, missing).await?.into());
        }
        Ok(self.stored_position(token).await?)
    }

    /// Returns the position for [`position_of`](Self::position_of) without a check that the events are stored.
    pub(super) async fn stored_position(&self, token: &Token) -> Result<Option<Position>, StoreError> {
        let mut last = token.position_in(self.store.log_id());
        let origins = rows::origins(&*self.store, &self.table).await?;
        for dot in token.clock().iter() {
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
        let mut dots = StoredDots::new(&*self.store, &self.table, origin, first, end);
        while let Some((sequence, _)) = dots.next().await? {
            if sequence > next {
                break;
            }
            if next == end {
                return Ok(None);
            }
            next += 1;
        }
        Ok(NonZeroU64::new(next))
    }
}
