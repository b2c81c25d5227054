//! Crashes at each point of each step, on any store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use es_core::EventStore;
use es_core::model::Entropy;
use es_core::testing::SeededEntropy;
use es_saga::{Direction, HookAction, HookPlace, Phase, SagaId, StepFailure};
use tokio::sync::Notify;

use super::{PATIENCE, Shop, order};

/// Runs a saga that completes and one that is compensated, with a crash at each point of each step. `reopen` makes a
/// store of that of the crashed process.
pub(crate) async fn crash_at_each_point<F>(store: impl AsyncFn() -> Arc<dyn EventStore>, reopen: F)
where
    F: AsyncFn(Arc<dyn EventStore>) -> Arc<dyn EventStore>,
{
    let mut reached = BTreeSet::new();
    for units in [3, 7] {
        for node in ["reserve", "pay", "ship"] {
            for direction in [Direction::Forward, Direction::Backward] {
                for place in HookPlace::ALL {
                    if crash_at(Shop::over(store().await), &reopen, units, (node, direction, place)).await {
                        reached.insert((node, direction, place));
                    }
                }
            }
        }
    }
    // Three external directions with four points, `ship` is never undone; two local ones with three points.
    assert_eq!(reached.len(), 3 * 4 + 2 * 3, "{reached:?}");
}

/// Crashes at a point, restarts, and checks the end. Returns whether the point was reached.
async fn crash_at<F>(shop: Shop, reopen: &F, units: u64, at: (&'static str, Direction, HookPlace)) -> bool
where
    F: AsyncFn(Arc<dyn EventStore>) -> Arc<dyn EventStore>,
{
    let (is_reached, crashed) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (flag, notify) = (Arc::clone(&is_reached), Arc::clone(&crashed));
    let coordinator = shop.coordinator().lease(Duration::from_millis(60)).test_hook(move |point| {
        if (point.node, point.direction, point.place) != at {
            return HookAction::Continue;
        }
        flag.store(true, Ordering::SeqCst);
        notify.notify_one();
        HookAction::Crash
    });
    let sagas = coordinator.start(Arc::clone(&shop.store)).await.expect("it starts");
    let id = sagas.create(&shop.saga, "1", &order(units)).await.expect("it is created");
    tokio::select! {
        () = crashed.notified() => {}
        // It may return because of the crash.
        state = sagas.wait(&id) => drop(state),
    }
    drop(sagas);
    let Shop { store, provider, saga } = shop;
    let shop = Shop { store: reopen(store).await, provider, saga };
    let sagas = shop.start().await;
    let state = tokio::time::timeout(PATIENCE, sagas.wait(&id)).await.expect("it continues").expect("it loads");
    let (phase, held) = if units == 7 { (Phase::Compensated, 0) } else { (Phase::Completed, 3) };
    assert_eq!(state.phase(), phase, "{at:?}");
    assert_eq!((shop.reserved().await, shop.provider.balance()), (held, held.try_into().expect("small")), "{at:?}");
    let keys: BTreeSet<_> = shop.provider.calls().into_iter().collect();
    assert_eq!(keys.len(), shop.provider.effects(), "one effect for each key: {at:?}");
    assert_eq!(keys.len(), if units == 7 { 2 } else { 1 }, "a payment, and its refund: {at:?}");
    assert!(sagas.shutdown(PATIENCE).await);
    is_reached.load(Ordering::SeqCst)
}

/// Waits for all sagas. Returns `false` if the coordinator crashed before.
async fn ended(sagas: &es_saga::RunningSagas, ids: &[SagaId]) -> bool {
    for id in ids {
        if sagas.wait(id).await.is_err() {
            return false;
        }
    }
    true
}

/// Runs many sagas at a failure rate of 20 %, with crashes, and checks that none is lost.
pub(crate) async fn run_with_failures<F>(mut store: Arc<dyn EventStore>, reopen: F, count: u64, seed: u64)
where
    F: AsyncFn(Arc<dyn EventStore>) -> Arc<dyn EventStore>,
{
    let provider = super::Provider::default();
    let ids: Vec<SagaId> = (0..count).map(|n| SagaId::new("fulfilment", n).expect("an id")).collect();
    for round in 0..4 {
        let shop = Shop { store: Arc::clone(&store), provider: provider.clone(), saga: super::fulfilment() };
        let random = SeededEntropy::new(seed.wrapping_add(round));
        let crashed = Arc::new(Notify::new());
        // Each of the first three processes ends after some points of some steps.
        let points = if round < 3 { i64::try_from(count).expect("small") } else { i64::MAX };
        let (notify, left) = (Arc::clone(&crashed), AtomicI64::new(points));
        let coordinator = shop.coordinator().lease(Duration::from_millis(60)).test_hook(move |point| {
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                notify.notify_one();
                return HookAction::Crash;
            }
            let fails = point.place == HookPlace::BeforeCall && random.next_u64() % 100 < 20;
            match random.next_u64() % 3 {
                0 if fails => HookAction::Fail(StepFailure::new(es_saga::ErrorClass::Transient, "injected")),
                1 if fails => HookAction::TimeOutAfterCall,
                2 if fails => HookAction::Fail(StepFailure::new(es_saga::ErrorClass::Terminal, "injected")),
                _ => HookAction::Continue,
            }
        });
        let sagas = coordinator.start(Arc::clone(&shop.store)).await.expect("it starts");
        for id in &ids {
            let created = sagas.admin().create(&shop.saga, id.instance(), &order(0)).await;
            assert_eq!(created.expect("it is created"), *id);
        }
        tokio::select! {
            () = crashed.notified() => drop(sagas),
            is_ended = ended(&sagas, &ids) => {
                if is_ended {
                    assert!(sagas.shutdown(PATIENCE).await);
                }
            }
        }
        drop(shop);
        store = reopen(store).await;
    }
    let mut ends: BTreeMap<&'static str, u64> = BTreeMap::new();
    let admin = es_saga::SagaAdmin::new(store);
    for id in &ids {
        *ends.entry(admin.status(id).await.expect("it loads").phase().name()).or_default() += 1;
    }
    let ended: u64 = ["completed", "compensated", "stuck"].iter().filter_map(|end| ends.get(end)).sum();
    assert_eq!(ended, count, "no saga is lost: {ends:?}");
    assert!(ends.len() >= 2, "{ends:?}");
    let keys: BTreeSet<_> = provider.calls().into_iter().collect();
    assert_eq!(keys.len(), provider.effects(), "one effect for each key");
}
