//! Operators list, show and repair the reminders of customers who have not paid, by the command line and over HTTP.

use std::time::{Duration, Instant};

use es_core::{Commit, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, StreamId};
use serde_json::{Value, json};
use ureq::Agent;

use crate::fulfilment::{imported, wait_for_invoice};
use crate::openapi::{assert_every_reference_resolves, assert_has_members};
use crate::provider::ProviderProgram;
use crate::sample::{import, sample};
use crate::serve::Service;
use crate::support::{Ran, TestDir};

/// The longest wait of a test.
const PATIENCE: Duration = Duration::from_secs(60);
/// A deadline of payments at whose half no reminder can be sent, because it is after the last possible time.
const TOO_LONG: &str = "18446744073709551615";
const QUARANTINED: &str = "the deadline of payments is too long for a reminder; start with a shorter one";
const REMINDER: &str = "payment_reminder:A-2";

/// Starts a service that fulfils orders, with tokens.
fn service(dir: &TestDir, provider: &ProviderProgram, deadline: &str) -> Service {
    dir.write("tokens", crate::edge::TOKENS);
    let provider = ["--provider", &provider.address, "--payment-deadline", deadline, "--tokens", "tokens"];
    Service::with(dir, &provider)
}

/// Starts the fulfilment of an order.
fn fulfil(service: &Service, order: &str) {
    let writer = [("authorization", "Bearer writer")];
    service.send("POST", &format!("/orders/{order}/fulfil"), &writer, &json!({})).expect(202);
}

/// Runs `processes` at a service, with a token.
fn remote(dir: &TestDir, service: &Service, token: &str, args: &[&str]) -> Ran {
    dir.write("token", token);
    dir.run(&[&["processes", "--url", &service.operations, "--token-file", "token"], args].concat())
}

/// Runs `processes` at a service as an operator, expects success, and returns the parsed output.
#[track_caller]
fn operate(dir: &TestDir, service: &Service, args: &[&str]) -> Value {
    let ran = remote(dir, service, "operator", &[args, &["--json"]].concat());
    assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
    serde_json::from_str(&ran.out).expect("JSON")
}

/// Waits until a condition holds for the output of `processes` at a service.
#[track_caller]
fn wait_until(dir: &TestDir, service: &Service, args: &[&str], condition: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let output = operate(dir, service, args);
        if condition(&output) {
            return output;
        }
        assert!(start.elapsed() < PATIENCE, "{args:?}: {output}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a request to the operations of a service. Returns the status and the body.
fn request(service: &Service, token: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
    let (url, token) = (format!("{}{path}", service.operations), format!("Bearer {token}"));
    let sent = match body {
        Some(body) => agent.post(url).header("authorization", token).send_json(body),
        None => agent.get(url).header("authorization", token).call(),
    };
    let mut reply = sent.expect("an answer");
    let body = reply.body_mut().read_to_string().expect("text");
    (reply.status().as_u16(), serde_json::from_str(&body).expect("JSON"))
}

/// Returns the texts and the JSON that the service prints for commands which only read.
fn read_remotely(dir: &TestDir, service: &Service, commands: &[&[&str]]) -> Vec<(Option<i32>, String)> {
    let ran = commands.iter().flat_map(|command| [command.to_vec(), [*command, &["--json"]].concat()]);
    ran.map(|command| remote(dir, service, "reader", &command)).map(|ran| (ran.code, ran.out)).collect()
}

/// Returns the texts and the JSON that the same commands print for the store.
fn read_locally(dir: &TestDir, commands: &[&[&str]]) -> Vec<(Option<i32>, String)> {
    let ran = commands.iter().flat_map(|command| [command.to_vec(), [*command, &["--json"]].concat()]);
    ran.map(|command| dir.run(&[&["processes"], &command[..]].concat())).map(|ran| (ran.code, ran.out)).collect()
}

/// Returns the payloads of the events of a type.
fn payloads(dir: &TestDir, event_type: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = es_rocksdb::ReadOnlyStore::open(dir.path("shop")).await.expect("opened");
        let read = LogRead::event_type(EventType::new(event_type).expect("a name"));
        let records = store.read_log(read).await.expect("read").collect().await.expect("read");
        records.iter().map(|record| String::from_utf8_lossy(&record.data.payload).into_owned()).collect()
    })
}

