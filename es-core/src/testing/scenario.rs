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

/// Begins the test of an aggregate as a sentence: given what happened, when a command comes, then this follows. No
/// store and no runtime is involved.
///
/// The words are those of cqrs-es and emmett.
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
/// # impl Aggregate for Lamp { const CATEGORY: &'static str = "lamp"; type Id = u64; type Event = Switched; type Level = es_core::model::Local; }
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
pub fn given<A: Evolve>(id: A::Id, events: impl IntoIterator<Item = A::Event>) -> Given<A> {
    let state = A::initial(&id);
    let mut given = Given { id, state, revision: None, now: Timestamp::UNIX_EPOCH, metadata: Metadata::new() };
    given.take(events);
    given
}

/// An aggregate with a history.
#[derive(Debug, Clone)]
pub struct Given<A: Evolve> {
    id: A::Id,
    state: A,
    revision: Option<Revision>,
    now: Timestamp,
    metadata: Metadata,
}

impl<A: Evolve> Given<A> {
    /// The time of what follows: of the events of [`and`](Self::and), and of the command. Before it is set it is the
    /// beginning of 1970.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.now = to_stored_precision(now);
        self
    }

    /// The annotations of the events that follow.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// More history.
    #[must_use]
    pub fn and(mut self, events: impl IntoIterator<Item = A::Event>) -> Self {
        self.take(events);
        self
    }

    /// The state that the history leads to.
    #[must_use]
    pub const fn state(&self) -> &A {
        &self.state
    }

    /// Gives a command to the aggregate.
    #[must_use = "say what is expected with one of the `then` methods"]
    pub fn when<C: Command>(self, command: C) -> Then<A, A::Rejection>
    where
        A: Decide<C>,
    {
        let decision = self.state.decide(command, &CommandContext::new(&self.id, self.revision, self.now));
        Then { given: self, decision: Arc::new(decision) }
    }

    fn take(&mut self, events: impl IntoIterator<Item = A::Event>) {
        for event in events {
            let revision = Revision::following(self.revision);
            let record = self.record(revision);
            self.state.evolve(&event, &EventContext::new(&record));
            self.revision = Some(revision);
        }
    }

    /// A record as a store would make it, but for content and type, which `evolve` gets as the event itself.
    fn record(&self, revision: Revision) -> RecordedEvent {
        let stream = A::stream(&self.id).expect("the id of a test must be able to stand in the name of a stream");
        RecordedEvent {
            position: Position::new(revision.get() + 1).unwrap_or(Position::FIRST),
            stream,
            revision,
            recorded_at: self.now,
            occurred_at: self.now,
            part: CommitPart { index: 0, size: 1 },
            data: EventData {
                metadata: self.metadata.clone(),
                ..EventData::new(EventType::new("given").expect("it is a name"), 1, ContentType::Json, Bytes::new())
            },
        }
    }
}

/// What a command led to, to be compared with what is expected. The methods panic, at the place of the call, where it
/// is something else, and can be chained.
pub struct Then<A: Evolve, R> {
    given: Given<A>,
    decision: Arc<Result<Decision<A>, R>>,
}

impl<A: Evolve<Event: Debug> + Debug, R: Debug> Debug for Then<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Then").field("given", &self.given).field("decision", &self.decision).finish()
    }
}

impl<A: Evolve, R: Debug> Then<A, R>
where
    A::Event: Debug,
{
    #[track_caller]
    fn accepted(&self) -> &Decision<A> {
        match &*self.decision {
            Ok(decision) => decision,
            Err(rejection) => panic!("expected the command to be accepted, found it refused: {rejection:?}"),
        }
    }

    /// Expects exactly these events, at least one, and that each survives being encoded and decoded.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = A::Event>) -> Self
    where
        A::Event: PartialEq,
    {
        let expected: Vec<A::Event> = expected.into_iter().collect();
        assert!(!expected.is_empty(), "expected at least one event: use then_nothing() or then_unchanged()");
        assert_eq!(self.accepted().events(), expected, "expected the events on the right, found those on the left");
        if A::Event::SCHEMA.is_empty() {
            return self;
        }
        for event in &expected {
            let encoded =
                event.encode().unwrap_or_else(|error| panic!("{event:?} cannot be written: {}", ErrorChain(&error)));
            let decoded = A::Event::decode(encoded.raw());
            let decoded =
                decoded.unwrap_or_else(|error| panic!("{event:?} cannot be read back: {}", ErrorChain(&error)));
            assert_eq!(decoded.as_slice(), std::slice::from_ref(event), "what is read back is not what was written");
        }
        self
    }

    /// Expects that the command is accepted and no event follows, for any reason.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        let events = self.accepted().events();
        assert!(events.is_empty(), "expected no event, found {events:?}");
        self
    }

    /// Expects that the command claims and releases exactly these unique keys, in this order.
    #[track_caller]
    pub fn then_keys(self, expected: impl IntoIterator<Item = KeyChange>) -> Self {
        let expected: Keys = expected.into_iter().collect();
        assert_eq!(*self.accepted().keys(), expected, "expected the unique keys on the right, found the left");
        self
    }

    /// Expects the decision [`unchanged`](Decision::unchanged).
    #[track_caller]
    pub fn then_unchanged(self) -> Self {
        let decision = self.accepted();
        assert!(decision.is_unchanged(), "expected the decision unchanged(), found {decision:?}");
        self
    }

    /// Expects that the domain refuses with this rejection.
    #[track_caller]
    pub fn then_rejected(self, expected: impl Into<R>) -> Self
    where
        R: PartialEq,
    {
        let expected = expected.into();
        match &*self.decision {
            Err(rejection) => assert_eq!(*rejection, expected, "expected the rejection on the right, found the left"),
            Ok(decision) => panic!("expected a refusal with {expected:?}, found {:?}", decision.events()),
        }
        self
    }

    /// Looks at the rejection with which the domain refuses.
    #[track_caller]
    pub fn then_rejected_with(self, look: impl FnOnce(&R)) -> Self {
        match &*self.decision {
            Err(rejection) => look(rejection),
            Ok(decision) => panic!("expected a refusal, found {:?}", decision.events()),
        }
        self
    }

    /// Looks at the state behind the events.
    #[track_caller]
    pub fn then_state(self, look: impl FnOnce(&A)) -> Self
    where
        A::Event: Clone,
    {
        let events = self.accepted().events().to_vec();
        look(self.given.clone().and(events).state());
        self
    }
}
