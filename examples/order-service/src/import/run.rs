//! Carrying a plan out.

use std::cell::Cell;
use std::future::ready;

use es_core::model::{Context, CorrelationId};
use es_core::{ExecuteError, Outcome, Timestamp};
use futures::{StreamExt, stream};
use serde::Serialize;

use super::Plan;
use super::orders::ToldOrder;
use super::products::ToldProduct;
use super::progress::Progress;
use super::sieve::{Rejected, Sieve};
use crate::bad_input::BadInput;
use crate::domain::order::{Approve, Ship};
use crate::domain::{OrderId, OrderRejection, OrderStatus, PlacedOrder};
use crate::failure::Failure;
use crate::shop::Shop;

/// How many orders are under way at once. Their commits share the wait for the disk.
const AT_ONCE: usize = 64;

/// What an import came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Orders that are new.
    pub placed: u64,
    /// Orders that were there, and are shipped now.
    pub advanced: u64,
    /// Orders that were there as they are in the files, or further.
    pub unchanged: u64,
    /// Orders, and rows of which no order can be told, that were left out.
    pub rejected: u64,
    /// Products that are new.
    pub products_registered: u64,
    /// Products that were there as they are in the file.
    pub products_unchanged: u64,
}

impl Summary {
    const fn count_order(&mut self, fate: &Fate) {
        match fate {
            Fate::New => self.placed += 1,
            Fate::Advanced => self.advanced += 1,
            Fate::Unchanged => self.unchanged += 1,
        }
    }

    const fn count_product(&mut self, fate: &Fate) {
        match fate {
            Fate::New | Fate::Advanced => self.products_registered += 1,
            Fate::Unchanged => self.products_unchanged += 1,
        }
    }
}

/// What became of an order or a product.
enum Fate {
    New,
    Advanced,
    Unchanged,
}

/// Why something of the files did not become part of the shop.
enum Refusal {
    /// It does not fit to what the shop has.
    Bad(BadInput),
    /// The shop could not be asked.
    Failure(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Carries a plan out: first the products, then the orders, many at once.
///
/// # Errors
/// [`Failure`]: the first order that does not fit to what the shop has, unless bad ones are skipped; or a failure of the
/// store. Orders that are done are done; the same import again goes on behind them.
pub async fn run(shop: &Shop, plan: Plan, progress: &mut Progress) -> Result<(Summary, Vec<Rejected>), Failure> {
    let Plan { orders, products, mut sieve } = plan;
    let mut summary = Summary::default();
    at_once(
        &products,
        async |product| register(shop, product).await,
        |_, fate| fate.map(|fate| summary.count_product(&fate)).or_else(|refusal| refusal.sift(&mut sieve, None)),
    )
    .await?;
    at_once(
        &orders,
        async |order| put(shop, order).await,
        |order, fate| {
            if fate.is_ok() {
                progress.step(&order.id);
            }
            let counted = fate.map(|fate| summary.count_order(&fate));
            counted.or_else(|refusal| refusal.sift(&mut sieve, Some(&order.id)))
        },
    )
    .await?;
    let rejected = sieve.into_rejected();
    summary.rejected = rejected.len() as u64;
    Ok((summary, rejected))
}

impl Refusal {
    /// Lets the import go on where bad orders are skipped.
    fn sift(self, sieve: &mut Sieve, order: Option<&OrderId>) -> Result<(), Failure> {
        match self {
            Self::Bad(bad) => Ok(sieve.reject(order, bad)?),
            Self::Failure(failure) => Err(failure),
        }
    }
}

/// Does something to each item, to many at once, and takes the results as they come. After an error no item is begun any
/// more, but those under way are finished: none is left half-way without need.
async fn at_once<'a, T>(
    items: &'a [T],
    each: impl AsyncFn(&'a T) -> Result<Fate, Refusal>,
    mut take: impl FnMut(&T, Result<Fate, Refusal>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stopped = Cell::new(false);
    let mut done = stream::iter(items)
        .take_while(|_| ready(!stopped.get()))
        .map(async |item| (item, each(item).await))
        .buffer_unordered(AT_ONCE);
    let mut result = Ok(());
    while let Some((item, fate)) = done.next().await {
        let taken = take(item, fate);
        stopped.set(stopped.get() || taken.is_err());
        result = result.and(taken);
    }
    result
}

/// Places an order, and approves and ships it where it was shipped. What is so already stays as it is.
async fn put(shop: &Shop, order: &ToldOrder) -> Result<Fate, Refusal> {
    let cause = Context::with_correlation(CorrelationId::new());
    let id = &order.id;
    cause
        .scope(async {
            let place = shop.orders.execute(id, order.place.clone()).occurred_at(order.placed_at);
            let placed = place.await.map_err(|error| refused(order, error))?;
            let is_new = placed.outcome == Outcome::Done;
            let Some(state) = placed.state.placed() else { return Ok(Fate::Unchanged) };
            expect_same_time(order, state, OrderStatus::Placed, "order_date", order.placed_at)?;
            let Some(shipped_at) = order.shipped_at else {
                return Ok(if is_new { Fate::New } else { Fate::Unchanged });
            };
            if state.reached.contains_key(&OrderStatus::Shipped) {
                expect_same_time(order, state, OrderStatus::Shipped, "shipped_date", shipped_at)?;
                return Ok(Fate::Unchanged);
            }
            shop.orders.execute(id, Approve).occurred_at(shipped_at).await.map_err(|error| refused(order, error))?;
            shop.orders.execute(id, Ship).occurred_at(shipped_at).await.map_err(|error| refused(order, error))?;
            Ok(if is_new { Fate::New } else { Fate::Advanced })
        })
        .await
}

async fn register(shop: &Shop, product: &ToldProduct) -> Result<Fate, Refusal> {
    let registered = shop.products.execute(&product.id, product.register.clone()).await;
    match registered {
        Ok(registered) if registered.outcome == Outcome::Unchanged => Ok(Fate::Unchanged),
        Ok(_) => Ok(Fate::New),
        Err(ExecuteError::Rejected(rejection)) => Err(Refusal::Bad(product.source.bad(
            "product_id",
            "a new product, or one as it was registered",
            format!("that {rejection}"),
        ))),
        Err(error) => Err(Failure::from(error).into()),
    }
}

fn refused(order: &ToldOrder, error: ExecuteError<OrderRejection>) -> Refusal {
    match error {
        ExecuteError::Rejected(rejection) => {
            let expected = "a new order, or one that agrees with the store";
            Refusal::Bad(order.source.bad("order_id", expected, format!("that {rejection}")))
        }
        error => Failure::from(error).into(),
    }
}

fn expect_same_time(
    order: &ToldOrder,
    state: &PlacedOrder,
    status: OrderStatus,
    column: &str,
    told: Timestamp,
) -> Result<(), Refusal> {
    match state.reached.get(&status) {
        Some(known) if *known != told => {
            let expected = format!("the time at which order {} was {status} before, {known}", order.id);
            Err(Refusal::Bad(order.source.bad(column, expected, told.to_string())))
        }
        _ => Ok(()),
    }
}
