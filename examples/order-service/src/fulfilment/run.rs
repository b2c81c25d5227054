//! [`fulfil`]: creates the sagas of orders and waits for them.

use std::collections::BTreeMap;
use std::time::Duration;

use es_saga::{ExecuteSagaError, RunningSagas, SagaAdmin, SagaId, SagaInstance, UnfinishedSaga};
use futures::{StreamExt, stream};

use super::{ItemsToReserve, OrderToFulfil, RunningFulfilment};
use crate::domain::product::Receive;
use crate::domain::{Product, ProductId, Quantity};
use crate::failure::Failure;
use crate::shop::{CommandOptions, Shop, send};

/// Number of sagas that are created and waited for at the same time.
const IN_FLIGHT: usize = 256;
/// The interval at which a saga that does not end is checked for a pause.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Receives the items that the products lack for these orders. Items of orders that have them reserved are not needed,
/// and products that are not registered receive none. Returns the number of items.
///
/// # Errors
/// - [`Failure::Store`] or [`Failure::Load`] if the products or sagas cannot be read.
/// - [`Failure::Product`] or [`Failure::Infrastructure`] if a command fails.
pub async fn restock(shop: &Shop, orders: &[OrderToFulfil]) -> Result<u64, Failure> {
    let products = shop.fold::<Product>().await?.states;
    let sagas = shop.fold::<SagaInstance>().await?.states;
    let is_ended = |order: &&OrderToFulfil| {
        let id = SagaId::new(super::FULFILMENT, &order.order).ok();
        id.and_then(|id| sagas.get(&id)).is_some_and(|saga| saga.phase().is_final())
    };
    let mut missing: BTreeMap<&ProductId, u64> = BTreeMap::new();
    for order in orders.iter().filter(|order| !is_ended(order)) {
        for ItemsToReserve { product, quantity } in &order.items {
            let registered = products.get(product).and_then(Product::registered);
            if registered.is_some_and(|product| !product.reserved.contains_key(&order.order)) {
                *missing.entry(product).or_default() += u64::from(quantity.get());
            }
        }
    }
    let mut received = 0;
    for (id, needed) in missing {
        let stock = products.get(id).and_then(Product::registered).map_or(0, |product| product.stock);
        let mut lacking = needed.saturating_sub(stock);
        while let Some(quantity) = Quantity::at_most_limit(lacking) {
            send(&shop.products, id, Receive { quantity }, CommandOptions::default()).await?;
            lacking -= u64::from(quantity.get());
            received += u64::from(quantity.get());
        }
    }
    Ok(received)
}

/// Creates the sagas of orders, as far as they do not exist, and waits until each is completed or compensated, or waits
/// for a person. Then waits for the other unfinished sagas. Calls `on_settled` for each order.
///
/// # Errors
/// - [`Failure::CreateSaga`] if a saga cannot be created.
/// - [`Failure::Saga`] if a saga cannot be read, or the coordinator was shut down.
///
/// Sagas that were created before the error continue at the next start of a coordinator.
pub async fn fulfil(
    running: &RunningFulfilment,
    orders: &[OrderToFulfil],
    mut on_settled: impl FnMut(&OrderToFulfil),
) -> Result<(), Failure> {
    let (saga, sagas) = (running.saga(), running.sagas());
    let mut settling = stream::iter(orders)
        .map(async |order| {
            let id = sagas.create(saga, order.order.as_str(), order).await?;
            wait_until_settled(sagas, &id).await?;
            Ok::<_, Failure>(order)
        })
        .buffer_unordered(IN_FLIGHT);
    while let Some(settled) = settling.next().await {
        on_settled(settled?);
    }
    drop(settling);
    wait_for_others(sagas).await
}

/// Returns all unfinished sagas.
pub(super) async fn all_unfinished(admin: &SagaAdmin) -> Result<Vec<UnfinishedSaga>, Failure> {
    const PAGE: usize = 4096;
    let mut found = Vec::new();
    loop {
        let page = admin.unfinished(found.last(), PAGE).await?;
        let is_last_page = page.len() < PAGE;
        found.extend(page);
        if is_last_page {
            return Ok(found);
        }
    }
}

/// Waits for all unfinished sagas.
async fn wait_for_others(sagas: &RunningSagas) -> Result<(), Failure> {
    for saga in all_unfinished(sagas.admin()).await?.iter().filter(|saga| saga.quarantine.is_none()) {
        wait_until_settled(sagas, &saga.id).await?;
    }
    Ok(())
}

/// Waits until a saga ends, or waits for a person.
async fn wait_until_settled(sagas: &RunningSagas, id: &SagaId) -> Result<(), ExecuteSagaError> {
    loop {
        match tokio::time::timeout(CHECK_INTERVAL, sagas.wait(id)).await {
            Ok(settled) => return settled.map(drop),
            Err(_) if sagas.status(id).await?.is_paused() => return Ok(()),
            Err(_) => {}
        }
    }
}
