//! The events of a distributed transaction in the stream of an aggregate that takes part in it. They are the interface
//! between a store and the crate es-transaction.
//!
//! ```text
//!   es.tx-prepared { transaction, decided events }      the stream is locked: no other commit may write it
//!     |-- es.tx-pre-committed                           three-phase commit only
//!     |-- es.tx-committed, then the decided events      one commit: the stream is unlocked
//!     `-- es.tx-aborted                                 the stream is unlocked
//! ```
//!
//! A store enforces the lock in its decision on each commit, whatever writes the commit: see
//! [`FailedCheck::Locked`](crate::store::FailedCheck). What could cause the decided events to be refused is checked
//! when they are prepared: conditions, unique keys, limits, event ids, and inline projections.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::model::reserved::{PREFIX, TX_ABORTED, TX_COMMITTED, TX_PRE_COMMITTED, TX_PREPARED};
use crate::model::{ContentType, EventData, EventId, EventType, Metadata, NewEvent, StreamId, TransactionId};
use crate::schema::line;
use crate::store::{Commit, StoreError};

/// The beginning of the event types of this module.
const TYPE_PREFIX: &str = "es.tx-";

/// Returns `true` if an event type is one of a [`TransactionEvent`].
pub(crate) fn is_transaction_event(event_type: &EventType) -> bool {
    event_type.as_str().starts_with(TYPE_PREFIX)
}

/// An event of a transaction in the stream of a participating aggregate.
#[derive(Debug, Clone, PartialEq)]
pub enum TransactionEvent {
    /// The aggregate has decided on its events, and is locked.
    Prepared(Prepared),
    /// All participants are prepared.
    PreCommitted {
        /// The transaction.
        transaction: TransactionId,
    },
    /// The transaction committed. The decided events follow in the same commit.
    Committed {
        /// The transaction.
        transaction: TransactionId,
        /// Whether the outcome was decided without the coordinator.
        is_heuristic: bool,
    },
    /// The transaction aborted.
    Aborted {
        /// The transaction.
        transaction: TransactionId,
        /// Whether the outcome was decided without the coordinator.
        is_heuristic: bool,
    },
}

/// The decided events of an aggregate in a prepared transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The transaction.
    pub transaction: TransactionId,
    /// What the participant keeps with the prepared transaction.
    pub details: Value,
    /// The decided events, at least one, in order. They are written if the transaction commits.
    pub events: Vec<NewEvent>,
}

/// The payload of `es.tx-prepared`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreparedPayload {
    transaction: TransactionId,
    details: Value,
    /// The decided events, as lines of an export.
    events: Vec<Box<RawValue>>,
}

/// The payload of the other events.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomePayload {
    transaction: TransactionId,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    heuristic: bool,
}

impl TransactionEvent {
    /// Returns the transaction.
    #[must_use]
    pub const fn transaction(&self) -> &TransactionId {
        match self {
            Self::Prepared(Prepared { transaction, .. })
            | Self::PreCommitted { transaction }
            | Self::Committed { transaction, .. }
            | Self::Aborted { transaction, .. } => transaction,
        }
    }

    /// Reads an event of a stream. Returns `None` if the type is not one of these.
    ///
    /// # Errors
    /// A description of the invalid payload.
    pub fn read(stream: &StreamId, event_type: &EventType, payload: &[u8]) -> Result<Option<Self>, String> {
        if !is_transaction_event(event_type) {
            return Ok(None);
        }
        let invalid =
            |error: serde_json::Error| format!("the event type {event_type:?} with an invalid payload: {error}");
        if event_type == TX_PREPARED {
            return Prepared::read(stream, payload).map(|prepared| Some(Self::Prepared(prepared)));
        }
        let OutcomePayload { transaction, heuristic: is_heuristic } =
            serde_json::from_slice(payload).map_err(invalid)?;
        match event_type.as_str() {
            TX_PRE_COMMITTED => Ok(Some(Self::PreCommitted { transaction })),
            TX_COMMITTED => Ok(Some(Self::Committed { transaction, is_heuristic })),
            TX_ABORTED => Ok(Some(Self::Aborted { transaction, is_heuristic })),
            _ => Err(format!("the event type {event_type:?}")),
        }
    }

