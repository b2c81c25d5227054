#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]
//! The erasure of a stream on all nodes: no node keeps an event of it, and none gets one again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::consumer::group::StartAt;
use es_core::consumer::reactor::{ReactError, Reactor, ReactorContext, ReactorRunner};
use es_core::model::{Entropy, LogId, SubjectId};
use es_core::prelude::*;
use es_core::projection::view::{View, Views};
use es_core::projection::{Arrival, HandlesLateEvents, ProjectionOptions, StateView, Supervisor};
use es_core::retention::{DeleteKind, Erasure, Note, ReplicatedErasure, Scavenge};
use es_core::store::memory::MemoryStore;
use es_core::store::{LogRead, RowScan, StoreAdmin};
use es_core::testing::SeededEntropy;
use es_core::{Commit, CommitError, ExecuteError, Position, RecordedEvent, Revision, StreamId};
use es_replication::{DeleteError, LocalPeer, Pulled, Refusal, Replica, ReplicaOptions, StreamFilter};
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "noted")]
struct Noted(String);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "customer", id = u64, event = Noted, consistency = "causal", conflict = "canonical", snapshot(every = 2)
)]
struct Customer {
    notes: Vec<String>,
}

impl Evolve for Customer {
    fn initial(_: &u64) -> Self {
        Self::default()
    }
    fn evolve(&mut self, Noted(text): &Noted, _: &EventContext<'_>) {
        self.notes.push(text.clone());
    }
}

#[derive(Clone, Serialize)]
struct AddNote(String);

impl Decide<AddNote> for Customer {
    type Rejection = std::convert::Infallible;
    fn decide(&self, AddNote(text): AddNote, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Noted(text).into())
    }
}

struct Node {
    name: &'static str,
    store: MemoryStore,
    replica: Replica,
    customers: Repository<Customer>,
}

fn options(name: &str) -> ReplicaOptions {
    ReplicaOptions::new(name).with_confirm_timeout(Duration::from_millis(20))
}

async fn node(name: &'static str) -> Node {
    start(name, MemoryStore::new(), options(name).aggregate::<Customer>().unwrap()).await
}

async fn start(name: &'static str, store: MemoryStore, options: ReplicaOptions) -> Node {
    let store = store.with_hook(options.hook()).await.unwrap();
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let replica = Replica::new(Arc::clone(&shared)).unwrap();
    Node { name, store, replica, customers: Repository::new(shared) }
}

fn stream(id: u64) -> StreamId {
    Customer::stream(&id).unwrap()
}

impl Node {
    fn shared(&self) -> Arc<dyn EventStore> {
        Arc::new(self.store.clone())
    }

    async fn pull_with(&self, filter: StreamFilter, from: &Self) -> Pulled {
        let replica = self.replica.clone().with_filter(filter);
        let peer = LocalPeer::new(from.name, from.replica.source());
        let mut total = replica.pull(&peer, Duration::ZERO).await.unwrap();
        while !total.is_last {
            let next = replica.pull(&peer, Duration::ZERO).await.unwrap();
            total = Pulled { events: total.events + next.events, held: total.held + next.held, ..next };
        }
        total
    }

    async fn pull(&self, from: &Self) -> Pulled {
        self.pull_with(StreamFilter::all(), from).await
    }

    async fn note(&self, id: u64, text: &str) {
        self.customers.execute(&id, AddNote(text.to_owned())).await.unwrap();
    }

    async fn erase(&self, id: u64) {
        self.replica.erase(&stream(id), [], Note::default()).await.unwrap();
    }

    async fn notes(&self, id: u64) -> Vec<String> {
        let loaded = self.customers.load(&id).await.unwrap();
        assert_eq!(loaded.revision.is_some(), !loaded.state.notes.is_empty());
        let reopened = Repository::<Customer>::new(self.shared()).load(&id).await.unwrap();
        assert_eq!((&reopened.state, reopened.version()), (&loaded.state, loaded.version()));
        loaded.state.notes
    }

    async fn events(&self) -> Vec<RecordedEvent> {
        self.store.read_log(LogRead::all()).await.unwrap().collect().await.unwrap()
    }

    /// Returns the types of the events of the stream that reads return.
    async fn visible(&self, id: u64) -> Vec<String> {
        let events = self.events().await;
        let of_stream = events.into_iter().filter(|event| event.stream == stream(id));
        of_stream.map(|event| event.data.event_type.to_string()).collect()
    }

