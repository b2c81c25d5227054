//! [`PaymentReminders`]: reminds a customer who has not paid, as a process manager and a saga.
//!
//! ```text
//!   take-payment of an order has sent an invoice      start: set the timer
//!   the timer is due                                  start the saga payment-reminder
//!   the invoice is paid or closed, the order          stop
//!   is cancelled, or its saga has ended
//!
//!   saga:  send-reminder --> record-reminder
//!            external            local
//! ```
//!
//! The process follows the events of the sagas and of the orders. A timer is durable and fires once, so a customer is
//! reminded at most once for an order, also if the program was killed in between.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use es_core::aggregate::EventContext;
use es_core::prelude::OneOf2;
use es_core::{Aggregate, Commit, Evolve, RecordedEvent};
use es_saga::instance::SagaEvent;
use es_saga::process::{
    Correlation, Mismatch, MismatchPolicy, Process, ProcessContext, Reaction, ReactionError, Target,
};
use es_saga::{DeclaredStep, DefineError, LocalStep, Saga, SagaId, SagaInstance, SagaStep, StepContext, StepKey, saga};
use serde::{Deserialize, Serialize};

use super::client::ProviderClient;
use super::error::FulfilError;
use super::steps::{AwaitPayment, Payment, TakePayment};
use super::{FULFILMENT, Fulfilment};
use crate::domain::order::Remind;
use crate::domain::{Order, OrderEvent, OrderId};
use crate::provider::PaymentStatus;
use crate::shop::Shop;

/// The name of the timer.
const DUE: &str = "due";

/// The name of the saga that reminds a customer.
pub const PAYMENT_REMINDER: &str = ReminderGraph::NAME;

/// The saga that reminds a customer.
pub type ReminderSaga = Saga<Reminder, ()>;

/// The input of the saga: the invoice of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reminder {
    /// The order.
    pub order: OrderId,
    /// The saga of the order.
    pub saga: SagaId,
    /// The key of the payment.
    pub payment: StepKey,
}

saga! {
    /// The graph of the saga.
    saga ReminderGraph(reminder: Reminder) -> (), name = "payment-reminder", version = 1 {
        let sent = SendReminder(reminder);
        local RecordReminder(reminder) after sent
    }
}

/// Defines the saga that reminds a customer.
///
/// # Errors
/// [`DefineError`] if the graph is not valid, which a test excludes.
pub fn payment_reminder() -> Result<ReminderSaga, DefineError> {
    ReminderGraph::define()
}

/// Reminds the customer, unless the invoice was paid or closed meanwhile.
#[derive(Debug, SagaStep)]
#[saga_step(name = "send-reminder", retry(attempts = 6, first = "50ms", cap = "2s"), timeout = "5s", undo = "ignore")]
pub struct SendReminder {
    /// The provider.
    pub provider: ProviderClient,
}

impl SagaStep for SendReminder {
    type Input = Reminder;
    type Output = ();
    type Compensation = ();
    type Error = FulfilError;

    fn compensation(&self, _: &Reminder, _: StepKey) {}

    async fn execute(&self, reminder: Reminder, context: &StepContext) -> Result<(), FulfilError> {
        let Reminder { saga, payment, .. } = reminder;
        match self.provider.payment_status(payment).await? {
            PaymentStatus::Open => self.provider.remind(context.key(), &saga, payment).await.map(drop)?,
            PaymentStatus::Paid | PaymentStatus::Refunded | PaymentStatus::None => return Err(FulfilError::NotOwed),
        }
        Ok(())
    }

    async fn compensate(&self, (): (), _: Option<()>, _: &StepContext) -> Result<(), FulfilError> {
        Ok(())
    }
}

/// Records the reminder as an event of the order.
#[derive(Debug, SagaStep)]
#[saga_step(name = "record-reminder", retry(attempts = 20, first = "10ms", cap = "1s"), undo = "ignore")]
pub struct RecordReminder {
    /// The shop.
    pub shop: Arc<Shop>,
}

