//! A small shop: stock in the same store, and a payment provider outside of it that remembers each key.

pub(crate) mod crash;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::{CommandContext, Commit, StreamId};
use es_saga::{
    Classify, ErrorClass, LocalStep, RunningSagas, Saga, SagaCoordinator, SagaId, SagaStep, StepContext, StepKey, saga,
};
use serde::{Deserialize, Serialize};

/// The longest wait of a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub(crate) enum StockEvent {
    #[event(name = "stock-reserved")]
    Reserved { units: u64 },
    #[event(name = "stock-released")]
    Released { units: u64 },
}

/// The stock of one product, which has ten units.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "stock", id = u64, event = StockEvent)]
pub(crate) struct Stock {
    pub(crate) reserved: u64,
}

impl Evolve for Stock {
    fn initial(_: &u64) -> Self {
        Self { reserved: 0 }
    }

    fn evolve(&mut self, event: &StockEvent, _: &EventContext<'_>) {
        match event {
            StockEvent::Reserved { units } => self.reserved += units,
            StockEvent::Released { units } => self.reserved -= units,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Change(pub(crate) StockEvent);

#[derive(Debug, thiserror::Error)]
#[error("sold out")]
pub(crate) struct SoldOut;

impl Decide<Change> for Stock {
    type Rejection = SoldOut;

    fn decide(&self, Change(event): Change, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, SoldOut> {
        match event {
            StockEvent::Reserved { units } if self.reserved + units > 10 => Err(SoldOut),
            event => Ok(event.into()),
        }
    }
}

/// The error of all steps.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(crate) struct ShopError {
    pub(crate) class: ErrorClass,
    pub(crate) text: String,
}

impl Classify for ShopError {
    fn class(&self) -> ErrorClass {
        self.class
    }
}

pub(crate) fn error(class: ErrorClass, text: &str) -> ShopError {
    ShopError { class, text: text.to_owned() }
}

/// What a customer ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ordered {
    pub(crate) product: u64,
    pub(crate) units: u64,
}

/// Reserves stock: a local step.
#[derive(SagaStep)]
#[saga_step(name = "reserve")]
pub(crate) struct Reserve(pub(crate) Repository<Stock>);

impl Reserve {
    async fn change(&self, product: u64, event: StockEvent) -> Result<Commit, ShopError> {
        match self.0.plan(&product, Change(event)).await {
            Ok(plan) => Ok(Commit::new().with(&plan)),
            Err(ExecuteError::Rejected(SoldOut)) => Err(error(ErrorClass::Terminal, "sold out")),
            Err(other) => Err(error(ErrorClass::Transient, &other.to_string())),
        }
    }
}

impl LocalStep for Reserve {
    type Input = Ordered;
    type Output = u64;
    type Error = ShopError;

    async fn execute(&self, input: Ordered, _: &StepContext) -> Result<(u64, Commit), ShopError> {
        let commit = self.change(input.product, StockEvent::Reserved { units: input.units }).await?;
        Ok((input.units, commit))
    }

    async fn undo(&self, input: Ordered, units: u64, _: &StepContext) -> Result<Commit, ShopError> {
        self.change(input.product, StockEvent::Released { units }).await
    }
}

/// A provider outside of the store. It has at most one effect for each key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Provider(Arc<ProviderState>);

#[derive(Debug, Default)]
struct ProviderState {
    /// The payments and refunds that took effect, by key.
    effects: Mutex<BTreeMap<String, i64>>,
    calls: Mutex<Vec<StepKey>>,
    /// The errors of the next calls; the last one is returned again and again.
    script: Mutex<Vec<Option<ShopError>>>,
    refund_errors: AtomicU32,
}

impl Provider {
    /// Sets the errors of the next payments.
    pub(crate) fn script(&self, errors: impl IntoIterator<Item = Option<ShopError>>) -> &Self {
        *self.0.script.lock().expect("no panic") = errors.into_iter().collect();
        self
    }

    /// Lets that many refunds fail.
    pub(crate) fn fail_refunds(&self, count: u32) -> &Self {
        self.0.refund_errors.store(count, Ordering::SeqCst);
        self
    }

    /// Returns the sum of payments and refunds.
    pub(crate) fn balance(&self) -> i64 {
        self.0.effects.lock().expect("no panic").values().sum()
    }

    pub(crate) fn effects(&self) -> usize {
        self.0.effects.lock().expect("no panic").len()
    }

    /// Returns the keys of all calls.
    pub(crate) fn calls(&self) -> Vec<StepKey> {
        self.0.calls.lock().expect("no panic").clone()
    }

    pub(crate) fn take(&self, key: StepKey, cents: i64) -> Result<(), ShopError> {
        self.0.calls.lock().expect("no panic").push(key);
        let mut script = self.0.script.lock().expect("no panic");
        let error = if script.is_empty() { None } else { script.remove(0) };
        let has_effect = error.as_ref().is_none_or(|error| error.class == ErrorClass::Ambiguous);
        if has_effect {
            self.0.effects.lock().expect("no panic").insert(key.to_string(), cents);
        }
        error.map_or(Ok(()), Err)
    }

    /// Gives back what was taken under a key, which may be nothing.
    pub(crate) fn give_back(&self, of: StepKey, key: StepKey) -> Result<(), ShopError> {
        self.0.calls.lock().expect("no panic").push(key);
        let failing = self.0.refund_errors.load(Ordering::SeqCst);
        if failing > 0 {
            self.0.refund_errors.store(failing - 1, Ordering::SeqCst);
            return Err(error(ErrorClass::Transient, "refund failed"));
        }
        let mut effects = self.0.effects.lock().expect("no panic");
        let taken = effects.get(&of.to_string()).copied().unwrap_or_default();
        effects.insert(key.to_string(), -taken);
        Ok(())
    }
}

/// Takes a payment of one cent for each unit: an external step.
#[derive(SagaStep)]
#[saga_step(name = "pay", retry(attempts = 3, first = "1ms"))]
pub(crate) struct Pay(pub(crate) Provider);

/// What undoes a payment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refund {
    of: StepKey,
}

impl SagaStep for Pay {
    type Input = (Ordered, u64);
    type Output = u64;
    type Compensation = Refund;
    type Error = ShopError;

