//! Order summaries.

use std::cmp::Reverse;

use es_core::Timestamp;
use es_core::prelude::*;
use es_core::projection::view::{Order as Ordering, View};
use es_core::projection::{ApplyError, Projection, Rows};
use es_core::retention::Erasure;
use serde::{Deserialize, Serialize};

use crate::domain::money::exact;
use crate::domain::{City, Country, CustomerId, Order, OrderEvent, OrderId, OrderStatus, Revenue};

/// The summary of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSummary {
    /// The customer.
    pub customer: CustomerId,
    /// The current status.
    pub status: OrderStatus,
    /// The destination city.
    pub city: Option<City>,
    /// The destination country.
    pub country: Option<Country>,
    /// Number of order lines.
    pub products: usize,
    /// Revenue of the order.
    #[serde(with = "exact")]
    pub revenue: Revenue,
    /// Time at which the order was placed.
    pub placed_at: Timestamp,
    /// Revision of the order's last event.
    pub revision: u64,
}

/// All orders.
pub const ORDERS: View<OrderId, OrderSummary> = View::new("orders").ordered_by(&NEWEST_FIRST).ordered_by(&BY_CUSTOMER);
/// Orders by descending time of placement.
pub const NEWEST_FIRST: Ordering<OrderId, OrderSummary, Reverse<Timestamp>> =
    Ordering::new("newest-first", |_, order| Reverse(order.placed_at));
/// Orders by customer, then by descending time of placement.
pub const BY_CUSTOMER: Ordering<OrderId, OrderSummary, (CustomerId, Reverse<Timestamp>)> =
    Ordering::new("by-customer", |_, order| (order.customer.clone(), Reverse(order.placed_at)));
/// Number of orders by status.
pub const STATUSES: View<OrderStatus, u64> = View::new("statuses");

/// Maintains a summary of each order, and the number of orders by status.
#[derive(Debug, Clone, Copy)]
pub struct OrderSummaries;

impl Projection for OrderSummaries {
    type Source = Order;
    const NAME: &'static str = "order-summaries";
    // Version 1 kept the rows of deleted orders.
    const VERSION: u32 = 2;

    fn apply(&self, event: &OrderEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let id = order_of(at)?;
        let status = match event {
            OrderEvent::Placed { customer, destination, lines } => {
                let summary = OrderSummary {
                    customer: customer.clone(),
                    status: OrderStatus::Placed,
                    city: destination.city.clone(),
                    country: destination.country.clone(),
                    products: lines.as_slice().len(),
                    revenue: lines.revenue()?,
                    placed_at: at.occurred_at(),
                    revision: at.revision().get(),
                };
                rows.view(&STATUSES)?.update(&OrderStatus::Placed, |orders| *orders += 1)?;
                return rows.view(&ORDERS)?.put(&id, &summary);
            }
            OrderEvent::Approved => Some(OrderStatus::Approved),
            OrderEvent::Shipped => Some(OrderStatus::Shipped),
            OrderEvent::Delivered => Some(OrderStatus::Delivered),
            OrderEvent::Cancelled { .. } => Some(OrderStatus::Cancelled),
            OrderEvent::PaymentReminded => None,
        };
        let mut summary = rows.view(&ORDERS)?.get(&id)?.ok_or_else(|| never_placed(&id))?;
        if let Some(status) = status {
            rows.view(&STATUSES)?.update(&summary.status, |orders| *orders = orders.saturating_sub(1))?;
            rows.view(&STATUSES)?.update(&status, |orders| *orders += 1)?;
            summary.status = status;
        }
        summary.revision = at.revision().get();
        rows.view(&ORDERS)?.put(&id, &summary)
    }

    fn erased(&self, erasure: &Erasure, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let Some(id) = deleted_order(erasure) else { return Ok(()) };
        let Some(summary) = rows.view(&ORDERS)?.get(&id)? else { return Ok(()) };
        rows.view(&STATUSES)?.update(&summary.status, |orders| *orders = orders.saturating_sub(1))?;
        rows.view(&ORDERS)?.delete(&id)
    }
}

/// Returns the id of the order that an event belongs to.
pub(super) fn order_of(at: &ProjectedContext<'_>) -> Result<OrderId, ApplyError> {
    let id = Order::id_of(at.stream());
    id.ok_or_else(|| ApplyError::new(format!("expected the stream of an order, found {:?}", at.stream())))
}

/// Returns the id of the order whose stream was deleted; `None` for any other erasure.
pub(super) fn deleted_order(erasure: &Erasure) -> Option<OrderId> {
    erasure.stream().and_then(Order::id_of)
}

/// Creates the error for an event of an order that has no `Placed` event before it.
pub(super) fn never_placed(id: &OrderId) -> ApplyError {
    ApplyError::new(format!("order {id} has an event before it was placed"))
}
