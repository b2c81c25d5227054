//! Links with filters: what a node withholds, and how it gets it later.

mod one_page;

use std::sync::Arc;
use std::time::Duration;

use es_core::model::{Dot, HybridTime, LogId, OriginId, VectorClock};
use es_core::prelude::*;
use es_core::retention::{self, DeleteKind, Scavenge};
use es_core::store::delete_stream;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, LogRead, NewEvent, StreamId};
use es_replication::{
    GapReason, Item, Knowledge, Link, LinkState, LocalPeer, Monitor, Page, Peer, Pull, PullError, Pulled, RecoverError,
    Refusal, Replica, ReplicaOptions, Sender, StreamFilter, WaitError,
};
use one_page::OnePage;

/// The time after which a test fails that waits for something.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
#[event(name = "counted")]
struct Counted(u64);

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "order", id = u64, event = Counted, consistency = "causal", conflict = "canonical")]
struct Order(u64);

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "customer", id = u64, event = Counted, consistency = "causal", conflict = "canonical")]
struct Customer(u64);

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self(0)
    }
    fn evolve(&mut self, event: &Counted, _: &EventContext<'_>) {
        self.0 += event.0;
    }
}

impl Evolve for Customer {
    fn initial(_: &u64) -> Self {
        Self(0)
    }
    fn evolve(&mut self, event: &Counted, _: &EventContext<'_>) {
        self.0 += event.0;
    }
}

/// An open node.
struct Node {
    name: &'static str,
    store: MemoryStore,
    replica: Replica,
}

async fn open(name: &'static str, store: MemoryStore) -> Node {
    let options = ReplicaOptions::new(name).aggregate::<Order>().and_then(ReplicaOptions::aggregate::<Customer>);
    let store = store.with_hook(options.expect("categories").hook()).await.expect("the hook starts");
    let replica = Replica::new(Arc::new(store.clone())).expect("a replica");
    Node { name, store, replica }
}

async fn node(name: &'static str) -> Node {
    open(name, MemoryStore::new()).await
}

fn orders() -> StreamFilter {
    StreamFilter::none().aggregate::<Order>().expect("a category")
}

fn customers() -> StreamFilter {
    StreamFilter::none().aggregate::<Customer>().expect("a category")
}

fn stream(name: &str) -> StreamId {
    StreamId::new(name).expect("a name")
}

fn dot(origin: OriginId, sequence: u64) -> Dot {
    Dot { origin, sequence: sequence.try_into().expect("from 1") }
}

impl Node {
    fn as_peer(&self) -> LocalPeer {
        LocalPeer::new(self.name, self.replica.source())
    }

    /// Returns the node after a restart with the same store.
    async fn restart(self) -> Self {
        open(self.name, self.store.copy(self.store.log_id())).await
    }

    /// Appends one event to each of these streams, in one commit.
    async fn append(&self, streams: &[&str]) {
        let append = |commit: Commit, name: &&str| {
            let payload = serde_json::to_string(&Counted(1)).expect("serializes");
            let event = NewEvent::json(es_core::EventType::new("counted").expect("a name"), payload);
            commit.append(stream(name), event)
        };
        self.store.commit(streams.iter().fold(Commit::new(), append)).await.expect("written");
    }

    async fn try_pull(&self, from: &Self, filter: StreamFilter) -> Result<Pulled, PullError> {
        self.replica.clone().with_filter(filter).pull(&from.as_peer(), Duration::ZERO).await
    }

    /// Pulls one page.
    async fn pull(&self, from: &Self, filter: StreamFilter) -> Pulled {
        self.try_pull(from, filter).await.expect("pulled")
    }

    /// Pulls pages of one commit until there is no further one. Returns the number of new events.
    async fn pull_all(&self, from: &Self, filter: StreamFilter) -> usize {
        let small = self.replica.clone().with_filter(filter).with_page_bytes(1);
        let mut events = 0;
        for _ in 0..1_000 {
            let pulled = small.pull(&from.as_peer(), Duration::ZERO).await.expect("pulled");
            events += pulled.events;
            if pulled.is_last {
                return events;
            }
        }
        panic!("{} does not receive everything", self.name);
    }

    /// Returns the streams of the events of the log, in order.
    async fn log(&self) -> Vec<String> {
        let events = self.store.read_log(LogRead::all()).await.expect("read").collect().await.expect("read");
        events.into_iter().map(|event| event.stream.to_string()).collect()
    }

