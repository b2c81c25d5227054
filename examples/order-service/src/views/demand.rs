//! Demand and revenue by product.

use std::cmp::Reverse;

use es_core::prelude::*;
use es_core::projection::view::{Order as Ordering, View};
use es_core::projection::{ApplyError, Projection, Rows};
use es_core::retention::Erasure;
use serde::{Deserialize, Serialize};

use super::orders::{deleted_order, never_placed, order_of};
use crate::domain::money::exact;
use crate::domain::{Order, OrderEvent, OrderId, OrderLine, OrderLines, ProductId, Revenue};

/// The totals of a product over all orders that are not cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Number of order lines with the product.
    pub lines: u64,
    /// Number of items ordered.
    pub quantity: u64,
    /// Revenue of these items.
    #[serde(with = "exact")]
    pub revenue: Revenue,
}

/// All products with at least one order line.
pub const DEMAND: View<ProductId, Demand> = View::new("demand").ordered_by(&BEST_FIRST);
/// Products by descending revenue, then by id.
pub const BEST_FIRST: Ordering<ProductId, Demand, Reverse<(i128, i128)>> =
    Ordering::new("best-first", |_, demand| Reverse(demand.revenue.sort_key()));
/// The lines of each order that is neither cancelled nor deleted. The content of a deleted order cannot be read, so its
/// contribution is stored.
const ORDERED: View<OrderId, OrderLines> = View::new("ordered");

/// Maintains the demand and revenue of each product, without cancelled orders.
#[derive(Debug, Clone, Copy)]
pub struct ProductDemand;

impl Projection for ProductDemand {
    type Source = Order;
    const NAME: &'static str = "product-demand";
    // Version 1 counted deleted orders.
    const VERSION: u32 = 2;

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
                if remove_order(rows, &id)? { Ok(()) } else { Err(never_placed(&id)) }
            }
            OrderEvent::Approved | OrderEvent::Shipped | OrderEvent::Delivered | OrderEvent::PaymentReminded => Ok(()),
        }
    }

    fn erased(&self, erasure: &Erasure, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let Some(id) = deleted_order(erasure) else { return Ok(()) };
        // A cancelled order is not counted. The demand for a deleted product stays: its orders exist.
        remove_order(rows, &id).map(drop)
    }
}

/// Subtracts the lines of an order from the demand. Returns whether they were counted.
fn remove_order(rows: &mut Rows, id: &OrderId) -> Result<bool, ApplyError> {
    let Some(lines) = rows.view(&ORDERED)?.get(id)? else { return Ok(false) };
    for line in lines.as_slice() {
        change(rows, line, |demand| {
            Ok(Demand {
                lines: demand.lines.saturating_sub(1),
                quantity: demand.quantity.saturating_sub(line.quantity.get().into()),
                revenue: demand.revenue.minus(line.revenue()?)?,
            })
        })?;
    }
    rows.view(&ORDERED)?.delete(id)?;
    Ok(true)
}

/// Changes the demand for the product of a line. Deletes the row when no line is left.
fn change(
    rows: &mut Rows,
    line: &OrderLine,
    change: impl FnOnce(Demand) -> Result<Demand, ApplyError>,
) -> Result<(), ApplyError> {
    let demand = change(rows.view(&DEMAND)?.get(&line.product)?.unwrap_or_default())?;
    rows.view(&DEMAND)?.change(&line.product, |_| (demand.lines > 0).then_some(demand))
}
