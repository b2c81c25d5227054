//! Views of replicated streams that are deleted.

use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::RetryPolicy;
use es_core::prelude::*;
use es_core::projection::view::{View, Views};
use es_core::projection::{
    Arrival, HandlesLateEvents, Live, LiveEvents, ProjectionOptions, Settled, StateView, Supervisor,
};
use es_core::retention::{DeleteKind, Erasure, Note};
use es_core::testing::given_events;
use es_core::{Aggregate, RecordedEvent};

use crate::domain::{Node, Order, OrderEvent, PATIENCE, exchange, nodes};
use crate::settled::cluster;

const PIECES: View<u64, u64> = View::new("pieces");

/// The number of pieces of each order. A number of 13 cannot be counted while `is_strict`.
#[derive(Clone, Copy)]
struct Pieces {
    is_strict: bool,
}

fn add_pieces(event: &OrderEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
    match (event, Order::id_of(at.stream())) {
        (OrderEvent::Placed { pieces }, Some(order)) => rows.view(&PIECES)?.update(&order, |sum| *sum += pieces),
        _ => Ok(()),
    }
}

fn delete_pieces(erasure: &Erasure, rows: &mut Rows) -> Result<(), ApplyError> {
    let order = erasure.stream().and_then(Order::id_of);
    order.map_or(Ok(()), |order| rows.view(&PIECES)?.delete(&order))
}

impl Projection for Pieces {
    type Source = Order;
    const NAME: &'static str = "pieces";

    fn apply(&self, event: &OrderEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        if self.is_strict && matches!(event, OrderEvent::Placed { pieces: 13 }) {
            return Err(ApplyError::new("an unlucky number"));
        }
        add_pieces(event, at, rows)
    }

    fn erased(&self, erasure: &Erasure, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        delete_pieces(erasure, rows)
    }

    /// The key of an event is not that of the deletion.
    fn key(&self, event: &RecordedEvent) -> String {
        format!("pieces of {}", event.stream)
    }
}

impl HandlesLateEvents for Pieces {
    type Mode = Arrival;
}

/// The number of pieces in canonical order.
struct SettledPieces;

impl Projection for SettledPieces {
    type Source = Order;
    const NAME: &'static str = "settled-pieces";

    fn apply(&self, event: &OrderEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        add_pieces(event, at, rows)
    }

    fn erased(&self, erasure: &Erasure, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        delete_pieces(erasure, rows)
    }
}

impl HandlesLateEvents for SettledPieces {
    type Mode = Settled;
}

const PLACED: View<(), u64> = View::new("placed");

/// Counts all orders that were ever placed, also deleted ones.
struct Placed;

impl Projection for Placed {
    type Source = Order;
    const NAME: &'static str = "placed";

    fn apply(&self, event: &OrderEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let placed = u64::from(matches!(event, OrderEvent::Placed { .. }));
        rows.view(&PLACED)?.update(&(), |count| *count += placed)
    }
}

impl HandlesLateEvents for Placed {
    type Mode = Arrival;
}

/// The pieces of each order by its state.
struct States;

impl StateView for States {
    type Aggregate = Order;
    type Row = u64;
    const VIEW: View<u64, u64> = View::new("states");

    fn row(order: &Order) -> Option<u64> {
        Some(order.pieces)
    }
}

const STRICT: Pieces = Pieces { is_strict: true };
const LENIENT: Pieces = Pieces { is_strict: false };

/// The rows of the views of one node.
#[derive(Debug, PartialEq)]
struct Content {
    pieces: Vec<(u64, u64)>,
    states: Vec<(u64, u64)>,
    placed: Option<u64>,
}

async fn content(node: &Node) -> Content {
    let pieces = Views::of::<Pieces>(node.shared()).view(&PIECES).scan().read().await.expect("read").rows;
    let states = Views::of::<States>(node.shared()).view(&States::VIEW).scan().read().await.expect("read").rows;
    let placed = Views::of::<Placed>(node.shared()).view(&PLACED).get(&()).await.expect("read");
    Content { pieces, states, placed }
}

