//! [`Locks`]: the streams that prepared transactions lock, and the check of commits against them.
//!
//! A lock is a row whose key is the stream. It is a function of the log: the decision that accepts an event of a
//! transaction writes or deletes the row in the same commit. [`Locks`] keeps all rows in memory, so that a commit to a
//! store without locks costs nothing.
//!
//! A commit is refused with [`FailedCheck::Locked`] if one of these concerns a locked stream:
//!
//! - an event, a deletion or an expectation, including one on a stream that the commit does not write: the transaction
//!   may have committed elsewhere, so that a decision on the old state of this stream would see half of it;
//! - an append condition that a decided event matches;
//! - a claim of a unique key that a decided event claims.
//!
//! The commit that finishes the transaction is not refused.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::reserved::{LOCKS, TX_PREPARED};
use crate::model::{
    CommitPart, EventData, EventId, EventType, KeyChange, NewEvent, RecordedEvent, StreamId, Table, TransactionId,
    UniqueKey,
};
use crate::retention::{OperatorEvent, is_reserved};
use crate::store::commit::{AppendCondition, Commit, RowChange};
use crate::store::error::{CommitError, FailedCheck, IdConflict, InvalidCommit, StoreError};
use crate::store::transaction::{Prepared, TransactionEvent, is_transaction_event};
use crate::store::view::LogView;

/// Returns the table of the locks.
fn table() -> Table {
    Table::well_known(LOCKS)
}

/// The value of a lock row.
#[derive(Serialize, Deserialize)]
struct LockRow {
    /// The payload of the prepared event. The row keeps it, because retention may remove the event.
    prepared: Box<RawValue>,
}

/// The streams of a store that prepared transactions lock.
///
/// A store reads the rows of [`Locks::rows_table`] when it is opened, before it decides on a commit.
#[derive(Debug, Default)]
pub struct Locks {
    /// The locks, including those of commits that were decided but not written. A row confirms each lock that counts.
    by_stream: BTreeMap<StreamId, Prepared>,
    /// The streams of locks whose row may have been deleted since.
    released: BTreeSet<StreamId>,
}

impl Locks {
    /// Returns the table with the rows of the locks.
    #[must_use]
    pub fn rows_table() -> Table {
        table()
    }

    /// Returns the locks of these rows of [`rows_table`](Self::rows_table), each a key and a value.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a row cannot be read.
    pub fn from_rows<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        rows: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, StoreError> {
        let mut by_stream = BTreeMap::new();
        for (key, value) in rows {
            let (stream, prepared) = read_row(key.as_ref(), value.as_ref())?;
            by_stream.insert(stream, prepared);
        }
        Ok(Self { by_stream, released: BTreeSet::new() })
    }

    /// Returns the stream and the prepared transaction of a row of [`rows_table`](Self::rows_table).
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the row cannot be read.
    pub fn read_row(key: &[u8], value: &[u8]) -> Result<(StreamId, Prepared), StoreError> {
        read_row(key, value)
    }

    /// Returns the failed checks of a commit that concern locks.
    ///
    /// # Errors
    /// - [`CommitError::Invalid`] if an event of a transaction is not where it may be.
    /// - [`CommitError::IdConflict`] if the id of a decided event is used already.
    /// - [`CommitError::Store`] if the view fails.
    pub(super) fn check(&mut self, commit: &Commit, view: &mut dyn LogView) -> Result<Vec<FailedCheck>, CommitError> {
        self.remove_released(view)?;
        let has_transaction_event =
            || commit.events().iter().any(|(_, event)| is_transaction_event(&event.data.event_type));
        if self.by_stream.is_empty() && !has_transaction_event() {
            return Ok(Vec::new());
        }
        let is_copy = commit.recorded_time().is_some();
        let mut check = LockCheck {
            locks: self,
            view,
            is_copy,
            streams: BTreeMap::new(),
            deleted: BTreeSet::new(),
            decided: BTreeSet::new(),
            failed: Vec::new(),
        };
        for (stream, event) in commit.events() {
            check.event(stream, event)?;
        }
        check.end(commit)?;
        Ok(check.failed)
    }