impl LocalStep for RecordReminder {
    type Input = Reminder;
    type Output = ();
    type Error = FulfilError;

    async fn execute(&self, reminder: Reminder, _: &StepContext) -> Result<((), Commit), FulfilError> {
        Ok(((), Commit::new().with(&self.shop.orders.plan(&reminder.order, Remind).await?)))
    }

    async fn undo(&self, _: Reminder, (): (), _: &StepContext) -> Result<Commit, FulfilError> {
        Ok(Commit::new())
    }
}

/// An event of a planned reminder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, es_core::Event)]
pub enum PaymentReminderEvent {
    /// A customer got an invoice.
    #[event(name = "payment-reminder-planned")]
    Planned {
        /// The key of the payment.
        payment: StepKey,
    },
}

/// The planned reminder of an order: the state of the process.
#[derive(Debug, Clone, PartialEq, Eq, es_core::Aggregate)]
#[aggregate(category = "payment_reminder", id = OrderId, event = PaymentReminderEvent)]
pub struct PaymentReminder {
    /// The key of the payment; `None` before the customer got an invoice.
    pub payment: Option<StepKey>,
}

impl Evolve for PaymentReminder {
    fn initial(_: &OrderId) -> Self {
        Self { payment: None }
    }

    fn evolve(&mut self, event: &PaymentReminderEvent, _: &EventContext<'_>) {
        let PaymentReminderEvent::Planned { payment } = event;
        self.payment = Some(*payment);
    }
}

/// Reminds a customer who has not paid after half of the time in which orders must be paid.
///
/// Events of sagas name steps by their index. A program runs only sagas with its own graph, so the indexes are those of
/// this graph.
#[derive(Debug)]
pub struct PaymentReminders {
    saga: ReminderSaga,
    /// The time from the invoice to the reminder.
    pause: Duration,
    take_payment: Option<u32>,
    await_payment: Option<u32>,
}

impl PaymentReminders {
    /// Returns the process for the sagas of orders, whose customers must pay within `deadline`.
    #[must_use]
    pub fn new(fulfilment: &Fulfilment, reminder: &ReminderSaga, deadline: Duration) -> Self {
        let position = |step| fulfilment.shape().position(step);
        let (take_payment, await_payment) = (position(TakePayment::NAME), position(AwaitPayment::NAME));
        Self { saga: reminder.clone(), pause: deadline / 2, take_payment, await_payment }
    }

    /// Returns the payment if the event is that an invoice was sent.
    fn invoice(&self, event: &SagaEvent) -> Option<Payment> {
        match event {
            SagaEvent::StepSucceeded { unit, output } if Some(unit.node) == self.take_payment => {
                serde_json::from_value(output.clone()).ok().filter(|payment: &Payment| !payment.is_paid)
            }
            _ => None,
        }
    }

    /// Returns whether the invoice is paid or closed, or the saga has ended.
    fn is_settled_by(&self, event: &SagaEvent) -> bool {
        match event {
            SagaEvent::StepSucceeded { unit, .. } | SagaEvent::StepSkipped { unit, .. } => {
                Some(unit.node) == self.await_payment
            }
            SagaEvent::UndoStarted { unit, attempt: 1, .. } => Some(unit.node) == self.take_payment,
            SagaEvent::Killed(_) | SagaEvent::Abandoned(_) => true,
            _ => false,
        }
    }
}

impl Process for PaymentReminders {
    type State = PaymentReminder;
    type Source = (SagaInstance, Order);
    type Signal = ();

