//! Products: commands to them, and how they are shown.

use es_core::{Command, Decide};

use super::answer::{Answer, table};
use super::args::How;
use super::order::in_words;
use crate::domain::{Product, ProductId, ProductRejection};
use crate::failure::Failure;
use crate::shop::{Shop, send};
use crate::shown::{CommandResult, ProductDone, ShownProduct};

fn row(product: &ShownProduct<'_>) -> [String; 4] {
    let ShownProduct { product_id, name, unit_price, stock } = product;
    [product_id.to_string(), name.to_string(), unit_price.to_string(), stock.to_string()]
}

fn in_table(products: &[ShownProduct<'_>]) -> String {
    table(["product", "name", "unit price", "stock"], 2, products.iter().map(row)).to_string()
}

/// Executes a command on a product.
pub(super) async fn execute<C>(shop: &Shop, id: &ProductId, command: C, how: &How) -> Result<Answer, Failure>
where
    Product: Decide<C, Rejection = ProductRejection>,
    C: Command,
{
    let executed = send(&shop.products, id, command, how.terms()).await?;
    let stock = executed.state.registered().map(|product| product.stock);
    let answer = in_words(&format!("product {id} has {} in stock", stock.unwrap_or_default()), &executed);
    Ok(Answer::new(answer, &ProductDone { product_id: id, stock, result: CommandResult::of(&executed) }))
}

/// Shows a product.
pub(super) async fn show(shop: &Shop, id: &ProductId) -> Result<Answer, Failure> {
    let loaded = shop.products.load(id).await?;
    let product = loaded.state.registered().ok_or_else(|| Failure::NoProduct(id.clone()))?;
    let shown = ShownProduct::of(id, product);
    Ok(Answer::new(in_table(std::slice::from_ref(&shown)), &shown))
}

/// Shows all products.
pub(super) async fn list(shop: &Shop) -> Result<Answer, Failure> {
    let folded = shop.fold::<Product>().await?;
    let products = folded.states.iter().filter_map(|(id, product)| Some(ShownProduct::of(id, product.registered()?)));
    let products: Vec<_> = products.collect();
    Ok(Answer::new(in_table(&products), &products))
}
