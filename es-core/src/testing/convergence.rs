//! [`GivenEvents::fold_in_any_order`] and [`check_convergence`]: whether all nodes get the same state of an aggregate.

use std::fmt::{Debug, Write as _};

use crate::aggregate::{Evolve, Loaded};
use crate::model::{CanonicalOrder, ConflictAnswer, ErrorChain, EventData, EventId, Level, RecordedEvent, StreamId};
use crate::retention::Erasure;
use crate::schema::Event;
use crate::testing::SeededEntropy;
use crate::testing::orders::{OrderDependence, arrived, have_one_order};
use crate::testing::projected::{GivenEvents, given_events};

/// The nodes of a generated history.
const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// The number of random histories.
const RANDOM_HISTORIES: u64 = 100;

/// The number of events in each of them.
const RANDOM_EVENTS: usize = 8;

/// Checks that every node gets the same state of a replicated aggregate, in whatever order concurrent events arrive. It
/// is the test of `conflict = "crdt"`; for other aggregates it checks that the state follows from the events alone.
///
/// It builds histories of the given events and calls [`fold_in_any_order`](GivenEvents::fold_in_any_order) on each:
///
/// - each two of the events on two nodes that do not know of each other;
/// - 100 random histories of 8 events on three nodes, which sometimes pull from each other, the same ones in each run.
///
/// Give events that can conflict: several values of one field, an addition and a removal of one item. The histories are
/// not restricted to those that `decide` permits: an item may be removed that was never added. If convergence depends
/// on a rule of `decide`, give the histories yourself.
///
/// For an example see [`Crdt`](crate::Crdt). A test with generated events calls it in the body of a property.
///
/// # Panics
/// - As [`fold_in_any_order`](GivenEvents::fold_in_any_order).
/// - If no event is given.
/// - If the id is not valid in the name of a stream, or an event cannot be encoded.
#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "an id is often a literal: the test reads better without a reference"
)]
pub fn check_convergence<A>(id: A::Id, events: impl IntoIterator<Item = A::Event>)
where
    A: Evolve<Level: Level<Order = CanonicalOrder>> + Debug + PartialEq,
{
    let stream = A::stream(&id).unwrap_or_else(|error| panic!("invalid id: {error}"));
    let mut encoded = Vec::new();
    for event in events {
        match event.encode() {
            Ok(event) => encoded.push(event.into_data(EventId::new())),
            Err(error) => panic!("could not encode the event: {}", ErrorChain(&error)),
        }
    }
    assert!(!encoded.is_empty(), "there is no event; give events that can conflict");
    let pairs = (0..encoded.len()).flat_map(|left| (left..encoded.len()).map(move |right| [left, right]));
    let pairs = pairs.map(|pair| pair_of(&stream, pair.map(|index| &encoded[index])));
    let random = (0..RANDOM_HISTORIES).map(|seed| random_history(&stream, &encoded, &SeededEntropy::new(seed)));
    for history in pairs.chain(random) {
        if let Err(message) = history.compare_folds::<A>(&id, &stream) {
            panic!("{message}");
        }
    }
}

/// Returns the history of two events that two nodes appended without knowing of each other.
fn pair_of(stream: &StreamId, events: [&EventData; 2]) -> GivenEvents {
    let append = |given: GivenEvents, (node, event): (&str, &EventData)| with_event(given.on_node(node), stream, event);
    NODES.into_iter().zip(events).fold(given_events(), append)
}

fn random_history(stream: &StreamId, events: &[EventData], entropy: &SeededEntropy) -> GivenEvents {
    let mut given = NODES.into_iter().fold(given_events(), GivenEvents::on_node);
    while given.records.len() < RANDOM_EVENTS {
        given = given.on_node(NODES[entropy.index(NODES.len())]);
        given = match entropy.index(3) {
            0 => given.pull_from(NODES[entropy.index(NODES.len())]),
            _ => with_event(given, stream, &events[entropy.index(events.len())]),
        };
    }
    given
}

fn with_event(mut given: GivenEvents, stream: &StreamId, event: &EventData) -> GivenEvents {
    given.push(stream, EventData { id: EventId::new(), ..event.clone() });
    given
}

