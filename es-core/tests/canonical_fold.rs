//! The state of a causal aggregate is folded in canonical order, whatever the order in which its events arrive.

use std::num::NonZeroU64;
use std::sync::Arc;

use es_core::aggregate::SnapshotPolicy;
use es_core::aggregate::snapshot::{self, SnapshotHeader};
use es_core::model::{CommandDigest, Dot, Entropy, HybridTime, OriginId, Stamp, VectorClock};
use es_core::prelude::*;
use es_core::store::RowScan;
use es_core::store::memory::MemoryStore;
use es_core::testing::SeededEntropy;
use es_core::{Commit, LoadError, NewEvent, StreamId, StreamRead, Timestamp, UnitOfWork};
use serde::{Deserialize, Serialize};

type Store = Arc<dyn EventStore>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "noted")]
struct Noted(u64);

/// Every event that was applied, with all values of its context that may depend on the order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "trace", id = u64, event = Noted,
    consistency = "causal", conflict = "canonical", snapshot(every = 3)
)]
struct Trace(Vec<(u64, u64, Timestamp, Vec<String>)>);

impl Evolve for Trace {
    fn initial(_: &u64) -> Self {
        Self(Vec::new())
    }
    fn evolve(&mut self, Noted(number): &Noted, at: &EventContext<'_>) {
        assert_eq!(at.is_concurrent(), !at.concurrent_with().is_empty());
        let concurrent = at.concurrent_with().iter().map(ToString::to_string).collect();
        self.0.push((*number, at.revision().get(), at.recorded_at(), concurrent));
    }
}

#[derive(Clone, Serialize)]
struct Note(u64);

impl Decide<Note> for Trace {
    type Rejection = std::convert::Infallible;
    fn decide(&self, Note(number): Note, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Noted(number).into())
    }
}

impl Trace {
    fn numbers(&self) -> Vec<u64> {
        self.0.iter().map(|(number, ..)| *number).collect()
    }

    /// Returns the numbers of the events that were concurrent with an earlier one.
    fn concurrent(&self) -> Vec<u64> {
        self.0.iter().filter(|(.., concurrent)| !concurrent.is_empty()).map(|(number, ..)| *number).collect()
    }
}

fn stream() -> StreamId {
    StreamId::new("trace-7").expect("a name")
}

fn dot(origin: u64, sequence: u64) -> Dot {
    Dot { origin: OriginId::new(origin), sequence: NonZeroU64::new(sequence).expect("from 1") }
}

/// Returns an event that an origin decided at a hybrid time, when it had recorded the events `seen` of others.
fn event(number: u64, dot: Dot, micros: u64, seen: &[Dot]) -> NewEvent {
    let encoded = Noted(number).encode().expect("encoded");
    let mut event = NewEvent::new(encoded.event_type, encoded.version, encoded.content_type, encoded.payload);
    let seen: VectorClock = seen.iter().copied().collect();
    let time = HybridTime::from_bits(micros << 12);
    event.data.stamp = Some(Box::new(Stamp { dot, time, seen: Some(seen), command: None }));
    event
}

fn of_command(event: NewEvent, command: &str) -> NewEvent {
    with_digest(event, command, 1)
}

fn with_digest(mut event: NewEvent, command: &str, digest: u64) -> NewEvent {
    let command = (CommandId::new(command).expect("a name"), CommandDigest::from_bits(digest));
    event.data.stamp.as_mut().expect("a stamp").command = Some(command);
    event
}

async fn append(store: &Store, event: NewEvent) {
    store.commit(Commit::foreign().append(stream(), event)).await.expect("written");
}

async fn store_with(events: &[&NewEvent]) -> Store {
    let store: Store = Arc::new(MemoryStore::new());
    for event in events {
        append(&store, NewEvent::clone(event)).await;
    }
    store
}

/// Returns the state without a cache and without snapshots.
async fn folded(store: &Store) -> Trace {
    Repository::<Trace>::new(Arc::clone(store))
        .without_cache()
        .without_snapshots()
        .load(&7)
        .await
        .expect("loaded")
        .state
}

