//! [`Loaded`]: the state of an aggregate, and how events extend it.

use crate::aggregate::history::History;
use crate::aggregate::repository::error::LoadError;
use crate::aggregate::{EventContext, Evolve};
use crate::model::reserved::{DELETED, ERASED};
use crate::model::{
    CanonicalKey, EventType, EventView, Position, RecordedEvent, RetiredOrigins, Revision, TransactionId, Version,
};
use crate::retention::{DeletedEvents, ReplicatedDeletion, is_replicated_erasure};
use crate::schema::Events;
use crate::store::StoreError;
use crate::store::home::is_hand_over;
use crate::store::transaction::{TransactionEvent, is_transaction_event};

/// A loaded aggregate.
#[derive(Debug, Clone)]
pub struct Loaded<A> {
    /// The state.
    pub state: A,
    /// The revision of the last event in the state, or `None` if it has no events: the stream has none, or it was
    /// deleted. A [deletion](crate::retention::ReplicatedDeletion) of a replicated stream keeps concurrent events.
    pub revision: Option<Revision>,
    /// The position of that event.
    pub position: Option<Position>,
    /// The revision of the last event of the stream that was read, also if a deletion covers all events.
    pub(crate) read_to: Option<Revision>,
    /// The transaction that is prepared on the aggregate after these events. Until the transaction has ended, no
    /// command can change the aggregate.
    pub(crate) lock: Option<TransactionId>,
    pub(crate) snapshot: Option<Revision>,
    /// The greatest canonical key of the events in the state. `None` if the state has no events, or if the level of the
    /// aggregate has one order.
    pub(crate) last: Option<CanonicalKey>,
    /// The revision at which the stream begins: the first, or the one after its last deletion.
    pub(crate) begins: Revision,
    /// The origins of the events in the state. `None` if the level of the aggregate has one order, or if no event was
    /// replicated.
    pub(crate) history: Option<Box<History>>,
    /// The origins that were removed from the vector clocks of events.
    pub(crate) retired: RetiredOrigins,
}

impl<A> Loaded<A> {
    /// Returns a state without events, of a stream that begins at this revision.
    pub(super) fn of_state(state: A, begins: Revision) -> Self {
        let (history, retired) = (None, RetiredOrigins::default());
        let (revision, position, read_to) = (None, None, None);
        Self { state, revision, position, read_to, lock: None, snapshot: None, last: None, begins, history, retired }
    }

    /// Returns the version of the aggregate, or `None` if it has no events. It is the revision, unless the aggregate
    /// has a level without [one order](crate::model::OneOrder) and stamped events.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let revision = self.revision?;
        Some(self.history.as_ref().map_or_else(|| revision.into(), |history| history.version()))
    }

    /// Returns the transaction that is prepared on the aggregate, in doubt. The state is the one before the
    /// transaction.
    #[must_use]
    pub const fn locked_by(&self) -> Option<&TransactionId> {
        self.lock.as_ref()
    }

    /// Returns `true` if a deletion covers every event that was read.
    fn is_covered_by(&self, deletion: &ReplicatedDeletion) -> bool {
        // Without a history, every event is from before the replication, or the stream has one order.
        deletion.covers_all(self.history.as_ref().map(|history| history.origins()), self.read_events())
    }

    /// Returns the number of events that were read.
    fn read_events(&self) -> u64 {
        self.next().get().saturating_sub(self.begins.get())
    }

    /// Returns the number of events from before the replication that were read.
    fn genesis_events(&self) -> u64 {
        self.history.as_ref().map_or_else(|| self.read_events(), |history| history.genesis_events())
    }

    /// Returns `true` if the stream has events and deletions cover all of them.
    const fn is_deleted(&self) -> bool {
        self.read_to.is_some() && self.revision.is_none()
    }

    /// Returns the revision that the next event must have.
    pub(crate) fn next(&self) -> Revision {
        self.read_to.map_or(self.begins, Revision::next)
    }
}

impl<A: Evolve> Loaded<A> {
    pub(crate) fn initial(id: &A::Id) -> Self {
        Self::empty(id, Revision::FIRST)
    }

    /// Returns the initial state of an aggregate whose stream begins at this revision.
    pub(crate) fn empty(id: &A::Id, begins: Revision) -> Self {
        Self::of_state(A::initial(id), begins)
    }

