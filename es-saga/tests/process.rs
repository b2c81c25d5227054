//! Process managers over a store.

mod payments;

use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::Aggregate;
use es_core::model::{Clock, Metadata};
use es_core::schema::Event;
use es_core::store::memory::MemoryStore;
use es_core::store::transaction::{Prepared, TransactionEvent};
use es_core::{Commit, EventId, EventStore, NewEvent, StreamId};
use es_saga::process::{
    CompletionToken, OperateProcessError, ProcessEvent, ProcessId, ProcessJournal, ProcessManager, ProcessPhase,
    SignalError, SignalOutcome,
};
use es_saga::{OperatorNote, Phase, SagaCoordinator, SagaId};
use payments::{Collecting, Collection, CollectionSignal, DAY, Order, OrderEvent, PATIENCE, Ship, shipping, until};
use serde_json::json;

fn memory() -> Arc<dyn EventStore> {
    Arc::new(MemoryStore::new())
}

fn note() -> OperatorNote {
    OperatorNote::new("ada", "test")
}

fn id(instance: u64) -> ProcessId {
    ProcessId::new("collection", instance).expect("an id")
}

async fn journal(shop: &Collecting, instance: u64) -> ProcessJournal {
    shop.manager().admin().show(&id(instance)).await.expect("it loads")
}

#[tokio::test]
async fn a_process_starts_reminds_receives_starts_a_saga_and_ends() {
    let shop = Collecting::over(memory());
    let manager = shop.manager();
    let running = manager.start().await.expect("it starts");
    shop.place(1, 100).await;
    shop.settled(&running).await;
    shop.clock.advance(DAY);
    until(async || shop.order(1).await.contains(&OrderEvent::Reminded)).await;
    shop.pay(100, 500).await;
    shop.settled(&running).await;
    let view = manager.query(&1).await.expect("it loads");
    assert_eq!((view.state.reminders, view.state.cents), (1, 500));
    assert!(view.journal.timers().is_empty(), "{:?}", view.journal.timers());
    assert_eq!(view.journal.sagas(), [SagaId::new("shipping", 1).expect("an id")]);
    let placed = OrderEvent::Placed { payment: 100 };
    assert_eq!(shop.order(1).await, [placed, OrderEvent::Reminded, OrderEvent::Paid { cents: 500 }]);

    // The saga was created in the commit of the process, and a coordinator runs it.
    let sagas = SagaCoordinator::new().saga(&shipping()).step(Ship).start(Arc::clone(&shop.store)).await;
    let sagas = sagas.expect("it starts");
    let state = sagas.wait(&view.journal.sagas()[0]).await.expect("it loads");
    assert_eq!(state.phase(), Phase::Completed);

    shop.orders.execute(&1, payments::Record(OrderEvent::Closed)).await.expect("it is closed");
    shop.settled(&running).await;
    assert_eq!(journal(&shop, 1).await.phase(), ProcessPhase::Ended);
    assert!(manager.admin().unfinished("collection", None, 10).await.expect("it reads").is_empty());
    assert_eq!(manager.admin().processes(10).await.expect("it reads"), ["collection"]);
    assert!(running.shutdown(PATIENCE).await);
}

#[tokio::test]
async fn a_process_begins_with_the_next_event_by_default_and_continues_where_it_stopped() {
    let shop = Collecting::over(memory());
    let manager = ProcessManager::new(Collection::new(), Arc::clone(&shop.store)).poll(Duration::from_millis(5));
    shop.place(1, 100).await;
    let running = manager.start().await.expect("it starts");
    shop.place(2, 200).await;
    shop.settled(&running).await;
    assert!(running.shutdown(PATIENCE).await);
    shop.place(3, 300).await;
    let running = manager.start().await.expect("it starts");
    shop.settled(&running).await;
    let phases = [journal(&shop, 1).await.phase(), journal(&shop, 2).await.phase(), journal(&shop, 3).await.phase()];
    assert_eq!(phases, [ProcessPhase::Missing, ProcessPhase::Running, ProcessPhase::Running]);
}