/// The worked example of the design: C was cut off after e1, and wrote e4.
#[tokio::test]
async fn late_events_are_folded_in_canonical_order() {
    let e1 = event(1, dot(0xa, 1), 100, &[]);
    let e3 = event(3, dot(0xa, 2), 105, &[]);
    let e2 = event(2, dot(0xb, 1), 110, &[dot(0xa, 1)]);
    let e4 = event(4, dot(0xc, 1), 103, &[dot(0xa, 1)]);
    let nodes = [[&e1, &e3, &e2, &e4], [&e1, &e2, &e3, &e4], [&e1, &e4, &e3, &e2]];
    let expected = folded(&store_with(&nodes[0]).await).await;
    assert_eq!(expected.numbers(), [1, 4, 3, 2]);
    assert_eq!(expected.concurrent(), [3, 2], "e3 and e4 are concurrent, and so are e2 and both of them");
    let Trace(events) = &expected;
    let [_, _, third, last] = &events[..] else { panic!("four events") };
    assert_eq!(last.3, [dot(0xa, 2).to_string(), dot(0xc, 1).to_string()]);
    assert_eq!(third.1, 2, "the revision is the index in the fold");
    assert_eq!(third.2.timestamp_micros(), 105, "the recorded time is that of the node that decided");
    for node in nodes {
        assert_eq!(folded(&store_with(&node).await).await, expected);
    }
}

/// A snapshot is used only if no later event of the log precedes an event of its state.
#[tokio::test]
async fn a_snapshot_that_a_late_event_precedes_is_not_used() {
    let store: Store = Arc::new(MemoryStore::new());
    let traces = Repository::<Trace>::new(Arc::clone(&store));
    let mut events = Vec::new();
    for n in 1..=6 {
        let next = event(n, dot(0xa, n), n * 10, &[]);
        append(&store, next.clone()).await;
        events.push(next);
        traces.load(&7).await.expect("loaded");
        traces.settle().await;
    }
    let snapshots = store.rows(RowScan::new(snapshot::table(), "", 10)).await.expect("scanned");
    let last = snapshots.iter().map(|row| SnapshotHeader::read(&row.value).expect("a header").0.last);
    let key = |n: u64| events[n as usize - 1].data.stamp.as_ref().expect("a stamp").canonical_key();
    assert!(last.eq([Some(key(3)), Some(key(6))]), "after 3 and after 6 events");
    // It precedes the second snapshot, but not the first one.
    append(&store, event(7, dot(0xb, 1), 45, &[])).await;
    let expected = [1, 2, 3, 4, 7, 5, 6];
    assert_eq!(traces.load(&7).await.expect("loaded").state.numbers(), expected, "with a cached state");
    let reopened = Repository::<Trace>::new(Arc::clone(&store)).load(&7).await.expect("loaded");
    assert_eq!((reopened.state.numbers(), reopened.state), (expected.to_vec(), folded(&store).await));
    // It precedes both.
    append(&store, event(8, dot(0xb, 2), 5, &[])).await;
    let expected = folded(&store).await;
    assert_eq!(expected.numbers(), [8, 1, 2, 3, 4, 7, 5, 6]);
    assert_eq!(traces.load(&7).await.expect("loaded").state, expected);
    assert_eq!(Repository::<Trace>::new(store).load(&7).await.expect("loaded").state, expected);
}

/// R15: a client that retries a command on another node has one effect.
#[tokio::test]
async fn a_command_that_two_nodes_executed_counts_once() {
    let first = of_command(event(1, dot(0xa, 1), 10, &[]), "request-1");
    let second_event = event(2, dot(0xa, 2), 11, &[]);
    let retry = of_command(event(3, dot(0xb, 1), 20, &[]), "request-1");
    let other = of_command(event(4, dot(0xb, 2), 30, &[dot(0xa, 2)]), "request-2");
    for order in [[&first, &second_event, &retry, &other], [&retry, &first, &second_event, &other]] {
        let store: Store = Arc::new(MemoryStore::new());
        let traces = Repository::<Trace>::new(Arc::clone(&store)).with_snapshot_policy(SnapshotPolicy::every(1));
        for event in order {
            append(&store, event.clone()).await;
            // From the snapshot that does not contain the new event.
            let from_snapshot = Repository::<Trace>::new(Arc::clone(&store)).load(&7).await.expect("loaded").state;
            let cached = traces.load(&7).await.expect("loaded").state;
            traces.settle().await;
            assert_eq!((&cached, &from_snapshot), (&folded(&store).await, &cached));
        }
        assert_eq!(folded(&store).await.numbers(), [1, 2, 4]);
    }
}

