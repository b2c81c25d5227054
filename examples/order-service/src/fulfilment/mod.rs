//! The fulfilment of orders, as a saga of five steps.
//!
//! ```text
//!   reserve-stock --> take-payment --> await-payment --> ship --> complete-order
//!       local           external         external      external       local
//!   undo: release        refund             -           cancel          -
//!                                                      pivot
//! ```
//!
//! | step | effect | undone by |
//! |---|---|---|
//! | `reserve-stock` | reserves the items of all lines, in one commit | releasing the items |
//! | `take-payment` | takes the money at the [provider](crate::provider), or sends an invoice | a refund |
//! | `await-payment` | if an invoice was sent: waits until it is paid | nothing |
//! | `ship` | ships the parcel, unless the order was cancelled; the pivot | a cancellation, if its outcome is unknown |
//! | `complete-order` | ships the reserved items and the order, in one commit | nothing: it is after the pivot |
//!
//! A customer who has not paid at the deadline of the saga gets no parcel: the saga releases the items and closes the
//! invoice. After half of this time, [`PaymentReminders`] has the customer reminded. [`RunningFulfilment`] runs all of
//! it. [`StockAndMoney`] compares the effects with the sagas.

mod client;
mod error;
mod reminder;
mod run;
mod running;
mod steps;
mod totals;

use std::collections::BTreeMap;
use std::time::Duration;

use es_saga::{DefineError, Saga, saga};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Deserialize, Serialize};

pub use client::ProviderClient;
pub use error::FulfilError;
pub use reminder::{
    PAYMENT_REMINDER, PaymentReminder, PaymentReminderEvent, PaymentReminders, RecordReminder, Reminder, ReminderSaga,
    SendReminder, payment_reminder,
};
pub use run::{fulfil, restock};
pub use running::{RunningFulfilment, coordinator};
pub use steps::{AwaitPayment, CompleteOrder, Parcel, Payment, ReserveStock, ShipParcel, TakePayment};
pub use totals::StockAndMoney;

use crate::domain::{Inexact, OrderId, PlacedOrder, ProductId, Quantity};

/// The name of the saga.
pub const FULFILMENT: &str = FulfilmentGraph::NAME;
/// The default time in which a customer must pay.
pub const PAYMENT_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// The input of the saga: what a customer ordered, and the price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderToFulfil {
    /// The order.
    pub order: OrderId,
    /// The items, one entry for each product.
    pub items: Vec<ItemsToReserve>,
    /// The price in cents.
    pub cents: u64,
}

/// The items of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemsToReserve {
    /// The product.
    pub product: ProductId,
    /// Number of items.
    pub quantity: Quantity,
}

impl OrderToFulfil {
    /// Returns the input for an order.
    ///
    /// # Errors
    /// [`Inexact`] if the price, or the quantity of a product, is too large.
    pub fn of(order: &OrderId, placed: &PlacedOrder) -> Result<Self, Inexact> {
        let mut quantities: BTreeMap<&ProductId, Quantity> = BTreeMap::new();
        for line in placed.lines.as_slice() {
            let sum = match quantities.get(&line.product) {
                Some(quantity) => quantity.plus(line.quantity).ok_or(Inexact)?,
                None => line.quantity,
            };
            quantities.insert(&line.product, sum);
        }
        let items = quantities.into_iter();
        let items = items.map(|(product, quantity)| ItemsToReserve { product: product.clone(), quantity }).collect();
        let cents = placed.lines.revenue()?.rounded().checked_mul(Decimal::ONE_HUNDRED);
        let cents = cents.and_then(|cents| cents.to_u64()).ok_or(Inexact)?;
        Ok(Self { order: order.clone(), items, cents })
    }
}

/// The saga of an order.
pub type Fulfilment = Saga<OrderToFulfil, ()>;

saga! {
    /// The graph of the saga.
    saga FulfilmentGraph(order: OrderToFulfil) -> (), name = "fulfilment", version = 1 {
        let reserved = local ReserveStock(order);
        let payment = TakePayment(order) after reserved;
        let paid = if !payment.is_paid { AwaitPayment(payment) };
        let parcel = ShipParcel(order) after paid;
        local CompleteOrder(order, parcel)
    }
}

/// Defines the saga. Customers must pay within `deadline`.
///
/// # Errors
/// [`DefineError`] if the graph is not valid, which a test excludes.
pub fn fulfilment(deadline: Duration) -> Result<Fulfilment, DefineError> {
    Ok(FulfilmentGraph::define()?.with_deadline(deadline))
}

#[cfg(test)]
mod tests {
    use es_saga::{DeclaredStep, StepOptions};

    use super::*;

    /// A program runs only sagas with the fingerprint of its own graph.
    #[test]
    fn the_fingerprint_is_that_of_stored_sagas() {
        let saga = fulfilment(PAYMENT_DEADLINE).expect("it is valid");
        assert_eq!(
            (FULFILMENT, saga.fingerprint().to_string().as_str()),
            ("fulfilment", "0a5da474b46651bf88a445a4ae707c9c")
        );
    }

    #[test]
    fn the_options_of_the_steps_are_those_of_their_kind() {
        let attempts = |options: StepOptions| (options.retry.attempts, options.retry.cap.as_millis());
        assert_eq!([ReserveStock::OPTIONS, CompleteOrder::OPTIONS].map(attempts), [(20, 1_000); 2]);
        assert_eq!([TakePayment::OPTIONS, ShipParcel::OPTIONS].map(attempts), [(6, 2_000); 2]);
    }

    #[test]
    fn the_graph_is_valid_and_has_the_steps_in_their_order() {
        let saga = fulfilment(PAYMENT_DEADLINE).expect("it is valid");
        let nodes: Vec<&str> = saga.shape().nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(nodes, ["reserve-stock", "take-payment", "await-payment", "ship", "complete-order"]);
        let after: Vec<&[u32]> = saga.shape().nodes.iter().map(|node| node.after.as_slice()).collect();
        assert_eq!(after[..3], [&[][..], &[0], &[1]]);
        assert_eq!(saga.shape().pivot.and_then(|pivot| pivot.step), Some(3));
    }
}
