//! The report: what all orders come to. A pure function of their states; no table is kept.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::{Inexact, Order, OrderId, OrderLine, OrderStatus, PlacedOrder, ProductId, Revenue};

/// How many products are in the list of the best.
const TOP: usize = 10;
/// The name under which orders are counted that go to no known country.
const NO_COUNTRY: &str = "unknown";

/// What all orders come to. Revenue is that of orders that are not cancelled: unit price × quantity × (1 − discount),
/// summed exactly, and rounded half to even to cents where it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many orders were ever placed.
    pub orders: u64,
    /// How many events the log has.
    pub events: u64,
    /// How many orders have each status.
    pub by_status: ByStatus,
    /// What all orders earn.
    pub revenue: Revenue,
    /// What the orders placed in each month (`2016-07`, in UTC) earn.
    pub revenue_by_month: BTreeMap<String, Revenue>,
    /// What the orders to each country earn.
    pub revenue_by_country: BTreeMap<String, Revenue>,
    /// The products that earn most, best first.
    pub top_products: Vec<TopProduct>,
}

/// How many orders have each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each is the number of orders of the status of the same name")]
pub struct ByStatus {
    pub placed: u64,
    pub approved: u64,
    pub shipped: u64,
    pub delivered: u64,
    pub cancelled: u64,
}

impl ByStatus {
    /// The number for a status.
    #[must_use]
    pub const fn get(mut self, status: OrderStatus) -> u64 {
        *self.of(status)
    }

    const fn of(&mut self, status: OrderStatus) -> &mut u64 {
        match status {
            OrderStatus::Placed => &mut self.placed,
            OrderStatus::Approved => &mut self.approved,
            OrderStatus::Shipped => &mut self.shipped,
            OrderStatus::Delivered => &mut self.delivered,
            OrderStatus::Cancelled => &mut self.cancelled,
        }
    }
}

/// What a product comes to on all orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopProduct {
    /// The product.
    pub product_id: ProductId,
    /// How many pieces were ordered.
    pub quantity: u64,
    /// What they earn.
    pub revenue: Revenue,
}

impl Report {
    /// The report on all orders of a log with this many events.
    ///
    /// # Errors
    /// [`Inexact`] when a sum has more digits than can be kept.
    pub fn of(orders: &BTreeMap<OrderId, Order>, log_events: u64) -> Result<Self, Inexact> {
        let mut tally = Tally::default();
        for order in orders.values().filter_map(Order::placed) {
            tally.take(order)?;
        }
        let Tally { orders, by_status, revenue, by_month, by_country, by_product } = tally;
        Ok(Self {
            orders,
            events: log_events,
            by_status,
            revenue,
            revenue_by_month: by_month,
            revenue_by_country: by_country,
            top_products: top(by_product),
        })
    }
}

/// Sums on the way to a report.
#[derive(Default)]
struct Tally<'a> {
    orders: u64,
    by_status: ByStatus,
    revenue: Revenue,
    by_month: BTreeMap<String, Revenue>,
    by_country: BTreeMap<String, Revenue>,
    by_product: BTreeMap<&'a ProductId, (u64, Revenue)>,
}

impl<'a> Tally<'a> {
    fn take(&mut self, order: &'a PlacedOrder) -> Result<(), Inexact> {
        self.orders += 1;
        *self.by_status.of(order.status) += 1;
        if order.status == OrderStatus::Cancelled {
            return Ok(());
        }
        let revenue = order.lines.revenue()?;
        add(&mut self.revenue, revenue)?;
        if let Some(placed_at) = order.reached.get(&OrderStatus::Placed) {
            add(self.by_month.entry(placed_at.format("%Y-%m").to_string()).or_default(), revenue)?;
        }
        let country = order.destination.country.as_ref().map_or(NO_COUNTRY, |country| country.as_str());
        add(self.by_country.entry(country.to_owned()).or_default(), revenue)?;
        order.lines.as_slice().iter().try_for_each(|line| self.take_line(line))
    }

    fn take_line(&mut self, line: &'a OrderLine) -> Result<(), Inexact> {
        let (quantity, revenue) = self.by_product.entry(&line.product).or_default();
        *quantity = quantity.saturating_add(line.quantity.get().into());
        add(revenue, line.revenue()?)
    }
}

fn add(sum: &mut Revenue, revenue: Revenue) -> Result<(), Inexact> {
    *sum = sum.plus(revenue)?;
    Ok(())
}

/// The products that earn most; those that earn the same, in the order of their ids.
fn top(products: BTreeMap<&ProductId, (u64, Revenue)>) -> Vec<TopProduct> {
    let mut products: Vec<_> = products.into_iter().collect();
    products.sort_by_key(|(_, (_, revenue))| std::cmp::Reverse(*revenue));
    products.truncate(TOP);
    let product = |(id, (quantity, revenue)): (&ProductId, _)| TopProduct { product_id: id.clone(), quantity, revenue };
    products.into_iter().map(product).collect()
}