/// Two clients gave one id to different commands, on two nodes that did not know of each other. Both were acknowledged.
#[tokio::test]
async fn different_commands_under_one_id_both_count() {
    let one = with_digest(event(1, dot(0xa, 1), 10, &[]), "request-1", 1);
    let other = with_digest(event(2, dot(0xb, 1), 20, &[]), "request-1", 2);
    assert_eq!(folded(&store_with(&[&one, &other]).await).await.numbers(), [1, 2]);
}

/// A snapshot within a commit would not have the vector clock of the commit.
#[tokio::test]
async fn a_snapshot_contains_whole_commits() {
    let store: Store = Arc::new(MemoryStore::new());
    let traces = Repository::<Trace>::new(Arc::clone(&store)).with_snapshot_policy(SnapshotPolicy::every(1));
    UnitOfWork::new(&store).execute(&traces, 7, Note(1)).execute(&traces, 7, Note(2)).await.expect("executed");
    traces.settle().await;
    let rows = store.rows(RowScan::new(snapshot::table(), "", 10)).await.expect("scanned");
    let revisions: Vec<u64> =
        rows.iter().map(|row| u64::from_be_bytes(*row.key.last_chunk().expect("a revision"))).collect();
    assert_eq!(revisions, [1]);
}

/// A store became a replica after two events, which have no stamp there. Other nodes have copies with a stamp.
#[tokio::test]
async fn events_from_before_the_replication_have_the_same_version_everywhere() {
    let plain = |number: u64| {
        let mut event = event(number, dot(0xa, 1), 0, &[]);
        event.data.stamp = None;
        event
    };
    let genesis: Store = Arc::new(MemoryStore::new());
    for number in [1, 2] {
        let commit = Commit::to(&stream(), ExpectedRevision::Any, [plain(number)]);
        genesis.commit(commit).await.expect("written");
    }
    let records = genesis.read_stream(StreamRead::new(stream())).await.expect("read").collect().await.expect("read");
    let copies: Vec<NewEvent> = (5..)
        .zip(&records)
        .map(|(sequence, record)| {
            let mut data = record.data.clone();
            let dot = Dot { origin: OriginId::GENESIS, sequence: NonZeroU64::new(sequence).expect("from 1") };
            let time = HybridTime::at(record.recorded_at);
            data.stamp = Some(Box::new(Stamp { dot, time, seen: Some(VectorClock::new()), command: None }));
            NewEvent { data, occurred_at: None }
        })
        .collect();
    let other = store_with(&copies.iter().collect::<Vec<_>>()).await;
    let load = async |store: &Store| Repository::<Trace>::new(Arc::clone(store)).load(&7).await.expect("loaded");
    let (one, two) = (load(&genesis).await, load(&other).await);
    assert_eq!((one.version(), one.state.numbers()), (two.version(), two.state.numbers()));
    let later = event(3, dot(0xb, 1), u64::from(u32::MAX) << 20, &[]);
    append(&genesis, later.clone()).await;
    append(&other, later).await;
    let (one, two) = (load(&genesis).await, load(&other).await);
    assert_eq!((one.version(), one.state.numbers()), (two.version(), vec![1, 2, 3]));
    assert_eq!(two.state.numbers(), [1, 2, 3]);
}