    /// Returns the event to append to a stream. Its id depends on the transaction, the stream and the kind of the event
    /// only, so that a repeat is recognized.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the details or an event cannot be encoded.
    pub fn encode(&self, stream: &StreamId) -> Result<NewEvent, StoreError> {
        let outcome = |heuristic| OutcomePayload { transaction: self.transaction().clone(), heuristic };
        let (event_type, payload) = match self {
            Self::Prepared(prepared) => (TX_PREPARED, prepared.encode(stream)),
            Self::PreCommitted { .. } => (TX_PRE_COMMITTED, serde_json::to_vec(&outcome(false))),
            Self::Committed { is_heuristic, .. } => (TX_COMMITTED, serde_json::to_vec(&outcome(*is_heuristic))),
            Self::Aborted { is_heuristic, .. } => (TX_ABORTED, serde_json::to_vec(&outcome(*is_heuristic))),
        };
        let payload = payload.map_err(|error| StoreError::io("encode an event of a transaction", error))?;
        let id = event_id(self.transaction(), stream, event_type);
        Ok(EventData::with_id(id, EventType::well_known(event_type), 1, ContentType::Json, payload).into())
    }
}

fn event_id(transaction: &TransactionId, stream: &StreamId, event_type: &str) -> EventId {
    // A name has no control characters.
    let name = format!("{event_type}\0{transaction}\0{stream}");
    EventId::from_uuid(Uuid::new_v5(transaction.uuid(), name.as_bytes()))
}

impl Prepared {
    /// Reads the payload of a prepared event in a stream.
    ///
    /// # Errors
    /// A description of the invalid payload.
    pub(super) fn read(stream: &StreamId, payload: &[u8]) -> Result<Self, String> {
        let invalid = |found: String| format!("the event type {TX_PREPARED:?} with {found}");
        let stored: PreparedPayload =
            serde_json::from_slice(payload).map_err(|error| invalid(format!("an invalid payload: {error}")))?;
        if stored.events.is_empty() {
            return Err(invalid("no decided event".to_owned()));
        }
        let mut events = Vec::with_capacity(stored.events.len());
        for line in &stored.events {
            let parsed = line::parse(line.get().as_bytes());
            let parsed = parsed.map_err(|fault| invalid(format!("an invalid decided event: {}", fault.message)))?;
            if parsed.stream != *stream {
                return Err(invalid(format!("a decided event of stream {:?}", parsed.stream)));
            }
            if !parsed.has_id {
                return Err(invalid("a decided event without an id".to_owned()));
            }
            let event_type = parsed.event.data.event_type.as_str();
            if event_type.starts_with(PREFIX) {
                return Err(invalid(format!("a decided event of the type {event_type:?}")));
            }
            events.push(parsed.event);
        }
        Ok(Self { transaction: stored.transaction, details: stored.details, events })
    }

    fn encode(&self, stream: &StreamId) -> Result<Vec<u8>, serde_json::Error> {
        let events = self.events.iter().map(|event| line::of_new_event(stream, event)).collect::<Result<_, _>>()?;
        let (transaction, details) = (self.transaction.clone(), self.details.clone());
        serde_json::to_vec(&PreparedPayload { transaction, details, events })
    }

    /// Adds an event of this transaction for a stream to a commit, with metadata, and the decided events if it commits.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the event cannot be encoded.
    pub fn finish(
        &self,
        stream: &StreamId,
        event: &TransactionEvent,
        metadata: Metadata,
        commit: Commit,
    ) -> Result<Commit, StoreError> {
        let commit = commit.append(stream.clone(), event.encode(stream)?.with_metadata(metadata));
        let decided = match event {
            TransactionEvent::Committed { .. } => &self.events[..],
            _ => &[],
        };
        Ok(decided.iter().fold(commit, |commit, event| commit.append(stream.clone(), event.clone())))
    }
}

impl Commit {
    /// Returns a commit that prepares the events of this one in a transaction: each stream gets one event with its
    /// decided events. Expectations and conditions stay. The rows belong to the preparation: they change
    /// whatever the outcome is.
    ///
    /// # Errors
    /// [`StoreError::Io`] if an event cannot be encoded.
    pub fn prepare(self, transaction: &TransactionId, details: &Value) -> Result<Self, StoreError> {
        let mut streams: Vec<(StreamId, Vec<NewEvent>)> = Vec::new();
        for (stream, event) in &self.events {
            match streams.iter_mut().find(|(known, _)| known == stream) {
                Some((_, events)) => events.push(event.clone()),
                None => streams.push((stream.clone(), vec![event.clone()])),
            }
        }
        let mut prepared = Self { events: Vec::with_capacity(streams.len()), ..self };
        for (stream, events) in streams {
            let (transaction, details) = (transaction.clone(), details.clone());
            let event = TransactionEvent::Prepared(Prepared { transaction, details, events }).encode(&stream)?;
            prepared.events.push((stream, event));
        }
        Ok(prepared)
    }
}
