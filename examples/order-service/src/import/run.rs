//! [`run`]: executes the commands of a plan.

use std::cell::Cell;
use std::future::ready;

use es_core::model::{Context, CorrelationId};
use es_core::{ExecuteError, Outcome, Timestamp};
use futures::{StreamExt, stream};
use serde::Serialize;

use super::Plan;
use super::orders::ImportedOrder;
use super::products::ImportedProduct;
use super::progress::Progress;
use super::rejections::{Rejected, Rejections};
use crate::bad_input::BadInput;
use crate::domain::order::{Approve, Ship};
use crate::domain::{OrderId, OrderRejection, OrderStatus, PlacedOrder};
use crate::failure::Failure;
use crate::shop::Shop;

/// Number of orders that are imported concurrently. Concurrent commits share an fsync.
const CONCURRENCY: usize = 64;

/// The counts of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// New orders.
    pub placed: u64,
    /// Existing orders that this import shipped.
    pub advanced: u64,
    /// Existing orders that the files do not change.
    pub unchanged: u64,
    /// Rejected orders, and invalid rows without a valid order id.
    pub rejected: u64,
    /// New products.
    pub products_registered: u64,
    /// Existing products that the file does not change.
    pub products_unchanged: u64,
}

impl Summary {
    const fn count_order(&mut self, outcome: &ImportOutcome) {
        match outcome {
            ImportOutcome::New => self.placed += 1,
            ImportOutcome::Advanced => self.advanced += 1,
            ImportOutcome::Unchanged => self.unchanged += 1,
        }
    }

    const fn count_product(&mut self, outcome: &ImportOutcome) {
        match outcome {
            ImportOutcome::New | ImportOutcome::Advanced => self.products_registered += 1,
            ImportOutcome::Unchanged => self.products_unchanged += 1,
        }
    }
}

/// The result of importing an order or a product.
enum ImportOutcome {
    New,
    Advanced,
    Unchanged,
}

/// The reason why an order or a product was not imported.
enum ImportError {
    /// The content of the files conflicts with the store.
    Bad(BadInput),
    /// A command could not be executed.
    Failure(Box<Failure>),
}

impl From<Failure> for ImportError {
    fn from(failure: Failure) -> Self {
        Self::Failure(Box::new(failure))
    }
}

/// Imports the products of a plan, then its orders, many concurrently. Returns the counts and the rejected orders.
///
/// # Errors
/// - [`Failure::Input`] for an order or a product that conflicts with the store, unless the plan skips invalid orders.
/// - Other variants if a command cannot be executed.
///
/// Orders that were imported before the error stay imported; a repeated import continues with the others.
pub async fn run(shop: &Shop, plan: Plan, progress: &mut Progress) -> Result<(Summary, Vec<Rejected>), Failure> {
    let Plan { orders, products, mut rejections } = plan;
    let mut summary = Summary::default();
    run_concurrently(
        &products,
        async |product| import_product(shop, product).await,
        |_, result| match result {
            Ok(outcome) => {
                summary.count_product(&outcome);
                Ok(())
            }
            Err(error) => error.reject_or_fail(&mut rejections, None),
        },
    )
    .await?;
    run_concurrently(
        &orders,
        async |order| import_order(shop, order).await,
        |order, result| match result {
            Ok(outcome) => {
                progress.step(&order.id);
                summary.count_order(&outcome);
                Ok(())
            }
            Err(error) => error.reject_or_fail(&mut rejections, Some(&order.id)),
        },
    )
    .await?;
    let rejected = rejections.into_sorted();
    summary.rejected = rejected.len() as u64;
    Ok((summary, rejected))
}

impl ImportError {
    /// Adds bad input to the rejections if invalid orders are skipped; otherwise returns the error.
    fn reject_or_fail(self, rejections: &mut Rejections, order: Option<&OrderId>) -> Result<(), Failure> {
        match self {
            Self::Bad(bad) => Ok(rejections.reject(order, bad)?),
            Self::Failure(failure) => Err(*failure),
        }
    }
}

