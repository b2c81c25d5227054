//! Operations over TCP and Unix sockets.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use async_trait::async_trait;
use es_core::model::Category;
use es_core::retention::{Note, Rule, Scavenge, ScavengeReport, Scope};
use es_core::store::implement::StoreLayer;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, CommitError, EventReader, EventStore, EventType, ExpectedRevision, NewEvent, StreamId};
use es_http::operations::{BindError, Operations, OperationsAddress, OperationsListener};
use es_http::{Drained, ServeOptions, Tokens};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::log_lines::LogLines;
use crate::support::{Answer, PATIENCE};

/// The tokens `reader` and `operator`.
const TOKENS: &str = "
sha256:3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30 read reports
sha256:06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23 operate ops
";

/// Running operations.
struct Running {
    address: OperationsAddress,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Drained>,
}

impl Running {
    fn start(operations: Operations, listener: OperationsListener) -> Self {
        let address = listener.address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serve = operations.serve(listener, ServeOptions::new(), async { stopped.await.unwrap() });
        Self { address, stop, served: tokio::spawn(serve) }
    }

    async fn local(store: Arc<dyn EventStore>) -> Self {
        let listener = OperationsListener::local(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        Self::start(Operations::new(store), listener)
    }

    async fn connect(&self) -> Box<dyn Socket> {
        match &self.address {
            OperationsAddress::Tcp(address) => Box::new(TcpStream::connect(address).await.unwrap()),
            OperationsAddress::Unix(path) => Box::new(UnixStream::connect(path).await.unwrap()),
        }
    }

    /// Sends a request with a JSON body, or without a body for `null`.
    async fn send(&self, method: &str, path: &str, headers: &str, body: &Value) -> Answer {
        let mut client = self.connect().await;
        client.write_all(request(method, path, headers, body).as_bytes()).await.unwrap();
        Answer::read(&mut client).await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.send("GET", path, "", &Value::Null).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.served).await.unwrap().unwrap();
    }
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

fn request(method: &str, path: &str, headers: &str, body: &Value) -> String {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let content = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{content}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Returns a store with `orders` streams `order-1`, `order-2` and so on, of one event each.
async fn store_with(orders: u64) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    for number in 1..=orders {
        append(&store, &format!("order-{number}")).await;
    }
    Arc::new(store)
}

async fn append(store: &MemoryStore, stream: &str) {
    let event = NewEvent::json(EventType::new("placed").unwrap(), r#"{"cents": 5}"#);
    let stream = StreamId::new(stream).unwrap();
    store.commit(Commit::to(&stream, ExpectedRevision::Any, [event])).await.unwrap();
}

#[tokio::test]
async fn an_address_that_other_machines_reach_needs_tokens() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let address: OperationsAddress = address.parse().unwrap();
        let refused = OperationsListener::local(&address).await.unwrap_err();
        assert!(matches!(refused, BindError::NotLocal { .. }), "{refused}");
    }
    let tokens: Tokens = TOKENS.parse().unwrap();
    let listener = OperationsListener::authenticated(&"0.0.0.0:0".parse().unwrap(), tokens).await.unwrap();
    let port = listener.address().unwrap().to_string().rsplit_once(':').unwrap().1.to_owned();
    let running = Running::start(Operations::new(store_with(1).await), listener);
    let running = Running { address: format!("127.0.0.1:{port}").parse().unwrap(), ..running };
    running.send("GET", "/info", "", &Value::Null).await.problem(401);
    assert_eq!(running.send("GET", "/info", &bearer("reader"), &Value::Null).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_unix_socket_is_for_its_user_only_and_records_the_user() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("operations.sock");
    let address: OperationsAddress = format!("unix:{}", path.display()).parse().unwrap();
    let listener = OperationsListener::local(&address).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no other file remains");
    let in_use = OperationsListener::local(&address).await.unwrap_err();
    assert!(matches!(in_use, BindError::InUse { .. }), "{in_use}");

    let store = store_with(1).await;
    let running = Running::start(Operations::new(store.clone()), listener);
    assert_eq!(running.get("/info").await["head"], 1);
    let deleted = running.send("DELETE", "/streams/order-1?reason=ticket", "", &Value::Null).await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    let report = running.get("/retention").await;
    let uid = rustix_uid(directory.path());
    assert_eq!(report["deleted"][0]["by"], format!("uid:{uid}"));
    assert_eq!(report["deleted"][0]["reason"], "ticket");
    running.stop().await;
    assert!(!path.exists(), "the file is removed with the listener");
}

/// Returns the user of the process, who owns a new directory.
fn rustix_uid(directory: &std::path::Path) -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(directory).unwrap())
}

