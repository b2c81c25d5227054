//! Instances that are carried to another version of their graph.

#[expect(dead_code, reason = "other tests use the rest")]
mod shop;

use std::sync::Arc;

use es_core::Commit;
use es_saga::{
    DeclaredStep, HookAction, HookPlace, LocalStep, Phase, RunningSagas, Saga, SagaId, SagaMigration, StepContext,
};
use shop::{Ordered, PATIENCE, Pay, Reserve, Ship, Shop, ShopError, order};
use tokio::sync::Notify;

/// The first version of the step `reserve`.
struct FirstReserve;

impl DeclaredStep for FirstReserve {
    const NAME: &'static str = "reserve";
}

impl LocalStep for FirstReserve {
    type Input = u64;
    type Output = u64;
    type Error = ShopError;

    async fn execute(&self, units: u64, _: &StepContext) -> Result<(u64, Commit), ShopError> {
        Ok((units, Commit::new()))
    }

    async fn undo(&self, _: u64, _: u64, _: &StepContext) -> Result<Commit, ShopError> {
        Ok(Commit::new())
    }
}

/// A step that only the first version has.
struct Inspect;

impl DeclaredStep for Inspect {
    const NAME: &'static str = "inspect";
}

impl LocalStep for Inspect {
    type Input = u64;
    type Output = ();
    type Error = ShopError;

    async fn execute(&self, _: u64, _: &StepContext) -> Result<((), Commit), ShopError> {
        Ok(((), Commit::new()))
    }

    async fn undo(&self, _: u64, (): (), _: &StepContext) -> Result<Commit, ShopError> {
        Ok(Commit::new())
    }
}

/// Runs an instance of the first version until its first step is done.
async fn first_version(shop: &Shop) -> SagaId {
    let saga = Saga::<u64, ()>::define("order", 1, |saga, units| {
        let stock = saga.local::<FirstReserve>(units);
        saga.local::<Inspect>(stock)
    })
    .expect("it is valid");
    let crashed = Arc::new(Notify::new());
    let notify = Arc::clone(&crashed);
    let coordinator = es_saga::SagaCoordinator::new().saga(&saga).step(FirstReserve).step(Inspect);
    let coordinator = coordinator.lease(std::time::Duration::from_millis(60)).test_hook(move |point| {
        if point.node == "inspect" && point.place == HookPlace::BeforeIntent {
            notify.notify_one();
            return HookAction::Crash;
        }
        HookAction::Continue
    });
    let sagas = coordinator.start(Arc::clone(&shop.store)).await.expect("it starts");
    let id = sagas.create(&saga, "1", &3).await.expect("it is created");
    tokio::time::timeout(PATIENCE, crashed.notified()).await.expect("it reaches the second step");
    id
}

async fn start(shop: &Shop, saga: &Saga<Ordered, String>) -> RunningSagas {
    shop.coordinator().saga(saga).start(Arc::clone(&shop.store)).await.expect("it starts")
}

fn migration() -> SagaMigration<Ordered> {
    SagaMigration::from_version(1).input(order).output("reserve", |units: u64| units * 2)
}

/// Starts a coordinator with this definition, and waits until the instance is quarantined with this reason.
async fn quarantined(shop: &Shop, id: &SagaId, saga: &Saga<Ordered, String>, reason: &str) {
    let sagas = start(shop, saga).await;
    let mut found = None;
    let reached = async {
        loop {
            let details = sagas.admin().show(id).await.expect("it loads").expect("it exists");
            if details.summary.quarantine.as_ref().is_some_and(|found| found.contains(reason)) {
                return details;
            }
            found = details.summary.quarantine;
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
    };
    let details = tokio::time::timeout(PATIENCE, reached).await;
    let Ok(details) = details else { panic!("expected {reason:?}, found {found:?}") };
    assert_eq!(details.summary.version, Some(1));
    assert!(details.to_string().contains("  quarantine  "), "{details}");
    assert!(sagas.shutdown(PATIENCE).await);
}

#[tokio::test]
async fn an_instance_is_carried_to_another_version_with_its_input_and_its_outputs() {
    let shop = Shop::new();
    let id = first_version(&shop).await;
    let second = Saga::<Ordered, String>::define("order", 2, |saga, order| {
        let stock = saga.local::<Reserve>(order);
        let paid = saga.step::<Pay>((order, stock));
        saga.step::<Ship>((order, paid))
    });
    let second = second.expect("it is valid").with_migration(migration());
    let sagas = start(&shop, &second).await;
    let output = tokio::time::timeout(PATIENCE, sagas.execute(&second, "2", &order(1))).await.expect("it ends");
    assert_eq!(output.expect("it completes"), "parcel of 1 for 1");
    let state = tokio::time::timeout(PATIENCE, sagas.wait(&id)).await.expect("it ends").expect("it loads");
    assert_eq!((state.phase(), state.shape().version), (Phase::Completed, 2));
    assert_eq!(state.nodes()[2].units[0].output, Some("parcel of 1 for 6".into()));
    assert_eq!(shop.events(&id).await[..3], ["saga-created", "saga-step-succeeded", "saga-migrated"]);
}

#[tokio::test]
async fn an_instance_that_does_not_fit_the_other_version_is_quarantined_with_the_reason() {
    let shop = Shop::new();
    let id = first_version(&shop).await;
    let without = Saga::<Ordered, String>::define("order", 2, |saga, order| {
        let stock = saga.node("stock").local::<Reserve>(order);
        saga.step::<Ship>((order, stock))
    });
    let reason = "it cannot be carried over from version 1: node \"reserve\" has an effect, and the other graph does \
                  not have it";
    quarantined(&shop, &id, &without.expect("it is valid").with_migration(migration()), reason).await;

    let earlier = Saga::<Ordered, String>::define("order", 3, |saga, order| {
        let first = saga.node("check").local::<Reserve>(order);
        let stock = saga.node("reserve").after(first).local::<Reserve>(order);
        saga.step::<Ship>((order, stock))
    });
    let reason = "node \"reserve\" was started, and comes after \"check\", which is not done";
    quarantined(&shop, &id, &earlier.expect("it is valid").with_migration(migration()), reason).await;

    let unreadable = SagaMigration::from_version(1);
    let unreadable = unreadable.input(|text: String| order(u64::try_from(text.len()).expect("small")));
    let third = Saga::<Ordered, String>::define("order", 4, |saga, order| {
        let stock = saga.local::<Reserve>(order);
        saga.step::<Ship>((order, stock))
    });
    let reason = "its input cannot be converted";
    quarantined(&shop, &id, &third.expect("it is valid").with_migration(unreadable), reason).await;
}
