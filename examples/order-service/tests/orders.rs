//! The rules of orders: given events, when a command, then events or a rejection.

use std::fmt::Debug;
use std::str::FromStr;

use es_core::Timestamp;
use es_core::testing::{Given, given, golden};
use order_service::domain::order::{Approve, Cancel, CompleteFulfilment, Deliver, Place, Remind, Ship};
use order_service::domain::{
    Destination, Invalid, Order, OrderEvent, OrderId, OrderLine, OrderLines, OrderLinesError, OrderRejection,
    OrderStatus, Reason,
};
use order_service::moment::Moment;

fn parsed<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("valid text")
}

fn id() -> OrderId {
    parsed("A-1")
}

fn day(text: &str) -> Timestamp {
    parsed::<Moment>(text).start()
}

fn lines(quantity: &str) -> OrderLines {
    let line = OrderLine {
        product: parsed("11"),
        unit_price: parsed("9.80"),
        quantity: parsed(quantity),
        discount: parsed("0.05"),
    };
    OrderLines::new(vec![line]).expect("one line is valid")
}

fn place() -> Place {
    let destination = Destination { city: None, country: Some(parsed("France")) };
    Place { customer: parsed("VINET"), destination, lines: lines("10") }
}

fn placed() -> OrderEvent {
    let Place { customer, destination, lines } = place();
    OrderEvent::Placed { customer, destination, lines }
}

fn cancelled() -> OrderEvent {
    OrderEvent::Cancelled { reason: parsed("ordered twice") }
}

fn cancel() -> Cancel {
    Cancel { reason: parsed("ordered twice") }
}

fn order(events: impl IntoIterator<Item = OrderEvent>) -> Given<Order> {
    given::<Order>(id(), events)
}

fn wrong_status(wanted: OrderStatus, found: OrderStatus) -> OrderRejection {
    OrderRejection::Status { id: id(), wanted, found }
}

#[test]
fn an_order_is_placed_approved_shipped_and_delivered() {
    order([]).when(place()).then([placed()]);
    order([placed()]).when(Approve).then([OrderEvent::Approved]);
    order([placed(), OrderEvent::Approved]).when(Ship).then([OrderEvent::Shipped]);
    order([placed(), OrderEvent::Approved, OrderEvent::Shipped]).when(Deliver).then([OrderEvent::Delivered]);
}

#[test]
fn a_repeated_command_produces_no_event() {
    order([placed()]).when(place()).then_unchanged();
    order([placed(), OrderEvent::Approved]).when(Approve).then_unchanged();
    order([placed(), OrderEvent::Approved]).when(place()).then_unchanged();
    order([placed(), cancelled()]).when(cancel()).then_unchanged();
}

#[test]
fn the_end_of_a_fulfilment_ships_an_order_as_far_as_it_is_not() {
    let (approved, shipped) = (OrderEvent::Approved, OrderEvent::Shipped);
    order([placed()]).when(CompleteFulfilment).then([approved.clone(), shipped.clone()]);
    order([placed(), approved.clone()]).when(CompleteFulfilment).then([shipped.clone()]);
    order([placed(), approved.clone(), shipped.clone()]).when(CompleteFulfilment).then_unchanged();
    order([placed(), approved, shipped, OrderEvent::Delivered]).when(CompleteFulfilment).then_unchanged();
    let rejection = wrong_status(OrderStatus::Shipped, OrderStatus::Cancelled);
    order([placed(), cancelled()]).when(CompleteFulfilment).then_rejected(rejection);
    order([]).when(CompleteFulfilment).then_rejected(OrderRejection::NotPlaced { id: id() });
}

#[test]
fn a_reminder_of_the_payment_is_recorded_whatever_the_status_is() {
    let is_reminded = |order: &Order| {
        let order = order.placed().expect("it is placed");
        assert!(order.reminded_at.is_some() && order.reached.len() == 1);
    };
    order([placed()]).when(Remind).then([OrderEvent::PaymentReminded]).then_state(is_reminded);
    order([placed(), cancelled()]).when(Remind).then([OrderEvent::PaymentReminded]);
    order([]).when(Remind).then_rejected(OrderRejection::NotPlaced { id: id() });
}

#[test]
fn an_id_cannot_be_reused_for_a_different_order() {
    let other = Place { lines: lines("11"), ..place() };
    order([placed()])
        .when(other)
        .then_rejected(OrderRejection::PlacedWithOtherContent { id: id(), difference: "lines" });
    let other = Place { customer: parsed("TOMSP"), ..place() };
    let rejection = OrderRejection::PlacedWithOtherContent { id: id(), difference: "customer" };
    order([placed()]).when(other).then_rejected(rejection);
}