#[tokio::test]
async fn the_socket_of_an_ended_process_is_replaced_and_another_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let address = OperationsAddress::Unix(path.clone());
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "an ended process leaves its socket");
    drop(OperationsListener::local(&address).await.unwrap());
    std::fs::write(&path, "text").unwrap();
    let refused = OperationsListener::local(&address).await.unwrap_err();
    assert!(matches!(refused, BindError::Io { .. }), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
}

#[tokio::test]
async fn a_reader_looks_and_only_an_operator_changes() {
    let store = store_with(2).await;
    let tokens: Tokens = TOKENS.parse().unwrap();
    let listener = OperationsListener::authenticated(&"127.0.0.1:0".parse().unwrap(), tokens).await.unwrap();
    let running = Running::start(Operations::new(store.clone()), listener);
    let reader = bearer("reader");
    for path in ["/info", "/streams", "/log", "/retention", "/snapshots", "/jobs", "/projections"] {
        assert_eq!(running.send("GET", path, &reader, &Value::Null).await.status, 200, "{path}");
        running.send("GET", path, "", &Value::Null).await.problem(401);
    }
    let rule = json!({ "category": "order", "max_count": 1 });
    for (method, path, body) in [
        ("DELETE", "/streams/order-1", &Value::Null),
        ("PUT", "/retention/rules", &rule),
        ("DELETE", "/retention/rules?category=order", &Value::Null),
        ("DELETE", "/snapshots?all=true", &Value::Null),
        ("POST", "/scavenge", &Value::Null),
        ("POST", "/compact", &Value::Null),
        ("POST", "/projections/orders", &json!({ "verb": "pause" })),
    ] {
        let detail = running.send(method, path, &reader, body).await.problem(403);
        assert_eq!(detail, "expected the role operate, found read of \"reports\"", "{method} {path}");
        running.send(method, path, "", body).await.problem(401);
    }
    assert_eq!(store.head().await.unwrap().map(es_core::Position::get), Some(2), "nothing was written");
    let operator = bearer("operator");
    let path = "/streams/order-1?by=ada&reason=asked";
    assert_eq!(running.send("DELETE", path, &operator, &Value::Null).await.status, 200);
    let retention = running.send("GET", "/retention", &operator, &Value::Null).await.body;
    let retention: Value = serde_json::from_str(&retention).unwrap();
    assert_eq!(retention["deleted"][0]["by"], "ops for ada", "a request cannot replace the identity");
    running.stop().await;
}