    /// Returns the number of events that were ever stored, also hidden ones.
    async fn stored(&self) -> u64 {
        self.store.head().await.unwrap().map_or(0, Position::get)
    }
}

async fn exchange(nodes: &[&Node]) {
    for _ in nodes {
        for node in nodes {
            for peer in nodes.iter().filter(|peer| peer.name != node.name) {
                node.pull(peer).await;
            }
        }
    }
}

/// A erases the customer while B writes and C is cut off with events that A has and others that it has not.
#[tokio::test]
async fn an_erasure_removes_the_stream_on_every_node_with_concurrent_events() {
    let (a, b, c) = (node("a").await, node("b").await, node("c").await);
    a.note(1, "first").await;
    a.note(2, "other").await;
    exchange(&[&a, &b, &c]).await;
    c.note(1, "concurrent").await;
    b.note(1, "seen").await;
    a.pull(&b).await;
    a.erase(1).await;
    assert_eq!((a.notes(1).await, a.visible(1).await), (vec![], vec!["es.erased".to_owned()]));
    c.note(1, "later").await;
    // A does not store what C has, and C erases it.
    let before = a.stored().await;
    let pulled = a.pull(&c).await;
    assert_eq!((pulled.events, pulled.held, a.stored().await), (0, 2, before));
    assert_eq!(c.notes(1).await.len(), 3);
    exchange(&[&a, &b, &c]).await;
    let knowledge = a.replica.knowledge().await.unwrap();
    for node in [&a, &b, &c] {
        assert_eq!(node.notes(1).await, [""; 0], "node {}", node.name);
        assert_eq!(node.visible(1).await, ["es.erased"], "node {}", node.name);
        assert_eq!(node.notes(2).await, ["other"], "node {}", node.name);
        assert_eq!(node.replica.knowledge().await.unwrap(), knowledge, "node {}", node.name);
    }
    // The pulls have nothing left, in any direction.
    for (node, peer) in [(&a, &c), (&c, &a), (&b, &c)] {
        let pulled = node.pull(peer).await;
        assert_eq!((pulled.events, pulled.held, pulled.bytes), (0, 0, 0));
    }
    // The content is gone after a scavenge, and nothing changes for the others. C never got the event of B.
    for (node, erased) in [(&a, 2), (&b, 2), (&c, 3)] {
        let report = node.store.scavenge(&Scavenge::default()).await.unwrap();
        assert_eq!(report.events, erased, "node {}", node.name);
    }
    exchange(&[&a, &b, &c]).await;
    assert_eq!(c.notes(2).await, ["other"]);
}

#[tokio::test]
async fn a_new_node_gets_no_erased_event_from_a_node_that_has_the_erasure() {
    let (a, c) = (node("a").await, node("c").await);
    a.note(1, "secret").await;
    c.pull(&a).await;
    c.note(1, "concurrent").await;
    a.erase(1).await;
    let d = node("d").await;
    assert_eq!((d.pull(&a).await.events, d.stored().await), (1, 1), "only the erasure");
    // C has not received the erasure and still sends the content.
    let pulled = d.pull(&c).await;
    assert_eq!((pulled.events, d.stored().await), (0, 1));
    let e = node("e").await;
    e.pull(&c).await;
    assert_eq!(e.notes(1).await.len(), 2, "C does not know of the erasure");
    e.pull(&d).await;
    assert_eq!(e.visible(1).await, ["es.erased"]);
    exchange(&[&a, &c, &d, &e]).await;
    let knowledge = a.replica.knowledge().await.unwrap();
    for node in [&c, &d, &e] {
        assert_eq!(node.replica.knowledge().await.unwrap(), knowledge, "node {}", node.name);
        assert_eq!(node.visible(1).await, ["es.erased"], "node {}", node.name);
    }
}

/// Two nodes erase one stream without knowing of each other: each keeps the erasure that it had first.
#[tokio::test]
async fn concurrent_erasures_converge() {
    let (a, b, c) = (node("a").await, node("b").await, node("c").await);
    a.note(1, "first").await;
    exchange(&[&a, &b, &c]).await;
    a.erase(1).await;
    b.erase(1).await;
    exchange(&[&a, &b, &c]).await;
    let knowledge = a.replica.knowledge().await.unwrap();
    for node in [&a, &b, &c] {
        assert_eq!((node.visible(1).await.len(), node.notes(1).await.len()), (1, 0), "node {}", node.name);
        assert_eq!(node.replica.knowledge().await.unwrap(), knowledge, "node {}", node.name);
    }
}