/// A program with a deadline for which it cannot plan a reminder quarantines the reminder. An operator has the next
/// program try it again.
#[test]
fn a_quarantined_reminder_is_retried_and_the_customer_is_reminded() {
    let dir = sample();
    dir.done(&import(&[]));
    let provider = ProviderProgram::new(&dir, &["--unpaid-rate", "1"]);
    let broken = service(&dir, &provider, TOO_LONG);
    assert_eq!(operate(&dir, &broken, &["list"]), json!([]));
    fulfil(&broken, "A-2");
    let listed = wait_until(&dir, &broken, &["list", "--quarantined"], |list| list[0]["process"] == REMINDER);
    let found = (&listed[0]["phase"], &listed[0]["pending"], &listed[0]["quarantine"]);
    assert_eq!(found, (&json!("missing"), &json!(1), &json!(QUARANTINED)));
    let shown = operate(&dir, &broken, &["show", "A-2"]);
    assert_eq!((&shown["process"], &shown["quarantine"]), (&json!(REMINDER), &json!(QUARANTINED)));
    assert_eq!(shown["pending"][0]["event_type"], "saga-step-succeeded");
    let text = remote(&dir, &broken, "reader", &["show", "A-2"]).out;
    assert!(text.starts_with(&format!("process {REMINDER} is missing, quarantined ({QUARANTINED})\n")), "{text}");
    assert!(text.contains("pending event"), "{text}");
    // The same program quarantines it again.
    operate(&dir, &broken, &["retry", "A-2", "--reason", "a guess"]);
    wait_until(&dir, &broken, &["list", "payment_reminder"], |list| list[0]["quarantine"] == QUARANTINED);

    let reads: [&[&str]; 8] = [
        &["list"],
        &["list", "payment_reminder", "--limit", "1"],
        &["list", "--quarantined"],
        &["show", "A-2"],
        &["show", REMINDER],
        &["parked"],
        &["skipped", "payment_reminder"],
        &["list", "nothing"],
    ];
    let read = read_remotely(&dir, &broken, &reads);
    assert_eq!(read.iter().filter(|(code, _)| *code == Some(0)).count(), 14, "{read:?}");
    broken.stop();
    assert_eq!(read_locally(&dir, &reads), read);
    assert_eq!(dir.run(&["processes", "retry", "A-2"]).code, Some(2), "a reason is required");
    dir.refused(&["processes", "retry", "A-2", "--reason", " "], 1, "error: expected a reason, found none");
    let retried = dir.json(&["processes", "retry", "A-2", "--reason", "a shorter deadline", "--by", "ada"]);
    assert_eq!((&retried[0]["quarantine"], &retried[0]["pending"]), (&Value::Null, &json!(1)));
    assert!(payloads(&dir, "process-retried")[1].contains("ada"));

    let fixed = service(&dir, &provider, "6");
    let reminded = wait_until(&dir, &fixed, &["show", "A-2"], |shown| shown["sagas"] != json!([]));
    assert_eq!((&reminded["sagas"], &reminded["phase"]), (&json!(["payment-reminder:A-2"]), &json!("running")));
    assert_eq!((&reminded["pending"], &reminded["timers"]), (&json!([]), &json!([])));
    let start = Instant::now();
    while provider.count("fulfilment:A-2", "reminder") == 0 {
        assert!(start.elapsed() < PATIENCE, "no reminder");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(provider.customer_pays(&wait_for_invoice(&provider)), 200);
    wait_until(&dir, &fixed, &["show", "A-2"], |shown| shown["phase"] == "ended");
    assert_eq!(operate(&dir, &fixed, &["list"]), json!([]));
    fixed.stop();
}

#[test]
fn only_the_role_operate_permits_actions_on_reminders_and_the_state_refuses_some() {
    let dir = imported(3);
    let provider = ProviderProgram::new(&dir, &["--unpaid-rate", "1"]);
    let service = service(&dir, &provider, TOO_LONG);
    fulfil(&service, "1");
    fulfil(&service, "2");
    let listed = wait_until(&dir, &service, &["list", "--quarantined"], |list| list[1]["phase"] == "missing");
    check_document(&service, "/processes", &listed);
    check_document(&service, "/processes/{id}", &operate(&dir, &service, &["show", "1"]));
    let reason = ["--reason", "no reminder", "--by", "ada"];
    for (token, list, drop) in [("reader", 0, 1), ("writer", 0, 1), ("guess", 1, 1), ("operator", 0, 0)] {
        assert_eq!(remote(&dir, &service, token, &["list"]).code, Some(list), "{token}");
        assert_eq!(remote(&dir, &service, token, &[&["drop", "1"], &reason[..]].concat()).code, Some(drop), "{token}");
    }
    let dropped = operate(&dir, &service, &["show", "1"]);
    assert_eq!((&dropped["quarantine"], &dropped["pending"]), (&Value::Null, &json!([])));
    let abandoned = operate(&dir, &service, &[&["abandon", "payment_reminder:2"], &reason[..]].concat());
    assert_eq!(abandoned[0]["phase"], "abandoned");
    assert_eq!(operate(&dir, &service, &["list"]), json!([]));

    let act = |verb: &str| json!({"verb": verb, "reason": "a mistake"});
    for (path, body, status, detail) in [
        ("/processes/2", None, 200, ""),
        ("/processes/9", None, 404, "process payment_reminder:9 does not exist; "),
        ("/processes/9", Some(act("retry")), 404, "process payment_reminder:9 does not exist; "),
        ("/processes/9", Some(act("drop")), 404, "process payment_reminder:9 does not exist; "),
        ("/processes/9", Some(act("abandon")), 404, "process payment_reminder:9 does not exist; "),
        ("/processes/1", Some(act("retry")), 409, "process \"payment_reminder:1\" is not quarantined; "),
        ("/processes/1", Some(act("drop")), 409, "process \"payment_reminder:1\" is not quarantined; "),
        ("/processes/2", Some(act("abandon")), 409, "process \"payment_reminder:2\" has ended"),
        ("/processes/2", Some(json!({"verb": "retry", "reason": ""})), 422, "expected a reason, found none"),
        ("/processes/2", Some(json!({"verb": "kill", "reason": "a mistake"})), 422, ""),
        ("/processes?process=nothing", None, 404, "there is no process \"nothing\": expected payment_reminder"),
        ("/processes/parked?process=nothing", None, 404, "there is no process \"nothing\""),
        ("/processes/skipped?limit=x", None, 400, ""),
        (
            "/processes/parked/payment_reminder/1",
            Some(act("skip")),
            404,
            "process payment_reminder has no parked event",
        ),
        ("/processes/parked/nothing/1", Some(act("skip")), 404, "there is no process \"nothing\""),
    ] {
        let (found, answer) = request(&service, "operator", path, body.as_ref());
        assert_eq!(found, status, "{path}: {answer}");
        let found = answer["detail"].as_str().unwrap_or_default();
        assert!(found.starts_with(detail), "{path}: {found}");
        if let Some(body) = body {
            assert_eq!(request(&service, "writer", path, Some(&body)).0, 403, "{path}");
        }
    }
    // A command at a service has the exit code and the message of the command at a store.
    let refused = remote(&dir, &service, "operator", &["abandon", "2", "--reason", "a mistake"]);
    let has_ended = "process \"payment_reminder:2\" has ended";
    assert!(refused.err.trim_end().ends_with(&format!("rejected the request: {has_ended}")), "{}", refused.err);
    assert_eq!(refused.code, Some(1));
    service.stop();
    dir.refused(&["processes", "abandon", "2", "--reason", "a mistake"], 1, &format!("error: {has_ended}"));
    let expected = "error: there is no process \"nothing\": expected payment_reminder";
    dir.refused(&["processes", "list", "nothing"], 1, expected);
    let unknown = "error: process payment_reminder:9 does not exist; `order-service processes list` has those that \
                   have not ended";
    dir.refused(&["processes", "show", "9"], 1, unknown);
    assert!(payloads(&dir, "process-event-dropped")[0].contains("ops for ada"));
}

/// Writes an event to the store that no program can decode.
fn write_undecodable_event(dir: &TestDir) -> u64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = es_rocksdb::RocksDbStore::open(dir.path("shop")).await.expect("opened");
        let event = NewEvent::json(EventType::new("order-cancelled").expect("a name"), "{}");
        let stream = StreamId::new("order-B-1").expect("a name");
        store.commit(Commit::to(&stream, ExpectedRevision::Any, [event])).await.expect("committed");
        let head = store.head().await.expect("read").expect("an event").get();
        store.close().await.expect("closed");
        head
    })
}

