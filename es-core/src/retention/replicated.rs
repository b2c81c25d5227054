//! [`ReplicatedDeletion`]: the event that deletes a replicated stream.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::model::reserved::DELETED;
use crate::model::{Dot, EventType, EventView, NewEvent, OriginId, VectorClock};
use crate::retention::Note;

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

/// The dots by which deletions name the events of one stream. Pass the events in an order in which those from before the
/// replication keep theirs.
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

/// The events of one stream that deletions cover. Pass the events in an order in which those from before the replication
/// keep theirs.
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