/// Nodes write, erase, pull, restart and are restored at random. In the end they have the same events of all other
/// streams, and none of the erased ones.
#[tokio::test]
async fn nodes_converge_without_the_erased_streams() {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let (mut erased_streams, mut dropped) = (0, 0);
    for seed in 0..60 {
        let random = SeededEntropy::new(seed);
        let choose = |count: u64| random.next_u64() % count;
        let mut nodes = vec![node("a").await, node("b").await, node("c").await];
        let mut backups: Vec<MemoryStore> = nodes.iter().map(|node| node.store.copy(LogId::new())).collect();
        let mut erased = BTreeSet::new();
        for step in 0..40 {
            let (index, id) = (choose(3) as usize, 1 + choose(4));
            let peer = (index + 1 + choose(2) as usize) % 3;
            match choose(12) {
                0..5 => {
                    // Refused if the node knows of the erasure.
                    let _ = nodes[index].customers.execute(&id, AddNote(format!("{seed}.{step}"))).await;
                }
                5 => match nodes[index].replica.erase(&stream(id), [], Note::default()).await {
                    Ok(()) => drop(erased.insert(id)),
                    Err(error) => assert!(matches!(error, DeleteError::NoEvents { .. }), "{error:?}"),
                },
                6 => {
                    let store = nodes[index].store.copy(nodes[index].store.log_id());
                    let options = options(NAMES[index]).aggregate::<Customer>().unwrap();
                    nodes[index] = start(NAMES[index], store, options).await;
                }
                7 => backups[index] = nodes[index].store.copy(LogId::new()),
                _ => dropped += nodes[index].pull(&nodes[peer]).await.held,
            }
        }
        // One node is replaced by its backup, from before or after erasures. Its peers have what it lacks, if they
        // pulled it before.
        exchange(&nodes.iter().collect::<Vec<_>>()).await;
        let restored = choose(3) as usize;
        let options = options(NAMES[restored]).aggregate::<Customer>().unwrap();
        nodes[restored] = start(NAMES[restored], backups[restored].copy(LogId::new()), options).await;
        exchange(&nodes.iter().collect::<Vec<_>>()).await;
        erased_streams += erased.len();
        let expected: Vec<_> = [nodes[0].notes(1).await, nodes[0].notes(2).await, nodes[0].notes(3).await].into();
        for node in &nodes {
            for id in &erased {
                assert_eq!(node.visible(*id).await, ["es.erased"], "seed {seed}, node {}", node.name);
                assert_eq!(node.notes(*id).await, [""; 0], "seed {seed}, node {}", node.name);
            }
            for (id, expected) in (1..).zip(&expected) {
                assert_eq!(node.notes(id).await, *expected, "seed {seed}, node {}, customer {id}", node.name);
            }
            assert_eq!(
                node.replica.knowledge().await.unwrap(),
                nodes[0].replica.knowledge().await.unwrap(),
                "seed {seed}, node {}",
                node.name
            );
        }
    }
    assert!(erased_streams > 60 && dropped > 20, "{erased_streams} erased streams, {dropped} dropped events");
}

#[tokio::test]
async fn an_erased_stream_is_closed_and_a_repeated_erasure_writes_nothing() {
    let (a, b) = (node("a").await, node("b").await);
    assert!(matches!(a.replica.erase(&stream(1), [], Note::default()).await, Err(DeleteError::NoEvents { .. })));
    let draft = StreamId::new("draft-1").unwrap();
    let error = a.replica.erase(&draft, [], Note::default()).await.unwrap_err();
    assert!(matches!(error, DeleteError::NotReplicated { .. }), "{error:?}");
    a.note(1, "first").await;
    a.erase(1).await;
    b.pull(&a).await;
    for node in [&a, &b] {
        let before = node.stored().await;
        node.erase(1).await;
        node.replica.delete(&stream(1), Note::default()).await.unwrap();
        let error = node.customers.execute(&1, AddNote("again".to_owned())).await.unwrap_err();
        let ExecuteError::Failed(error) = error else { panic!("{error:?}") };
        let text = es_core::model::ErrorChain(&error).to_string();
        assert!(text.contains("was erased on all nodes and is closed"), "{text}");
        assert_eq!(node.stored().await, before, "node {}", node.name);
    }
    let commit = Commit::new()
        .append(stream(1), ReplicatedErasure { subjects: vec![], note: Note::default() }.encode().unwrap());
    match a.store.commit(commit.clone()).await {
        Err(CommitError::Rejected(refusal)) => {
            assert!(matches!(refusal.downcast_ref(), Some(Refusal::Erased { .. })), "{refusal}");
        }
        other => panic!("{other:?}"),
    }
    // An erasure is the only event of its commit.
    let event = commit.events()[0].1.clone();
    let beside =
        Commit::new().append(stream(2), event.clone().with_id(es_core::EventId::new())).append(stream(3), event);
    assert!(matches!(a.store.commit(beside).await, Err(CommitError::Invalid(_))));
}

