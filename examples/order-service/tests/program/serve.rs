//! Tests of `serve`: the program runs, and the tests send HTTP requests.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, StreamId};
use es_rocksdb::Backups;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use crate::support::TestDir;

/// A running service. Killed on drop.
pub(crate) struct Service {
    program: Option<Child>,
    pub(crate) address: String,
    /// The address of the operations.
    pub(crate) operations: String,
    agent: Agent,
}

/// A response.
pub(crate) struct Reply {
    status: u16,
    tag: Option<String>,
    /// The number in `ES-Position`.
    position: Option<u64>,
    /// `ES-Position`.
    token: Option<String>,
    pub(crate) body: Value,
}

impl Service {
    pub(crate) fn new(dir: &TestDir) -> Self {
        Self::with(dir, &[])
    }

    /// Starts the service with more arguments. Its log is closed after the line with the address.
    pub(crate) fn with(dir: &TestDir, args: &[&str]) -> Self {
        let mut command =
            dir.command(&[&["serve", "--listen", "127.0.0.1:0", "--operations", "127.0.0.1:0"], args].concat());
        let mut program = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let stderr = BufReader::new(program.stderr.take().expect("standard error is a pipe"));
        let mut lines = stderr.lines().map(|line| line.expect("standard error can be read"));
        let mut address = |prefix: &str| {
            let address = lines.find_map(|line| line.strip_prefix(prefix).map(ToOwned::to_owned));
            address.unwrap_or_else(|| panic!("the program does not print {prefix}"))
        };
        let (operations, address) = (address("operations on "), address("listening on "));
        Self::running(program, address, operations)
    }

