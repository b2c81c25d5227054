//! Process managers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use es_core::RecordedEvent;
use es_core::consumer::DeliveryScope;
use es_core::consumer::group::StartAt;
use es_core::prelude::*;
use es_saga::OperatorNote;
use es_saga::process::{
    Correlation, Mismatch, MismatchPolicy, Process, ProcessContext, ProcessManager, ProcessPhase, Reaction,
    ReactionError, RunningProcess, Target,
};
use serde::{Deserialize, Serialize};

use crate::domain::{Invoices, Issued, Node, Order, OrderEvent, PATIENCE, exchange, nodes};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "billing-noted")]
struct Noted(String);

/// The state of the process: the names that the order had.
#[derive(Clone, Debug, Default, Aggregate)]
#[aggregate(category = "billing", id = u64, event = Noted)]
struct Billing {
    names: Vec<String>,
}

impl Evolve for Billing {
    fn initial(_: &u64) -> Self {
        Self::default()
    }
    fn evolve(&mut self, Noted(name): &Noted, _: &EventContext<'_>) {
        self.names.push(name.clone());
    }
}

/// Issues an invoice for each new order: a processor from log to log. Notes its names until it is closed.
#[derive(Default)]
struct BillingProcess {
    /// Whether the program cannot assign events to instances, such as one that is older than their events.
    is_old: Arc<AtomicBool>,
}

impl Process for BillingProcess {
    type State = Billing;
    type Source = Order;
    type Signal = ();

    fn correlate(&self, event: &OrderEvent, record: &RecordedEvent) -> Correlation<u64> {
        assert!(!self.is_old.load(Ordering::Relaxed), "the program is too old");
        let Some(order) = Order::id_of(&record.stream) else { return Correlation::Ignore };
        match event {
            OrderEvent::Placed { .. } => Correlation::Start(order),
            OrderEvent::Renamed(_) => Correlation::Continue(Target::Id(order)),
            OrderEvent::Closed => Correlation::Stop(Target::Id(order)),
        }
    }

    fn on_event(
        &self,
        _: &Billing,
        event: &OrderEvent,
        context: &ProcessContext<'_>,
    ) -> Result<Reaction<Billing>, ReactionError> {
        let order = context.id().instance().parse()?;
        Ok(match event {
            OrderEvent::Placed { pieces } => Reaction::none().execute::<Invoices, _>(order, Issued { pieces: *pieces }),
            OrderEvent::Renamed(name) => Reaction::none().event(Noted(name.clone())),
            OrderEvent::Closed => Reaction::none(),
        })
    }

    fn on_mismatch(&self, _: &OrderEvent, _: Mismatch) -> MismatchPolicy {
        MismatchPolicy::Skip
    }
}

fn manager(node: &Node, scope: DeliveryScope) -> ProcessManager<BillingProcess> {
    manager_of(BillingProcess::default(), node, scope)
}

fn manager_of(process: BillingProcess, node: &Node, scope: DeliveryScope) -> ProcessManager<BillingProcess> {
    let manager = ProcessManager::new(process, node.shared()).start_at(StartAt::Beginning).scope(scope);
    manager.poll(Duration::from_millis(5))
}

async fn settled(node: &Node, running: &RunningProcess) {
    running.wait_for(node.store.head().await.expect("read"), PATIENCE).await.expect("in time");
}

async fn phases(nodes: &[Node], order: u64) -> Vec<ProcessPhase> {
    let mut phases = Vec::new();
    for node in nodes {
        phases.push(manager(node, DeliveryScope::Origin).query(&order).await.expect("read").journal.phase());
    }
    phases
}