/// A command that was executed before the erasure is not executed again.
#[tokio::test]
async fn a_repeated_command_of_an_erased_stream_is_an_error() {
    let (a, b) = (node("a").await, node("b").await);
    let execute = async |node: &Node| {
        let id = CommandId::new("request-1").unwrap();
        node.customers.execute(&1, AddNote("first".to_owned())).with_id(id).await
    };
    execute(&a).await.unwrap();
    b.pull(&a).await;
    a.erase(1).await;
    b.pull(&a).await;
    for node in [&a, &b] {
        assert!(matches!(execute(node).await, Err(ExecuteError::Failed(_))), "node {}", node.name);
        assert_eq!(node.visible(1).await, ["es.erased"]);
    }
}

#[tokio::test]
async fn the_snapshots_of_an_erased_stream_are_deleted_on_every_node() {
    let (a, b) = (node("a").await, node("b").await);
    a.note(1, "first").await;
    a.note(1, "second").await;
    b.pull(&a).await;
    let snapshots = async |node: &Node| {
        node.store.rows(RowScan::new(es_core::aggregate::snapshot::table(), "", 10)).await.unwrap().len()
    };
    for node in [&a, &b] {
        node.customers.load(&1).await.unwrap();
        node.customers.settle().await;
        assert_eq!(snapshots(node).await, 1, "node {}", node.name);
    }
    a.erase(1).await;
    b.pull(&a).await;
    assert_eq!((snapshots(&a).await, snapshots(&b).await), (0, 0));
}

/// B withholds the stream. It gets the erasure from A, and later what C has and A did not know of.
#[tokio::test]
async fn a_withheld_event_of_an_erased_stream_is_not_stored_when_it_arrives() {
    let (a, b, c) = (node("a").await, node("b").await, node("c").await);
    a.note(1, "first").await;
    a.note(2, "other").await;
    c.note(1, "concurrent").await;
    c.note(2, "of c").await;
    let filter = StreamFilter::none().stream(stream(2));
    b.pull_with(filter.clone(), &a).await;
    b.pull_with(filter, &c).await;
    assert_eq!(b.replica.knowledge().await.unwrap().withheld_events(), 2);
    a.erase(1).await;
    b.pull(&a).await;
    assert_eq!(b.visible(1).await, ["es.erased"]);
    let before = b.stored().await;
    let pulled = b.pull(&c).await;
    assert_eq!((pulled.events, b.stored().await), (0, before));
    assert_eq!((b.notes(1).await, b.notes(2).await.len()), (vec![], 2));
    assert_eq!(b.replica.knowledge().await.unwrap().withheld_events(), 0);
    exchange(&[&a, &b, &c]).await;
    for node in [&a, &c] {
        assert_eq!(node.replica.knowledge().await.unwrap(), b.replica.knowledge().await.unwrap());
        assert_eq!((node.visible(1).await, node.notes(2).await.len()), (vec!["es.erased".to_owned()], 2));
    }
}