/// A folded state, or why an event could not be folded.
type StateOrFailure<A> = Result<Loaded<A>, String>;

impl GivenEvents {
    /// Folds the events of a replicated aggregate in every order in which they can arrive on a node, and returns the
    /// state. Events of other aggregates are ignored.
    ///
    /// Each order gives the same state: a node folds in canonical order. It may fold again when an event arrives late,
    /// and, if the aggregate has snapshots, begin with a snapshot after any event. If the aggregate declares
    /// `conflict = "crdt"`, the events are also folded in the order of arrival itself.
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
    /// # #[event(name = "invited")]
    /// # struct Invited(String);
    /// # #[derive(Clone, Debug, PartialEq, Aggregate)]
    /// # #[aggregate(category = "party", id = u64, event = Invited, consistency = "causal", conflict = "canonical")]
    /// # struct Party { guests: Vec<String> }
    /// # impl Evolve for Party {
    /// #     fn initial(_: &u64) -> Self { Self { guests: Vec::new() } }
    /// #     fn evolve(&mut self, Invited(name): &Invited, _: &EventContext<'_>) { self.guests.push(name.clone()); }
    /// # }
    /// use es_core::testing::given_events;
    ///
    /// let party = given_events()
    ///     .on_node("paris").of::<Party>(1, [Invited("Ada".into())])
    ///     .on_node("oslo").of::<Party>(1, [Invited("Bob".into())])
    ///     .on_node("paris").pull_from("oslo").of::<Party>(1, [Invited("Eve".into())])
    ///     .fold_in_any_order::<Party>(1);
    /// assert_eq!(party.guests, ["Ada", "Bob", "Eve"]);
    /// ```
    ///
    /// States are compared wherever two events can be exchanged, also while later ones have not arrived. The cost grows
    /// with the number of sets of events that a node can have: the numbers of events of the nodes, multiplied. If there
    /// are more than 64 sets of equally many events, 64 of them are drawn, the same ones in each run: this begins with
    /// more than 63 events on each of two nodes, or 8 on each of three.
    ///
    /// # Panics
    /// - If two orders give different states. The message has two orders that differ in their last two events only, and
    ///   both states. For `conflict = "crdt"`: a field is assigned, or a type does not keep the promise of
    ///   [`Crdt`](crate::Crdt). Otherwise: `evolve` depends on something else than its arguments.
    /// - If the state from a snapshot differs: a type in the state has a field that serde skips.
    /// - If an event cannot be decoded.
    /// - If there is only one order: give events to at least two nodes.
    #[must_use]
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an id is often a literal: the test reads better without a reference"
    )]
    pub fn fold_in_any_order<A>(&self, id: A::Id) -> A
    where
        A: Evolve<Level: Level<Order = CanonicalOrder>> + Debug + PartialEq,
    {
        let stream = A::stream(&id).unwrap_or_else(|error| panic!("invalid id: {error}"));
        assert!(
            !have_one_order(of_stream(&stream, &self.records)),
            "there is one order of arrival; give concurrent events of {stream} to two nodes with `on_node`"
        );
        self.compare_folds(&id, &stream).unwrap_or_else(|message| panic!("{message}"))
    }

    /// Returns the state, or a message about two orders that give different states.
    fn compare_folds<A: Evolve + Debug + PartialEq>(&self, id: &A::Id, stream: &StreamId) -> Result<A, String> {
        let initial = || fold_records(id, stream, self.known_to_all());
        let is_equal = |left: &StateOrFailure<A>, right: &StateOrFailure<A>| match (left, right) {
            (Ok(left), Ok(right)) => left.state == right.state,
            (left, right) => left.as_ref().err() == right.as_ref().err(),
        };
        let canonical = self.apply_in_any_order(initial(), |before, log| arrive(id, stream, before, log), is_equal);
        let canonical = canonical.map_err(|found| {
            let problem = "does not follow from its events alone: it depends on the order of arrival of";
            self.message_of_states(problem, &found)
        })?;
        let Loaded { state, .. } = canonical?;
        self.compare_with_snapshots(id, stream, &state)?;
        if matches!(A::CONFLICT, Some(ConflictAnswer::Crdt)) {
            let folded = self.apply_in_any_order(initial(), |before, log| apply_last(stream, before, log), is_equal);
            folded.map_err(|found| {
                self.message_of_states("is not a CRDT: it depends on the order of the concurrent events", &found)
            })??;
        }
        Ok(state)
    }

    /// Compares the state with the one that is restored from a snapshot after each event.
    ///
    /// The canonical order suffices: a snapshot is used only if it has the first events of this order.
    fn compare_with_snapshots<A>(&self, id: &A::Id, stream: &StreamId, expected: &A) -> Result<(), String>
    where
        A: Evolve + Debug + PartialEq,
    {
        let Some(snapshots) = A::snapshots() else { return Ok(()) };
        let mut events: Vec<&RecordedEvent> = of_stream(stream, &self.records).collect();
        events.sort_by_key(|event| event.canonical_key());
        let mut log = Vec::new();
        let mut loaded = Loaded::<A>::initial(id);
        for event in events {
            log.push(arrived(event, &log));
            loaded = apply_last(stream, &Ok(loaded), &log)?;
            let restored = snapshots.restored(&loaded.state);
            loaded.state = restored.map_err(|error| format!("no snapshot of the state: {}", ErrorChain(&error)))?;
        }
        if loaded.state == *expected {
            return Ok(());
        }
        Err(format!(
            "the state of {} from a snapshot differs from the state without: look for a field that serde skips\n  from \
             a snapshot: {:?}\n  without: {expected:?}",
            std::any::type_name::<A>(),
            loaded.state
        ))
    }

    fn message_of_states<A: Debug>(&self, problem: &str, found: &OrderDependence<StateOrFailure<A>>) -> String {
        let [one, other] = found.events().map(|index| self.name_of(index));
        let mut text = format!("the state of {} {problem} {one} and {other}", std::any::type_name::<A>());
        for (order, result) in found.orders.iter().zip(&found.results) {
            let _ = write!(text, "\n  order: {}\n  state: ", self.names_of(order));
            let _ = match result {
                Ok(loaded) => write!(text, "{:?}", loaded.state),
                Err(failure) => write!(text, "{failure}"),
            };
        }
        for index in &found.orders[0] {
            let _ = write!(text, "\n  {}", self.description_of(*index));
        }
        text
    }
}

