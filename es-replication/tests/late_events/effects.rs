//! Reactors and consumer groups.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use es_core::Commit;
use es_core::consumer::DeliveryScope;
use es_core::consumer::group::{ConsumerGroup, StartAt};
use es_core::consumer::reactor::{ReactError, Reactor, ReactorContext, ReactorRunner, RunningReactor};
use es_core::model::SubjectId;
use es_core::prelude::*;
use es_core::retention::{Erasure, Note};
use es_replication::{Link, Token};
use serde::Serialize;

use crate::domain::{Invoices, Issued, Node, Order, OrderEvent, PATIENCE, exchange, nodes};

/// The letters that all nodes have sent: the node, the order and the number of pieces.
type Letters = Arc<Mutex<Vec<(&'static str, u64, u64)>>>;

/// Sends a letter for each order that was placed, and one for each erasure.
struct Letter {
    node: &'static str,
    sent: Letters,
}

#[async_trait]
impl Reactor for Letter {
    type Source = Order;
    const NAME: &'static str = "letters";

    async fn react(&self, event: &OrderEvent, context: &ReactorContext) -> Result<(), ReactError> {
        if let OrderEvent::Placed { pieces } = event {
            let order = Order::id_of(&context.event().stream).expect("an order");
            self.sent.lock().expect("no panic").push((self.node, order, *pieces));
        }
        Ok(())
    }

    async fn erased(&self, _: &Erasure, _: &ReactorContext) -> Result<(), ReactError> {
        self.sent.lock().expect("no panic").push((self.node, 0, 0));
        Ok(())
    }
}

async fn run_letters(node: &Node, sent: &Letters, scope: DeliveryScope) -> RunningReactor {
    let reactor = Letter { node: node.name, sent: Arc::clone(sent) };
    let runner = ReactorRunner::new(reactor).start_at(StartAt::Beginning).scope(scope);
    runner.start(node.shared()).await.expect("started")
}

/// Runs the reactor of each node up to the end of its log.
async fn send_letters(nodes: &[Node], sent: &Letters, scope: DeliveryScope) {
    for node in nodes {
        let running = run_letters(node, sent, scope).await;
        let head = node.store.head().await.expect("read");
        running.wait_for(head, PATIENCE).await.expect("in time");
        running.shutdown(PATIENCE).await.expect("in time");
    }
}

fn sorted(sent: &Letters) -> Vec<(&'static str, u64, u64)> {
    let mut sent = sent.lock().expect("no panic").clone();
    sent.sort_unstable();
    sent
}

#[tokio::test]
async fn each_letter_is_sent_by_the_node_on_which_its_event_originated() {
    let (nodes, sent) = (nodes().await, Letters::default());
    for (pieces, node) in (1..).zip(&nodes) {
        node.place(7, pieces).await;
    }
    exchange(&nodes).await;
    send_letters(&nodes, &sent, DeliveryScope::Origin).await;
    assert_eq!(sorted(&sent), [("a", 7, 1), ("b", 7, 2), ("c", 7, 3)]);
    // The checkpoint is after the events of other nodes, so that a later run does not read them again.
    nodes[0].place(8, 4).await;
    exchange(&nodes).await;
    send_letters(&nodes, &sent, DeliveryScope::Origin).await;
    assert_eq!(sorted(&sent)[1], ("a", 8, 4));
    assert_eq!(sorted(&sent).len(), 4);
}

/// An erasure replicates, and other systems are told once.
#[tokio::test]
async fn an_erasure_is_delivered_on_the_node_that_recorded_it() {
    for (scope, expected) in [
        (DeliveryScope::Origin, vec![("b", 0, 0)]),
        (DeliveryScope::EveryNode, vec![("a", 0, 0), ("b", 0, 0), ("c", 0, 0)]),
    ] {
        let (nodes, sent) = (nodes().await, Letters::default());
        let person = SubjectId::new("7c9e").expect("a name");
        nodes[1].store.commit(Commit::erase_subject(person, Note::default())).await.expect("recorded");
        exchange(&nodes).await;
        send_letters(&nodes, &sent, scope).await;
        assert_eq!(sorted(&sent), expected);
    }
}

#[tokio::test]
async fn every_node_sends_its_letter_with_the_scope_every_node() {
    let (nodes, sent) = (nodes().await, Letters::default());
    nodes[0].place(7, 1).await;
    exchange(&nodes).await;
    send_letters(&nodes, &sent, DeliveryScope::EveryNode).await;
    assert_eq!(sorted(&sent), [("a", 7, 1), ("b", 7, 1), ("c", 7, 1)]);
}

/// The events of two former origins have not been delivered when the node takes the third one.
#[tokio::test]
async fn a_node_with_a_new_origin_delivers_the_events_of_its_former_origins() {
    let ([a, b, c], sent) = (nodes().await, Letters::default());
    a.place(1, 1).await;
    let a = a.restart_unconfirmed().await;
    a.place(2, 2).await;
    let a = a.restart_unconfirmed().await;
    a.place(3, 3).await;
    let nodes = [a, b, c];
    exchange(&nodes).await;
    send_letters(&nodes, &sent, DeliveryScope::Origin).await;
    assert_eq!(sorted(&sent), [("a", 1, 1), ("a", 2, 2), ("a", 3, 3)]);
}

/// An event that a backup does not contain comes back from another node. Its letter may not have been sent.
#[tokio::test]
async fn a_restored_node_delivers_its_events_that_come_back_from_other_nodes() {
    let ([a, b, _], sent) = (nodes().await, Letters::default());
    let backup = a.store.copy(a.store.log_id());
    a.place(1, 1).await;
    b.pull(&a).await;
    drop(a);
    let restored = Node::restored("a", &backup).await;
    restored.pull(&b).await;
    send_letters(&[restored, b], &sent, DeliveryScope::Origin).await;
    assert_eq!(sorted(&sent), [("a", 1, 1)]);
}

#[tokio::test]
async fn a_consumer_group_receives_the_events_of_its_node() {
    let [a, b, _] = nodes().await;
    a.place(1, 1).await;
    b.place(2, 2).await;
    a.pull(&b).await;
    let received = async |scope| {
        let group = ConsumerGroup::of::<Order>(format!("printers-{scope:?}")).start_at(StartAt::Beginning).scope(scope);
        let group = group.start(a.shared()).await.expect("started");
        let (head, consumer) = (a.store.head().await.expect("read"), group.consumer());
        let mut streams = Vec::new();
        let deliveries = async {
            while let Ok(Some(delivery)) = consumer.next().await {
                streams.push(delivery.event().stream.to_string());
                delivery.ack().await.expect("acked");
            }
        };
        tokio::select! {
            () = deliveries => {}
            reached = group.wait_for(head, PATIENCE) => reached.expect("in time"),
        }
        streams
    };
    assert_eq!(received(DeliveryScope::Origin).await, ["order-1"]);
    assert_eq!(received(DeliveryScope::EveryNode).await, ["order-1", "order-2"]);
}

/// Issues an invoice for each order that was placed: a processor from log to log.
struct Invoicing {
    invoices: Repository<Invoices>,
}

#[derive(Clone, Serialize)]
struct Issue(u64);

impl Decide<Issue> for Invoices {
    type Rejection = std::convert::Infallible;
    fn decide(&self, Issue(pieces): Issue, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Issued { pieces }.into())
    }
}

