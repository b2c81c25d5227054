// A command that an aggregate does not take: both types are named.
use std::sync::Arc;

use es_core::{
    Aggregate, CommandContext, Decide, Decision, Event, EventContext, EventStore, Evolve, Repository, UnitOfWork,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced)]
struct Order;

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self
    }
    fn evolve(&mut self, _: &OrderPlaced, _: &EventContext<'_>) {}
}

#[derive(Clone)]
struct Place;

impl Decide<Place> for Order {
    type Rejection = std::convert::Infallible;
    fn decide(&self, _: Place, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(OrderPlaced.into())
    }
}

#[derive(Clone)]
struct Ship;

async fn ship(orders: &Repository<Order>, store: &Arc<dyn EventStore>) {
    let _ = orders.execute(&1, Place).await;
    let _ = orders.execute(&1, Ship).await;
    let _ = UnitOfWork::new(store).execute(orders, 1, Ship).await;
}

fn main() {}