    /// Returns the state after these recorded events, which are all visible events of a stream in the order of the log.
    pub(crate) fn fold_records(id: &A::Id, records: Vec<RecordedEvent>) -> Result<Self, LoadError> {
        let begins = records.first().map_or(Revision::FIRST, |first| first.revision);
        let mut loaded = Self::empty(id, begins);
        if A::CONSISTENCY.has_one_order() {
            records.iter().try_for_each(|record| loaded.apply(record.into()))?;
        } else {
            loaded.apply_sorted(records)?;
        }
        Ok(loaded)
    }

    /// Returns the number of events in the state after its last snapshot.
    pub(crate) fn events_since_snapshot(&self) -> u64 {
        let events = |last: Option<Revision>| last.map_or(self.begins, Revision::next).get();
        events(self.read_to).saturating_sub(events(self.snapshot))
    }

    /// Returns `true` if the event precedes an event of the state in canonical order, or is a deletion that keeps an
    /// event of the state, so that the state must be folded again.
    pub(crate) fn must_fold_again(&self, event: EventView<'_>) -> Result<bool, LoadError> {
        if A::CONSISTENCY.has_one_order() {
            // A deletion covers everything before it.
            return Ok(false);
        }
        let is_late = self.last.is_some_and(|last| event.canonical_key() < last);
        Ok(is_late || deletion(event)?.is_some_and(|deletion| !self.is_covered_by(&deletion)))
    }

    /// Applies the next recorded event of the stream, which does not require a [new fold](Self::must_fold_again).
    pub(crate) fn apply(&mut self, view: EventView<'_>) -> Result<(), LoadError> {
        self.check_follows(view)?;
        if deletion(view)?.is_some() || is_replicated_erasure(view) {
            self.delete(view)?;
            self.record(view);
            return self.advance(view, false);
        }
        let events = decode::<A>(view)?;
        let counts = self.evolve(view, events.as_slice());
        self.advance(view, counts)
    }

    /// Applies the next recorded event of the stream, which is decoded already.
    pub(crate) fn apply_decoded(&mut self, view: EventView<'_>, event: &A::Event) -> Result<(), LoadError> {
        self.check_follows(view)?;
        let counts = self.evolve(view, std::slice::from_ref(event));
        self.advance(view, counts)
    }

    /// Applies the next recorded events of the stream in canonical order. None of them may require a
    /// [new fold](Self::must_fold_again). They are sorted by their keys; events with equal keys keep their order.
    ///
    /// Events that one of the deletions covers change only the history.
    pub(super) fn apply_sorted(&mut self, mut events: Vec<RecordedEvent>) -> Result<(), LoadError> {
        let Some((revision, position)) = events.last().map(|last| (last.revision, last.position)) else {
            return Ok(());
        };
        events.sort_by_key(RecordedEvent::canonical_key);
        let mut deletions = Vec::new();
        for event in &events {
            deletions.extend(deletion(event.into())?);
        }
        let mut deleted = DeletedEvents::new(deletions, self.genesis_events());
        let is_erased = events.iter().any(|event| is_replicated_erasure(event.into()));
        if is_erased || !deleted.is_empty() {
            // Every deletion covers the events so far.
            self.delete((&events[0]).into())?;
        }
        let mut exists = !self.is_deleted() && !is_erased && deleted.is_empty();
        for event in &events {
            let view = EventView::from(event);
            if deleted.covers_next(view) || is_erased || deletion(view)?.is_some() {
                self.record(view);
            } else {
                let decoded = decode::<A>(view)?;
                exists |= self.evolve(view, decoded.as_slice());
            }
            // The index of the event in this fold, which is the same on every node.
            self.read_to = Some(self.next());
        }
        self.read_to = Some(revision);
        (self.revision, self.position) = exists.then_some((revision, position)).unzip();
        Ok(())
    }

    /// Removes all events from the state, because a deletion of the stream covers them.
    fn delete(&mut self, deletion: EventView<'_>) -> Result<(), LoadError> {
        let stream = deletion.stream();
        let id = A::id_of(stream).ok_or_else(|| {
            StoreError::damaged(format!("stream {stream:?}"), format!("no id of category {:?}", A::CATEGORY))
        })?;
        self.state = A::initial(&id);
        (self.revision, self.position) = (None, None);
        if let Some(history) = &mut self.history {
            history.forget_commands();
        }
        Ok(())
    }

    /// Applies the events that one record was decoded as. Returns `false` if the record does not belong to the state.
    fn evolve(&mut self, view: EventView<'_>, events: &[A::Event]) -> bool {
        let is_of_framework = is_of_framework(view.event_type());
        if !A::CONSISTENCY.has_one_order() {
            return self.evolve_replicated(view, events) && !(is_of_framework && self.is_deleted());
        }
        for event in events {
            self.state.evolve(event, &EventContext::new(view));
        }
        !(is_of_framework && self.is_deleted())
    }