    /// Starts the service with the operations at an address. Its log is the file `log` of the directory.
    pub(crate) fn logged(dir: &TestDir, operations: &str, args: &[&str]) -> Self {
        let log = std::fs::File::create(dir.path("log")).expect("create a file");
        let mut command =
            dir.command(&[&["serve", "--listen", "127.0.0.1:0", "--operations", operations], args].concat());
        let mut program = command.stderr(log).stdout(Stdio::piped()).spawn().expect("the program starts");
        let address =
            |text: &str, prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix).map(ToOwned::to_owned));
        loop {
            let text = dir.read("log");
            if let (Some(operations), Some(found)) = (address(&text, "operations on "), address(&text, "listening on "))
                && text.ends_with('\n')
            {
                return Self::running(program, found, operations);
            }
            assert!(program.try_wait().expect("it was started").is_none(), "the program has ended: {text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn running(program: Child, address: String, operations: String) -> Self {
        let timeout = Some(Duration::from_secs(60));
        let agent = Agent::config_builder().http_status_as_error(false).timeout_global(timeout).build().into();
        Self { program: Some(program), address, operations, agent }
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let request = self.agent.get(format!("{}{path}", self.address));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Reply::of(request.call().expect("a response"))
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let path = format!("{}{path}", self.address);
        let request = if method == "PUT" { self.agent.put(path) } else { self.agent.post(path) };
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Reply::of(request.send_json(body).expect("a response"))
    }

    fn place(&self, id: &str) -> Reply {
        self.send("PUT", &format!("/orders/{id}"), &[], &order())
    }

    /// Sends SIGTERM to the program.
    pub(crate) fn signal(&self) {
        let program = self.program.as_ref().expect("the program runs");
        let signal = std::process::Command::new("kill").arg(program.id().to_string()).status().expect("kill runs");
        assert!(signal.success());
    }

    /// Returns the exit code of the program if it has ended.
    pub(crate) fn exited(&mut self) -> Option<i32> {
        self.program.as_mut()?.try_wait().expect("it was started").map(|status| status.code().expect("a code"))
    }

    /// Sends SIGTERM to the program and returns its standard output.
    pub(crate) fn stop(mut self) -> String {
        self.signal();
        let program = self.program.take().expect("the program runs");
        let output = program.wait_with_output().expect("the program exits");
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Returns the number of open descriptors of the program, or 0 on a system without `/proc`.
    pub(crate) fn descriptors(&self) -> usize {
        let program = self.program.as_ref().expect("the program runs");
        std::fs::read_dir(format!("/proc/{}/fd", program.id())).map_or(0, Iterator::count)
    }

    /// Returns the largest memory that the program has used, in KiB.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory(&self) -> u64 {
        let program = self.program.as_ref().expect("the program runs");
        let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
        peak.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Sends SIGKILL to the program.
    pub(crate) fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Reply {
    fn of(mut response: Response<ureq::Body>) -> Self {
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("ASCII").to_owned());
        let (tag, token) = (header("etag"), header("es-position"));
        let number = |token: &String| token.rsplit_once(':').expect("LOG:POSITION").1.parse().expect("a number");
        let position = token.as_ref().map(number);
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().expect("text");
        Self { status, tag, position, token, body: serde_json::from_str(&text).unwrap_or(Value::Null) }
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// Checks that the response is an error with this status and detail.
    #[track_caller]
    fn refused(self, status: u16, detail: &str) {
        assert_eq!((self.status, self.body["status"].as_u64()), (status, Some(status.into())), "{}", self.body);
        assert_eq!(self.body["detail"], detail);
    }
}

/// The body of an order.
pub(crate) fn order() -> Value {
    json!({
        "customer_id": "VINET", "ship_country": "France", "date": "2016-07-04",
        "lines": [{"product_id": "11", "unit_price": "14.00", "quantity": 12, "discount": "0.05"}]
    })
}

#[test]
fn commands_and_queries_use_etags() {
    let dir = TestDir::new();
    let served = Service::new(&dir);
    let placed = served.place("A-1").expect(201);
    assert_eq!((placed.tag.as_deref(), placed.position), (Some("\"0\""), Some(1)));
    assert_eq!(placed.body["status"], "placed");
    let repeated = served.place("A-1").expect(200);
    assert_eq!((repeated.body["outcome"].as_str(), repeated.tag.as_deref()), (Some("unchanged"), Some("\"0\"")));

    let current = served.get("/orders/A-1", &[]).expect(200);
    assert_eq!((current.tag.as_deref(), current.body["revenue"].as_str()), (Some("\"0\""), Some("159.60")));
    served.get("/orders/A-1", &[("if-none-match", "\"0\"")]).expect(304);

    let at = |tag: &'static str| [("if-match", tag)];
    let approved = served.send("POST", "/orders/A-1/approve", &at("\"0\""), &json!({})).expect(200);
    assert_eq!((approved.tag.as_deref(), approved.body["status"].as_str()), (Some("\"1\""), Some("approved")));
    served.get("/orders/A-1", &[("if-none-match", "\"0\"")]).expect(200);
    let stale = served.send("POST", "/orders/A-1/cancel", &at("\"0\""), &json!({"reason": "too expensive"}));
    stale.refused(412, "If-Match: expected \"0\", found \"1\"; nothing was written: reload and decide again");
    served.send("POST", "/orders/A-1/ship", &[], &json!({})).expect(200);
    let cancel = served.send("POST", "/orders/A-1/cancel", &[], &json!({"reason": "too expensive"}));
    cancel.refused(409, "order A-1 cannot become cancelled: expected status placed or approved, found shipped");
    let history = served.get("/orders/A-1/events", &[]).expect(200);
    let types: Vec<_> = history.body["events"].as_array().unwrap().iter().map(|e| e["event_type"].clone()).collect();
    assert_eq!(types, ["order-placed", "order-approved", "order-shipped"]);
    assert_eq!(served.stop().trim(), "stopped; the log has 3 events");
    assert_eq!(dir.json(&["show", "A-1"])["status"], "shipped");
}

#[test]
fn a_repeated_idempotency_key_executes_the_command_once() {
    let dir = TestDir::new();
    let served = Service::new(&dir);
    served.send("PUT", "/products/11", &[], &json!({"name": "Tofu", "unit_price": "23.25", "stock": 3})).expect(201);
    let receive =
        |key| served.send("POST", "/products/11/receive", &[("idempotency-key", key)], &json!({"quantity": 5}));
    assert_eq!(receive("delivery-1").expect(200).body["stock"], 8);
    assert_eq!(receive("delivery-1").expect(200).body["outcome"], "repeated");
    assert_eq!(receive("delivery-2").expect(200).body["stock"], 13);
    // Case 11: the key of another request is refused, whatever differs, and nothing is written.
    let used = [("idempotency-key", "delivery-1")];
    let another = |reply: Reply| {
        let used = "Idempotency-Key: \"delivery-1\" was used for another request to this resource; use another key";
        reply.refused(422, used);
    };
    another(served.send("POST", "/products/11/receive", &used, &json!({"quantity": 9})));
    another(served.send("POST", "/products/11/withdraw", &used, &json!({"quantity": 5})));
    let dated = json!({"quantity": 5, "date": "2020-01-01"});
    another(served.send("POST", "/products/11/receive", &used, &dated));
    another(served.send("POST", "/products/11/move", &used, &json!({"to": "12", "quantity": 5})));
    let empty = "Idempotency-Key: expected a string of 1 to 255 visible characters in quotes, such as \
                 \"8e03978e-40d5\", found \"\"";
    receive("").refused(400, empty);
    assert_eq!(receive("delivery-1").expect(200).body["outcome"], "repeated");
    let withdraw = served.send("POST", "/products/11/withdraw", &[], &json!({"quantity": 14}));
    let insufficient = "product 11 has insufficient stock: expected at least 14, found 13; receive items first";
    withdraw.refused(409, insufficient);
    assert_eq!(served.get("/products/11", &[]).expect(200).body["name"], "Tofu");
}

#[test]
fn a_move_of_stock_changes_both_products_or_neither() {
    let dir = TestDir::new();
    let served = Service::new(&dir);
    for (id, name) in [("11", "Tofu"), ("42", "Chai")] {
        let body = json!({"name": name, "unit_price": "1.00", "stock": 5});
        served.send("PUT", &format!("/products/{id}"), &[], &body).expect(201);
    }
    let moves = |headers: &[(&str, &str)], to: &str, quantity: u32| {
        served.send("POST", "/products/11/move", headers, &json!({"to": to, "quantity": quantity}))
    };
    let moved = moves(&[("if-match", "\"0\""), ("idempotency-key", "m-1")], "42", 4).expect(200);
    assert_eq!((moved.tag.as_deref(), &moved.body["stock"]), (Some("\"1\""), &json!(1)));
    assert_eq!(moved.body["to"]["stock"], 9);
    assert_eq!(moves(&[("idempotency-key", "m-1")], "42", 4).expect(200).body["to"]["outcome"], "repeated");
    let stale = "If-Match: expected \"0\", found \"1\"; nothing was written: reload and decide again";
    moves(&[("if-match", "\"0\"")], "42", 1).refused(412, stale);
    let insufficient = "product 11 has insufficient stock: expected at least 2, found 1; receive items first";
    moves(&[], "42", 2).refused(409, insufficient);
    moves(&[], "43", 1).refused(404, "product 43 does not exist; register it first");
    moves(&[], "11", 1).refused(409, "cannot move stock of product 11 to itself; name two products");
    assert_eq!(served.get("/products/42", &[]).expect(200).body["stock"], 9);
    let low = served.get("/products?at_most=1&at_least=4", &[]).expect(200).body;
    assert_eq!(low["rows"][0]["stock"], 1);
    assert_eq!(served.stop().trim(), "stopped; the log has 4 events");
}

#[test]
fn invalid_requests_are_answered_with_a_status_and_a_message() {
    let dir = TestDir::new();
    let served = Service::new(&dir);
    served.get("/orders/A-1", &[]).refused(404, "order A-1 does not exist; place it first");
    served.get("/order", &[]).refused(404, "/order does not exist");
    let method = "/orders/A-1 does not support POST: expected PUT,GET,HEAD";
    served.send("POST", "/orders/A-1", &[], &json!({})).refused(405, method);
    served
        .send("POST", "/orders/A-1/approve", &[], &json!({}))
        .refused(404, "order A-1 does not exist; place it first");
    served.send("POST", "/orders/A-1/aprove", &[], &json!({})).refused(404, "/orders/A-1/aprove does not exist");
    served.place("A-1").expect(201);
    let with = |headers: &[(&str, &str)]| served.send("POST", "/orders/A-1/approve", headers, &json!({}));
    with(&[("if-match", "0")])
        .refused(400, "if-match: expected * or entity tags in quotes, such as \"3\", found \"0\"");
    let new = served.send("PUT", "/orders/A-1", &[("if-none-match", "*")], &order());
    let exists = "If-None-Match: expected no version, found \"0\"; nothing was written: reload and decide again";
    new.refused(412, exists);
    let invalid = |body: Value, expected: &str| {
        let reply = served.send("POST", "/orders/A-1/cancel", &[], &body).expect(422);
        let detail = reply.body["detail"].as_str().expect("a detail").to_owned();
        assert!(detail.starts_with(&format!("invalid JSON body: {expected}")), "{detail}");
    };
    invalid(json!({}), "missing field `reason`");
    invalid(json!({"reason": "late", "dat": "2030-01-01"}), "unknown field `dat`");
    let mut other = order();
    other["lines"][0]["quantity"] = json!(0);
    assert_eq!(served.send("PUT", "/orders/A-2", &[], &other).expect(422).body["title"], "Unprocessable Entity");
    other["lines"] = json!([]);
    served.send("PUT", "/orders/A-2", &[], &other).refused(422, "expected 1 to 10000 lines, found 0");
    served.get("/events?after=x", &[]).expect(400);
}

/// Reads the next server-sent event: its id, type and data.
fn next_event(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> (String, String, Value) {
    let (mut id, mut name, mut data) = (String::new(), String::new(), Value::Null);
    for line in lines {
        let line = line.expect("a line");
        match line.split_once(": ") {
            Some(("id", value)) => id = value.to_owned(),
            Some(("event", value)) => name = value.to_owned(),
            Some(("data", value)) => data = serde_json::from_str(value).expect("JSON"),
            _ if line.is_empty() && !id.is_empty() => return (id, name, data),
            _ => {}
        }
    }
    panic!("the response ended before the next event")
}

#[test]
fn events_are_streamed_once_and_in_order_after_the_last_event_id() {
    let dir = TestDir::new();
    let served = Service::new(&dir);
    served.place("A-1").expect(201);
    served.place("A-2").expect(201);
    let listen = |path: &str, last: &str| {
        let request = served.agent.get(format!("{}{path}", served.address)).header("last-event-id", last);
        BufReader::new(request.call().expect("a response").into_body().into_reader()).lines()
    };
    let mut all = listen("/events", "0");
    let mut approvals = listen("/events?type=order-approved", "0");
    assert_eq!(next_event(&mut all).2["stream"], "order-A-1");
    let log_id = next_event(&mut all).0.strip_suffix(":2").expect("LOG:2").to_owned();
    served.send("POST", "/orders/A-2/approve", &[], &json!({})).expect(200);
    let (id, name, data) = next_event(&mut all);
    let third = format!("{log_id}:3");
    assert_eq!((id, name.as_str(), data["stream"].as_str()), (third.clone(), "order-approved", Some("order-A-2")));
    assert_eq!(next_event(&mut approvals).0, third);
    for last in ["2", &format!("{log_id}:2")] {
        assert_eq!(next_event(&mut listen("/events", last)).0, third);
    }
    assert_eq!(next_event(&mut listen(&format!("/events?after={log_id}:2"), "2")).0, third);
    // Open event streams do not delay the shutdown: they end with the service.
    let mut rest = String::new();
    assert_eq!(served.stop().trim(), "stopped; the log has 3 events");
    for line in all {
        rest.push_str(&line.unwrap_or_default());
    }
    assert_eq!(rest, "");
}

/// Case 09a: a listener that came back with a position of the lost history got 200, waited silently, and missed the new
/// events up to that position. A query with `at_least` waited for five seconds.
#[tokio::test]
async fn positions_from_before_a_restore_are_refused() {
    let dir = TestDir::new();
    let served = Service::new(&dir);
    served.place("A-1").expect(201);
    let within = served.place("A-2").expect(201).token.unwrap();
    served.stop();
    let backups = Backups::new(dir.path("backups"));
    backups.create(&dir.path("shop"), &mut |_, _, _| {}).await.expect("a backup");
    let served = Service::new(&dir);
    let lost = served.place("A-3").expect(201).token.unwrap();
    served.get(&format!("/orders?at_least={lost}"), &[]).expect(200);
    served.stop();
    std::fs::remove_dir_all(dir.path("shop")).expect("removed");
    backups.restore(None, &dir.path("shop"), &mut |_, _, _| {}).await.expect("restored");

    let served = Service::new(&dir);
    for path in ["/orders?at_least=3", "/events?after=3"] {
        let ahead = "position 3 is ahead of the log, which ends at position 2; it comes from another store, or from \
                     before this store was restored";
        served.get(path, &[]).refused(409, ahead);
    }
    let head = served.place("B-1").expect(201).token.unwrap();
    let (old_log, new_log) = (lost.split_once(':').unwrap().0, head.split_once(':').unwrap().0);
    assert_eq!(head, format!("{new_log}:3"));
    for token in [&within, &lost] {
        let number = token.split_once(':').unwrap().1;
        let other = format!(
            "position {number} belongs to log {old_log}, expected a position of log {new_log}; the store was restored \
             or replaced: start again from the beginning of this log"
        );
        served.get(&format!("/orders?at_least={token}"), &[]).refused(410, &other);
        served.get("/orders", &[("es-position", token)]).refused(410, &other);
        served.get(&format!("/events?after={token}"), &[]).refused(410, &other);
        served.get("/events", &[("last-event-id", token)]).refused(410, &other);
    }
    served.get(&format!("/orders?at_least={head}"), &[]).expect(200);
    served.get("/orders", &[("es-position", &head)]).expect(200);
    served.get("/events", &[("last-event-id", "x")]).expect(400);
    served.get("/orders?at_least=x", &[]).expect(400);
}

#[test]
fn an_address_in_use_is_reported_before_the_store_is_created() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let dir = TestDir::new();
    let expected = format!("error: could not listen on {address}: Address already in use (os error 98)");
    dir.refused(&["serve", "--listen", &address], 1, &expected);
    let expected = format!("error: another process uses {address}; stop it, or choose another address");
    dir.refused(&["serve", "--listen", "127.0.0.1:0", "--operations", &address], 1, &expected);
    let expected = "error: expected a loopback address or a Unix socket for operations without authentication, found \
                    0.0.0.0:0; configure tokens to use another address";
    dir.refused(&["serve", "--listen", "127.0.0.1:0", "--operations", "0.0.0.0:0"], 1, expected);
    assert!(!dir.path("shop").exists());
}

#[test]
fn a_query_with_at_least_includes_the_command_at_that_position() {
    let dir = TestDir::new();
    let served = Service::new(&dir);
    served.send("PUT", "/products/11", &[], &json!({"name": "Tofu", "unit_price": "23.25", "stock": 3})).expect(201);
    for n in 0..20 {
        let placed = served.place(&format!("A-{n}")).expect(201);
        let orders = served.get(&format!("/orders?limit=1000&at_least={}", placed.token.unwrap()), &[]).expect(200);
        assert_eq!(orders.body["rows"].as_array().unwrap().len(), n + 1);
    }
    let cancelled = served.send("POST", "/orders/A-3/cancel", &[], &json!({"reason": "too expensive"})).expect(200);
    let at_least = format!("at_least={}", cancelled.position.unwrap());
    let first = served.get(&format!("/orders?customer=VINET&limit=15&{at_least}"), &[]).expect(200);
    let next = first.body["next"].as_str().expect("there is more").to_owned();
    let second = served.get(&format!("/orders?customer=VINET&limit=15&after={next}"), &[]).expect(200);
    let ids = |page: &Reply| -> Vec<String> {
        page.body["rows"].as_array().unwrap().iter().map(|row| row["order_id"].as_str().unwrap().to_owned()).collect()
    };
    let mut all = [ids(&first), ids(&second)].concat();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), second.body["next"].clone()), (20, Value::Null));
    let revenue = served.get(&format!("/revenue?{at_least}"), &[]).expect(200).body;
    assert_eq!(revenue, json!({"by_month": {"2016-07": "3032.40"}, "by_country": {"France": "3032.40"}}));
    let demand = served.get(&format!("/demand?{at_least}"), &[]).expect(200).body;
    assert_eq!(demand["rows"], json!([{"product_id": "11", "quantity": 228, "revenue": "3032.40"}]));
    let low = served.get("/products?at_most=3", &[]).expect(200).body;
    assert_eq!(low["rows"][0]["name"], "Tofu");
    assert_eq!(served.get("/products?at_most=2", &[]).expect(200).body["rows"], json!([]));
    let report = served.get("/report", &[]).expect(200).body;
    assert_eq!((&report["orders"], &report["revenue"]), (&json!(20), &json!("3032.40")));
    served.get("/orders?after=x", &[]).expect(400);
    served.get("/orders?colour=red", &[]).expect(400);
    served.stop();
    assert_eq!(dir.json(&["report", "--verify"]), report);
}

