use std::fmt::{self, Debug};
use std::sync::Arc;

use bytes::Bytes;

use crate::aggregate::decision::Decision;
use crate::aggregate::{Command, CommandContext, Decide, EventContext, Evolve};
use crate::model::ErrorChain;
use crate::model::EventType;
use crate::model::{CommitPart, ContentType, EventData, Metadata, RecordedEvent, Timestamp, to_stored_precision};
use crate::model::{KeyChange, Keys};
use crate::model::{Position, Revision};
use crate::schema::Event;

/// Starts a test of an aggregate in the given-when-then style: given events, when a command is executed, then these
/// events follow. Needs neither a store nor a runtime.
///
/// The names follow cqrs-es and emmett.
///
/// ```
/// # use es_core::schema::{EncodeEventError, EncodedEvent, EventSchema, RawEvent, DecodeEventError};
/// # use es_core::{Aggregate, CommandContext, Decide, Decision, Event, EventContext, Events, Evolve};
/// # #[derive(Clone, Debug, PartialEq)] enum Switched { On }
/// # impl Event for Switched {
/// #     const SCHEMA: &'static [EventSchema] = &[];
/// #     fn encode(&self) -> Result<EncodedEvent, EncodeEventError> { unreachable!() }
/// #     fn decode(_: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError> { unreachable!() }
/// # }
/// # #[derive(Clone, Debug, PartialEq)] struct Lamp { on: bool }
/// # impl Aggregate for Lamp {
/// #     const CATEGORY: &'static str = "lamp";
/// #     type Id = u64;
/// #     type Event = Switched;
/// #     type Level = es_core::model::Local;
/// # }
/// # impl Evolve for Lamp {
/// #     fn initial(_: &u64) -> Self { Self { on: false } }
/// #     fn evolve(&mut self, _: &Switched, _: &EventContext<'_>) { self.on = true; }
/// # }
/// # #[derive(Clone)] struct SwitchOn;
/// # impl Decide<SwitchOn> for Lamp {
/// #     type Rejection = std::convert::Infallible;
/// #     fn decide(&self, _: SwitchOn, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
/// #         Ok(if self.on { Decision::unchanged() } else { Switched::On.into() })
/// #     }
/// # }
/// use es_core::testing::given;
/// given::<Lamp>(1, []).when(SwitchOn).then([Switched::On]).then_state(|lamp| assert!(lamp.on));
/// given::<Lamp>(1, [Switched::On]).when(SwitchOn).then_unchanged();
/// ```
///
/// If the aggregate has snapshots, the events are folded a second time, with a snapshot after each event. The command
/// is decided on this state, too, and must have the same result. A test then fails if a type in the state has a field
/// that serde skips and that a later event or the command reads.
///
/// # Panics
/// If a state cannot be encoded and decoded as a snapshot.
#[track_caller]
pub fn given<A: Evolve>(id: A::Id, events: impl IntoIterator<Item = A::Event>) -> Given<A> {
    let state = A::initial(&id);
    let from_snapshot = A::snapshots().map(|_| state.clone());
    let (revision, now, metadata) = (None, Timestamp::UNIX_EPOCH, Metadata::new());
    let mut given = Given { id, state, from_snapshot, revision, now, metadata };
    given.evolve(events);
    given
}

/// An aggregate with its events so far.
#[derive(Debug, Clone)]
pub struct Given<A: Evolve> {
    id: A::Id,
    state: A,
    /// The same state, restored from a snapshot after each event. `None` if the aggregate has no snapshots.
    from_snapshot: Option<A>,
    revision: Option<Revision>,
    now: Timestamp,
    metadata: Metadata,
}

impl<A: Evolve> Given<A> {
    /// Sets the time of the events of [`and`](Self::and) and of the command. The initial time is the start of 1970.
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

    /// Adds events.
    ///
    /// # Panics
    /// If a state cannot be encoded and decoded as a snapshot.
    #[must_use]
    #[track_caller]
    pub fn and(mut self, events: impl IntoIterator<Item = A::Event>) -> Self {
        self.evolve(events);
        self
    }

    /// Returns the state after the events.
    #[must_use]
    pub const fn state(&self) -> &A {
        &self.state
    }

