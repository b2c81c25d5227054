//! The read models: what people ask of all orders and products, kept up to date in the background.
//!
//! | projection | its views | answers |
//! |---|---|---|
//! | [`OrderSummaries`] | every order in short; how many have each status | lists of orders |
//! | [`Sales`] | revenue by month, by country and in all | how business goes |
//! | [`ProductDemand`] | pieces and revenue of each product | what sells best |
//! | [`StockLevels`] | every product with its stock | what runs low |
//!
//! Each stands in the same store as the events. Deleting all of it loses nothing: it is built from the log again.

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

/// The names of all projections of the service.
pub const NAMES: [&str; 4] = [OrderSummaries::NAME, Sales::NAME, ProductDemand::NAME, StockLevels::NAME];

/// The read models of a store, to be read.
#[derive(Debug, Clone)]
pub struct ReadModels {
    /// Of [`OrderSummaries`].
    pub orders: Views,
    /// Of [`Sales`].
    pub sales: Views,
    /// Of [`ProductDemand`].
    pub demand: Views,
    /// Of [`StockLevels`].
    pub stock: Views,
}

impl ReadModels {
    /// The read models that stand in this store.
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
    // Each order changes a row of its month, so that several workers would only wait for each other. Products share no row.
    let one_worker = ProjectionOptions::new();
    Supervisor::new()
        .projection(OrderSummaries, one_worker)
        .projection(Sales, one_worker)
        .projection(ProductDemand, one_worker)
        .projection(StockLevels, one_worker.partitions(2))
}
