//! Starts the program and talks HTTP to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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
    assert_eq!(detail(program.post("/orders/2/ship", &json!({}))), (422, "there is no such order".into()));
    program.post("/orders/2", &json!({ "customer": "bob", "cents": 700 }));
    let shipped = program.send("/orders/1/ship", &json!({}));
    let position = shipped.headers()["es-position"].to_str().unwrap().to_owned();
    assert_eq!(answer(shipped), (200, order("Shipped", 500)));
    assert_eq!(program.post("/orders/1/ship", &json!({})), (200, order("Shipped", 500)));
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
        assert_eq!(detail(program.post(&format!("{address}/ship"), &json!({}))).0, 400, "{address}");
    }
    assert_eq!(program.get("/orders/7"), (200, order("Placed", 500)));
    program.stop();
}

#[test]
fn the_program_fits_in_200_lines() {
    let source = include_str!("../src/main.rs");
    assert!(source.lines().count() <= 200, "expected at most 200 lines, found {}", source.lines().count());
}
