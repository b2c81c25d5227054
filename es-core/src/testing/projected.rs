//! Tests of projections as sentences.

use std::collections::BTreeSet;

use crate::aggregate::Aggregate;
use crate::model::ErrorChain;
use crate::model::StreamId;
use crate::model::{CommitPart, EventData, EventId, Metadata, RecordedEvent, Timestamp, to_stored_precision};
use crate::model::{Position, Revision};
use crate::projection::view::MemoryViews;
use crate::projection::{ApplyFailure, BatchApplier, Projection};
use crate::schema::Event;

/// Begins a test of a projection: add events, [`project`](GivenEvents::project) them, and compare the views. Needs
/// neither a store nor a runtime.
///
/// Each event is encoded and decoded as in a log. For an example see [`view`](crate::projection::view).
#[must_use]
pub fn given_events() -> GivenEvents {
    GivenEvents { records: Vec::new(), now: Timestamp::UNIX_EPOCH, metadata: Metadata::new() }
}

/// The log of a test of a projection.
#[derive(Debug, Clone)]
pub struct GivenEvents {
    records: Vec<RecordedEvent>,
    now: Timestamp,
    metadata: Metadata,
}

impl GivenEvents {
    /// Sets the time of the events that follow. The initial time is the start of 1970.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.now = to_stored_precision(now);
        self
    }

    /// Sets the metadata of the events that follow.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Appends events of the aggregate with this id.
    ///
    /// # Panics
    /// If the id is no valid part of a stream name, or an event cannot be encoded.
    #[must_use]
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an id is often a literal: the test reads better without a reference"
    )]
    pub fn of<A: Aggregate>(self, id: A::Id, events: impl IntoIterator<Item = A::Event>) -> Self {
        let stream = A::stream(&id).unwrap_or_else(|error| panic!("the id has no stream: {error}"));
        self.in_stream(stream.as_str(), events)
    }

    /// Appends events of any type to the stream with this name, for projections of
    /// [`RawEvents`](crate::aggregate::RawEvents).
    ///
    /// # Panics
    /// If the name is invalid, or an event cannot be encoded.
    #[must_use]
    #[track_caller]
    pub fn in_stream<E: Event>(mut self, stream: &str, events: impl IntoIterator<Item = E>) -> Self {
        let stream = StreamId::new(stream).unwrap_or_else(|error| panic!("the name of the stream: {error}"));
        for event in events {
            let record = self.record(&stream, &event);
            self.records.push(record);
        }
        self
    }

    #[track_caller]
    fn record<E: Event>(&self, stream: &StreamId, event: &E) -> RecordedEvent {
        let encoded =
            event.encode().unwrap_or_else(|error| panic!("the event cannot be written: {}", ErrorChain(&error)));
        let last = self.records.iter().rev().find(|record| record.stream == *stream).map(|record| record.revision);
        RecordedEvent {
            position: self.records.last().map_or(Position::FIRST, |record| record.position.next()),
            stream: stream.clone(),
            revision: Revision::following(last),
            recorded_at: self.now,
            occurred_at: self.now,
            part: CommitPart { index: 0, size: 1 },
            data: EventData { metadata: self.metadata.clone(), ..encoded.into_data(EventId::new()) },
        }
    }

    /// Projects those of the events that the query of the projection lets through, once as one batch and once one by
    /// one.
    ///
    /// # Panics
    /// When the two differ: then `apply` depends on something else than its arguments.
    #[must_use = "say what is expected with one of the `then` methods"]
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a projection is often a unit type: the sentence reads better without a sign"
    )]
    pub fn project<P: Projection>(&self, projection: P) -> Projected {
        let query = projection.query();
        let events: Vec<&RecordedEvent> = self.records.iter().filter(|event| query.matches_event(event)).collect();
        let held = BTreeSet::new();
        let (mut at_once, mut one_by_one) = (MemoryViews::default(), MemoryViews::default());
        let result = at_once.fold(BatchApplier::new(&projection, events.iter().copied(), &held));
        let each = events.iter().try_for_each(|event| one_by_one.fold(BatchApplier::new(&projection, [*event], &held)));
        match (result, each) {
            (Ok(()), Ok(())) => {
                assert_eq!(
                    at_once, one_by_one,
                    "expected the same rows from one batch (left) and event by event (right)"
                );
                Projected(Ok(at_once))
            }
            (Err((index, failure)), Err(_)) => Projected(Err((index, failure))),
            (at_once, each) => {
                panic!("expected the same from one batch and event by event, found {at_once:?} and {each:?}")
            }
        }
    }
}

/// What a projection made of events, to be compared with what is expected. The methods panic, at the place of the call,
/// where it is something else.
#[derive(Debug)]
pub struct Projected(Result<MemoryViews, (usize, ApplyFailure)>);

impl Projected {
    /// Looks at the views.
    #[track_caller]
    pub fn then(self, look: impl FnOnce(&MemoryViews)) -> Self {
        match &self.0 {
            Ok(views) => look(views),
            Err((index, failure)) => {
                panic!("expected the events to be applied, found event {index} to fail: {}", ErrorChain(failure))
            }
        }
        self
    }

    /// Expects that an event cannot be applied, and looks at the reason.
    #[track_caller]
    pub fn then_failed(self, look: impl FnOnce(&ApplyFailure)) -> Self {
        match &self.0 {
            Err((_, failure)) => look(failure),
            Ok(_) => panic!("expected an event to fail, found all of them applied"),
        }
        self
    }
}