#[test]
fn an_event_that_cannot_be_decoded_is_parked_until_an_operator_skips_it() {
    let dir = sample();
    dir.done(&import(&[]));
    let provider = ProviderProgram::new(&dir, &[]);
    // The process follows the events from its first start on.
    service(&dir, &provider, "60").stop();
    let position = write_undecodable_event(&dir);
    let service = service(&dir, &provider, "60");
    let parked = wait_until(&dir, &service, &["parked"], |list| list != &json!([]));
    let event = &parked[0];
    assert_eq!((&event["position"], &event["event_type"]), (&json!(position), &json!("order-cancelled")));
    assert_eq!((&event["process"], &event["skipped_by"]), (&json!("payment_reminder"), &Value::Null));
    check_document(&service, "/processes/parked", &parked);

    let position = position.to_string();
    let act = |verb: &'static str| [verb, "payment_reminder", &position, "--reason", "a test", "--by", "ada"];
    let retried = operate(&dir, &service, &act("retry-event"));
    assert_eq!(retried[0]["position"], event["position"]);
    let again = |list: &Value| list[0]["position"] == event["position"] && list[0]["time"] != event["time"];
    wait_until(&dir, &service, &["parked", "payment_reminder"], again);
    let other_index = [&act("skip-event")[..], &["--index", "1"]].concat();
    let refused = remote(&dir, &service, "operator", &other_index);
    assert!(refused.code == Some(1) && refused.err.contains("has no parked event at position"), "{}", refused.err);
    assert_eq!(remote(&dir, &service, "writer", &act("skip-event")).code, Some(1));
    let skipped = operate(&dir, &service, &act("skip-event"));
    assert_eq!(skipped[0]["skipped_by"], "ops for ada: a test");
    assert_eq!(operate(&dir, &service, &["parked"]), json!([]));
    assert_eq!(operate(&dir, &service, &["skipped"]), skipped);
    check_document(&service, "/processes/skipped", &skipped);
    let reads: [&[&str]; 2] = [&["skipped"], &["parked", "payment_reminder"]];
    let read = read_remotely(&dir, &service, &reads);
    service.stop();
    assert_eq!(read_locally(&dir, &reads), read);
    assert_eq!(dir.done(&["processes", "parked"]).trim_end(), "no parked events");
    let again = dir.run(&[&["processes"], &act("skip-event")[..]].concat());
    assert!(again.code == Some(1) && again.err.contains("has no parked event at position"), "{}", again.err);
}

/// Checks an answer against the OpenAPI document of the routes of operators.
fn check_document(service: &Service, route: &str, answer: &Value) {
    let (status, document) = request(service, "reader", "/openapi.json", None);
    assert_eq!(status, 200);
    oas3::from_json(document.to_string()).expect("a document of OpenAPI 3.1").validate_version().expect("supported");
    assert_every_reference_resolves(&document, &document);
    let schema = &document["paths"][route]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    assert!(schema.is_object() && answer != &json!([]), "{route} is not in the document: {answer}");
    assert_has_members(&document, schema, answer, route);
    for (route, method, statuses) in [
        ("/processes/{id}", "get", &["200", "404", "401", "403"][..]),
        ("/processes/{id}", "post", &["200", "404", "409", "422"]),
        ("/processes/parked/{process}/{position}", "post", &["200", "404", "409", "422"]),
        ("/sagas/{id}", "post", &["200", "404", "409", "422"]),
    ] {
        for status in statuses {
            assert!(document["paths"][route][method]["responses"][status].is_object(), "{method} {route}: {status}");
        }
    }
}
