//! Retrying parked keys on request of an operator.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::feed::Reached;
use super::follower::{BatchResult, CommitRefusal, FollowError, Follower, delete, put, unexpected};
use super::parked::{ParkedEvent, ParkedKey};
use super::rows::{PAGE, decode, page, table};
use crate::consumer::group::shorten;
use crate::model::Position;
use crate::model::RecordedEvent;
use crate::projection::kept::deletions_of;
use crate::projection::{Projection, partition_of};
use crate::retention::Erasure;
use crate::store::{LogRead, StoreError, StoredRow, encode_row};

/// The result of a retry of a key.
pub(super) enum KeyRetry {
    /// All its parked events were applied.
    Released,
    /// The event at this position cannot be applied.
    Failed { position: Option<Position>, failure: String },
    /// The worker must stop.
    Stopped,
}

impl<P: Projection> Follower<P> {
    /// Retries the parked keys of this partition that an operator requested.
    pub(super) async fn retry_requested_keys(&mut self) -> Result<(), FollowError> {
        let mut after = None;
        loop {
            let prefix = self.pipeline.keys.requests(self.generation());
            let requests = page(&*self.pipeline.store, prefix, after, PAGE).await?;
            let Some(last) = requests.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for request in requests {
                let key: String = decode(&request.key, &request.value)?;
                if partition_of(&key, self.pipeline.progress.build.partitions) == self.partition {
                    self.retry_key(&key, request.key).await?;
                }
            }
        }
    }

    /// Retries the parked keys of erasures. The log no longer has the parked events of a deleted stream, and those of a
    /// replicated one are passed over, so that the erasure need not wait for them.
    pub(super) async fn retry_keys_of_erasures(
        &mut self,
        processed: &[(String, RecordedEvent)],
    ) -> Result<(), FollowError> {
        for (key, _) in processed.iter().filter(|(_, event)| Erasure::of(event).is_some()) {
            if self.retries.contains_key(key) {
                self.retry_scheduled(key).await?;
            } else if self.parked.contains(&*self.pipeline.store, key).await? {
                let request = self.pipeline.keys.request(self.generation(), key);
                self.retry_key(key, request).await?;
            }
        }
        Ok(())
    }

    /// Retries a key on request of an operator. This ends the attempts of the policy.
    async fn retry_key(&mut self, key: &str, request: Bytes) -> Result<(), FollowError> {
        match self.apply_parked(key, Some(&request)).await? {
            // The request stays for the next worker, and the events that are retried are not applied until then.
            KeyRetry::Stopped => return Ok(()),
            KeyRetry::Released => {}
            KeyRetry::Failed { position, failure } => self.keep_parked(key, position, failure, request).await?,
        }
        self.retries.remove(key);
        Ok(())
    }

    /// Applies the parked events of a key in order. After the last one, releases the key and removes the request.
    pub(super) async fn apply_parked(&mut self, key: &str, request: Option<&Bytes>) -> Result<KeyRetry, FollowError> {
        let pipeline = Arc::clone(&self.pipeline);
        let generation = self.generation();
        let mut limit = usize::try_from(pipeline.options.batch).unwrap_or(PAGE).min(PAGE);
        let mut conflicts = 0;
        while !self.is_stopped() {
            let rows = page(&*pipeline.store, pipeline.keys.parked_events_of(generation, key), None, limit).await?;
            if rows.is_empty() {
                let mut released = vec![delete(pipeline.keys.parked_key(generation, key))];
                released.extend(request.cloned().map(delete));
                self.commit(None, released, Reached::default()).await.map_err(unexpected)?;
                self.parked.remove(key);
                tracing::info!(projection = P::NAME, key, "parked key released");
                return Ok(KeyRetry::Released);
            }
            let mut events = Vec::new();
            for row in &rows {
                let parked: ParkedEvent = decode(&row.key, &row.value)?;
                let event = self.read_event(parked.position).await?;
                let is_deleted = match &event {
                    Some(event) => self.precedes_deletion(event).await?,
                    None => false,
                };
                events.push(event.filter(|_| !is_deleted));
            }
            let _permit = self.commit_permit(&pipeline, conflicts).await;
            let existing = || events.iter().flatten();
            let failure = match self.apply(existing(), &BTreeSet::new()).await? {
                BatchResult::Failed(failure) => failure,
                BatchResult::Applied { count, rows: changes } => {
                    // A scavenge removed an event that is not in the log, and a deletion follows one that is not
                    // applied again.
                    let first_left = events.iter().enumerate().filter(|(_, event)| event.is_some()).nth(count);
                    let applied = first_left.map_or(rows.len(), |(index, _)| index);
                    let deletions: Vec<_> = rows[..applied].iter().map(|row| delete(row.key.clone())).collect();
                    match self.commit(Some(*changes), deletions, Reached::default()).await {
                        Ok(()) => {
                            conflicts = 0;
                            continue;
                        }
                        Err(CommitRefusal::RowsChanged) => {
                            conflicts += 1;
                            continue;
                        }
                        Err(CommitRefusal::Invalid(_)) if limit > 1 => {
                            limit /= 2;
                            continue;
                        }
                        Err(CommitRefusal::Invalid(reason)) => reason,
                        Err(CommitRefusal::Follow(error)) => return Err(error),
                    }
                }
            };
            let position = existing().next().map(|event| event.position);
            return Ok(KeyRetry::Failed { position, failure });
        }
        Ok(KeyRetry::Stopped)
    }

    /// Returns `true` if this partition has passed a deletion of a replicated stream after an event of the stream. The
    /// deletion removes the event or applies it again, so it must not be applied any more.
    async fn precedes_deletion(&self, event: &RecordedEvent) -> Result<bool, StoreError> {
        let store = &self.pipeline.store;
        if !store.replication().is_some_and(|replication| replication.replicates(&event.stream.category())) {
            return Ok(false);
        }
        let is_passed = |deletion: &RecordedEvent| match (&self.mark, &deletion.data.stamp) {
            (Some(mark), Some(stamp)) => mark.includes(stamp.dot),
            _ => Some(deletion.position) <= self.scanned,
        };
        let deletions = deletions_of(&**store, &event.stream).await?;
        let order = self.states.order();
        Ok(deletions.iter().any(|deletion| order.is_before(event.into(), deletion.into()) && is_passed(deletion)))
    }

    /// Records the failure of a retry and removes the request.
    async fn keep_parked(
        &mut self,
        key: &str,
        position: Option<Position>,
        failure: String,
        request: Bytes,
    ) -> Result<(), FollowError> {
        let row = self.pipeline.keys.parked_key(self.generation(), key);
        let parked = StoredRow::<ParkedKey>::read(&*self.pipeline.store, &table(), row.clone()).await?.value;
        let mut changes = vec![delete(request)];
        if let Some(mut parked) = parked {
            tracing::warn!(projection = P::NAME, key, error = failure, "key stays parked");
            parked.position = position.unwrap_or(parked.position);
            (parked.error, parked.attempts) = (shorten(failure), parked.attempts.saturating_add(1));
            (parked.last_attempt, parked.is_retried) = (self.pipeline.clock.now(), false);
            changes.push(put(row, encode_row(&parked)?));
        }
        self.commit(None, changes, Reached::default()).await.map_err(unexpected)
    }

    /// Returns the event at a position; `None` if it was removed from the log.
    async fn read_event(&self, position: Position) -> Result<Option<RecordedEvent>, StoreError> {
        let mut found = self.pipeline.store.read_log(LogRead::all().from(position).limit(1)).await?;
        Ok(found.next().await?.filter(|event| event.position == position))
    }
}