#[test]
fn an_order_that_does_not_exist_rejects_commands() {
    order([]).when(Approve).then_rejected(OrderRejection::NotPlaced { id: id() });
    order([]).when(cancel()).then_rejected(OrderRejection::NotPlaced { id: id() });
}

#[test]
fn a_step_cannot_be_skipped_or_reversed() {
    use OrderStatus::{Approved, Cancelled, Delivered, Placed, Shipped};
    order([placed()]).when(Ship).then_rejected(wrong_status(Shipped, Placed));
    order([placed(), OrderEvent::Approved]).when(Deliver).then_rejected(wrong_status(Delivered, Approved));
    let shipped = [placed(), OrderEvent::Approved, OrderEvent::Shipped];
    order(shipped.clone()).when(Approve).then_rejected(wrong_status(Approved, Shipped));
    order(shipped).when(cancel()).then_rejected(wrong_status(Cancelled, Shipped));
    order([placed(), cancelled()]).when(Approve).then_rejected(wrong_status(Approved, Cancelled));
}

#[test]
fn an_order_can_be_cancelled_until_it_is_shipped() {
    let is_cancelled = |order: &Order| {
        let order = order.placed().unwrap();
        assert_eq!(order.status, OrderStatus::Cancelled);
        assert_eq!(order.cancelled_because.as_ref().map(Reason::as_str), Some("ordered twice"));
    };
    order([placed()]).when(cancel()).then([cancelled()]).then_state(is_cancelled);
    order([placed(), OrderEvent::Approved]).when(cancel()).then([cancelled()]).then_state(is_cancelled);
}

#[test]
fn a_step_cannot_be_dated_before_an_earlier_step() {
    let since = day("2016-07-10T17:30:00Z");
    let placed_on = || order([]).at(since).and([placed()]);
    placed_on().at(day("2016-07-10")).when(Approve).then([OrderEvent::Approved]);
    placed_on().at(day("2016-07-09")).when(Approve).then_rejected(OrderRejection::TooEarly {
        id: id(),
        wanted: OrderStatus::Approved,
        on: day("2016-07-09"),
        found: OrderStatus::Placed,
        since,
    });
}

#[test]
fn the_state_has_the_time_of_each_status() {
    let order = order([]).at(day("2016-07-04")).and([placed()]).at(day("2016-07-16")).and([OrderEvent::Approved]);
    let order = order.state().placed().unwrap();
    let reached: Vec<_> = order.reached.iter().map(|(status, at)| (*status, *at)).collect();
    assert_eq!(reached, [(OrderStatus::Placed, day("2016-07-04")), (OrderStatus::Approved, day("2016-07-16"))]);
}

#[test]
fn a_rejection_message_names_the_expected_and_the_current_status() {
    assert_eq!(
        wrong_status(OrderStatus::Shipped, OrderStatus::Placed).to_string(),
        "order A-1 cannot become shipped: expected status approved, found placed"
    );
    assert_eq!(
        wrong_status(OrderStatus::Cancelled, OrderStatus::Shipped).to_string(),
        "order A-1 cannot become cancelled: expected status placed or approved, found shipped"
    );
}

#[test]
fn an_order_has_at_least_one_line() {
    assert_eq!(OrderLines::new(Vec::new()), Err(OrderLinesError::Count { found: 0 }));
    assert!(serde_json::from_str::<OrderLines>("[]").is_err());
}

#[test]
fn every_version_of_every_event_can_be_read() {
    golden::check::<OrderEvent>(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/order"));
}

/// Limits apply to new commands. An event that an earlier version wrote stays readable, and a repeat is recognized.
#[test]
fn a_new_order_has_limits_and_a_stored_one_has_none() {
    let too_many = || Place { lines: lines("1000001"), ..place() };
    let rejection = |expected, found: &str| OrderRejection::Value(Invalid::new(expected, found));
    order([]).when(too_many()).then_rejected(rejection("a quantity of at most 1000000", "1000001"));
    let Place { customer, destination, lines } = too_many();
    order([OrderEvent::Placed { customer, destination, lines }]).when(too_many()).then_unchanged();
    let date = "a date from 1900-01-01 to 2199-12-31";
    order([]).at(day("9016-07-10")).when(place()).then_rejected(rejection(date, "9016-07-10"));
    order([placed()]).at(day("9016-07-10")).when(Approve).then_rejected(rejection(date, "9016-07-10"));
}