#[tokio::test]
async fn refusals_are_problems_that_name_the_next_step() {
    let running = Running::local(store_with(1).await).await;
    for (method, path, status, detail) in [
        ("GET", "/streams/order-9/events", 404, "expected stream \"order-9\", found none"),
        ("GET", "/streams/order-1/events?from=7", 400, "expected a revision up to 0, found 7"),
        ("GET", "/log?colour=red", 400, "unknown parameter \"colour\""),
        ("GET", "/log?from=9", 409, "is ahead of the log"),
        ("GET", "/log?from=0198b7a0-2f4a-7c3e-9b1a-5d6e7f809a1b:1", 410, "belongs to log"),
        ("DELETE", "/streams/order-9", 404, "expected stream \"order-9\", found none"),
        ("DELETE", "/streams/order-9?expect=3", 409, "order-9"),
        ("DELETE", "/streams/order-1?expect=some", 400, "expected any, none, exists or a revision"),
        ("DELETE", "/retention/rules?category=order", 404, "expected a rule for category \"order\""),
        ("DELETE", "/snapshots", 400, "expected one of stream, category and all=true"),
        ("GET", "/jobs/0198b7a0-2f4a-7c3e-9b1a-5d6e7f809a1b", 404, "does not exist"),
        ("POST", "/projections/orders", 400, "expected a JSON body"),
        ("GET", "/nothing", 404, "/nothing does not exist"),
        ("PUT", "/info", 405, "does not support PUT"),
    ] {
        let found = running.send(method, path, "", &Value::Null).await.problem(status);
        assert!(found.contains(detail), "{method} {path}: {found}");
    }
    let mut client = running.connect().await;
    client.write_all(b"GET /info HTTP/1.1\r\nHost: shop.example\r\n\r\n").await.unwrap();
    let detail = Answer::read(&mut client).await.problem(421);
    assert!(detail.contains("expected this machine"), "{detail}");
    let foreign = "Origin: https://shop.example\r\n";
    running.send("POST", "/compact", foreign, &Value::Null).await.problem(403);
    running.stop().await;
}

