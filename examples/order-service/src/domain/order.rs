//! Orders: what a customer wants, and what becomes of it.

use std::collections::BTreeMap;

use es_core::{CommandContext, Decide, Decision, EventContext, Evolve, Timestamp};
use serde::{Deserialize, Serialize};

use super::line::{Destination, OrderLines};
use super::status::OrderStatus;
use super::text::{CustomerId, OrderId, Reason};

/// What happens to an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, es_core::Event)]
pub enum OrderEvent {
    /// A customer wants it.
    #[event(name = "order-placed")]
    Placed {
        /// Who wants it.
        #[event(tag = "customer")]
        customer: CustomerId,
        /// Where it goes to.
        destination: Destination,
        /// What is wanted.
        lines: OrderLines,
    },
    /// The house agrees.
    #[event(name = "order-approved")]
    Approved,
    /// It has left the house.
    #[event(name = "order-shipped")]
    Shipped,
    /// It has reached the customer.
    #[event(name = "order-delivered")]
    Delivered,
    /// Nothing more will come of it.
    #[event(name = "order-cancelled")]
    Cancelled {
        /// Why.
        reason: Reason,
    },
}

/// An order.
#[derive(Debug, Clone, PartialEq, es_core::Aggregate)]
#[aggregate(category = "order", id = OrderId, event = OrderEvent)]
pub enum Order {
    /// Nobody has placed it yet.
    NotPlaced,
    /// It was placed, whatever has become of it since.
    Placed(PlacedOrder),
}

/// An order that was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedOrder {
    /// Who wants it.
    pub customer: CustomerId,
    /// Where it goes to.
    pub destination: Destination,
    /// What is wanted.
    pub lines: OrderLines,
    /// How far it has come.
    pub status: OrderStatus,
    /// When it came by each status.
    pub reached: BTreeMap<OrderStatus, Timestamp>,
    /// Why it was cancelled.
    pub cancelled_because: Option<Reason>,
}

impl PlacedOrder {
    /// When something last happened to it.
    #[must_use]
    pub fn changed_at(&self) -> Option<Timestamp> {
        self.reached.values().max().copied()
    }

    fn differs_from(&self, command: &Place) -> Option<&'static str> {
        let Place { customer, destination, lines } = command;
        [
            (self.customer != *customer, "customer"),
            (self.destination != *destination, "destination"),
            (self.lines != *lines, "lines"),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what))
    }
}

/// Places an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Who wants it.
    pub customer: CustomerId,
    /// Where it goes to.
    pub destination: Destination,
    /// What is wanted.
    pub lines: OrderLines,
}

/// Agrees to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approve;

/// Sends an order off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ship;

/// Hands an order to the customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deliver;

/// Calls an order off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// Why.
    pub reason: Reason,
}

/// Why an order does not take a command. Nothing happens to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderRejection {
    /// There is no such order. Place it first.
    #[error("order {id} does not exist; place it first")]
    NotPlaced {
        /// The order.
        id: OrderId,
    },
    /// There is such an order, but it is another one. Give the new one an id of its own.
    #[error("order {id} was placed before with other content: expected the same {differs}; give a new order a new id")]
    PlacedOtherwise {
        /// The order.
        id: OrderId,
        /// The first thing that is not the same.
        differs: &'static str,
    },
    /// It has come too far, or not far enough.
    #[error("order {id} cannot become {wanted}: expected it to be {}, found it {found}", .wanted.reached_from())]
    Status {
        /// The order.
        id: OrderId,
        /// What it was to become.
        wanted: OrderStatus,
        /// What it is.
        found: OrderStatus,
    },
    /// It would have happened on a day before something that came first. Correct the date.
    #[error("order {id} cannot become {wanted} on {}: expected a day not before {}, when it became {found}",
        .on.date_naive(), .since.date_naive())]
    TooEarly {
        /// The order.
        id: OrderId,
        /// What it was to become.
        wanted: OrderStatus,
        /// When.
        on: Timestamp,
        /// What it is.
        found: OrderStatus,
        /// When something last happened to it.
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
        }
    }
}

impl Order {
    /// The order, where it was placed.
    #[must_use]
    pub const fn placed(&self) -> Option<&PlacedOrder> {
        match self {
            Self::NotPlaced => None,
            Self::Placed(order) => Some(order),
        }
    }

    fn reach(&mut self, status: OrderStatus, at: &EventContext<'_>) {
        // NOTE: a state at some time in the business may lack the placing, when that was dated later than what followed.
        if let Self::Placed(order) = self {
            order.status = status;
            order.reached.insert(status, at.occurred_at());
        }
    }

    /// Decides on a step to another status.
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
        // NOTE: days, not moments: a date without a time is midnight, and clocks differ.
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
        match self.placed().map(|order| order.differs_from(&command)) {
            None => {
                let Place { customer, destination, lines } = command;
                Ok(OrderEvent::Placed { customer, destination, lines }.into())
            }
            Some(None) => Ok(Decision::unchanged()),
            Some(Some(differs)) => Err(OrderRejection::PlacedOtherwise { id: at.id().clone(), differs }),
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

impl Decide<Deliver> for Order {
    type Rejection = OrderRejection;

    fn decide(&self, _: Deliver, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderRejection> {
        self.step(OrderStatus::Delivered, OrderEvent::Delivered, at)
    }
}

impl Decide<Cancel> for Order {
    type Rejection = OrderRejection;

    fn decide(&self, command: Cancel, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderRejection> {
        self.step(OrderStatus::Cancelled, OrderEvent::Cancelled { reason: command.reason }, at)
    }
}
