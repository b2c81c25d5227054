//! The steps of the fulfilment.
//!
//! A step in the same store has many attempts with short pauses, because orders of one product conflict.

use std::sync::Arc;

use es_core::Commit;
use es_saga::{LocalStep, SagaStep, StepContext, StepKey};
use serde::{Deserialize, Serialize};

use super::client::ProviderClient;
use super::error::FulfilError;
use super::{ItemsToReserve, OrderToFulfil};
use crate::domain::order::CompleteFulfilment;
use crate::domain::product::{ReleaseItems, ReserveItems, ShipItems};
use crate::domain::{OrderId, OrderStatus};
use crate::provider::{EffectKind, PaymentStatus};
use crate::shop::Shop;

/// Checks that an order is placed and was not cancelled.
async fn check_is_wanted(shop: &Shop, order: &OrderId) -> Result<(), FulfilError> {
    match shop.orders.load(order).await?.state.placed() {
        Some(placed) if placed.status != OrderStatus::Cancelled => Ok(()),
        _ => Err(FulfilError::NoOrder(order.clone())),
    }
}

/// Reserves the items of an order, at all products in one commit.
#[derive(Debug, SagaStep)]
#[saga_step(name = "reserve-stock", retry(attempts = 20, first = "10ms", cap = "1s"))]
pub struct ReserveStock {
    /// The shop.
    pub shop: Arc<Shop>,
}

impl LocalStep for ReserveStock {
    type Input = OrderToFulfil;
    type Output = ();
    type Error = FulfilError;

    async fn execute(&self, input: OrderToFulfil, _: &StepContext) -> Result<((), Commit), FulfilError> {
        let OrderToFulfil { order, items, .. } = input;
        check_is_wanted(&self.shop, &order).await?;
        let mut commit = Commit::new();
        for ItemsToReserve { product, quantity } in items {
            let command = ReserveItems { quantity, order: order.clone() };
            commit = commit.with(&self.shop.products.plan(&product, command).await?);
        }
        Ok(((), commit))
    }

    async fn undo(&self, input: OrderToFulfil, (): (), _: &StepContext) -> Result<Commit, FulfilError> {
        let mut commit = Commit::new();
        for ItemsToReserve { product, .. } in input.items {
            let command = ReleaseItems { order: input.order.clone() };
            commit = commit.with(&self.shop.products.plan(&product, command).await?);
        }
        Ok(commit)
    }
}

/// Takes the payment of an order.
#[derive(Debug, SagaStep)]
#[saga_step(name = "take-payment", retry(attempts = 6, first = "50ms", cap = "2s"), timeout = "5s")]
pub struct TakePayment {
    /// The provider.
    pub provider: ProviderClient,
}

/// A payment that the provider has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The key of the payment.
    pub key: StepKey,
    /// Whether the customer has paid already.
    pub is_paid: bool,
}

impl SagaStep for TakePayment {
    type Input = OrderToFulfil;
    type Output = Payment;
    /// The key of the payment, which is known before the call.
    type Compensation = StepKey;
    type Error = FulfilError;

    fn compensation(&self, _: &OrderToFulfil, key: StepKey) -> StepKey {
        key
    }

    async fn execute(&self, input: OrderToFulfil, context: &StepContext) -> Result<Payment, FulfilError> {
        let key = context.key();
        let effect = self.provider.pay(key, context.saga(), input.cents).await?;
        Ok(Payment { key, is_paid: effect.kind == EffectKind::Payment })
    }

    async fn compensate(&self, payment: StepKey, _: Option<Payment>, context: &StepContext) -> Result<(), FulfilError> {
        self.provider.refund(context.key(), context.saga(), payment).await?;
        Ok(())
    }
}

/// Waits until the customer has paid.
#[derive(Debug, SagaStep)]
#[saga_step(
    name = "await-payment",
    retry(attempts = 10_000, first = "200ms", cap = "60s"),
    timeout = "5s",
    undo = "ignore"
)]
pub struct AwaitPayment {
    /// The provider.
    pub provider: ProviderClient,
}

impl SagaStep for AwaitPayment {
    type Input = Payment;
    type Output = ();
    type Compensation = ();
    type Error = FulfilError;

    fn compensation(&self, _: &Payment, _: StepKey) {}

    async fn execute(&self, payment: Payment, _: &StepContext) -> Result<(), FulfilError> {
        match self.provider.payment_status(payment.key).await? {
            PaymentStatus::Paid => Ok(()),
            PaymentStatus::Refunded => Err(FulfilError::Refunded),
            PaymentStatus::Open | PaymentStatus::None => Err(FulfilError::Unpaid),
        }
    }

    async fn compensate(&self, (): (), _: Option<()>, _: &StepContext) -> Result<(), FulfilError> {
        Ok(())
    }
}

/// Ships the parcel of an order, unless it was cancelled meanwhile. Afterwards the order is not undone any more.
#[derive(Debug, SagaStep)]
#[saga_step(name = "ship", retry(attempts = 6, first = "50ms", cap = "2s"), timeout = "5s", pivot)]
pub struct ShipParcel {
    /// The shop.
    pub shop: Arc<Shop>,
    /// The provider.
    pub provider: ProviderClient,
}

/// A parcel that was shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// The key of the shipment.
    pub key: StepKey,
}

impl SagaStep for ShipParcel {
    type Input = OrderToFulfil;
    type Output = Parcel;
    type Compensation = StepKey;
    type Error = FulfilError;

    fn compensation(&self, _: &OrderToFulfil, key: StepKey) -> StepKey {
        key
    }

    async fn execute(&self, input: OrderToFulfil, context: &StepContext) -> Result<Parcel, FulfilError> {
        check_is_wanted(&self.shop, &input.order).await?;
        self.provider.ship(context.key(), context.saga()).await?;
        Ok(Parcel { key: context.key() })
    }

    async fn compensate(&self, shipment: StepKey, _: Option<Parcel>, context: &StepContext) -> Result<(), FulfilError> {
        self.provider.cancel_shipment(context.key(), context.saga(), shipment).await?;
        Ok(())
    }
}

/// Ships the reserved items, and the order as far as it is not, in one commit.
#[derive(Debug, SagaStep)]
#[saga_step(
    name = "complete-order",
    retry(attempts = 20, first = "10ms", cap = "1s", exhausted = "pause"),
    undo = "pause"
)]
pub struct CompleteOrder {
    /// The shop.
    pub shop: Arc<Shop>,
}

impl LocalStep for CompleteOrder {
    type Input = (OrderToFulfil, Parcel);
    type Output = ();
    type Error = FulfilError;

    async fn execute(&self, (input, _): Self::Input, _: &StepContext) -> Result<((), Commit), FulfilError> {
        let OrderToFulfil { order, items, .. } = input;
        let mut commit = Commit::new().with(&self.shop.orders.plan(&order, CompleteFulfilment).await?);
        for ItemsToReserve { product, .. } in items {
            let command = ShipItems { order: order.clone() };
            commit = commit.with(&self.shop.products.plan(&product, command).await?);
        }
        Ok(((), commit))
    }

    /// Not called: the step is after the pivot.
    async fn undo(&self, _: Self::Input, (): (), _: &StepContext) -> Result<Commit, FulfilError> {
        Err(FulfilError::Completed)
    }
}