#[tokio::test]
async fn a_restarted_node_and_a_restored_backup_erase_what_they_have() {
    let (a, b, c) = (node("a").await, node("b").await, node("c").await);
    a.note(1, "first").await;
    exchange(&[&a, &b, &c]).await;
    let backup = b.store.copy(LogId::new());
    c.note(1, "concurrent").await;
    a.erase(1).await;
    b.pull(&a).await;
    let restarted = start("b", b.store.copy(b.store.log_id()), options("b").aggregate::<Customer>().unwrap()).await;
    let before = restarted.stored().await;
    restarted.pull(&c).await;
    assert_eq!((restarted.visible(1).await.len(), restarted.stored().await), (1, before));
    let restored = start("b", backup, options("b").aggregate::<Customer>().unwrap()).await;
    assert_eq!(restored.notes(1).await, ["first"]);
    // A does not take the event again from the backup, and the backup erases it.
    assert_eq!(a.pull(&restored).await.events, 0);
    restored.pull(&a).await;
    assert_eq!((restored.visible(1).await, a.visible(1).await.len()), (vec!["es.erased".to_owned()], 1));
}

/// The deletion of the erased stream on this node does not prevent that the aggregate is declared.
#[tokio::test]
async fn an_aggregate_is_declared_after_a_stream_of_it_was_erased() {
    let a = node("a").await;
    let relay = start("b", MemoryStore::new(), options("b")).await;
    a.note(1, "first").await;
    relay.pull(&a).await;
    a.erase(1).await;
    relay.pull(&a).await;
    let declared = options("b").aggregate::<Customer>().unwrap();
    let declared = start("b", relay.store.copy(relay.store.log_id()), declared).await;
    assert_eq!(declared.visible(1).await, ["es.erased"]);
    declared.note(2, "other").await;
    a.pull(&declared).await;
    assert_eq!(a.notes(2).await, ["other"]);
}

const NOTES: View<u64, u64> = View::new("notes");

/// Counts the notes of each customer.
struct Count;

impl Projection for Count {
    type Source = Customer;
    const NAME: &'static str = "notes";
    fn apply(&self, _: &Noted, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let id = Customer::id_of(at.stream()).unwrap();
        rows.view(&NOTES)?.update(&id, |count| *count += 1)
    }
    fn erased(&self, erasure: &Erasure, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let id = erasure.stream().and_then(Customer::id_of);
        id.map_or(Ok(()), |id| rows.view(&NOTES)?.delete(&id))
    }
}

impl HandlesLateEvents for Count {
    type Mode = Arrival;
}

/// The last note of each customer.
struct Last;

impl StateView for Last {
    type Aggregate = Customer;
    type Row = String;
    const VIEW: View<u64, String> = View::new("last");
    fn row(customer: &Customer) -> Option<String> {
        customer.notes.last().cloned()
    }
}

/// Remembers the erasures that a node has received.
#[derive(Clone, Default)]
struct Erasures(Arc<std::sync::Mutex<BTreeSet<String>>>);

#[async_trait]
impl Reactor for Erasures {
    type Source = Customer;
    const NAME: &'static str = "erasures";
    async fn react(&self, _: &Noted, _: &ReactorContext) -> Result<(), ReactError> {
        Ok(())
    }
    async fn erased(&self, erasure: &Erasure, _: &ReactorContext) -> Result<(), ReactError> {
        self.0.lock().unwrap().insert(erasure.name().to_owned());
        Ok(())
    }
}

/// Every node deletes its rows and its keys: the erasure of the stream and of its subjects is local there.
#[tokio::test]
async fn views_and_reactors_of_every_node_receive_the_erasure_of_the_stream_and_its_subjects() {
    let nodes = [node("a").await, node("b").await, node("c").await];
    for node in &nodes {
        node.note(1, node.name).await;
        node.note(2, node.name).await;
    }
    nodes[1].pull(&nodes[0]).await;
    let project = async |node: &Node| {
        let options = ProjectionOptions::new();
        let running = Supervisor::new().projection(Count, options).projection(Last, options);
        let running = running.start(node.shared()).await.unwrap();
        running.wait_for(node.store.head().await.unwrap(), PATIENCE).await.unwrap();
        running.shutdown(PATIENCE).await.unwrap();
        let counts = Views::of::<Count>(node.shared()).view(&NOTES).scan().read().await.unwrap().rows;
        let last = Views::of::<Last>(node.shared()).view(&Last::VIEW).scan().read().await.unwrap().rows;
        (counts, last.into_iter().map(|(id, _)| id).collect::<Vec<_>>())
    };
    for node in &nodes {
        assert_eq!(project(node).await.1, [1, 2], "node {}", node.name);
    }
    let subject = SubjectId::new("7c9e").unwrap();
    nodes[0].replica.erase(&stream(1), [subject], Note::default()).await.unwrap();
    exchange(&nodes.iter().collect::<Vec<_>>()).await;
    for node in &nodes {
        assert_eq!(project(node).await, (vec![(2, 3)], vec![2]), "node {}", node.name);
        let reactor = Erasures::default();
        let running = ReactorRunner::new(reactor.clone()).start_at(StartAt::Beginning);
        let running = running.start(node.shared()).await.unwrap();
        running.wait_for(node.store.head().await.unwrap(), PATIENCE).await.unwrap();
        running.shutdown(PATIENCE).await.unwrap();
        let expected = ["7c9e".to_owned(), "customer-1".to_owned()].into();
        assert_eq!(*reactor.0.lock().unwrap(), expected, "node {}", node.name);
    }
    // Operators see the deletion of each node.
    let retention = StoreAdmin::new(nodes[2].shared()).retention().await.unwrap();
    assert!(retention.deletions().any(|(deleted, _)| *deleted == stream(1)));
}