    /// Expects that the state restored from a snapshot after each event is equal to the state without snapshots. Has no
    /// effect if the aggregate has no snapshots.
    ///
    /// # Panics
    /// If the states differ: a type in the state has a field that serde skips.
    #[track_caller]
    pub fn then_snapshot_is_equal(self) -> Self
    where
        A: Debug + PartialEq,
    {
        if let Some(restored) = &self.from_snapshot {
            assert_eq!(
                *restored, self.state,
                "the state from a snapshot (left) differs from the state without (right): look for a field that serde \
                 skips"
            );
        }
        self
    }

    /// Lets the aggregate decide on a command. Encodes its events and reads them back, as the repository does before a
    /// commit.
    ///
    /// # Panics
    /// If the repository would refuse an event of the decision: see [`Event::encode_and_decode`].
    #[track_caller]
    #[must_use = "check the result with one of the `then` methods"]
    pub fn when<C: Command>(self, command: C) -> Then<A, A::Rejection>
    where
        A: Decide<C>,
    {
        let context = CommandContext::new(&self.id, self.revision, self.now);
        let from_snapshot = self.from_snapshot.as_ref().map(|state| state.decide(command.clone(), &context));
        let decision = self.state.decide(command, &context);
        // An event type without a schema is a placeholder in a test of `decide` alone.
        if let Ok(decision) = &decision
            && !A::Event::SCHEMA.is_empty()
        {
            for event in decision.events() {
                let stored = event.encode_and_decode();
                stored.unwrap_or_else(|error| panic!("could not store an event: {}", ErrorChain(&error)));
            }
        }
        Then { given: self, decision: Arc::new(decision), from_snapshot: from_snapshot.map(Arc::new) }
    }

    #[track_caller]
    fn evolve(&mut self, events: impl IntoIterator<Item = A::Event>) {
        for event in events {
            let revision = Revision::following(self.revision);
            let record = self.record(revision);
            self.state.evolve(&event, &EventContext::new(&record));
            if let (Some(state), Some(snapshots)) = (&mut self.from_snapshot, A::snapshots()) {
                state.evolve(&event, &EventContext::new(&record));
                match snapshots.restored(state) {
                    Ok(restored) => *state = restored,
                    Err(error) => panic!("no snapshot of the state at revision {revision}: {}", ErrorChain(&error)),
                }
            }
            self.revision = Some(revision);
        }
    }

    /// Returns the record for the context of an event. Its type and content are placeholders, because `evolve` receives
    /// the event itself.
    fn record(&self, revision: Revision) -> RecordedEvent {
        let stream = A::stream(&self.id).expect("the id is valid in the name of a stream");
        RecordedEvent {
            position: Position::new(revision.get() + 1).unwrap_or(Position::FIRST),
            stream,
            revision,
            recorded_at: self.now,
            occurred_at: self.now,
            part: CommitPart { index: 0, size: 1 },
            data: EventData {
                metadata: self.metadata.clone(),
                ..EventData::new(
                    EventType::new("given").expect("the name is valid"),
                    1,
                    ContentType::Json,
                    Bytes::new(),
                )
            },
        }
    }
}

/// The result of a command. The methods panic at the location of the call if the result differs from the expected one,
/// also if only the result on the state from a snapshot differs. They can be chained.
pub struct Then<A: Evolve, R> {
    given: Given<A>,
    decision: Arc<Result<Decision<A>, R>>,
    /// The decision on the state that was restored from a snapshot after each event.
    from_snapshot: Option<Arc<Result<Decision<A>, R>>>,
}

impl<A: Evolve<Event: Debug> + Debug, R: Debug> Debug for Then<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Then").field("given", &self.given).field("decision", &self.decision).finish_non_exhaustive()
    }
}

/// Added to the message of a failure on the state from a snapshot.
const FROM_SNAPSHOT: &str =
    ", on the state from a snapshot only: look for a field of a type in the state that serde skips";