    /// Returns the row changes of the events of a transaction, which the commit of these events must contain.
    ///
    /// # Errors
    /// [`StoreError`] if a row cannot be encoded.
    pub(super) fn record(&mut self, events: &[RecordedEvent]) -> Result<Vec<RowChange>, StoreError> {
        let mut rows = Vec::new();
        for RecordedEvent { stream, data, .. } in events {
            let key = || Bytes::copy_from_slice(stream.as_str().as_bytes());
            match TransactionEvent::read(stream, &data.event_type, &data.payload) {
                Ok(Some(TransactionEvent::Prepared(prepared))) => {
                    let value = serde_json::from_slice(&data.payload).map(|prepared| LockRow { prepared });
                    let value = value.and_then(|row| serde_json::to_vec(&row));
                    let value = value.map_err(|error| StoreError::io("write a lock", error))?;
                    rows.push(RowChange { table: table(), key: key(), value: Some(value.into()) });
                    self.by_stream.insert(stream.clone(), prepared);
                }
                Ok(Some(TransactionEvent::Committed { .. } | TransactionEvent::Aborted { .. })) => {
                    rows.push(RowChange { table: table(), key: key(), value: None });
                    // The commit may still be refused. The next check finds out.
                    self.released.insert(stream.clone());
                }
                Ok(Some(TransactionEvent::PreCommitted { .. }) | None) | Err(_) => {}
            }
        }
        Ok(rows)
    }

    fn remove_released(&mut self, view: &mut dyn LogView) -> Result<(), StoreError> {
        for stream in std::mem::take(&mut self.released) {
            if view.row(&table(), stream.as_str().as_bytes())?.is_none() {
                self.by_stream.remove(&stream);
            }
        }
        Ok(())
    }

    /// Returns the prepared transaction that locks a stream.
    fn of(&mut self, stream: &StreamId, view: &mut dyn LogView) -> Result<Option<&Prepared>, StoreError> {
        if self.by_stream.contains_key(stream) && view.row(&table(), stream.as_str().as_bytes())?.is_none() {
            // The commit that prepared it was refused by a hook.
            self.by_stream.remove(stream);
        }
        Ok(self.by_stream.get(stream))
    }
}

fn read_row(key: &[u8], value: &[u8]) -> Result<(StreamId, Prepared), StoreError> {
    let damaged = |found: String| StoreError::damaged("a lock of a transaction", found);
    let stream = std::str::from_utf8(key).map_err(|error| damaged(error.to_string()))?;
    let stream = StreamId::new(stream).map_err(|error| damaged(error.to_string()))?;
    let row: LockRow = serde_json::from_slice(value).map_err(|error| damaged(error.to_string()))?;
    let prepared = Prepared::read(&stream, row.prepared.get().as_bytes()).map_err(damaged)?;
    Ok((stream, prepared))
}

/// The state of a stream while the events of a commit are checked in order.
enum StreamState {
    Unlocked {
        /// Whether the commit has an earlier event of the stream.
        is_written: bool,
    },
    Locked(TransactionId),
    /// The commit itself has prepared the stream.
    Prepared,
    /// The commit has committed a transaction, and these decided events must follow.
    Finishing(std::vec::IntoIter<NewEvent>),
}

/// The check of one commit.
struct LockCheck<'a> {
    locks: &'a mut Locks,
    view: &'a mut dyn LogView,
    /// Whether the commit was copied from another log, which has decided on it. Its decided events may have more tags.
    is_copy: bool,
    streams: BTreeMap<StreamId, StreamState>,
    /// The streams that the commit deletes.
    deleted: BTreeSet<StreamId>,
    /// The ids of the decided events of the transactions that the commit prepares.
    decided: BTreeSet<EventId>,
    failed: Vec<FailedCheck>,
}