    fn compensation(&self, _: &(Ordered, u64), key: StepKey) -> Refund {
        Refund { of: key }
    }

    async fn execute(&self, (_, units): (Ordered, u64), context: &StepContext) -> Result<u64, ShopError> {
        self.0.take(context.key(), i64::try_from(units).expect("small"))?;
        Ok(units)
    }

    async fn compensate(&self, refund: Refund, _: Option<u64>, context: &StepContext) -> Result<(), ShopError> {
        self.0.give_back(refund.of, context.key())
    }
}

/// Ships: an external step that is refused for 13 units.
#[derive(SagaStep)]
#[saga_step(name = "ship")]
pub(crate) struct Ship(pub(crate) Provider);

impl SagaStep for Ship {
    type Input = (Ordered, u64);
    type Output = String;
    type Compensation = Refund;
    type Error = ShopError;

    fn compensation(&self, _: &(Ordered, u64), key: StepKey) -> Refund {
        Refund { of: key }
    }

    async fn execute(&self, (ordered, paid): (Ordered, u64), _: &StepContext) -> Result<String, ShopError> {
        if paid == 7 {
            return Err(error(ErrorClass::Terminal, "unlucky number"));
        }
        Ok(format!("parcel of {} for {paid}", ordered.product))
    }

    async fn compensate(&self, _: Refund, _: Option<String>, _: &StepContext) -> Result<(), ShopError> {
        Ok(())
    }
}

saga! {
    /// The saga of an order: reserve, pay, ship.
    pub(crate) saga Fulfilment(order: Ordered) -> String, version = 1 {
        let stock = local Reserve(order);
        let paid = Pay(order, stock);
        Ship(order, paid)
    }
}

/// Returns the saga of an order.
pub(crate) fn fulfilment() -> Saga<Ordered, String> {
    Fulfilment::define().expect("the graph is valid")
}

/// A store and a provider, which survive the coordinator.
pub(crate) struct Shop {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) provider: Provider,
    pub(crate) saga: Saga<Ordered, String>,
}

impl Shop {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new()))
    }

    pub(crate) fn over(store: Arc<dyn EventStore>) -> Self {
        Self { store, provider: Provider::default(), saga: fulfilment() }
    }

    pub(crate) fn coordinator(&self) -> SagaCoordinator {
        SagaCoordinator::new()
            .saga(&self.saga)
            .step(Reserve(Repository::new(Arc::clone(&self.store))))
            .step(Pay(self.provider.clone()))
            .step(Ship(self.provider.clone()))
            .poll(Duration::from_millis(10))
            .lease(Duration::from_millis(300))
    }

    pub(crate) async fn start(&self) -> RunningSagas {
        self.coordinator().start(Arc::clone(&self.store)).await.expect("it starts")
    }

    pub(crate) async fn reserved(&self) -> u64 {
        let repository = Repository::<Stock>::new(Arc::clone(&self.store));
        repository.load(&1).await.expect("it loads").state.reserved
    }

    /// Returns the types of the events of an instance.
    pub(crate) async fn events(&self, id: &SagaId) -> Vec<String> {
        let stream = StreamId::of("saga", id).expect("a stream");
        let read = self.store.read_stream(es_core::StreamRead::new(stream)).await.expect("it reads");
        let events = read.collect().await.expect("it reads");
        events.iter().map(|event| event.data.event_type.to_string()).collect()
    }
}

pub(crate) fn order(units: u64) -> Ordered {
    Ordered { product: 1, units }
}