#[tokio::test]
async fn the_pages_of_a_read_are_the_whole_read() {
    let store = store_with(5).await;
    let running = Running::local(store.clone()).await;
    let (mut positions, mut path) = (Vec::new(), "/log?limit=2".to_owned());
    loop {
        let page = running.get(&path).await;
        let events = page["events"].as_array().unwrap();
        positions.extend(events.iter().map(|event| event["position"].as_u64().unwrap()));
        path = format!("/log?limit=2&from={}", page["next"]);
        if page["is_end"] == true {
            break;
        }
    }
    assert_eq!(positions, [1, 2, 3, 4, 5]);
    let page = running.get("/log?category=other&wait=0").await;
    assert_eq!((&page["next"], &page["is_end"]), (&json!(6), &json!(true)), "a follower continues at the head");
    let waiting = running.get("/log?from=6&wait=20");
    let (page, ()) = tokio::join!(waiting, append(&store, "order-1"));
    assert_eq!(page["events"][0]["stream"], "order-1");
    let page = running.get("/streams/order-1/events?backward=true&limit=1").await;
    assert_eq!((&page["events"][0]["revision"], &page["next"]), (&json!(1), &json!(0)));
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page = running.get(&format!("/streams?category=order&limit=2{after}")).await;
        names.extend(page["streams"].as_array().unwrap().iter().map(|row| row["stream"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(names, ["order-1", "order-2", "order-3", "order-4", "order-5"]);
    running.stop().await;
}

/// A store whose scavenge waits.
#[derive(Debug)]
struct SlowScavenge {
    inner: Arc<MemoryStore>,
    proceed: Arc<Notify>,
}

#[async_trait]
impl StoreLayer for SlowScavenge {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn scavenge(&self, how: &Scavenge) -> Result<ScavengeReport, CommitError> {
        self.proceed.notified().await;
        self.inner.scavenge(how).await
    }
}

#[tokio::test]
async fn a_job_outlives_its_connection_and_excludes_another_job() {
    let (inner, proceed) = (store_with(3).await, Arc::new(Notify::new()));
    let rule = Rule { max_count: Some(1), ..Rule::default() };
    append(&inner, "order-1").await;
    let order = Scope::Category(Category::new("order").unwrap());
    inner.commit(Commit::set_rule(order, rule, Note::default())).await.unwrap();
    let running = Running::local(Arc::new(SlowScavenge { inner, proceed: proceed.clone() })).await;
    let started = running.send("POST", "/scavenge", "", &json!({ "by": "ada", "reason": "monthly" })).await;
    assert_eq!(started.status, 202, "{started:?}");
    let id = serde_json::from_str::<Value>(&started.body).unwrap()["id"].as_str().unwrap().to_owned();
    // The connection of the request is closed now.
    let detail = running.send("POST", "/compact", "", &Value::Null).await.problem(409);
    assert!(detail.starts_with("a scavenge by ada runs since "), "{detail}");
    assert_eq!(running.get(&format!("/jobs/{id}")).await["state"], "running");
    let path = format!("/jobs/{id}?wait=20");
    let waiting = running.get(&path);
    proceed.notify_one();
    let job = waiting.await;
    assert_eq!((&job["state"], &job["result"]["events"], &job["by"]), (&json!("done"), &json!(1), &json!("ada")));
    assert_eq!(running.send("POST", "/compact", "", &Value::Null).await.status, 202, "the next job starts");
    assert_eq!(running.get("/jobs").await.as_array().unwrap().len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn the_service_stops_a_running_job() {
    let (inner, proceed) = (store_with(1).await, Arc::new(Notify::new()));
    let running = Running::local(Arc::new(SlowScavenge { inner: inner.clone(), proceed: proceed.clone() })).await;
    running.send("POST", "/scavenge", "", &Value::Null).await;
    let stopping = running.stop();
    proceed.notify_one();
    stopping.await;
    assert_eq!(Arc::strong_count(&inner), 1, "the job has ended");
}

#[tokio::test(flavor = "current_thread")]
async fn each_change_is_logged_with_the_identity_of_its_operator() {
    let lines = LogLines::collect();
    let tokens: Tokens = TOKENS.parse().unwrap();
    let listener = OperationsListener::authenticated(&"127.0.0.1:0".parse().unwrap(), tokens).await.unwrap();
    let merged = axum::Router::new().route("/merged", axum::routing::post(async || "executed"));
    let running = Running::start(Operations::new(store_with(1).await).merge(merged), listener);
    running.send("GET", "/info", &bearer("operator"), &Value::Null).await;
    running.send("DELETE", "/streams/order-1?reason=x", &bearer("operator"), &Value::Null).await;
    running.send("POST", "/compact", &bearer("reader"), &Value::Null).await.problem(403);
    // Guessed tokens and the pages of other sites left no line.
    running.send("POST", "/compact", &bearer("guessed"), &Value::Null).await.problem(401);
    let foreign = format!("{}Origin: https://shop.example\r\n", bearer("operator"));
    running.send("POST", "/compact", &foreign, &Value::Null).await.problem(403);
    // A body that is declared too long was answered before the audit.
    for (method, path) in [("PUT", "/retention/rules"), ("DELETE", "/streams/order-1"), ("POST", "/merged")] {
        let mut client = running.connect().await;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{}", bearer("operator"));
        let body = "Content-Type: application/json\r\nContent-Length: 1048577\r\n\r\n";
        client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        Answer::read(&mut client).await.problem(413);
    }
    running.stop().await;
    let text = lines.text();
    let logged: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let audit: Vec<&Value> =
        logged.iter().filter(|line| line["target"] == "audit").map(|line| &line["fields"]).collect();
    let expected = [
        json!(["ops", "DELETE", "/streams/order-1?reason=x", 200]),
        json!(["reports", "POST", "/compact", 403]),
        json!(["not authenticated", "POST", "/compact", 401]),
        json!(["ops", "POST", "/compact", 403]),
        json!(["ops", "PUT", "/retention/rules", 413]),
        json!(["ops", "DELETE", "/streams/order-1", 413]),
        json!(["ops", "POST", "/merged", 413]),
    ];
    let found: Vec<Value> =
        audit.iter().map(|line| json!([line["operator"], line["method"], line["path"], line["status"]])).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "current_thread")]
async fn a_change_that_is_sent_to_another_host_is_logged() {
    let lines = LogLines::collect();
    let running = Running::local(store_with(1).await).await;
    let mut client = running.connect().await;
    client.write_all(b"DELETE /streams/order-1 HTTP/1.1\r\nHost: shop.example\r\n\r\n").await.unwrap();
    Answer::read(&mut client).await.problem(421);
    running.stop().await;
    let text = lines.text();
    assert!(text.lines().any(|line| line.contains(r#""target":"audit""#) && line.contains("421")), "{text}");
}

/// A rule with a misspelled limit was set without it, one with two scopes for the larger one, and a deletion whose
/// conditions were in the body or in `If-Match` had none. A scavenge after that removes the events for ever.
#[tokio::test]
async fn a_change_with_input_that_would_be_ignored_is_refused() {
    let store = store_with(1).await;
    let running = Running::local(store.clone()).await;
    let two_scopes = json!({ "category": "order", "stream": "order-7", "max_count": 1 });
    let misspelled = json!({ "stream": "cart-1", "max_age_ms": 1000, "max_cuont": 5, "raeson": "x" });
    let (none, hard) = (Value::Null, json!({ "kind": "hard", "expect": "3" }));
    let rule = json!({ "category": "order", "max_count": 1 });
    let matching = "If-Match: \"3\"\r\n";
    for (method, path, headers, body, status) in [
        ("PUT", "/retention/rules", "", &two_scopes, 400),
        ("PUT", "/retention/rules", "", &misspelled, 422),
        ("PUT", "/retention/rules", "", &json!({ "max_count": 1 }), 400),
        ("PUT", "/retention/rules?stream=a", "", &rule, 400),
        ("PUT", "/retention/rules", matching, &rule, 412),
        ("DELETE", "/streams/order-1", "", &hard, 415),
        ("DELETE", "/streams/order-1", matching, &none, 412),
        ("DELETE", "/streams/order-1", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n", &none, 412),
        ("DELETE", "/retention/rules?category=order", "", &rule, 415),
        ("DELETE", "/snapshots?all=true", "", &hard, 415),
        ("GET", "/log", "", &hard, 415),
        ("POST", "/scavenge?pause_ms=50", "", &none, 400),
        ("POST", "/scavenge", "", &json!({ "pause_ms": u64::MAX }), 400),
        ("POST", "/scavenge", "", &json!({ "pause_ms": 10_001 }), 400),
        ("POST", "/compact?x", "", &none, 400),
        ("POST", "/compact", "", &json!({ "pause_ms": 50 }), 422),
        ("POST", "/projections/orders?reason=x", "", &json!({ "verb": "pause" }), 400),
    ] {
        running.send(method, path, headers, body).await.problem(status);
    }
    assert_eq!(store.head().await.unwrap().map(es_core::Position::get), Some(1), "nothing was written");
    assert_eq!(running.get("/jobs").await, json!([]));
    assert_eq!(running.send("PUT", "/retention/rules", "", &rule).await.status, 200);
    running.stop().await;
}

/// A request that waited for a job delayed the drain by up to 20 seconds, and a scavenge that cannot be stopped delayed
/// the end of the service for ever.
#[tokio::test]
async fn neither_a_job_nor_a_client_that_waits_for_it_keeps_the_service_from_stopping() {
    let (inner, proceed) = (store_with(1).await, Arc::new(Notify::new()));
    let running = Running::local(Arc::new(SlowScavenge { inner, proceed })).await;
    let started = running.send("POST", "/scavenge", "", &json!({ "pause_ms": 10_000 })).await;
    let id = serde_json::from_str::<Value>(&started.body).unwrap()["id"].as_str().unwrap().to_owned();
    let mut client = running.connect().await;
    let wait = request("GET", &format!("/jobs/{id}?wait=20"), "", &Value::Null);
    client.write_all(wait.as_bytes()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let start = std::time::Instant::now();
    let Running { stop, served, .. } = running;
    stop.send(()).unwrap();
    assert_eq!(Answer::read(&mut client).await.status, 200);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    let drained = timeout(PATIENCE, served).await.expect("the job is left").unwrap();
    assert_eq!(drained.aborted, 0);
}