fn of_stream<'a>(stream: &StreamId, records: &'a [RecordedEvent]) -> impl Iterator<Item = &'a RecordedEvent> {
    records.iter().filter(move |record| record.stream == *stream)
}

/// Returns the state of a log, folded in canonical order.
fn fold_records<A: Evolve>(id: &A::Id, stream: &StreamId, log: &[RecordedEvent]) -> StateOrFailure<A> {
    let events = of_stream(stream, log).cloned().collect();
    Loaded::fold_records(id, events).map_err(|error| ErrorChain(&error).to_string())
}

/// Returns the state of a node after the last event of its log, from the state before: folded again if it is late.
fn arrive<A: Evolve>(
    id: &A::Id,
    stream: &StreamId,
    before: &StateOrFailure<A>,
    log: &[RecordedEvent],
) -> StateOrFailure<A> {
    let last = log.last().filter(|last| last.stream == *stream);
    match (before, last) {
        (Ok(loaded), Some(last)) if loaded.must_fold_again(last.into()).unwrap_or(true) => {
            fold_records(id, stream, log)
        }
        _ => apply_last(stream, before, log),
    }
}

/// Returns the state after the last event of a log, from the state before, whether the event is late or not. A deletion
/// is not an event of the domain, so the events that it keeps are folded again.
fn apply_last<A: Evolve>(stream: &StreamId, before: &StateOrFailure<A>, log: &[RecordedEvent]) -> StateOrFailure<A> {
    let mut loaded = before.clone()?;
    if let Some(last) = log.last().filter(|last| last.stream == *stream) {
        if Erasure::of(last).is_some()
            && let Some(id) = A::id_of(stream)
        {
            return fold_records(&id, stream, log);
        }
        loaded.apply(last.into()).map_err(|error| ErrorChain(&error).to_string())?;
    }
    Ok(loaded)
}
