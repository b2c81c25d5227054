//! Finds the conflicts of an event of a replicated stream, and answers them.
//!
//! A conflict is a pair of events that were decided without knowing of each other. The pair is the same on every node,
//! whatever other events the node has, so its dots identify the conflict. Each event is examined against the events
//! that the node stored before it. Every pair is therefore examined after the node has stored the second of its events,
//! which may be the first in canonical order.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::aggregate::conflict::AnswerConflict;
use crate::aggregate::repository::command_id::Binding;
use crate::aggregate::repository::error::LoadError;
use crate::aggregate::repository::load::{Loader, MAX_SORTED_EVENTS};
use crate::aggregate::repository::loaded::{Loaded, decode, deletion};
use crate::aggregate::repository::{ExecuteError, Repository};
use crate::aggregate::{Evolve, Resolve};
use crate::model::{Dot, EventView, OriginId, RecordedEvent, Stamp, VectorClock};
use crate::retention::DeletedEvents;
use crate::store::StreamRead;

impl<A: Resolve> Repository<A> {
    /// Answers the conflicts of a recorded event with the events that this node stored before it.
    pub(crate) async fn answer_conflicts_of(&self, record: &RecordedEvent) -> Result<(), ExecuteError<Infallible>> {
        let stream = &record.stream;
        let Some((id, stamp)) = A::id_of(stream).zip(record.data.stamp.as_deref()) else { return Ok(()) };
        let mut loaded = self.load_stream(&id, stream).await?;
        let others = self.loader.conflicting_with(record, stamp, &loaded).await?;
        let event = Arc::new(decode::<A>(record.into())?);
        for other in others {
            let Some(dot) = other.data.stamp.as_ref().map(|stamp| stamp.dot) else { continue };
            let other_event = Arc::new(decode::<A>((&other).into())?);
            let (command, [earlier, later]) = if other.canonical_key() < record.canonical_key() {
                (AnswerConflict { earlier: other_event, later: Arc::clone(&event) }, [dot, stamp.dot])
            } else {
                (AnswerConflict { earlier: Arc::clone(&event), later: other_event }, [stamp.dot, dot])
            };
            // A command without events would write a row.
            if command.answer(&id, &loaded.state).events().is_empty() {
                continue;
            }
            let executed = self.execute(&id, command).answering(earlier, later)?.await?;
            tracing::debug!(%stream, %earlier, %later, outcome = ?executed.outcome, "conflict answered");
            // Not the state of `executed`, which is a past state if another node has answered the conflict.
            loaded = self.load_stream(&id, stream).await?;
        }
        Ok(())
    }
}

/// Returns the stamp of an event that can conflict with others. An event from before the replication, an event of a
/// repeated command, and an answer to a conflict cannot; neither can an event that a deletion covers.
fn stamp_in_conflicts<'a, A>(event: EventView<'a>, loaded: &Loaded<A>) -> Option<&'a Stamp> {
    let stamp = event.replicated_stamp()?;
    let is_answer = stamp.command.as_ref().is_some_and(Binding::is_of_answer);
    let counts = loaded.history.as_ref().is_none_or(|history| history.counts(event));
    (counts && !is_answer).then_some(stamp)
}

/// Returns `true` if two events of one stream were decided without knowing of each other. The node has stored the event
/// with the dot `other` before the event with `stamp`. A node stores an event after its causes, so `other` does not
/// know of the event.
fn is_concurrent(stamp: &Stamp, seen: &VectorClock, other: Dot) -> bool {
    other.origin != stamp.dot.origin && !seen.includes(other)
}

impl<A: Evolve> Loader<A> {
    /// Returns the events that conflict with an event and that this node stored before it, in canonical order. `loaded`
    /// is the current state.
    ///
    /// Reads the stream up to the event, unless no event of the stream is concurrent with it.
    async fn conflicting_with(
        &self,
        record: &RecordedEvent,
        stamp: &Stamp,
        loaded: &Loaded<A>,
    ) -> Result<Vec<RecordedEvent>, LoadError> {
        let Some(history) = &loaded.history else { return Ok(Vec::new()) };
        if stamp_in_conflicts(record.into(), loaded).is_none() || record.revision < loaded.begins {
            return Ok(Vec::new());
        }
        let seen = self.seen_by(record, stamp).await?;
        let mut last = history.origins().iter().filter(|dot| dot.origin != OriginId::GENESIS);
        if !last.any(|dot| is_concurrent(stamp, &seen, dot)) {
            return Ok(Vec::new());
        }
        let mut deleted = self.deleted_events(record, loaded).await?;
        let mut events = Vec::new();
        let (mut has_too_many, mut is_deleted) = (false, false);
        let mut visitor = |event: EventView<'_>| {
            let is_covered = deleted.covers_next(event);
            if event.revision() >= record.revision {
                is_deleted = is_covered;
                return ControlFlow::Break(());
            }
            if is_covered {
                return ControlFlow::Continue(());
            }
            let other = stamp_in_conflicts(event, loaded);
            if other.is_some_and(|other| is_concurrent(stamp, &seen, other.dot)) {
                has_too_many = events.len() == MAX_SORTED_EVENTS;
                if has_too_many {
                    return ControlFlow::Break(());
                }
                events.push(event.to_recorded());
            }
            ControlFlow::Continue(())
        };
        let read = StreamRead::new(record.stream.clone()).from(loaded.begins);
        self.store.visit_stream(read, &mut visitor).await?;
        if is_deleted {
            return Ok(Vec::new());
        }
        if has_too_many {
            return Err(LoadError::TooManyEvents { stream: record.stream.clone(), max: MAX_SORTED_EVENTS });
        }
        events.sort_by_key(RecordedEvent::canonical_key);
        Ok(events)
    }

    /// Returns the events of the stream of an event that deletions cover.
    async fn deleted_events(&self, record: &RecordedEvent, loaded: &Loaded<A>) -> Result<DeletedEvents, LoadError> {
        let (mut deletions, mut failed) = (Vec::new(), None);
        let mut visitor = |event: EventView<'_>| match deletion(event) {
            Ok(found) => {
                deletions.extend(found);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        let read = StreamRead::new(record.stream.clone()).from(loaded.begins);
        self.store.visit_stream(read, &mut visitor).await?;
        failed.map_or_else(|| Ok(DeletedEvents::new(deletions, 0)), Err)
    }

    /// Returns everything that the node of an event had seen: its vector clock, or that of the first event of its
    /// commit in the stream, with the retired origins.
    async fn seen_by(&self, record: &RecordedEvent, stamp: &Stamp) -> Result<VectorClock, LoadError> {
        if let Some(seen) = &stamp.seen {
            return Ok(self.retired.expand(stamp.dot, seen).into_owned());
        }
        let mut found = VectorClock::new();
        let mut visitor = |event: EventView<'_>| {
            let seen = event.stamp().filter(|other| other.dot.origin == stamp.dot.origin).map(|other| &other.seen);
            match seen {
                Some(Some(seen)) => {
                    found.clone_from(seen);
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        };
        let read = StreamRead::new(record.stream.clone()).from(record.revision).backward();
        self.store.visit_stream(read, &mut visitor).await?;
        Ok(self.retired.expand(stamp.dot, &found).into_owned())
    }
}
