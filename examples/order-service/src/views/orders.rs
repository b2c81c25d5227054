//! Every order in short.

use std::cmp::Reverse;

use es_core::Timestamp;
use es_core::prelude::*;
use es_core::projection::view::{Order as Ordering, View};
use es_core::projection::{ApplyError, Projection, Rows};
use serde::{Deserialize, Serialize};

use crate::domain::money::exact;
use crate::domain::{City, Country, CustomerId, Order, OrderEvent, OrderId, OrderStatus, Revenue};

/// An order in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSummary {
    /// Who wants it.
    pub customer: CustomerId,
    /// How far it has come.
    pub status: OrderStatus,
    /// The city that it goes to.
    pub city: Option<City>,
    /// The country that it goes to.
    pub country: Option<Country>,
    /// How many products are on it.
    pub products: usize,
    /// What it earns.
    #[serde(with = "exact")]
    pub revenue: Revenue,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// The revision of its last event.
    pub revision: u64,
}

/// All orders.
pub const ORDERS: View<OrderId, OrderSummary> = View::new("orders").ordered_by(&NEWEST_FIRST).ordered_by(&BY_CUSTOMER);
/// Orders, those placed last first.
pub const NEWEST_FIRST: Ordering<OrderId, OrderSummary, Reverse<Timestamp>> =
    Ordering::new("newest-first", |_, order| Reverse(order.placed_at));
/// Orders by customer, and of each customer those placed last first.
pub const BY_CUSTOMER: Ordering<OrderId, OrderSummary, (CustomerId, Reverse<Timestamp>)> =
    Ordering::new("by-customer", |_, order| (order.customer.clone(), Reverse(order.placed_at)));
/// How many orders have each status.
pub const STATUSES: View<OrderStatus, u64> = View::new("statuses");

/// Keeps every order in short, and how many have each status.
#[derive(Debug, Clone, Copy)]
pub struct OrderSummaries;

impl Projection for OrderSummaries {
    type Source = Order;
    const NAME: &'static str = "order-summaries";

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
            OrderEvent::Approved => OrderStatus::Approved,
            OrderEvent::Shipped => OrderStatus::Shipped,
            OrderEvent::Delivered => OrderStatus::Delivered,
            OrderEvent::Cancelled { .. } => OrderStatus::Cancelled,
        };
        let mut summary = rows.view(&ORDERS)?.get(&id)?.ok_or_else(|| never_placed(&id))?;
        rows.view(&STATUSES)?.update(&summary.status, |orders| *orders = orders.saturating_sub(1))?;
        rows.view(&STATUSES)?.update(&status, |orders| *orders += 1)?;
        (summary.status, summary.revision) = (status, at.revision().get());
        rows.view(&ORDERS)?.put(&id, &summary)
    }
}

/// The order to which an event happened.
pub(super) fn order_of(at: &ProjectedContext<'_>) -> Result<OrderId, ApplyError> {
    let id = Order::id_of(at.stream());
    id.ok_or_else(|| ApplyError::new(format!("expected a stream of an order, found {:?}", at.stream())))
}

/// Something happened to an order of which it is not known that it was placed.
pub(super) fn never_placed(id: &OrderId) -> ApplyError {
    ApplyError::new(format!("expected order {id} to be placed before anything else happens to it"))
}
