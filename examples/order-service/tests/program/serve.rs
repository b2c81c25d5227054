//! The service as its users meet it: the program runs, and is asked over HTTP.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use crate::support::TestDir;

/// The program, serving; it is ended when the test does.
struct Served {
    program: Option<Child>,
    address: String,
    agent: Agent,
}

/// An answer.
struct Answered {
    status: u16,
    tag: Option<String>,
    position: Option<u64>,
    body: Value,
}

impl Served {
    fn new(dir: &TestDir) -> Self {
        let mut command = dir.command(&["serve", "--listen", "127.0.0.1:0"]);
        let mut program = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program runs");
        let mut said = String::new();
        let err = program.stderr.take().expect("piped");
        BufReader::new(err).read_line(&mut said).expect("it says where it listens");
        let address =
            said.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("it said {said:?}")).to_owned();
        let timeout = Some(Duration::from_secs(60));
        let agent = Agent::config_builder().http_status_as_error(false).timeout_global(timeout).build().into();
        Self { program: Some(program), address, agent }
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answered {
        let request = self.agent.get(format!("{}{path}", self.address));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answered::of(request.call().expect("an answer"))
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answered {
        let path = format!("{}{path}", self.address);
        let request = if method == "PUT" { self.agent.put(path) } else { self.agent.post(path) };
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answered::of(request.send_json(body).expect("an answer"))
    }

    fn place(&self, id: &str) -> Answered {
        self.send("PUT", &format!("/orders/{id}"), &[], &tofu())
    }

    /// Asks the program to end, and gives what it said.
    fn end(mut self) -> String {
        let program = self.program.take().expect("it runs");
        let asked = std::process::Command::new("kill").arg(program.id().to_string()).status().expect("kill runs");
        assert!(asked.success());
        let output = program.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(program) = &mut self.program {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

impl Answered {
    fn of(mut response: Response<ureq::Body>) -> Self {
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("ASCII").to_owned());
        let (tag, position) = (header("etag"), header("es-position").map(|text| text.parse().expect("a number")));
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().expect("text");
        Self { status, tag, position, body: serde_json::from_str(&text).unwrap_or(Value::Null) }
    }

    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// A refusal that says this.
    #[track_caller]
    fn refused(self, status: u16, detail: &str) {
        assert_eq!((self.status, self.body["status"].as_u64()), (status, Some(status.into())), "{}", self.body);
        assert_eq!(self.body["detail"], detail);
    }
}

/// An order for twelve packs of tofu.
fn tofu() -> Value {
    json!({
        "customer_id": "VINET", "ship_country": "France", "date": "2016-07-04",
        "lines": [{"product_id": "11", "unit_price": "14.00", "quantity": 12, "discount": "0.05"}]
    })
}

#[test]
fn an_order_goes_its_way_under_revisions() {
    let dir = TestDir::new();
    let served = Served::new(&dir);
    let placed = served.place("A-1").expect(201);
    assert_eq!((placed.tag.as_deref(), placed.position), (Some("\"0\""), Some(1)));
    assert_eq!(placed.body["status"], "placed");
    let again = served.place("A-1").expect(200);
    assert_eq!((again.body["outcome"].as_str(), again.tag.as_deref()), (Some("unchanged"), Some("\"0\"")));

    let shown = served.get("/orders/A-1", &[]).expect(200);
    assert_eq!((shown.tag.as_deref(), shown.body["revenue"].as_str()), (Some("\"0\""), Some("159.60")));
    served.get("/orders/A-1", &[("if-none-match", "\"0\"")]).expect(304);

    let at = |tag: &'static str| [("if-match", tag)];
    let approved = served.send("POST", "/orders/A-1/approve", &at("\"0\""), &json!({})).expect(200);
    assert_eq!((approved.tag.as_deref(), approved.body["status"].as_str()), (Some("\"1\""), Some("approved")));
    served.get("/orders/A-1", &[("if-none-match", "\"0\"")]).expect(200);
    let late = served.send("POST", "/orders/A-1/cancel", &at("\"0\""), &json!({"reason": "too dear"}));
    late.refused(
        412,
        "conflict: stream \"order-A-1\": expected version 0, found version 1; nothing was written: reload and decide again",
    );
    served.send("POST", "/orders/A-1/ship", &[], &json!({})).expect(200);
    let cancel = served.send("POST", "/orders/A-1/cancel", &[], &json!({"reason": "too dear"}));
    cancel.refused(409, "order A-1 cannot become cancelled: expected it to be placed or approved, found it shipped");
    let history = served.get("/orders/A-1/events", &[]).expect(200);
    let types: Vec<_> = history.body["events"].as_array().unwrap().iter().map(|e| e["event_type"].clone()).collect();
    assert_eq!(types, ["order-placed", "order-approved", "order-shipped"]);
    assert_eq!(served.end().trim(), "ended; the log has 3 events");
    assert_eq!(dir.json(&["show", "A-1"])["status"], "shipped");
}

#[test]
fn a_request_with_a_key_counts_once() {
    let dir = TestDir::new();
    let served = Served::new(&dir);
    served.send("PUT", "/products/11", &[], &json!({"name": "Tofu", "unit_price": "23.25", "stock": 3})).expect(201);
    let receive =
        |key| served.send("POST", "/products/11/receive", &[("idempotency-key", key)], &json!({"quantity": 5}));
    assert_eq!(receive("delivery-1").expect(200).body["stock"], 8);
    assert_eq!(receive("delivery-1").expect(200).body["outcome"], "repeated");
    assert_eq!(receive("delivery-2").expect(200).body["stock"], 13);
    let short = served.send("POST", "/products/11/withdraw", &[], &json!({"quantity": 14}));
    short.refused(409, "product 11 is short: expected at least 14 in stock, found 13; receive more first");
    assert_eq!(served.get("/products/11", &[]).expect(200).body["name"], "Tofu");
}

#[test]
fn a_move_of_stock_changes_both_products_or_neither() {
    let dir = TestDir::new();
    let served = Served::new(&dir);
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
    let late = "conflict: stream \"product-11\": expected version 0, found version 1; nothing was written: reload and decide again";
    moves(&[("if-match", "\"0\"")], "42", 1).refused(412, late);
    moves(&[], "42", 2).refused(409, "product 11 is short: expected at least 2 in stock, found 1; receive more first");
    moves(&[], "43", 1).refused(404, "product 43 does not exist; register it first");
    moves(&[], "11", 1).refused(409, "stock of product 11 cannot be moved to itself; name two products");
    assert_eq!(served.get("/products/42", &[]).expect(200).body["stock"], 9);
    let low = served.get("/products?at_most=1&at_least=4", &[]).expect(200).body;
    assert_eq!(low["rows"][0]["stock"], 1);
    assert_eq!(served.end().trim(), "ended; the log has 4 events");
}

#[test]
fn mistakes_are_told_in_words() {
    let dir = TestDir::new();
    let served = Served::new(&dir);
    served.get("/orders/A-1", &[]).refused(404, "order A-1 does not exist; place it first");
    served.get("/order", &[]).refused(404, "there is nothing at /order");
    served.send("POST", "/orders/A-1", &[], &json!({})).refused(405, "/orders/A-1 does not take POST");
    served
        .send("POST", "/orders/A-1/approve", &[], &json!({}))
        .refused(404, "order A-1 does not exist; place it first");
    served
        .send("POST", "/orders/A-1/aprove", &[], &json!({}))
        .refused(400, "step: expected approve, ship, deliver or cancel, found \"aprove\"");
    served.place("A-1").expect(201);
    let with = |headers: &[(&str, &str)]| served.send("POST", "/orders/A-1/approve", headers, &json!({}));
    with(&[("if-match", "0")]).refused(400, "If-Match: expected an ETag in quotes, as in \"3\", found \"0\"");
    let new = served.send("PUT", "/orders/A-1", &[("if-none-match", "*")], &tofu());
    new.refused(412, "order A-1 exists");
    let cancel = served.send("POST", "/orders/A-1/cancel", &[], &json!({}));
    cancel.refused(422, "expected a reason, found none; say why in {\"reason\": \"...\"}");
    let mut other = tofu();
    other["lines"][0]["quantity"] = json!(0);
    assert_eq!(served.send("PUT", "/orders/A-2", &[], &other).expect(422).body["title"], "Unprocessable Entity");
    other["lines"] = json!([]);
    served.send("PUT", "/orders/A-2", &[], &other).refused(422, "expected 1 to 10000 lines, found 0");
    served.get("/events?after=x", &[]).expect(400);
    assert_eq!(served.get("/health", &[]).expect(200).body, json!({"status": "ok", "head": 1}));
}

/// The next event of a stream of server-sent events: its id, its type, its data.
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
    panic!("the stream of events ended")
}

#[test]
fn what_happens_is_heard_once_and_in_order_from_where_the_listener_was() {
    let dir = TestDir::new();
    let served = Served::new(&dir);
    served.place("A-1").expect(201);
    served.place("A-2").expect(201);
    let listen = |path: &str, last: &str| {
        let request = served.agent.get(format!("{}{path}", served.address)).header("last-event-id", last);
        BufReader::new(request.call().expect("an answer").into_body().into_reader()).lines()
    };
    let mut all = listen("/events", "0");
    let mut approvals = listen("/events?type=order-approved", "0");
    assert_eq!(next_event(&mut all).2["stream"], "order-A-1");
    assert_eq!(next_event(&mut all).0, "2");
    served.send("POST", "/orders/A-2/approve", &[], &json!({})).expect(200);
    let (id, name, data) = next_event(&mut all);
    assert_eq!((id.as_str(), name.as_str(), data["stream"].as_str()), ("3", "order-approved", Some("order-A-2")));
    assert_eq!(next_event(&mut approvals).0, "3");
    let mut later = listen("/events", "2");
    assert_eq!(next_event(&mut later).0, "3");
    // Listeners do not keep the service from ending: their streams end with it.
    let mut rest = String::new();
    assert_eq!(served.end().trim(), "ended; the log has 3 events");
    for line in all {
        rest.push_str(&line.unwrap_or_default());
    }
    assert_eq!(rest, "");
}

#[test]
fn an_address_that_is_taken_is_told_before_anything_is_created() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let dir = TestDir::new();
    let expected = format!("error: could not listen on {address}: Address already in use (os error 98)");
    dir.refused(&["serve", "--listen", &address], 1, &expected);
    assert!(!dir.path("shop").exists());
}

#[test]
fn a_question_shows_what_was_commanded_before() {
    let dir = TestDir::new();
    let served = Served::new(&dir);
    served.send("PUT", "/products/11", &[], &json!({"name": "Tofu", "unit_price": "23.25", "stock": 3})).expect(201);
    for n in 0..20 {
        let placed = served.place(&format!("A-{n}")).expect(201);
        let orders = served.get(&format!("/orders?limit=1000&at_least={}", placed.position.unwrap()), &[]).expect(200);
        assert_eq!(orders.body["rows"].as_array().unwrap().len(), n + 1);
    }
    let cancelled = served.send("POST", "/orders/A-3/cancel", &[], &json!({"reason": "too dear"})).expect(200);
    let at_least = format!("at_least={}", cancelled.position.unwrap());
    let first = served.get(&format!("/orders?customer=VINET&limit=15&{at_least}"), &[]).expect(200);
    let next = first.body["next"].as_str().expect("there is more").to_owned();
    let second = served.get(&format!("/orders?customer=VINET&limit=15&after={next}"), &[]).expect(200);
    let ids = |page: &Answered| -> Vec<String> {
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
    served.end();
    assert_eq!(dir.json(&["report", "--verify"]), report);
}

#[test]
fn an_operator_acts_on_the_running_service_and_without_it() {
    let dir = TestDir::new();
    let served = Served::new(&dir);
    served.place("A-1").expect(201);
    let url = served.address.clone();
    let remote = |args: &[&str]| dir.json(&[&["projections", "--url", &url], args].concat());
    let sales = |list: &Value| list.as_array().unwrap().iter().find(|p| p["name"] == "sales").unwrap().clone();
    assert_eq!(sales(&remote(&["pause", "sales", "--reason", "looks wrong"]))["name"], "sales");
    let later = served.place("A-2").expect(201).position.unwrap();
    let shown = served.get(&format!("/orders?at_least={later}"), &[]).expect(200);
    assert_eq!(shown.body["rows"].as_array().unwrap().len(), 2, "the others go on");
    let late = served.get(&format!("/revenue?at_least={later}"), &[]).expect(503);
    let detail = late.body["detail"].as_str().unwrap();
    assert!(detail.contains("the command itself succeeded and must not be repeated"), "{detail}");
    assert_eq!(sales(&remote(&["list"]))["state"], "paused");
    remote(&["resume", "sales"]);
    served.get(&format!("/revenue?at_least={later}"), &[]).expect(200);
    remote(&["rebuild", "sales"]);
    let nothing = dir.run(&["projections", "--url", &url, "parked", "sales"]);
    assert_eq!((nothing.code, nothing.out.trim()), (Some(0), "nothing is parked"));
    let none = format!(
        "error: the service at {url} refused: there is no projection \"sale\": expected order-summaries, \
                        sales, product-demand, stock-levels"
    );
    dir.refused(&["projections", "--url", &url, "pause", "sale"], 1, &none);
    let retry = format!(
        "error: the service at {url} refused: projection \"sales\" has no parked event of key \"order-A-1\"; \
                         list the parked keys"
    );
    dir.refused(&["projections", "--url", &url, "retry", "sales", "order-A-1"], 1, &retry);
    served.end();

    let list = dir.json(&["projections", "rebuild", "sales"]);
    assert_eq!((&sales(&list)["state"], &sales(&list)["lag_events"]), (&json!("live"), &json!(0)));
    assert_eq!(dir.json(&["watch"]).as_array().unwrap().len(), 4);
    let ran = dir.run(&["watch"]);
    assert!(ran.err.contains("sales: live"), "{}", ran.err);
    assert_eq!(dir.json(&["report", "--verify"])["orders"], 2);
    let gone = dir.run(&["projections", "--url", &url, "list"]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.contains("does not answer"), "{}", gone.err);
}
