//! The fulfilment of orders, by the command line and in the service.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::generated::{generate_orders, generate_products};
use crate::openapi::{assert_every_reference_resolves, assert_has_members};
use crate::provider::ProviderProgram;
use crate::sample::{import, sample};
use crate::serve::Service;
use crate::support::TestDir;

/// The longest wait of a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Creates a directory with a store that has generated orders and their products.
pub(crate) fn imported(orders: u64) -> TestDir {
    let dir = TestDir::new();
    let generated = generate_orders(orders);
    dir.write("orders.csv", generated.orders);
    dir.write("lines.csv", generated.lines);
    dir.write("products.csv", generate_products());
    dir.done(&import(&[]));
    dir
}

/// Returns a number of a report.
#[track_caller]
pub(crate) fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("expected {name} in {report}"))
}

/// Checks the sums of a report, and that nothing is held or pending without a saga that runs or is stuck.
#[track_caller]
pub(crate) fn assert_balanced(report: &Value) {
    let n = |name| number(report, name);
    assert_eq!(n("sagas"), n("completed") + n("compensated") + n("stuck") + n("running"), "{report}");
    assert_eq!(n("stock_reserved"), n("stock_shipped") + n("stock_released") + n("stock_held"), "{report}");
    assert_eq!(n("money_taken"), n("money_kept") + n("money_refunded") + n("money_pending"), "{report}");
    assert!(n("effects_per_key_max") <= 1, "{report}");
    if n("running") + n("stuck") == 0 {
        assert_eq!((n("stock_held"), n("money_pending")), (0, 0), "{report}");
    }
}

#[test]
fn an_order_is_fulfilled_and_one_without_stock_is_compensated() {
    let dir = sample();
    dir.done(&import(&[]));
    // The products P-12 and P-13 are not registered.
    let report = dir.json(&["fulfil", "--all"]);
    let expected = json!({
        "sagas": 3, "completed": 1, "compensated": 2, "stuck": 0, "running": 0,
        "stock_reserved": 20, "stock_shipped": 20, "stock_released": 0, "stock_held": 0,
        "money_taken": 6400, "money_kept": 6400, "money_refunded": 0, "money_pending": 0,
        "effects_per_key_max": 1
    });
    assert_eq!(report, expected);
    assert_eq!(dir.json(&["sagas", "report"]), expected);
    assert_eq!(dir.json(&["show", "A-2"])["status"], "shipped");
    assert_eq!(dir.json(&["product", "show", "P-11"])["stock"], 160);
    assert_eq!(dir.json(&["fulfil", "--all"]), expected, "a repeated run changes nothing");

    let list = dir.json(&["sagas", "list", "--all"]);
    let phases: Vec<&str> = list.as_array().expect("a list").iter().filter_map(|saga| saga["phase"].as_str()).collect();
    assert_eq!(phases.iter().filter(|phase| **phase == "compensated").count(), 2);
    assert_eq!(dir.json(&["sagas", "list"]), json!([]));
    let saga = dir.json(&["sagas", "show", "A-1"]);
    assert_eq!((&saga["saga"], &saga["phase"]), (&json!("fulfilment:A-1"), &json!("compensated")));
    assert_eq!(saga["reason"], "step \"reserve-stock\" failed: product P-12 does not exist; register it first");
    let saga = dir.json(&["sagas", "show", "fulfilment:A-2"]);
    let steps: Vec<_> = saga["steps"].as_array().expect("steps").iter().map(|step| &step["status"]).collect();
    assert_eq!(steps, ["succeeded", "succeeded", "omitted", "succeeded", "succeeded"]);
    let diagram = dir.done(&["sagas", "show", "A-2", "--mermaid"]);
    assert!(diagram.starts_with("flowchart") && diagram.contains("complete-order"), "{diagram}");
}

#[test]
fn missing_items_are_received_unless_this_is_disabled() {
    let dir = sample();
    dir.done(&import(&[]));
    dir.done(&["product", "withdraw", "P-11", "170"]);
    let report = dir.json(&["fulfil", "A-2", "--no-restock"]);
    assert_eq!((number(&report, "compensated"), number(&report, "stock_reserved")), (1, 0));
    let dir = sample();
    dir.done(&import(&[]));
    dir.done(&["product", "withdraw", "P-11", "170"]);
    let report = dir.json(&["fulfil", "A-2"]);
    assert_eq!((number(&report, "completed"), number(&report, "stock_shipped")), (1, 20));
    assert_eq!(dir.json(&["product", "show", "P-11"])["stock"], 0);
    dir.refused(&["fulfil", "A-9"], 1, "error: order A-9 does not exist; place it first");
}