impl<A: Evolve, R: Debug> Then<A, R>
where
    A::Event: Debug,
{
    /// Returns the decision, and the one on the state from a snapshot, each with a text for the messages of failures.
    fn decisions(&self) -> impl Iterator<Item = (&Result<Decision<A>, R>, &'static str)> {
        std::iter::once((&*self.decision, "")).chain(self.from_snapshot.as_deref().map(|it| (it, FROM_SNAPSHOT)))
    }

    /// Calls `check` with both decisions, which must be accepted.
    #[track_caller]
    fn accepted(&self, mut check: impl FnMut(&Decision<A>, &str)) {
        for (decision, origin) in self.decisions() {
            match decision {
                Ok(decision) => check(decision, origin),
                Err(rejection) => {
                    panic!("expected the command to be accepted, but it was rejected{origin}: {rejection:?}")
                }
            }
        }
    }

    /// Expects exactly these events, at least one. Also checks with `PartialEq` that each event is unchanged after it
    /// is encoded and decoded.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = A::Event>) -> Self
    where
        A::Event: PartialEq,
    {
        let expected: Vec<A::Event> = expected.into_iter().collect();
        assert!(!expected.is_empty(), "expected at least one event: use then_nothing() or then_unchanged()");
        self.accepted(|decision, origin| {
            assert_eq!(
                decision.events(),
                expected,
                "expected the events on the right, found those on the left{origin}"
            );
        });
        if A::Event::SCHEMA.is_empty() {
            return self;
        }
        for event in &expected {
            let stored = event.encode_and_decode();
            let (_, decoded) =
                stored.unwrap_or_else(|error| panic!("could not store {event:?}: {}", ErrorChain(&error)));
            assert_eq!(decoded, *event, "the decoded event (left) differs from the encoded one (right)");
        }
        self
    }

    /// Expects that the command is accepted and produces no event.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.accepted(|decision, origin| {
            let events = decision.events();
            assert!(events.is_empty(), "expected no event, found {events:?}{origin}");
        });
        self
    }

    /// Expects that the command claims and releases exactly these unique keys, in this order.
    #[track_caller]
    pub fn then_keys(self, expected: impl IntoIterator<Item = KeyChange>) -> Self {
        let expected: Keys = expected.into_iter().collect();
        self.accepted(|decision, origin| {
            assert_eq!(*decision.keys(), expected, "expected the unique keys on the right, found the left{origin}");
        });
        self
    }

    /// Expects the decision [`unchanged`](Decision::unchanged).
    #[track_caller]
    pub fn then_unchanged(self) -> Self {
        self.accepted(|decision, origin| {
            assert!(decision.is_unchanged(), "expected the decision unchanged(), found {decision:?}{origin}");
        });
        self
    }

    /// Expects this rejection.
    #[track_caller]
    pub fn then_rejected(self, expected: impl Into<R>) -> Self
    where
        R: PartialEq,
    {
        let expected = expected.into();
        for (decision, origin) in self.decisions() {
            match decision {
                Err(rejection) => {
                    assert_eq!(*rejection, expected, "expected the rejection on the right, found the left{origin}");
                }
                Ok(decision) => {
                    let events = decision.events();
                    panic!("expected the rejection {expected:?}, found the events {events:?}{origin}")
                }
            }
        }
        self
    }

    /// Expects a rejection, and calls `check` with it. If the aggregate has snapshots, `check` is also called with the
    /// rejection on the state from a snapshot.
    #[track_caller]
    pub fn then_rejected_with(self, check: impl Fn(&R)) -> Self {
        for (decision, origin) in self.decisions() {
            match decision {
                Err(rejection) => check(rejection),
                Ok(decision) => panic!("expected a rejection, found the events {:?}{origin}", decision.events()),
            }
        }
        self
    }

    /// Expects that the command is accepted, and calls `check` with the state after its events. If the aggregate has
    /// snapshots, `check` is also called with the state from a snapshot.
    #[track_caller]
    pub fn then_state(self, check: impl Fn(&A)) -> Self
    where
        A::Event: Clone,
    {
        self.accepted(|_, _| ());
        let Ok(decision) = &*self.decision else { return self };
        let after = self.given.clone().and(decision.events().to_vec());
        check(after.state());
        after.from_snapshot.iter().for_each(check);
        self
    }
}
