//! The commands on single orders and products, through the program itself.

use std::process::Stdio;

use crate::support::TestDir;
use serde_json::json;

const LINES: [&str; 4] = ["--line", "11:12:14.00", "--line", "42:10:9.80:0.05"];

fn with_order() -> TestDir {
    let dir = TestDir::new();
    dir.done(&[&["place", "A-1", "--customer", "VINET", "--date", "2016-07-04"], &LINES[..]].concat());
    dir
}

#[test]
fn an_order_goes_its_way() {
    let dir = with_order();
    let done = |status, revision: u64| {
        json!({"order_id": "A-1", "status": status, "outcome": "done", "events": 1,
               "revision": revision, "position": revision + 1})
    };
    assert_eq!(dir.json(&["approve", "A-1", "--date", "2016-07-05"]), done("approved", 1));
    assert_eq!(dir.json(&["ship", "A-1", "--date", "2016-07-16T09:30:00+02:00"]), done("shipped", 2));
    assert_eq!(dir.json(&["deliver", "A-1"]), done("delivered", 3));
    assert_eq!(dir.done(&["deliver", "A-1"]), "order A-1 is delivered already; nothing was written (revision 3)\n");
}

#[test]
fn an_order_is_shown_as_it_is_and_as_it_was() {
    let dir = with_order();
    dir.done(&["approve", "A-1", "--date", "2016-07-05T10:00:00Z"]);
    let status = |args: &[&str]| dir.json(&[&["show", "A-1"], args].concat())["status"].clone();
    assert_eq!(status(&[]), "approved");
    assert_eq!(status(&["--at", "0"]), "placed");
    assert_eq!(status(&["--as-of", "2016-07-04"]), "placed");
    assert_eq!(status(&["--as-of", "2016-07-05"]), "approved", "a day is meant to its end");
    assert_eq!(status(&["--as-of", "2016-07-05T09:59:59Z"]), "placed");
    assert_eq!(status(&["--as-at", "9999-12-30"]), "approved");
    dir.refused(&["show", "A-1", "--at", "2"], 1, "error: order A-1 has no revision 2: expected one up to 1");
    let never = "error: order A-1 did not exist at 2016-07-05 23:59:59; see `order-service history A-1`";
    dir.refused(&["show", "A-1", "--as-at", "2016-07-05"], 1, never);
    dir.refused(&["show", "A-2"], 1, "error: order A-2 does not exist; place it first");
    dir.refused(&["show", "A-2", "--at", "0"], 1, "error: order A-2 does not exist; place it first");
    dir.refused(&["history", "A-2"], 1, "error: order A-2 does not exist; place it first");
}

#[test]
fn an_order_is_shown_with_its_lines_and_what_it_earns() {
    let dir = with_order();
    let shown = dir.json(&["show", "A-1"]);
    assert_eq!(shown["revenue"], "261.10");
    assert_eq!(
        shown["lines"][1],
        json!({"product_id": "42", "unit_price": "9.80", "quantity": 10, "discount": "0.05", "revenue": "93.10"})
    );
    let people = dir.done(&["show", "A-1"]);
    assert!(people.contains("order A-1 is placed, revision 0"), "{people}");
    assert!(people.contains("261.10"), "{people}");
}

#[test]
fn the_history_has_every_event_as_it_was_recorded() {
    let dir = with_order();
    dir.done(&["cancel", "A-1", "--reason", "ordered twice", "--date", "2016-07-06"]);
    let history = dir.json(&["history", "A-1"]);
    assert_eq!(history[0]["event_type"], "order-placed");
    assert_eq!(history[0]["content"]["customer"], "VINET");
    assert_eq!(history[1]["content"], json!({"reason": "ordered twice"}));
    assert_eq!(history[1]["occurred_at"], "2016-07-06T00:00:00Z");
    assert!(dir.done(&["history", "A-1"]).contains("ordered twice"));
}

#[test]
fn what_the_domain_refuses_is_said_and_nothing_is_written() {
    let dir = with_order();
    let refusal = "error: order A-1 cannot become shipped: expected it to be approved, found it placed";
    dir.refused(&["ship", "A-1"], 1, refusal);
    dir.refused(&["approve", "A-9"], 1, "error: order A-9 does not exist; place it first");
    let other = &["place", "A-1", "--customer", "TOMSP", "--line", "11:1:1"];
    let refusal = "error: order A-1 was placed before with other content: expected the same customer; \
                   give a new order a new id";
    dir.refused(other, 1, refusal);
    let early = "error: order A-1 cannot become approved on 2016-07-03: expected a day not before 2016-07-04, \
                 when it became placed";
    dir.refused(&["approve", "A-1", "--date", "2016-07-03"], 1, early);
    assert_eq!(dir.json(&["report"])["events"], 1);
}

#[test]
fn an_expected_revision_that_is_wrong_is_a_conflict() {
    let dir = with_order();
    let conflict = "error: conflict: stream \"order-A-1\": expected version 5, found version 0; \
                    nothing was written: reload and decide again";
    dir.refused(&["approve", "A-1", "--expect", "5"], 3, conflict);
    dir.done(&["approve", "A-1", "--expect", "0"]);
}

#[test]
fn a_request_is_done_once() {
    let dir = TestDir::new();
    dir.done(&["product", "register", "11", "--name", "Tofu", "--price", "23.25", "--stock", "5"]);
    let receive = ["product", "receive", "11", "30", "--request", "r-1"];
    assert_eq!(dir.json(&receive)["outcome"], "done");
    let again = dir.json(&receive);
    assert_eq!((&again["outcome"], &again["stock"]), (&json!("repeated"), &json!(35)));
    assert_eq!(dir.json(&["product", "withdraw", "11", "35"])["stock"], 0);
    let short = "error: product 11 is short: expected at least 1 in stock, found 0; receive more first";
    dir.refused(&["product", "withdraw", "11", "1"], 1, short);
    assert_eq!(
        dir.json(&["product", "list"]),
        json!([{"product_id": "11", "name": "Tofu", "unit_price": "23.25", "stock": 0}])
    );
    dir.refused(&["product", "show", "12"], 1, "error: product 12 does not exist; register it first");
}