    fn correlate(&self, event: &OneOf2<SagaEvent, OrderEvent>, record: &RecordedEvent) -> Correlation<OrderId> {
        match event {
            OneOf2::First(event) => {
                let saga = SagaInstance::id_of(&record.stream).filter(|saga| saga.saga() == FULFILMENT);
                match saga.and_then(|saga| saga.instance().parse().ok()) {
                    Some(order) if self.invoice(event).is_some() => Correlation::Start(order),
                    Some(order) if self.is_settled_by(event) => Correlation::Stop(Target::Id(order)),
                    _ => Correlation::Ignore,
                }
            }
            OneOf2::Second(OrderEvent::Cancelled { .. }) => {
                Order::id_of(&record.stream).map_or(Correlation::Ignore, |order| Correlation::Stop(Target::Id(order)))
            }
            OneOf2::Second(_) => Correlation::Ignore,
        }
    }

    fn on_event(
        &self,
        _: &PaymentReminder,
        event: &OneOf2<SagaEvent, OrderEvent>,
        context: &ProcessContext<'_>,
    ) -> Result<Reaction<PaymentReminder>, ReactionError> {
        let OneOf2::First(event) = event else { return Ok(Reaction::none()) };
        let Some(Payment { key: payment, .. }) = self.invoice(event) else { return Ok(Reaction::none()) };
        // A program that was down for a while reminds at the time at which it would have.
        let invoiced_at = context.event().map_or(context.now(), |record| record.recorded_at);
        let due = TimeDelta::from_std(self.pause).ok().and_then(|pause| invoiced_at.checked_add_signed(pause));
        let due = due.ok_or("the deadline of payments is too long for a reminder; start with a shorter one")?;
        Ok(Reaction::none().event(PaymentReminderEvent::Planned { payment }).timer(DUE, due))
    }

    fn on_timer(
        &self,
        state: &PaymentReminder,
        _: &str,
        context: &ProcessContext<'_>,
    ) -> Result<Reaction<PaymentReminder>, ReactionError> {
        let payment = state.payment.ok_or("the order has no invoice")?;
        let order: OrderId = context.id().instance().parse()?;
        let saga = SagaId::new(FULFILMENT, &order)?;
        Ok(Reaction::none().start_saga(&self.saga, &order, &Reminder { order: order.clone(), saga, payment })?)
    }

    /// Skips it: most orders have no invoice, and an order that is invoiced again was reminded before.
    fn on_mismatch(&self, _: &OneOf2<SagaEvent, OrderEvent>, _: Mismatch) -> MismatchPolicy {
        MismatchPolicy::Skip
    }
}

#[cfg(test)]
mod tests {
    use es_saga::instance::Unit;
    use es_saga::process::testing::{GivenProcess, given_process};
    use es_saga::{Direction, OperatorNote};
    use serde_json::json;

    use super::*;
    use crate::domain::Reason;
    use crate::fulfilment::{PAYMENT_DEADLINE, fulfilment};

    const TAKE_PAYMENT: u32 = 1;
    const AWAIT_PAYMENT: u32 = 2;

    fn order() -> OrderId {
        "A-1".parse().expect("an id")
    }

    fn saga() -> SagaId {
        SagaId::new(FULFILMENT, order()).expect("an id")
    }

    fn payment() -> StepKey {
        StepKey::of(&saga(), TakePayment::NAME, 0, 0, Direction::Forward)
    }

    fn succeeded(node: u32, output: serde_json::Value) -> SagaEvent {
        SagaEvent::StepSucceeded { unit: Unit { node, item: 0 }, output }
    }

    fn taken(is_paid: bool) -> SagaEvent {
        succeeded(TAKE_PAYMENT, json!({ "key": payment(), "is_paid": is_paid }))
    }

    fn given() -> GivenProcess<PaymentReminders> {
        let fulfilment = fulfilment(PAYMENT_DEADLINE).expect("it is valid");
        let reminder = payment_reminder().expect("it is valid");
        given_process(PaymentReminders::new(&fulfilment, &reminder, PAYMENT_DEADLINE))
    }

    fn invoiced() -> GivenProcess<PaymentReminders> {
        given().event::<SagaInstance>(&saga(), &taken(false))
    }