    /// Applies an event of a level without one order. An event of a command that another node has executed, too, does
    /// not change the state; the result is then `false`.
    fn evolve_replicated(&mut self, view: EventView<'_>, events: &[A::Event]) -> bool {
        let concurrent =
            self.history.as_ref().map(|history| history.concurrent_with(view, &self.retired)).unwrap_or_default();
        let counts = self.history.as_ref().is_none_or(|history| history.counts(view));
        if counts {
            let seen = self.history.as_ref().and_then(|history| history.seen_by(view.stamp()?));
            let seen = seen.or_else(|| view.stamp()?.seen.as_ref());
            let seen = seen.zip(view.stamp()).map(|(seen, stamp)| self.retired.expand(stamp.dot, seen));
            let (revision, genesis_events) = (Revision::new(self.read_events()), self.genesis_events());
            let context = EventContext::in_fold(view, revision, genesis_events, &concurrent, seen.as_deref());
            for event in events {
                self.state.evolve(event, &context);
            }
        }
        self.record(view);
        History::record_command(&mut self.history, view);
        counts
    }

    /// Adds an event of a level without one order to the history.
    fn record(&mut self, view: EventView<'_>) {
        if !A::CONSISTENCY.has_one_order() {
            let events = self.read_events();
            self.last = self.last.max(Some(view.canonical_key()));
            History::record(&mut self.history, view, events);
        }
    }

    /// Skips the next recorded event of the stream.
    pub(super) fn skip(&mut self, event: EventView<'_>) -> Result<(), LoadError> {
        self.check_follows(event)?;
        self.advance(event, true)
    }

    fn check_follows(&self, event: EventView<'_>) -> Result<(), LoadError> {
        check_follows(self.next(), event)
    }

    /// Moves after an event. `counts` is `false` for an event that does not belong to the state.
    fn advance(&mut self, event: EventView<'_>, counts: bool) -> Result<(), LoadError> {
        // An event that does not count leaves a state with events as it is, and one without events deleted.
        let exists = counts || self.revision.is_some();
        self.read_to = Some(event.revision());
        (self.revision, self.position) = exists.then_some((event.revision(), event.position())).unzip();
        if is_transaction_event(event.event_type()) {
            self.lock = lock_of(event)?;
        }
        Ok(())
    }
}

/// Returns the deletion that an event of a replicated stream is, or `None` for every other event.
pub(super) fn deletion(event: EventView<'_>) -> Result<Option<ReplicatedDeletion>, LoadError> {
    let read = ReplicatedDeletion::of(event);
    Ok(read.map_err(|found| StoreError::damaged(format!("position {}", event.position()), found))?)
}

/// Returns `true` if an event has no content of the domain.
fn is_of_framework(event_type: &EventType) -> bool {
    let is_removal = *event_type == DELETED || *event_type == ERASED;
    is_removal || is_transaction_event(event_type) || is_hand_over(event_type)
}

/// Checks that an event has the expected revision.
pub(super) fn check_follows(expected: Revision, event: EventView<'_>) -> Result<(), LoadError> {
    let found = event.revision();
    if found == expected {
        return Ok(());
    }
    let detail = format!("expected revision {expected} next, found {found}");
    Err(StoreError::damaged(format!("stream {:?}", event.stream()), detail).into())
}

/// Returns the transaction that is prepared on the aggregate after an event of a transaction.
fn lock_of(event: EventView<'_>) -> Result<Option<TransactionId>, LoadError> {
    let read = TransactionEvent::read(event.stream(), event.event_type(), event.payload());
    match read.map_err(|found| StoreError::damaged(format!("position {}", event.position()), found))? {
        Some(TransactionEvent::Prepared(prepared)) => Ok(Some(prepared.transaction)),
        Some(TransactionEvent::PreCommitted { transaction }) => Ok(Some(transaction)),
        Some(TransactionEvent::Committed { .. } | TransactionEvent::Aborted { .. }) | None => Ok(None),
    }
}

/// Decodes an event of the aggregate. An event of the framework has no event of the domain.
pub(super) fn decode<A: Evolve>(event: EventView<'_>) -> Result<Events<A::Event>, LoadError> {
    if is_of_framework(event.event_type()) {
        return Ok(Events::none());
    }
    event.decode::<A::Event>().map_err(|source| LoadError::Event {
        stream: event.stream().clone(),
        revision: event.revision(),
        position: event.position(),
        source,
    })
}