#[tokio::test]
async fn strict_correlation_parks_events_that_do_not_fit_and_an_operator_retries_or_skips_them() {
    let shop = Collecting::over(memory());
    let manager = shop.manager();
    let admin = manager.admin();
    let running = manager.start().await.expect("it starts");
    // A payment that no process has the key of, and a second start.
    shop.pay(100, 5).await;
    shop.place(2, 200).await;
    shop.place(2, 201).await;
    shop.settled(&running).await;
    let parked = admin.parked("collection", None, 10).await.expect("it reads");
    let reasons: Vec<&str> = parked.iter().map(|parked| parked.reason.as_str()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("never started"), "{reasons:?}");
    assert!(reasons[1].contains("is running"), "{reasons:?}");
    assert_eq!(admin.parked("collection", Some(&parked[0].event), 10).await.expect("it reads"), parked[1..]);

    // The order comes later than its payment: the operator offers the payment again.
    shop.place(1, 100).await;
    shop.settled(&running).await;
    admin.retry_parked("collection", &parked[0].event, note()).await.expect("it is parked");
    until(async || shop.order(1).await.contains(&OrderEvent::Paid { cents: 5 })).await;
    admin.skip_parked("collection", &parked[1].event, note()).await.expect("it is parked");
    assert!(admin.parked("collection", None, 10).await.expect("it reads").is_empty());
    let skipped = admin.skipped("collection", None, 10).await.expect("it reads");
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].note, Some(note()));
    let gone = admin.retry_parked("collection", &parked[1].event, note()).await;
    assert!(matches!(gone, Err(OperateProcessError::NoParked { .. })), "{gone:?}");

    // The deadline closes the order and ends the process. The process then skips the event that it caused, by policy.
    shop.clock.advance(3 * DAY);
    until(async || shop.order(2).await.contains(&OrderEvent::Closed)).await;
    shop.settled(&running).await;
    assert_eq!(journal(&shop, 2).await.phase(), ProcessPhase::Ended);
    assert_eq!(admin.skipped("collection", None, 10).await.expect("it reads").len(), 2);
    assert!(admin.parked("collection", None, 10).await.expect("it reads").is_empty());
}

#[tokio::test]
async fn a_signal_is_handled_once_for_each_id() {
    let shop = Collecting::over(memory());
    let manager = shop.manager();
    let running = manager.start().await.expect("it starts");
    let extend = CollectionSignal::Extend { days: 9 };
    let missing = manager.signal(&1, "a", &extend).await;
    assert!(matches!(missing, Err(SignalError::NotRunning { phase: "missing", .. })), "{missing:?}");
    shop.place(1, 100).await;
    shop.settled(&running).await;
    assert_eq!(manager.signal(&1, "a", &extend).await.expect("it reacts"), SignalOutcome::Handled);
    let after = journal(&shop, 1).await;
    shop.clock.advance(Duration::from_secs(60));
    assert_eq!(manager.signal(&1, "a", &extend).await.expect("it reacts"), SignalOutcome::Repeated);
    assert_eq!(journal(&shop, 1).await, after, "a repeated signal changes nothing");
    let reused = manager.signal(&1, "a", &CollectionSignal::Extend { days: 1 }).await;
    assert!(matches!(reused, Err(SignalError::IdReused { .. })), "{reused:?}");
    let refused = manager.signal(&1, "b", &CollectionSignal::Extend { days: 0 }).await;
    assert!(matches!(refused, Err(SignalError::Refused { .. })), "{refused:?}");
    assert_eq!(journal(&shop, 1).await, after, "a refused signal changes nothing");
    assert_eq!(after.quarantine(), None);
}