#[test]
fn stock_moves_between_two_products_in_one_commit() {
    let dir = TestDir::new();
    dir.done(&["product", "register", "11", "--name", "Tofu", "--price", "23.25", "--stock", "5"]);
    dir.done(&["product", "register", "42", "--name", "Chai", "--price", "18"]);
    assert_eq!(
        dir.done(&["product", "move", "11", "42", "3", "--request", "m-1"]),
        "product 11 has 2 in stock (revision 1)\nproduct 42 has 3 in stock (revision 1)\n"
    );
    let again = dir.json(&["product", "move", "11", "42", "3", "--request", "m-1"]);
    assert_eq!(
        again,
        json!({"product_id": "11", "stock": 2, "outcome": "repeated", "events": 1, "revision": 1, "position": 3,
               "to": {"product_id": "42", "stock": 3, "outcome": "repeated", "events": 1, "revision": 1, "position": 4}})
    );
    let refused = |args: &[&str], code, error: &str| dir.refused(&[&["product", "move"], args].concat(), code, error);
    refused(
        &["11", "42", "3"],
        1,
        "error: product 11 is short: expected at least 3 in stock, found 2; receive more first",
    );
    refused(&["11", "43", "1"], 1, "error: product 43 does not exist; register it first");
    refused(&["11", "11", "1"], 1, "error: stock of product 11 cannot be moved to itself; name two products");
    let conflict = "error: conflict: stream \"product-11\": expected version 0, found version 1; nothing was written: \
                    reload and decide again";
    refused(&["11", "42", "1", "--expect", "0"], 3, conflict);
    let stock = |product: &str| dir.json(&["product", "show", product])["stock"].clone();
    assert_eq!((stock("11"), stock("42")), (json!(2), json!(3)), "a refused move changes neither");
}

#[test]
fn what_is_typed_is_checked_before_the_store_is_opened() {
    let dir = TestDir::new();
    for args in [
        &["place", "A-1", "--customer", "VINET"][..],
        &["place", "A-1", "--customer", "VINET", "--line", "11:0:14"],
        &["place", "A-1", "--customer", "VINET", "--line", "11:1:-14"],
        &["place", "A-1", "--customer", "VINET", "--line", "11:1:14:1.5"],
        &["place", "A-1", "--customer", "VINET", "--line", "11:1:14", "--date", "yesterday"],
        &["place", "", "--customer", "VINET", "--line", "11:1:14"],
        &["cancel", "A-1"],
        &["show", "A-1", "--at", "0", "--as-of", "2016-07-04"],
        &["frobnicate"],
    ] {
        assert_eq!(dir.run(args).code, Some(2), "{args:?}");
    }
    assert!(!dir.path("shop").exists());
}

#[test]
fn only_what_writes_something_new_makes_a_store() {
    let dir = TestDir::new();
    for args in [&["report"][..], &["show", "A-1"], &["approve", "A-1"], &["product", "list"]] {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}");
        assert!(ran.err.starts_with("error: expected an event store in "), "{}", ran.err);
    }
    assert!(!dir.path("shop").exists());
}

#[test]
fn the_directory_of_the_store_may_stand_in_the_environment() {
    let dir = with_order();
    let program = env!("CARGO_BIN_EXE_order-service");
    let mut command = std::process::Command::new(program);
    let output = command.arg("report").env("ORDER_SERVICE_DATA", dir.path("shop")).output().unwrap();
    assert!(output.status.success());
    let output = std::process::Command::new(program).arg("report").env_remove("ORDER_SERVICE_DATA").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("give --data DIR or set ORDER_SERVICE_DATA"));
}

#[test]
fn nobody_has_to_listen_to_the_end() {
    let dir = with_order();
    let mut child =
        dir.command(&["report"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be run");
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn a_report_leaves_out_what_was_cancelled() {
    let dir = with_order();
    let place = ["place", "A-2", "--customer", "X", "--country", "France", "--date", "2016-08-01"];
    dir.done(&[&place[..], &["--line", "11:3:0.335:0"]].concat());
    dir.done(&["place", "A-3", "--customer", "X", "--line", "11:100:99"]);
    dir.done(&["cancel", "A-3", "--reason", "too much"]);
    assert_eq!(
        dir.json(&["report"]),
        json!({
            "orders": 3,
            "events": 4,
            "by_status": {"placed": 2, "approved": 0, "shipped": 0, "delivered": 0, "cancelled": 1},
            "revenue": "262.10",
            "revenue_by_month": {"2016-07": "261.10", "2016-08": "1.00"},
            "revenue_by_country": {"France": "1.00", "unknown": "261.10"},
            "top_products": [
                {"product_id": "11", "quantity": 15, "revenue": "169.00"},
                {"product_id": "42", "quantity": 10, "revenue": "93.10"},
            ],
        })
    );
    let text = dir.done(&["report", "--json"]);
    let places: Vec<_> = ["placed", "approved", "shipped", "delivered", "cancelled"].map(|s| text.find(s)).to_vec();
    assert!(places.is_sorted(), "the statuses stand in the order in which an order comes by them: {text}");
    assert!(dir.done(&["report"]).starts_with("3 orders, 4 events, revenue 262.10\n"));
}
