//! How do I read a view that is up to date with every command?
//!
//! ```text
//! cargo run -p es-examples --example inline_view
//! ```

use std::sync::Arc;

use es_core::prelude::*;
use es_core::projection::inline::Inline;
use es_core::projection::view::{View, Views};
use es_core::store::memory::MemoryStore;
use es_examples::order::{Order, OrderEvent, Place, Ship};

const OPEN_ORDERS: View<u64, u64> = View::new("open-orders");

/// The orders that are placed and not shipped, with their prices.
struct OpenOrders;

impl Projection for OpenOrders {
    type Source = Order;
    const NAME: &'static str = "open-orders";

    fn apply(&self, event: &OrderEvent, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let id = Order::id_of(context.stream()).ok_or_else(|| ApplyError::new("expected the id of an order"))?;
        let mut view = rows.view(&OPEN_ORDERS)?;
        match event {
            OrderEvent::Placed { cents, .. } => view.put(&id, cents),
            OrderEvent::Shipped => view.delete(&id),
        }
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The view changes in the commit of the events. With es-rocksdb, the hook is an option:
    // `Options::new().hook(Inline::new(OpenOrders)).open(directory)`.
    let store = Arc::new(MemoryStore::new().with_hook(Inline::new(OpenOrders)).await?);
    let orders = Repository::<Order>::new(store.clone());
    let views = Views::of::<OpenOrders>(store);
    let open = views.view(&OPEN_ORDERS);

    orders.execute(&1, Place { customer: "ada".into(), cents: 500 }).await?;
    orders.execute(&2, Place { customer: "bob".into(), cents: 700 }).await?;
    assert_eq!(open.scan().read().await?.rows, [(1, 500), (2, 700)]); // no wait
    orders.execute(&1, Ship).await?;
    assert_eq!(open.scan().read().await?.rows, [(2, 700)]);
    println!("open: {:?}", open.scan().read().await?.rows);
    Ok(())
}
