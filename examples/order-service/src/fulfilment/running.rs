//! [`RunningFulfilment`]: the sagas of orders and the reminders of a program.

use std::sync::Arc;
use std::time::Duration;

use es_core::EventStore;
use es_saga::process::{ProcessManager, RunningProcess};
use es_saga::{RunningSagas, SagaCoordinator};

use super::reminder::{PaymentReminders, RecordReminder, ReminderSaga, SendReminder, payment_reminder};
use super::steps::{AwaitPayment, CompleteOrder, ReserveStock, ShipParcel, TakePayment};
use super::{Fulfilment, ProviderClient, fulfilment};
use crate::failure::Failure;
use crate::shop::Shop;

/// The largest number of sagas that run at the same time.
const CONCURRENCY: usize = 64;
/// The longest time after which the coordinator finds sagas that another program changed or the reminders started.
const POLL: Duration = Duration::from_millis(200);

/// Returns a coordinator of the sagas of orders and of the reminders, with their steps.
#[must_use]
pub fn coordinator(
    shop: &Arc<Shop>,
    saga: &Fulfilment,
    reminder: &ReminderSaga,
    provider: &ProviderClient,
) -> SagaCoordinator {
    SagaCoordinator::new()
        .saga(saga)
        .step(ReserveStock { shop: Arc::clone(shop) })
        .step(TakePayment { provider: provider.clone() })
        .step(AwaitPayment { provider: provider.clone() })
        .step(ShipParcel { shop: Arc::clone(shop), provider: provider.clone() })
        .step(CompleteOrder { shop: Arc::clone(shop) })
        .saga(reminder)
        .step(SendReminder { provider: provider.clone() })
        .step(RecordReminder { shop: Arc::clone(shop) })
        .concurrency(CONCURRENCY)
        .poll(POLL)
}

/// The sagas of orders and the reminders of a program.
#[derive(Debug)]
pub struct RunningFulfilment {
    saga: Fulfilment,
    sagas: RunningSagas,
    reminders: RunningProcess,
    /// The shop of the steps, which outlive the calls of others.
    shop: Arc<Shop>,
}

impl RunningFulfilment {
    /// Starts the sagas and the reminders of a store. Customers must pay within `deadline`.
    ///
    /// # Errors
    /// - [`Failure::SagaStart`] or [`Failure::ProcessStart`] if they cannot be started.
    /// - [`Failure::Define`] if a graph is not valid, which a test excludes.
    pub async fn start(
        store: &Arc<dyn EventStore>,
        provider: &ProviderClient,
        deadline: Duration,
    ) -> Result<Self, Failure> {
        let shop = Arc::new(Shop::new(Arc::clone(store)));
        let (saga, reminder) = (fulfilment(deadline)?, payment_reminder()?);
        let process = PaymentReminders::new(&saga, &reminder, deadline);
        // ORDER: the process follows the events from its first start on, so it starts before the first saga runs.
        let reminders = ProcessManager::new(process, Arc::clone(store)).start().await?;
        let sagas = coordinator(&shop, &saga, &reminder, provider).start(Arc::clone(store)).await?;
        Ok(Self { saga, sagas, reminders, shop })
    }

    /// Returns the saga of an order.
    #[must_use]
    pub const fn saga(&self) -> &Fulfilment {
        &self.saga
    }

    /// Returns the sagas.
    #[must_use]
    pub const fn sagas(&self) -> &RunningSagas {
        &self.sagas
    }

    /// Stops all of it. Calls that do not end before the deadline are repeated at the next start.
    pub async fn shutdown(self, deadline: Duration) {
        let Self { sagas, reminders, shop, .. } = self;
        let _ = tokio::join!(reminders.shutdown(deadline), sagas.shutdown(deadline));
        shop.settle().await;
    }
}
