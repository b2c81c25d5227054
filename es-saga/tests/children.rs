//! Child sagas: their outcomes, their compensation, operators, crashes.

#[expect(dead_code, reason = "other tests use the rest")]
mod shop;

use std::sync::Arc;
use std::time::Duration;

use es_core::model::Metadata;
use es_saga::instance::UnitStatus;
use es_saga::{
    ExecuteSagaError, HookAction, HookPlace, OperateError, OperatorNote, Phase, RunningSagas, Saga, SagaCoordinator,
    SagaId, SagaInstance, SagaVerb,
};
use shop::{Ordered, PATIENCE, Pay, Reserve, Ship, Shop, order};
use tokio::sync::Notify;

/// A payment in a saga of its own, which is undone with its parent.
fn payment() -> Saga<(Ordered, u64), u64> {
    Saga::define("payment", 1, |saga, input| saga.step::<Pay>(input)).expect("it is valid")
}

/// Reserves, pays in a child saga, ships.
fn parent() -> Saga<Ordered, String> {
    Saga::define("parent", 1, |saga, order| {
        let stock = saga.local::<Reserve>(order);
        let paid = saga.child(&payment(), (order, stock));
        saga.step::<Ship>((order, paid))
    })
    .expect("it is valid")
}

fn coordinator(shop: &Shop) -> SagaCoordinator {
    shop.coordinator().saga(&parent())
}

async fn start(shop: &Shop) -> RunningSagas {
    coordinator(shop).start(Arc::clone(&shop.store)).await.expect("it starts")
}

fn note() -> OperatorNote {
    OperatorNote::new("ann", "a test")
}

fn id(text: &str) -> SagaId {
    text.parse().expect("an id")
}

