//! The rules of products.

use std::fmt::Debug;
use std::str::FromStr;

use es_core::testing::{given, golden};
use order_service::domain::product::{
    MoveIn, MoveOut, Receive, Register, ReleaseItems, ReserveItems, ShipItems, Withdraw,
};
use order_service::domain::{Invalid, OrderId, Product, ProductEvent, ProductId, ProductRejection, Quantity};

fn parsed<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("valid text")
}

fn id() -> ProductId {
    parsed("11")
}

fn items(quantity: u32) -> Quantity {
    parsed(&quantity.to_string())
}

fn register() -> Register {
    Register { name: parsed("Tofu"), unit_price: parsed("23.25"), stock: 35.into() }
}

fn registered() -> ProductEvent {
    let Register { name, unit_price, stock } = register();
    ProductEvent::Registered { name, unit_price, stock }
}

#[test]
fn a_product_is_registered_once() {
    given::<Product>(id(), []).when(register()).then([registered()]);
    given::<Product>(id(), [registered()]).when(register()).then_unchanged();
    let received = ProductEvent::Received { quantity: items(5) };
    given::<Product>(id(), [registered(), received]).when(register()).then_unchanged();
    let other = Register { name: parsed("Smoked tofu"), ..register() };
    let rejection = ProductRejection::RegisteredWithOtherContent { id: id(), difference: "name" };
    given::<Product>(id(), [registered()]).when(other).then_rejected(rejection);
}

#[test]
fn receive_and_withdraw_change_the_stock() {
    let receive = Receive { quantity: items(5) };
    let received = ProductEvent::Received { quantity: items(5) };
    let stock = |expected: u64| move |product: &Product| assert_eq!(product.registered().unwrap().stock, expected);
    given::<Product>(id(), [registered()]).when(receive).then([received.clone()]).then_state(stock(40));
    let withdrawn = ProductEvent::Withdrawn { quantity: items(40) };
    given::<Product>(id(), [registered(), received])
        .when(Withdraw { quantity: items(40) })
        .then([withdrawn])
        .then_state(stock(0));
}

#[test]
fn a_withdrawal_beyond_the_stock_is_rejected() {
    let wanted = items(36);
    let short = ProductRejection::InsufficientStock { id: id(), wanted, found: 35 };
    given::<Product>(id(), [registered()]).when(Withdraw { quantity: wanted }).then_rejected(short);
}

#[test]
fn a_move_changes_the_stock_of_both_products() {
    let (other, quantity) = (parsed::<ProductId>("42"), items(5));
    let stock = |expected: u64| move |product: &Product| assert_eq!(product.registered().unwrap().stock, expected);
    let (out, moved_out) =
        (MoveOut { quantity, to: other.clone() }, ProductEvent::MovedOut { quantity, to: other.clone() });
    given::<Product>(id(), [registered()]).when(out).then([moved_out]).then_state(stock(30));
    let (into, moved_in) =
        (MoveIn { quantity, from: other.clone() }, ProductEvent::MovedIn { quantity, from: other.clone() });
    given::<Product>(id(), [registered()]).when(into).then([moved_in]).then_state(stock(40));
    let short = ProductRejection::InsufficientStock { id: id(), wanted: items(36), found: 35 };
    let too_many = MoveOut { quantity: items(36), to: other.clone() };
    given::<Product>(id(), [registered()]).when(too_many).then_rejected(short);
    let same = ProductRejection::SameProduct { id: id() };
    given::<Product>(id(), [registered()]).when(MoveOut { quantity, to: id() }).then_rejected(same.clone());
    given::<Product>(id(), [registered()]).when(MoveIn { quantity, from: id() }).then_rejected(same);
    let unknown = ProductRejection::NotRegistered { id: id() };
    given::<Product>(id(), []).when(MoveIn { quantity, from: other }).then_rejected(unknown);
}

#[test]
fn reserved_items_leave_the_stock_and_are_released_or_shipped() {
    let (order, quantity) = (parsed::<OrderId>("A-1"), items(5));
    let stock = |expected: u64| move |product: &Product| assert_eq!(product.registered().unwrap().stock, expected);
    let reserve = ReserveItems { quantity, order: order.clone() };
    let reserved = ProductEvent::Reserved { quantity, order: order.clone() };
    given::<Product>(id(), [registered()]).when(reserve.clone()).then([reserved.clone()]).then_state(stock(30));
    given::<Product>(id(), [registered(), reserved.clone()]).when(reserve).then_unchanged();
    let released = ProductEvent::Released { quantity, order: order.clone() };
    let release = ReleaseItems { order: order.clone() };
    given::<Product>(id(), [registered(), reserved.clone()])
        .when(release.clone())
        .then([released.clone()])
        .then_state(stock(35));
    given::<Product>(id(), [registered(), reserved.clone(), released.clone()]).when(release).then_unchanged();
    let shipped = ProductEvent::Shipped { quantity, order: order.clone() };
    let ship = ShipItems { order: order.clone() };
    given::<Product>(id(), [registered(), reserved.clone()]).when(ship.clone()).then([shipped]).then_state(stock(30));
    let not_reserved = ProductRejection::NotReserved { id: id(), order };
    given::<Product>(id(), [registered(), reserved, released]).when(ship).then_rejected(not_reserved);
}

#[test]
fn a_reservation_beyond_the_stock_or_with_another_quantity_is_rejected() {
    let order = || parsed::<OrderId>("A-1");
    let short = ProductRejection::InsufficientStock { id: id(), wanted: items(36), found: 35 };
    let reserve = |quantity| ReserveItems { quantity, order: order() };
    given::<Product>(id(), [registered()]).when(reserve(items(36))).then_rejected(short);
    let reserved = ProductEvent::Reserved { quantity: items(35), order: order() };
    let (wanted, found) = (items(1), items(35));
    let other = ProductRejection::ReservedOtherQuantity { id: id(), order: order(), wanted, found };
    given::<Product>(id(), [registered(), reserved.clone()]).when(reserve(wanted)).then_rejected(other);
    let short = ProductRejection::InsufficientStock { id: id(), wanted, found: 0 };
    given::<Product>(id(), [registered(), reserved])
        .when(ReserveItems { quantity: wanted, order: parsed("A-2") })
        .then_rejected(short);
}

#[test]
fn an_unregistered_product_rejects_stock_changes() {
    let rejection = ProductRejection::NotRegistered { id: id() };
    given::<Product>(id(), []).when(Receive { quantity: items(1) }).then_rejected(rejection.clone());
    given::<Product>(id(), []).when(Withdraw { quantity: items(1) }).then_rejected(rejection);
}

#[test]
fn every_version_of_every_event_can_be_read() {
    golden::check::<ProductEvent>(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/product"));
}

#[test]
fn a_new_number_has_limits() {
    let rejection = |expected, found: &str| ProductRejection::Value(Invalid::new(expected, found));
    let costly = Register { unit_price: parsed("1000000000.01"), ..register() };
    let expected = rejection("a price of at most 1000000000", "1000000000.01");
    given::<Product>(id(), []).when(costly).then_rejected(expected);
    let full = Register { stock: 1_000_000_001.into(), ..register() };
    given::<Product>(id(), []).when(full).then_rejected(rejection("a stock of at most 1000000000", "1000000001"));
    let receive = Receive { quantity: items(1_000_001) };
    let expected = rejection("a quantity of at most 1000000", "1000001");
    given::<Product>(id(), [registered()]).when(receive).then_rejected(expected);
}