    async fn knowledge(&self) -> Knowledge {
        self.replica.knowledge().await.expect("read")
    }

    async fn origin(&self) -> OriginId {
        self.replica.origin().await.expect("an origin")
    }
}

/// R1: C pulls only orders from A. It gets the customers of A from B, although its knowledge passed them before.
#[tokio::test]
async fn r1_an_event_that_is_filtered_on_one_path_arrives_on_another() {
    let [a, b, c] = [node("a").await, node("b").await, node("c").await];
    for streams in [["customer-1"], ["order-1"], ["customer-2"], ["order-2"]] {
        a.append(&streams).await;
    }
    b.append(&["customer-3"]).await;
    assert_eq!(c.pull(&a, orders()).await.events, 2);
    assert_eq!(c.log().await, ["order-1", "order-2"]);
    let withheld: Vec<_> = c.knowledge().await.withheld(a.origin().await).collect();
    assert_eq!(withheld, [1..=1, 3..=3]);

    // The other links of the ring: A <- C <- B <- A.
    b.pull(&a, StreamFilter::all()).await;
    a.pull(&c, StreamFilter::all()).await;
    assert_eq!(c.pull(&b, StreamFilter::all()).await.events, 3);
    assert_eq!(c.log().await, ["order-1", "order-2", "customer-3", "customer-1", "customer-2"]);
    a.pull(&c, StreamFilter::all()).await;
    let expected = b.knowledge().await;
    assert_eq!([a.knowledge().await, c.knowledge().await], [expected.clone(), expected]);
    assert_eq!(a.log().await.len(), 5);
}

/// The same with links in the background, and events that follow each other through all nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_links_with_and_without_a_filter_deliver_every_event_once() {
    let nodes = [node("a").await, node("b").await, node("c").await];
    let mut links = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        for (other, peer) in nodes.iter().enumerate().filter(|(other, _)| *other != index) {
            let filter = if (index, other) == (2, 0) { orders() } else { StreamFilter::all() };
            links.push(Link::start(node.replica.clone().with_filter(filter), Arc::new(peer.as_peer())));
        }
    }
    for round in 0..40 {
        nodes[0].append(&[["customer-1"], ["order-1"]][round % 2]).await;
        nodes[1].append(&["customer-2", "order-2"]).await;
        nodes[2].append(&["order-3"]).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut token = nodes[0].replica.token().await.expect("a token");
    for node in &nodes {
        token.merge(&node.replica.token().await.expect("a token"));
    }
    for node in &nodes {
        node.replica.wait_for(&token, TIMEOUT).await.expect("every event arrives");
        assert_eq!(node.log().await.len(), 160, "node {}", node.name);
        assert_eq!(node.knowledge().await.withheld_events(), 0);
    }
    for link in links {
        link.stop().await;
    }
}

#[tokio::test]
async fn a_wider_filter_fetches_what_was_withheld() {
    let (a, b) = (node("a").await, node("b").await);
    for streams in [&["customer-1"][..], &["order-1"], &["customer-2", "order-2"], &["customer-1"], &["order-3"]] {
        a.append(streams).await;
    }
    assert_eq!(b.pull_all(&a, orders()).await, 3);
    // A filter that is narrower, and selects by name.
    let one = || StreamFilter::none().stream(stream("customer-2"));
    assert_eq!(b.pull_all(&a, one()).await, 1);
    a.append(&["order-4"]).await;
    assert_eq!(b.pull_all(&a, one()).await, 0);
    let b = b.restart().await;
    assert_eq!(b.pull_all(&a, customers()).await, 2);
    assert_eq!(b.pull_all(&a, StreamFilter::all()).await, 1);
    let expected = ["order-1", "order-2", "order-3", "customer-2", "customer-1", "customer-1", "order-4"];
    assert_eq!(b.log().await, expected);
    assert_eq!(b.knowledge().await, a.knowledge().await);
    assert_eq!(b.pull_all(&a, orders()).await, 0, "nothing is sent twice");
    assert_eq!(b.log().await.len(), 7);
}

