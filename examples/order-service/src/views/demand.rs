//! What sells.

use std::cmp::Reverse;

use es_core::prelude::*;
use es_core::projection::view::{Order as Ordering, View};
use es_core::projection::{ApplyError, Projection, Rows};
use serde::{Deserialize, Serialize};

use super::orders::{never_placed, order_of};
use crate::domain::money::exact;
use crate::domain::{Order, OrderEvent, OrderId, OrderLine, OrderLines, ProductId, Revenue};

/// What a product comes to on all orders that were not cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// On how many lines of orders it stands.
    pub lines: u64,
    /// How many pieces were ordered.
    pub quantity: u64,
    /// What they earn.
    #[serde(with = "exact")]
    pub revenue: Revenue,
}

/// All products that were ordered.
pub const DEMAND: View<ProductId, Demand> = View::new("demand").ordered_by(&BEST_FIRST);
/// Those that earn most first; those that earn the same in the order of their ids.
pub const BEST_FIRST: Ordering<ProductId, Demand, Reverse<(i128, i128)>> =
    Ordering::new("best-first", |_, demand| Reverse(demand.revenue.in_order()));
/// What is on each order, until it is cancelled.
const ORDERED: View<OrderId, OrderLines> = View::new("ordered");

/// Keeps how many pieces of each product are ordered, and what they earn. An order that is cancelled counts no more.
#[derive(Debug, Clone, Copy)]
pub struct ProductDemand;

impl Projection for ProductDemand {
    type Source = Order;
    const NAME: &'static str = "product-demand";

    fn apply(&self, event: &OrderEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        match event {
            OrderEvent::Placed { lines, .. } => {
                for line in lines.as_slice() {
                    change(rows, line, |demand| {
                        Ok(Demand {
                            lines: demand.lines + 1,
                            quantity: demand.quantity.saturating_add(line.quantity.get().into()),
                            revenue: demand.revenue.plus(line.revenue()?)?,
                        })
                    })?;
                }
                rows.view(&ORDERED)?.put(&order_of(at)?, lines)
            }
            OrderEvent::Cancelled { .. } => {
                let id = order_of(at)?;
                let lines = rows.view(&ORDERED)?.get(&id)?.ok_or_else(|| never_placed(&id))?;
                for line in lines.as_slice() {
                    change(rows, line, |demand| {
                        Ok(Demand {
                            lines: demand.lines.saturating_sub(1),
                            quantity: demand.quantity.saturating_sub(line.quantity.get().into()),
                            revenue: demand.revenue.minus(line.revenue()?)?,
                        })
                    })?;
                }
                rows.view(&ORDERED)?.delete(&id)
            }
            OrderEvent::Approved | OrderEvent::Shipped | OrderEvent::Delivered => Ok(()),
        }
    }
}

/// Changes the demand for the product of a line. A product on no line is not kept.
fn change(
    rows: &mut Rows,
    line: &OrderLine,
    change: impl FnOnce(Demand) -> Result<Demand, ApplyError>,
) -> Result<(), ApplyError> {
    let demand = change(rows.view(&DEMAND)?.get(&line.product)?.unwrap_or_default())?;
    rows.view(&DEMAND)?.change(&line.product, |_| (demand.lines > 0).then_some(demand))
}
