//! Conflicts of causal aggregates: which pairs of events are answered, by which nodes, and what counts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use es_core::consumer::reactor::RunningReactor;
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::{ConcurrentEvents, LogRead, RecordedEvent, Resolve, Resolver, Service};
use es_replication::{LocalPeer, Replica, ReplicaOptions};
use serde::{Deserialize, Serialize};

const LONG: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "item-added")]
    ItemAdded(String),
    #[event(name = "cancelled")]
    Cancelled,
    #[event(name = "reopened")]
    Reopened,
}

/// The order of the worked example of the design.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "order", id = u64, event = OrderEvent,
    consistency = "causal", conflict = "resolve", snapshot(every = 2)
)]
struct Order {
    items: Vec<String>,
    is_cancelled: bool,
    reopened: u32,
}

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self::default()
    }
    fn evolve(&mut self, event: &OrderEvent, _: &EventContext<'_>) {
        match event {
            OrderEvent::ItemAdded(item) => self.items.push(item.clone()),
            OrderEvent::Cancelled => self.is_cancelled = true,
            OrderEvent::Reopened => (self.is_cancelled, self.reopened) = (false, self.reopened + 1),
        }
    }
}

impl Resolve for Order {
    fn resolve(&self, conflict: &ConcurrentEvents<'_, Self>) -> Decision<Self> {
        use OrderEvent::{Cancelled, ItemAdded, Reopened};
        match (conflict.earlier(), conflict.later()) {
            (Cancelled, ItemAdded(_)) | (ItemAdded(_), Cancelled) if self.is_cancelled => Reopened.into(),
            _ => Decision::none(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum NoteEvent {
    #[event(name = "noted")]
    Noted(u64),
    #[event(name = "answered")]
    Answered(u64, u64),
}

/// Answers every conflict, whatever its state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "note", id = u64, event = NoteEvent, consistency = "causal", conflict = "resolve")]
struct Notes {
    numbers: Vec<u64>,
    answered: Vec<(u64, u64)>,
}

impl Evolve for Notes {
    fn initial(_: &u64) -> Self {
        Self::default()
    }
    fn evolve(&mut self, event: &NoteEvent, _: &EventContext<'_>) {
        match event {
            NoteEvent::Noted(number) => self.numbers.push(*number),
            NoteEvent::Answered(earlier, later) => self.answered.push((*earlier, *later)),
        }
    }
}

impl Resolve for Notes {
    fn resolve(&self, conflict: &ConcurrentEvents<'_, Self>) -> Decision<Self> {
        let number = |event: &NoteEvent| match event {
            NoteEvent::Noted(number) => *number,
            NoteEvent::Answered(..) => panic!("an answer takes part in no conflict"),
        };
        NoteEvent::Answered(number(conflict.earlier()), number(conflict.later())).into()
    }
}

#[derive(Clone, Serialize)]
struct Apply<E>(Vec<E>);

impl Decide<Apply<OrderEvent>> for Order {
    type Rejection = std::convert::Infallible;
    fn decide(
        &self,
        Apply(events): Apply<OrderEvent>,
        _: &CommandContext<'_, Self>,
    ) -> Result<Decision<Self>, Self::Rejection> {
        Ok(events.into())
    }
}

impl Decide<Apply<NoteEvent>> for Notes {
    type Rejection = std::convert::Infallible;
    fn decide(
        &self,
        Apply(events): Apply<NoteEvent>,
        _: &CommandContext<'_, Self>,
    ) -> Result<Decision<Self>, Self::Rejection> {
        Ok(events.into())
    }
}

/// A node in this process.
struct Node {
    name: &'static str,
    store: MemoryStore,
    replica: Replica,
    orders: Arc<Repository<Order>>,
    notes: Arc<Repository<Notes>>,
}

async fn start(name: &'static str, store: MemoryStore) -> Node {
    let options = ReplicaOptions::new(name).aggregate::<Order>().and_then(ReplicaOptions::aggregate::<Notes>);
    let store = store.with_hook(options.expect("valid categories").hook()).await.expect("started");
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let replica = Replica::new(Arc::clone(&shared)).expect("the store has the hook");
    let (orders, notes) = (Arc::new(Repository::new(Arc::clone(&shared))), Arc::new(Repository::new(shared)));
    Node { name, store, replica, orders, notes }
}

async fn node(name: &'static str) -> Node {
    start(name, MemoryStore::new()).await
}

impl Node {
    async fn pull(&self, from: &Self) {
        loop {
            let peer = LocalPeer::new(from.name, from.replica.source());
            let pulled = self.replica.pull(&peer, Duration::ZERO).await.expect("pulled");
            if pulled.is_last {
                return;
            }
        }
    }

    async fn write(&self, event: OrderEvent) {
        self.orders.execute(&1, Apply(vec![event])).await.expect("executed");
    }

    /// Writes notes in one commit.
    async fn note(&self, numbers: &[u64]) {
        let events = numbers.iter().map(|number| NoteEvent::Noted(*number)).collect();
        self.notes.execute(&1, Apply(events)).await.expect("executed");
    }

    async fn note_with_id(&self, number: u64, id: &str) {
        let command = Apply(vec![NoteEvent::Noted(number)]);
        self.notes.execute(&1, command).with_id(CommandId::new(id).expect("a name")).await.expect("executed");
    }

    async fn order(&self) -> Order {
        self.orders.load(&1).await.expect("loaded").state
    }

    async fn answered(&self) -> Vec<(u64, u64)> {
        self.notes.load(&1).await.expect("loaded").state.answered
    }

    /// Runs the resolvers until they have examined every event, and stops them.
    async fn resolve(&self) {
        let resolvers = [
            Resolver::new(Arc::clone(&self.orders)).start().await.expect("started"),
            Resolver::new(Arc::clone(&self.notes)).start().await.expect("started"),
        ];
        for resolver in resolvers {
            self.wait_for(&resolver).await;
            assert!(resolver.parked().is_empty(), "{:?}", resolver.parked());
            resolver.shutdown(LONG).await.expect("stopped");
        }
    }

    /// Waits until a resolver has examined every event of its aggregate.
    async fn wait_for(&self, resolver: &RunningReactor) {
        let of_resolver =
            |event: &RecordedEvent| resolver.name().strip_prefix("es.resolve.") == Some(event.stream.category_str());
        let last = self.events().await.into_iter().rfind(of_resolver);
        let position = last.map(|event| event.position);
        resolver.wait_for(position, LONG).await.expect("every event is examined");
    }

    async fn events(&self) -> Vec<RecordedEvent> {
        self.store.read_log(LogRead::all()).await.expect("read").collect().await.expect("read")
    }

    /// Returns the number of stored events with a wire name, including those that the fold skips.
    async fn stored(&self, name: &str) -> usize {
        self.events().await.iter().filter(|event| event.data.event_type.as_str() == name).count()
    }

    /// Returns the node after a restart with the same store.
    async fn restart(self) -> Self {
        start(self.name, self.store.copy(self.store.log_id())).await
    }
}

fn added(item: &str) -> OrderEvent {
    OrderEvent::ItemAdded(item.to_owned())
}

/// Pulls on all nodes until each has everything.
async fn exchange(nodes: &[&Node]) {
    for _ in nodes {
        for node in nodes {
            for other in nodes.iter().filter(|other| other.name != node.name) {
                node.pull(other).await;
            }
        }
    }
}

/// Returns two nodes that do not know of each other's event.
async fn cancelled_while_an_item_was_added() -> (Node, Node) {
    let (a, b) = (node("a").await, node("b").await);
    a.write(added("tea")).await;
    exchange(&[&a, &b]).await;
    a.write(OrderEvent::Cancelled).await;
    b.write(added("milk")).await;
    (a, b)
}

#[tokio::test]
async fn a_conflict_is_answered_once_though_every_node_writes_the_answer() {
    let (a, b) = cancelled_while_an_item_was_added().await;
    exchange(&[&a, &b]).await;
    assert!(a.order().await.is_cancelled || b.order().await.items.len() == 2);
    for node in [&a, &b] {
        node.resolve().await;
        assert_eq!((node.stored("reopened").await, node.order().await.reopened), (1, 1), "node {}", node.name);
    }
    exchange(&[&a, &b]).await;
    for node in [&a, &b] {
        assert_eq!(node.stored("reopened").await, 2, "both nodes wrote the answer");
        let order = node.order().await;
        assert_eq!((order.reopened, order.is_cancelled), (1, false));
        node.resolve().await;
    }
    let [one, other] = [a.orders.load(&1).await.expect("loaded"), b.orders.load(&1).await.expect("loaded")];
    assert_eq!((one.version(), one.state), (other.version(), other.state));
    assert_eq!((a.stored("reopened").await, b.stored("reopened").await), (2, 2), "an answer is not answered");
}

#[tokio::test]
async fn three_nodes_that_answer_one_conflict_converge() {
    let (a, b) = cancelled_while_an_item_was_added().await;
    let c = node("c").await;
    c.pull(&b).await;
    c.note(&[7]).await;
    c.write(added("sugar")).await;
    exchange(&[&a, &b, &c]).await;
    for node in [&a, &b, &c] {
        node.resolve().await;
    }
    exchange(&[&a, &b, &c]).await;
    let expected = a.order().await;
    assert_eq!((expected.reopened, expected.is_cancelled, expected.items.len()), (1, false, 3));
    for node in [&a, &b, &c] {
        assert_eq!((node.order().await, node.stored("reopened").await), (expected.clone(), 3));
    }
}

#[tokio::test]
async fn a_node_that_has_the_answer_writes_none() {
    let (a, b) = cancelled_while_an_item_was_added().await;
    a.note(&[1]).await;
    b.note(&[2]).await;
    exchange(&[&a, &b]).await;
    a.resolve().await;
    b.pull(&a).await;
    let before = b.events().await.len();
    b.resolve().await;
    assert_eq!(b.events().await.len(), before);
    assert_eq!((b.order().await.reopened, b.answered().await.len()), (1, 1));
    // The resolver of the second node repeats the first command, which returns a past state. It must go on.
    b.note(&[3]).await;
    b.resolve().await;
    assert_eq!(b.answered().await.len(), 1);
}

#[tokio::test]
async fn events_that_know_of_each_other_are_not_resolved() {
    let (a, b) = (node("a").await, node("b").await);
    a.write(added("tea")).await;
    a.note(&[1]).await;
    b.pull(&a).await;
    // The second event of a commit has the vector clock of the first.
    b.note(&[2, 3]).await;
    b.write(OrderEvent::Cancelled).await;
    a.pull(&b).await;
    a.write(added("milk")).await;
    a.note(&[4]).await;
    exchange(&[&a, &b]).await;
    let before = a.events().await.len();
    for node in [&a, &b] {
        node.resolve().await;
        assert_eq!(node.events().await.len(), before);
    }
}

/// Each pair of concurrent events is a conflict, also with each event of a commit.
#[tokio::test]
async fn every_pair_of_concurrent_events_is_answered() {
    let (a, b) = (node("a").await, node("b").await);
    a.note(&[1, 2]).await;
    b.note(&[3]).await;
    b.note(&[4]).await;
    exchange(&[&a, &b]).await;
    for node in [&a, &b] {
        node.resolve().await;
        assert_eq!(node.answered().await.len(), 4);
    }
    exchange(&[&a, &b]).await;
    let answered: BTreeSet<(u64, u64)> = a.answered().await.into_iter().collect();
    assert_eq!(answered, [(1, 3), (1, 4), (2, 3), (2, 4)].into());
    assert_eq!((a.answered().await.len(), a.stored("answered").await), (4, 8));
    assert_eq!(a.answered().await, b.answered().await);
}

/// A node that was cut off sends an event that precedes others in canonical order.
#[tokio::test]
async fn a_late_event_conflicts_with_earlier_ones() {
    let (a, b, c) = (node("a").await, node("b").await, node("c").await);
    c.write(OrderEvent::Cancelled).await;
    c.note(&[1]).await;
    // Events of one microsecond have the order of their origins.
    tokio::time::sleep(Duration::from_millis(1)).await;
    a.write(added("tea")).await;
    a.note(&[2]).await;
    b.pull(&a).await;
    b.note(&[3]).await;
    exchange(&[&a, &b]).await;
    for node in [&a, &b] {
        node.resolve().await;
        assert_eq!((node.stored("reopened").await, node.stored("answered").await), (0, 0));
    }
    a.pull(&c).await;
    a.resolve().await;
    assert_eq!(a.order().await.reopened, 1);
    assert_eq!(a.answered().await, [(1, 2), (1, 3)]);
}

#[tokio::test]
async fn a_restart_between_the_events_and_the_answer_loses_no_conflict() {
    let (a, b) = cancelled_while_an_item_was_added().await;
    b.note(&[1]).await;
    // The resolver has run before, so that it continues at its checkpoint.
    a.resolve().await;
    exchange(&[&a, &b]).await;
    a.note(&[2]).await;
    let a = a.restart().await;
    a.resolve().await;
    assert_eq!((a.order().await.reopened, a.stored("reopened").await), (1, 1));
    let a = a.restart().await;
    a.resolve().await;
    assert_eq!((a.order().await.reopened, a.stored("reopened").await), (1, 1));
    assert_eq!(a.answered().await, [], "the note of node a follows that of node b");
}

/// A resolver that is added to a store with events examines all of them.
#[tokio::test]
async fn a_resolver_that_starts_later_examines_older_events() {
    let (a, b) = cancelled_while_an_item_was_added().await;
    exchange(&[&a, &b]).await;
    let store: Arc<dyn EventStore> = Arc::new(a.store.clone());
    let service = Service::new(store).resolver(Resolver::new(Arc::clone(&a.orders))).start().await.expect("started");
    a.wait_for(service.reactor("es.resolve.order").expect("it was added")).await;
    assert_eq!(a.order().await.reopened, 1);
    service.run_until(async {}).await.expect("stopped");
}

/// Two nodes executed one command. The fold skips the events of the second one.
#[tokio::test]
async fn skipped_events_are_not_resolved() {
    let (a, b, c) = (node("a").await, node("b").await, node("c").await);
    a.note_with_id(1, "request-1").await;
    b.note_with_id(1, "request-1").await;
    c.note(&[2]).await;
    exchange(&[&a, &b, &c]).await;
    for node in [&a, &b, &c] {
        node.resolve().await;
        assert_eq!(node.answered().await, [(1, 2)]);
    }
    exchange(&[&a, &b, &c]).await;
    for node in [&a, &b, &c] {
        assert_eq!((node.answered().await, node.stored("answered").await), (vec![(1, 2)], 3));
    }
}

/// A note that does not know of an answer conflicts with the notes, not with the answer.
#[tokio::test]
async fn an_answer_takes_part_in_no_conflict() {
    let (a, b) = (node("a").await, node("b").await);
    a.note(&[1]).await;
    b.note(&[2]).await;
    exchange(&[&a, &b]).await;
    a.resolve().await;
    b.note(&[3]).await;
    exchange(&[&a, &b]).await;
    for node in [&a, &b] {
        node.resolve().await;
    }
    exchange(&[&a, &b]).await;
    assert_eq!(a.answered().await, [(1, 2)]);
    assert_eq!(b.answered().await, [(1, 2)]);
}

/// The running resolver answers events that arrive while it runs.
#[tokio::test]
async fn a_running_resolver_answers_events_as_they_arrive() {
    let (a, b) = cancelled_while_an_item_was_added().await;
    let resolver = Resolver::new(Arc::clone(&a.orders)).start().await.expect("started");
    assert_eq!(resolver.name(), "es.resolve.order");
    exchange(&[&a, &b]).await;
    a.wait_for(&resolver).await;
    assert_eq!(a.order().await.reopened, 1);
    resolver.shutdown(LONG).await.expect("stopped");
}

/// The first note is deleted while two others are added on nodes that do not know of each other.
#[tokio::test]
async fn a_deleted_event_takes_part_in_no_conflict() {
    let (a, b, c) = (node("a").await, node("b").await, node("c").await);
    a.note(&[1]).await;
    b.note(&[2]).await;
    c.note(&[3]).await;
    let stream = Notes::stream(&1).expect("a name");
    a.replica.delete(&stream, es_core::retention::Note::default()).await.expect("deleted");
    for node in [&a, &b, &c, &a, &b, &c] {
        for peer in [&a, &b, &c].into_iter().filter(|peer| peer.name != node.name) {
            node.pull(peer).await;
        }
    }
    for node in [&a, &b, &c] {
        node.resolve().await;
        assert_eq!(node.answered().await, [(2, 3)], "node {}", node.name);
    }
}
