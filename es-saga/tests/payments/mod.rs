//! A process manager of a shop: it asks for a payment when an order is placed, reminds the customer, cancels the order
//! after a deadline, and marks it as paid.

use std::sync::Arc;
use std::time::Duration;

use es_core::consumer::group::StartAt;
use es_core::model::{Clock, SystemEntropy};
use es_core::prelude::*;
use es_core::testing::ManualClock;
use es_core::{CommandContext, RecordedEvent};
use es_saga::process::{
    Correlation, Mismatch, MismatchPolicy, Process, ProcessContext, ProcessKey, ProcessManager, Reaction,
    ReactionError, RunningProcess, Target,
};
use es_saga::{Classify, DeclaredStep, ErrorClass, Saga, SagaStep, StepContext, StepKey};
use serde::{Deserialize, Serialize};

/// The longest wait of a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub(crate) enum OrderEvent {
    #[event(name = "order-placed")]
    Placed { payment: u64 },
    #[event(name = "order-noted")]
    Noted,
    #[event(name = "order-paid")]
    Paid { cents: u64 },
    #[event(name = "order-reminded")]
    Reminded,
    #[event(name = "order-closed")]
    Closed,
}

#[derive(Clone, Debug, Default, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderEvent)]
pub(crate) struct Order {
    pub(crate) events: Vec<OrderEvent>,
}

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self::default()
    }

    fn evolve(&mut self, event: &OrderEvent, _: &EventContext<'_>) {
        self.events.push(event.clone());
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record(pub(crate) OrderEvent);

#[derive(Debug, thiserror::Error)]
#[error("the order is closed")]
pub(crate) struct IsClosed;

impl Decide<Record> for Order {
    type Rejection = IsClosed;

    fn decide(&self, Record(event): Record, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, IsClosed> {
        if self.events.contains(&OrderEvent::Closed) { Err(IsClosed) } else { Ok(event.into()) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub(crate) enum PaymentEvent {
    #[event(name = "payment-received")]
    Received { cents: u64 },
}

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "payment", id = u64, event = PaymentEvent)]
pub(crate) struct Payment;

impl Evolve for Payment {
    fn initial(_: &u64) -> Self {
        Self
    }

    fn evolve(&mut self, _: &PaymentEvent, _: &EventContext<'_>) {}
}

#[derive(Clone, Debug)]
pub(crate) struct Receive {
    pub(crate) cents: u64,
}

impl Decide<Receive> for Payment {
    type Rejection = std::convert::Infallible;

    fn decide(
        &self,
        command: Receive,
        _: &CommandContext<'_, Self>,
    ) -> Result<Decision<Self>, std::convert::Infallible> {
        Ok(PaymentEvent::Received { cents: command.cents }.into())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub(crate) enum CollectionEvent {
    #[event(name = "collection-opened")]
    Opened { payment: u64 },
    #[event(name = "collection-reminded")]
    Reminded,
    #[event(name = "collection-received")]
    Received { cents: u64 },
    #[event(name = "collection-checked")]
    Checked { result: String },
}

/// The state of the process: the collection of the payment of an order.
#[derive(Clone, Debug, PartialEq, Default, Aggregate)]
#[aggregate(category = "collection", id = u64, event = CollectionEvent)]
pub(crate) struct CollectionState {
    pub(crate) reminders: u32,
    pub(crate) cents: u64,
    pub(crate) checks: Vec<String>,
}

impl Evolve for CollectionState {
    fn initial(_: &u64) -> Self {
        Self::default()
    }

    fn evolve(&mut self, event: &CollectionEvent, _: &EventContext<'_>) {
        match event {
            CollectionEvent::Opened { .. } => {}
            CollectionEvent::Reminded => self.reminders += 1,
            CollectionEvent::Received { cents } => self.cents += cents,
            CollectionEvent::Checked { result } => self.checks.push(result.clone()),
        }
    }
}

/// What a person of the shop sends to a collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CollectionSignal {
    /// Gives the customer more days.
    Extend { days: u32 },
}

/// Ships the goods of an order: a saga.
pub(crate) struct Ship;

#[derive(Debug, thiserror::Error)]
#[error("lost")]
pub(crate) struct Lost;

impl Classify for Lost {
    fn class(&self) -> ErrorClass {
        ErrorClass::Terminal
    }
}

impl DeclaredStep for Ship {
    const NAME: &'static str = "ship";
}

impl SagaStep for Ship {
    type Input = u64;
    type Output = u64;
    type Compensation = ();
    type Error = Lost;

    fn compensation(&self, _: &u64, _: StepKey) {}

    async fn execute(&self, order: u64, _: &StepContext) -> Result<u64, Lost> {
        Ok(order)
    }

    async fn compensate(&self, (): (), _: Option<u64>, _: &StepContext) -> Result<(), Lost> {
        Ok(())
    }
}

pub(crate) fn shipping() -> Saga<u64, u64> {
    Saga::define("shipping", 1, |saga, order| saga.step::<Ship>(order)).expect("it is valid")
}

/// The process manager. A payment of 13 cents is a bug of its code, one of 666 cents a panic.
pub(crate) struct Collection {
    pub(crate) shipping: Saga<u64, u64>,
    /// Whether the bug of 13 cents is fixed.
    pub(crate) is_fixed: bool,
}

impl Collection {
    pub(crate) fn new() -> Self {
        Self { shipping: shipping(), is_fixed: false }
    }
}

fn order_of(context: &ProcessContext<'_>) -> Result<u64, ReactionError> {
    Ok(context.id().instance().parse()?)
}

impl Process for Collection {
    type State = CollectionState;
    type Source = (Order, Payment);
    type Signal = CollectionSignal;

    fn correlate(&self, event: &OneOf2<OrderEvent, PaymentEvent>, record: &RecordedEvent) -> Correlation<u64> {
        match event {
            OneOf2::First(OrderEvent::Placed { .. }) => {
                Order::id_of(&record.stream).map_or(Correlation::Ignore, Correlation::Start)
            }
            OneOf2::First(OrderEvent::Closed) => {
                Order::id_of(&record.stream).map_or(Correlation::Ignore, |id| Correlation::Stop(Target::Id(id)))
            }
            OneOf2::First(_) => Correlation::Ignore,
            OneOf2::Second(PaymentEvent::Received { .. }) => {
                let payment = record.stream.id_str().unwrap_or_default();
                Correlation::Continue(Target::Key(ProcessKey::new("payment", payment)))
            }
        }
    }

    fn on_event(
        &self,
        _: &CollectionState,
        event: &OneOf2<OrderEvent, PaymentEvent>,
        context: &ProcessContext<'_>,
    ) -> Result<Reaction<CollectionState>, ReactionError> {
        let order = order_of(context)?;
        Ok(match event {
            OneOf2::First(OrderEvent::Placed { payment }) => Reaction::none()
                .event(CollectionEvent::Opened { payment: *payment })
                .associate(ProcessKey::new("payment", payment))
                .timer("reminder", context.now() + DAY)
                .timer("deadline", context.now() + 3 * DAY)
                .wait("check"),
            OneOf2::First(_) => Reaction::none(),
            OneOf2::Second(PaymentEvent::Received { cents: 13 }) if !self.is_fixed => {
                return Err("13 cents are unlucky".into());
            }
            OneOf2::Second(PaymentEvent::Received { cents: 666 }) => panic!("a bug"),
            OneOf2::Second(PaymentEvent::Received { cents }) => Reaction::none()
                .event(CollectionEvent::Received { cents: *cents })
                .cancel_timer("reminder")
                .cancel_timer("deadline")
                .execute::<Order, _>(order, Record(OrderEvent::Paid { cents: *cents }))
                .start_saga(&self.shipping, order, &order)?,
        })
    }

    fn on_signal(
        &self,
        _: &CollectionState,
        signal: CollectionSignal,
        context: &ProcessContext<'_>,
    ) -> Result<Reaction<CollectionState>, ReactionError> {
        match signal {
            CollectionSignal::Extend { days: 0 } => Err("expected at least one day".into()),
            CollectionSignal::Extend { days } => {
                Ok(Reaction::none().timer("deadline", context.now() + days * DAY).cancel_timer("reminder"))
            }
        }
    }

    fn on_timer(
        &self,
        state: &CollectionState,
        timer: &str,
        context: &ProcessContext<'_>,
    ) -> Result<Reaction<CollectionState>, ReactionError> {
        let order = order_of(context)?;
        if timer == "reminder" {
            let reaction = Reaction::none()
                .event(CollectionEvent::Reminded)
                .execute::<Order, _>(order, Record(OrderEvent::Reminded));
            let again = state.reminders == 0;
            return Ok(if again { reaction.timer("reminder", context.now() + DAY) } else { reaction });
        }
        Ok(Reaction::none().execute::<Order, _>(order, Record(OrderEvent::Closed)).end())
    }

    fn on_completion(
        &self,
        _: &CollectionState,
        _: &str,
        value: &serde_json::Value,
        _: &ProcessContext<'_>,
    ) -> Result<Reaction<CollectionState>, ReactionError> {
        let result = value.as_str().ok_or("expected a text")?.to_owned();
        Ok(Reaction::none().event(CollectionEvent::Checked { result }))
    }

    fn on_mismatch(&self, event: &OneOf2<OrderEvent, PaymentEvent>, mismatch: Mismatch) -> MismatchPolicy {
        // The deadline of the process closes the order itself.
        match (event, mismatch) {
            (OneOf2::First(OrderEvent::Closed), Mismatch::AlreadyEnded) => MismatchPolicy::Skip,
            _ => MismatchPolicy::Park,
        }
    }
}

/// A store with the process and a clock that tests set.
pub(crate) struct Collecting {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) orders: Repository<Order>,
    pub(crate) payments: Repository<Payment>,
}

impl Collecting {
    pub(crate) fn over(store: Arc<dyn EventStore>) -> Self {
        let clock = Arc::new(ManualClock::at("2026-01-31T12:00:00Z".parse().expect("a time")));
        let orders = Repository::new(Arc::clone(&store));
        let payments = Repository::new(Arc::clone(&store));
        Self { store, clock, orders, payments }
    }

    pub(crate) fn manager_of(&self, process: Collection) -> ProcessManager<Collection> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let manager = ProcessManager::with_clock(process, Arc::clone(&self.store), clock, Arc::new(SystemEntropy));
        manager.poll(Duration::from_millis(5)).start_at(StartAt::Beginning)
    }

    pub(crate) fn manager(&self) -> ProcessManager<Collection> {
        self.manager_of(Collection::new())
    }

    pub(crate) async fn place(&self, order: u64, payment: u64) {
        self.orders.execute(&order, Record(OrderEvent::Placed { payment })).await.expect("it is placed");
    }

    pub(crate) async fn pay(&self, payment: u64, cents: u64) {
        self.payments.execute(&payment, Receive { cents }).await.expect("it is received");
    }

    pub(crate) async fn order(&self, order: u64) -> Vec<OrderEvent> {
        self.orders.load(&order).await.expect("it loads").state.events
    }

    /// Waits until all events up to the present head are handled.
    pub(crate) async fn settled(&self, running: &RunningProcess) {
        let head = self.store.head().await.expect("it reads");
        running.wait_for(head, PATIENCE).await.expect("it is reached");
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(condition: impl AsyncFn() -> bool) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the condition holds in time");
}