#[tokio::test]
async fn two_senders_of_one_signal_have_one_effect() {
    let shop = Arc::new(Collecting::over(memory()));
    let running = shop.manager().start().await.expect("it starts");
    shop.place(1, 100).await;
    shop.settled(&running).await;
    let send = |shop: Arc<Collecting>| async move {
        shop.manager().signal(&1, "a", &CollectionSignal::Extend { days: 9 }).await.expect("it reacts")
    };
    let senders: Vec<_> = (0..8).map(|_| tokio::spawn(send(Arc::clone(&shop)))).collect();
    let mut handled = 0;
    for sender in senders {
        handled += usize::from(sender.await.expect("no panic") == SignalOutcome::Handled);
    }
    assert_eq!(handled, 1);
}

#[tokio::test]
async fn a_wait_is_completed_from_outside_by_its_token_once() {
    let shop = Collecting::over(memory());
    let manager = shop.manager();
    let running = manager.start().await.expect("it starts");
    shop.place(1, 100).await;
    shop.settled(&running).await;
    let token = journal(&shop, 1).await.waits()[0].clone();
    assert_eq!(token.to_string(), "collection:1/check/1");
    let refused = manager.complete(&token, &json!(1)).await;
    assert!(matches!(refused, Err(SignalError::Refused { .. })), "{refused:?}");
    assert_eq!(manager.complete(&token, &json!("good")).await.expect("it reacts"), SignalOutcome::Handled);
    assert_eq!(manager.complete(&token, &json!("bad")).await.expect("it reacts"), SignalOutcome::Repeated);
    assert_eq!(manager.query(&1).await.expect("it loads").state.checks, ["good"]);
    let other: CompletionToken = "collection:1/check/2".parse().expect("a token");
    let unknown = manager.complete(&other, &json!("good")).await;
    assert!(matches!(unknown, Err(SignalError::UnknownToken { .. })), "{unknown:?}");
    let foreign: CompletionToken = "order:1/check/1".parse().expect("a token");
    let unknown = manager.complete(&foreign, &json!("good")).await;
    assert!(matches!(unknown, Err(SignalError::Id(_))), "{unknown:?}");
}

/// A bug of the process, a panic, and a command that is rejected, each in one instance.
#[tokio::test]
async fn an_instance_that_fails_is_quarantined_with_its_events_and_others_continue() {
    let shop = Collecting::over(memory());
    let manager = shop.manager();
    let admin = manager.admin();
    let running = manager.start().await.expect("it starts");
    for order in 1..=4 {
        shop.place(order, order * 100).await;
    }
    shop.settled(&running).await;
    shop.pay(100, 13).await;
    shop.pay(200, 666).await;
    // The event that closes the order comes after the payment, so the order rejects the command of the process.
    running.shutdown(PATIENCE).await;
    shop.pay(300, 5).await;
    shop.orders.execute(&3, payments::Record(OrderEvent::Closed)).await.expect("it is closed");
    let running = manager.start().await.expect("it starts");
    shop.pay(400, 5).await;
    shop.pay(100, 7).await;
    shop.settled(&running).await;
    assert!(shop.order(4).await.contains(&OrderEvent::Paid { cents: 5 }), "the others continue");
    let listed = admin.unfinished("collection", None, 10).await.expect("it reads");
    let quarantined: Vec<_> = listed.into_iter().filter(|process| process.quarantine.is_some()).collect();
    assert_eq!(admin.quarantined("collection", None, 10).await.expect("it reads"), quarantined);
    let rest = admin.quarantined("collection", quarantined.first(), 1).await.expect("it reads");
    assert_eq!(rest, quarantined[1..2]);
    assert_eq!(admin.quarantined("a:b", None, 10).await.expect("it reads"), []);
    let reasons: Vec<&str> = quarantined.iter().filter_map(|process| process.quarantine.as_deref()).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("unlucky"), "{reasons:?}");
    assert!(reasons[1].contains("panicked: a bug"), "{reasons:?}");
    assert!(reasons[2].contains("the order is closed"), "{reasons:?}");
    let first = journal(&shop, 1).await;
    assert_eq!(first.pending().len(), 2, "the event that failed and the later one");
    let signal = manager.signal(&1, "a", &CollectionSignal::Extend { days: 9 }).await;
    assert!(matches!(signal, Err(SignalError::Quarantined { .. })), "{signal:?}");
    // Its timers do not fire while it is quarantined.
    shop.clock.advance(DAY);
    until(async || shop.order(4).await.len() == 2 && running.is_active()).await;
    assert!(!shop.order(1).await.contains(&OrderEvent::Reminded));

    // A retry without a fix quarantines it again, with the same events.
    admin.retry(&id(1), note()).await.expect("it is quarantined");
    until(async || journal(&shop, 1).await.quarantine().is_some()).await;
    assert_eq!(journal(&shop, 1).await.pending().len(), 2);
    // The fixed program handles both, in order.
    running.shutdown(PATIENCE).await;
    let fixed = shop.manager_of(Collection { is_fixed: true, ..Collection::new() });
    let running = fixed.start().await.expect("it starts");
    admin.drop_pending(&id(2), note()).await.expect("it is quarantined");
    until(async || journal(&shop, 2).await.quarantine().is_none()).await;
    admin.abandon(&id(3), note()).await.expect("it has not ended");
    assert_eq!(journal(&shop, 3).await.phase(), ProcessPhase::Abandoned);
    admin.retry(&id(1), note()).await.expect("it is quarantined");
    until(async || journal(&shop, 1).await.pending().len() == 1).await;
    until(async || journal(&shop, 1).await.quarantine().is_some()).await;
    let reason = journal(&shop, 1).await.quarantine().map(ToOwned::to_owned).unwrap_or_default();
    assert!(reason.contains("\"shipping:1\" exists"), "the second payment starts the saga again: {reason}");
    assert_eq!(fixed.query(&1).await.expect("it loads").state.cents, 13);
    drop(running);
}