#[test]
fn a_cancelled_order_is_left_out_and_refused() {
    let dir = sample();
    dir.done(&import(&[]));
    dir.done(&["cancel", "A-2", "--reason", "ordered twice"]);
    assert_eq!(number(&dir.json(&["fulfil", "--all"]), "sagas"), 2);
    let report = dir.json(&["fulfil", "A-2"]);
    assert_eq!((number(&report, "compensated"), number(&report, "stock_reserved")), (3, 0));
}

/// With a provider that always fails, money may be taken that cannot be refunded: such sagas are stuck. An operator
/// retries them.
#[test]
fn sagas_are_stuck_while_the_provider_fails_and_an_operator_retries_them() {
    let dir = imported(24);
    let report = dir.json(&["fulfil", "--all", "--fail-rate", "1", "--seed", "3"]);
    assert_balanced(&report);
    assert_eq!((number(&report, "sagas"), number(&report, "running")), (24, 0));
    assert!(number(&report, "stuck") > 0 && number(&report, "completed") < 24, "{report}");
    let stuck = dir.json(&["sagas", "list"]);
    let stuck: Vec<&str> = stuck.as_array().expect("a list").iter().filter_map(|saga| saga["saga"].as_str()).collect();
    assert_eq!(stuck.len() as u64, number(&report, "stuck"));
    let without_reason = dir.run(&["sagas", "retry", stuck[0], "take-payment"]);
    assert_eq!(without_reason.code, Some(2), "{}", without_reason.err);
    for saga in &stuck {
        let shown = dir.json(&["sagas", "show", saga]);
        let steps = shown["steps"].as_array().expect("steps");
        let failed = steps.iter().find(|step| step["status"] == "undo-failed").expect("a failed undo");
        let step = failed["step"].as_str().expect("a name");
        dir.done(&["sagas", "retry", saga, step, "--reason", "the provider is back", "--by", "ada"]);
    }
    let report = dir.json(&["fulfil", "--all"]);
    assert_balanced(&report);
    assert_eq!(number(&report, "stuck"), 0, "{report}");
    assert_eq!((number(&report, "stock_held"), number(&report, "money_pending")), (0, 0));
}

#[test]
fn a_customer_who_does_not_pay_is_reminded_once_and_gets_no_parcel() {
    let dir = sample();
    dir.done(&import(&[]));
    let report = dir.json(&["fulfil", "A-2", "--unpaid-rate", "1", "--payment-deadline", "3"]);
    let n = |name| number(&report, name);
    assert_eq!((n("compensated"), n("stock_released"), n("money_taken")), (1, 20, 0), "{report}");
    let saga = dir.json(&["sagas", "show", "A-2"]);
    assert_eq!(saga["reason"], "the deadline has passed");
    let record = std::fs::read_to_string(dir.path("shop.provider.jsonl")).expect("the record of the provider");
    let count = |kind: &str| record.lines().filter(|line| line.contains(&format!("\"kind\":\"{kind}\""))).count();
    assert_eq!((count("invoice"), count("reminder"), count("refund"), count("shipment")), (1, 1, 1, 0), "{record}");
    assert_reminded_once(&dir.json(&["show", "A-2"]), &dir.json(&["history", "A-2"]));
    assert!(dir.done(&["show", "A-2"]).contains("\nreminded  20"));
    assert_eq!(dir.json(&["sagas", "show", "payment-reminder:A-2"])["phase"], "completed");
}

/// Checks an order and its history.
#[track_caller]
fn assert_reminded_once(order: &Value, history: &Value) {
    assert!(order["reminded_at"].is_string(), "{order}");
    let events = history.as_array().expect("a list").iter();
    assert_eq!(events.filter(|event| event["event_type"] == "order-payment-reminded").count(), 1, "{history}");
}

