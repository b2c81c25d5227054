//! Views in canonical order. The time of the runtime is paused: it advances when all tasks wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use es_core::Commit;
use es_core::aggregate::RetryPolicy;
use es_core::consumer::WaitError;
use es_core::model::{LogId, SubjectId};
use es_core::prelude::*;
use es_core::projection::view::{View, Views};
use es_core::projection::{
    HandlesLateEvents, ProjectionOptions, ProjectionStatus, RebuildFrom, RunningProjections, Settled, Supervisor,
};
use es_core::retention::{Erasure, Note};
use es_core::store::memory::MemoryStore;
use es_core::testing::ManualClock;
use es_replication::{Link, LocalPeer, Monitor, ReplicaOptions, StreamFilter};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::{Invoices, Issued, Node, Order, OrderEvent, PATIENCE, options, start};

/// A draft, which only its own node has.
#[derive(Clone, Debug, Default, PartialEq, Aggregate)]
#[aggregate(category = "draft", id = u64, event = Drafted, consistency = "local")]
struct Draft;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "drafted")]
struct Drafted(String);

impl Evolve for Draft {
    fn initial(_: &u64) -> Self {
        Self
    }
    fn evolve(&mut self, _: &Drafted, _: &EventContext<'_>) {}
}

impl Decide<Drafted> for Draft {
    type Rejection = std::convert::Infallible;
    fn decide(&self, event: Drafted, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(event.into())
    }
}

const HISTORY: View<(), Vec<String>> = View::new("history");

/// The texts of all events in the order in which they were applied. An event with the name "flaky" fails while the flag
/// is set.
#[derive(Debug, Clone, Default)]
struct History {
    fails: Arc<AtomicBool>,
}

impl Projection for History {
    type Source = (Order, Invoices, Draft);
    const NAME: &'static str = "history";

    fn apply(
        &self,
        event: &OneOf3<OrderEvent, Issued, Drafted>,
        _: &ProjectedContext<'_>,
        rows: &mut Rows,
    ) -> Result<(), ApplyError> {
        let text = match event {
            OneOf3::First(OrderEvent::Renamed(name)) => name.clone(),
            OneOf3::First(OrderEvent::Placed { pieces }) => format!("placed {pieces}"),
            OneOf3::First(OrderEvent::Closed) => "closed".to_owned(),
            OneOf3::Second(Issued { pieces }) => format!("issued {pieces}"),
            OneOf3::Third(Drafted(text)) => text.clone(),
        };
        if text == "flaky" && self.fails.load(Ordering::Relaxed) {
            return Err(ApplyError::new("not now"));
        }
        rows.view(&HISTORY)?.update(&(), |history| history.push(text))
    }

