//! Starts the program and talks HTTP to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use es_core::model::LogPosition;
use es_core::retention::{DeleteKind, Note};
use es_core::store::StoreAdmin;
use es_core::{EventReader, EventStore, ExpectedRevision, StreamId};
use es_rocksdb::RocksDbStore;
use serde_json::{Value, json};
use ureq::http::Response;

/// The running program. It is killed when the test ends early.
struct Program(Child, String);

impl Program {
    fn start(directory: &Path) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_quickstart"));
        let mut program = program.arg(directory).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("the program prints its address").to_owned();
        Self(program, address)
    }

    fn get(&self, path: &str) -> (u16, Value) {
        answer(agent().get(format!("{}{path}", self.1)).call().unwrap())
    }

    fn get_after(&self, path: &str, position: &str) -> (u16, Value) {
        answer(agent().get(format!("{}{path}", self.1)).header("es-position", position).call().unwrap())
    }

    /// Ships an order, with a header.
    fn ship(&self, id: u64, header: (&str, &str)) -> Response<ureq::Body> {
        let request = agent().post(format!("{}/orders/{id}/ship", self.1)).header(header.0, header.1);
        request.send_empty().unwrap()
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.send(path, body))
    }

    fn send(&self, path: &str, body: &Value) -> Response<ureq::Body> {
        agent().post(format!("{}{path}", self.1)).send_json(body).unwrap()
    }

    /// Sends SIGTERM and waits for the end.
    fn stop(mut self) {
        assert!(Command::new("kill").arg(self.0.id().to_string()).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn answer(mut response: Response<ureq::Body>) -> (u16, Value) {
    let text = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn order(status: &str, cents: u64) -> Value {
    json!({ "status": status, "cents": cents })
}

/// Returns the detail of a problem.
fn detail((status, problem): (u16, Value)) -> (u16, String) {
    assert_eq!(problem["status"], status, "{problem}");
    (status, problem["detail"].as_str().unwrap().to_owned())
}

#[test]
fn orders_are_placed_shipped_and_found_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path());
    let place = json!({ "customer": "ada", "cents": 500 });
    assert_eq!(program.post("/orders/1", &place), (200, order("Placed", 500)));
    assert_eq!(detail(program.post("/orders/1", &place)), (422, "the order was placed before".into()));
    let ship = |id| program.ship(id, ("accept", "*/*"));
    assert_eq!(detail(answer(ship(2))), (422, "there is no such order".into()));
    program.post("/orders/2", &json!({ "customer": "bob", "cents": 700 }));
    let shipped = ship(1);
    let position = shipped.headers()["es-position"].to_str().unwrap().to_owned();
    assert_eq!(answer(shipped), (200, order("Shipped", 500)));
    assert_eq!(answer(ship(1)), (200, order("Shipped", 500)));
    let customers = json!([["bob", 700], ["ada", 500]]);
    assert_eq!(program.get_after("/customers", &position), (200, customers.clone()));
    program.stop();

    let program = Program::start(directory.path());
    assert_eq!(program.get("/orders/1"), (200, order("Shipped", 500)));
    assert_eq!(program.get_after("/customers", &position), (200, customers));
    assert_eq!(program.get("/readyz").0, 200);
    program.stop();
}

/// A position ahead of the log was 500, a position was a number without its log, and `/orders/007` was order 7.
#[test]
fn a_position_has_its_log_and_an_order_has_one_address() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path());
    let placed = program.send("/orders/7", &json!({ "customer": "ada", "cents": 500 }));
    let position = placed.headers()["es-position"].to_str().unwrap().to_owned();
    let (log, number) = position.split_once(':').expect("LOG:POSITION");
    assert_eq!(number, "1");
    assert_eq!(detail(program.get_after("/customers", &format!("{log}:2"))).0, 409);
    let other = program.get_after("/customers", "00000000-0000-4000-8000-000000000000:1");
    assert_eq!(detail(other).0, 410);
    for address in ["/orders/007", "/orders/+7", "/orders/x"] {
        assert_eq!(detail(program.get(address)).0, 400, "{address}");
        let ship = agent().post(format!("{}{address}/ship", program.1)).send_empty().unwrap();
        assert_eq!(detail(answer(ship)).0, 400, "{address}");
    }
    assert_eq!(program.get("/orders/7"), (200, order("Placed", 500)));
    program.stop();
}

