//! Commands on single orders and products, on the command line.

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
fn an_order_is_placed_approved_shipped_and_delivered() {
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
fn show_prints_the_current_state_and_past_states() {
    let dir = with_order();
    dir.done(&["approve", "A-1", "--date", "2016-07-05T10:00:00Z"]);
    let status = |args: &[&str]| dir.json(&[&["show", "A-1"], args].concat())["status"].clone();
    assert_eq!(status(&[]), "approved");
    assert_eq!(status(&["--at", "0"]), "placed");
    assert_eq!(status(&["--as-of", "2016-07-04"]), "placed");
    assert_eq!(status(&["--as-of", "2016-07-05"]), "approved", "a date includes the whole day");
    assert_eq!(status(&["--as-of", "2016-07-05T09:59:59Z"]), "placed");
    let today = chrono::Utc::now().date_naive().to_string();
    assert_eq!(status(&["--as-at", &today]), "approved", "today is known up to now");
    let future = dir.run(&["show", "A-1", "--as-at", "9999-12-30"]);
    assert!(future.code == Some(1) && future.err.contains("is ahead of the log"), "{}", future.err);
    dir.refused(&["show", "A-1", "--at", "2"], 1, "error: order A-1 has no revision 2: its last revision is 1");
    let not_recorded = "error: order A-1 did not exist at 2016-07-05 23:59:59; see `order-service history A-1`";
    dir.refused(&["show", "A-1", "--as-at", "2016-07-05"], 1, not_recorded);
    dir.refused(&["show", "A-2"], 1, "error: order A-2 does not exist; place it first");
    dir.refused(&["show", "A-2", "--at", "0"], 1, "error: order A-2 does not exist; place it first");
    dir.refused(&["history", "A-2"], 1, "error: order A-2 does not exist; place it first");
}

#[test]
fn show_prints_the_lines_and_the_revenue() {
    let dir = with_order();
    let shown = dir.json(&["show", "A-1"]);
    assert_eq!(shown["revenue"], "261.10");
    assert_eq!(
        shown["lines"][1],
        json!({"product_id": "42", "unit_price": "9.80", "quantity": 10, "discount": "0.05", "revenue": "93.10"})
    );
    let text = dir.done(&["show", "A-1"]);
    assert!(text.contains("order A-1 is placed, revision 0"), "{text}");
    assert!(text.contains("261.10"), "{text}");
}

#[test]
fn history_prints_every_recorded_event() {
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
fn a_rejected_command_writes_nothing() {
    let dir = with_order();
    let status = "error: order A-1 cannot become shipped: expected status approved, found placed";
    dir.refused(&["ship", "A-1"], 1, status);
    dir.refused(&["approve", "A-9"], 1, "error: order A-9 does not exist; place it first");
    let other = &["place", "A-1", "--customer", "TOMSP", "--line", "11:1:1"];
    let different = "error: order A-1 already exists with a different customer; use another id for a new order";
    dir.refused(other, 1, different);
    let early = "error: order A-1 cannot become approved on 2016-07-03: it became placed later, on 2016-07-04";
    dir.refused(&["approve", "A-1", "--date", "2016-07-03"], 1, early);
    assert_eq!(dir.json(&["report"])["events"], 1);
}

#[test]
fn a_wrong_expected_revision_is_a_conflict() {
    let dir = with_order();
    let conflict = "error: conflict: stream \"order-A-1\": expected version 5, found version 0; \
                    nothing was written: reload and decide again";
    dir.refused(&["approve", "A-1", "--expect", "5"], 3, conflict);
    dir.done(&["approve", "A-1", "--expect", "0"]);
}

#[test]
fn a_repeated_request_id_executes_the_command_once() {
    let dir = TestDir::new();
    dir.done(&["product", "register", "11", "--name", "Tofu", "--price", "23.25", "--stock", "5"]);
    let receive = ["product", "receive", "11", "30", "--request", "r-1"];
    assert_eq!(dir.json(&receive)["outcome"], "done");
    let repeated = dir.json(&receive);
    assert_eq!((&repeated["outcome"], &repeated["stock"]), (&json!("repeated"), &json!(35)));
    let another = "error: command id \"r-1\" was used for order_service::domain::product::Receive to \"product-11\", \
                   found order_service::domain::product::Withdraw to \"product-11\"; use another command id";
    dir.refused(&["product", "withdraw", "11", "30", "--request", "r-1"], 1, another);
    assert_eq!(dir.json(&["product", "withdraw", "11", "35"])["stock"], 0);
    let insufficient = "error: product 11 has insufficient stock: expected at least 1, found 0; receive items first";
    dir.refused(&["product", "withdraw", "11", "1"], 1, insufficient);
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
    let repeated = dir.json(&["product", "move", "11", "42", "3", "--request", "m-1"]);
    assert_eq!(
        repeated,
        json!({
            "product_id": "11", "stock": 2, "outcome": "repeated", "events": 1, "revision": 1, "position": 3,
            "to": {
                "product_id": "42", "stock": 3, "outcome": "repeated", "events": 1, "revision": 1, "position": 4
            }
        })
    );
    let refused = |args: &[&str], code, error: &str| dir.refused(&[&["product", "move"], args].concat(), code, error);
    refused(
        &["11", "42", "3"],
        1,
        "error: product 11 has insufficient stock: expected at least 3, found 2; receive items first",
    );
    refused(&["11", "43", "1"], 1, "error: product 43 does not exist; register it first");
    refused(&["11", "11", "1"], 1, "error: cannot move stock of product 11 to itself; name two products");
    let conflict = "error: conflict: stream \"product-11\": expected version 0, found version 1; nothing was written: \
                    reload and decide again";
    refused(&["11", "42", "1", "--expect", "0"], 3, conflict);
    let stock = |product: &str| dir.json(&["product", "show", product])["stock"].clone();
    assert_eq!((stock("11"), stock("42")), (json!(2), json!(3)), "a rejected move changes neither");
}

#[test]
fn arguments_are_validated_before_the_store_is_opened() {
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
fn a_command_on_a_missing_store_fails_and_names_the_commands_that_create_one() {
    let dir = TestDir::new();
    for args in [&["report"][..], &["show", "A-1"], &["approve", "A-1"], &["product", "list"]] {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}");
        let expected = "error: expected an event store in shop, found none; check the path and whether its disk is \
                        mounted; `import`, `place`, `product register` and `serve` create a store\n";
        assert_eq!(ran.err, expected, "{args:?}");
    }
    assert!(!dir.path("shop").exists());
}

#[test]
fn the_directory_of_the_store_can_be_set_in_the_environment() {
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
fn a_closed_standard_output_is_not_an_error() {
    let dir = with_order();
    let mut child =
        dir.command(&["report"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn a_report_excludes_the_revenue_of_cancelled_orders() {
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
    let offsets: Vec<_> = ["placed", "approved", "shipped", "delivered", "cancelled"].map(|s| text.find(s)).to_vec();
    assert!(offsets.is_sorted(), "the statuses are in the order of the life cycle: {text}");
    assert!(dir.done(&["report"]).starts_with("3 orders, 4 events, revenue 262.10\n"));
}

/// Text from right to left can make a name look like another one. A name of the domain may have it.
#[test]
fn stored_text_is_escaped_for_people() {
    let dir = TestDir::new();
    let (id, customer) = ("A\u{202e}1", "V\u{2066}X");
    dir.done(&["place", id, "--customer", customer, "--line", "1\u{202e}1:1:14", "--city", "\u{202e}"]);
    dir.done(&["product", "register", "1\u{202e}1", "--name", "T\u{202e}u", "--price", "2"]);
    for args in [["show", id].as_slice(), &["history", id], &["product", "list"], &["report"]] {
        for json in [&[][..], &["--json"]] {
            let out = dir.done(&[args, json].concat());
            assert!(!out.contains(['\u{202e}', '\u{2066}']), "{args:?} {json:?}: {out}");
        }
    }
    // clap printed an argument unchanged, with its escape sequences.
    let hostile = "V\u{1b}[31mRED\u{202e}";
    for args in [["place", "Z", "--customer", hostile, "--line", "11:1:1"].as_slice(), &["report", hostile]] {
        let refused = dir.run(args);
        assert!(refused.code == Some(2) && refused.err.contains(r"V\u{1b}[31mRED\u{202e}"), "{}", refused.err);
        assert!(!refused.err.contains(['\u{1b}', '\u{202e}']), "{}", refused.err);
    }
    let refused = dir.run(&["show", "B\u{202e}"]);
    assert!(refused.code == Some(1) && !refused.err.contains('\u{202e}'), "{}", refused.err);
    assert!(dir.done(&["product", "list"]).contains("2.00"), "money has two decimals");
}
