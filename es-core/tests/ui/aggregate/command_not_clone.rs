// A command must implement `Clone`: each attempt clones it.
use es_core::{Aggregate, CommandContext, Decide, Decision, Event, EventContext, Evolve, Repository};
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

struct Place;

impl Decide<Place> for Order {
    type Rejection = std::convert::Infallible;
    fn decide(&self, _: Place, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(OrderPlaced.into())
    }
}

async fn place(orders: &Repository<Order>) -> bool {
    orders.execute(&1, Place).await.is_ok()
}

fn main() {}
