//! The read models of all orders and products, updated in the background.
//!
//! | projection | views | used for |
//! |---|---|---|
//! | [`OrderSummaries`] | a summary of each order; the number of orders by status | lists of orders |
//! | [`Sales`] | revenue by month, by country and in total | revenue reports |
//! | [`ProductDemand`] | items ordered and revenue by product | best-selling products |
//! | [`StockLevels`] | each product with its stock | products with low stock |
//!
//! The views are stored in the event store. They can be deleted and rebuilt from the log at any time. They contain
//! nothing of a deleted order or product: a total does not count a deleted order, as if it had never been placed.

mod demand;
mod keys;
mod orders;
mod sales;
mod stock;

use std::sync::Arc;

use es_core::EventStore;
use es_core::projection::view::Views;
use es_core::projection::{Projection, ProjectionOptions, Supervisor};

pub use demand::{BEST_FIRST, DEMAND, Demand, ProductDemand};
pub use orders::{BY_CUSTOMER, NEWEST_FIRST, ORDERS, OrderSummaries, OrderSummary, STATUSES};
pub(crate) use sales::{ALL, country_of, month_of};
pub use sales::{COUNTRIES, MONTHS, Sales, TOTAL, Total};
pub use stock::{LOWEST_FIRST, STOCK, StockLevel, StockLevels};

/// Names of all projections of the service.
pub const NAMES: [&str; 4] = [OrderSummaries::NAME, Sales::NAME, ProductDemand::NAME, StockLevels::NAME];

/// Read access to the read models of a store.
#[derive(Debug, Clone)]
pub struct ReadModels {
    /// Views of [`OrderSummaries`].
    pub orders: Views,
    /// Views of [`Sales`].
    pub sales: Views,
    /// Views of [`ProductDemand`].
    pub demand: Views,
    /// Views of [`StockLevels`].
    pub stock: Views,
}

impl ReadModels {
    /// Returns the read models in `store`.
    #[must_use]
    pub fn of(store: &Arc<dyn EventStore>) -> Self {
        Self {
            orders: Views::of::<OrderSummaries>(store.clone()),
            sales: Views::of::<Sales>(store.clone()),
            demand: Views::of::<ProductDemand>(store.clone()),
            stock: Views::of::<StockLevels>(store.clone()),
        }
    }
}

/// Returns the supervisor of all read models.
#[must_use]
pub fn supervisor() -> Supervisor {
    // Orders of the same month change the same row, so several workers would wait for each other. Products share no
    // row.
    let one_worker = ProjectionOptions::new();
    Supervisor::new()
        .projection(OrderSummaries, one_worker)
        .projection(Sales, one_worker)
        .projection(ProductDemand, one_worker)
        .projection(StockLevels, one_worker.partitions(2))
}
