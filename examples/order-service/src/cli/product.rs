//! Products: commands to them, and how they are shown.

use es_core::Decide;
use serde::Serialize;

use super::answer::{Answer, table};
use super::args::How;
use super::order::{CommandResult, in_words, send};
use crate::domain::{Price, Product, ProductId, ProductName, ProductRejection, RegisteredProduct};
use crate::failure::Failure;
use crate::shop::Shop;

/// What came of a command to a product.
#[derive(Debug, Serialize)]
struct Done<'a> {
    product_id: &'a ProductId,
    stock: Option<u64>,
    #[serde(flatten)]
    result: CommandResult,
}

/// A product as it is shown.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    product_id: &'a ProductId,
    name: &'a ProductName,
    unit_price: Price,
    stock: u64,
}

impl<'a> Shown<'a> {
    fn of(product_id: &'a ProductId, product: &'a RegisteredProduct) -> Self {
        let RegisteredProduct { name, unit_price, stock, first_stock: _ } = product;
        Self { product_id, name, unit_price: *unit_price, stock: *stock }
    }

    fn row(&self) -> [String; 4] {
        [self.product_id.to_string(), self.name.to_string(), self.unit_price.to_string(), self.stock.to_string()]
    }
}

fn in_table(products: &[Shown<'_>]) -> String {
    table(["product", "name", "unit price", "stock"], 2, products.iter().map(Shown::row)).to_string()
}

/// Executes a command on a product.
pub(super) async fn execute<C>(shop: &Shop, id: &ProductId, command: C, how: &How) -> Result<Answer, Failure>
where
    Product: Decide<C, Rejection = ProductRejection>,
    C: Clone + Send + Sync,
{
    let executed = send(&shop.products, id, command, how).await?;
    let stock = executed.state.registered().map(|product| product.stock);
    let answer = in_words(&format!("product {id} has {} in stock", stock.unwrap_or_default()), &executed);
    Ok(Answer::new(answer, &Done { product_id: id, stock, result: CommandResult::of(&executed) }))
}

/// Shows a product.
pub(super) async fn show(shop: &Shop, id: &ProductId) -> Result<Answer, Failure> {
    let loaded = shop.products.load(id).await?;
    let product = loaded.state.registered().ok_or_else(|| Failure::NoProduct(id.clone()))?;
    let shown = Shown::of(id, product);
    Ok(Answer::new(in_table(std::slice::from_ref(&shown)), &shown))
}

/// Shows all products.
pub(super) async fn list(shop: &Shop) -> Result<Answer, Failure> {
    let folded = shop.fold::<Product>().await?;
    let products = folded.states.iter().filter_map(|(id, product)| Some(Shown::of(id, product.registered()?)));
    let products: Vec<_> = products.collect();
    Ok(Answer::new(in_table(&products), &products))
}
