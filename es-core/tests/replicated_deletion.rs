#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]
//! A deletion of a replicated stream removes the events that its node had, and keeps all others, in every order of
//! arrival.

use std::num::NonZeroU64;
use std::sync::Arc;

use es_core::aggregate::SnapshotPolicy;
use es_core::model::{CommandDigest, Dot, Entropy, HybridTime, OriginId, Stamp, VectorClock};
use es_core::prelude::*;
use es_core::retention::{Erasure, Note, ReplicatedDeletion};
use es_core::store::memory::MemoryStore;
use es_core::store::{InvalidCommit, LogRead, QueryItem};
use es_core::testing::{SeededEntropy, given_events};
use es_core::{Commit, CommitError, NewEvent, StreamId};
use serde::{Deserialize, Serialize};

type Store = Arc<dyn EventStore>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "noted")]
struct Noted(u64);

/// The events in the order of the fold, each with its index and the events that it is concurrent with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "trace", id = u64, event = Noted,
    consistency = "causal", conflict = "canonical", snapshot(every = 3)
)]
struct Trace(Vec<(u64, u64, Vec<String>)>);

impl Evolve for Trace {
    fn initial(_: &u64) -> Self {
        Self(Vec::new())
    }
    fn evolve(&mut self, Noted(number): &Noted, at: &EventContext<'_>) {
        let concurrent = at.concurrent_with().iter().map(ToString::to_string).collect();
        self.0.push((*number, at.revision().get(), concurrent));
    }
}

impl Trace {
    fn numbers(&self) -> Vec<u64> {
        self.0.iter().map(|(number, ..)| *number).collect()
    }
}

fn stream() -> StreamId {
    StreamId::new("trace-7").unwrap()
}

fn dot(origin: u64, sequence: u64) -> Dot {
    Dot { origin: OriginId::new(origin), sequence: NonZeroU64::new(sequence).unwrap() }
}

fn stamped(mut event: NewEvent, dot: Dot, micros: u64, seen: &[Dot]) -> NewEvent {
    let (time, seen) = (HybridTime::from_bits(micros << 12), Some(seen.iter().copied().collect()));
    event.data.stamp = Some(Box::new(Stamp { dot, time, seen, command: None }));
    event
}

/// Returns an event that an origin decided at a hybrid time, when it had recorded the events `seen` of others.
fn noted(number: u64, dot: Dot, micros: u64, seen: &[Dot]) -> NewEvent {
    let encoded = Noted(number).encode().unwrap();
    let event = NewEvent::new(encoded.event_type, encoded.version, encoded.content_type, encoded.payload);
    stamped(event, dot, micros, seen)
}

/// Returns the deletion of these events, by a node that had recorded them.
fn deleted(through: &[Dot], dot: Dot, micros: u64) -> NewEvent {
    let deletion = ReplicatedDeletion { through: through.iter().copied().collect(), note: Note::default() };
    let seen: Vec<Dot> = through.iter().copied().filter(|seen| seen.origin != dot.origin).collect();
    stamped(deletion.encode().unwrap(), dot, micros, &seen)
}

fn of_command(mut event: NewEvent, command: &str) -> NewEvent {
    let command = (CommandId::new(command).unwrap(), CommandDigest::from_bits(1));
    event.data.stamp.as_mut().unwrap().command = Some(command);
    event
}

async fn append(store: &Store, event: NewEvent) {
    store.commit(Commit::foreign().append(stream(), event)).await.unwrap();
}

async fn store_with(events: &[&NewEvent]) -> Store {
    let store: Store = Arc::new(MemoryStore::new());
    for event in events {
        append(&store, NewEvent::clone(event)).await;
    }
    store
}

/// Loads without a cache and without snapshots.
async fn folded(store: &Store) -> es_core::Loaded<Trace> {
    Repository::<Trace>::new(Arc::clone(store)).without_cache().without_snapshots().load(&7).await.unwrap()
}

