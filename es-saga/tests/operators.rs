//! What operators do with sagas through a running coordinator.

#[expect(dead_code, reason = "other tests use the rest")]
mod shop;

use std::time::Duration;

use es_saga::{ErrorClass, OperatorNote, Phase, RunningSagas, SagaCursor, SagaId, SagaVerb};
use serde_json::json;
use shop::{PATIENCE, Shop, error, order};

fn note() -> OperatorNote {
    OperatorNote::new("ann", "a test")
}

async fn ended(sagas: &RunningSagas, id: &SagaId, phase: Phase) {
    let reached = async {
        while sagas.status(id).await.expect("it loads").phase() != phase {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{id} is not {phase:?}"));
}

#[tokio::test]
async fn a_compensated_saga_is_restarted_from_a_step_under_new_keys() {
    let shop = Shop::new();
    shop.provider.script([Some(error(ErrorClass::Terminal, "no money"))]);
    let sagas = shop.start().await;
    let id = sagas.create(&shop.saga, "1", &order(2)).await.expect("it is created");
    ended(&sagas, &id, Phase::Compensated).await;
    let first = shop.provider.calls();
    let restart = SagaVerb::Restart { step: "pay".to_owned() };
    assert_eq!(sagas.operate(&id, restart, note()).await.expect("it is compensated"), Phase::Running);
    ended(&sagas, &id, Phase::Completed).await;
    assert_eq!((shop.reserved().await, shop.provider.balance()), (2, 2));
    let calls = shop.provider.calls();
    assert!(calls.len() == 2 && calls[0] == first[0] && calls[1] != first[0], "{calls:?}");
}

#[tokio::test]
async fn a_stuck_saga_continues_with_the_output_of_a_skipped_undo_and_a_killed_one_keeps_its_effects() {
    let shop = Shop::new();
    shop.provider.fail_refunds(3);
    let sagas = shop.start().await;
    let skipped = sagas.create(&shop.saga, "1", &order(7)).await.expect("it is created");
    let state = sagas.wait(&skipped).await.expect("it is stuck");
    assert_eq!(state.phase().name(), "stuck");
    let skip = SagaVerb::Skip { step: "pay".to_owned(), item: 0, output: Some(json!(null)) };
    sagas.operate(&skipped, skip, note()).await.expect("it is stuck");
    ended(&sagas, &skipped, Phase::Compensated).await;
    assert_eq!((shop.reserved().await, shop.provider.balance()), (0, 7), "the payment was not given back");

    shop.provider.fail_refunds(3);
    let killed = sagas.create(&shop.saga, "2", &order(7)).await.expect("it is created");
    assert_eq!(sagas.wait(&killed).await.expect("it is stuck").phase().name(), "stuck");
    assert_eq!(sagas.operate(&killed, SagaVerb::Kill, note()).await.expect("it is stuck"), Phase::Killed);
    assert_eq!(shop.reserved().await, 7);
    let events = shop.events(&killed).await;
    assert_eq!(events.last().map(String::as_str), Some("saga-killed"));
    assert_eq!(sagas.admin().unfinished(None, 9).await.expect("it reads"), []);
}

#[tokio::test]
async fn unfinished_sagas_are_listed_in_pages_with_a_cursor_that_a_client_sends_back() {
    let shop = Shop::new();
    let admin = es_saga::SagaAdmin::new(std::sync::Arc::clone(&shop.store));
    for instance in 0..25 {
        let id = admin.create(&shop.saga, &instance.to_string(), &order(1)).await.expect("it is created");
        if instance == 7 {
            admin.operate(&id, SagaVerb::Pause, note()).await.expect("it runs");
        }
    }
    let (mut found, mut cursor) = (Vec::new(), None::<SagaCursor>);
    loop {
        let page = admin.list(cursor.as_ref(), 4).await.expect("it reads");
        assert!(page.sagas.len() <= 4);
        found.extend(page.sagas);
        let Some(next) = page.next else { break };
        let text = serde_json::to_string(&next).expect("it is JSON");
        cursor = Some(serde_json::from_str(&text).expect("it is a cursor"));
    }
    let mut instances: Vec<u64> = found.iter().map(|saga| saga.id.instance().parse().expect("a number")).collect();
    instances.sort_unstable();
    assert_eq!(instances, (0..25).collect::<Vec<_>>());
    let paused: Vec<_> = found.iter().filter(|saga| saga.is_paused).map(|saga| saga.id.instance()).collect();
    assert_eq!(paused, ["7"]);
    assert!("x".parse::<SagaCursor>().is_err() && "1:".parse::<SagaCursor>().is_err());
    assert_eq!(admin.show(&"fulfilment:99".parse().expect("an id")).await.expect("it loads"), None);
}
