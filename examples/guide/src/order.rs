//! The domain of the book: orders that are placed and shipped, as in `examples/quickstart`.

use es_core::prelude::*;
use serde::{Deserialize, Serialize};

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub enum OrderEvent {
    /// A customer placed the order.
    #[event(name = "order-placed")]
    Placed {
        /// The customer.
        #[event(tag)]
        customer: String,
        /// The price.
        cents: u64,
    },
    /// The parcel left.
    #[event(name = "order-shipped")]
    Shipped,
}

/// The status of an order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Status {
    /// Without events.
    New,
    /// Placed and not shipped.
    Placed,
    /// Shipped.
    Shipped,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderEvent)]
pub struct Order {
    /// Its status.
    pub status: Status,
    /// Its price.
    pub cents: u64,
}

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self { status: Status::New, cents: 0 }
    }

    fn evolve(&mut self, event: &OrderEvent, _: &EventContext<'_>) {
        match event {
            OrderEvent::Placed { cents, .. } => (self.status, self.cents) = (Status::Placed, *cents),
            OrderEvent::Shipped => self.status = Status::Shipped,
        }
    }
}

/// Why a command is rejected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OrderError {
    /// The order was placed before.
    #[error("the order was placed before")]
    Exists,
    /// There is no such order.
    #[error("there is no such order")]
    NotFound,
}

/// Places an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The customer.
    pub customer: String,
    /// The price.
    pub cents: u64,
}

impl Decide<Place> for Order {
    type Rejection = OrderError;

    fn decide(&self, command: Place, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderError> {
        match self.status {
            Status::New => Ok(OrderEvent::Placed { customer: command.customer, cents: command.cents }.into()),
            Status::Placed | Status::Shipped => Err(OrderError::Exists),
        }
    }
}

/// Ships an order.
#[derive(Clone, Debug, Serialize)]
pub struct Ship;

impl Decide<Ship> for Order {
    type Rejection = OrderError;

    fn decide(&self, Ship: Ship, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderError> {
        match self.status {
            Status::New => Err(OrderError::NotFound),
            Status::Placed => Ok(OrderEvent::Shipped.into()),
            Status::Shipped => Ok(Decision::unchanged()),
        }
    }
}
