//! The coordinator over the memory store: the order of commits and calls, failures, operators.

#[expect(dead_code, reason = "other tests use the rest")]
mod shop;

use std::sync::Arc;
use std::time::Duration;

use es_core::{Commit, EventType, ExpectedRevision, NewEvent, StreamId};
use es_saga::{
    CreateError, Direction, ErrorClass, ExecuteSagaError, HookAction, HookPlace, OperateError, OperatorNote, Phase,
    Saga, SagaId, SagaStartError, SagaVerb,
};
use shop::{PATIENCE, Pay, Ship, Shop, error, order};

fn note() -> OperatorNote {
    OperatorNote::new("ann", "a test")
}

#[tokio::test]
async fn a_saga_completes_with_one_commit_for_a_local_step_and_two_for_an_external_one() {
    let shop = Shop::new();
    let sagas = shop.start().await;
    let parcel = sagas.execute(&shop.saga, "1", &order(3)).await.expect("it completes");
    assert_eq!(parcel, "parcel of 1 for 3");
    assert_eq!((shop.reserved().await, shop.provider.balance()), (3, 3));
    let id = SagaId::new("fulfilment", 1).expect("an id");
    assert_eq!(
        shop.events(&id).await,
        [
            "saga-created",
            "saga-step-succeeded",
            "saga-step-started",
            "saga-step-succeeded",
            "saga-step-started",
            "saga-step-succeeded",
            "saga-completed"
        ]
    );
    let stock = shop.store.read_stream(es_core::StreamRead::new(StreamId::new("stock-1").expect("a name"))).await;
    let reserved = stock.expect("it reads").collect().await.expect("it reads").remove(0);
    assert_eq!((reserved.part.index, reserved.part.size), (0, 2), "the effect and the outcome are one commit");
    assert_eq!(sagas.admin().unfinished(None, 9).await.expect("it reads"), []);
    assert!(sagas.shutdown(PATIENCE).await);
}

#[tokio::test]
async fn a_refused_step_has_the_earlier_ones_undone_in_reverse_order() {
    let shop = Shop::new();
    let sagas = shop.start().await;
    let refused = sagas.execute(&shop.saga, "1", &order(7)).await;
    let Err(ExecuteSagaError::NotCompleted { phase, reason, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((phase, reason.as_str()), ("compensated", "step \"ship\" failed: unlucky number"));
    assert_eq!((shop.reserved().await, shop.provider.balance()), (0, 0));
    let events = shop.events(&SagaId::new("fulfilment", 1).expect("an id")).await;
    assert_eq!(
        events[events.len() - 4..],
        ["saga-undo-started", "saga-undo-succeeded", "saga-undo-succeeded", "saga-compensated"]
    );
}

#[tokio::test]
async fn a_rejection_of_the_domain_ends_the_saga_without_a_payment() {
    let shop = Shop::new();
    let sagas = shop.start().await;
    let refused = sagas.execute(&shop.saga, "1", &order(11)).await;
    assert!(matches!(refused, Err(ExecuteSagaError::NotCompleted { phase: "compensated", .. })), "{refused:?}");
    assert!(shop.provider.calls().is_empty());
}

#[tokio::test]
async fn retries_have_the_same_key_and_one_effect() {
    let shop = Shop::new();
    shop.provider.script([
        Some(error(ErrorClass::Ambiguous, "timed out")),
        Some(error(ErrorClass::Transient, "busy")),
        None,
    ]);
    let sagas = shop.start().await;
    sagas.execute(&shop.saga, "1", &order(2)).await.expect("the third attempt succeeds");
    let calls = shop.provider.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|key| *key == calls[0]));
    assert_eq!((shop.provider.effects(), shop.provider.balance()), (1, 2));
}

/// Restate's guide to sagas: the call times out after it has succeeded. (R31)
#[tokio::test]
async fn a_step_that_times_out_after_its_effect_is_undone() {
    let shop = Shop::new();
    let timed_out = || Some(error(ErrorClass::Ambiguous, "timed out"));
    shop.provider.script([timed_out(), timed_out(), timed_out()]);
    let sagas = shop.start().await;
    let refused = sagas.execute(&shop.saga, "1", &order(2)).await;
    assert!(matches!(refused, Err(ExecuteSagaError::NotCompleted { phase: "compensated", .. })), "{refused:?}");
    assert_eq!((shop.provider.effects(), shop.provider.balance()), (2, 0), "a payment and its refund");
    assert_eq!(shop.reserved().await, 0);
}