/// Imports items concurrently and calls `on_result` for each result as it arrives. Returns the first error of
/// `on_result`. After an error, no new item is started, and items in progress are completed.
async fn run_concurrently<'a, T>(
    items: &'a [T],
    import: impl AsyncFn(&'a T) -> Result<ImportOutcome, ImportError>,
    mut on_result: impl FnMut(&T, Result<ImportOutcome, ImportError>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stopped = Cell::new(false);
    let mut results = stream::iter(items)
        .take_while(|_| ready(!stopped.get()))
        .map(async |item| (item, import(item).await))
        .buffer_unordered(CONCURRENCY);
    let mut first_error = Ok(());
    while let Some((item, result)) = results.next().await {
        let handled = on_result(item, result);
        stopped.set(stopped.get() || handled.is_err());
        first_error = first_error.and(handled);
    }
    first_error
}

/// Places an order; if it has a shipped date, also approves and ships it. Steps that the order has taken are skipped.
async fn import_order(shop: &Shop, order: &ImportedOrder) -> Result<ImportOutcome, ImportError> {
    let cause = Context::with_correlation(CorrelationId::new());
    let id = &order.id;
    cause
        .scope(async {
            let place = shop.orders.execute(id, order.place.clone()).occurred_at(order.placed_at);
            let placed = place.await.map_err(|error| import_error(order, error))?;
            let is_new = placed.outcome == Outcome::Done;
            let Some(state) = placed.state.placed() else { return Ok(ImportOutcome::Unchanged) };
            expect_same_time(order, state, OrderStatus::Placed, "order_date", order.placed_at)?;
            let Some(shipped_at) = order.shipped_at else {
                return Ok(if is_new { ImportOutcome::New } else { ImportOutcome::Unchanged });
            };
            if state.reached.contains_key(&OrderStatus::Shipped) {
                expect_same_time(order, state, OrderStatus::Shipped, "shipped_date", shipped_at)?;
                return Ok(ImportOutcome::Unchanged);
            }
            shop.orders
                .execute(id, Approve)
                .occurred_at(shipped_at)
                .await
                .map_err(|error| import_error(order, error))?;
            shop.orders.execute(id, Ship).occurred_at(shipped_at).await.map_err(|error| import_error(order, error))?;
            Ok(if is_new { ImportOutcome::New } else { ImportOutcome::Advanced })
        })
        .await
}

async fn import_product(shop: &Shop, product: &ImportedProduct) -> Result<ImportOutcome, ImportError> {
    let registered = shop.products.execute(&product.id, product.register.clone()).await;
    match registered {
        Ok(registered) if registered.outcome == Outcome::Unchanged => Ok(ImportOutcome::Unchanged),
        Ok(_) => Ok(ImportOutcome::New),
        Err(ExecuteError::Rejected(rejection)) => Err(ImportError::Bad(product.location.bad_input(
            "product_id",
            "a new product, or the content of the existing product",
            rejection.to_string(),
        ))),
        Err(error) => Err(Failure::from(error).into()),
    }
}

fn import_error(order: &ImportedOrder, error: ExecuteError<OrderRejection>) -> ImportError {
    match error {
        ExecuteError::Rejected(rejection) => {
            let expected = "a new order, or the content of the existing order";
            ImportError::Bad(order.location.bad_input("order_id", expected, rejection.to_string()))
        }
        error => Failure::from(error).into(),
    }
}

fn expect_same_time(
    order: &ImportedOrder,
    state: &PlacedOrder,
    status: OrderStatus,
    column: &str,
    imported: Timestamp,
) -> Result<(), ImportError> {
    match state.reached.get(&status) {
        Some(existing) if *existing != imported => {
            let expected = format!("the time at which the existing order {} was {status}, {existing}", order.id);
            Err(ImportError::Bad(order.location.bad_input(column, expected, imported.to_string())))
        }
        _ => Ok(()),
    }
}