#[tokio::test]
async fn operators_act_on_quarantined_instances_only_and_their_actions_are_events() {
    let shop = Collecting::over(memory());
    let manager = shop.manager();
    let admin = manager.admin();
    let running = manager.start().await.expect("it starts");
    shop.place(1, 100).await;
    shop.settled(&running).await;
    let refused = admin.retry(&id(1), note()).await;
    assert!(matches!(refused, Err(OperateProcessError::NotQuarantined { .. })), "{refused:?}");
    let refused = admin.drop_pending(&id(1), note()).await;
    assert!(matches!(refused, Err(OperateProcessError::NotQuarantined { .. })), "{refused:?}");
    // Dropping an event of an instance that does not exist was refused as for one that is not quarantined.
    for refused in [
        admin.retry(&id(7), note()).await,
        admin.drop_pending(&id(7), note()).await,
        admin.abandon(&id(7), note()).await,
    ] {
        assert!(matches!(refused, Err(OperateProcessError::NoProcess { .. })), "{refused:?}");
    }
    // The futures of the actions were not `Send`, so no handler of a server could await them.
    let spawned = admin.clone();
    let retried = tokio::spawn(async move { spawned.retry(&id(7), note()).await });
    assert!(retried.await.expect("it does not panic").is_err());
    let spawned = admin.clone();
    let dropped = tokio::spawn(async move { spawned.drop_pending(&id(7), note()).await });
    assert!(dropped.await.expect("it does not panic").is_err());
    let spawned = admin.clone();
    let abandoned = tokio::spawn(async move { spawned.abandon(&id(1), note()).await });
    abandoned.await.expect("it does not panic").expect("it has not ended");
    let refused = admin.abandon(&id(1), note()).await;
    assert!(matches!(refused, Err(OperateProcessError::HasEnded { .. })), "{refused:?}");
    // Its key is free again.
    shop.place(2, 100).await;
    shop.settled(&running).await;
    assert_eq!(journal(&shop, 2).await.keys().len(), 1);
    use es_core::{Aggregate, Event, StreamRead};
    let stream = ProcessJournal::stream(&id(1)).expect("a name");
    let events = shop.store.read_stream(StreamRead::new(stream)).await.expect("it reads").collect().await;
    let last = events.expect("it reads").pop().expect("an event");
    let decoded = ProcessEvent::decode((&last).into()).expect("it decodes").into_vec();
    assert_eq!(decoded, [ProcessEvent::Abandoned(note())]);
}

