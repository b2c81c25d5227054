//! Retrying parked keys on request of an operator.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::follower::{BatchResult, CommitRefusal, FollowError, Follower, delete, put, unexpected};
use super::parked::{ParkedEvent, ParkedKey};
use super::rows::{PAGE, StoredRow, decode, encode, page};
use crate::model::Position;
use crate::model::RecordedEvent;
use crate::projection::{Projection, partition_of};
use crate::store::{LogRead, StoreError};

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

    /// Applies the parked events of a key in order, and releases the key after the last one.
    async fn retry_key(&mut self, key: &str, request: Bytes) -> Result<(), FollowError> {
        let pipeline = Arc::clone(&self.pipeline);
        let generation = self.generation();
        let mut most = usize::try_from(pipeline.options.batch).unwrap_or(PAGE).min(PAGE);
        let mut conflicts = 0;
        while !self.is_stopped() {
            let rows = page(&*pipeline.store, pipeline.keys.parked_events_of(generation, key), None, most).await?;
            if rows.is_empty() {
                let free = vec![delete(pipeline.keys.parked_key(generation, key)), delete(request)];
                self.commit(None, free, None).await.map_err(unexpected)?;
                self.parked.note(key, false);
                tracing::info!(projection = P::NAME, key, "key is free again");
                return Ok(());
            }
            let mut found = Vec::new();
            for row in &rows {
                let parked: ParkedEvent = decode(&row.key, &row.value)?;
                found.push(self.read_event(parked.position).await?);
            }
            let _turn = self.turn(&pipeline, conflicts).await;
            let existing = found.iter().flatten();
            let failure = match self.fold(existing, &BTreeSet::new()).await? {
                BatchResult::Failed(failure) => failure,
                BatchResult::Applied(taken, changes) => {
                    let last = found.iter().flatten().nth(taken.wrapping_sub(1)).map(|event| event.position);
                    let is_all = taken == found.iter().flatten().count();
                    let settled = rows.iter().zip(&found).filter(|(_, event)| {
                        // A scavenge removed the event from the log: there is nothing to apply.
                        event.as_ref().map_or(is_all, |event| Some(event.position) <= last)
                    });
                    let settled: Vec<_> = settled.map(|(row, _)| delete(row.key.clone())).collect();
                    match self.commit(Some(changes), settled, None).await {
                        Ok(()) => {
                            conflicts = 0;
                            continue;
                        }
                        Err(CommitRefusal::RowsChanged) => {
                            conflicts += 1;
                            continue;
                        }
                        Err(CommitRefusal::Invalid(_)) if most > 1 => {
                            most /= 2;
                            continue;
                        }
                        Err(CommitRefusal::Invalid(reason)) => reason,
                        Err(CommitRefusal::Follow(error)) => return Err(error),
                    }
                }
            };
            let first = found.iter().flatten().next().map(|event| event.position);
            return self.keep_parked(key, first, failure, request).await;
        }
        Ok(())
    }

    async fn keep_parked(
        &mut self,
        key: &str,
        position: Option<Position>,
        failure: String,
        request: Bytes,
    ) -> Result<(), FollowError> {
        let row = self.pipeline.keys.parked_key(self.generation(), key);
        let parked = StoredRow::<ParkedKey>::read(&*self.pipeline.store, row.clone()).await?.value;
        let mut changes = vec![delete(request)];
        if let Some(mut parked) = parked {
            tracing::warn!(projection = P::NAME, key, error = failure, "key stays parked");
            parked.position = position.unwrap_or(parked.position);
            (parked.error, parked.attempts) = (failure, parked.attempts.saturating_add(1));
            parked.last_attempt = self.pipeline.clock.now();
            changes.push(put(row, encode(&parked)?));
        }
        self.commit(None, changes, None).await.map_err(unexpected)
    }

    /// Returns the event at a position; `None` if it was removed from the log.
    async fn read_event(&self, position: Position) -> Result<Option<RecordedEvent>, StoreError> {
        let mut found = self.pipeline.store.read_log(LogRead::all().from(position).limit(1)).await?;
        Ok(found.next().await?.filter(|event| event.position == position))
    }
}