/// A chain A -> B -> C, in which B takes only orders. C has no filter, but B cannot send it what it withholds itself.
#[tokio::test]
async fn a_relay_does_not_claim_what_it_withholds() {
    let [a, b, c] = [node("a").await, node("b").await, node("c").await];
    for streams in [["customer-1"], ["order-1"], ["customer-2"]] {
        a.append(&streams).await;
    }
    b.pull(&a, orders()).await;
    b.append(&["order-2"]).await;
    let pulled = c.pull(&b, StreamFilter::all()).await;
    assert_eq!((pulled.events, pulled.is_last), (2, true));
    assert_eq!(c.knowledge().await, b.knowledge().await);
    assert_eq!(c.knowledge().await.withheld(a.origin().await).collect::<Vec<_>>(), [1..=1, 3..=3]);
    let c = c.restart().await;

    // A direct link, and a node that pulls from C while C has only a part.
    let d = node("d").await;
    d.pull(&c, StreamFilter::all()).await;
    assert_eq!(c.pull_all(&a, StreamFilter::all()).await, 2);
    assert_eq!(c.log().await, ["order-1", "order-2", "customer-1", "customer-2"]);
    assert_eq!(d.pull(&c, StreamFilter::all()).await.events, 2, "late events are after the cursor of D");
    // B gets the customers from D when its own link to D has no filter.
    assert_eq!(b.pull(&d, StreamFilter::all()).await.events, 2);
    assert_eq!(b.knowledge().await.withheld_events(), 0);
    let e = node("e").await;
    assert_eq!(e.pull_all(&b, StreamFilter::all()).await, 4, "from a log whose events are not in their order");
    assert_eq!(e.knowledge().await, b.knowledge().await);
}

#[tokio::test]
async fn a_gap_of_a_relay_does_not_override_what_a_node_has() {
    let [a, b, c] = [node("a").await, node("b").await, node("c").await];
    a.append(&["customer-1"]).await;
    a.append(&["order-1"]).await;
    b.pull(&a, orders()).await;
    c.pull(&a, StreamFilter::all()).await;
    let before = c.knowledge().await;
    assert_eq!(c.pull(&b, StreamFilter::all()).await.events, 0);
    assert_eq!((c.knowledge().await, before.withheld_events()), (before, 0));
    // The page was requested before the events arrived on another link.
    let pull = Pull {
        sender: Sender::now("x", OriginId::new(1)),
        knowledge: Knowledge::new(),
        filter: StreamFilter::none(),
        cursor: None,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    };
    let page = b.replica.source().page(&pull).await.expect("a page");
    assert_eq!(page.events(), 0);
    c.replica.pull(&OnePage(page), Duration::ZERO).await.expect("stored");
    assert_eq!(c.knowledge().await.withheld_events(), 0);
}

/// A filter divides a commit. What it selects arrives in one commit.
#[tokio::test]
async fn the_selected_part_of_a_commit_arrives_whole() {
    let (a, b) = (node("a").await, node("b").await);
    a.append(&["order-1", "customer-1", "order-2", "customer-2"]).await;
    a.append(&["customer-1", "order-1"]).await;
    let part = |event: &es_core::RecordedEvent| (event.stream.to_string(), event.part.index, event.part.size);
    b.pull_all(&a, orders()).await;
    let read = |store: MemoryStore| async move {
        let events = store.read_log(LogRead::all()).await.expect("read").collect().await.expect("read");
        events.iter().map(part).collect::<Vec<_>>()
    };
    let expected = [("order-1", 0, 2), ("order-2", 1, 2), ("order-1", 0, 1)];
    assert_eq!(read(b.store.clone()).await, expected.map(|(name, index, size)| (name.to_owned(), index, size)));
    b.pull_all(&a, StreamFilter::all()).await;
    let late = [("customer-1", 0, 2), ("customer-2", 1, 2), ("customer-1", 0, 1)];
    assert_eq!(read(b.store.clone()).await[3..], late.map(|(name, index, size)| (name.to_owned(), index, size)));
    assert_eq!(b.knowledge().await, a.knowledge().await);
}

