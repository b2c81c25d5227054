//! Projections.

use es_core::aggregate::RetryPolicy;
use es_core::prelude::*;
use es_core::projection::inline::Inline;
use es_core::projection::view::{View, Views};
use es_core::projection::{Arrival, HandlesLateEvents, ProjectionOptions, StateView, Supervisor};
use es_core::store::StartHookError;
use es_core::store::memory::MemoryStore;
use es_core::testing::given_events;
use es_core::{Aggregate, Commit, NewEvent, store::Query, store::QueryItem};
use serde::{Deserialize, Serialize};

use crate::domain::{Node, Order, OrderEvent, PATIENCE, POISON, exchange, nodes, options};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OpenOrder {
    name: String,
    pieces: u64,
}

/// The orders that are not closed.
struct OpenOrders;

impl StateView for OpenOrders {
    type Aggregate = Order;
    type Row = OpenOrder;
    const VIEW: View<u64, OpenOrder> = View::new("open-orders");

    fn row(order: &Order) -> Option<OpenOrder> {
        (!order.is_closed).then(|| OpenOrder { name: order.name.clone(), pieces: order.pieces })
    }
}

const PIECES: View<u64, u64> = View::new("pieces");

/// The number of pieces of each order.
struct Pieces;

impl Projection for Pieces {
    type Source = Order;
    const NAME: &'static str = "pieces";

    fn apply(&self, event: &OrderEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        match (event, Order::id_of(at.stream())) {
            (OrderEvent::Placed { pieces }, Some(order)) => rows.view(&PIECES)?.update(&order, |sum| *sum += pieces),
            _ => Ok(()),
        }
    }
}

impl HandlesLateEvents for Pieces {
    type Mode = Arrival;
}

#[derive(Debug, PartialEq)]
struct Content {
    open: Vec<(u64, OpenOrder)>,
    pieces: Vec<(u64, u64)>,
}

/// Runs the projections of a node up to the end of its log, and returns the rows of their views.
async fn project(node: &Node, options: ProjectionOptions) -> Content {
    let supervisor = Supervisor::new().projection(OpenOrders, options).projection(Pieces, options);
    let running = supervisor.start(node.shared()).await.expect("started");
    running.wait_for(node.store.head().await.expect("read"), PATIENCE).await.expect("in time");
    running.shutdown(PATIENCE).await.expect("in time");
    let open = Views::of::<OpenOrders>(node.shared()).view(&OpenOrders::VIEW).scan().read().await.expect("read");
    let pieces = Views::of::<Pieces>(node.shared()).view(&PIECES).scan().read().await.expect("read");
    Content { open: open.rows, pieces: pieces.rows }
}

#[tokio::test]
async fn views_of_three_nodes_are_equal_after_late_events() {
    let nodes = nodes().await;
    for (pieces, node) in (1..).zip(&nodes) {
        node.place(1, pieces).await;
        node.rename(1, node.name).await;
        node.place(2, 10 * pieces).await;
    }
    // Each node has a view of its own events.
    let before = project(&nodes[2], ProjectionOptions::new()).await;
    assert_eq!(before.open[0].1, OpenOrder { name: "c".to_owned(), pieces: 3 });
    // C closes an order before it has the other events, and A renames the order later.
    nodes[2].close(2).await;
    for node in &nodes[..2] {
        project(node, ProjectionOptions::new().partitions(2)).await;
    }
    nodes[0].rename(1, "last").await;
    exchange(&nodes).await;
    exchange(&nodes).await;
    let expected =
        Content { open: vec![(1, OpenOrder { name: "last".to_owned(), pieces: 6 })], pieces: vec![(1, 6), (2, 60)] };
    for node in &nodes {
        assert_eq!(project(node, ProjectionOptions::new().partitions(2)).await, expected, "node {}", node.name);
        let state = node.orders.load(&1).await.expect("loaded").state;
        assert_eq!(OpenOrders::row(&state).as_ref(), Some(&expected.open[0].1), "a row is a function of the state");
    }
}

/// The late event precedes events that the view has applied already. It changes the state, but is not the last event.
#[tokio::test]
async fn a_late_event_does_not_replace_a_later_one_in_a_view_of_states() {
    let [a, b, _] = nodes().await;
    b.rename(1, "early").await;
    a.rename(1, "late").await;
    assert_eq!(project(&a, ProjectionOptions::new()).await.open[0].1.name, "late");
    a.pull(&b).await;
    assert_eq!(project(&a, ProjectionOptions::new()).await.open[0].1.name, "late");
}

