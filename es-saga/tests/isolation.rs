//! Sagas that do not stop each other, whatever their code does.

#[expect(dead_code, reason = "other tests use the rest")]
mod shop;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use es_core::Commit;
use es_saga::{
    ErrorClass, ExecuteSagaError, HookAction, HookPlace, LocalStep, Phase, RunningSagas, Saga, SagaAdmin,
    SagaCoordinator, SagaStep, StepContext, StepKey,
};
use shop::{PATIENCE, Shop, ShopError, error};
use tokio::sync::Semaphore;

/// A step whose compensation cannot be computed.
#[derive(SagaStep)]
#[saga_step(name = "careless")]
struct Careless;

impl SagaStep for Careless {
    type Input = u64;
    type Output = u64;
    type Compensation = ();
    type Error = ShopError;

    fn compensation(&self, input: &u64, _: StepKey) {
        assert_eq!(*input, 0, "a bug");
    }

    async fn execute(&self, input: u64, _: &StepContext) -> Result<u64, ShopError> {
        Ok(input)
    }

    async fn compensate(&self, (): (), _: Option<u64>, _: &StepContext) -> Result<(), ShopError> {
        Ok(())
    }
}

/// A step that waits until it is let through.
#[derive(SagaStep)]
#[saga_step(name = "patient")]
struct Patient {
    gate: Arc<Semaphore>,
    calls: Arc<AtomicU32>,
}

impl SagaStep for Patient {
    type Input = u64;
    type Output = u64;
    type Compensation = ();
    type Error = ShopError;

    fn compensation(&self, _: &u64, _: StepKey) {}

    async fn execute(&self, input: u64, _: &StepContext) -> Result<u64, ShopError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.expect("it is open").forget();
        Ok(input)
    }

    async fn compensate(&self, (): (), _: Option<u64>, _: &StepContext) -> Result<(), ShopError> {
        Ok(())
    }
}

/// A local step that creates the instance 7 of another saga.
#[derive(SagaStep)]
#[saga_step(name = "create", retry(attempts = 2, first = "1ms"))]
struct Create {
    admin: SagaAdmin,
    other: Saga<u64, u64>,
}

impl LocalStep for Create {
    type Input = u64;
    type Output = u64;
    type Error = ShopError;

    async fn execute(&self, input: u64, _: &StepContext) -> Result<(u64, Commit), ShopError> {
        let created = self.admin.creation(Commit::new(), &self.other, "7", &input);
        let (_, commit) = created.map_err(|refused| error(ErrorClass::Terminal, &refused.to_string()))?;
        Ok((input, commit))
    }

    async fn undo(&self, _: u64, _: u64, _: &StepContext) -> Result<Commit, ShopError> {
        Ok(Commit::new())
    }
}

struct Sagas {
    shop: Shop,
    careless: Saga<u64, u64>,
    patient: Saga<u64, u64>,
    creating: Saga<u64, u64>,
    gate: Arc<Semaphore>,
    calls: Arc<AtomicU32>,
}

impl Sagas {
    fn new() -> Self {
        Self {
            shop: Shop::new(),
            careless: Saga::define("carelessness", 1, |saga, input| saga.step::<Careless>(input)).expect("it is valid"),
            patient: Saga::define("patience", 1, |saga, input| saga.step::<Patient>(input)).expect("it is valid"),
            creating: Saga::define("creation", 1, |saga, input| saga.local::<Create>(input)).expect("it is valid"),
            gate: Arc::new(Semaphore::new(0)),
            calls: Arc::default(),
        }
    }

    fn coordinator(&self) -> SagaCoordinator {
        let admin = SagaAdmin::new(Arc::clone(&self.shop.store));
        let (gate, calls) = (Arc::clone(&self.gate), Arc::clone(&self.calls));
        let coordinator = self.shop.coordinator().saga(&self.careless).saga(&self.patient).saga(&self.creating);
        coordinator.step(Careless).step(Patient { gate, calls }).step(Create { admin, other: self.patient.clone() })
    }

    async fn start(&self, coordinator: SagaCoordinator) -> RunningSagas {
        coordinator.start(Arc::clone(&self.shop.store)).await.expect("it starts")
    }

    /// Waits until the step of the patient sagas was called this often.
    async fn called(&self, calls: u32) {
        until(async || self.calls.load(Ordering::SeqCst) >= calls).await;
    }
}

async fn until(condition: impl AsyncFn() -> bool) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the condition holds in time");
}

/// Regression: a panic of code of a saga outside of its calls ended all sagas of its slot, again with each lease, until
/// steps that take longer had failed after their last attempt and were compensated.
#[tokio::test]
async fn a_saga_whose_code_panics_is_quarantined_and_does_not_interrupt_others() {
    let sagas = Sagas::new();
    let running = sagas.start(sagas.coordinator()).await;
    // So many that each slot has some.
    let mut patient = Vec::new();
    for instance in 0..16 {
        patient.push(running.create(&sagas.patient, &instance.to_string(), &1).await.expect("it is created"));
    }
    sagas.called(16).await;
    let careless = running.create(&sagas.careless, "1", &1).await.expect("it is created");
    let quarantine = async || {
        let unfinished = running.admin().unfinished(None, 99).await.expect("it reads");
        unfinished.into_iter().find(|saga| saga.id == careless).and_then(|saga| saga.quarantine)
    };
    until(async || quarantine().await.is_some()).await;
    let reason = quarantine().await.unwrap_or_default();
    assert!(reason.contains("panicked") && reason.contains("a bug"), "{reason}");
    sagas.gate.add_permits(16);
    for id in &patient {
        assert_eq!(running.wait(id).await.expect("it ends").phase(), Phase::Completed);
    }
    assert_eq!(sagas.calls.load(Ordering::SeqCst), 16, "no step was interrupted");
    assert!(running.shutdown(PATIENCE).await);
}

/// Regression: a local step whose commit creates a saga that exists and is unfinished was committed again for ever,
/// because a conflict on the timer of any saga was taken for one on the timer of its own saga.
#[tokio::test]
async fn a_local_step_that_creates_an_unfinished_saga_fails_after_its_attempts() {
    let sagas = Sagas::new();
    let outcomes = AtomicU32::new(0);
    let coordinator = sagas.coordinator().test_hook(move |point| {
        let is_outcome = point.node == "create" && point.place == HookPlace::BeforeOutcome;
        // A driver in a loop would leave no time to the test.
        let is_loop = is_outcome && outcomes.fetch_add(1, Ordering::SeqCst) > 1_000;
        if is_loop { HookAction::Crash } else { HookAction::Continue }
    });
    let running = sagas.start(coordinator).await;
    running.create(&sagas.patient, "7", &1).await.expect("it is created");
    sagas.called(1).await;
    let executed = tokio::time::timeout(PATIENCE, running.execute(&sagas.creating, "1", &2)).await;
    let refused = executed.expect("it ends in time");
    let Err(ExecuteSagaError::NotCompleted { phase, reason, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(phase, "compensated", "{reason}");
    assert!(reason.contains("conflict"), "{reason}");
}
