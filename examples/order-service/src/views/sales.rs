//! Revenue by month and country.

use es_core::Timestamp;
use es_core::prelude::*;
use es_core::projection::view::View;
use es_core::projection::{ApplyError, Projection, Rows};
use es_core::retention::Erasure;
use serde::{Deserialize, Serialize};

use super::orders::{deleted_order, never_placed, order_of};
use crate::domain::money::exact;
use crate::domain::{Destination, Inexact, Order, OrderEvent, OrderId, Revenue};

/// The key of orders without a destination country in [`COUNTRIES`].
const NO_COUNTRY: &str = "unknown";

/// The number of orders and their revenue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Number of orders that are not cancelled.
    pub orders: u64,
    /// Revenue of these orders.
    #[serde(with = "exact")]
    pub revenue: Revenue,
}

/// Totals by the month of placement (`2016-07`, in UTC).
pub const MONTHS: View<String, Total> = View::new("months");
/// Totals by destination country.
pub const COUNTRIES: View<String, Total> = View::new("countries");
/// The total over all orders, under the single key 0.
pub const TOTAL: View<u8, Total> = View::new("total");
/// The totals that each order contributes to, until it is cancelled or deleted. The content of a deleted order cannot
/// be read, so its contribution is stored.
const COUNTED: View<OrderId, Counted> = View::new("counted");

/// The month, country and revenue with which an order is counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Counted {
    month: String,
    country: String,
    #[serde(with = "exact")]
    revenue: Revenue,
}

/// Maintains revenue by month and country, without cancelled orders.
#[derive(Debug, Clone, Copy)]
pub struct Sales;

impl Projection for Sales {
    type Source = Order;
    const NAME: &'static str = "sales";
    // Version 1 counted deleted orders.
    const VERSION: u32 = 2;

    fn apply(&self, event: &OrderEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        match event {
            OrderEvent::Placed { destination, lines, .. } => {
                let (month, country) = (month_of(at.occurred_at()), country_of(destination).to_owned());
                let counted = Counted { month, country, revenue: lines.revenue()? };
                change_totals(rows, &counted, |total| {
                    Ok(Total { orders: total.orders + 1, revenue: total.revenue.plus(counted.revenue)? })
                })?;
                rows.view(&COUNTED)?.put(&order_of(at)?, &counted)
            }
            OrderEvent::Cancelled { .. } => {
                let id = order_of(at)?;
                if remove_order(rows, &id)? { Ok(()) } else { Err(never_placed(&id)) }
            }
            OrderEvent::Approved | OrderEvent::Shipped | OrderEvent::Delivered | OrderEvent::PaymentReminded => Ok(()),
        }
    }

    fn erased(&self, erasure: &Erasure, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let Some(id) = deleted_order(erasure) else { return Ok(()) };
        // A cancelled order is not counted.
        remove_order(rows, &id).map(drop)
    }
}

/// Subtracts an order from its totals. Returns whether it was counted.
fn remove_order(rows: &mut Rows, id: &OrderId) -> Result<bool, ApplyError> {
    let Some(counted) = rows.view(&COUNTED)?.get(id)? else { return Ok(false) };
    change_totals(rows, &counted, |total| {
        let orders = total.orders.saturating_sub(1);
        Ok(Total { orders, revenue: total.revenue.minus(counted.revenue)? })
    })?;
    rows.view(&COUNTED)?.delete(id)?;
    Ok(true)
}

/// Changes every total that an order contributes to. Deletes a total when it has no orders left.
fn change_totals(
    rows: &mut Rows,
    order: &Counted,
    change: impl Fn(Total) -> Result<Total, Inexact>,
) -> Result<(), ApplyError> {
    let non_empty = |total: Total| (total.orders > 0).then_some(total);
    for (view, key) in [(&MONTHS, &order.month), (&COUNTRIES, &order.country)] {
        let total = change(rows.view(view)?.get(key)?.unwrap_or_default())?;
        rows.view(view)?.change(key, |_| non_empty(total))?;
    }
    let total = change(rows.view(&TOTAL)?.get(&ALL)?.unwrap_or_default())?;
    rows.view(&TOTAL)?.change(&ALL, |_| non_empty(total))
}

/// The single key of [`TOTAL`].
pub(crate) const ALL: u8 = 0;

/// Returns the month (`2016-07`, in UTC) of an order placed at this time.
pub(crate) fn month_of(placed_at: Timestamp) -> String {
    placed_at.format("%Y-%m").to_string()
}

/// Returns the key in [`COUNTRIES`] of an order with this destination.
pub(crate) fn country_of(destination: &Destination) -> &str {
    destination.country.as_ref().map_or(NO_COUNTRY, |country| country.as_str())
}
