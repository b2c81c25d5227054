//! [`ProjectionAdmin`]: the verbs for a projection. They are rows and events, so that they outlive whoever gave them, and work from any
//! process that has the store, whether a worker runs or not.

use std::sync::Arc;

use serde_json::{Value, json};

use super::control::{Control, RebuildFrom, Wish};
use super::parked::{ParkedEvent, ParkedKey};
use super::rows::{RowKeys, StoredRow, decode, encode, page, table};
use crate::model::NewEvent;
use crate::model::reserved::AUDIT_STREAM_PREFIX;
use crate::model::{EventType, NameError, StreamId};
use crate::model::{ExpectedRevision, Position};
use crate::projection::generation::{Generation, check_name, generations};
use crate::store::{Commit, CommitError, EventStore, StoreError};

/// How often a verb is tried anew when another verb or a worker was faster.
const ATTEMPTS: usize = 64;

/// Why a verb did nothing, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No event of this key is parked. Look at the list anew.
    #[error("projection {projection:?}: no event of key {key:?} is parked; list what is")]
    NotParked {
        /// The projection.
        projection: String,
        /// The key.
        key: String,
    },
    /// The event is not the first that is parked of its key. Skip the first, or look at the list anew.
    #[error(
        "projection {projection:?}: expected the event that stopped key {key:?}, at position {first}, found position {asked}"
    )]
    NotFirst {
        /// The projection.
        projection: String,
        /// The key.
        key: String,
        /// The position of the first parked event of the key.
        first: Position,
        /// What was asked for.
        asked: Position,
    },
    /// Others were faster each time. Try again.
    #[error("projection {projection:?}: others changed it at the same time, {ATTEMPTS} times; try again")]
    Busy {
        /// The projection.
        projection: String,
    },
    /// The store failed. Whether the verb counts is not known: look at the status, and give it again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The verbs for one projection.
///
/// Each is durable when it returns, holds from then on (what a worker had on its way is refused), and is recorded with its reason
/// as an event of the stream [`AUDIT_STREAM_PREFIX`]`{projection}`. That stream is for people: nothing is ever read back from it.
#[derive(Debug, Clone)]
pub struct ProjectionAdmin {
    store: Arc<dyn EventStore>,
    projection: Arc<str>,
    keys: RowKeys,
    audit: StreamId,
}

impl ProjectionAdmin {
    /// The verbs for the projection of this name.
    ///
    /// # Errors
    /// [`NameError`] when no projection can have this name.
    pub fn new(store: Arc<dyn EventStore>, projection: &str) -> Result<Self, NameError> {
        check_name(projection)?;
        let audit = StreamId::new(format!("{AUDIT_STREAM_PREFIX}{projection}"))?;
        Ok(Self { store, projection: projection.into(), keys: RowKeys::new(projection), audit })
    }

    /// The name of the projection.
    #[must_use]
    pub fn projection(&self) -> &str {
        &self.projection
    }