/// Runs the projections of a node up to the end of its log.
async fn project(node: &Node, options: ProjectionOptions) -> Content {
    let supervisor = Supervisor::new().projection(LENIENT, options).projection(States, options);
    let running = supervisor.projection(Placed, options).start(node.shared()).await.expect("started");
    running.wait_for(node.store.head().await.expect("read"), PATIENCE).await.expect("in time");
    running.shutdown(PATIENCE).await.expect("in time");
    content(node).await
}

async fn delete(node: &Node, order: u64) {
    node.replica.delete(&Order::stream(&order).expect("a name"), Note::default()).await.expect("deleted");
}

/// A deletes an order while B and C place further pieces. Each node has the events in another order.
#[tokio::test]
async fn views_of_all_nodes_have_the_kept_events_in_every_order_of_arrival() {
    let nodes = nodes().await;
    nodes[0].place(1, 1).await;
    nodes[0].place(2, 10).await;
    exchange(&nodes).await;
    for node in &nodes {
        project(node, ProjectionOptions::new().partitions(2)).await;
    }
    nodes[1].place(1, 2).await;
    nodes[2].place(1, 4).await;
    nodes[0].pull(&nodes[1]).await;
    delete(&nodes[0], 1).await;
    nodes[1].place(1, 8).await;
    let deleted = project(&nodes[0], ProjectionOptions::new().partitions(2)).await;
    assert_eq!(deleted, Content { pieces: vec![(2, 10)], states: vec![(2, 10)], placed: Some(3) });
    exchange(&nodes).await;
    exchange(&nodes).await;
    let expected = Content { pieces: vec![(1, 12), (2, 10)], states: vec![(1, 12), (2, 10)], placed: Some(5) };
    for node in &nodes {
        assert_eq!(project(node, ProjectionOptions::new().partitions(2)).await, expected, "node {}", node.name);
        let mut live = Live::fold(node.shared(), LENIENT, LiveEvents::All).await.expect("folded");
        assert_eq!(live.view(&PIECES).scan().read(), expected.pieces, "live, node {}", node.name);
        assert_eq!(live.refresh().await.expect("refreshed"), 0);
        let of_stream = Live::fold(node.shared(), LENIENT, Order::stream(&1).expect("a name")).await.expect("folded");
        assert_eq!(of_stream.view(&PIECES).scan().read(), [(1, 12)], "live, node {}", node.name);
    }
    // A rebuild receives the same events.
    let running = Supervisor::new().projection(LENIENT, ProjectionOptions::new());
    let running = running.start(nodes[2].shared()).await.expect("started");
    let handle = running.projection(Pieces::NAME).expect("it was added");
    handle.admin().reset("test").await.expect("reset");
    handle.wait_for(nodes[2].store.head().await.expect("read"), PATIENCE).await.expect("in time");
    assert_eq!(content(&nodes[2]).await, expected);
    running.shutdown(PATIENCE).await.expect("in time");
}

/// The harness applies the deletion in every order in which it can arrive.
#[test]
fn a_projection_that_deletes_its_rows_commutes_with_deletions() {
    let given = given_events()
        .of::<Order>(1, [OrderEvent::Placed { pieces: 1 }])
        .on_node("a")
        .of::<Order>(1, [OrderEvent::Placed { pieces: 2 }])
        .deleted::<Order>(1, DeleteKind::Soft)
        .on_node("b")
        .of::<Order>(1, [OrderEvent::Placed { pieces: 4 }])
        .on_node("c")
        .pull_from("b")
        .deleted::<Order>(1, DeleteKind::Soft)
        .of::<Order>(1, [OrderEvent::Placed { pieces: 8 }]);
    given.project_in_any_order(LENIENT).then(|views| assert_eq!(views.view(&PIECES).get(&1), Some(8)));
    given.project_in_any_order(Placed).then(|views| assert_eq!(views.view(&PLACED).get(&()), Some(4)));
    given.project(States).then(|views| assert_eq!(views.view(&States::VIEW).get(&1), Some(8)));
    assert_eq!(given.fold_in_any_order::<Order>(1).pieces, 8);
}

