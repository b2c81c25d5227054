//! The listener of the operations of the program over real sockets: roles, refusals, the audit, and `es --url`.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};

use crate::edge::{RawReply, TOKENS, connect_to, raw_to};
use crate::serve::{Service, order};
use crate::support::{Ran, TestDir};

/// An id of which there is no job.
const NO_JOB: &str = "0198b7a0-2f4a-7c3e-9b1a-5d6e7f809a1b";
/// An id of which there is no transaction.
const NO_TRANSACTION: &str = "market.1.0198b7a0-2f4a-7c3e-9b1a-5d6e7f809a1b";
/// The variable with the arguments of `es`, as JSON.
const ES: &str = "ORDER_SERVICE_TEST_ES";

/// Sends a request with a JSON body, or without a body for `null`.
fn send(address: &str, method: &str, path: &str, headers: &[&str], body: &Value) -> RawReply {
    if body.is_null() {
        return raw_to(address, method, path, headers, "");
    }
    raw_to(address, method, path, &[headers, &["Content-Type: application/json"]].concat(), &body.to_string())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// The requests that only an operator may send: each verb of the operations of the program.
fn verbs() -> Vec<(&'static str, String, Value)> {
    let (none, rule) = (Value::Null, json!({"category": "order", "max_count": 1}));
    let act = |verb: &str| json!({"verb": verb, "reason": "a test"});
    let row = |method: &'static str, path: &str, body: &Value| (method, path.to_owned(), body.clone());
    vec![
        row("DELETE", "/streams/order-A-1", &none),
        row("PUT", "/retention/rules", &rule),
        row("DELETE", "/retention/rules?category=order", &none),
        row("DELETE", "/snapshots?all=true", &none),
        row("POST", "/scavenge", &none),
        row("POST", "/compact", &none),
        row("DELETE", &format!("/jobs/{NO_JOB}"), &none),
        row("POST", "/projections/sales", &json!({"verb": "pause"})),
        row("POST", "/sagas/A-1", &act("pause")),
        row("POST", "/processes/A-1", &act("retry")),
        row("POST", "/processes/parked/payment_reminder/1", &act("skip")),
        row("POST", &format!("/transactions/{NO_TRANSACTION}"), &json!({"verb": "forget", "reason": "a test"})),
    ]
}

/// Waits until a job has ended.
fn wait_for_job(address: &str, headers: &[&str], started: &RawReply) {
    let id = started.json()["id"].as_str().expect("an id").to_owned();
    let ended = send(address, "GET", &format!("/jobs/{id}?wait=20"), headers, &Value::Null);
    assert_eq!((ended.status, &ended.json()["state"]), (200, &json!("done")), "{}", ended.body);
}

/// The operators' verbs are not open to customers: neither their roles nor the public listener permits one. The audit
/// has each of them with the authenticated client, also with a filter of the log that excludes everything else.
#[test]
fn each_verb_needs_the_role_operate_and_is_in_the_audit_with_its_client() {
    let dir = TestDir::new();
    dir.write("tokens", TOKENS);
    let service =
        Service::logged(&dir, "127.0.0.1:0", &["--tokens", "tokens", "--log", "error", "--log-format", "json"]);
    let (operations, public) = (service.operations.as_str(), service.address.as_str());
    let [reader, writer, operator] = ["reader", "writer", "operator"].map(bearer);
    assert_eq!(send(public, "PUT", "/orders/A-1", &[&writer], &order()).status, 201);
    let guessed = bearer("guess");
    let mut expected = Vec::new();
    for (method, path, body) in verbs() {
        for (client, name, status) in [
            (None, "not authenticated", 401),
            (Some(&guessed), "not authenticated", 401),
            (Some(&reader), "reports", 403),
            (Some(&writer), "shop", 403),
        ] {
            let headers: Vec<&str> = client.into_iter().map(String::as_str).collect();
            send(operations, method, &path, &headers, &body).problem(status);
            expected.push(json!([name, method, path, status]));
        }
        let public = send(public, method, &path, &[&operator], &body);
        assert!([404, 405].contains(&public.status), "{method} {path}: {} {}", public.status, public.body);
    }
    for path in [
        "/info",
        "/streams",
        "/log",
        "/retention",
        "/snapshots",
        "/jobs",
        "/projections",
        "/sagas",
        "/processes",
        "/transactions",
        "/openapi.json",
    ] {
        assert_eq!(send(operations, "GET", path, &[&reader], &Value::Null).status, 200, "{path}");
        send(operations, "GET", path, &[], &Value::Null).problem(401);
    }
    let head = send(operations, "GET", "/info", &[&reader], &Value::Null).json()["head"].clone();
    assert_eq!(head, 1, "nothing was written");

    for (method, path, body) in verbs() {
        let done = send(operations, method, &path, &[&operator], &body);
        let exists = !["/jobs", "/sagas", "/processes", "/transactions"].iter().any(|route| path.starts_with(route));
        assert!(done.status < 300 || (!exists && done.status == 404), "{method} {path}: {} {}", done.status, done.body);
        if done.status == 202 {
            wait_for_job(operations, &[&operator], &done);
        }
        expected.push(json!(["ops", method, path, done.status]));
    }
    let retention = send(operations, "GET", "/retention", &[&operator], &Value::Null).json();
    assert_eq!(retention["deleted"][0]["by"], "ops", "{retention}");
    service.stop();
    let log = dir.read("log");
    assert!(!log.contains("guess") && !log.contains("Bearer"), "a token is in the log: {log}");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let audit: Vec<Value> = lines
        .filter(|line| line["target"] == "audit")
        .map(|line| json!([line["operator"], line["method"], line["path"], line["status"]]))
        .collect();
    assert_eq!(audit, expected, "{log}");
}

/// A customer reaches the fulfilment of an order under the same checks as every other command.
#[test]
fn the_fulfilment_of_an_order_is_a_command_of_a_writer() {
    let dir = TestDir::new();
    dir.write("tokens", TOKENS);
    let service = Service::with(&dir, &["--tokens", "tokens"]);
    let [reader, writer] = ["reader", "writer"].map(bearer);
    let (path, none) = ("/orders/A-1/fulfil", Value::Null);
    assert_eq!(send(&service.address, "PUT", "/orders/A-1", &[&writer], &order()).status, 201);
    let fulfil = |headers: &[&str], body: &Value| send(&service.address, "POST", path, headers, body);
    fulfil(&[], &none).problem(401);
    fulfil(&[&reader], &none).problem(403);
    fulfil(&[&writer, "Origin: https://evil.example"], &none).problem(403);
    fulfil(&[&writer, "If-Match: \"7\""], &none).problem(412);
    fulfil(&[&writer, "If-None-Match: *"], &none).problem(412);
    fulfil(&[&writer], &json!({"order": "A-2"})).problem(422);
    raw_to(&service.address, "POST", path, &[&writer], "{}").problem(415);
    let provider = fulfil(&[&writer, "If-Match: \"0\""], &none).problem(503);
    assert!(provider.contains("--provider URL"), "{provider}");
    send(&service.address, "GET", "/orders/A-1/fulfilment", &[], &none).problem(401);
    send(&service.address, "GET", "/orders/A-1/fulfilment", &[&reader], &none).problem(404);
    send(&service.address, "GET", "/orders/A-1/fulfilment?at_least=99", &[&reader], &none).problem(409);
}

/// Each refusal of the operations, whatever refuses: the host, the origin, the router, an extractor, a verb.
#[test]
fn a_refusal_of_the_operations_is_a_problem_without_a_path_of_the_machine() {
    let dir = TestDir::new();
    let service = Service::with(&dir, &["--max-body", "1000"]);
    assert_eq!(send(&service.address, "PUT", "/orders/A-1", &[], &order()).status, 201);
    let (json, none) = ("Content-Type: application/json", "");
    let long = "x".repeat(1001);
    let saga = json!({"verb": "explode", "reason": "x"}).to_string();
    let stale = format!("/log?from={NO_JOB}:1");
    let job = format!("/jobs/{NO_JOB}");
    for (method, path, headers, body, status) in [
        ("POST", "/compact", vec!["Origin: https://evil.example"], none, 403),
        ("POST", "/compact", vec!["Sec-Fetch-Site: cross-site"], none, 403),
        ("GET", "/nowhere", vec![], none, 404),
        ("GET", "/orders", vec![], none, 404),
        ("PUT", "/info", vec![], none, 405),
        ("GET", "/log?limit=x", vec![], none, 400),
        ("GET", "/log?colour=red", vec![], none, 400),
        ("GET", &stale, vec![], none, 410),
        ("GET", "/log?from=99", vec![], none, 409),
        ("GET", "/streams/%FF/events", vec![], none, 400),
        ("GET", "/streams/order-9/events", vec![], none, 404),
        ("DELETE", "/streams/order-A-1?expect=7", vec![], none, 409),
        ("DELETE", "/streams/order-A-1", vec!["If-Match: \"0\""], none, 412),
        ("DELETE", "/streams/order-A-1", vec![json], "{}", 415),
        ("PUT", "/retention/rules", vec![], "{}", 415),
        ("PUT", "/retention/rules", vec![json], "{", 400),
        ("PUT", "/retention/rules", vec![json], "{\"max_cuont\":1}", 422),
        ("PUT", "/retention/rules", vec![json], &long, 413),
        ("POST", "/scavenge", vec![json], "{\"pause_ms\":99999}", 400),
        ("GET", &job, vec![], none, 404),
        ("GET", "/jobs/x", vec![], none, 400),
        ("GET", "/projections/none/parked", vec![], none, 404),
        ("POST", "/projections/none", vec![json], "{\"verb\":\"pause\"}", 404),
        ("GET", "/sagas?limit=x", vec![], none, 400),
        ("GET", "/sagas/A-9", vec![], none, 404),
        ("GET", "/sagas/report", vec![], none, 503),
        ("POST", "/sagas/A-9", vec![json], &saga, 422),
        ("POST", "/sagas/A-9", vec!["Content-Type: text/plain"], &saga, 415),
        ("GET", "/processes/A-9", vec![], none, 404),
        ("GET", "/transactions?limit=x", vec![], none, 400),
    ] {
        let refused = raw_to(&service.operations, method, path, &headers, body);
        assert_eq!(refused.status, status, "{method} {path}: {}", refused.body);
        refused.problem(status);
        let directory = dir.path("").display().to_string();
        assert!(!refused.body.contains(directory.trim_end_matches('/')), "{method} {path}: {}", refused.body);
    }
    // The page of another site whose name resolves to this machine.
    let mut client = connect_to(&service.operations);
    let request = b"POST /compact HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    client.write_all(request).expect("sent");
    let mut text = String::new();
    client.read_to_string(&mut text).expect("a response");
    assert!(text.starts_with("HTTP/1.1 421 ") && text.contains("application/problem+json"), "{text}");
    let head = send(&service.operations, "GET", "/info", &[], &Value::Null).json()["head"].clone();
    assert_eq!(head, 1, "nothing was written");
}

/// The cause of a failure names files of the machine. It is in the log, and not in the response.
#[test]
fn a_failure_of_the_store_is_answered_without_a_path_of_the_machine() {
    let dir = TestDir::new();
    let service = Service::logged(&dir, "127.0.0.1:0", &[]);
    assert_eq!(send(&service.address, "PUT", "/orders/A-1", &[], &order()).status, 201);
    std::fs::rename(dir.path("shop"), dir.path("moved")).expect("renamed");
    let failed = send(&service.address, "PUT", "/orders/A-2", &[], &order());
    assert!([500, 503].contains(&failed.status), "{} {}", failed.status, failed.body);
    failed.problem(failed.status);
    let deleted = send(&service.operations, "DELETE", "/streams/order-A-1", &[], &Value::Null);
    deleted.problem(deleted.status);
    let ready = send(&service.address, "GET", "/readyz", &[], &Value::Null);
    ready.problem(503);
    for reply in [&failed, &deleted, &ready] {
        assert!(!reply.body.contains("shop"), "{}", reply.body);
    }
    assert!(dir.read("log").contains("shop"), "the log has the cause: {}", dir.read("log"));
}

/// The same for a record of the log that is damaged: its error names a file.
#[test]
fn a_damaged_record_is_answered_without_a_file_of_the_machine() {
    let dir = TestDir::new();
    let service = Service::new(&dir);
    for id in ["A-1", "A-2"] {
        assert_eq!(send(&service.address, "PUT", &format!("/orders/{id}"), &[], &order()).status, 201);
    }
    service.stop();
    // The service reads the record after it has opened the store.
    let service = Service::logged(&dir, "127.0.0.1:0", &[]);
    let segment = dir.path("shop").join("log").join("00000001.seg");
    let bytes = std::fs::read(&segment).expect("read");
    let customer = bytes.windows(5).position(|window| window == b"VINET").expect("the first order");
    let mut file = std::fs::File::options().write(true).open(&segment).expect("opened");
    file.seek(SeekFrom::Start(customer as u64)).and_then(|_| file.write_all(b"OTHER")).expect("written");
    for (address, path) in [
        (&service.address, "/orders/A-1"),
        (&service.address, "/orders/A-1/events"),
        (&service.operations, "/streams/order-A-1/events"),
    ] {
        let failed = send(address, "GET", path, &[], &Value::Null);
        assert_eq!(failed.problem(500), "the request failed; the log of the service has the cause", "{path}");
        assert!(!failed.body.contains(".seg"), "{}", failed.body);
    }
    let log = dir.read("log");
    assert_eq!(
        log.lines().filter(|line| line.contains("a request failed") && line.contains(".seg")).count(),
        3,
        "{log}"
    );
}

/// Runs `es` with these arguments in the directory, in a process of its own.
fn es(dir: &TestDir, args: &[&str]) -> Ran {
    let mut command = Command::new(std::env::current_exe().expect("the program of the tests"));
    command.args(["--exact", "--ignored", "--nocapture", "operators::es_in_a_process"]).current_dir(dir.path(""));
    command.env_remove("ES_STORE").env_remove("ES_TOKEN").env(ES, json!(args).to_string());
    let output = command.output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A process of the tests below: cargo builds the program `es` for the tests of its own package only.
#[tokio::test]
#[ignore = "a process of other tests"]
async fn es_in_a_process() {
    let Ok(args) = std::env::var(ES) else { return };
    let args: Vec<String> = serde_json::from_str(&args).expect("JSON");
    let cli = es_cli::args::Cli::try_parse_from(std::iter::once("es".to_owned()).chain(args)).expect("arguments");
    let code = match es_cli::command::run(&cli).await {
        Ok(_) => 0,
        Err(failure) => {
            eprintln!("error: {}", es_core::model::ErrorChain(&failure));
            failure.exit_code().into()
        }
    };
    std::process::exit(code);
}

/// Runs `es` and expects success and an output with this text.
#[track_caller]
fn done(dir: &TestDir, args: &[&str], expected: &str) {
    let ran = es(dir, args);
    assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
    assert!(ran.out.contains(expected), "{args:?}: expected {expected:?}, found {}", ran.out);
}

/// The user of this machine who owns a file.
#[cfg(unix)]
fn owner(path: &PathBuf) -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).expect("it exists"))
}