#[tokio::test]
async fn a_late_event_before_too_many_events_is_an_error() {
    let store: Store = Arc::new(MemoryStore::new());
    let many = (1..=100_000).map(|n| event(n, dot(0xa, n), n + 10, &[]));
    let commit = many.fold(Commit::foreign(), |commit, event| commit.append(stream(), event));
    store.commit(commit).await.expect("written");
    let traces = Repository::<Trace>::new(Arc::clone(&store)).without_cache().without_snapshots();
    append(&store, event(0, dot(0xb, 1), 200_000, &[])).await;
    assert_eq!(traces.load(&7).await.expect("loaded").revision, Some(Revision::new(100_000)), "in order");
    append(&store, event(0, dot(0xb, 2), 1, &[])).await;
    let error = traces.load(&7).await.expect_err("too many");
    assert!(matches!(error, LoadError::TooManyEvents { max: 100_000, .. }), "{error}");
}

/// Generates events of three nodes that exchange events at random. Returns them in the order of their creation.
fn history(random: &SeededEntropy, count: u64) -> Vec<NewEvent> {
    let mut known = [VectorClock::new(), VectorClock::new(), VectorClock::new()];
    let mut clocks = [0u64; 3];
    let mut events = Vec::new();
    for number in 1..=count {
        let node = (random.next_u64() % 3) as usize;
        let peer = (random.next_u64() % 3) as usize;
        if random.next_u64().is_multiple_of(3) {
            let (seen, time) = (known[peer].clone(), clocks[peer]);
            known[node].merge(&seen);
            clocks[node] = clocks[node].max(time);
        }
        let origin = OriginId::new(node as u64 + 1);
        let sequence = known[node].get(origin).map_or(1, |last| last.get() + 1);
        clocks[node] += 1 + random.next_u64() % 4;
        let seen: Vec<Dot> = known[node].iter().filter(|dot| dot.origin != origin).collect();
        let new = dot(origin.get(), sequence);
        events.push(event(number, new, clocks[node], &seen));
        known[node].extend([new]);
    }
    events
}

/// Returns the events in a random order in which every event follows those that its node had seen.
fn arrival(random: &SeededEntropy, events: &[NewEvent]) -> Vec<NewEvent> {
    let (mut rest, mut known, mut order) = (events.to_vec(), VectorClock::new(), Vec::new());
    while !rest.is_empty() {
        let is_admissible = |event: &NewEvent| {
            let stamp = event.data.stamp.as_ref().expect("a stamp");
            let before = stamp.dot.sequence.get() - 1;
            let follows = NonZeroU64::new(before).is_none_or(|sequence| known.includes(Dot { sequence, ..stamp.dot }));
            follows && stamp.seen.as_ref().is_none_or(|seen| seen.iter().all(|dot| known.includes(dot)))
        };
        let admissible: Vec<usize> = (0..rest.len()).filter(|index| is_admissible(&rest[*index])).collect();
        let next = rest.remove(admissible[random.next_u64() as usize % admissible.len()]);
        known.extend([next.data.stamp.as_ref().expect("a stamp").dot]);
        order.push(next);
    }
    order
}

#[tokio::test]
async fn equal_sets_of_events_give_equal_states_and_versions() {
    for seed in 0..150 {
        let random = SeededEntropy::new(seed);
        let events = history(&random, 12);
        let mut results = Vec::new();
        for _ in 0..3 {
            let store: Store = Arc::new(MemoryStore::new());
            let traces = Repository::<Trace>::new(Arc::clone(&store));
            for event in arrival(&random, &events) {
                append(&store, event).await;
                if random.next_u64().is_multiple_of(2) {
                    let loaded = traces.load(&7).await.expect("loaded");
                    assert_eq!(loaded.state, folded(&store).await, "seed {seed}: a cached state");
                    traces.settle().await;
                    let reopened = Repository::<Trace>::new(Arc::clone(&store)).load(&7).await.expect("loaded");
                    assert_eq!((reopened.version(), reopened.state), (loaded.version(), loaded.state), "seed {seed}");
                }
            }
            let loaded = traces.load(&7).await.expect("loaded");
            results.push((loaded.version(), loaded.state, loaded.revision));
        }
        assert!(results.iter().all(|result| *result == results[0]), "seed {seed}: {results:#?}");
        let mut sorted = events.clone();
        sorted.sort_by_key(|event| event.data.stamp.as_ref().expect("a stamp").canonical_key());
        let expected: Vec<Noted> =
            sorted.iter().map(|event| serde_json::from_slice(&event.data.payload).expect("read")).collect();
        assert_eq!(results[0].1.numbers(), expected.iter().map(|noted| noted.0).collect::<Vec<_>>(), "seed {seed}");
    }
}