/// Returns every order of the events in which each follows those that its node had seen.
fn orders(events: &[NewEvent]) -> Vec<Vec<&NewEvent>> {
    fn extend<'a>(
        order: &mut Vec<&'a NewEvent>,
        known: &VectorClock,
        events: &'a [NewEvent],
        all: &mut Vec<Vec<&'a NewEvent>>,
    ) {
        if order.len() == events.len() {
            all.push(order.clone());
        }
        for event in events {
            let stamp = event.data.stamp.as_ref().unwrap();
            let before = NonZeroU64::new(stamp.dot.sequence.get() - 1);
            let follows = before.is_none_or(|sequence| known.includes(Dot { sequence, ..stamp.dot }));
            let has_causes = stamp.seen.as_ref().unwrap().iter().all(|dot| known.includes(dot));
            if follows && has_causes && !known.includes(stamp.dot) {
                let mut known = known.clone();
                known.extend([stamp.dot]);
                order.push(event);
                extend(order, &known, events, all);
                order.pop();
            }
        }
    }
    let mut all = Vec::new();
    extend(&mut Vec::new(), &VectorClock::new(), events, &mut all);
    all
}

/// Folds the events in every order of arrival, from scratch, from a cached state and from snapshots after each event,
/// and returns the numbers of the state and whether the aggregate exists.
async fn in_any_order(events: &[NewEvent]) -> (Vec<u64>, bool) {
    let mut results = Vec::new();
    for order in orders(events) {
        let store: Store = Arc::new(MemoryStore::new());
        let traces = Repository::<Trace>::new(Arc::clone(&store)).with_snapshot_policy(SnapshotPolicy::every(1));
        for event in &order {
            append(&store, NewEvent::clone(event)).await;
            let cached = traces.load(&7).await.unwrap();
            traces.settle().await;
            let reopened = Repository::<Trace>::new(Arc::clone(&store)).load(&7).await.unwrap();
            let expected = folded(&store).await;
            for loaded in [cached, reopened] {
                assert_eq!((&loaded.state, loaded.revision), (&expected.state, expected.revision));
                assert_eq!((loaded.version(), loaded.position), (expected.version(), expected.position));
            }
        }
        let last = folded(&store).await;
        let version = last.version();
        results.push((last.state, version));
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:#?}");
    let (state, version) = results.swap_remove(0);
    (state.numbers(), version.is_some())
}

/// A deletes the aggregate while B, which has its first event, adds another one.
#[tokio::test]
async fn a_deletion_keeps_concurrent_events_in_every_order_of_arrival() {
    let first = noted(1, dot(0xa, 1), 10, &[]);
    let second = noted(2, dot(0xa, 2), 20, &[]);
    let deletion = deleted(&[dot(0xa, 2)], dot(0xa, 3), 30);
    for micros in [15, 25, 35] {
        let concurrent = noted(3, dot(0xb, 1), micros, &[dot(0xa, 1)]);
        let events = [first.clone(), second.clone(), deletion.clone(), concurrent];
        assert_eq!(in_any_order(&events).await, (vec![3], true), "at {micros}");
    }
    assert_eq!(in_any_order(&[first.clone(), second.clone(), deletion.clone()]).await, (vec![], false));
    // C creates it again after it has the deletion.
    let again = noted(4, dot(0xc, 1), 40, &[dot(0xa, 3)]);
    assert_eq!(in_any_order(&[first, second, deletion, again]).await, (vec![4], true));
}

/// Two nodes delete the aggregate without knowing of each other, and a third one keeps writing.
#[tokio::test]
async fn concurrent_deletions_delete_what_each_of_them_had() {
    let events = [
        noted(1, dot(0xa, 1), 10, &[]),
        noted(2, dot(0xb, 1), 12, &[]),
        deleted(&[dot(0xa, 1)], dot(0xa, 2), 20),
        deleted(&[dot(0xb, 1)], dot(0xb, 2), 21),
    ];
    assert_eq!(in_any_order(&events).await, (vec![], false));
    let kept = noted(3, dot(0xc, 1), 11, &[]);
    assert_eq!(in_any_order(&[&events[..], std::slice::from_ref(&kept)].concat()).await, (vec![3], true));
    let last = deleted(&[dot(0xa, 2), dot(0xb, 2), dot(0xc, 1)], dot(0xc, 2), 30);
    assert_eq!(in_any_order(&[&events[..], &[kept, last]].concat()).await, (vec![], false));
}

/// B executed a command that A had executed, too, before A deleted the aggregate: the events of B count then.
#[tokio::test]
async fn a_command_whose_events_are_deleted_counts_on_the_node_that_did_not_know_of_the_deletion() {
    let first = of_command(noted(1, dot(0xa, 1), 10, &[]), "request-1");
    let repeat = of_command(noted(2, dot(0xb, 1), 15, &[]), "request-1");
    let deletion = deleted(&[dot(0xa, 1)], dot(0xa, 2), 20);
    assert_eq!(in_any_order(&[first.clone(), repeat.clone()]).await, (vec![1], true));
    assert_eq!(in_any_order(&[first, repeat, deletion]).await, (vec![2], true));
}

/// The version of a deleted aggregate is none, and that of a kept one includes all events.
#[tokio::test]
async fn a_deleted_aggregate_has_no_revision_and_no_version() {
    let store = store_with(&[&noted(1, dot(0xa, 1), 10, &[]), &deleted(&[dot(0xa, 1)], dot(0xa, 2), 20)]).await;
    let loaded = folded(&store).await;
    assert_eq!((loaded.revision, loaded.position, loaded.version()), (None, None, None));
    append(&store, noted(2, dot(0xa, 3), 30, &[])).await;
    let again = folded(&store).await;
    assert_eq!((again.revision, again.state.numbers()), (Some(Revision::new(2)), vec![2]));
    assert_eq!(again.state.0[0].1, 2, "the index counts deleted events, too");
}

/// The store adopted two events when it became a replica. B had received one of them when it deleted the stream.
#[tokio::test]
async fn a_deletion_covers_the_events_from_before_the_replication_that_its_node_had() {
    let genesis =
        |number, sequence| noted(number, Dot { origin: OriginId::GENESIS, ..dot(1, sequence) }, sequence, &[]);
    let (one, two) = (genesis(1, 5), genesis(2, 6));
    let deletion = |last| deleted(&[Dot { origin: OriginId::GENESIS, ..dot(1, last) }], dot(0xb, 1), 50);
    let numbers = async |events: &[&NewEvent]| folded(&store_with(events).await).await.state.numbers();
    // The stream has two of the events, whose sequences in the store are greater.
    let mut unseen = deletion(1);
    unseen.data.stamp.as_mut().unwrap().seen = Some(VectorClock::new());
    assert_eq!(numbers(&[&one, &unseen, &two]).await, [2]);
    assert_eq!(numbers(&[&one, &two, &unseen]).await, [2]);
    let mut all = deletion(2);
    all.data.stamp.as_mut().unwrap().seen = Some(VectorClock::new());
    assert_eq!(numbers(&[&one, &two, &all]).await, [0; 0]);
    // The node that recorded them has them without stamps.
    let adopted: Store = Arc::new(MemoryStore::new());
    for event in [&one, &two] {
        let (mut unstamped, time) = (event.clone(), event.data.stamp.as_ref().unwrap().time.physical());
        unstamped.data.stamp = None;
        adopted.commit(Commit::new().append(stream(), unstamped).recorded_at(time)).await.unwrap();
    }
    append(&adopted, unseen).await;
    assert_eq!(folded(&adopted).await.state.numbers(), [2]);
}

/// Generates events and deletions of three nodes that exchange events at random, and the numbers that no deletion
/// covers, in canonical order.
fn history(random: &SeededEntropy, count: u64) -> (Vec<NewEvent>, Vec<u64>) {
    let mut known = [VectorClock::new(), VectorClock::new(), VectorClock::new()];
    let (mut clocks, mut events, mut deletions) = ([0u64; 3], Vec::new(), Vec::new());
    for number in 1..=count {
        let (node, peer) = ((random.next_u64() % 3) as usize, (random.next_u64() % 3) as usize);
        if random.next_u64().is_multiple_of(2) {
            let (seen, time) = (known[peer].clone(), clocks[peer]);
            known[node].merge(&seen);
            clocks[node] = clocks[node].max(time);
        }
        let origin = OriginId::new(node as u64 + 1);
        let new = dot(origin.get(), known[node].get(origin).map_or(1, |last| last.get() + 1));
        clocks[node] += 1 + random.next_u64() % 4;
        let seen: Vec<Dot> = known[node].iter().filter(|dot| dot.origin != origin).collect();
        let all: Vec<Dot> = known[node].iter().collect();
        if !all.is_empty() && random.next_u64().is_multiple_of(4) {
            deletions.push(known[node].clone());
            events.push(deleted(&all, new, clocks[node]));
        } else {
            events.push(noted(number, new, clocks[node], &seen));
        }
        known[node].extend([new]);
    }
    let mut kept = events.clone();
    kept.sort_by_key(|event| event.data.stamp.as_ref().unwrap().canonical_key());
    kept.retain(|event| {
        let dot = event.data.stamp.as_ref().unwrap().dot;
        event.data.event_type == "noted" && !deletions.iter().any(|known| known.includes(dot))
    });
    let numbers = kept.iter().map(|event| serde_json::from_slice::<Noted>(&event.data.payload).unwrap().0).collect();
    (events, numbers)
}

#[tokio::test]
async fn nodes_with_equal_events_and_deletions_have_the_kept_events() {
    let (mut orders_seen, mut deleted_states) = (0, 0);
    for seed in 0..200 {
        let (events, expected) = history(&SeededEntropy::new(seed), 5);
        orders_seen += orders(&events).len();
        deleted_states += usize::from(expected.is_empty());
        assert_eq!(in_any_order(&events).await, (expected.clone(), !expected.is_empty()), "seed {seed}");
    }
    assert!(orders_seen > 1000 && deleted_states > 10, "{orders_seen} orders, {deleted_states} deleted states");
}

/// The harness of convergence tests deletes on a node, too.
#[test]
fn a_history_of_a_test_can_delete() {
    let state: Trace = given_events()
        .of::<Trace>(7, [Noted(1)])
        .on_node("a")
        .of::<Trace>(7, [Noted(2)])
        .deleted::<Trace>(7, es_core::retention::DeleteKind::Soft)
        .on_node("b")
        .of::<Trace>(7, [Noted(3)])
        .fold_in_any_order(7);
    assert_eq!(state.numbers(), [3]);
}

#[tokio::test]
async fn a_deletion_without_a_stamp_or_without_events_is_refused() {
    let store: Store = Arc::new(MemoryStore::new());
    let deletion = |through: &[Dot]| {
        let through = through.iter().copied().collect();
        ReplicatedDeletion { through, note: Note::default() }.encode().unwrap()
    };
    let refused = async |commit: Commit| match store.commit(commit).await {
        Err(CommitError::Invalid(InvalidCommit::Reserved { found, .. })) => found,
        other => panic!("{other:?}"),
    };
    let found = refused(Commit::new().append(stream(), deletion(&[dot(0xa, 1)]))).await;
    assert!(found.contains("not replicated"), "{found}");
    let empty = stamped(deletion(&[]), dot(0xa, 1), 10, &[]);
    assert!(refused(Commit::foreign().append(stream(), empty)).await.contains("no deleted event"));
    let membership = StreamId::new("es.membership").unwrap();
    let of_membership = stamped(deletion(&[dot(0xa, 1)]), dot(0xa, 1), 10, &[]);
    assert!(refused(Commit::foreign().append(membership, of_membership)).await.contains("es.membership"));
}

#[tokio::test]
async fn a_deletion_is_an_erasure_of_its_stream() {
    let store = store_with(&[&noted(1, dot(0xa, 1), 10, &[]), &deleted(&[dot(0xa, 1)], dot(0xa, 2), 20)]).await;
    let found = store.read_log(LogRead::matching(QueryItem::erasures())).await.unwrap().collect().await.unwrap();
    let [event] = &found[..] else { panic!("{found:?}") };
    let erasure = Erasure::of(event).unwrap();
    assert_eq!(
        (erasure.stream(), erasure.to_string()),
        (Some(&stream()), "soft deletion of stream \"trace-7\"".into())
    );
    let mut unstamped = event.clone();
    unstamped.data.stamp = None;
    assert_eq!(Erasure::of(&unstamped), None);
}