/// The event precedes the deletion in canonical order on one node and follows it on the other.
#[tokio::test(start_paused = true)]
async fn a_settled_view_has_the_kept_events_of_both_sides_of_the_deletion() {
    let [a, b] = cluster(["a", "b"]).await;
    a.at(1).place(1, 1).await;
    b.pull(&a).await;
    b.at(2).place(1, 2).await;
    delete(a.at(3), 1).await;
    b.at(4).place(1, 4).await;
    a.at(5).place(2, 10).await;
    for _ in 0..3 {
        a.pull(&b).await;
        b.pull(&a).await;
    }
    for node in [&a, &b] {
        let running = Supervisor::new().projection(SettledPieces, ProjectionOptions::new().batch(1));
        let running = running.start(node.shared()).await.expect("started");
        running.wait_for(node.store.head().await.expect("read"), PATIENCE).await.expect("in time");
        running.shutdown(PATIENCE).await.expect("in time");
        let views = Views::of::<SettledPieces>(node.shared());
        let rows = views.view(&PIECES).scan().read().await.expect("read").rows;
        assert_eq!(rows, [(1, 6), (2, 10)], "node {}", node.name);
    }
}

/// The parked event is covered, or applied again by the deletion. It must not be applied a second time.
#[tokio::test]
async fn a_parked_event_before_a_deletion_is_not_applied_after_it() {
    for is_kept in [false, true] {
        let [a, b, _] = nodes().await;
        a.place(1, 1).await;
        b.pull(&a).await;
        a.place(1, 13).await;
        if is_kept {
            // B has not received the event that A cannot count.
            delete(&b, 1).await;
        } else {
            b.pull(&a).await;
            delete(&b, 1).await;
        }
        let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
        let options = ProjectionOptions::new().retry(retry);
        let running = Supervisor::new().projection(STRICT, options).start(a.shared()).await.expect("started");
        let handle = running.projection(Pieces::NAME).expect("it was added");
        handle.wait_for(a.store.head().await.expect("read"), PATIENCE).await.expect("in time");
        assert_eq!(handle.admin().parked(None, 10).await.expect("read").len(), 1);
        running.shutdown(PATIENCE).await.expect("in time");
        a.pull(&b).await;
        let running = Supervisor::new().projection(LENIENT, options).start(a.shared()).await.expect("started");
        let handle = running.projection(Pieces::NAME).expect("it was added");
        handle.wait_for(a.store.head().await.expect("read"), PATIENCE).await.expect("in time");
        let key = format!("pieces of {}", Order::stream(&1).expect("a name"));
        handle.admin().retry(&key).await.expect("requested");
        while !handle.admin().parked(None, 10).await.expect("read").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.shutdown(PATIENCE).await.expect("in time");
        let rows = Views::of::<Pieces>(a.shared()).view(&PIECES).scan().read().await.expect("read").rows;
        let expected = if is_kept { vec![(1, 13)] } else { Vec::new() };
        assert_eq!(rows, expected, "kept: {is_kept}");
    }
}

/// An effect of a deletion runs on the node that deleted the stream.
#[tokio::test]
async fn a_reactor_receives_a_deletion_on_the_node_that_deleted_the_stream() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use es_core::consumer::group::StartAt;
    use es_core::consumer::reactor::{ReactError, Reactor, ReactorContext, ReactorRunner};

    #[derive(Clone, Default)]
    struct Forget(Arc<AtomicUsize>);

    #[async_trait]
    impl Reactor for Forget {
        type Source = Order;
        const NAME: &'static str = "forget";
        async fn react(&self, _: &OrderEvent, _: &ReactorContext) -> Result<(), ReactError> {
            Ok(())
        }
        async fn erased(&self, erasure: &Erasure, _: &ReactorContext) -> Result<(), ReactError> {
            assert_eq!(erasure.stream(), Some(&Order::stream(&1).expect("a name")));
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    let nodes = nodes().await;
    nodes[0].place(1, 1).await;
    nodes[1].pull(&nodes[0]).await;
    delete(&nodes[1], 1).await;
    exchange(&nodes).await;
    for (node, expected) in nodes.iter().zip([0, 1, 0]) {
        let reactor = Forget::default();
        let running = ReactorRunner::new(reactor.clone())
            .start_at(StartAt::Beginning)
            .start(node.shared())
            .await
            .expect("started");
        running.wait_for(node.store.head().await.expect("read"), PATIENCE).await.expect("in time");
        running.shutdown(PATIENCE).await.expect("in time");
        assert_eq!(reactor.0.load(Ordering::SeqCst), expected, "node {}", node.name);
    }
}
