//! The events that delete and erase a replicated stream: [`ReplicatedDeletion`] and [`ReplicatedErasure`].

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::model::reserved::{DELETED, ERASED};
use crate::model::{Dot, EventType, EventView, NewEvent, OriginId, Revision, StreamId, SubjectId, VectorClock};
use crate::retention::{DeleteKind, Note, OperatorEvent};

/// The content of the event that deletes a replicated stream.
///
/// The event is in the stream itself, so it replicates like any other. It names the events that its node had, because
/// revisions differ between nodes. The fold skips these events, and keeps those that other nodes appended without
/// knowing of the deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicatedDeletion {
    /// For each origin, the last deleted event of the stream. The sequence of [`OriginId::GENESIS`] is the number of
    /// deleted events of the stream from before the replication, because not every node has stamps for them.
    pub through: VectorClock,
    /// Who deleted the stream, and why.
    #[serde(flatten)]
    pub note: Note,
}

impl ReplicatedDeletion {
    /// Reads an event. Returns `None` if it does not have the type of a deletion.
    ///
    /// # Errors
    /// A description of the invalid payload.
    pub fn read(event_type: &EventType, payload: &[u8]) -> Result<Option<Self>, String> {
        if *event_type != DELETED {
            return Ok(None);
        }
        let invalid = |found: String| format!("the event type {event_type:?} with {found}");
        let read: Self =
            serde_json::from_slice(payload).map_err(|error| invalid(format!("an invalid payload: {error}")))?;
        if read.through == VectorClock::new() { Err(invalid("no deleted event".to_owned())) } else { Ok(Some(read)) }
    }

    /// Returns the deletion that a recorded event is, or `None` for every other event. An event without a stamp is not
    /// replicated and deletes nothing.
    ///
    /// # Errors
    /// A description of the invalid payload.
    pub(crate) fn of(event: EventView<'_>) -> Result<Option<Self>, String> {
        match event.replicated_stamp() {
            Some(_) => Self::read(event.event_type(), event.payload()),
            None => Ok(None),
        }
    }

    /// Returns the event to append to the stream.
    ///
    /// # Errors
    /// The error of the encoder.
    pub fn encode(&self) -> Result<NewEvent, serde_json::Error> {
        Ok(NewEvent::json(EventType::well_known(DELETED), serde_json::to_vec(self)?))
    }

    /// Returns `true` if the deletion covers every event up to these. Without a clock, `events` events of the stream
    /// were all recorded before the replication.
    pub(crate) fn covers_all(&self, last: Option<&VectorClock>, events: u64) -> bool {
        match last {
            Some(last) => last.iter().all(|dot| self.through.includes(dot)),
            None => NonZeroU64::new(events)
                .is_none_or(|sequence| self.through.includes(Dot { origin: OriginId::GENESIS, sequence })),
        }
    }
}

/// The content of the event that erases a replicated stream: no node keeps an event of the stream, also not those that
/// other nodes append without knowing of the erasure, and the stream is closed.
///
/// The event is in the stream itself and is its only event afterwards. The replica of each node that stores it deletes
/// the events before it on the node, in the same commit, and stores no later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicatedErasure {
    /// The subjects of personal data whose keys every node destroys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<SubjectId>,
    /// Who erased the stream, and why.
    #[serde(flatten)]
    pub note: Note,
}

impl ReplicatedErasure {
    /// Reads an event. Returns `None` if it does not have the type of an erasure.
    ///
    /// # Errors
    /// A description of the invalid payload.
    pub fn read(event_type: &EventType, payload: &[u8]) -> Result<Option<Self>, String> {
        if *event_type != ERASED {
            return Ok(None);
        }
        let read = serde_json::from_slice(payload);
        read.map(Some).map_err(|error| format!("the event type {event_type:?} with an invalid payload: {error}"))
    }

    /// Returns the event to append to the stream, as the only event of its commit.
    ///
    /// # Errors
    /// The error of the encoder.
    pub fn encode(&self) -> Result<NewEvent, serde_json::Error> {
        Ok(NewEvent::json(EventType::well_known(ERASED), serde_json::to_vec(self)?))
    }

    /// Returns the operator events by which a node deletes a stream up to a revision, if it has events, and records the
    /// erasure of the subjects. They are local, so that views and reactors of every node receive them.
    #[must_use]
    pub fn local_events(&self, stream: &StreamId, through: Option<Revision>) -> Vec<(StreamId, NewEvent)> {
        let deleted = through.map(|_| OperatorEvent::StreamDeleted {
            stream: stream.clone(),
            kind: DeleteKind::Soft,
            through,
            note: self.note.clone(),
        });
        let erased =
            |subject: &SubjectId| OperatorEvent::SubjectErased { subject: subject.clone(), note: self.note.clone() };
        deleted.into_iter().chain(self.subjects.iter().map(erased)).map(|event| event.encode()).collect()
    }
}

/// Returns `true` if an event has the type of an erasure of a replicated stream.
pub(crate) fn is_replicated_erasure(event: EventView<'_>) -> bool {
    *event.event_type() == ERASED
}

/// The dots by which deletions name the events of one stream. Pass the events in an order in which those from before
/// the replication keep theirs.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamDots {
    /// The number of events from before the replication so far.
    genesis_events: u64,
}

impl StreamDots {
    /// Returns the dot of the next event.
    pub(crate) fn next(&mut self, event: EventView<'_>) -> Dot {
        if let Some(stamp) = event.replicated_stamp() {
            return stamp.dot;
        }
        self.genesis_events += 1;
        Dot { origin: OriginId::GENESIS, sequence: NonZeroU64::new(self.genesis_events).unwrap_or(NonZeroU64::MIN) }
    }
}

/// The events of one stream that deletions cover. Pass the events in an order in which those from before the
/// replication keep theirs.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeletedEvents {
    through: Vec<VectorClock>,
    dots: StreamDots,
}

impl DeletedEvents {
    /// Returns the events that these deletions cover. `genesis_events` events from before the replication precede the
    /// first event that is passed.
    pub(crate) fn new(deletions: impl IntoIterator<Item = ReplicatedDeletion>, genesis_events: u64) -> Self {
        let through = deletions.into_iter().map(|deletion| deletion.through).collect();
        Self { through, dots: StreamDots { genesis_events } }
    }

    /// Returns `true` if there is no deletion.
    pub(crate) const fn is_empty(&self) -> bool {
        self.through.is_empty()
    }

    /// Returns `true` if a deletion covers the next event of the stream.
    pub(crate) fn covers_next(&mut self, event: EventView<'_>) -> bool {
        let dot = self.dots.next(event);
        self.through.iter().any(|through| through.includes(dot))
    }
}