/// Removed events are not withheld: no wider filter brings them back, and they do not keep a node from being complete.
#[tokio::test]
async fn removed_events_are_distinguished_from_withheld_ones() {
    let store = MemoryStore::new();
    let local = Node { name: "a", store: store.clone(), replica: node("x").await.replica };
    for streams in [["order-1"], ["customer-1"], ["order-2"], ["order-1"], ["customer-2"]] {
        local.append(&streams).await;
    }
    let a = open("a", store).await;
    let without_hook = a.store.copy(a.store.log_id());
    let deleted = stream("order-1");
    delete_stream(&without_hook, &deleted, DeleteKind::Hard, ExpectedRevision::Any, retention::Note::default())
        .await
        .expect("deleted");
    without_hook.scavenge(&Scavenge::default()).await.expect("scavenged");
    let a = open("a", without_hook).await;
    a.append(&["order-3"]).await;
    let (b, c) = (node("b").await, node("c").await);
    assert_eq!(b.pull_all(&a, orders()).await, 2);
    assert!(b.knowledge().await.withheld_events() >= 2, "the customers");
    assert_eq!(c.pull_all(&b, StreamFilter::all()).await, 2);
    assert_eq!(b.pull_all(&a, StreamFilter::all()).await, 2);
    assert_eq!((b.knowledge().await, b.log().await.len()), (a.knowledge().await, 4));
    assert_eq!(c.pull_all(&b, StreamFilter::all()).await, 2);
    assert_eq!((c.knowledge().await, c.log().await.len()), (a.knowledge().await, 4));
}

#[tokio::test]
async fn causes_in_other_streams_may_be_late_and_causes_in_the_stream_are_not() {
    let [a, b, c] = [node("a").await, node("b").await, node("c").await];
    a.append(&["customer-1"]).await;
    a.append(&["order-1"]).await;
    b.pull(&a, StreamFilter::all()).await;
    b.append(&["order-1"]).await;
    b.append(&["customer-1"]).await;
    // The order of B depends on the customer and the order of A.
    assert_eq!(c.pull(&b, orders()).await.events, 2);
    let read = c.store.read_log(LogRead::all()).await.expect("read").collect().await.expect("read");
    let origins: Vec<_> = read.iter().map(|event| event.data.stamp.as_ref().expect("a stamp").dot.origin).collect();
    assert_eq!(origins, [a.origin().await, b.origin().await]);
    assert_eq!(c.pull(&b, StreamFilter::all()).await.events, 2);
    assert_eq!(c.log().await, ["order-1", "order-1", "customer-1", "customer-1"], "after their effects");
    let read = c.store.read_log(LogRead::all()).await.expect("read").collect().await.expect("read");
    let origins: Vec<_> = read.iter().map(|event| event.data.stamp.as_ref().expect("a stamp").dot.origin).collect();
    assert_eq!(origins[2..], [a.origin().await, b.origin().await], "in the order of the peer");
}

#[tokio::test]
async fn a_session_waits_for_withheld_events() {
    let (a, b) = (node("a").await, node("b").await);
    a.append(&["customer-1"]).await;
    a.append(&["order-1"]).await;
    let token = a.replica.token().await.expect("a token");
    let of_orders = b.replica.clone().with_filter(orders());
    assert!(matches!(of_orders.wait_for(&token, Duration::ZERO).await, Err(WaitError::Stale(_))), "not pulled yet");
    b.pull(&a, orders()).await;
    let error = b.replica.wait_for(&token, Duration::ZERO).await.expect_err("a customer is withheld");
    let WaitError::Stale(stale) = &error else { panic!("{error}") };
    assert_eq!(stale.missing, [dot(a.origin().await, 1)]);
    of_orders.wait_for(&token, Duration::ZERO).await.expect("the node has the orders");
    of_orders.wait_for(&b.replica.token().await.expect("a token"), Duration::ZERO).await.expect("its own token");
    assert_eq!(of_orders.position_of(&token).await.expect("the orders"), Position::new(1));

    let waiting = {
        let (replica, token) = (b.replica.clone(), token.clone());
        tokio::spawn(async move { replica.wait_for(&token, TIMEOUT).await })
    };
    b.append(&["order-2"]).await;
    b.pull(&a, StreamFilter::all()).await;
    waiting.await.expect("no panic").expect("the customer arrived");
    // The last event of A was stored before the one that was withheld.
    assert_eq!(b.replica.position_of(&token).await.expect("stored"), Position::new(3));
    let b = b.restart().await;
    assert_eq!(b.replica.position_of(&token).await.expect("stored"), Position::new(3));
}

