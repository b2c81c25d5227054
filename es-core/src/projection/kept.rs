//! The events of a replicated stream that its deletion keeps, which a projection applies again after it has deleted its
//! rows.
//!
//! ```text
//!   e1  e2  e3      deletion that covers e1 and e2, applied after them --> erased(stream), apply(e3)
//! ```
//!
//! An event that is applied after the deletion was appended without knowing of it, or after it: it is applied once.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::model::{CanonicalKey, EventView, Position, RecordedEvent, StreamId};
use crate::retention::{DeletedEvents, ReplicatedDeletion};
use crate::store::{EventReader, StoreError, StreamRead};

/// The order in which a projection applies events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppliedOrder {
    /// The order of the log of this node.
    Log,
    /// The canonical order.
    Canonical,
}

/// The place of an event in the order in which a projection applies events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    order: AppliedOrder,
    position: Position,
    key: CanonicalKey,
}

/// The events that a deletion keeps, or the reason why they cannot be read.
pub(crate) type KeptResult = Result<Arc<[RecordedEvent]>, String>;

/// The reason why a mode without replicated streams cannot apply a deletion of one.
pub(crate) const NO_KEPT_EVENTS: &str = "an inline projection follows no replicated stream";

impl AppliedOrder {
    fn place(self, event: EventView<'_>) -> Place {
        Place { order: self, position: event.position(), key: event.canonical_key() }
    }

    /// Returns `true` if an event of a stream is applied before another one of it.
    pub(crate) fn is_before(self, event: EventView<'_>, other: EventView<'_>) -> bool {
        self.place(event).is_before(self.place(other))
    }
}

impl Place {
    fn is_before(self, other: Self) -> bool {
        match self.order {
            AppliedOrder::Log => self.position < other.position,
            AppliedOrder::Canonical => (self.key, self.position) < (other.key, other.position),
        }
    }
}

/// Returns whether an event is the deletion of a replicated stream.
pub(crate) fn is_replicated_deletion(event: EventView<'_>) -> bool {
    matches!(ReplicatedDeletion::of(event), Ok(Some(_)))
}

/// Returns the deletions of a replicated stream, in the order of the log.
pub(crate) async fn deletions_of(store: &dyn EventReader, stream: &StreamId) -> Result<Vec<RecordedEvent>, StoreError> {
    let mut deletions = Vec::new();
    let mut visitor = |event: EventView<'_>| {
        if is_replicated_deletion(event) {
            deletions.push(event.to_recorded());
        }
        ControlFlow::Continue(())
    };
    store.visit_stream(StreamRead::new(stream.clone()), &mut visitor).await?;
    Ok(deletions)
}

/// Reads the events that are applied before a deletion of their stream, and that neither it nor an earlier deletion
/// covers.
pub(crate) async fn read_kept(
    store: &dyn EventReader,
    deletion: &RecordedEvent,
    order: AppliedOrder,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let mut kept = KeptEvents::new(&deletions_of(store, &deletion.stream).await?, deletion, order);
    let mut visitor = |event: EventView<'_>| {
        kept.add(event);
        ControlFlow::Continue(())
    };
    store.visit_stream(StreamRead::new(deletion.stream.clone()), &mut visitor).await?;
    Ok(kept.into_events())
}

/// Returns the same events as [`read_kept`] from a log with all events of the stream.
pub(crate) fn kept_of(log: &[RecordedEvent], deletion: &RecordedEvent, order: AppliedOrder) -> Vec<RecordedEvent> {
    let of_stream = || log.iter().filter(|event| event.stream == deletion.stream);
    let deletions: Vec<_> = of_stream().filter(|event| is_replicated_deletion((*event).into())).cloned().collect();
    let mut kept = KeptEvents::new(&deletions, deletion, order);
    of_stream().for_each(|event| kept.add(event.into()));
    kept.into_events()
}

/// The kept events of a stream so far. Add all events of the stream in the order of the log.
struct KeptEvents {
    place: Place,
    deleted: DeletedEvents,
    events: Vec<RecordedEvent>,
}

impl KeptEvents {
    fn new(deletions: &[RecordedEvent], deletion: &RecordedEvent, order: AppliedOrder) -> Self {
        let place = order.place(deletion.into());
        let is_applied = |event: &&RecordedEvent| !place.is_before(order.place((*event).into()));
        let applied = deletions.iter().filter(is_applied);
        let applied = applied.filter_map(|event| ReplicatedDeletion::of(event.into()).ok().flatten());
        Self { place, deleted: DeletedEvents::new(applied, 0), events: Vec::new() }
    }

    fn add(&mut self, event: EventView<'_>) {
        let is_kept = !self.deleted.covers_next(event) && self.place.order.place(event).is_before(self.place);
        if is_kept && !is_replicated_deletion(event) {
            self.events.push(event.to_recorded());
        }
    }

    fn into_events(mut self) -> Vec<RecordedEvent> {
        if self.place.order == AppliedOrder::Canonical {
            self.events.sort_by_key(RecordedEvent::canonical_key);
        }
        self.events
    }
}