    #[test]
    fn a_customer_with_an_invoice_is_reminded_once_after_half_of_the_time() {
        let due = es_core::Timestamp::UNIX_EPOCH + PAYMENT_DEADLINE / 2;
        let planned = [PaymentReminderEvent::Planned { payment: payment() }];
        let given =
            given().when_event::<SagaInstance>(&saga(), &taken(false)).then_timer(DUE, due).then_events(planned);
        let due = given.and().when_timer(&order(), DUE).then_starts_saga("payment-reminder:A-1");
        let due = due.then_no_timer(DUE).then_running().and();
        let paid = due.when_event::<SagaInstance>(&saga(), &succeeded(AWAIT_PAYMENT, json!(null))).then_ended();
        let invoiced_again = paid.and().when_event::<SagaInstance>(&saga(), &taken(false));
        invoiced_again.then_mismatch(Mismatch::AlreadyEnded);
    }

    #[test]
    fn the_reminder_is_not_sent_if_the_invoice_is_settled_or_the_order_is_cancelled() {
        let unit = |node| Unit { node, item: 0 };
        let note = || OperatorNote::new("ada", "a test");
        let undone = |node| SagaEvent::UndoStarted { unit: unit(node), attempt: 1, key: payment() };
        for settled in [
            succeeded(AWAIT_PAYMENT, json!(null)),
            SagaEvent::StepSkipped { unit: unit(AWAIT_PAYMENT), output: None, note: note() },
            undone(TAKE_PAYMENT),
            SagaEvent::Killed(note()),
            SagaEvent::Abandoned(note()),
        ] {
            invoiced().when_event::<SagaInstance>(&saga(), &settled).then_ended().then_no_timer(DUE);
        }
        let reason: Reason = "a mistake".parse().expect("a reason");
        let cancelled = OrderEvent::Cancelled { reason };
        invoiced().when_event::<Order>(&order(), &cancelled).then_ended().then_no_timer(DUE);
        // An order without an invoice.
        given().when_event::<Order>(&order(), &cancelled).then_mismatch(Mismatch::NotStarted);
    }

    #[test]
    fn other_events_and_other_sagas_have_no_reminder() {
        let paid = taken(true);
        let others = [paid.clone(), succeeded(0, json!(null)), SagaEvent::Completed];
        for event in others {
            given().when_event::<SagaInstance>(&saga(), &event).then_ignored();
        }
        given().when_event::<Order>(&order(), &OrderEvent::Approved).then_ignored();
        let reminder = SagaId::new(PAYMENT_REMINDER, order()).expect("an id");
        given().when_event::<SagaInstance>(&reminder, &taken(false)).then_ignored();
    }

    /// The sum of the time of the invoice and a long pause was a panic.
    #[test]
    fn a_deadline_that_is_too_long_for_a_reminder_is_refused() {
        let (fulfilment, reminder) = (fulfilment(PAYMENT_DEADLINE), payment_reminder());
        let (fulfilment, reminder) = (fulfilment.expect("it is valid"), reminder.expect("it is valid"));
        let given = given_process(PaymentReminders::new(&fulfilment, &reminder, Duration::MAX));
        given.when_event::<SagaInstance>(&saga(), &taken(false)).then_refused("deadline of payments is too long");
    }

    #[test]
    fn stored_instances_have_these_nodes_and_this_fingerprint() {
        let saga = fulfilment(PAYMENT_DEADLINE).expect("it is valid");
        let position = |step| saga.shape().position(step);
        assert_eq!(
            (position(TakePayment::NAME), position(AwaitPayment::NAME)),
            (Some(TAKE_PAYMENT), Some(AWAIT_PAYMENT))
        );
        let reminder = payment_reminder().expect("it is valid");
        let steps: Vec<&str> = reminder.shape().nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(steps, ["send-reminder", "record-reminder"]);
        let fingerprint = reminder.fingerprint().to_string();
        assert_eq!((PAYMENT_REMINDER, fingerprint.as_str()), ("payment-reminder", "9332d1e89af457c28901e9ed06e5599d"));
    }
}