#[tokio::test]
async fn the_status_counts_withheld_events_apart_from_missing_ones() {
    let (a, b) = (node("a").await, node("b").await);
    for streams in [["order-1"], ["customer-1"], ["order-1"], ["customer-2"]] {
        a.append(&streams).await;
    }
    let link = Link::start(b.replica.clone().with_filter(orders()), Arc::new(a.as_peer()));
    let mut status = link.watch();
    let current = tokio::time::timeout(TIMEOUT, status.wait_for(|status| status.state == LinkState::Current)).await;
    current.expect("in time").expect("runs");
    assert_eq!((link.status().lag_events, link.status().events), (Some(0), 2));
    let status = Monitor::new(&b.replica, [&link]).status().await.expect("a status");
    assert_eq!((status.origins[0].sequence, status.origins[0].withheld), (4, 2));
    let running = status.running.expect("the node runs");
    let [of_b, of_a] = &running.members[..] else { panic!("{running:?}") };
    assert_eq!((of_b.missing_events, of_b.withheld_events), (Some(0), Some(2)));
    assert_eq!((of_a.missing_events, of_a.withheld_events), (Some(0), Some(0)));
    let stable: VectorClock = [dot(a.origin().await, 1)].into_iter().collect();
    assert_eq!((running.stable, running.blocked_by.as_deref()), (Some(stable), Some("b")), "a filter may be widened");
    link.stop().await;
}

#[tokio::test]
async fn a_recovery_does_not_wait_for_what_the_filter_or_all_peers_withhold() {
    let [a, b, c] = [node("a").await, node("b").await, node("c").await];
    a.append(&["customer-1"]).await;
    a.append(&["order-1"]).await;
    b.pull(&a, orders()).await;
    let from = |node: &Node| [Arc::new(node.as_peer()) as Arc<dyn Peer>];
    // B withholds the customer, so C can only recover the order from it.
    c.pull(&b, StreamFilter::all()).await;
    c.replica.recover(&from(&b), Duration::from_millis(50)).await.expect("everything that B has");
    let error = c.replica.recover(&from(&a), Duration::from_millis(50)).await.expect_err("A has a customer");
    assert!(matches!(&error, RecoverError::Stale(stale) if stale.missing.len() == 1), "{error}");
    let of_orders = c.replica.clone().with_filter(orders());
    of_orders.recover(&from(&a), Duration::from_millis(50)).await.expect("C has every order");
    c.pull(&a, StreamFilter::all()).await;
    c.replica.recover(&from(&a), Duration::from_millis(50)).await.expect("C has everything");
}

/// The streams of two categories alternate, so the number of ranges must be limited.
#[tokio::test]
async fn the_number_of_ranges_is_limited_and_no_event_is_lost() {
    let [a, b, c] = [node("a").await, node("b").await, node("c").await];
    for _ in 0..100 {
        a.append(&["customer-1"]).await;
        a.append(&["order-1"]).await;
    }
    assert_eq!(b.pull(&a, orders()).await.events, 100);
    let ranges: Vec<_> = b.knowledge().await.withheld(a.origin().await).collect();
    assert_eq!(ranges.len(), Knowledge::MAX_RANGES);
    assert_eq!((&ranges[0], &ranges[15]), (&(1..=169), &(199..=199)), "the first ones are joined");
    let token = a.replica.token().await.expect("a token");
    let error = b.replica.wait_for(&token, Duration::ZERO).await.expect_err("stale");
    assert!(matches!(error, WaitError::Stale(stale) if stale.missing == [dot(a.origin().await, 1)]));

    // C has every event. B does not say that it has the first orders, and drops them.
    c.pull(&a, StreamFilter::all()).await;
    let pulled = b.pull(&c, orders()).await;
    assert_eq!((pulled.events, pulled.held), (0, 84));
    let b = b.restart().await;
    assert_eq!(b.pull_all(&c, StreamFilter::all()).await, 100);
    assert_eq!((b.knowledge().await, b.log().await.len()), (a.knowledge().await, 200));
    b.replica.wait_for(&token, Duration::ZERO).await.expect("everything is here");
}

/// Events that a node has, but does not know to have, are cleared by the next pull.
#[tokio::test]
async fn a_node_that_received_everything_in_another_order_becomes_complete() {
    let [a, b] = [node("a").await, node("b").await];
    for number in 0..60 {
        a.append(&[["order-1", "order-2", "order-3"][number % 3]]).await;
    }
    for name in ["order-2", "order-3", "order-1"] {
        b.pull_all(&a, StreamFilter::none().stream(stream(name))).await;
    }
    assert_eq!(b.log().await.len(), 60);
    b.replica.wait_for(&a.replica.token().await.expect("a token"), Duration::ZERO).await.expect("it has everything");
    assert_eq!(b.pull_all(&a, StreamFilter::all()).await, 0);
    assert_eq!(b.knowledge().await, a.knowledge().await);
}

