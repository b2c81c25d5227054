//! What orders earn, by month and country.

use es_core::Timestamp;
use es_core::prelude::*;
use es_core::projection::view::View;
use es_core::projection::{ApplyError, Projection, Rows};
use serde::{Deserialize, Serialize};

use super::orders::{never_placed, order_of};
use crate::domain::money::exact;
use crate::domain::{Destination, Inexact, Order, OrderEvent, OrderId, Revenue};

/// The name under which orders are counted that go to no known country.
const NO_COUNTRY: &str = "unknown";

/// What some orders earn together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// How many orders, without those that were cancelled.
    pub orders: u64,
    /// What they earn.
    #[serde(with = "exact")]
    pub revenue: Revenue,
}

/// By the month in which orders were placed (`2016-07`, in UTC).
pub const MONTHS: View<String, Total> = View::new("months");
/// By the country that orders go to.
pub const COUNTRIES: View<String, Total> = View::new("countries");
/// All together, under the one key 0.
pub const TOTAL: View<u8, Total> = View::new("total");
/// Where each order counts, until it is cancelled.
const COUNTED: View<OrderId, Counted> = View::new("counted");

/// Where an order counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Counted {
    month: String,
    country: String,
    #[serde(with = "exact")]
    revenue: Revenue,
}

/// Keeps what orders earn, by month and country. An order that is cancelled counts no more.
#[derive(Debug, Clone, Copy)]
pub struct Sales;

impl Projection for Sales {
    type Source = Order;
    const NAME: &'static str = "sales";

    fn apply(&self, event: &OrderEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        match event {
            OrderEvent::Placed { destination, lines, .. } => {
                let (month, country) = (month_of(at.occurred_at()), country_of(destination).to_owned());
                let counted = Counted { month, country, revenue: lines.revenue()? };
                count(rows, &counted, |total| {
                    Ok(Total { orders: total.orders + 1, revenue: total.revenue.plus(counted.revenue)? })
                })?;
                rows.view(&COUNTED)?.put(&order_of(at)?, &counted)
            }
            OrderEvent::Cancelled { .. } => {
                let id = order_of(at)?;
                let counted = rows.view(&COUNTED)?.get(&id)?.ok_or_else(|| never_placed(&id))?;
                count(rows, &counted, |total| {
                    let orders = total.orders.saturating_sub(1);
                    Ok(Total { orders, revenue: total.revenue.minus(counted.revenue)? })
                })?;
                rows.view(&COUNTED)?.delete(&id)
            }
            OrderEvent::Approved | OrderEvent::Shipped | OrderEvent::Delivered => Ok(()),
        }
    }
}

/// Changes every total in which an order counts. One without orders is not kept.
fn count(rows: &mut Rows, of: &Counted, change: impl Fn(Total) -> Result<Total, Inexact>) -> Result<(), ApplyError> {
    let kept = |total: Total| (total.orders > 0).then_some(total);
    for (view, key) in [(&MONTHS, &of.month), (&COUNTRIES, &of.country)] {
        let total = change(rows.view(view)?.get(key)?.unwrap_or_default())?;
        rows.view(view)?.change(key, |_| kept(total))?;
    }
    let total = change(rows.view(&TOTAL)?.get(&ALL)?.unwrap_or_default())?;
    rows.view(&TOTAL)?.change(&ALL, |_| kept(total))
}

/// The one key of [`TOTAL`].
pub(crate) const ALL: u8 = 0;

/// The month (`2016-07`, in UTC) in which something that was placed then counts.
pub(crate) fn month_of(placed_at: Timestamp) -> String {
    placed_at.format("%Y-%m").to_string()
}

/// The country under which an order counts.
pub(crate) fn country_of(destination: &Destination) -> &str {
    destination.country.as_ref().map_or(NO_COUNTRY, |country| country.as_str())
}