/// steno #26 and #138, omicron #5947: a failed undo stopped the recovery of all other sagas. (R28)
#[tokio::test]
async fn a_saga_whose_undo_fails_is_stuck_and_visible_and_others_complete() {
    let shop = Shop::new();
    shop.provider.fail_refunds(3);
    let sagas = shop.start().await;
    let refused = sagas.execute(&shop.saga, "1", &order(7)).await;
    let Err(ExecuteSagaError::NotCompleted { phase, reason, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((phase, reason.as_str()), ("stuck", "pay: refund failed"));
    sagas.execute(&shop.saga, "2", &order(1)).await.expect("the other saga is not stopped");
    let unfinished = sagas.admin().unfinished(None, 9).await.expect("it reads");
    assert_eq!(unfinished.iter().map(|saga| saga.id.instance()).collect::<Vec<_>>(), ["1"]);
    let id = unfinished[0].id.clone();
    sagas.operate(&id, SagaVerb::Retry { step: "pay".to_owned(), item: 0 }, note()).await.expect("it is stuck");
    let state = sagas.wait(&id).await.expect("it ends");
    assert_eq!((state.phase(), shop.provider.balance()), (Phase::Compensated, 1));
}

#[tokio::test]
async fn creating_a_saga_twice_has_no_effect_unless_its_input_differs() {
    let shop = Shop::new();
    let sagas = shop.start().await;
    sagas.execute(&shop.saga, "1", &order(2)).await.expect("it completes");
    sagas.execute(&shop.saga, "1", &order(2)).await.expect("it is completed");
    let other = sagas.create(&shop.saga, "1", &order(3)).await;
    assert!(matches!(other, Err(CreateError::Exists { .. })), "{other:?}");
    assert_eq!(shop.provider.balance(), 2);
}

#[tokio::test]
async fn a_saga_that_is_created_with_an_event_starts_only_if_the_event_is_written() {
    let shop = Shop::new();
    let sagas = shop.start().await;
    let placed = || NewEvent::json(EventType::new("order-placed").expect("a name"), "{}");
    let stream = StreamId::new("order-1").expect("a name");
    for instance in ["1", "2"] {
        let commit = Commit::to(&stream, ExpectedRevision::NoStream, [placed()]);
        let (_, commit) = sagas.admin().creation(commit, &shop.saga, instance, &order(1)).expect("it is valid");
        assert_eq!(shop.store.commit(commit).await.is_ok(), instance == "1");
    }
    let state = sagas.wait(&SagaId::new("fulfilment", 1).expect("an id")).await.expect("it ends");
    assert_eq!(state.phase(), Phase::Completed);
    let missing = sagas.status(&SagaId::new("fulfilment", 2).expect("an id")).await.expect("it loads");
    assert_eq!(missing.phase(), Phase::Missing);
}

#[tokio::test]
async fn a_completed_saga_can_be_compensated_later() {
    let shop = Shop::new();
    let sagas = shop.start().await;
    sagas.execute(&shop.saga, "1", &order(2)).await.expect("it completes");
    let id = SagaId::new("fulfilment", 1).expect("an id");
    sagas.compensate(&id, note()).await.expect("it is completed");
    assert_eq!(wait_for(&sagas, &id, Phase::Compensated).await, Phase::Compensated);
    assert_eq!((shop.reserved().await, shop.provider.balance()), (0, 0));
}

async fn wait_for(sagas: &es_saga::RunningSagas, id: &SagaId, phase: Phase) -> Phase {
    let reached = async {
        loop {
            let state = sagas.wait(id).await.expect("it loads");
            if state.phase() == phase {
                return state.phase();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("it reaches the phase")
}

#[tokio::test]
async fn a_paused_saga_starts_no_call_until_it_is_resumed() {
    let shop = Shop::new();
    let id = {
        let admin = es_saga::SagaAdmin::new(Arc::clone(&shop.store));
        let id = admin.create(&shop.saga, "1", &order(2)).await.expect("it is created");
        admin.operate(&id, SagaVerb::Pause, note()).await.expect("it runs");
        id
    };
    let sagas = shop.start().await;
    sagas.execute(&shop.saga, "2", &order(1)).await.expect("another saga is not paused");
    assert_eq!(shop.events(&id).await, ["saga-created", "saga-paused"]);
    sagas.operate(&id, SagaVerb::Resume, note()).await.expect("it is paused");
    assert_eq!(wait_for(&sagas, &id, Phase::Completed).await, Phase::Completed);
    let again = sagas.operate(&id, SagaVerb::Kill, note()).await;
    assert!(matches!(again, Err(OperateError::Refused(_))), "{again:?}");
}

#[tokio::test]
async fn a_coordinator_does_not_start_without_the_steps_of_its_sagas_and_names_them() {
    let shop = Shop::new();
    let coordinator = es_saga::SagaCoordinator::new().saga(&shop.saga).step(Ship(shop.provider.clone()));
    let Err(SagaStartError::MissingSteps { saga, steps }) = coordinator.start(Arc::clone(&shop.store)).await else {
        panic!("two steps are missing")
    };
    assert_eq!((saga.as_str(), steps), ("fulfilment", vec!["pay".to_owned(), "reserve".to_owned()]));
}

#[tokio::test]
async fn a_coordinator_does_not_start_with_unfinished_sagas_that_it_does_not_know_and_names_their_steps() {
    let shop = Shop::new();
    let admin = es_saga::SagaAdmin::new(Arc::clone(&shop.store));
    admin.create(&shop.saga, "1", &order(2)).await.expect("it is created");
    let coordinator = es_saga::SagaCoordinator::new().step(Pay(shop.provider.clone()));
    let Err(SagaStartError::UnknownSaga { saga, instance, steps }) = coordinator.start(Arc::clone(&shop.store)).await
    else {
        panic!("the saga is not registered")
    };
    assert_eq!((saga.as_str(), instance.as_str()), ("fulfilment", "fulfilment:1"));
    assert_eq!(steps, ["reserve", "ship"]);
}

/// omicron #10581: sagas of an old version ran on new code. (R30)
#[tokio::test]
async fn a_saga_of_another_version_is_quarantined_and_continues_with_its_own() {
    let shop = Shop::new();
    let admin = es_saga::SagaAdmin::new(Arc::clone(&shop.store));
    let id = admin.create(&shop.saga, "1", &order(2)).await.expect("it is created");
    let second = Saga::define("fulfilment", 2, |saga, order| {
        let stock = saga.local::<shop::Reserve>(order);
        let paid = saga.step::<Pay>((order, stock));
        saga.step::<Ship>((order, paid))
    });
    let newer = Shop { saga: second.expect("the graph is valid"), ..Shop::over(Arc::clone(&shop.store)) };
    let sagas = newer.start().await;
    let state = sagas.wait(&id).await.expect("it loads");
    assert_eq!(state.phase(), Phase::Running, "nothing was executed");
    let unfinished = sagas.admin().unfinished(None, 9).await.expect("it reads");
    let reason = unfinished[0].quarantine.clone().expect("it is quarantined");
    assert!(reason.contains("expected version 2") && reason.contains("found version 1"), "{reason}");
    sagas.execute(&newer.saga, "2", &order(1)).await.expect("other sagas run");
    assert!(sagas.shutdown(PATIENCE).await);
    let sagas = shop.start().await;
    assert_eq!(wait_for(&sagas, &id, Phase::Completed).await, Phase::Completed);
}

/// omicron #5948 and #10531, Dapr #9157: a saga that cannot be read stopped the others, or was tried in a hot loop.
/// (R29, R34)
#[tokio::test]
async fn a_saga_that_cannot_be_read_is_quarantined_once_and_can_be_abandoned() {
    let shop = Shop::new();
    let admin = es_saga::SagaAdmin::new(Arc::clone(&shop.store));
    let id = admin.create(&shop.saga, "1", &order(2)).await.expect("it is created");
    let stream = StreamId::of("saga", &id).expect("a stream");
    let unreadable = NewEvent::json(EventType::new("saga-step-succeeded").expect("a name"), r#"{"unit":true}"#);
    shop.store.commit(Commit::new().append(stream, unreadable)).await.expect("the store accepts any event");
    let sagas = shop.start().await;
    sagas.execute(&shop.saga, "2", &order(1)).await.expect("other sagas run");
    let unfinished = wait_for_quarantine(&sagas).await;
    assert!(unfinished.contains("cannot be read"), "{unfinished}");
    let head = shop.store.head().await.expect("it reads");
    for instance in 3..9 {
        sagas.execute(&shop.saga, &instance.to_string(), &order(0)).await.expect("other sagas run");
    }
    assert!(shop.provider.calls().len() == 7, "the saga was not executed");
    assert!(shop.store.head().await.expect("it reads") > head);
    let refused = sagas.operate(&id, SagaVerb::Resume, note()).await;
    assert!(matches!(refused, Err(OperateError::Load(_))), "{refused:?}");
    assert_eq!(sagas.operate(&id, SagaVerb::Abandon, note()).await.expect("it is quarantined"), Phase::Abandoned);
    assert_eq!(sagas.admin().unfinished(None, 9).await.expect("it reads"), []);
}

async fn wait_for_quarantine(sagas: &es_saga::RunningSagas) -> String {
    let found = async {
        loop {
            let unfinished = sagas.admin().unfinished(None, 9).await.expect("it reads");
            if let Some(reason) = unfinished.into_iter().find_map(|saga| saga.quarantine) {
                return reason;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("it is quarantined")
}

#[tokio::test]
async fn a_hook_fails_repeats_and_times_out_calls() {
    for (action, phase) in [
        (HookAction::Repeat, Phase::Completed),
        (HookAction::TimeOutAfterCall, Phase::Compensated),
        (HookAction::Fail(es_saga::StepFailure::new(ErrorClass::Terminal, "injected")), Phase::Compensated),
    ] {
        let shop = Shop::new();
        let injected = action.clone();
        let coordinator = shop.coordinator().test_hook(move |point| {
            let is_call = point.node == "pay" && point.direction == Direction::Forward;
            if is_call && point.place == HookPlace::BeforeCall { injected.clone() } else { HookAction::Continue }
        });
        let sagas = coordinator.start(Arc::clone(&shop.store)).await.expect("it starts");
        let id = sagas.create(&shop.saga, "1", &order(2)).await.expect("it is created");
        assert_eq!(sagas.wait(&id).await.expect("it ends").phase(), phase, "{action:?}");
        let balance = if phase == Phase::Completed { 2 } else { 0 };
        assert_eq!(
            (shop.provider.balance(), shop.reserved().await),
            (balance, 2 * u64::from(balance > 0)),
            "{action:?}"
        );
    }
}
