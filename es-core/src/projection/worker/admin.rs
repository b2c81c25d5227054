//! [`ProjectionAdmin`]: administration of a projection. Each request is a row and an audit event, so it outlives the
//! process that made it and works from any process that has the store open, whether or not a worker runs.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::control::{Control, RebuildFrom, Request};
use super::parked::{ParkedEvent, ParkedKey};
use super::rows::{PAGE, RowKeys, decode, page, table};
use crate::consumer::lease::row_error;
use crate::model::reserved::AUDIT_STREAM_PREFIX;
use crate::model::{AheadOfLog, ExpectedRevision, Position, TimeAheadOfLog};
use crate::model::{Clock, Entropy, IdSource, NewEvent, SystemClock, SystemEntropy};
use crate::model::{EventType, NameError, StreamId};
use crate::projection::generation::{Generation, check_name, generations};
use crate::store::{Commit, CommitError, EventStore, StoreError, StoredRow, check_recorded_time, encode_row};

/// The number of attempts of a request that conflicts with other requests or workers.
const ATTEMPTS: usize = 64;

/// A request to a projection failed. Unless the variant says otherwise, it has no effect.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No event of this key is parked. List the parked keys again.
    #[error("projection {projection:?} has no parked event of key {key:?}; list the parked keys")]
    NotParked {
        /// The projection.
        projection: String,
        /// The key.
        key: String,
    },
    /// The event is not the first parked event of its key. Skip the first one, or list the parked events again.
    #[error(
        "projection {projection:?}: expected position {first} of the first parked event of key {key:?}, found {asked}"
    )]
    NotFirst {
        /// The projection.
        projection: String,
        /// The key.
        key: String,
        /// The position of the first parked event of the key.
        first: Position,
        /// The position that the caller named.
        asked: Position,
    },
    /// The position from which to rebuild is ahead of the log.
    #[error(transparent)]
    AheadOfLog(#[from] AheadOfLog),
    /// The time from which to rebuild is ahead of the log.
    #[error(transparent)]
    TimeAheadOfLog(#[from] TimeAheadOfLog),
    /// The request conflicted with other requests or workers on each attempt. Try again.
    #[error("projection {projection:?}: {ATTEMPTS} attempts conflicted with other changes; try again")]
    Busy {
        /// The projection.
        projection: String,
    },
    /// The store failed. The request may have been written: check the status before you repeat it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Administers one projection: pause, reset, rebuild, and the dead-letter list.
///
/// Each request is durable when its method returns and takes effect from then on: the store refuses the commits that
/// workers were preparing. Each request is recorded with its reason as an event of the stream
/// [`AUDIT_STREAM_PREFIX`]`{projection}`. That stream is for people; the framework never reads it.
#[derive(Debug, Clone)]
pub struct ProjectionAdmin {
    store: Arc<dyn EventStore>,
    projection: Arc<str>,
    keys: RowKeys,
    audit: StreamId,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// Who requests the changes.
    by: Option<Arc<str>>,
}

impl ProjectionAdmin {
    /// Creates the administration of the projection with this name.
    ///
    /// # Errors
    /// [`NameError`] if the name is not a valid projection name.
    pub fn new(store: Arc<dyn EventStore>, projection: &str) -> Result<Self, NameError> {
        check_name(projection)?;
        let audit = StreamId::new(format!("{AUDIT_STREAM_PREFIX}{projection}"))?;
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        Ok(Self {
            store,
            projection: projection.into(),
            keys: RowKeys::new(projection),
            audit,
            clock,
            entropy,
            by: None,
        })
    }

    /// Sets the clock and the entropy from which the ids of audit events are made.
    pub(crate) fn ids_from(mut self, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        (self.clock, self.entropy) = (clock, entropy);
        self
    }

    /// Records this operator as `by` in the audit events of later requests.
    #[must_use]
    pub fn requested_by(mut self, operator: Option<String>) -> Self {
        self.by = operator.map(Into::into);
        self
    }

    /// Returns the name of the projection.
    #[must_use]
    pub fn projection(&self) -> &str {
        &self.projection
    }

    /// Pauses the projection until [`resume`](Self::resume), across restarts. The view stays readable. No event is
    /// applied after this method returns.
    ///
    /// # Errors
    /// [`AdminError::Busy`] or [`AdminError::Store`].
    pub async fn pause(&self, reason: &str) -> Result<(), AdminError> {
        self.change("projection-paused", json!({ "reason": reason }), |control| control.is_paused = true).await
    }

    /// Resumes a paused projection.
    ///
    /// # Errors
    /// [`AdminError::Busy`] or [`AdminError::Store`].
    pub async fn resume(&self, reason: &str) -> Result<(), AdminError> {
        self.change("projection-resumed", json!({ "reason": reason }), |control| control.is_paused = false).await
    }

    /// Empties the view and its dead-letter list, then rebuilds the view. Readers see the partial view meanwhile. To
    /// keep the old view until the new one is complete, use [`rebuild`](Self::rebuild).
    ///
    /// # Errors
    /// [`AdminError::Busy`] or [`AdminError::Store`].
    pub async fn reset(&self, reason: &str) -> Result<(), AdminError> {
        self.request("projection-reset", json!({ "reason": reason }), Request::Reset).await
    }

    /// Builds a new generation of the view beside the active one and swaps them in one commit once the new one has
    /// caught up. A rebuild in progress starts again.
    ///
    /// # Errors
    /// [`AdminError::AheadOfLog`] if it starts after the next position of the log, [`AdminError::TimeAheadOfLog`] if it
    /// starts in the future, [`AdminError::Busy`] or [`AdminError::Store`].
    pub async fn rebuild(&self, from: RebuildFrom, reason: &str) -> Result<(), AdminError> {
        match from {
            RebuildFrom::Start => {}
            RebuildFrom::Position(position) => self.store.watch_head().check(position.previous())?,
            RebuildFrom::Time(time) => check_recorded_time(&*self.store, &*self.clock, time).await??,
        }
        self.request("projection-rebuild-started", json!({ "reason": reason, "from": from }), Request::Rebuild(from))
            .await
    }

    /// Cancels the rebuild in progress; has no effect if there is none.
    ///
    /// # Errors
    /// [`AdminError::Busy`] or [`AdminError::Store`].
    pub async fn cancel_rebuild(&self, reason: &str) -> Result<(), AdminError> {
        self.request("projection-rebuild-cancelled", json!({ "reason": reason }), Request::CancelRebuild).await
    }

    /// Requests a retry of the parked events of a key, in order. The worker reads them from the log and decodes them
    /// with its current upcasters. The key is released once all of them are applied; if one fails again, it and the
    /// later ones stay parked.
    ///
    /// # Errors
    /// [`AdminError::NotParked`], [`AdminError::Busy`] or [`AdminError::Store`].
    pub async fn retry(&self, key: &str) -> Result<(), AdminError> {
        self.settle(key, None).await
    }

    /// Skips the event that stopped a key and requests a retry of the later ones. The view then lacks that event; a
    /// rebuild applies it again.
    ///
    /// # Errors
    /// [`AdminError::NotParked`], [`AdminError::NotFirst`], [`AdminError::Busy`] or [`AdminError::Store`].
    pub async fn skip(&self, key: &str, position: Position, reason: &str) -> Result<(), AdminError> {
        self.settle(key, Some((position, reason))).await
    }

    /// Returns a page of at most `limit` parked keys: first the keys of the active generation, then the keys of the
    /// generation that is being built. A key is parked after one of its events could not be applied. `after` is the
    /// last key of the previous page.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn parked(&self, after: Option<&ParkedKey>, limit: usize) -> Result<Vec<ParkedKey>, StoreError> {
        let mut found = Vec::new();
        for generation in self.generations().await? {
            let is_before = after.is_some_and(|after| after.generation > generation);
            if is_before || found.len() >= limit {
                continue;
            }
            let after = after.filter(|after| after.generation == generation);
            let after = after.map(|after| self.keys.parked_key(generation, &after.key));
            let rows = page(&*self.store, self.keys.parked_keys(generation), after, limit - found.len()).await?;
            for row in rows {
                found.push(decode(&row.key, &row.value)?);
            }
        }
        Ok(found)
    }

    /// Returns at most `limit` parked events of a key after the position `after`, in order. If the active generation
    /// has none, returns those of the generation that is being built.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn parked_events(
        &self,
        key: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        for generation in self.generations().await? {
            let prefix = self.keys.parked_events_of(generation, key);
            let after = match after {
                Some(position) => Some(self.parked_row(generation, key, position).await?),
                None => None,
            };
            let rows = page(&*self.store, prefix, after, limit).await?;
            if !rows.is_empty() {
                return rows.iter().map(|row| decode(&row.key, &row.value)).collect();
            }
        }
        Ok(Vec::new())
    }

    /// Returns the row key of a parked event. The rows of a settled view are not in the order of positions.
    async fn parked_row(&self, generation: Generation, key: &str, position: Position) -> Result<Bytes, StoreError> {
        let mut after = None;
        loop {
            let rows = page(&*self.store, self.keys.parked_events_of(generation, key), after, PAGE).await?;
            for row in &rows {
                if decode::<ParkedEvent>(&row.key, &row.value)?.position == position {
                    return Ok(row.key.clone());
                }
            }
            match rows.last().filter(|_| rows.len() == PAGE) {
                Some(last) => after = Some(last.key.clone()),
                // The event is not parked any more.
                None => return Ok(self.keys.parked_event(generation, key, position.get())),
            }
        }
    }

    /// Returns the active generation, then the one that is being built.
    async fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        let generations = generations(&*self.store, &self.projection).await?;
        let builds = generations.active.into_iter().chain(generations.building);
        Ok(builds.map(|build| build.generation).collect())
    }

    async fn request(&self, event_type: &str, details: Value, request: Request) -> Result<(), AdminError> {
        self.change(event_type, details, |control| control.request(request)).await
    }

    async fn change(&self, event_type: &str, details: Value, change: impl Fn(&mut Control)) -> Result<(), AdminError> {
        let event = self.audit_event(event_type, details)?;
        for _ in 0..ATTEMPTS {
            let commit = self.begin(event.clone(), &change).await?;
            if self.is_committed(commit).await? {
                return Ok(());
            }
        }
        Err(self.busy())
    }

    /// Requests the retry of a key in every generation in which it is parked, and removes the skipped event from the
    /// dead-letter list.
    async fn settle(&self, key: &str, skipped: Option<(Position, &str)>) -> Result<(), AdminError> {
        let event = match skipped {
            None => self.audit_event("projection-key-retried", json!({ "key": key }))?,
            Some((position, reason)) => {
                let details = json!({ "key": key, "position": position, "reason": reason });
                self.audit_event("projection-event-skipped", details)?
            }
        };
        for _ in 0..ATTEMPTS {
            let mut commit = self.begin(event.clone(), |_| {}).await?;
            let (mut is_found, mut first) = (false, None);
            for generation in self.generations().await? {
                let parked =
                    StoredRow::<ParkedKey>::read(&*self.store, &table(), self.keys.parked_key(generation, key)).await?;
                let Some(stopped) = &parked.value else { continue };
                if let Some((position, _)) = skipped {
                    let of_key = self.keys.parked_events_of(generation, key);
                    let rows = page(&*self.store, of_key, None, 1).await?;
                    let event: Option<ParkedEvent> =
                        rows.first().map(|row| decode(&row.key, &row.value)).transpose()?;
                    first = event.as_ref().map(|event| event.position).or(first).or(Some(stopped.position));
                    let Some(row) = rows.first().filter(|_| event.is_some_and(|event| event.position == position))
                    else {
                        continue;
                    };
                    commit = commit.delete_row(table(), row.key.clone());
                }
                is_found = true;
                commit = parked.expect(commit).put_row(table(), self.keys.request(generation, key), encode_row(&key)?);
            }
            match (is_found, first, skipped) {
                (true, _, _) => {}
                (false, Some(first), Some((asked, _))) => {
                    let (projection, key) = (self.projection.to_string(), key.to_owned());
                    return Err(AdminError::NotFirst { projection, key, first, asked });
                }
                _ => {
                    return Err(AdminError::NotParked { projection: self.projection.to_string(), key: key.to_owned() });
                }
            }
            if self.is_committed(commit).await? {
                return Ok(());
            }
        }
        Err(self.busy())
    }

    /// Returns a commit that changes the control row and records the reason.
    async fn begin(&self, event: NewEvent, change: impl Fn(&mut Control)) -> Result<Commit, StoreError> {
        let held = StoredRow::<Control>::read(&*self.store, &table(), self.keys.control()).await?;
        let mut control = held.value.clone().unwrap_or_default();
        control.sequence += 1;
        change(&mut control);
        let commit = Commit::to(&self.audit, ExpectedRevision::Any, [event]);
        Ok(held.expect(commit).put_row(table(), held.key.clone(), encode_row(&control)?))
    }

    /// Returns `false` after a conflict.
    async fn is_committed(&self, commit: Commit) -> Result<bool, StoreError> {
        match self.store.commit(commit).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(row_error(error)),
        }
    }

    /// Returns an event of the audit stream.
    pub(crate) fn audit_event(&self, event_type: &str, mut details: Value) -> Result<NewEvent, StoreError> {
        if let Value::Object(fields) = &mut details {
            fields.insert("projection".to_owned(), (*self.projection).into());
            if let Some(by) = &self.by {
                fields.insert("by".to_owned(), (**by).into());
            }
        }
        let name =
            EventType::new(event_type).map_err(|error| StoreError::io("record a request to a projection", error))?;
        let id = IdSource { clock: &*self.clock, entropy: &*self.entropy }.event_id();
        Ok(NewEvent::json(name, details.to_string()).with_id(id))
    }

    fn busy(&self) -> AdminError {
        AdminError::Busy { projection: self.projection.to_string() }
    }

    pub(crate) fn audit_stream(&self) -> &StreamId {
        &self.audit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::testing::{ManualClock, SeededEntropy};

    #[test]
    fn ids_of_audit_events_come_from_the_clock_and_the_entropy() {
        let clock = || Arc::new(ManualClock::at("2026-01-31T12:00:00Z".parse().unwrap()));
        let admin = ProjectionAdmin::new(Arc::new(MemoryStore::new()), "balances").unwrap();
        let admin = admin.ids_from(clock(), Arc::new(SeededEntropy::new(7)));
        let event = admin.audit_event("projection-paused", json!({})).unwrap();
        assert_eq!(event.data.id, IdSource { clock: &*clock(), entropy: &SeededEntropy::new(7) }.event_id());
    }
}
