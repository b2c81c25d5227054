//! The order aggregate: its events, state, commands and rules.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use chrono::Datelike;
use es_core::{CommandContext, Decide, Decision, EventContext, Evolve, Timestamp};
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::line::{Destination, OrderLine, OrderLines};
use super::status::OrderStatus;
use super::text::{CustomerId, OrderId, Reason};

/// An event of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, es_core::Event)]
pub enum OrderEvent {
    /// A customer placed the order.
    #[event(name = "order-placed")]
    Placed {
        /// The customer.
        #[event(tag = "customer")]
        customer: CustomerId,
        /// The destination.
        destination: Destination,
        /// The order lines.
        lines: OrderLines,
    },
    /// The shop approved the order.
    #[event(name = "order-approved")]
    Approved,
    /// The shop shipped the order.
    #[event(name = "order-shipped")]
    Shipped,
    /// The order was delivered to the customer.
    #[event(name = "order-delivered")]
    Delivered,
    /// The order was cancelled.
    #[event(name = "order-cancelled")]
    Cancelled {
        /// The reason for the cancellation.
        reason: Reason,
    },
    /// The customer was reminded of the payment.
    #[event(name = "order-payment-reminded")]
    PaymentReminded,
}

/// The order aggregate.
#[derive(Debug, Clone, PartialEq, es_core::Aggregate)]
#[aggregate(category = "order", id = OrderId, event = OrderEvent)]
pub enum Order {
    /// The order has no events.
    NotPlaced,
    /// The order was placed; its status may have changed since.
    Placed(PlacedOrder),
}

/// The state of an order that was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedOrder {
    /// The customer.
    pub customer: CustomerId,
    /// The destination.
    pub destination: Destination,
    /// The order lines.
    pub lines: OrderLines,
    /// The current status.
    pub status: OrderStatus,
    /// The statuses of the order so far, each with the time at which the order reached it.
    pub reached: BTreeMap<OrderStatus, Timestamp>,
    /// The reason for the cancellation.
    pub cancelled_because: Option<Reason>,
    /// When the customer was last reminded of the payment.
    pub reminded_at: Option<Timestamp>,
}

/// The years of a new order and of its steps.
const YEARS: RangeInclusive<i32> = 1900..=2199;

/// Checks the time of a command. A year outside of 1900 to 2199 is more likely a typing error, and harmful: an order
/// that is placed in the year 9016 cannot be shipped, because no step is earlier than the one before.
///
/// # Errors
/// [`Invalid`] with the date.
pub fn check_date(time: Timestamp) -> Result<(), Invalid> {
    if YEARS.contains(&time.year()) {
        return Ok(());
    }
    Err(Invalid::new("a date from 1900-01-01 to 2199-12-31", &time.date_naive().to_string()))
}

impl PlacedOrder {
    /// Returns the latest time in [`reached`](Self::reached).
    #[must_use]
    pub fn changed_at(&self) -> Option<Timestamp> {
        self.reached.values().max().copied()
    }

    /// Returns the name of the first part that differs from the command.
    fn difference(&self, command: &Place) -> Option<&'static str> {
        let Place { customer, destination, lines } = command;
        [
            (self.customer != *customer, "customer"),
            (self.destination != *destination, "destination"),
            (self.lines != *lines, "lines"),
        ]
        .into_iter()
        .find_map(|(differs, name)| differs.then_some(name))
    }
}

/// Places an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The customer.
    pub customer: CustomerId,
    /// The destination.
    pub destination: Destination,
    /// The order lines.
    pub lines: OrderLines,
}

/// Approves an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Approve;

/// Ships an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ship;

/// Approves and ships an order, as far as it is not, at the end of its fulfilment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CompleteFulfilment;

/// Marks an order as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Deliver;

/// Cancels an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cancel {
    /// The reason for the cancellation.
    pub reason: Reason,
}

/// Records that the customer was reminded of the payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Remind;

/// The reason why an order rejects a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderRejection {
    /// A number of a new order is too large, or a date is outside of 1900 to 2199.
    #[error(transparent)]
    Value(#[from] Invalid),
    /// The order does not exist. Place it first.
    #[error("order {id} does not exist; place it first")]
    NotPlaced {
        /// The order.
        id: OrderId,
    },
    /// The id belongs to an order with different content. Use another id for a new order.
    #[error("order {id} already exists with a different {difference}; use another id for a new order")]
    PlacedWithOtherContent {
        /// The order.
        id: OrderId,
        /// The first part that differs: `customer`, `destination` or `lines`.
        difference: &'static str,
    },
    /// The current status does not allow the step.
    #[error("order {id} cannot become {wanted}: expected status {}, found {found}", .wanted.reached_from())]
    Status {
        /// The order.
        id: OrderId,
        /// The requested status.
        wanted: OrderStatus,
        /// The current status.
        found: OrderStatus,
    },
    /// The date of the step is before the date of an earlier step. Correct the date.
    #[error("order {id} cannot become {wanted} on {}: it became {found} later, on {}",
        .on.date_naive(), .since.date_naive())]
    TooEarly {
        /// The order.
        id: OrderId,
        /// The requested status.
        wanted: OrderStatus,
        /// The time of the step.
        on: Timestamp,
        /// The current status.
        found: OrderStatus,
        /// The latest time of an earlier step.
        since: Timestamp,
    },
}