impl LockCheck<'_> {
    /// Returns the state of a stream that the commit has not written so far.
    fn first_state(&mut self, stream: &StreamId) -> Result<StreamState, StoreError> {
        let lock = self.locks.of(stream, self.view)?;
        Ok(match lock {
            Some(prepared) => StreamState::Locked(prepared.transaction.clone()),
            None => StreamState::Unlocked { is_written: false },
        })
    }

    /// Checks the next event of the commit.
    fn event(&mut self, stream: &StreamId, event: &NewEvent) -> Result<(), CommitError> {
        let misplaced = |found: &str| {
            let (id, stream, found) = (event.data.id, stream.clone(), found.to_owned());
            Err(InvalidCommit::Reserved { id, stream, found }.into())
        };
        self.deletion(stream, event)?;
        let state = match self.streams.remove(stream) {
            Some(state) => state,
            None => self.first_state(stream)?,
        };
        let read = TransactionEvent::read(stream, &event.data.event_type, &event.data.payload);
        let transaction_event = read.or_else(|found| misplaced(&found).map(|()| None))?;
        if transaction_event.is_some() && event.data.stamp.is_some() {
            return misplaced("an event of a transaction in a replicated stream; its aggregate has no single order");
        }
        let next = match (state, transaction_event) {
            (StreamState::Finishing(mut decided), None) => match decided.next() {
                Some(expected) if self.is_decided(&expected, event) => StreamState::Finishing(decided),
                _ => return misplaced("an event that was not prepared in its transaction"),
            },
            (StreamState::Prepared | StreamState::Finishing(_), _) => {
                return misplaced("another event of the stream after one of a transaction");
            }
            (StreamState::Unlocked { is_written: true }, Some(TransactionEvent::Prepared(_))) => {
                return misplaced("a prepared transaction after another event of its stream");
            }
            (_, Some(TransactionEvent::Prepared(_))) if self.deleted.contains(stream) => {
                return misplaced("a prepared transaction in a stream that the commit deletes");
            }
            (StreamState::Unlocked { .. }, Some(TransactionEvent::Prepared(prepared))) => {
                self.check_decided(&prepared)?;
                StreamState::Prepared
            }
            (StreamState::Unlocked { .. }, None) => StreamState::Unlocked { is_written: true },
            // A copy may have a tombstone in place of the prepared event.
            (StreamState::Unlocked { .. }, Some(_)) if self.is_copy => StreamState::Unlocked { is_written: true },
            (StreamState::Locked(holder), Some(finishing))
                if *finishing.transaction() == holder && !matches!(finishing, TransactionEvent::Prepared(_)) =>
            {
                self.finish(stream, holder, &finishing)
            }
            (state, Some(TransactionEvent::Prepared(_)) | None) => {
                if let StreamState::Locked(holder) = &state {
                    self.fail_locked(stream, holder);
                }
                state
            }
            (state, Some(other)) => {
                let holder = match &state {
                    StreamState::Locked(holder) => Some(holder.clone()),
                    _ => None,
                };
                let transaction = other.transaction().clone();
                self.failed.push(FailedCheck::NotPrepared { stream: stream.clone(), transaction, holder });
                state
            }
        };
        self.streams.insert(stream.clone(), next);
        Ok(())
    }

    /// Returns the state of a stream after an event of the transaction that locks it.
    fn finish(&self, stream: &StreamId, holder: TransactionId, event: &TransactionEvent) -> StreamState {
        match (event, self.locks.by_stream.get(stream)) {
            (TransactionEvent::Committed { .. }, Some(prepared)) => {
                StreamState::Finishing(prepared.events.clone().into_iter())
            }
            (TransactionEvent::Aborted { .. }, _) => StreamState::Unlocked { is_written: true },
            _ => StreamState::Locked(holder),
        }
    }

    /// Returns `true` if an event of the commit is this decided event.
    fn is_decided(&self, decided: &NewEvent, event: &NewEvent) -> bool {
        let EventData { id, event_type, version, content_type, payload, keys, .. } = &decided.data;
        let data = &event.data;
        let is_same_content = (id, event_type, version) == (&data.id, &data.event_type, &data.version)
            && (content_type, payload, keys) == (&data.content_type, &data.payload, &data.keys);
        decided == event || (self.is_copy && is_same_content)
    }

    /// Checks that the ids of decided events are new.
    fn check_decided(&mut self, prepared: &Prepared) -> Result<(), CommitError> {
        for event in &prepared.events {
            if !self.decided.insert(event.data.id) {
                return Err(InvalidCommit::SameIdTwice { id: event.data.id }.into());
            }
            if let Some(position) = self.view.position_of(event.data.id)? {
                return Err(IdConflict::Taken { id: event.data.id, position }.into());
            }
        }
        Ok(())
    }

    /// Checks the stream that a deletion event names.
    fn deletion(&mut self, stream: &StreamId, event: &NewEvent) -> Result<(), StoreError> {
        if is_reserved(stream)
            && let Ok(OperatorEvent::StreamDeleted { stream, .. }) =
                OperatorEvent::read(stream, &event.data.event_type, &event.data.payload)
        {
            self.unlocked(&stream)?;
            self.deleted.insert(stream);
        }
        Ok(())
    }

    /// Fails if a stream that the commit does not write is locked.
    fn unlocked(&mut self, stream: &StreamId) -> Result<(), StoreError> {
        if let StreamState::Locked(holder) = self.first_state(stream)? {
            self.fail_locked(stream, &holder);
        }
        Ok(())
    }

    fn fail_locked(&mut self, stream: &StreamId, holder: &TransactionId) {
        let failed = FailedCheck::Locked { stream: stream.clone(), transaction: holder.clone() };
        if !self.failed.contains(&failed) {
            self.failed.push(failed);
        }
    }

    /// Checks the parts of the commit that do not depend on the order of its events.
    fn end(&mut self, commit: &Commit) -> Result<(), CommitError> {
        let unfinished = self
            .streams
            .iter()
            .find(|(_, state)| matches!(state, StreamState::Finishing(decided) if !decided.as_slice().is_empty()));
        if let Some((stream, _)) = unfinished
            && let Some((_, event)) = commit.events().iter().rev().find(|(of, _)| of == stream)
        {
            let found = "a committed transaction that lacks some of its decided events".to_owned();
            return Err(InvalidCommit::Reserved { id: event.data.id, stream: stream.clone(), found }.into());
        }
        for (stream, _) in commit.expectations() {
            if !self.streams.contains_key(stream) {
                self.unlocked(stream)?;
            }
        }
        self.decided_events(commit)?;
        Ok(())
    }

    /// Checks the append conditions and the claims of unique keys against the decided events of other transactions.
    fn decided_events(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let claimed: BTreeSet<&UniqueKey> = commit.events().iter().flat_map(|(_, event)| claims(event)).collect();
        let prepared = prepared_events(commit);
        let claimed_later = prepared.iter().flat_map(|(_, prepared)| prepared.events.iter().flat_map(claims));
        let claimed: BTreeSet<&UniqueKey> = claimed.into_iter().chain(claimed_later).collect();
        if commit.append_conditions().is_empty() && claimed.is_empty() {
            return Ok(());
        }
        let concerns = |stream: &StreamId, event: &NewEvent| {
            let matches =
                |condition: &AppendCondition| condition.query.matches(stream, &event.data.event_type, &event.data.tags);
            commit.append_conditions().iter().any(matches) || claims(event).any(|key| claimed.contains(key))
        };
        let is_concerned =
            |stream: &StreamId, prepared: &Prepared| prepared.events.iter().any(|event| concerns(stream, event));
        let concerned: Vec<StreamId> = (self.locks.by_stream.iter())
            .filter(|(stream, prepared)| !self.streams.contains_key(*stream) && is_concerned(stream, prepared))
            .map(|(stream, _)| stream.clone())
            .collect();
        concerned.iter().try_for_each(|stream| self.unlocked(stream))
    }
}

