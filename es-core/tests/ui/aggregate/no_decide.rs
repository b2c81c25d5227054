// A command that the aggregate does not handle: each call has one error with both types.
use std::sync::Arc;

use es_core::{
    Aggregate, CommandContext, CommandId, Decide, Decision, Event, EventContext, EventStore, Evolve, Repository,
    Revision, UnitOfWork,
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

#[derive(Clone, Serialize)]
struct Place;

impl Decide<Place> for Order {
    type Rejection = std::convert::Infallible;
    fn decide(&self, _: Place, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(OrderPlaced.into())
    }
}

#[derive(Clone, Serialize)]
struct Ship;

async fn ship(orders: &Repository<Order>) -> Result<Option<Revision>, Box<dyn std::error::Error>> {
    orders.execute(&1, Place).await?;
    let shipped = orders.execute(&1, Ship).await?;
    Ok(shipped.revision)
}

async fn ship_with_an_id(orders: &Repository<Order>, id: CommandId) -> bool {
    orders.execute(&1, Ship).with_id(id).await.is_ok()
}

async fn ship_in_a_unit(orders: &Repository<Order>, store: &Arc<dyn EventStore>) {
    let _ = UnitOfWork::new(store).execute(orders, 1, Ship).await;
}

async fn place_and_ship(orders: &Repository<Order>, store: &Arc<dyn EventStore>) {
    let _ = UnitOfWork::new(store).execute(orders, 1, Place).execute_all(orders, [(2, Ship)]).await;
}

fn main() {}