#[test]
fn projections_are_administered_in_a_running_service_and_without_one() {
    let dir = TestDir::new();
    let served = Service::new(&dir);
    served.place("A-1").expect(201);
    let url = served.operations.clone();
    let remote = |args: &[&str]| dir.json(&[&["projections", "--url", &url], args].concat());
    let sales = |list: &Value| list.as_array().unwrap().iter().find(|p| p["name"] == "sales").unwrap().clone();
    assert_eq!(sales(&remote(&["pause", "sales", "--reason", "looks wrong"]))["name"], "sales");
    let later = served.place("A-2").expect(201).position.unwrap();
    let shown = served.get(&format!("/orders?at_least={later}"), &[]).expect(200);
    assert_eq!(shown.body["rows"].as_array().unwrap().len(), 2, "the other projections continue");
    let late = served.get(&format!("/revenue?at_least={later}"), &[]).expect(503);
    let detail = late.body["detail"].as_str().unwrap();
    assert!(detail.contains("the command itself succeeded and must not be repeated"), "{detail}");
    assert_eq!(sales(&remote(&["list"]))["state"], "paused");
    remote(&["resume", "sales"]);
    served.get(&format!("/revenue?at_least={later}"), &[]).expect(200);
    remote(&["rebuild", "sales"]);
    let parked = dir.run(&["projections", "--url", &url, "parked", "sales"]);
    assert_eq!((parked.code, parked.out.trim()), (Some(0), "no parked keys"));
    let no_projection = format!(
        "error: the service at {url} rejected the request: projection \"sale\" does not exist; expected one of \
         [\"order-summaries\", \"product-demand\", \"sales\", \"stock-levels\"]"
    );
    dir.refused(&["projections", "--url", &url, "pause", "sale"], 1, &no_projection);
    let not_parked = format!(
        "error: the service at {url} rejected the request: projection \"sales\" has no parked event of key \
                         \"order-A-1\"; \
                         list the parked keys"
    );
    dir.refused(&["projections", "--url", &url, "retry", "sales", "order-A-1"], 1, &not_parked);
    served.stop();

    let list = dir.json(&["projections", "rebuild", "sales"]);
    assert_eq!((&sales(&list)["state"], &sales(&list)["lag_events"]), (&json!("live"), &json!(0)));
    assert_eq!(dir.json(&["watch"]).as_array().unwrap().len(), 4);
    let ran = dir.run(&["watch"]);
    assert!(ran.err.contains("sales: live"), "{}", ran.err);
    assert_eq!(dir.json(&["report", "--verify"])["orders"], 2);
    let stopped = dir.run(&["projections", "--url", &url, "list"]);
    assert_eq!(stopped.code, Some(1));
    assert!(stopped.err.contains("did not respond"), "{}", stopped.err);
}