/// The timer of the reminder and the saga that sends it continue after a kill.
#[test]
fn a_customer_is_reminded_once_by_a_service_that_is_killed() {
    let dir = sample();
    dir.done(&import(&[]));
    let provider = ProviderProgram::new(&dir, &["--unpaid-rate", "1"]);
    let start = || Service::with(&dir, &["--provider", &provider.address, "--payment-deadline", "12"]);
    let saga = "fulfilment:A-2";
    let service = start();
    service.send("POST", "/orders/A-2/fulfil", &[], &json!({})).expect(202);
    wait_for_invoice(&provider);
    drop(service);
    let service = start();
    let patience = Instant::now();
    while provider.count(saga, "reminder") == 0 {
        assert!(patience.elapsed() < PATIENCE, "no reminder");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(service);
    let service = start();
    wait_for(&service, "A-2", "compensated");
    let order = service.get("/orders/A-2", &[]).expect(200).body;
    assert_reminded_once(&order, &service.get("/orders/A-2/events", &[]).expect(200).body["events"]);
    assert_eq!((provider.count(saga, "reminder"), provider.count(saga, "refund")), (1, 1));
    let report = dir.json(&["sagas", "--url", &service.operations, "report"]);
    assert_balanced(&report);
    assert_eq!((number(&report, "sagas"), number(&report, "compensated")), (1, 1));
}

/// Waits until the fulfilment of an order is in a phase.
fn wait_for(service: &Service, order: &str, phase: &str) -> Value {
    let start = Instant::now();
    loop {
        let saga = service.get(&format!("/orders/{order}/fulfilment"), &[]).expect(200).body;
        if saga["phase"] == phase {
            return saga;
        }
        assert!(start.elapsed() < PATIENCE, "{order} is not {phase}: {saga}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_service_fulfils_orders_and_operators_operate_their_sagas() {
    let dir = sample();
    dir.done(&import(&[]));
    let provider = ProviderProgram::new(&dir, &["--unpaid-rate", "1"]);
    let service = Service::with(&dir, &["--provider", &provider.address]);
    service.send("POST", "/orders/A-9/fulfil", &[], &json!({})).expect(404);
    let started = service.send("POST", "/orders/A-2/fulfil", &[], &json!({})).expect(202).body;
    assert_eq!(started["saga"], "fulfilment:A-2");
    let invoice = wait_for_invoice(&provider);

    // Without a name of the operator, the one of the request is recorded.
    let url = ["--url", &service.operations];
    let sagas = |args: &[&str]| dir.json(&[&["sagas"], &url[..], args].concat());
    let paused = sagas(&["pause", "A-2", "--reason", "the customer has called", "--by", "ada"]);
    assert_eq!(paused[0]["is_paused"], true);
    assert_eq!(paused[0]["reason"], "paused by ada: the customer has called");
    assert_eq!(sagas(&["list"])[0]["saga"], "fulfilment:A-2");
    let report = sagas(&["report"]);
    assert_balanced(&report);
    assert_eq!((number(&report, "running"), number(&report, "stock_held")), (1, 20));
    let refused = dir.run(&[&["sagas"], &url[..], &["resume", "A-9", "--reason", "a mistake"]].concat());
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("rejected the request: saga fulfilment:A-9 does not exist"), "{}", refused.err);
    let no_reason = dir.run(&[&["sagas"], &url[..], &["resume", "A-2", "--reason", " "]].concat());
    assert!(no_reason.err.contains("rejected the request: expected a reason"), "{}", no_reason.err);

    assert_eq!(provider.customer_pays(&invoice), 200);
    sagas(&["resume", "A-2", "--reason", "it is settled"]);
    wait_for(&service, "A-2", "completed");
    let cancelled = dir.run(&[&["sagas"], &url[..], &["cancel", "A-2", "--reason", "too late"]].concat());
    assert!(cancelled.err.contains("is past its pivot"), "{}", cancelled.err);
    assert_eq!(service.get("/orders/A-2", &[]).expect(200).body["status"], "shipped");
    let report = sagas(&["report"]);
    assert_balanced(&report);
    assert_eq!((number(&report, "completed"), number(&report, "money_kept")), (1, 6400));
    check_document(&service);
    provider.kill();
    let without_provider = dir.run(&[&["sagas"], &url[..], &["report"]].concat());
    assert!(without_provider.err.contains("the provider did not answer"), "{}", without_provider.err);
    service.stop();
}

#[test]
fn an_order_that_is_cancelled_before_the_customer_pays_is_not_shipped() {
    let dir = sample();
    dir.done(&import(&[]));
    let provider = ProviderProgram::new(&dir, &["--unpaid-rate", "1"]);
    let service = Service::with(&dir, &["--provider", &provider.address]);
    service.send("POST", "/orders/A-2/fulfil", &[], &json!({})).expect(202);
    let invoice = wait_for_invoice(&provider);
    service.send("POST", "/orders/A-2/cancel", &[], &json!({"reason": "ordered twice"})).expect(200);
    assert_eq!(provider.customer_pays(&invoice), 200);
    let saga = wait_for(&service, "A-2", "compensated");
    assert_eq!(saga["reason"], "step \"ship\" failed: order A-2 is not placed, or was cancelled");
    let count = |kind: &str| provider.count("fulfilment:A-2", kind);
    assert_eq!((count("refund"), count("shipment"), count("reminder")), (1, 0, 0));
    assert_balanced(&dir.json(&["sagas", "--url", &service.operations, "report"]));
}

/// Waits until the provider has sent an invoice, and returns its key.
pub(crate) fn wait_for_invoice(provider: &ProviderProgram) -> String {
    let start = Instant::now();
    loop {
        if let Some(invoice) = provider.effects().into_iter().find(|effect| effect["kind"] == "invoice") {
            return invoice["key"].as_str().expect("a key").to_owned();
        }
        assert!(start.elapsed() < PATIENCE, "no invoice");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Checks the OpenAPI document of the routes of operators against their answers.
fn check_document(service: &Service) {
    let agent = ureq::Agent::new_with_defaults();
    let get = |path: &str| -> Value {
        let mut reply = agent.get(format!("{}{path}", service.operations)).call().expect("an answer");
        serde_json::from_str(&reply.body_mut().read_to_string().expect("text")).expect("JSON")
    };
    let document = get("/openapi.json");
    oas3::from_json(document.to_string()).expect("a document of OpenAPI 3.1").validate_version().expect("supported");
    assert_every_reference_resolves(&document, &document);
    for (route, path) in
        [("/sagas", "/sagas?all=true"), ("/sagas/report", "/sagas/report"), ("/sagas/{id}", "/sagas/A-2")]
    {
        let schema = &document["paths"][route]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{route} is not in the document");
        assert_has_members(&document, schema, &get(path), path);
    }
    // A saga that does not exist has the same answer for reading and for acting.
    let action = json!({"verb": "resume", "reason": "a mistake"});
    let url = format!("{}/sagas/A-9", service.operations);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let acted = agent.post(&url).send_json(&action).expect("an answer").status().as_u16();
    let read = agent.get(&url).call().expect("an answer").status().as_u16();
    assert_eq!((acted, read), (404, 404));
    let responses = |method: &str| &document["paths"]["/sagas/{id}"][method]["responses"];
    assert!(responses("post")["409"].is_object() && responses("post")["404"].is_object());
    assert!(responses("get")["404"].is_object());
}

/// The headers of the client that may write.
const WRITER: [(&str, &str); 1] = [("authorization", "Bearer writer")];

/// Starts a service with tokens and a provider of payments that nobody pays, and lets a writer fulfil order A-2.
fn unpaid_fulfilment_by_a_writer() -> (TestDir, ProviderProgram, Service) {
    let dir = sample();
    dir.done(&import(&[]));
    dir.write("tokens", crate::edge::TOKENS);
    let provider = ProviderProgram::new(&dir, &["--unpaid-rate", "1"]);
    let service = Service::with(&dir, &["--provider", &provider.address, "--tokens", "tokens"]);
    service.send("POST", "/orders/A-2/fulfil", &WRITER, &json!({})).expect(202);
    (dir, provider, service)
}

#[test]
fn only_the_role_operate_permits_actions_on_sagas_and_its_name_is_recorded() {
    let (dir, _provider, service) = unpaid_fulfilment_by_a_writer();
    let sagas = |token: &str, args: &[&str]| {
        dir.write("token", token);
        dir.run(&[&["sagas", "--json", "--url", &service.operations, "--token-file", "token"], args].concat())
    };
    let cancel = ["cancel", "A-2", "--reason", "a mistake", "--by", "ada"];
    for (token, list, act) in [("reader", 0, 1), ("writer", 0, 1), ("guess", 1, 1), ("operator", 0, 0)] {
        assert_eq!(sagas(token, &["list"]).code, Some(list), "{token}");
        assert_eq!(sagas(token, &cancel).code, Some(act), "{token}");
    }
    let start = Instant::now();
    loop {
        let shown: Value = serde_json::from_str(&sagas("reader", &["show", "A-2"]).out).expect("JSON");
        if shown["phase"] == "compensated" {
            assert_eq!(shown["reason"], "cancelled by ops for ada: a mistake");
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{shown}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The event that starts a payment had no client and no tenant. The document had an `Idempotency-Key`, which has no
/// effect.
#[test]
fn the_first_event_of_a_fulfilment_has_the_client_and_the_tenant_of_its_request() {
    let (dir, _provider, service) = unpaid_fulfilment_by_a_writer();
    let document = service.get("/openapi.json", &WRITER).expect(200).body;
    let parameters = document["paths"]["/orders/{id}/fulfil"]["post"]["parameters"].to_string();
    assert!(parameters.contains("If-Match") && !parameters.contains("Idempotency-Key"), "{parameters}");
    service.stop();
    let log = crate::edge::log(&dir);
    let first = log.iter().find(|event| event.stream.as_str().contains("fulfilment:A-2")).expect("the saga has begun");
    let metadata = &first.data.metadata;
    assert_eq!((metadata.get_str("actor"), metadata.get_str("tenant")), (Some("shop"), Some("acme")));
}
