//! Tests of a process manager without a store, in the given-when-then style.

#[expect(dead_code, reason = "other tests use the rest")]
mod payments;

use es_core::Timestamp;
use es_saga::process::Mismatch;
use es_saga::process::testing::{GivenProcess, given_process};
use payments::{Collection, CollectionEvent, CollectionSignal, DAY, Order, OrderEvent, Payment, PaymentEvent, Record};
use serde_json::json;

fn noon() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().expect("a time")
}

fn placed() -> GivenProcess<Collection> {
    given_process(Collection::new()).at(noon()).event::<Order>(&1, &OrderEvent::Placed { payment: 100 })
}

#[test]
fn an_order_starts_an_instance_with_its_timers_and_its_wait() {
    given_process(Collection::new())
        .at(noon())
        .when_event::<Order>(&1, &OrderEvent::Placed { payment: 100 })
        .then_running()
        .then_events([CollectionEvent::Opened { payment: 100 }])
        .then_command_count(0)
        .then_timer("reminder", noon() + DAY)
        .then_timer("deadline", noon() + 3 * DAY)
        .then_waits("check", |token| assert_eq!(token.to_string(), "collection:1/check/1"));
}

#[test]
fn a_payment_finds_its_instance_by_a_key() {
    placed()
        .when_event::<Payment>(&100, &PaymentEvent::Received { cents: 500 })
        .then_events([CollectionEvent::Received { cents: 500 }])
        .then_command_count(1)
        .then_executes::<Order, _>(&1, &Record(OrderEvent::Paid { cents: 500 }))
        .then_starts_saga("shipping:1")
        .then_no_timer("reminder")
        .then_no_timer("deadline")
        .then_state(|state| assert_eq!(state.cents, 500))
        .and()
        .when_event::<Order>(&1, &OrderEvent::Closed)
        .then_ended();
}

#[test]
fn events_that_do_not_fit_are_mismatches() {
    let received = || PaymentEvent::Received { cents: 5 };
    given_process(Collection::new()).when_event::<Payment>(&100, &received()).then_mismatch(Mismatch::NotStarted);
    given_process(Collection::new()).when_event::<Order>(&1, &OrderEvent::Closed).then_mismatch(Mismatch::NotStarted);
    placed()
        .when_event::<Order>(&1, &OrderEvent::Placed { payment: 101 })
        .then_mismatch(Mismatch::AlreadyStarted)
        .and()
        .event::<Order>(&1, &OrderEvent::Closed)
        .when_event::<Order>(&1, &OrderEvent::Closed)
        .then_mismatch(Mismatch::AlreadyEnded)
        .and()
        .when_event::<Payment>(&100, &received())
        .then_mismatch(Mismatch::NotStarted)
        .and()
        .when_event::<Order>(&1, &OrderEvent::Placed { payment: 102 })
        .then_mismatch(Mismatch::AlreadyEnded);
    placed().when_event::<Order>(&1, &OrderEvent::Noted).then_ignored();
}

#[test]
fn a_timer_fires_once_and_a_reaction_may_set_it_again() {
    placed()
        .when_timer(&1, "reminder")
        .then_executes::<Order, _>(&1, &Record(OrderEvent::Reminded))
        .then_timer("reminder", noon() + 2 * DAY)
        .and()
        .when_timer(&1, "reminder")
        .then_no_timer("reminder")
        .then_state(|state| assert_eq!(state.reminders, 2))
        .and()
        .when_timer(&1, "deadline")
        .then_executes::<Order, _>(&1, &Record(OrderEvent::Closed))
        .then_ended();
}

#[test]
#[should_panic(expected = "expected the timer \"nothing\" to be set")]
fn a_timer_that_is_not_set_does_not_fire() {
    let _ = placed().when_timer(&1, "nothing");
}

#[test]
fn a_signal_is_repeated_under_its_id_and_an_error_refuses_it() {
    let extend = CollectionSignal::Extend { days: 9 };
    placed()
        .when_signal(&1, "a", &extend)
        .then_timer("deadline", noon() + 9 * DAY)
        .then_no_timer("reminder")
        .and()
        .when_signal(&1, "a", &extend)
        .then_repeated()
        .and()
        .when_signal(&1, "a", &CollectionSignal::Extend { days: 1 })
        .then_refused("SignalIdReused")
        .and()
        .when_signal(&1, "b", &CollectionSignal::Extend { days: 0 })
        .then_refused("at least one day")
        .then_timer("deadline", noon() + 9 * DAY);
    given_process(Collection::new()).when_signal(&1, "a", &extend).then_refused("NotRunning");
    placed().when_signal(&1, "", &extend).then_refused("name of a signal");
}

#[test]
fn a_wait_is_completed_once_by_its_token() {
    let mut token = None;
    let given = placed().when_event::<Order>(&2, &OrderEvent::Placed { payment: 200 });
    let given = given.then_waits("check", |open| token = Some(open.clone())).and();
    let token = token.expect("it is open");
    given
        .when_completed(&token, &json!("good"))
        .then_events([CollectionEvent::Checked { result: "good".to_owned() }])
        .and()
        .when_completed(&token, &json!("bad"))
        .then_repeated()
        .and()
        .when_completed(&"collection:2/other/1".parse().expect("a token"), &json!("bad"))
        .then_refused("UnknownToken");
}

#[test]
fn an_error_and_a_panic_refuse_an_event() {
    let received = |cents| PaymentEvent::Received { cents };
    placed().when_event::<Payment>(&100, &received(13)).then_refused("unlucky");
    placed().when_event::<Payment>(&100, &received(666)).then_refused("the process panicked: a bug");
}
