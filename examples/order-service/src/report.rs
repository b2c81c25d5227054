//! [`Report`]: totals over all orders, from the read models. The same report from a replay of the log verifies the read
//! models.

use std::collections::BTreeMap;

use es_core::Position;
use es_core::projection::view::{View, ViewError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{Inexact, Order, OrderId, OrderLine, OrderStatus, PlacedOrder, ProductId, Revenue};
use crate::views::{
    ALL, BEST_FIRST, COUNTRIES, DEMAND, Demand, MONTHS, ReadModels, STATUSES, TOTAL, Total, country_of, month_of,
};

/// Number of products in [`Report::top_products`].
const TOP: usize = 10;
/// Maximum number of parked events that are counted for a read model.
pub(crate) const MAX_PARKED_EVENTS: usize = 1000;

/// Totals over all orders. Revenue excludes cancelled orders. It is the exact sum of unit price × quantity ×
/// (1 − discount); only its display is rounded, half to even, to cents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Report {
    /// Number of orders, including cancelled orders.
    pub orders: u64,
    /// Number of events in the log.
    pub events: u64,
    /// Number of orders by status.
    pub by_status: ByStatus,
    /// Revenue of all orders.
    pub revenue: Revenue,
    /// Revenue by the month of placement (`2016-07`, in UTC).
    pub revenue_by_month: BTreeMap<String, Revenue>,
    /// Revenue by destination country.
    pub revenue_by_country: BTreeMap<String, Revenue>,
    /// The products with the highest revenue, highest first.
    pub top_products: Vec<TopProduct>,
    /// Number of events that the read models lack because they could not be applied, at most 1000 for each read model.
    #[serde(skip_serializing_if = "is_zero")]
    pub parked_events: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Number of orders by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "each field is the number of orders with the status of the same name")]
pub struct ByStatus {
    pub placed: u64,
    pub approved: u64,
    pub shipped: u64,
    pub delivered: u64,
    pub cancelled: u64,
}

impl ByStatus {
    /// Returns the number of orders with a status.
    #[must_use]
    pub const fn get(mut self, status: OrderStatus) -> u64 {
        *self.get_mut(status)
    }

    const fn get_mut(&mut self, status: OrderStatus) -> &mut u64 {
        match status {
            OrderStatus::Placed => &mut self.placed,
            OrderStatus::Approved => &mut self.approved,
            OrderStatus::Shipped => &mut self.shipped,
            OrderStatus::Delivered => &mut self.delivered,
            OrderStatus::Cancelled => &mut self.cancelled,
        }
    }
}

/// A product with its totals over all orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TopProduct {
    /// The product id.
    pub product_id: ProductId,
    /// Number of items ordered.
    pub quantity: u64,
    /// Revenue of these items.
    pub revenue: Revenue,
}

impl Report {
    /// Computes the report from all orders and the number of events in the log.
    ///
    /// # Errors
    /// [`Inexact`] if a sum has more digits than can be represented exactly.
    pub fn of(orders: &BTreeMap<OrderId, Order>, log_events: u64) -> Result<Self, Inexact> {
        let mut tally = Tally::default();
        for order in orders.values().filter_map(Order::placed) {
            tally.add_order(order)?;
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
            parked_events: 0,
        })
    }
}

impl Report {
    /// Reads the report from the read models. The cost depends on the size of the report, not on the number of orders.
    ///
    /// # Errors
    /// [`ViewError`] if a read model cannot be read.
    pub async fn of_views(models: &ReadModels, head: Option<Position>) -> Result<Self, ViewError> {
        let mut by_status = ByStatus::default();
        for (status, orders) in models.orders.view(&STATUSES).scan().read_all().await? {
            *by_status.get_mut(status) = orders;
        }
        let total = models.sales.view(&TOTAL).get(&ALL).await?.unwrap_or_default();
        let top = models.demand.view(&DEMAND).scan().by(&BEST_FIRST).limit(TOP).read().await?;
        let mut parked_events = 0;
        for views in [&models.orders, &models.sales, &models.demand] {
            parked_events += views.parked_events(MAX_PARKED_EVENTS).await?;
        }
        Ok(Self {
            orders: OrderStatus::ALL.iter().map(|status| by_status.get(*status)).sum(),
            events: head.map_or(0, Position::get),
            by_status,
            revenue: total.revenue,
            revenue_by_month: revenues(models, &MONTHS).await?,
            revenue_by_country: revenues(models, &COUNTRIES).await?,
            top_products: top.rows.into_iter().map(TopProduct::from).collect(),
            parked_events,
        })
    }

    /// Returns the names of the parts in which two reports differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            (self.orders != other.orders, "the number of orders"),
            (self.events != other.events, "the number of events"),
            (self.by_status != other.by_status, "the number of orders by status"),
            (self.revenue != other.revenue, "revenue"),
            (self.revenue_by_month != other.revenue_by_month, "revenue by month"),
            (self.revenue_by_country != other.revenue_by_country, "revenue by country"),
            (self.top_products != other.top_products, "the top products"),
        ];
        parts.into_iter().filter_map(|(differs, name)| differs.then_some(name)).collect()
    }
}

/// Reads the revenue of each key of a view.
pub(crate) async fn revenues(
    models: &ReadModels,
    view: &View<String, Total>,
) -> Result<BTreeMap<String, Revenue>, ViewError> {
    let rows = models.sales.view(view).scan().read_all().await?;
    Ok(rows.into_iter().map(|(name, total)| (name, total.revenue)).collect())
}

impl From<(ProductId, Demand)> for TopProduct {
    fn from((product_id, demand): (ProductId, Demand)) -> Self {
        Self { product_id, quantity: demand.quantity, revenue: demand.revenue }
    }
}

/// The running sums of a report.
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
    fn add_order(&mut self, order: &'a PlacedOrder) -> Result<(), Inexact> {
        self.orders += 1;
        *self.by_status.get_mut(order.status) += 1;
        if order.status == OrderStatus::Cancelled {
            return Ok(());
        }
        let revenue = order.lines.revenue()?;
        add(&mut self.revenue, revenue)?;
        if let Some(placed_at) = order.reached.get(&OrderStatus::Placed) {
            add(self.by_month.entry(month_of(*placed_at)).or_default(), revenue)?;
        }
        add(self.by_country.entry(country_of(&order.destination).to_owned()).or_default(), revenue)?;
        order.lines.as_slice().iter().try_for_each(|line| self.add_line(line))
    }

    fn add_line(&mut self, line: &'a OrderLine) -> Result<(), Inexact> {
        let (quantity, revenue) = self.by_product.entry(&line.product).or_default();
        *quantity = quantity.saturating_add(line.quantity.get().into());
        add(revenue, line.revenue()?)
    }
}

fn add(sum: &mut Revenue, revenue: Revenue) -> Result<(), Inexact> {
    *sum = sum.plus(revenue)?;
    Ok(())
}

/// Returns the products with the highest revenue; products with equal revenue are sorted by id.
fn top(products: BTreeMap<&ProductId, (u64, Revenue)>) -> Vec<TopProduct> {
    let mut products: Vec<_> = products.into_iter().collect();
    products.sort_by_key(|(_, (_, revenue))| std::cmp::Reverse(*revenue));
    products.truncate(TOP);
    let product = |(id, (quantity, revenue)): (&ProductId, _)| TopProduct { product_id: id.clone(), quantity, revenue };
    products.into_iter().map(product).collect()
}