/// R2: a process manager appends to another replicated aggregate. Each order is billed once, on the node on which it
/// was placed, also if this node is restarted under a new origin before it has handled the order.
#[tokio::test]
async fn r2_a_process_that_writes_to_another_aggregate_loses_nothing_and_stays_idempotent() {
    let [a, b, c] = nodes().await;
    a.place(1, 1).await;
    let nodes = [a.restart_unconfirmed().await, b, c];
    nodes[1].place(2, 2).await;
    nodes[2].place(3, 3).await;
    exchange(&nodes).await;
    for _ in 0..2 {
        for node in &nodes {
            let running = manager(node, DeliveryScope::Origin).start().await.expect("started");
            settled(node, &running).await;
            assert!(running.shutdown(PATIENCE).await);
        }
        exchange(&nodes).await;
    }
    for node in &nodes {
        for order in 1..=3 {
            let invoices = node.invoices.load(&order).await.expect("loaded").state;
            assert_eq!(invoices, Invoices { count: 1, pieces: order }, "node {}, order {order}", node.name);
        }
        let admin = manager(node, DeliveryScope::Origin).admin();
        assert!(admin.parked("billing", None, 10).await.expect("read").is_empty(), "node {}", node.name);
    }
    use ProcessPhase::{Missing, Running};
    assert_eq!(phases(&nodes, 1).await, [Running, Missing, Missing]);
    assert_eq!(phases(&nodes, 3).await, [Missing, Missing, Running]);
}

/// The instance runs where it was started, and receives the events of all nodes.
#[tokio::test]
async fn a_process_receives_events_of_other_nodes_for_its_instances() {
    let nodes = nodes().await;
    nodes[0].place(1, 1).await;
    exchange(&nodes).await;
    nodes[1].rename(1, "Ada").await;
    nodes[2].close(1).await;
    exchange(&nodes).await;
    for node in &nodes {
        let running = manager(node, DeliveryScope::Origin).start().await.expect("started");
        settled(node, &running).await;
    }
    assert_eq!(phases(&nodes, 1).await, [ProcessPhase::Ended, ProcessPhase::Missing, ProcessPhase::Missing]);
    let state = manager(&nodes[0], DeliveryScope::Origin).query(&1).await.expect("read").state;
    assert_eq!(state.names, ["Ada"]);
    let skipped = async |node| manager(node, DeliveryScope::Origin).admin().skipped("billing", None, 10).await;
    // Its own event concerns an instance of another node, so that the policy of the process decides.
    assert_eq!(skipped(&nodes[1]).await.expect("read").len(), 1);
}

#[tokio::test]
async fn every_node_has_its_own_instance_with_the_scope_every_node() {
    let nodes = nodes().await;
    nodes[0].place(1, 1).await;
    exchange(&nodes).await;
    for node in &nodes[1..] {
        let running = manager(node, DeliveryScope::EveryNode).start().await.expect("started");
        settled(node, &running).await;
    }
    assert_eq!(phases(&nodes, 1).await, [ProcessPhase::Missing, ProcessPhase::Running, ProcessPhase::Running]);
}

/// A node whose program was too old for an event of another node parked it, and started an instance of its own when an
/// operator retried the event.
#[tokio::test]
async fn a_retried_event_of_another_node_starts_no_instance() {
    let nodes = nodes().await;
    nodes[0].place(1, 1).await;
    exchange(&nodes).await;
    let is_old = Arc::new(AtomicBool::new(true));
    let process = BillingProcess { is_old: Arc::clone(&is_old) };
    let manager = manager_of(process, &nodes[1], DeliveryScope::Origin);
    let admin = manager.admin();
    let running = manager.start().await.expect("started");
    settled(&nodes[1], &running).await;
    let parked = admin.parked("billing", None, 10).await.expect("read");
    assert_eq!(parked.len(), 1);

    is_old.store(false, Ordering::Relaxed);
    let note = OperatorNote::new("ada", "the program is new");
    admin.retry_parked("billing", &parked[0].event, note).await.expect("it is parked");
    while !admin.parked("billing", None, 10).await.expect("read").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(phases(&nodes, 1).await[1], ProcessPhase::Missing);
    assert!(running.shutdown(PATIENCE).await);
}
