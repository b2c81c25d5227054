//! Stock levels of products.

use es_core::prelude::*;
use es_core::projection::view::{Order as Ordering, View};
use es_core::projection::{ApplyError, Projection, Rows};
use es_core::retention::Erasure;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Price, Product, ProductEvent, ProductId, ProductName};

/// A product with its stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StockLevel {
    /// The display name.
    pub name: ProductName,
    /// The list price of one item; an order line may have another price.
    pub unit_price: Price,
    /// Number of items in stock.
    pub stock: u64,
}

/// All products.
pub const STOCK: View<ProductId, StockLevel> = View::new("stock").ordered_by(&LOWEST_FIRST);
/// Products by ascending stock.
pub const LOWEST_FIRST: Ordering<ProductId, StockLevel, u64> =
    Ordering::new("lowest-first", |_, product| product.stock);

/// Maintains the stock of each product.
#[derive(Debug, Clone, Copy)]
pub struct StockLevels;

impl Projection for StockLevels {
    type Source = Product;
    const NAME: &'static str = "stock-levels";
    // Version 1 kept the rows of deleted products.
    const VERSION: u32 = 2;

    fn apply(&self, event: &ProductEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let stream = at.stream();
        let id = Product::id_of(stream)
            .ok_or_else(|| ApplyError::new(format!("expected the stream of a product, found {stream:?}")))?;
        let mut products = rows.view(&STOCK)?;
        let known = products.get(&id)?;
        let level = match event {
            ProductEvent::Registered { name, unit_price, stock } => {
                StockLevel { name: name.clone(), unit_price: *unit_price, stock: stock.get().into() }
            }
            ProductEvent::Received { quantity }
            | ProductEvent::Withdrawn { quantity }
            | ProductEvent::MovedIn { quantity, .. }
            | ProductEvent::MovedOut { quantity, .. }
            | ProductEvent::Reserved { quantity, .. }
            | ProductEvent::Released { quantity, .. }
            | ProductEvent::Shipped { quantity, .. } => {
                let mut level = known.ok_or_else(|| {
                    ApplyError::new(format!("product {id} has a stock change before it was registered"))
                })?;
                let items = quantity.get().into();
                level.stock = match event {
                    ProductEvent::Received { .. } | ProductEvent::MovedIn { .. } | ProductEvent::Released { .. } => {
                        level.stock.saturating_add(items)
                    }
                    // The items have left the stock when they were reserved.
                    ProductEvent::Shipped { .. } => level.stock,
                    _ => level.stock.saturating_sub(items),
                };
                level
            }
        };
        products.put(&id, &level)
    }

    fn erased(&self, erasure: &Erasure, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let Some(id) = erasure.stream().and_then(Product::id_of) else { return Ok(()) };
        rows.view(&STOCK)?.delete(&id)
    }
}