/// The dot of each event, with the dots of the earlier events that it follows.
#[derive(Clone, Debug, PartialEq, Aggregate)]
#[aggregate(category = "trace", id = u64, event = Noted, consistency = "eventual")]
struct Causes(Vec<(Dot, Vec<Dot>)>);

impl Evolve for Causes {
    fn initial(_: &u64) -> Self {
        Self(Vec::new())
    }
    fn evolve(&mut self, _: &Noted, at: &EventContext<'_>) {
        assert!(!at.follows(at.dot()));
        let seen = self.0.iter().map(|(dot, _)| *dot).filter(|dot| at.follows(*dot)).collect();
        self.0.push((at.dot(), seen));
    }
}

/// An event from before the replication may follow an event of another node in canonical order. The node that adopted
/// it has it without a stamp, the other nodes have it with one: both fold it alike, and no event follows it.
#[tokio::test]
async fn an_adopted_event_after_a_replicated_one_is_folded_alike_everywhere() {
    let replicated = event(1, dot(0xb, 1), 100, &[]);
    let stamped = event(2, dot(0, 9), 105, &[]);
    let mut unstamped = stamped.clone();
    unstamped.data.stamp = None;
    let adopted: Store = Arc::new(MemoryStore::new());
    let time = HybridTime::from_bits(105 << 12).physical();
    adopted.commit(Commit::new().append(stream(), unstamped).recorded_at(time)).await.expect("written");
    append(&adopted, replicated.clone()).await;
    let received = store_with(&[&replicated, &stamped]).await;

    assert_eq!(folded(&adopted).await, folded(&received).await);
    assert_eq!(folded(&received).await.concurrent(), [0; 0]);
    let genesis = Dot { origin: OriginId::GENESIS, sequence: NonZeroU64::MIN };
    for store in [adopted, received] {
        let Causes(causes) = Repository::<Causes>::new(store).load(&7).await.expect("loaded").state;
        assert_eq!(causes, [(dot(0xb, 1), vec![]), (genesis, vec![])]);
    }
}

/// The second event of a commit has no clock of its own. An event from before the replication precedes all others.
#[tokio::test]
async fn an_event_follows_what_its_node_had_seen() {
    let store: Store = Arc::new(MemoryStore::new());
    let mut old = event(0, dot(0xa, 9), 1, &[]);
    old.data.stamp = None;
    let long_ago = HybridTime::from_bits(1 << 12).physical();
    store.commit(Commit::new().append(stream(), old).recorded_at(long_ago)).await.expect("written");
    append(&store, event(1, dot(0xa, 1), 100, &[dot(0, 9)])).await;
    append(&store, event(2, dot(0xa, 2), 105, &[dot(0, 9)])).await;
    let first = event(3, dot(0xb, 1), 110, &[dot(0, 9), dot(0xa, 1)]);
    let mut second = event(4, dot(0xb, 2), 111, &[]);
    second.data.stamp.as_mut().expect("a stamp").seen = None;
    store.commit(Commit::foreign().append(stream(), first).append(stream(), second)).await.expect("written");

    let genesis = Dot { origin: OriginId::GENESIS, sequence: NonZeroU64::MIN };
    let Causes(causes) = Repository::<Causes>::new(store).load(&7).await.expect("loaded").state;
    let expected = [
        (genesis, vec![]),
        (dot(0xa, 1), vec![genesis]),
        (dot(0xa, 2), vec![genesis, dot(0xa, 1)]),
        (dot(0xb, 1), vec![genesis, dot(0xa, 1)]),
        (dot(0xb, 2), vec![genesis, dot(0xa, 1), dot(0xb, 1)]),
    ];
    assert_eq!(causes, expected);
}