    /// Lets the projection stand still, until [`resume`](Self::resume), also through restarts. The view is read as before. When
    /// this returns, nothing more is applied.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn pause(&self, reason: &str) -> Result<(), AdminError> {
        self.change("projection-paused", json!({ "reason": reason }), |control| control.is_paused = true).await
    }

    /// Lets a paused projection go on.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn resume(&self, reason: &str) -> Result<(), AdminError> {
        self.change("projection-resumed", json!({ "reason": reason }), |control| control.is_paused = false).await
    }

    /// Has the view emptied and built anew, with the view open to readers meanwhile, as far as it is. The dead-letter list is
    /// emptied as well. To keep the old view until the new one is there, [`rebuild`](Self::rebuild).
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn reset(&self, reason: &str) -> Result<(), AdminError> {
        self.wish("projection-reset", json!({ "reason": reason }), Wish::Reset).await
    }

    /// Has the view built anew beside the one that is read, which goes on until the new one has caught up with it and takes
    /// its place in one commit. A rebuild that is under way already begins anew.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn rebuild(&self, from: RebuildFrom, reason: &str) -> Result<(), AdminError> {
        self.wish("projection-rebuild-started", json!({ "reason": reason, "from": from }), Wish::Rebuild(from)).await
    }

    /// Gives up a rebuild. Nothing happens where there is none.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn cancel_rebuild(&self, reason: &str) -> Result<(), AdminError> {
        self.wish("projection-rebuild-cancelled", json!({ "reason": reason }), Wish::CancelRebuild).await
    }

    /// Has the parked events of a key tried again, in order, read anew from the log and through the upcasters of the code that
    /// runs now. The key is free when all of them are applied; when one fails again, it and the later ones stay parked.
    ///
    /// # Errors
    /// [`AdminError::NotParked`], or another [`AdminError`].
    pub async fn retry(&self, key: &str) -> Result<(), AdminError> {
        self.settle(key, None).await
    }

    /// Skips the event that stopped a key, for good, and has the later ones tried. The view is then one without that event; a
    /// rebuild meets it again.
    ///
    /// # Errors
    /// [`AdminError::NotParked`], [`AdminError::NotFirst`], or another [`AdminError`].
    pub async fn skip(&self, key: &str, position: Position, reason: &str) -> Result<(), AdminError> {
        self.settle(key, Some((position, reason))).await
    }

    /// The keys that stand still, at most `limit`, in an order of their own; `after` is the last one of the page before. Those
    /// of the view that is read, then those of one that is being built.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
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

    /// The parked events of a key, in order, at most `limit`, behind the position `after`. Those of the view that is read; where
    /// it has none, those of one that is being built.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub async fn parked_events(
        &self,
        key: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        for generation in self.generations().await? {
            let prefix = self.keys.parked_events_of(generation, key);
            let after = after.map(|position| self.keys.parked_event(generation, key, position));
            let rows = page(&*self.store, prefix, after, limit).await?;
            if !rows.is_empty() {
                return rows.iter().map(|row| decode(&row.key, &row.value)).collect();
            }
        }
        Ok(Vec::new())
    }

    /// What is read, then what is built.
    async fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        let generations = generations(&*self.store, &self.projection).await?;
        let builds = generations.active.into_iter().chain(generations.building);
        Ok(builds.map(|build| build.generation).collect())
    }

    async fn wish(&self, event_type: &str, details: Value, wish: Wish) -> Result<(), AdminError> {
        self.change(event_type, details, |control| control.wish(wish)).await
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

    /// Asks for the retry of a key in every generation in which it is parked, without the event at a position.
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
                let parked = StoredRow::<ParkedKey>::read(&*self.store, self.keys.parked_key(generation, key)).await?;
                let Some(stopped) = &parked.value else { continue };
                if let Some((position, _)) = skipped {
                    let of_key = self.keys.parked_events_of(generation, key);
                    let rows = page(&*self.store, of_key, None, 1).await?;
                    let event: Option<ParkedEvent> =
                        rows.first().map(|row| decode(&row.key, &row.value)).transpose()?;
                    first = event.as_ref().map(|event| event.position).or(first).or(Some(stopped.position));
                    if event.is_none_or(|event| event.position != position) {
                        continue;
                    }
                    commit = commit.delete_row(table(), self.keys.parked_event(generation, key, position));
                }
                is_found = true;
                commit = parked.expect(commit).put_row(table(), self.keys.request(generation, key), encode(&key)?);
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

    /// A commit that changes the control row as it is now, and records why.
    async fn begin(&self, event: NewEvent, change: impl Fn(&mut Control)) -> Result<Commit, StoreError> {
        let held = StoredRow::<Control>::read(&*self.store, self.keys.control()).await?;
        let mut control = held.value.clone().unwrap_or_default();
        control.verbs += 1;
        change(&mut control);
        let commit = Commit::to(&self.audit, ExpectedRevision::Any, [event]);
        Ok(held.expect(commit).put_row(table(), held.key.clone(), encode(&control)?))
    }

    /// `false` where somebody else was faster.
    async fn is_committed(&self, commit: Commit) -> Result<bool, StoreError> {
        match self.store.commit(commit).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(super::claim::store_error(error)),
        }
    }

    pub(crate) fn audit_event(&self, event_type: &str, details: Value) -> Result<NewEvent, StoreError> {
        audit_event(&self.projection, event_type, details)
    }

    fn busy(&self) -> AdminError {
        AdminError::Busy { projection: self.projection.to_string() }
    }

    pub(crate) fn audit_stream(&self) -> &StreamId {
        &self.audit
    }
}

/// An event of the audit stream.
pub(crate) fn audit_event(projection: &str, event_type: &str, mut details: Value) -> Result<NewEvent, StoreError> {
    if let Value::Object(fields) = &mut details {
        fields.insert("projection".to_owned(), projection.into());
    }
    let name = EventType::new(event_type).map_err(|error| StoreError::io("record a verb", error))?;
    Ok(NewEvent::json(name, details.to_string()))
}