/// Waits until the state of a saga is as expected.
async fn until(sagas: &RunningSagas, id: &SagaId, is_reached: impl Fn(&SagaInstance) -> bool) -> SagaInstance {
    let reached = async {
        loop {
            let state = sagas.status(id).await.expect("it loads");
            if is_reached(&state) {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{id} does not reach its state"))
}

#[tokio::test]
async fn a_child_saga_runs_with_an_id_of_its_own_and_gives_its_output() {
    let shop = Shop::new();
    let sagas = start(&shop).await;
    let parcel = sagas.execute(&parent(), "1", &order(3)).await.expect("it completes");
    assert_eq!(parcel, "parcel of 1 for 3");
    let child = id("payment:parent:1/payment");
    let state = sagas.status(&child).await.expect("it loads");
    assert_eq!((state.phase(), state.parent()), (Phase::Completed, Some(&id("parent:1"))));
    assert_eq!(
        shop.events(&id("parent:1")).await,
        [
            "saga-created",
            "saga-step-succeeded",
            "saga-child-started",
            "saga-step-succeeded",
            "saga-step-started",
            "saga-step-succeeded",
            "saga-completed"
        ]
    );
    let details = sagas.admin().show(&id("parent:1")).await.expect("it loads").expect("it exists");
    assert_eq!(details.nodes[1].items[0].child, Some(child));
    assert!(details.to_string().contains("child sagas:\n    payment:parent:1/payment\n"), "{details}");
    assert_eq!(sagas.admin().unfinished(None, 9).await.expect("it reads"), []);
}

#[tokio::test]
async fn a_compensated_child_saga_turns_its_parent_back() {
    let shop = Shop::new();
    let refused = Some(shop::error(es_saga::ErrorClass::Terminal, "no money"));
    shop.provider.script([refused]);
    let sagas = start(&shop).await;
    let ended = sagas.execute(&parent(), "1", &order(3)).await;
    let Err(ExecuteSagaError::NotCompleted { phase, reason, .. }) = ended else { panic!("{ended:?}") };
    assert_eq!(phase, "compensated");
    assert!(reason.contains("\"payment:parent:1/payment\" is compensated") && reason.contains("no money"), "{reason}");
    assert_eq!((shop.reserved().await, shop.provider.balance()), (0, 0));
}

#[tokio::test]
async fn a_completed_child_saga_is_compensated_before_the_steps_on_which_it_depends() {
    let shop = Shop::new();
    let sagas = start(&shop).await;
    // Seven units cannot be shipped.
    let ended = sagas.execute(&parent(), "1", &order(7)).await;
    assert!(matches!(ended, Err(ExecuteSagaError::NotCompleted { phase: "compensated", .. })), "{ended:?}");
    assert_eq!((shop.reserved().await, shop.provider.balance()), (0, 0));
    let child = id("payment:parent:1/payment");
    assert_eq!(sagas.status(&child).await.expect("it loads").phase(), Phase::Compensated);
    let (parent, child) = (shop.events(&id("parent:1")).await, shop.events(&child).await);
    assert_eq!(
        parent[parent.len() - 4..],
        ["saga-undo-started", "saga-undo-succeeded", "saga-undo-succeeded", "saga-compensated"]
    );
    assert_eq!(
        child[child.len() - 4..],
        ["saga-cancelled", "saga-undo-started", "saga-undo-succeeded", "saga-compensated"]
    );
}

/// A step of the child is in progress when the parent is cancelled.
#[tokio::test]
async fn to_cancel_a_saga_cancels_its_child_saga_in_progress_first() {
    let shop = Shop::new();
    let busy = || Some(shop::error(es_saga::ErrorClass::Ambiguous, "timed out"));
    shop.provider.script([busy(), busy()]);
    let called = Arc::new(Notify::new());
    let notify = Arc::clone(&called);
    let coordinator = coordinator(&shop).test_hook(move |point| {
        if point.node == "pay" && point.place == HookPlace::AfterOutcome {
            notify.notify_one();
        }
        HookAction::Continue
    });
    let sagas = coordinator.start(Arc::clone(&shop.store)).await.expect("it starts");
    let saga = sagas.create(&parent(), "1", &order(3)).await.expect("it is created");
    called.notified().await;
    // It is refused if the saga has ended in the meantime.
    sagas.operate(&saga, SagaVerb::Cancel, note()).await.expect("it can be cancelled");
    until(&sagas, &saga, |state| state.phase() == Phase::Compensated).await;
    let child = sagas.status(&id("payment:parent:1/payment")).await.expect("it loads");
    assert_eq!(child.phase(), Phase::Compensated);
    assert_eq!((shop.reserved().await, shop.provider.balance()), (0, 0));
    let refused = sagas.operate(child.id(), SagaVerb::Restart { step: "pay".to_owned() }, note()).await;
    let Err(OperateError::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(
        refused.to_string(),
        "saga \"payment:parent:1/payment\" is a step of \"parent:1\", which has recorded its end; act on \"parent:1\""
    );
}

#[tokio::test]
async fn a_stuck_child_saga_makes_its_parent_wait_with_the_reason() {
    let shop = Shop::new();
    shop.provider.fail_refunds(3);
    let sagas = start(&shop).await;
    let saga = sagas.create(&parent(), "1", &order(7)).await.expect("it is created");
    let child = id("payment:parent:1/payment");
    let state = until(&sagas, &saga, |state| state.reason().is_some_and(|reason| reason.contains("stuck"))).await;
    let reason = "payment: child saga \"payment:parent:1/payment\" is stuck: pay: refund failed";
    assert_eq!((state.phase(), state.reason()), (Phase::Compensating, Some(reason)));
    assert_eq!(shop.reserved().await, 7, "the step before it is not undone yet");
    let listed = sagas.admin().list(None, 9).await.expect("it reads").sagas;
    let line = listed.iter().find(|listed| listed.id == saga).expect("it is listed").to_string();
    assert_eq!(line, format!("parent:1, version 1: compensating ({reason})"));
    let retry = SagaVerb::Retry { step: "pay".to_owned(), item: 0 };
    sagas.operate(&child, retry, note()).await.expect("it is stuck");
    until(&sagas, &saga, |state| state.phase() == Phase::Compensated).await;
    assert_eq!((shop.reserved().await, shop.provider.balance()), (0, 0));
}

#[tokio::test]
async fn to_kill_a_saga_kills_its_child_saga_and_a_killed_child_saga_makes_its_parent_stuck() {
    let shop = Shop::new();
    shop.provider.fail_refunds(3);
    let sagas = start(&shop).await;
    let saga = sagas.create(&parent(), "1", &order(7)).await.expect("it is created");
    let child = id("payment:parent:1/payment");
    until(&sagas, &child, |state| matches!(state.phase(), Phase::Stuck(_))).await;
    assert_eq!(sagas.operate(&saga, SagaVerb::Kill, note()).await.expect("it is unfinished"), Phase::Killed);
    assert_eq!(sagas.status(&child).await.expect("it loads").phase(), Phase::Killed);

    shop.provider.fail_refunds(3);
    let other = Ordered { product: 2, units: 7 };
    let saga = sagas.create(&parent(), "2", &other).await.expect("it is created");
    let child = id("payment:parent:2/payment");
    until(&sagas, &child, |state| matches!(state.phase(), Phase::Stuck(_))).await;
    sagas.operate(&child, SagaVerb::Kill, note()).await.expect("it is unfinished");
    let state = until(&sagas, &saga, |state| matches!(state.phase(), Phase::Stuck(_))).await;
    assert_eq!(state.nodes()[1].units[0].status, UnitStatus::UndoFailed);
    let skip = SagaVerb::Skip { step: "payment".to_owned(), item: 0, output: None };
    sagas.operate(&saga, skip, note()).await.expect("it is stuck");
    until(&sagas, &saga, |state| state.phase() == Phase::Compensated).await;
    assert_eq!(shop.reserved().await, 7, "the killed saga is not compensated");
}

#[tokio::test]
async fn a_crash_at_any_point_of_a_saga_with_a_child_saga_leaves_it_to_end_as_without_it() {
    let places = |node: &'static str| HookPlace::ALL.map(|place| (node, place));
    for units in [3, 7] {
        for at in places("payment").into_iter().chain(places("pay")).chain(places("reserve")) {
            for skipped in 0..2 {
                crash_at(units, at, skipped).await;
            }
        }
    }
}

/// Crashes when the point is reached after being passed `skipped` times: once forward, and once backward.
async fn crash_at(units: u64, at: (&'static str, HookPlace), skipped: u32) {
    let shop = Shop::new();
    let (crashed, passed) = (Arc::new(Notify::new()), std::sync::atomic::AtomicU32::new(0));
    let notify = Arc::clone(&crashed);
    let hooked = coordinator(&shop).lease(Duration::from_millis(60)).test_hook(move |point| {
        if (point.node, point.place) == at && passed.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == skipped {
            notify.notify_one();
            return HookAction::Crash;
        }
        HookAction::Continue
    });
    let sagas = hooked.start(Arc::clone(&shop.store)).await.expect("it starts");
    let saga = sagas.create(&parent(), "1", &order(units)).await.expect("it is created");
    tokio::select! {
        () = crashed.notified() => {}
        state = sagas.wait(&saga) => drop(state),
    }
    drop(sagas);
    let sagas = start(&shop).await;
    let state = tokio::time::timeout(PATIENCE, sagas.wait(&saga)).await.expect("it continues").expect("it loads");
    let (phase, held) = if units == 7 { (Phase::Compensated, 0) } else { (Phase::Completed, 3) };
    assert_eq!(state.phase(), phase, "{at:?} {skipped}: {:?}", state.reason());
    assert_eq!((shop.reserved().await, shop.provider.balance()), (held, held.try_into().expect("small")), "{at:?}");
    assert_eq!(sagas.admin().unfinished(None, 9).await.expect("it reads"), [], "{at:?}");
}

#[tokio::test]
async fn child_sagas_run_for_the_items_of_a_list_and_under_a_condition() {
    let shop = Shop::new();
    let one = Saga::<(Ordered, u64), u64>::define("one", 1, |saga, input| saga.step::<Pay>(input)).expect("valid");
    let each =
        Saga::<Vec<(Ordered, u64)>, Vec<u64>>::define("each", 1, |saga, list| saga.node("all").child_each(&one, list));
    let each = each.expect("it is valid");
    let maybe = Saga::<(Ordered, u64), ()>::define("maybe", 1, |saga, input| {
        let _ = saga.node("rich").child_if(&one, input, |(_, units)| *units > 5);
        saga.unit()
    });
    let maybe = maybe.expect("it is valid");
    let coordinator = shop.coordinator().saga(&each).saga(&maybe);
    let sagas = coordinator.start(Arc::clone(&shop.store)).await.expect("it starts");
    let list: Vec<(Ordered, u64)> = (1..=12).map(|units| (order(units), units)).collect();
    let output = sagas.execute(&each, "1", &list).await.expect("it completes");
    assert_eq!(output, (1..=12).collect::<Vec<_>>());
    assert_eq!(sagas.status(&id("one:each:1/all[11]")).await.expect("it loads").phase(), Phase::Completed);
    for (instance, units, phase) in [("1", 5, Phase::Missing), ("2", 6, Phase::Completed)] {
        sagas.execute(&maybe, instance, &(order(units), units)).await.expect("it completes");
        let child = id(&format!("one:maybe:{instance}/rich"));
        assert_eq!(sagas.status(&child).await.expect("it loads").phase(), phase);
    }
}

#[tokio::test]
async fn a_child_saga_without_steps_ends_at_once() {
    let shop = Shop::new();
    let empty = Saga::<u64, u64>::define("empty", 1, |_, input| input).expect("it is valid");
    let around = Saga::<u64, u64>::define("around", 1, |saga, input| saga.child(&empty, input)).expect("it is valid");
    let sagas = shop.coordinator().saga(&around).start(Arc::clone(&shop.store)).await.expect("it starts");
    let output = tokio::time::timeout(PATIENCE, sagas.execute(&around, "1", &7)).await.expect("it ends");
    assert_eq!(output.expect("it completes"), 7);
}

#[tokio::test]
async fn the_metadata_of_the_creation_is_on_all_events_and_on_those_of_child_sagas() {
    let shop = Shop::new();
    let sagas = start(&shop).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let admin = sagas.admin().clone().with_metadata(Metadata::new().with("traceparent", trace));
    let saga = admin.create(&parent(), "1", &order(3)).await.expect("it is created");
    tokio::time::timeout(PATIENCE, sagas.wait(&saga)).await.expect("it ends").expect("it loads");
    for id in [saga, id("payment:parent:1/payment")] {
        let stream = es_core::StreamId::of("saga", &id).expect("a stream");
        let read = shop.store.read_stream(es_core::StreamRead::new(stream)).await.expect("it reads");
        let events = read.collect().await.expect("it reads");
        assert!(events.len() > 3);
        for event in events {
            assert_eq!(event.data.metadata.get_str("traceparent"), Some(trace), "{}", event.data.event_type);
        }
    }
}

#[tokio::test]
async fn a_child_saga_with_the_name_of_another_saga_is_refused() {
    let shop = Shop::new();
    let other = Saga::<Ordered, u64>::define("payment", 2, |saga, order| {
        let stock = saga.local::<Reserve>(order);
        saga.step::<Pay>((order, stock))
    });
    let started = coordinator(&shop).saga(&other.expect("it is valid")).start(Arc::clone(&shop.store)).await;
    assert!(matches!(started, Err(es_saga::SagaStartError::Duplicate { kind: "saga", .. })), "{started:?}");
}