/// An event of the state that the program cannot read, as after a downgrade.
#[tokio::test]
async fn an_unreadable_instance_is_quarantined_and_others_continue() {
    use es_core::{Commit, EventType, ExpectedRevision, NewEvent, StreamId};
    let shop = Collecting::over(memory());
    let manager = shop.manager();
    let running = manager.start().await.expect("it starts");
    shop.place(1, 100).await;
    shop.place(2, 200).await;
    shop.settled(&running).await;
    for stream in ["collection-1", "process-collection:2"] {
        let unknown = NewEvent::json(EventType::new("from-the-future").expect("a name"), "{}");
        let stream = StreamId::new(stream).expect("a name");
        shop.store.commit(Commit::to(&stream, ExpectedRevision::Any, [unknown])).await.expect("it is written");
    }
    shop.pay(100, 5).await;
    shop.pay(200, 5).await;
    shop.place(3, 300).await;
    shop.pay(300, 5).await;
    shop.settled(&running).await;
    assert!(shop.order(3).await.contains(&OrderEvent::Paid { cents: 5 }));
    let listed = manager.admin().unfinished("collection", None, 10).await.expect("it reads");
    let reasons: Vec<&str> = listed.iter().filter_map(|process| process.quarantine.as_deref()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons.iter().all(|reason| reason.contains("it cannot be read")), "{reasons:?}");
    // Its journal cannot be read, and an operator can still end it.
    manager.admin().abandon(&id(2), note()).await.expect("it has not ended");
    let listed = manager.admin().unfinished("collection", None, 10).await.expect("it reads");
    assert!(listed.iter().all(|process| process.id != id(2)), "{listed:?}");
}