#[async_trait]
impl Reactor for Invoicing {
    type Source = Order;
    const NAME: &'static str = "invoicing";

    async fn react(&self, event: &OrderEvent, context: &ReactorContext) -> Result<(), ReactError> {
        let (OrderEvent::Placed { pieces }, Some(order)) = (event, Order::id_of(&context.event().stream)) else {
            return Ok(());
        };
        let id = CommandId::new(context.key().to_string())?;
        self.invoices.execute(&order, Issue(*pieces)).with_id(id).await?;
        Ok(())
    }
}

async fn run_invoicing(node: &Node, scope: DeliveryScope) -> RunningReactor {
    let reactor = Invoicing { invoices: Repository::new(node.shared()) };
    let runner = ReactorRunner::new(reactor).start_at(StartAt::Beginning).scope(scope);
    runner.start(node.shared()).await.expect("started")
}

fn link(node: &Node, peer: &Node) -> Link {
    Link::start(node.replica.clone(), Arc::new(peer.as_peer()))
}

/// R2: a processor from log to log loses nothing and stays idempotent while two nodes replicate in both directions, one
/// is restarted in the middle, and its events come back to it.
async fn r2(scope: DeliveryScope) {
    let [a, b, _] = nodes().await;
    let (reactors, links) =
        ([run_invoicing(&a, scope).await, run_invoicing(&b, scope).await], [link(&a, &b), link(&b, &a)]);
    for pieces in 1..=10 {
        a.place(pieces % 3, pieces).await;
        b.place(pieces % 3, 100 * pieces).await;
    }
    // A crash: the events that its reactor has not reached are delivered after the restart, under a new origin.
    drop((reactors, links));
    let a = a.restart_unconfirmed().await;
    let reactors = [run_invoicing(&a, scope).await, run_invoicing(&b, scope).await];
    let links = [link(&a, &b), link(&b, &a)];
    for pieces in 11..=20 {
        a.place(pieces % 3, pieces).await;
        b.place(pieces % 3, 100 * pieces).await;
    }
    // The orders arrive, are invoiced, and the invoices arrive.
    for _ in 0..2 {
        let mut token = Token::default();
        for (node, reactor) in [&a, &b].into_iter().zip(&reactors) {
            reactor.wait_for(node.store.head().await.expect("read"), PATIENCE).await.expect("in time");
            token.merge(&node.replica.token().await.expect("a token"));
        }
        for node in [&a, &b] {
            node.replica.wait_for(&token, PATIENCE).await.expect("converged");
        }
    }
    for order in 0..3 {
        let [one, other] =
            [a.invoices.load(&order).await, b.invoices.load(&order).await].map(|loaded| loaded.expect("loaded"));
        let placed = a.orders.load(&order).await.expect("loaded").state.pieces;
        assert_eq!((one.state.pieces, &one.state), (placed, &other.state), "{scope:?}: order {order}");
        assert_eq!(one.version(), other.version());
        assert_eq!(one.state.count, 2 * (1..=20).filter(|pieces| pieces % 3 == order).count());
    }
    for reactor in reactors {
        assert_eq!(reactor.status().parked, 0);
        reactor.shutdown(PATIENCE).await.expect("in time");
    }
    for link in links {
        link.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_reactor_that_writes_to_another_aggregate_loses_nothing_and_stays_idempotent() {
    r2(DeliveryScope::Origin).await;
}

/// Both nodes issue each invoice under the same command id, and one counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_reactor_on_every_node_has_one_effect_for_each_event() {
    r2(DeliveryScope::EveryNode).await;
}
