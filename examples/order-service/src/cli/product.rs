//! Products: commands to them, and how they are shown.

use es_core::{Command, Decide, Executed};

use super::answer::{Answer, table};
use super::args::{How, MoveArgs};
use super::order::in_words;
use crate::domain::{Product, ProductId, ProductRejection};
use crate::failure::Failure;
use crate::shop::{Shop, send};
use crate::shown::{ProductDone, ShownProduct, StockMoved};

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
    Ok(Answer::new(stock_in_words(id, &executed), &ProductDone::of(id, &executed)))
}

/// Moves stock from one product to another.
pub(super) async fn move_stock(shop: &Shop, args: &MoveArgs) -> Result<Answer, Failure> {
    let MoveArgs { from, to, quantity, how } = args;
    let (out, into) = shop.move_stock(from, to, *quantity, how.terms()).await?;
    let answer = [stock_in_words(from, &out), stock_in_words(to, &into)].join("\n");
    Ok(Answer::new(answer, &StockMoved { from: ProductDone::of(from, &out), to: ProductDone::of(to, &into) }))
}

fn stock_in_words(id: &ProductId, executed: &Executed<Product>) -> String {
    let stock = executed.state.registered().map(|product| product.stock);
    in_words(&format!("product {id} has {} in stock", stock.unwrap_or_default()), executed)
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