/// Returns the unique keys that an event claims.
fn claims(event: &NewEvent) -> impl Iterator<Item = &UniqueKey> {
    event.data.keys.iter().filter(|change| matches!(change, KeyChange::Claim(_))).map(KeyChange::key)
}

/// Returns the prepared transactions of a commit with their streams.
pub(super) fn prepared_events(commit: &Commit) -> Vec<(&StreamId, Prepared)> {
    let is_prepared = |event_type: &EventType| event_type == TX_PREPARED;
    let events = commit.events().iter().filter(|(_, event)| is_prepared(&event.data.event_type));
    events.filter_map(|(stream, event)| Some((stream, Prepared::read(stream, &event.data.payload).ok()?))).collect()
}

/// Returns the commit with the decided events of the transactions that it prepares, as if it committed them. Returns
/// `None` if it prepares none.
pub(super) fn as_committed(commit: &Commit) -> Option<Commit> {
    let prepared = prepared_events(commit);
    if prepared.is_empty() {
        return None;
    }
    let mut committed = Commit::new();
    for (stream, Prepared { events, .. }) in prepared {
        committed = events.into_iter().fold(committed, |committed, event| committed.append(stream.clone(), event));
    }
    Some(committed)
}

/// Returns the decided events of the transactions that these events prepare, numbered as if the next commit wrote them.
/// After a pre-commit, their revisions in the log are greater by one.
pub(super) fn decided_records(events: &[RecordedEvent]) -> Vec<RecordedEvent> {
    let mut decided = Vec::new();
    let Some(mut position) = events.last().map(|last| last.position) else { return decided };
    for record in events.iter().filter(|record| record.data.event_type == TX_PREPARED) {
        let Ok(prepared) = Prepared::read(&record.stream, &record.data.payload) else { continue };
        // The event of the outcome has the next revision.
        let mut revision = record.revision.next();
        let size = u32::try_from(prepared.events.len()).unwrap_or(u32::MAX).saturating_add(1);
        for (index, NewEvent { data, occurred_at }) in (1..).zip(prepared.events) {
            (position, revision) = (position.next(), revision.next());
            decided.push(RecordedEvent {
                position,
                stream: record.stream.clone(),
                revision,
                recorded_at: record.recorded_at,
                occurred_at: occurred_at.unwrap_or(record.recorded_at),
                part: CommitPart { index, size },
                data,
            });
        }
    }
    decided
}