#[cfg(unix)]
#[test]
fn es_operates_the_service_at_its_unix_socket() {
    let dir = TestDir::new();
    let service = Service::logged(&dir, "unix:operations.sock", &["--log-format", "json"]);
    assert_eq!(service.operations, "unix:operations.sock");
    for id in ["A-1", "A-2"] {
        assert_eq!(send(&service.address, "PUT", &format!("/orders/{id}"), &[], &order()).status, 201);
    }
    assert_eq!(send(&service.address, "POST", "/orders/A-2/approve", &[], &Value::Null).status, 200);
    let url = ["--url", "unix:operations.sock"];
    let done = |args: &[&str], expected: &str| done(&dir, &[&url[..], args].concat(), expected);
    done(&["info"], "3");
    done(&["streams", "--category", "order"], "order-A-2");
    done(&["read", "order-A-2"], "order-approved");
    done(&["log", "--type", "order-placed"], "order-A-1");
    done(
        &["retain", "set", "--category", "order", "--max-count", "1", "--by", "ada"],
        "rule set for category \"order\"",
    );
    done(&["retain", "list"], "order");
    done(&["retain", "scavenge"], "1 event");
    done(&["retain", "clear", "--category", "order"], "rule cleared for category \"order\"");
    done(&["delete", "order-A-1", "--expect", "0", "--by", "ada", "--reason", "asked"], "deleted: stream order-A-1");
    done(&["compact"], "after");
    done(&["snapshots", "list"], "");
    done(&["snapshots", "drop", "--all"], "deleted");
    done(&["projections", "list"], "sales");
    done(&["projections", "pause", "sales", "--reason", "a test"], "sales");
    done(&["projections", "rebuild", "sales", "--reason", "a test"], "sales");
    done(&["projections", "resume", "sales", "--reason", "a test"], "sales");
    done(&["projections", "parked", "sales"], "");
    let refused = es(&dir, &[&url[..], &["delete", "order-A-2", "--expect", "0"]].concat());
    assert_eq!(refused.code, Some(3), "a conflict: {}", refused.err);
    let refused = es(&dir, &[&url[..], &["read", "order-9"]].concat());
    assert!(refused.code == Some(1) && refused.err.contains("order-9"), "{}", refused.err);
    assert_eq!(send(&service.address, "GET", "/orders/A-1", &[], &Value::Null).status, 404);
    let (uid, socket) = (owner(&dir.path("shop")), dir.path("operations.sock"));
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).expect("it exists").permissions()) & 0o777,
        0o600
    );
    service.stop();
    assert!(!socket.exists(), "the socket is removed");
    let deleted = es(&dir, &["--store", "shop", "retain", "list", "--json"]);
    assert!(deleted.out.contains(&format!("\"uid:{uid} for ada\"")), "{} {}", deleted.out, deleted.err);
    let log = dir.read("log");
    assert!(log.lines().any(|line| line.contains("\"audit\"") && line.contains(&format!("\"uid:{uid}\""))), "{log}");
}

