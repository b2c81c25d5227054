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
use std::time::Duration;

use es_core::EventStore;
use es_core::projection::view::Views;
use es_core::projection::{Projection, ProjectionOptions, RunningProjections, StartError, Supervisor, WaitError};

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

/// Starts to keep all read models up to date.
///
/// # Errors
/// [`StartError`]: nothing was started.
pub fn start(store: &Arc<dyn EventStore>) -> Result<RunningProjections, StartError> {
    // NOTE: each order changes a row of its month, so that more workers than one would only wait for each other. Products share
    // nothing.
    let one = ProjectionOptions::new();
    Supervisor::new(Arc::clone(store))
        .projection(OrderSummaries, one)
        .projection(Sales, one)
        .projection(ProductDemand, one)
        .projection(StockLevels, one.partitions(2))
        .start()
}

/// Waits until all read models show everything that the log has now.
///
/// # Errors
/// [`WaitError`]: one of them does not get there in time.
pub async fn catch_up(
    store: &Arc<dyn EventStore>,
    running: &RunningProjections,
    patience: Duration,
) -> Result<(), WaitError> {
    let head = store.watch_head().current();
    for projection in NAMES.iter().filter_map(|name| running.projection(name)) {
        projection.wait_for(head, patience).await?;
    }
    Ok(())
}
