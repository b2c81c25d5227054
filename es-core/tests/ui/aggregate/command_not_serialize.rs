// A command id needs a command whose content can be digested.
use std::sync::Arc;

use es_core::{
    Aggregate, CommandContext, CommandId, Decide, Decision, Event, EventContext, EventStore, Evolve, Repository,
    UnitOfWork,
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

async fn place(orders: &Repository<Order>, id: CommandId) -> bool {
    orders.execute(&1, Place).with_id(id).await.is_ok()
}

async fn place_in_a_unit(orders: &Repository<Order>, store: &Arc<dyn EventStore>, id: CommandId) {
    let _ = UnitOfWork::new(store).execute(orders, 1, Place).execute(orders, 2, Place).with_id(id).await;
}

fn main() {}
