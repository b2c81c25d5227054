//! [`Loaded`]: the state of an aggregate, and how events extend it.

use crate::aggregate::history::History;
use crate::aggregate::repository::error::LoadError;
use crate::aggregate::{EventContext, Evolve};
use crate::model::{
    CanonicalKey, EventView, Position, RecordedEvent, RetiredOrigins, Revision, TransactionId, Version,
};
use crate::schema::Events;
use crate::store::StoreError;
use crate::store::home::is_hand_over;
use crate::store::transaction::{TransactionEvent, is_transaction_event};

/// A loaded aggregate.
#[derive(Debug, Clone)]
pub struct Loaded<A> {
    /// The state.
    pub state: A,
    /// The revision of the last event in the state, or `None` if it has no events.
    pub revision: Option<Revision>,
    /// The position of that event.
    pub position: Option<Position>,
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
        Self { state, revision: None, position: None, lock: None, snapshot: None, last: None, begins, history, retired }
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

    /// Returns `true` if the event precedes an event of the state in canonical order, so that the state must be folded
    /// again.
    pub(crate) fn is_late(&self, event: EventView<'_>) -> bool {
        self.last.is_some_and(|last| event.canonical_key() < last)
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

    /// Returns the revision that the next event must have.
    pub(crate) fn next(&self) -> Revision {
        self.revision.map_or(self.begins, Revision::next)
    }

    /// Returns the number of events in the state after its last snapshot.
    pub(crate) fn events_since_snapshot(&self) -> u64 {
        let events = |last: Option<Revision>| last.map_or(self.begins, Revision::next).get();
        events(self.revision).saturating_sub(events(self.snapshot))
    }

    /// Applies the next recorded event of the stream. It must not be [late](Self::is_late).
    pub(crate) fn apply(&mut self, view: EventView<'_>) -> Result<(), LoadError> {
        self.check_follows(view)?;
        let events = decode::<A>(view)?;
        self.evolve(view, events.as_slice());
        self.advance(view)
    }

    /// Applies the next recorded event of the stream, which is decoded already.
    pub(crate) fn apply_decoded(&mut self, view: EventView<'_>, event: &A::Event) -> Result<(), LoadError> {
        self.check_follows(view)?;
        self.evolve(view, std::slice::from_ref(event));
        self.advance(view)
    }

    /// Applies the next recorded events of the stream in canonical order. None of them may be [late](Self::is_late).
    /// They are sorted by their keys; events with equal keys keep their order.
    pub(super) fn apply_sorted(&mut self, mut events: Vec<RecordedEvent>) -> Result<(), LoadError> {
        let Some((revision, position)) = events.last().map(|last| (last.revision, last.position)) else {
            return Ok(());
        };
        events.sort_by_key(RecordedEvent::canonical_key);
        for event in &events {
            let decoded = decode::<A>(event.into())?;
            self.evolve(event.into(), decoded.as_slice());
            // The index of the event in this fold, which is the same on every node.
            self.revision = Some(self.next());
        }
        (self.revision, self.position) = (Some(revision), Some(position));
        Ok(())
    }

    /// Applies the events that one record was decoded as.
    fn evolve(&mut self, view: EventView<'_>, events: &[A::Event]) {
        if !A::CONSISTENCY.has_one_order() {
            self.evolve_replicated(view, events);
            return;
        }
        for event in events {
            self.state.evolve(event, &EventContext::new(view));
        }
    }

    /// Applies an event of a level without one order. An event of a command that another node has executed, too, does
    /// not change the state.
    fn evolve_replicated(&mut self, view: EventView<'_>, events: &[A::Event]) {
        let folded = self.next().get().saturating_sub(self.begins.get());
        let concurrent =
            self.history.as_ref().map(|history| history.concurrent_with(view, &self.retired)).unwrap_or_default();
        let counts = self.history.as_ref().is_none_or(|history| history.counts(view));
        if counts {
            let seen = self.history.as_ref().and_then(|history| history.seen_by(view.stamp()?));
            let seen = seen.or_else(|| view.stamp()?.seen.as_ref());
            let seen = seen.zip(view.stamp()).map(|(seen, stamp)| self.retired.expand(stamp.dot, seen));
            let genesis_events = self.history.as_ref().map_or(folded, |history| history.genesis_events());
            let context =
                EventContext::in_fold(view, Revision::new(folded), genesis_events, &concurrent, seen.as_deref());
            for event in events {
                self.state.evolve(event, &context);
            }
        }
        self.last = self.last.max(Some(view.canonical_key()));
        History::record(&mut self.history, view, folded);
    }

    /// Skips the next recorded event of the stream.
    pub(super) fn skip(&mut self, event: EventView<'_>) -> Result<(), LoadError> {
        self.check_follows(event)?;
        self.advance(event)
    }

    fn check_follows(&self, event: EventView<'_>) -> Result<(), LoadError> {
        check_follows(self.next(), event)
    }

    fn advance(&mut self, event: EventView<'_>) -> Result<(), LoadError> {
        self.revision = Some(event.revision());
        self.position = Some(event.position());
        if is_transaction_event(event.event_type()) {
            self.lock = lock_of(event)?;
        }
        Ok(())
    }
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

/// Decodes an event of the aggregate. An event of a transaction or a hand-over has no event of the domain.
pub(super) fn decode<A: Evolve>(event: EventView<'_>) -> Result<Events<A::Event>, LoadError> {
    if is_transaction_event(event.event_type()) || is_hand_over(event.event_type()) {
        return Ok(Events::none());
    }
    event.decode::<A::Event>().map_err(|source| LoadError::Event {
        stream: event.stream().clone(),
        revision: event.revision(),
        position: event.position(),
        source,
    })
}