/// Case 26: a price was rounded, and `1_000` and `1e3` were accepted, if they came in a request.
#[test]
fn a_request_has_the_grammar_of_the_command_line() {
    let dir = TestDir::new();
    let service = Service::new(&dir);
    let line = |field: &str, value: Value| {
        let mut line = json!({"product_id": "11", "unit_price": "14", "quantity": 1});
        line[field] = value;
        service.send("PUT", "/orders/N-1", &[], &json!({"customer_id": "V", "lines": [line]}))
    };
    for price in ["0.12345678901234567890123456789", "1_000", "1e3", "+1", " 1", "1000000001"] {
        line("unit_price", json!(price)).expect(422);
        let place = ["place", "N-1", "--customer", "V", "--line", &format!("11:1:{price}")];
        let other = TestDir::new();
        assert_ne!(other.run(&place).code, Some(0), "{price:?}");
    }
    line("unit_price", json!(14.5)).expect(422);
    line("quantity", json!(1_000_001)).expect(422);
    line("discount", json!("1_0e-2")).expect(422);
    line("unit_price", json!("14")).expect(201);
    let order = service.get("/orders/N-1", &[]).expect(200);
    assert_eq!((&order.body["lines"][0]["unit_price"], &order.body["revenue"]), (&json!("14.00"), &json!("14.00")));
}

