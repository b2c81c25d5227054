//! [`DeletionPlan`]: the deletion of a replicated stream.

use std::ops::ControlFlow;

use crate::model::reserved::is_reserved;
use crate::model::{EventView, ExpectedRevision, StreamId, VectorClock};
use crate::retention::{DeletedEvents, Note, ReplicatedDeletion, StreamDots, is_replicated_erasure};
use crate::store::{Commit, EventReader, StoreError, StreamRead};

/// What the deletion of a replicated stream needs.
#[derive(Debug)]
pub enum DeletionPlan {
    /// Nothing: the stream has no events.
    NoEvents,
    /// Nothing: earlier deletions cover all events of the stream, or it was erased.
    Deleted,
    /// This commit. It conflicts if the stream was written in the meantime.
    Commit(Box<Commit>),
}

impl DeletionPlan {
    /// Returns what deletes the events that the stream has on this node.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails, or an event of the stream is damaged.
    pub async fn new(store: &dyn EventReader, stream: &StreamId, note: &Note) -> Result<Self, StoreError> {
        let (mut dots, mut deletions) = (StreamDots::default(), Vec::new());
        let (mut through, mut last, mut damaged) = (VectorClock::new(), None, None);
        let mut is_erased = false;
        let mut visitor = |event: EventView<'_>| {
            is_erased |= is_replicated_erasure(event);
            through.extend([dots.next(event)]);
            last = Some(event.revision());
            match ReplicatedDeletion::of(event) {
                Ok(found) => deletions.extend(found),
                Err(found) => damaged = Some(StoreError::damaged(format!("position {}", event.position()), found)),
            }
            if damaged.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        store.visit_stream(StreamRead::new(stream.clone()), &mut visitor).await?;
        if let Some(damaged) = damaged {
            return Err(damaged);
        }
        let Some(last) = last else { return Ok(Self::NoEvents) };
        if is_erased {
            return Ok(Self::Deleted);
        }
        if !deletions.is_empty() && !keeps_event(store, stream, deletions).await? {
            return Ok(Self::Deleted);
        }
        let event = ReplicatedDeletion { through, note: note.clone() }.encode();
        let event = event.map_err(|error| StoreError::io("encode a deletion", error))?;
        Ok(Self::Commit(Box::new(Commit::to(stream, ExpectedRevision::Exact(last), [event]))))
    }
}

/// Returns `true` if the stream has an event of the domain that none of these deletions covers.
async fn keeps_event(
    store: &dyn EventReader,
    stream: &StreamId,
    deletions: Vec<ReplicatedDeletion>,
) -> Result<bool, StoreError> {
    let mut deleted = DeletedEvents::new(deletions, 0);
    let mut is_kept = false;
    let mut visitor = |event: EventView<'_>| {
        is_kept = !deleted.covers_next(event) && !is_reserved(event.event_type().as_str());
        if is_kept { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.visit_stream(StreamRead::new(stream.clone()), &mut visitor).await?;
    Ok(is_kept)
}