#[test]
fn the_projections_of_these_tests_commute() {
    given_events()
        .of::<Order>(1, [OrderEvent::Placed { pieces: 1 }])
        .on_node("a")
        .of::<Order>(1, [OrderEvent::Placed { pieces: 2 }, OrderEvent::Closed])
        .on_node("b")
        .of::<Order>(1, [OrderEvent::Placed { pieces: 4 }])
        .of::<Order>(2, [OrderEvent::Renamed("x".into())])
        .project_in_any_order(Pieces)
        .then(|views| assert_eq!(views.view(&PIECES).get(&1), Some(7)));
    // A view of states needs no order: its row is that of the canonical fold.
    given_events()
        .on_node("a")
        .of::<Order>(1, [OrderEvent::Renamed("a".into())])
        .on_node("b")
        .of::<Order>(1, [OrderEvent::Renamed("b".into())])
        .project(OpenOrders)
        .then(|views| assert_eq!(views.view(&OpenOrders::VIEW).get(&1).expect("a row").name, "b"));
}

/// Counts recorded events that its query selects.
struct Raw(Query);

impl Projection for Raw {
    type Source = RawEvents;
    const NAME: &'static str = "raw";

    fn query(&self) -> Query {
        self.0.clone()
    }
    fn apply(&self, _: &es_core::RecordedEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        rows.view(&PIECES)?.update(&0, |count| *count += 1)
    }
}

#[tokio::test]
async fn an_inline_projection_of_replicated_events_does_not_start() {
    let of_category = |category| QueryItem::new().category(category);
    let order = of_category(Order::category().expect("a category"));
    let local = of_category(es_core::model::Category::new("draft").expect("a category"));
    for (query, category) in [(Query::all(), "any category"), (order.into(), "category \"order\"")] {
        let after = MemoryStore::new().with_hook(options("a").hook()).await.expect("started");
        let after = after.with_hook(Inline::new(Raw(query.clone()))).await.map(drop);
        let before = MemoryStore::new().with_hook(Inline::new(Raw(query))).await.expect("started");
        let before = before.with_hook(options("a").hook()).await.map(drop);
        for started in [after, before] {
            let Err(StartHookError::Replicated { name, category: found }) = started else { panic!("{started:?}") };
            assert_eq!((name.as_str(), found.as_str()), ("raw", category));
        }
    }
    let store = MemoryStore::new().with_hook(options("a").hook()).await.expect("started");
    store.with_hook(Inline::new(Raw(local.into()))).await.expect("the category is not replicated");
}

/// A view of states is reset and follows the log like any other.
#[tokio::test]
async fn a_view_of_states_is_reset_and_follows_the_log_like_any_other() {
    let nodes = nodes().await;
    nodes[0].place(1, 5).await;
    nodes[1].place(1, 6).await;
    let before = project(&nodes[0], ProjectionOptions::new()).await;
    assert_eq!(before.open.len(), 1);
    exchange(&nodes).await;
    let running = Supervisor::new().projection(OpenOrders, ProjectionOptions::new());
    let running = running.start(nodes[0].shared()).await.expect("started");
    let handle = running.projection(OpenOrders::VIEW.name()).expect("it was added");
    handle.admin().reset("test").await.expect("reset");
    handle.wait_for(nodes[0].store.head().await.expect("read"), PATIENCE).await.expect("in time");
    let views = Views::of::<OpenOrders>(nodes[0].shared());
    let row = views.view(&OpenOrders::VIEW).get(&1).await.expect("read");
    assert_eq!(row, Some(OpenOrder { name: String::new(), pieces: 11 }));
    // Each batch loads the state again.
    for pieces in [12, 13] {
        nodes[0].place(1, 1).await;
        handle.wait_for(nodes[0].store.head().await.expect("read"), PATIENCE).await.expect("in time");
        let row = views.view(&OpenOrders::VIEW).get(&1).await.expect("read");
        assert_eq!(row.map(|row| row.pieces), Some(pieces));
    }
    running.shutdown(PATIENCE).await.expect("in time");
}

/// A panic in `evolve` stopped the worker, which started again and again at the same event.
#[tokio::test]
async fn a_state_that_cannot_be_folded_parks_its_key_only() {
    let nodes = nodes().await;
    let encoded = OrderEvent::Renamed(POISON.to_owned()).encode().expect("encoded");
    let event = NewEvent::new(encoded.event_type, encoded.version, encoded.content_type, encoded.payload);
    let poison = Commit::new().append(Order::stream(&2).expect("a name"), event);
    nodes[0].store.commit(poison).await.expect("written");
    nodes[0].place(1, 5).await;
    let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let options = ProjectionOptions::new().retry(retry);
    let running = Supervisor::new().projection(OpenOrders, options).start(nodes[0].shared()).await.expect("started");
    let handle = running.projection(OpenOrders::VIEW.name()).expect("it was added");
    handle.wait_for(nodes[0].store.head().await.expect("read"), PATIENCE).await.expect("in time");
    let parked = handle.admin().parked(None, 10).await.expect("read");
    assert_eq!(parked.len(), 1);
    assert!(parked[0].error.contains("`evolve` panicked"), "{parked:?}");
    let rows =
        Views::of::<OpenOrders>(nodes[0].shared()).view(&OpenOrders::VIEW).scan().read().await.expect("read").rows;
    assert_eq!(rows, [(1, OpenOrder { name: String::new(), pieces: 5 })]);
    running.shutdown(PATIENCE).await.expect("in time");
}