    fn erased(&self, erasure: &Erasure, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        rows.view(&HISTORY)?.update(&(), |history| history.push(format!("erased {}", erasure.name())))
    }
}

impl HandlesLateEvents for History {
    type Mode = Settled;
}

/// A node whose clock the test moves.
pub(crate) struct Clocked {
    node: Node,
    clock: Arc<ManualClock>,
    options: ReplicaOptions,
}

impl std::ops::Deref for Clocked {
    type Target = Node;
    fn deref(&self) -> &Node {
        &self.node
    }
}

/// Returns nodes that are members of one group.
pub(crate) async fn cluster<const N: usize>(names: [&'static str; N]) -> [Clocked; N] {
    let clocks: Vec<_> = names.iter().map(|_| Arc::new(ManualClock::at(time()))).collect();
    let options: Vec<_> =
        names.iter().zip(&clocks).map(|(name, clock)| options(name).with_clock(clock.clone())).collect();
    let peers: Vec<_> = names.iter().zip(&options).map(|(name, of)| LocalPeer::new(*name, of.source())).collect();
    let mut nodes = Vec::new();
    for ((name, clock), own) in names.into_iter().zip(clocks).zip(options) {
        let others = peers.iter().zip(&names).filter(|(_, other)| **other != name);
        let options = others.fold(own, |options, (peer, _)| options.member(Arc::new(peer.clone())));
        let store = MemoryStore::with_clock(clock.clone());
        let mut node = start(name, store, options.clone()).await;
        node.replica = node.replica.with_source(options.source());
        nodes.push(Clocked { node, clock, options });
    }
    nodes.try_into().unwrap_or_else(|_| unreachable!("one node for each name"))
}

fn time() -> es_core::Timestamp {
    "2026-01-31T12:00:00Z".parse().expect("a time")
}

impl Clocked {
    /// Returns the node after a crash and a restart, with its store or another one. Its peers still have the source of
    /// the old process, which answers no request of these tests.
    async fn restart(self, store: Option<MemoryStore>) -> Self {
        let store = store.unwrap_or_else(|| self.store.copy(self.store.log_id()));
        let Self { node, clock, options } = self;
        Self { node: start(node.name, store, options.clone()).await, clock, options }
    }

    /// Sets the clock to a number of seconds after the start of the test.
    pub(crate) fn at(&self, seconds: i64) -> &Self {
        self.clock.set(time() + TimeDelta::seconds(seconds));
        self
    }

    async fn start_view(&self, history: History, options: ProjectionOptions) -> RunningProjections {
        let running = Supervisor::new().projection(history, options.keep_retired(Duration::ZERO));
        let running = running.start(self.shared()).await.expect("started");
        wait().await;
        running
    }

    /// Runs the view until it waits, and returns what it has applied.
    async fn settle(&self) -> (Vec<String>, ProjectionStatus) {
        let running = self.start_view(History::default(), ProjectionOptions::new().batch(2)).await;
        let status = running.projection(History::NAME).expect("it was added").status();
        running.shutdown(PATIENCE).await.expect("in time");
        (self.history().await, status)
    }

    async fn history(&self) -> Vec<String> {
        Views::of::<History>(self.shared()).view(&HISTORY).get(&()).await.expect("read").unwrap_or_default()
    }

    /// Stores one commit of a peer.
    async fn pull_commit(&self, from: &Self) {
        let replica = self.replica.clone().with_page_bytes(1);
        replica.pull(&from.as_peer(), Duration::ZERO).await.expect("pulled");
    }
}

/// Waits until all tasks wait.
async fn wait() {
    tokio::time::sleep(Duration::from_millis(400)).await;
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn held_back_by(status: &ProjectionStatus) -> Option<&str> {
    status.settled.as_ref().expect("a settled view").held_back_by.as_deref()
}

fn late_events(status: &ProjectionStatus) -> u64 {
    status.settled.as_ref().expect("a settled view").late_events
}

async fn exchange_all(nodes: &[&Clocked]) {
    for _ in 0..nodes.len() {
        for node in nodes {
            for peer in nodes.iter().filter(|peer| peer.name != node.name) {
                node.pull(peer).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_nodes_apply_the_events_of_all_aggregates_in_canonical_order() {
    let [a, b, c] = cluster(["a", "b", "c"]).await;
    a.at(3).rename(1, "a3").await;
    b.at(1).rename(1, "b1").await;
    c.at(2).invoices.execute(&1, Issued { pieces: 2 }).await.expect("executed");
    exchange_all(&[&a, &b, &c]).await;
    b.at(4).place(7, 4).await;
    exchange_all(&[&a, &b, &c]).await;
    for node in [&a, &b, &c] {
        let (history, status) = node.settle().await;
        assert_eq!(history, texts(&["b1", "issued 2", "a3", "placed 4"]), "node {}", node.name);
        assert_eq!((held_back_by(&status), late_events(&status)), (None, 0));
        assert_eq!((status.position, status.lag_events), (status.head, 0));
    }
}

/// The erasure of a person replicates. Each view applies it once, also on the node that has recorded it, between the
/// events before and after it.
#[tokio::test(start_paused = true)]
async fn an_erasure_is_applied_once_in_canonical_order() {
    let [a, b] = cluster(["a", "b"]).await;
    let person = SubjectId::new("7c9e").expect("a name");
    a.at(1).rename(1, "a1").await;
    b.at(2).store.commit(Commit::erase_subject(person, Note::default())).await.expect("recorded");
    b.at(3).rename(1, "b3").await;
    a.at(4).rename(1, "a4").await;
    exchange_all(&[&a, &b]).await;
    b.at(5).rename(1, "b5").await;
    a.at(5);
    exchange_all(&[&a, &b]).await;
    for node in [&a, &b] {
        let (history, status) = node.settle().await;
        assert_eq!(history, texts(&["a1", "erased 7c9e", "b3", "a4", "b5"]), "node {}", node.name);
        assert_eq!(late_events(&status), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_other_members_settles_at_once() {
    let [a] = cluster(["a"]).await;
    let running = a.start_view(History::default(), ProjectionOptions::new()).await;
    let handle = running.projection(History::NAME).expect("it was added");
    for name in ["one", "two", "three"] {
        a.rename(1, name).await;
        handle.wait_for(a.store.head().await.expect("read"), PATIENCE).await.expect("settled");
        assert_eq!(a.history().await.last().map(String::as_str), Some(name));
    }
    running.shutdown(PATIENCE).await.expect("in time");
}

/// A partition: the view of each side stops, names the member, and continues where it stopped.
#[tokio::test(start_paused = true)]
async fn a_partition_stops_the_view_which_names_the_member_that_holds_it_back() {
    let [a, b, c] = cluster(["a", "b", "c"]).await;
    a.at(1).rename(1, "a1").await;
    exchange_all(&[&a, &b, &c]).await;
    for node in [&a, &b, &c] {
        assert_eq!(node.settle().await.0, texts(&["a1"]));
    }
    // C is cut off.
    b.at(2).rename(1, "b2").await;
    c.at(3).rename(1, "c3").await;
    a.at(5).rename(1, "a5").await;
    exchange_all(&[&a, &b]).await;
    let (history, status) = a.settle().await;
    assert_eq!((history, held_back_by(&status)), (texts(&["a1"]), Some("c")));
    assert_eq!(status.lag_events, 2);
    let settled = status.settled.expect("a settled view").time.expect("a time");
    assert!(settled >= time() + TimeDelta::seconds(1) && settled < time() + TimeDelta::seconds(2), "{settled}");
    let running = a.start_view(History::default(), ProjectionOptions::new()).await;
    let handle = running.projection(History::NAME).expect("it was added");
    let head = a.store.head().await.expect("read");
    let stalled = handle.wait_for(head, Duration::from_secs(1)).await;
    assert!(matches!(stalled, Err(WaitError::Timeout { .. })), "{stalled:?}");
    // The partition heals while the view runs.
    exchange_all(&[&a, &b, &c]).await;
    handle.wait_for(a.store.head().await.expect("read"), PATIENCE).await.expect("settled");
    running.shutdown(PATIENCE).await.expect("in time");
    for node in [&a, &b, &c] {
        assert_eq!(node.settle().await.0, texts(&["a1", "b2", "c3", "a5"]), "node {}", node.name);
    }
}

/// Nodes exchange promises without any event, so that the status shows how old a view can be.
#[tokio::test(start_paused = true)]
async fn the_settled_time_advances_while_no_event_is_written() {
    let [a, b] = cluster(["a", "b"]).await;
    a.at(1).rename(1, "a1").await;
    let settled = async |node: &Clocked| {
        let status = Monitor::new(&node.replica, []).status().await.expect("read");
        status.running.expect("it runs")
    };
    assert_eq!(settled(&a).await.settled, None);
    assert_eq!(settled(&a).await.settled_held_back_by.as_deref(), Some("b"));
    for seconds in [10, 20, 30] {
        for node in [&a, &b] {
            node.at(seconds);
        }
        let links = [
            Link::start(a.replica.clone(), Arc::new(b.as_peer())),
            Link::start(b.replica.clone(), Arc::new(a.as_peer())),
        ];
        tokio::time::sleep(Duration::from_secs(5)).await;
        for node in [&a, &b] {
            let status = settled(node).await;
            assert_eq!(status.settled, Some(time() + TimeDelta::seconds(seconds)), "node {}", node.name);
            assert_eq!(status.settled_held_back_by, None);
        }
        for link in links {
            link.stop().await;
        }
    }
}

/// A page without events and without a new cursor is not written.
#[tokio::test(start_paused = true)]
async fn a_link_of_an_idle_group_writes_nothing_but_the_ceiling() {
    let [a, b] = cluster(["a", "b"]).await;
    a.at(1).rename(1, "a1").await;
    b.pull(&a).await;
    b.pull(&a).await;
    let rows = async |node: &Clocked| {
        let table = es_core::__private::table(es_core::__private::REPLICA).expect("a name");
        node.store.rows(es_core::store::RowScan::new(table, "", 1_000)).await.expect("read")
    };
    let before = rows(&b).await;
    a.at(20);
    b.pull(&a).await;
    assert_eq!(rows(&b).await, before);
}

/// A node crashes after it has made a promise, and its clock is set back before it starts again.
#[tokio::test(start_paused = true)]
async fn a_promise_is_kept_after_a_crash() {
    let [a, b] = cluster(["a", "b"]).await;
    b.at(8).rename(1, "b8").await;
    a.at(10);
    b.pull(&a).await;
    assert_eq!(b.settle().await.0, texts(&["b8"]));
    let a = a.restart(None).await;
    a.at(0).rename(1, "a0").await;
    exchange_all(&[&a, &b]).await;
    let (history, status) = b.settle().await;
    assert_eq!((history, late_events(&status)), (texts(&["b8", "a0"]), 0));
    assert_eq!(a.settle().await.0, texts(&["b8", "a0"]));
}

/// The same, without a crash: the clock is set back.
#[tokio::test(start_paused = true)]
async fn an_event_is_later_than_the_promises_of_its_node() {
    let [a, b] = cluster(["a", "b"]).await;
    b.at(8).rename(1, "b8").await;
    a.at(10);
    b.pull(&a).await;
    assert_eq!(b.settle().await.0, texts(&["b8"]));
    a.at(0).rename(1, "a0").await;
    b.pull(&a).await;
    assert_eq!(b.settle().await.0, texts(&["b8", "a0"]));
}

/// A promise that arrives before the events that it names does not count.
#[tokio::test(start_paused = true)]
async fn a_promise_counts_once_its_events_are_here() {
    let [a, b] = cluster(["a", "b"]).await;
    a.at(1).rename(1, "a1").await;
    a.at(2).rename(1, "a2").await;
    b.at(3).rename(1, "b3").await;
    a.at(10);
    b.pull_commit(&a).await;
    let (history, status) = b.settle().await;
    assert_eq!((history, held_back_by(&status)), (texts(&[]), Some("a")));
    b.pull(&a).await;
    let (history, status) = b.settle().await;
    assert_eq!((history, late_events(&status)), (texts(&["a1", "a2", "b3"]), 0));
}

/// A node with a new origin names its former ones, too: their events may not have arrived yet.
#[tokio::test(start_paused = true)]
async fn a_promise_names_all_origins_of_its_node() {
    let [a, b] = cluster(["a", "b"]).await;
    a.at(1).rename(1, "a1").await;
    a.at(2).rename(1, "a2").await;
    b.at(3).rename(1, "b3").await;
    // A restored backup takes a new origin.
    let before = a.origin().await;
    let copy = a.store.copy(LogId::new());
    let a = a.restart(Some(copy)).await;
    assert_ne!(a.origin().await, before);
    a.at(10);
    b.pull_commit(&a).await;
    assert_eq!(b.settle().await.0, texts(&[]));
    b.pull(&a).await;
    let (history, status) = b.settle().await;
    assert_eq!((history, late_events(&status)), (texts(&["a1", "a2", "b3"]), 0));
}

/// A and C have no link: B forwards their promises.
#[tokio::test(start_paused = true)]
async fn promises_travel_through_relays() {
    let [a, b, c] = cluster(["a", "b", "c"]).await;
    a.at(1).rename(1, "a1").await;
    c.at(2).rename(1, "c2").await;
    for _ in 0..3 {
        for (target, source) in [(&b, &a), (&b, &c), (&a, &b), (&c, &b)] {
            target.pull(source).await;
        }
    }
    for node in [&a, &b, &c] {
        assert_eq!(node.settle().await.0, texts(&["a1", "c2"]), "node {}", node.name);
    }
}

/// A view that was stopped continues after the last applied event, and applies none twice.
#[tokio::test(start_paused = true)]
async fn a_restarted_view_continues_where_it_stopped() {
    let [a, b] = cluster(["a", "b"]).await;
    let mut expected = Vec::new();
    for round in 0..4 {
        b.at(round * 10 + 1).rename(1, &format!("b{round}")).await;
        a.at(round * 10 + 2).rename(1, &format!("a{round}")).await;
        exchange_all(&[&a, &b]).await;
        expected.extend([format!("b{round}"), format!("a{round}")]);
        let (history, status) = a.settle().await;
        assert_eq!((history, status.events), (expected.clone(), 2));
        assert_eq!(status.generation.map(es_core::projection::Generation::get), Some(1));
    }
    // A rebuild gives the same rows, wherever the caller wants it to begin.
    let running = a.start_view(History::default(), ProjectionOptions::new()).await;
    let handle = running.projection(History::NAME).expect("it was added");
    handle.admin().rebuild(RebuildFrom::Position(Position::new(5).expect("from 1")), "test").await.expect("requested");
    wait().await;
    assert_eq!(handle.status().generation.map(es_core::projection::Generation::get), Some(2));
    assert_eq!(a.history().await, expected);
    running.shutdown(PATIENCE).await.expect("in time");
}

/// A node that was restored from an old backup breaks the promises that it made after the backup.
#[tokio::test(start_paused = true)]
async fn an_event_below_the_settled_time_is_counted_and_the_view_is_rebuilt() {
    let [a, b] = cluster(["a", "b"]).await;
    a.at(1).rename(1, "a1").await;
    let backup = a.store.copy(LogId::new());
    b.at(8).rename(1, "b8").await;
    b.at(9).rename(1, "b9").await;
    a.at(10);
    b.pull(&a).await;
    let running = b.start_view(History::default(), ProjectionOptions::new()).await;
    assert_eq!(b.history().await, texts(&["a1", "b8", "b9"]));
    let a = a.restart(Some(backup)).await;
    a.at(2).rename(1, "a2").await;
    b.pull(&a).await;
    wait().await;
    let handle = running.projection(History::NAME).expect("it was added");
    let status = handle.status();
    assert_eq!((b.history().await, late_events(&status)), (texts(&["a1", "a2", "b8", "b9"]), 1));
    assert_eq!(status.generation.map(es_core::projection::Generation::get), Some(2));
    handle.wait_for(b.store.head().await.expect("read"), PATIENCE).await.expect("settled");
    running.shutdown(PATIENCE).await.expect("in time");
}

/// The rows of parked events are in canonical order, which is not that of their positions.
#[tokio::test(start_paused = true)]
async fn a_parked_key_is_retried_in_canonical_order() {
    let [a, b] = cluster(["a", "b"]).await;
    a.at(2).rename(1, "a2").await;
    b.at(1).rename(1, "flaky").await;
    b.at(3).rename(1, "b3").await;
    b.at(4).rename(2, "other").await;
    exchange_all(&[&a, &b]).await;
    let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let history = History { fails: Arc::new(AtomicBool::new(true)) };
    let running = a.start_view(history.clone(), ProjectionOptions::new().retry(retry)).await;
    assert_eq!(a.history().await, texts(&["other"]));
    let handle = running.projection(History::NAME).expect("it was added");
    let key = handle.admin().parked(None, 10).await.expect("read").remove(0).key;
    let parked = handle.admin().parked_events(&key, None, 10).await.expect("read");
    let positions: Vec<_> = parked.iter().map(|event| event.position.get()).collect();
    assert_eq!(positions, [2, 1, 3]);
    let after = handle.admin().parked_events(&key, Some(parked[1].position), 10).await.expect("read");
    assert_eq!(after, parked[2..]);
    history.fails.store(false, Ordering::Relaxed);
    handle.admin().retry(&key).await.expect("requested");
    wait().await;
    assert_eq!(a.history().await, texts(&["other", "flaky", "a2", "b3"]));
    running.shutdown(PATIENCE).await.expect("in time");
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_is_skipped_in_canonical_order() {
    let [a, b] = cluster(["a", "b"]).await;
    a.at(2).rename(1, "a2").await;
    b.at(1).rename(1, "flaky").await;
    exchange_all(&[&a, &b]).await;
    let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let history = History { fails: Arc::new(AtomicBool::new(true)) };
    let running = a.start_view(history, ProjectionOptions::new().retry(retry)).await;
    let handle = running.projection(History::NAME).expect("it was added");
    let parked = handle.admin().parked(None, 10).await.expect("read").remove(0);
    handle.admin().skip(&parked.key, parked.position, "test").await.expect("requested");
    wait().await;
    assert_eq!(a.history().await, texts(&["a2"]));
    running.shutdown(PATIENCE).await.expect("in time");
}

/// A store without a replica is one node: its log is in canonical order. When it becomes a replica, the view is
/// rebuilt.
#[tokio::test(start_paused = true)]
async fn a_local_store_that_becomes_a_replica_keeps_its_events_in_the_view() {
    let [a, b] = cluster(["a", "b"]).await;
    let store = MemoryStore::with_clock(a.clock.clone());
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let orders = Repository::<Order>::new(Arc::clone(&shared));
    for name in ["one", "two"] {
        a.clock.advance(Duration::from_secs(1));
        orders.execute(&1, OrderEvent::Renamed(name.to_owned())).await.expect("executed");
    }
    let running = Supervisor::new().projection(History::default(), ProjectionOptions::new().partitions(4));
    let running = running.start(Arc::clone(&shared)).await.expect("started");
    running.wait_for(store.head().await.expect("read"), PATIENCE).await.expect("in time");
    assert_eq!(running.status()[0].settled, None);
    running.shutdown(PATIENCE).await.expect("in time");
    let a = a.restart(Some(store.copy(store.log_id()))).await;
    a.at(3).rename(1, "a3").await;
    b.at(4).rename(1, "b4").await;
    exchange_all(&[&a, &b]).await;
    for node in [&a, &b] {
        let (history, status) = node.settle().await;
        assert_eq!(history, texts(&["one", "two", "a3", "b4"]), "node {}", node.name);
        assert_eq!(late_events(&status), 0);
    }
    assert_eq!(a.settle().await.1.generation.map(es_core::projection::Generation::get), Some(2));
}

/// Events of a local aggregate are in the view of their node, at their recorded times.
#[tokio::test(start_paused = true)]
async fn events_of_other_levels_are_applied_at_their_recorded_times() {
    let [a, b] = cluster(["a", "b"]).await;
    let drafts = Repository::<Draft>::new(a.shared());
    b.at(1).rename(1, "b1").await;
    a.at(2);
    drafts.execute(&1, Drafted("draft 2".to_owned())).await.expect("executed");
    b.at(3).rename(1, "b3").await;
    a.at(4);
    drafts.execute(&1, Drafted("draft 4".to_owned())).await.expect("executed");
    let (history, status) = a.settle().await;
    assert_eq!((history, held_back_by(&status)), (texts(&[]), Some("b")));
    exchange_all(&[&a, &b]).await;
    assert_eq!(a.settle().await.0, texts(&["b1", "draft 2", "b3"]), "B may still write an event before the last draft");
    b.at(5);
    exchange_all(&[&a, &b]).await;
    assert_eq!(a.settle().await.0, texts(&["b1", "draft 2", "b3", "draft 4"]));
    assert_eq!(b.settle().await.0, texts(&["b1", "b3"]));
}

/// A node whose link has a filter does not wait for withheld events, and another one does.
#[tokio::test(start_paused = true)]
async fn withheld_events_hold_a_node_back_unless_its_link_has_a_filter() {
    let [a, b, c] = cluster(["a", "b", "c"]).await;
    a.at(1).rename(1, "kept").await;
    a.at(2).rename(2, "withheld").await;
    a.at(3).rename(1, "last").await;
    let one = StreamFilter::none().stream(Order::stream(&1).expect("a name"));
    let filtered = b.replica.clone().with_filter(one);
    for _ in 0..2 {
        a.pull(&b).await;
        a.pull(&c).await;
        filtered.pull(&a.as_peer(), Duration::ZERO).await.expect("pulled");
        b.replica.pull(&c.as_peer(), Duration::ZERO).await.expect("pulled");
        c.pull(&b).await;
    }
    assert_eq!(b.settle().await.0, texts(&["kept", "last"]));
    let (history, status) = c.settle().await;
    assert_eq!((history, held_back_by(&status)), (texts(&[]), Some("a")));
    // C gets the withheld event from A.
    exchange_all(&[&a, &c]).await;
    c.pull(&b).await;
    let (history, status) = c.settle().await;
    assert_eq!((history, late_events(&status)), (texts(&["kept", "withheld", "last"]), 0));
    // The filter of B becomes wider, so the event arrives late.
    let running = b.start_view(History::default(), ProjectionOptions::new()).await;
    b.pull(&a).await;
    wait().await;
    let status = running.projection(History::NAME).expect("it was added").status();
    assert_eq!((b.history().await, late_events(&status)), (texts(&["kept", "withheld", "last"]), 1));
    running.shutdown(PATIENCE).await.expect("in time");
}

/// A step of the property test.
#[derive(Debug, Clone)]
enum Step {
    Write { node: usize, seconds: i64 },
    Pull { target: usize, source: usize },
    Run { node: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize, 0..30_i64).prop_map(|(node, seconds)| Step::Write { node, seconds }),
        4 => (0..3_usize, 1..3_usize).prop_map(|(target, other)| Step::Pull { target, source: (target + other) % 3 }),
        1 => (0..3_usize).prop_map(|node| Step::Run { node }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the order of arrival and the clocks, each view is the fold of the events in canonical order: the first
    /// ones at any time, and all of them in the end.
    #[test]
    fn a_settled_view_is_the_fold_in_canonical_order(steps in vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async move {
            let nodes = cluster(["a", "b", "c"]).await;
            let mut written = 0;
            for step in steps {
                match step {
                    Step::Write { node, seconds } => {
                        written += 1;
                        nodes[node].at(seconds).rename(written % 2, &written.to_string()).await;
                    }
                    Step::Pull { target, source } => nodes[target].pull_commit(&nodes[source]).await,
                    Step::Run { node } => check(&nodes[node], None).await,
                }
            }
            exchange_all(&[&nodes[0], &nodes[1], &nodes[2]]).await;
            for node in &nodes {
                check(node, Some(written)).await;
            }
        });
    }
}

/// Checks that the view of a node has its first events in canonical order, or all of them.
async fn check(node: &Clocked, events: Option<u64>) {
    let (history, status) = node.settle().await;
    let read = es_core::LogRead::category(Order::category().expect("a name"));
    let mut expected = node.store.read_log(read).await.expect("read").collect().await.expect("read");
    expected.sort_by_key(es_core::RecordedEvent::canonical_key);
    let names = expected.iter().map(|event| match OrderEvent::decode(event.into()).expect("decoded").as_slice() {
        [OrderEvent::Renamed(name)] => name.clone(),
        other => panic!("{other:?}"),
    });
    let names: Vec<String> = names.collect();
    assert_eq!(history, names[..history.len()], "node {}", node.name);
    assert_eq!(late_events(&status), 0);
    if let Some(events) = events {
        assert_eq!(history.len() as u64, events, "node {}: {status:?}", node.name);
    }
}