#[tokio::test]
async fn a_clock_that_jumps_fires_each_timer_once_and_one_that_is_set_back_fires_none_early() {
    let shop = Collecting::over(memory());
    let manager = shop.manager();
    let running = manager.start().await.expect("it starts");
    shop.place(1, 100).await;
    shop.settled(&running).await;
    shop.clock.set("2026-01-01T00:00:00Z".parse().expect("a time"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(shop.order(1).await.len(), 1, "no timer fires early");
    // The jump passes the reminder and the deadline: each fires once, in order, and the second reminder not at all.
    shop.clock.set("2126-01-01T00:00:00Z".parse().expect("a time"));
    until(async || journal(&shop, 1).await.phase() == ProcessPhase::Ended).await;
    shop.clock.set("2027-01-01T00:00:00Z".parse().expect("a time"));
    shop.clock.set("2226-01-01T00:00:00Z".parse().expect("a time"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    shop.settled(&running).await;
    assert_eq!(shop.order(1).await, [OrderEvent::Placed { payment: 100 }, OrderEvent::Reminded, OrderEvent::Closed]);
}

/// Prepares an event of an order in a distributed transaction, which locks it.
async fn lock(shop: &Collecting, order: u64) -> Prepared {
    let transaction = "head.1.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11".parse().expect("an id");
    let event = OrderEvent::Noted.encode().expect("it is encoded").into_data(EventId::new());
    let prepared = Prepared { transaction, details: json!({}), events: vec![NewEvent::from(event)] };
    let commit = Commit::new().append(order_stream(order), prepared.events[0].clone());
    let commit = commit.prepare(&prepared.transaction, &prepared.details).expect("it is encoded");
    shop.store.commit(commit).await.expect("it is prepared");
    prepared
}

/// Aborts a transaction that locks an order.
async fn unlock(shop: &Collecting, order: u64, prepared: &Prepared) {
    let aborted = TransactionEvent::Aborted { transaction: prepared.transaction.clone(), is_heuristic: false };
    let commit = prepared.finish(&order_stream(order), &aborted, Metadata::new(), Commit::new());
    shop.store.commit(commit.expect("it is encoded")).await.expect("it is aborted");
}

fn order_stream(order: u64) -> StreamId {
    Order::stream(&order).expect("a name")
}

/// Lets time pass until a condition holds. The instance is never quarantined in the meantime.
async fn until_later(shop: &Collecting, instance: u64, condition: impl AsyncFn() -> bool) {
    until(async || {
        shop.clock.advance(Duration::from_millis(500));
        assert_eq!(journal(shop, instance).await.quarantine(), None);
        condition().await
    })
    .await;
}

/// Regression: a distributed transaction that locked an aggregate for more than five seconds had the instance that
/// commanded it quarantined, until an operator retried it.
#[tokio::test]
async fn an_instance_waits_for_the_end_of_a_transaction_that_locks_an_aggregate() {
    let shop = Collecting::over(memory());
    let running = shop.manager().start().await.expect("it starts");
    shop.place(1, 100).await;
    shop.place(2, 200).await;
    shop.settled(&running).await;
    // An event: it becomes pending, once.
    let prepared = lock(&shop, 1).await;
    shop.pay(100, 5).await;
    until_later(&shop, 1, async || journal(&shop, 1).await.pending().len() == 1).await;
    let written = shop.store.head().await.expect("it reads");
    let start = shop.clock.now();
    until_later(&shop, 1, async || shop.clock.now() > start + Duration::from_secs(20)).await;
    assert_eq!(shop.store.head().await.expect("it reads"), written, "a lock that lasts writes nothing more");
    unlock(&shop, 1, &prepared).await;
    until_later(&shop, 1, async || shop.order(1).await.contains(&OrderEvent::Paid { cents: 5 })).await;
    // A timer: it stays, and fires after the end of the transaction.
    let prepared = lock(&shop, 2).await;
    shop.clock.advance(DAY);
    let start = shop.clock.now();
    until_later(&shop, 2, async || shop.clock.now() > start + Duration::from_secs(20)).await;
    unlock(&shop, 2, &prepared).await;
    until_later(&shop, 2, async || shop.order(2).await.contains(&OrderEvent::Reminded)).await;
}

#[tokio::test]
async fn timers_survive_a_restart() {
    let shop = Collecting::over(memory());
    let running = shop.manager().start().await.expect("it starts");
    shop.place(1, 100).await;
    shop.settled(&running).await;
    assert!(running.shutdown(PATIENCE).await);
    shop.clock.advance(DAY);
    let _running = shop.manager().start().await.expect("it starts");
    until(async || shop.order(1).await.contains(&OrderEvent::Reminded)).await;
}

#[tokio::test]
async fn two_programs_with_one_process_handle_each_input_once_and_one_takes_over() {
    let shop = Collecting::over(memory());
    let manager = shop.manager().lease(Duration::from_millis(300));
    let first = manager.start().await.expect("it starts");
    until(async || first.is_active()).await;
    let second = manager.start().await.expect("it starts");
    for order in 1..=20 {
        shop.place(order, order).await;
        shop.pay(order, 5).await;
    }
    shop.settled(&first).await;
    assert!(!second.is_active());
    drop(first); // Like a crash.
    shop.clock.advance(Duration::from_secs(1));
    shop.place(21, 21).await;
    shop.pay(21, 5).await;
    let head = shop.store.head().await.expect("it reads");
    second.wait_for(head, PATIENCE).await.expect("it takes over");
    for order in 1..=21 {
        let paid = shop.order(order).await.into_iter().filter(|event| *event == OrderEvent::Paid { cents: 5 });
        assert_eq!(paid.count(), 1, "order {order}");
    }
}