#[tokio::test]
async fn hostile_gaps_and_late_events_are_refused_or_harmless() {
    let (a, b) = (node("a").await, node("b").await);
    for streams in [["order-1"], ["customer-1"], ["order-1"]] {
        a.append(&streams).await;
    }
    let origin = a.origin().await;
    b.pull(&a, orders()).await;
    let everything = Pull {
        sender: Sender::now("x", OriginId::new(1)),
        knowledge: Knowledge::new(),
        filter: StreamFilter::all(),
        cursor: None,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    };
    let page = a.replica.source().page(&everything).await.expect("a page");
    let of_b = b.origin().await;
    let claiming = |origin, through: u64| Knowledge::from([dot(origin, through)].into_iter().collect::<VectorClock>());
    let gap = |origin, from: u64, through: u64, knowledge: u64| Page {
        items: vec![Item::Gap {
            origin,
            from: from.try_into().expect("from 1"),
            through: through.try_into().expect("from 1"),
            reason: GapReason::Withheld,
        }],
        knowledge: claiming(origin, knowledge),
        ids: Vec::new(),
        ..page.clone()
    };
    let before = b.knowledge().await;
    for (invalid, what) in [
        (gap(origin, 5, 4, 9), "a gap that ends before it begins"),
        (gap(origin, 4, 9, 8), "a gap that the peer does not know"),
        (gap(origin, 5, 9, 9), "a gap after an unknown event"),
        (gap(of_b, 1, 9, 9), "a gap of the own events"),
    ] {
        assert!(b.replica.pull(&OnePage(invalid), Duration::ZERO).await.is_err(), "{what}");
        assert_eq!(b.knowledge().await, before, "{what}");
    }
    // A gap of events that B has.
    b.replica.pull(&OnePage(gap(origin, 1, 3, 3)), Duration::ZERO).await.expect("nothing changes");
    assert_eq!(b.knowledge().await, before);

    // Late events whose times are not between those of their neighbors would have another order on other nodes.
    let Some(Item::Commit(late)) = page.items.get(1).cloned() else { panic!("a commit") };
    for change in [|time: u64| time + (10_000_000 << 12), |_: u64| 1] {
        let mut late = late.clone();
        let stamp = late[0].data.stamp.as_mut().expect("a stamp");
        stamp.time = HybridTime::from_bits(change(stamp.time.to_bits()));
        let page = Page { items: vec![Item::Commit(late)], ids: Vec::new(), ..page.clone() };
        let error = b.replica.pull(&OnePage(page), Duration::ZERO).await.expect_err("another time");
        assert!(matches!(error, PullError::Refused(Refusal::TimeOrder { .. })), "{error:?}");
    }
    // An invented gap hides nothing.
    b.replica.pull(&OnePage(gap(origin, 4, 9, 9)), Duration::ZERO).await.expect("stored");
    a.append(&["order-2"]).await;
    assert_eq!(b.pull_all(&a, StreamFilter::all()).await, 2);
    assert_eq!(b.log().await, ["order-1", "order-1", "customer-1", "order-2"]);
    assert_eq!(b.knowledge().await.withheld(origin).collect::<Vec<_>>(), [5..=9]);
}

/// A node takes a new origin after a loss, also if the only member that knows of the lost event withholds it.
#[tokio::test]
async fn a_withheld_event_counts_when_a_node_claims_its_origin() {
    let (a, b) = (node("a").await, node("b").await);
    a.append(&["order-1"]).await;
    b.pull(&a, orders()).await;
    let (origin, copy) = (a.origin().await, a.store.copy(a.store.log_id()));
    a.append(&["customer-1"]).await;
    b.pull(&a, orders()).await;
    let options = ReplicaOptions::new("a").aggregate::<Order>().and_then(ReplicaOptions::aggregate::<Customer>);
    let options = options.expect("categories").member(Arc::new(b.as_peer()));
    let restarted = a.store.copy(a.store.log_id()).with_hook(options.hook()).await.expect("starts");
    assert_eq!(Replica::new(Arc::new(restarted)).expect("a replica").origin().await.expect("an origin"), origin);
    let lost = copy.with_hook(options.hook()).await.expect("starts");
    assert_ne!(Replica::new(Arc::new(lost)).expect("a replica").origin().await.expect("an origin"), origin);
    let restored = a.store.copy(LogId::new()).with_hook(options.hook()).await.expect("starts");
    assert_ne!(Replica::new(Arc::new(restored)).expect("a replica").origin().await.expect("an origin"), origin);
}
