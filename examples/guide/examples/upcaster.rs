//! How do I change the content of an event that is stored already?
//!
//! ```text
//! cargo run -p es-examples --example upcaster
//! ```

use std::sync::Arc;

use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, EventType, NewEvent};
use serde::{Deserialize, Serialize};

/// Version 2 is written. Version 1 is read as `PriceSetV1` and upcast. A version without a type does not compile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum PriceEvent {
    #[event(name = "price-set", version = 2, upcast(1 = PriceSetV1))]
    Set { cents: u64, currency: String },
}

/// The price in whole euros.
#[derive(Serialize, Deserialize)]
struct PriceSetV1 {
    euros: u64,
}

impl Upcast<PriceEvent> for PriceSetV1 {
    fn upcast(self) -> Events<PriceEvent> {
        PriceEvent::Set { cents: self.euros * 100, currency: "EUR".into() }.into()
    }
}

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "product", id = u64, event = PriceEvent)]
struct Product {
    prices: Vec<PriceEvent>,
}

impl Evolve for Product {
    fn initial(_: &u64) -> Self {
        Self { prices: Vec::new() }
    }

    fn evolve(&mut self, event: &PriceEvent, _: &EventContext<'_>) {
        self.prices.push(event.clone());
    }
}

#[derive(Clone)]
struct SetPrice {
    cents: u64,
}

impl Decide<SetPrice> for Product {
    type Rejection = std::convert::Infallible;

    fn decide(&self, command: SetPrice, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(PriceEvent::Set { cents: command.cents, currency: "EUR".into() }.into())
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    // What an earlier version of the program wrote.
    let old = NewEvent::json(EventType::new("price-set")?, r#"{"euros":5}"#);
    store.commit(Commit::to(&Product::stream(&1)?, ExpectedRevision::NoStream, [old])).await?;

    let products = Repository::<Product>::new(store);
    let product = products.execute(&1, SetPrice { cents: 550 }).await?.state;
    let price = |cents| PriceEvent::Set { cents, currency: "EUR".into() };
    assert_eq!(product.prices, [price(500), price(550)]);
    println!("{:?}", product.prices);
    Ok(())
}