/// `POST /orders/{id}/ship` ignored a body, `If-Match` and `Idempotency-Key`; reads of an order ignored `ES-Position`.
#[test]
fn nothing_that_a_client_sends_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path());
    let url = |path: &str| format!("{}{path}", program.1);
    let place = json!({ "customer": "ada", "cents": 500 });
    for parameters in ["/orders/1?dry_run=true", "/orders/1/ship?dry_run=true"] {
        assert_eq!(detail(program.post(parameters, &place)).0, 400, "{parameters}");
    }
    let placed = program.send("/orders/1", &place);
    assert_eq!((placed.status().as_u16(), &placed.headers()["etag"]), (200, &"\"0\"".parse().unwrap()));
    for path in ["/orders/1", "/orders/1/ship"] {
        for content_type in ["text/plain", ""] {
            let body = agent().post(url(path)).header("content-type", content_type).send("{}").unwrap();
            assert_eq!(detail(answer(body)).0, 415, "{path}: {content_type:?}");
        }
    }
    for path in ["/orders/1", "/customers"] {
        assert_eq!(detail(program.get(&format!("{path}?at_least=99"))).0, 400, "{path}");
        for (position, status) in [("garbage", 400), ("99", 409), ("00000000-0000-4000-8000-000000000000:1", 410)] {
            assert_eq!(detail(program.get_after(path, position)).0, status, "{path}: {position}");
        }
    }
    assert_eq!(detail(answer(program.ship(1, ("if-match", "\"7\"")))).0, 412);
    let key = ("idempotency-key", "\"k1\"");
    assert_eq!(detail(answer(program.ship(1, ("idempotency-key", "\"")))).0, 400);
    assert_eq!(program.get("/orders/1"), (200, order("Placed", 500)), "nothing was executed");
    assert_eq!(answer(program.ship(1, key)), (200, order("Shipped", 500)));
    let other = agent().post(url("/orders/1")).header(key.0, key.1).send_json(&place).unwrap();
    assert_eq!(detail(answer(other)).0, 422);
    let read = agent().get(url("/orders/1")).header("if-none-match", "\"1\"").call().unwrap();
    assert_eq!(read.status().as_u16(), 304);
    program.stop();
}

/// The view kept the customer of a deleted order, and counted the order.
#[tokio::test]
async fn a_deleted_order_leaves_the_view() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path());
    for (path, customer, cents) in [("/orders/1", "ada", 500), ("/orders/2", "ada", 20), ("/orders/3", "bob", 30)] {
        program.post(path, &json!({ "customer": customer, "cents": cents }));
    }
    program.stop();
    let store = Arc::new(RocksDbStore::open(directory.path()).await.unwrap());
    let admin = StoreAdmin::new(store.clone());
    let mut position = None;
    for stream in ["order-1", "order-3"] {
        let stream = StreamId::new(stream).unwrap();
        let deleted = admin.delete_stream(&stream, DeleteKind::Hard, ExpectedRevision::Any, Note::default()).await;
        position = deleted.unwrap().position();
    }
    let position = LogPosition::in_log(store.log_id(), position).to_string();
    drop(admin);
    store.close().await.unwrap();
    let program = Program::start(directory.path());
    assert_eq!(program.get_after("/customers", &position), (200, json!([["ada", 20]])));
    program.stop();
}

#[test]
fn the_program_fits_in_220_lines() {
    let source = include_str!("../src/main.rs");
    assert!(source.lines().count() <= 220, "expected at most 220 lines, found {}", source.lines().count());
}