impl Evolve for Order {
    fn initial(_: &OrderId) -> Self {
        Self::NotPlaced
    }

    fn evolve(&mut self, event: &OrderEvent, at: &EventContext<'_>) {
        match event {
            OrderEvent::Placed { customer, destination, lines } => {
                *self = Self::Placed(PlacedOrder {
                    customer: customer.clone(),
                    destination: destination.clone(),
                    lines: lines.clone(),
                    status: OrderStatus::Placed,
                    reached: BTreeMap::from([(OrderStatus::Placed, at.occurred_at())]),
                    cancelled_because: None,
                    reminded_at: None,
                });
            }
            OrderEvent::Approved => self.reach(OrderStatus::Approved, at),
            OrderEvent::Shipped => self.reach(OrderStatus::Shipped, at),
            OrderEvent::Delivered => self.reach(OrderStatus::Delivered, at),
            OrderEvent::Cancelled { reason } => {
                self.reach(OrderStatus::Cancelled, at);
                if let Self::Placed(order) = self {
                    order.cancelled_because = Some(reason.clone());
                }
            }
            OrderEvent::PaymentReminded => {
                if let Self::Placed(order) = self {
                    order.reminded_at = Some(at.occurred_at());
                }
            }
        }
    }
}

impl Order {
    /// Returns the state of the order if it was placed.
    #[must_use]
    pub const fn placed(&self) -> Option<&PlacedOrder> {
        match self {
            Self::NotPlaced => None,
            Self::Placed(order) => Some(order),
        }
    }

    fn reach(&mut self, status: OrderStatus, at: &EventContext<'_>) {
        // A state as of a business time may lack `Placed`, if its event has a later business time than the others.
        if let Self::Placed(order) = self {
            order.status = status;
            order.reached.insert(status, at.occurred_at());
        }
    }

    /// Decides a step to another status.
    fn step(
        &self,
        wanted: OrderStatus,
        event: OrderEvent,
        at: &CommandContext<'_, Self>,
    ) -> Result<Decision<Self>, OrderRejection> {
        let id = at.id().clone();
        let Some(order) = self.placed() else { return Err(OrderRejection::NotPlaced { id }) };
        let found = order.status;
        if found == wanted {
            return Ok(Decision::unchanged());
        }
        if !found.leads_to(wanted) {
            return Err(OrderRejection::Status { id, wanted, found });
        }
        check_date(at.time())?;
        // Compare dates, not times: a date without a time of day is midnight, and the clocks of clients differ.
        match order.changed_at() {
            Some(since) if at.time().date_naive() < since.date_naive() => {
                Err(OrderRejection::TooEarly { id, wanted, on: at.time(), found, since })
            }
            _ => Ok(event.into()),
        }
    }
}

impl Decide<Place> for Order {
    type Rejection = OrderRejection;

    fn decide(&self, command: Place, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderRejection> {
        match self.placed().map(|order| order.difference(&command)) {
            None => {
                let Place { customer, destination, lines } = command;
                lines.as_slice().iter().try_for_each(OrderLine::check_limits)?;
                check_date(at.time())?;
                Ok(OrderEvent::Placed { customer, destination, lines }.into())
            }
            Some(None) => Ok(Decision::unchanged()),
            Some(Some(difference)) => Err(OrderRejection::PlacedWithOtherContent { id: at.id().clone(), difference }),
        }
    }
}

impl Decide<Approve> for Order {
    type Rejection = OrderRejection;

    fn decide(&self, _: Approve, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderRejection> {
        self.step(OrderStatus::Approved, OrderEvent::Approved, at)
    }
}

impl Decide<Ship> for Order {
    type Rejection = OrderRejection;

    fn decide(&self, _: Ship, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderRejection> {
        self.step(OrderStatus::Shipped, OrderEvent::Shipped, at)
    }
}

impl Decide<CompleteFulfilment> for Order {
    type Rejection = OrderRejection;

    fn decide(&self, _: CompleteFulfilment, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderRejection> {
        match self.placed().map(|order| order.status) {
            Some(OrderStatus::Placed) => {
                let approved = self.step(OrderStatus::Approved, OrderEvent::Approved, at)?;
                Ok(approved.into_events().into_iter().chain([OrderEvent::Shipped]).collect())
            }
            Some(OrderStatus::Delivered) => Ok(Decision::unchanged()),
            _ => self.step(OrderStatus::Shipped, OrderEvent::Shipped, at),
        }
    }
}

impl Decide<Deliver> for Order {
    type Rejection = OrderRejection;

    fn decide(&self, _: Deliver, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderRejection> {
        self.step(OrderStatus::Delivered, OrderEvent::Delivered, at)
    }
}

impl Decide<Remind> for Order {
    type Rejection = OrderRejection;

    fn decide(&self, _: Remind, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderRejection> {
        match self {
            Self::NotPlaced => Err(OrderRejection::NotPlaced { id: at.id().clone() }),
            // The reminder was sent, whatever became of the order meanwhile.
            Self::Placed(_) => Ok(OrderEvent::PaymentReminded.into()),
        }
    }
}

impl Decide<Cancel> for Order {
    type Rejection = OrderRejection;

    fn decide(&self, command: Cancel, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderRejection> {
        self.step(OrderStatus::Cancelled, OrderEvent::Cancelled { reason: command.reason }, at)
    }
}