#[test]
fn es_operates_the_service_with_the_token_of_an_operator_only() {
    let dir = TestDir::new();
    dir.write("tokens", TOKENS);
    let service = Service::with(&dir, &["--tokens", "tokens"]);
    assert_eq!(send(&service.address, "PUT", "/orders/A-1", &[&bearer("writer")], &order()).status, 201);
    let url = ["--url", &service.operations, "--token-file", "token"];
    let verbs: [&[&str]; 5] = [
        &["retain", "set", "--category", "order", "--max-count", "1"],
        &["retain", "scavenge"],
        &["compact"],
        &["projections", "pause", "sales", "--reason", "a test"],
        &["delete", "order-A-1", "--by", "ada"],
    ];
    for (token, info, verb, error) in [
        ("guess", 1, 1, "expected a valid token"),
        ("reader", 0, 1, "expected the role operate"),
        ("writer", 0, 1, "expected the role operate"),
        ("operator", 0, 0, ""),
    ] {
        dir.write("token", token);
        assert_eq!(es(&dir, &[&url[..], &["info"]].concat()).code, Some(info), "{token}");
        for args in verbs {
            let ran = es(&dir, &[&url[..], args].concat());
            assert_eq!(ran.code, Some(verb), "{token} {args:?}: {}", ran.err);
            assert!(ran.err.contains(error), "{token} {args:?}: {}", ran.err);
        }
    }
    let retention = send(&service.operations, "GET", "/retention", &[&bearer("reader")], &Value::Null).json();
    assert_eq!(retention["deleted"][0]["by"], "ops for ada", "{retention}");
}

/// A second SIGTERM ends the process while a slow client keeps the first one waiting.
#[cfg(unix)]
#[test]
fn a_second_signal_ends_the_service_at_once() {
    let dir = TestDir::new();
    let mut service = Service::with(&dir, &["--drain-deadline", "60", "--body-deadline", "60"]);
    let mut slow = connect_to(&service.address);
    let head =
        "PUT /orders/A-1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n";
    slow.write_all(format!("{head}\r\n{}", "x".repeat(80_000)).as_bytes()).expect("sent");
    std::thread::sleep(Duration::from_millis(500));
    service.signal();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(service.exited(), None, "the first signal waits for the client");
    let start = Instant::now();
    service.signal();
    let code = loop {
        if let Some(code) = service.exited() {
            break code;
        }
        assert!(start.elapsed().as_secs() < 9, "the second signal waits, too");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(code, 1, "the shutdown is not clean");
}
