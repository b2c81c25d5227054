//! Starts the program and talks HTTP to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

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

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(agent().post(format!("{}{path}", self.1)).send_json(body).unwrap())
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

fn answer(mut response: ureq::http::Response<ureq::Body>) -> (u16, Value) {
    let text = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[test]
fn orders_are_placed_shipped_and_found_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path());
    let placed = json!({ "order": { "status": "Placed", "cents": 500 }, "position": 1 });
    assert_eq!(program.post("/orders/1", &json!({ "customer": "ada", "cents": 500 })), (200, placed));
    let again = program.post("/orders/1", &json!({ "customer": "ada", "cents": 500 }));
    assert_eq!(again, (422, json!("the order was placed before")));
    assert_eq!(program.post("/orders/2/ship", &json!({})), (422, json!("there is no such order")));
    program.post("/orders/2", &json!({ "customer": "bob", "cents": 700 }));
    let shipped = json!({ "order": { "status": "Shipped", "cents": 500 }, "position": 3 });
    assert_eq!(program.post("/orders/1/ship", &json!({})), (200, shipped.clone()));
    assert_eq!(program.post("/orders/1/ship", &json!({})), (200, shipped));
    let customers = json!([["bob", 700], ["ada", 500]]);
    assert_eq!(program.get("/customers?at_least=3"), (200, customers.clone()));
    program.stop();

    let program = Program::start(directory.path());
    assert_eq!(program.get("/orders/1"), (200, json!({ "status": "Shipped", "cents": 500 })));
    assert_eq!(program.get("/customers?at_least=3"), (200, customers));
    program.stop();
}

#[test]
fn the_program_fits_in_200_lines() {
    let source = include_str!("../src/main.rs");
    assert!(source.lines().count() <= 200, "expected at most 200 lines, found {}", source.lines().count());
}