/// A report from a view with parked events looked complete.
#[tokio::test]
async fn a_report_says_how_many_events_the_read_models_lack() {
    let dir = TestDir::new();
    let served = Service::new(&dir);
    served.place("A-1").expect(201);
    let complete = served.get("/report", &[]).expect(200).body;
    assert_eq!(complete.get("parked_events"), None);
    served.stop();
    let store = es_rocksdb::RocksDbStore::open(dir.path("shop")).await.expect("opened");
    let event = NewEvent::json(EventType::new("order-placed").expect("a name"), "{}");
    let stream = StreamId::new("order-B-1").expect("a name");
    store.commit(Commit::to(&stream, ExpectedRevision::Any, [event])).await.expect("committed");
    store.close().await.expect("closed");

    let served = Service::new(&dir);
    let position = served.place("A-2").expect(201).position.unwrap();
    let report = served.get("/report", &[]).expect(200).body;
    assert_eq!((&report["orders"], &report["parked_events"]), (&json!(2), &json!(3)), "{report}");
    for (path, parked) in [("orders", 1), ("demand", 1), ("revenue", 1)] {
        let body = served.get(&format!("/{path}?at_least={position}"), &[]).expect(200).body;
        assert_eq!(body["parked_events"], json!(parked), "{path}: {body}");
    }
    assert_eq!(served.get("/products", &[]).expect(200).body.get("parked_events"), None);
    let checks = served.get("/readyz", &[]).expect(503).body["checks"].clone();
    assert_eq!((&checks["projection sales"], &checks["projection stock-levels"]), (&json!("failed"), &json!("ok")));
    served.stop();
    assert!(dir.run(&["report"]).out.contains("incomplete: 3 events could not be applied"));
}