/// Deletes the stream of a customer as an operator requests it. Returns the kind, the last deleted revision and whether
/// it is a repeat.
async fn requested(
    node: &Node,
    kind: DeleteKind,
    expected: ExpectedRevision,
) -> Result<(DeleteKind, Option<u64>, bool), DeleteError> {
    let before = node.stored().await;
    let deleted = node.replica.delete_stream(&stream(1), kind, expected, Note::default()).await?;
    assert!(deleted.is_replicated && deleted.stream == stream(1));
    let written = node.stored().await > before;
    assert_eq!(written, !deleted.repeated, "a repeat writes nothing");
    if written {
        assert!(deleted.position.unwrap().get() > before);
    }
    Ok((deleted.kind, deleted.through.map(Revision::get), deleted.repeated))
}

#[tokio::test]
async fn a_request_of_an_operator_names_the_expected_revision_and_can_be_repeated() {
    use DeleteKind::{Hard, Soft};
    use ExpectedRevision::{Any, Exact, NoStream, StreamExists};
    let a = node("a").await;
    let exact = |revision| Exact(Revision::new(revision));
    assert!(matches!(requested(&a, Soft, Any).await, Err(DeleteError::NoEvents { .. })));
    a.note(1, "first").await;
    a.note(1, "second").await;
    for (kind, expected) in [(Soft, exact(0)), (Hard, exact(2)), (Hard, NoStream)] {
        let error = requested(&a, kind, expected).await.unwrap_err();
        let DeleteError::Expectation(conflict) = &error else { panic!("{error:?}") };
        assert!(conflict.to_string().contains("customer-1"), "{conflict}");
    }
    assert_eq!(a.notes(1).await.len(), 2);

    assert_eq!(requested(&a, Soft, exact(1)).await.unwrap(), (Soft, Some(1), false));
    // The last event is the deletion. A client that got no answer repeats its request.
    for expected in [Any, exact(1), exact(2)] {
        assert_eq!(requested(&a, Soft, expected).await.unwrap(), (Soft, Some(1), true), "{expected:?}");
    }
    for expected in [exact(0), exact(3), NoStream, StreamExists] {
        let error = requested(&a, Soft, expected).await.unwrap_err();
        assert!(matches!(error, DeleteError::Expectation(_)), "{error:?}");
    }
    a.note(1, "again").await;
    assert_eq!(requested(&a, Soft, StreamExists).await.unwrap(), (Soft, Some(3), false));

    assert_eq!(requested(&a, Hard, exact(4)).await.unwrap(), (Hard, Some(4), false));
    for kind in [Hard, Soft] {
        assert_eq!(requested(&a, kind, exact(4)).await.unwrap(), (Hard, Some(4), true), "{kind}");
        assert_eq!(requested(&a, kind, Any).await.unwrap(), (Hard, Some(4), true), "{kind}");
    }
    let b = node("b").await;
    b.pull(&a).await;
    assert_eq!(b.visible(1).await, ["es.erased"]);
    assert!(requested(&b, Hard, Any).await.unwrap().2, "the erasure of the other node counts");
    let draft = StreamId::new("draft-1").unwrap();
    let error = a.replica.delete_stream(&draft, Soft, Any, Note::default()).await.unwrap_err();
    assert!(matches!(error, DeleteError::NotReplicated { .. }), "{error:?}");
}
