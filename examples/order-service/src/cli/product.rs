//! The `product` commands.

use es_core::{Command, Decide, Executed};
use serde::Serialize;

use super::args::{CommandArgs, MoveArgs};
use super::order::command_text;
use super::output::{Output, table};
use crate::domain::{Product, ProductId, ProductRejection};
use crate::failure::Failure;
use crate::json::{ProductCommandJson, ProductJson, StockMoveJson};
use crate::shop::{Shop, send};

fn row(product: &ProductJson<'_>) -> [String; 4] {
    let ProductJson { product_id, name, unit_price, stock } = product;
    [product_id.to_string(), name.to_string(), unit_price.to_string(), stock.to_string()]
}

fn products_table(products: &[ProductJson<'_>]) -> String {
    table(["product", "name", "unit price", "stock"], 2, products.iter().map(row)).to_string()
}

/// Executes a command on a product.
pub(super) async fn execute<C>(
    shop: &Shop,
    id: &ProductId,
    command: C,
    options: &CommandArgs,
) -> Result<Output, Failure>
where
    Product: Decide<C, Rejection = ProductRejection>,
    C: Command + Serialize,
{
    let executed = send(&shop.products, id, command, options.options()).await?;
    Ok(Output::new(stock_text(id, &executed), &ProductCommandJson::of(id, &executed)))
}

/// Moves stock from one product to another.
pub(super) async fn move_stock(shop: &Shop, args: &MoveArgs) -> Result<Output, Failure> {
    let MoveArgs { from, to, quantity, options } = args;
    let (moved_out, moved_in) = shop.move_stock(from, to, *quantity, options.options()).await?;
    let text = [stock_text(from, &moved_out), stock_text(to, &moved_in)].join("\n");
    let (source, target) = (ProductCommandJson::of(from, &moved_out), ProductCommandJson::of(to, &moved_in));
    Ok(Output::new(text, &StockMoveJson { from: source, to: target }))
}

fn stock_text(id: &ProductId, executed: &Executed<Product>) -> String {
    let stock = executed.state.registered().map(|product| product.stock);
    command_text(&format!("product {id} has {} in stock", stock.unwrap_or_default()), executed)
}

/// Shows a product.
pub(super) async fn show(shop: &Shop, id: &ProductId) -> Result<Output, Failure> {
    let loaded = shop.products.load(id).await?;
    let product = loaded.state.registered().ok_or_else(|| Failure::NoProduct(id.clone()))?;
    let product = ProductJson::of(id, product);
    Ok(Output::new(products_table(std::slice::from_ref(&product)), &product))
}

/// Lists all products.
pub(super) async fn list(shop: &Shop) -> Result<Output, Failure> {
    let folded = shop.fold::<Product>().await?;
    let products = folded.states.iter().filter_map(|(id, product)| Some(ProductJson::of(id, product.registered()?)));
    let products: Vec<_> = products.collect();
    Ok(Output::new(products_table(&products), &products))
}
