//! The report: what all orders come to. It is read from the read models; folding all orders again gives the same, which is how
//! the read models are verified.

use std::collections::BTreeMap;

use es_core::Position;
use es_core::projection::view::{View, ViewError};
use serde::Serialize;

use crate::domain::{Inexact, Order, OrderId, OrderLine, OrderStatus, PlacedOrder, ProductId, Revenue};
use crate::views::{
    ALL, BEST_FIRST, COUNTRIES, DEMAND, Demand, MONTHS, ReadModels, STATUSES, TOTAL, Total, country_of, month_of,
};

/// How many products are in the list of the best.
const TOP: usize = 10;

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

impl Report {
    /// The same report from the read models, in a log with this head. Nothing is folded: it costs what it shows.
    ///
    /// # Errors
    /// [`ViewError`] when a read model cannot be read.
    pub async fn of_views(models: &ReadModels, head: Option<Position>) -> Result<Self, ViewError> {
        let mut by_status = ByStatus::default();
        for (status, orders) in models.orders.view(&STATUSES).scan().read_all().await? {
            *by_status.of(status) = orders;
        }
        let total = models.sales.view(&TOTAL).get(&ALL).await?.unwrap_or_default();
        let top = models.demand.view(&DEMAND).scan().by(&BEST_FIRST).limit(TOP).read().await?;
        Ok(Self {
            orders: OrderStatus::ALL.iter().map(|status| by_status.get(*status)).sum(),
            events: head.map_or(0, Position::get),
            by_status,
            revenue: total.revenue,
            revenue_by_month: revenues(models, &MONTHS).await?,
            revenue_by_country: revenues(models, &COUNTRIES).await?,
            top_products: top.rows.into_iter().map(TopProduct::from).collect(),
        })
    }

    /// In what two reports differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            (self.orders != other.orders, "the number of orders"),
            (self.events != other.events, "the number of events"),
            (self.by_status != other.by_status, "the orders of each status"),
            (self.revenue != other.revenue, "revenue"),
            (self.revenue_by_month != other.revenue_by_month, "revenue by month"),
            (self.revenue_by_country != other.revenue_by_country, "revenue by country"),
            (self.top_products != other.top_products, "the best products"),
        ];
        differs.into_iter().filter_map(|(differs, what)| differs.then_some(what)).collect()
    }
}

/// The revenue under each key of a view.
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
            add(self.by_month.entry(month_of(*placed_at)).or_default(), revenue)?;
        }
        add(self.by_country.entry(country_of(&order.destination).to_owned()).or_default(), revenue)?;
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
