//! The edge of the service over real sockets: refusals, conditions, keys, clients, limits and probes.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::serve::{Service, order};
use crate::support::TestDir;

/// The SHA-256 hashes of the tokens `reader`, `writer` and `operator`.
pub(crate) const TOKENS: &str = "\
sha256:3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30 read reports acme
sha256:b93006774cbdd4b299389a03ac3d88c3a76b460d538795bc12718011a909fba5 write shop acme
sha256:06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23 operate ops
";

/// A response, as it came over the socket.
pub(crate) struct RawReply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl RawReply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Checks that the response is a problem with this status, and returns its detail.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}{}", self.head, self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.head);
        let problem: Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().expect("a detail").to_owned()
    }
}

fn connect(service: &Service) -> TcpStream {
    connect_to(&service.address)
}

pub(crate) fn connect_to(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.trim_start_matches("http://")).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

/// Sends a request with exactly these header lines on a connection of its own.
fn raw(service: &Service, method: &str, path: &str, headers: &[&str], body: &str) -> RawReply {
    raw_to(&service.address, method, path, headers, body)
}

pub(crate) fn raw_to(address: &str, method: &str, path: &str, headers: &[&str], body: &str) -> RawReply {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for header in headers {
        write!(request, "{header}\r\n").expect("a string takes it");
    }
    if !body.is_empty() {
        write!(request, "Content-Length: {}\r\n", body.len()).expect("a string takes it");
    }
    write!(request, "\r\n{body}").expect("a string takes it");
    let mut stream = connect_to(address);
    stream.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a response in UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("expected a response, found {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    RawReply { status, head: format!("{head}\r\n"), body: body.to_owned() }
}

fn json_body(service: &Service, method: &str, path: &str, headers: &[&str], body: &Value) -> RawReply {
    raw(service, method, path, &[headers, &["Content-Type: application/json"]].concat(), &body.to_string())
}

fn place(service: &Service, id: &str) {
    assert_eq!(json_body(service, "PUT", &format!("/orders/{id}"), &[], &order()).status, 201);
}

/// Case 07: the body of a step was ignored without a content type; the step was executed without its date.
#[test]
fn a_body_without_a_content_type_is_refused_and_no_body_is_no_body() {
    let dir = TestDir::new();
    let service = Service::new(&dir);
    place(&service, "A-1");
    for body in ["{\"date\":\"2020-02-01\"}", "this is { no json"] {
        let refused = raw(&service, "POST", "/orders/A-1/approve", &[], body);
        assert_eq!(refused.problem(415), "Content-Type: expected the type of the body, found none");
    }
    let history = service.get("/orders/A-1/events", &[]).expect(200).body;
    assert_eq!(history["events"].as_array().map(Vec::len), Some(1), "nothing was executed");
    assert_eq!(raw(&service, "POST", "/orders/A-1/approve", &[], "").status, 200);
    assert_eq!(raw(&service, "POST", "/orders/A-1/ship", &["Content-Type: application/json"], "").status, 200);
    raw(&service, "POST", "/orders/A-1/cancel", &[], "").problem(400);
}

/// Case 08: `If-Match` accepted one strong tag only; lists, `*` and weak tags were 400.
#[test]
fn conditions_are_lists_stars_and_weak_tags() {
    for (header, status) in [
        ("If-Match: *", 200),
        ("If-Match: \"0\", \"1\"", 200),
        ("If-Match: \"1\"", 200),
        ("If-Match: W/\"1\"", 412),
        ("If-Match: \"01\"", 412),
        ("If-Match: \"0\"", 412),
        ("If-Match: 1", 400),
        ("If-None-Match: *", 412),
        ("If-None-Match: \"0\"", 200),
    ] {
        let dir = TestDir::new();
        let service = Service::new(&dir);
        place(&service, "A-1");
        assert_eq!(raw(&service, "POST", "/orders/A-1/approve", &[], "").status, 200);
        let shipped = raw(&service, "POST", "/orders/A-1/ship", &[header], "");
        assert_eq!(shipped.status, status, "{header}: {}", shipped.body);
        if status == 200 {
            assert_eq!(shipped.header("etag"), Some("\"2\""), "{header}");
        } else {
            shipped.problem(status);
        }
        if header == "If-Match: *" {
            for tags in ["*", "\"2\"", "W/\"2\"", "\"7\", W/\"2\""] {
                let read = raw(&service, "GET", "/orders/A-1", &[&format!("If-None-Match: {tags}")], "");
                assert_eq!((read.status, read.body.as_str(), read.header("etag")), (304, "", Some("\"2\"")), "{tags}");
            }
            raw(&service, "POST", "/orders/A-2/approve", &["If-Match: *"], "").problem(412);
            for (header, moved) in [("If-Match: W/\"0\"", 412), ("If-None-Match: *", 412), ("If-Match: *", 200)] {
                let product = json!({"name": "Tofu", "unit_price": "1", "stock": 5});
                json_body(&service, "PUT", "/products/11", &[], &product);
                json_body(&service, "PUT", "/products/12", &[], &product);
                let body = json!({"to": "12", "quantity": 1});
                let answer = json_body(&service, "POST", "/products/11/move", &[header], &body);
                assert_eq!(answer.status, moved, "{header}: {}", answer.body);
            }
        }
    }
}

/// Case 11: a key that was used for another command returned the result of the first command.
#[test]
fn a_key_of_another_request_is_refused() {
    let dir = TestDir::new();
    let service = Service::new(&dir);
    json_body(&service, "PUT", "/products/11", &[], &json!({"name": "Tofu", "unit_price": "1", "stock": 5}));
    let send = |path: &str, quantity: u32| {
        json_body(&service, "POST", path, &["Idempotency-Key: \"k1\""], &json!({"quantity": quantity}))
    };
    assert_eq!(send("/products/11/receive", 5).status, 200);
    for refused in [send("/products/11/receive", 9), send("/products/11/withdraw", 1)] {
        let used = "Idempotency-Key: \"k1\" was used for another request to this resource; use another key";
        assert_eq!(refused.problem(422), used);
        assert!(refused.body.contains(es_http::problem::kind::COMMAND_ID_REUSED), "{}", refused.body);
    }
    assert!(send("/products/11/receive", 5).body.contains("repeated"));
    assert_eq!(service.get("/products/11", &[]).expect(200).body["stock"], 10);
}

/// Case 24: the refusals of extractors were text/plain.
#[test]
fn every_refusal_is_a_problem() {
    let dir = TestDir::new();
    let service = Service::new(&dir);
    let json = "Content-Type: application/json";
    let form = "Content-Type: application/x-www-form-urlencoded";
    let long = format!("/orders/{}", "x".repeat(300));
    for (method, path, headers, body, status) in [
        ("GET", "/orders/%FF", vec![], "", 400),
        ("GET", "/orders/%0A", vec![], "", 400),
        ("GET", long.as_str(), vec![], "", 400),
        ("GET", "/orders?limit=x", vec![], "", 400),
        ("GET", "/events", vec!["Last-Event-ID: x"], "", 400),
        ("GET", "/orders/A-1", vec![json], "{\"x\":1}", 415),
        ("GET", "/nowhere", vec![], "", 404),
        ("DELETE", "/orders/A-1", vec![], "", 405),
        ("POST", "/orders/A-1/ship", vec![form], "date=2030-01-01", 415),
        ("POST", "/orders/A-1/ship", vec![json], "{\"date\":\"2030", 400),
        ("POST", "/orders/A-1/ship", vec![json], "{\"dat\":1}", 422),
        ("POST", "/orders/A-1/ship", vec!["Idempotency-Key: \""], "", 400),
        ("POST", "/orders/A-1/ship", vec!["X-Correlation-ID: 7"], "", 400),
        ("POST", "/projections/sales", vec![json], "{\"verb\":\"pause\"}", 404),
    ] {
        let detail = raw(&service, method, path, &headers, body).problem(status);
        let directory = dir.path("").display().to_string();
        assert!(!detail.contains(directory.trim_end_matches('/')), "{detail} has a path of the machine");
    }
    let large = format!("{{\"reason\":\"{}\"}}", "x".repeat(1024 * 1024));
    raw(&service, "POST", "/orders/A-1/cancel", &[json], &large).problem(413);
}

#[test]
fn a_page_of_another_origin_sends_no_command_unless_it_is_allowed() {
    let dir = TestDir::new();
    let service = Service::with(&dir, &["--allow-origin", "https://shop.example"]);
    place(&service, "A-1");
    let approve = |origin: &str| raw(&service, "POST", "/orders/A-1/approve", &[&format!("Origin: {origin}")], "");
    approve("https://evil.example").problem(403);
    assert_eq!(approve("https://shop.example").status, 200);
    assert_eq!(approve("http://localhost").status, 200);
}

#[test]
fn a_client_does_what_its_role_permits_and_its_name_is_in_the_events() {
    let dir = TestDir::new();
    dir.write("tokens", TOKENS);
    let service = Service::with(&dir, &["--tokens", "tokens"]);
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    for (token, read, write, operate) in
        [("reader", 200, 403, 1), ("writer", 200, 200, 1), ("operator", 200, 200, 0), ("guess", 401, 401, 1)]
    {
        dir.write("token", token);
        let token = bearer(token);
        assert_eq!(raw(&service, "GET", "/orders", &[&token], "").status, read, "{token}");
        assert_eq!(raw(&service, "GET", "/metrics", &[&token], "").status, read, "{token}");
        let placed = json_body(&service, "PUT", "/orders/A-1", &[&token], &order());
        assert!(placed.status == write || (write, placed.status) == (200, 201), "{token}: {}", placed.body);
        let pause = ["projections", "--url", &service.operations, "--token-file", "token", "pause", "sales"];
        assert_eq!(dir.run(&pause).code, Some(operate), "{token}");
    }
    for path in ["/orders", "/metrics", "/openapi.json", "/events"] {
        let refused = raw(&service, "GET", path, &[], "");
        refused.problem(401);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(raw(&service, "GET", "/livez", &[], "").status, 200);
    raw(&service, "GET", "/readyz", &[], "");

    // The tokens are read again when they change, and end the stream of a client that is another one then.
    let mut events = connect(&service);
    let get = format!("GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n\r\n", bearer("writer"));
    events.write_all(get.as_bytes()).expect("sent");
    dir.write("tokens", TOKENS.replace("write shop", "read shop"));
    events.read_to_string(&mut String::new()).expect("the stream ends");
    let start = Instant::now();
    while json_body(&service, "PUT", "/orders/A-2", &[&bearer("writer")], &order()).status != 403 {
        assert!(start.elapsed() < Duration::from_secs(20), "the file is not read again");
        std::thread::sleep(Duration::from_millis(200));
    }
    service.stop();
    let event = first_event(&dir);
    assert_eq!(event.data.metadata.get_str("actor"), Some("shop"));
    assert_eq!(event.data.metadata.get_str("tenant"), Some("acme"));
}

/// Opens the store and returns the first event of the log.
fn first_event(dir: &TestDir) -> es_core::RecordedEvent {
    log(dir).swap_remove(0)
}

/// Opens the store and returns the events of the log.
pub(crate) fn log(dir: &TestDir) -> Vec<es_core::RecordedEvent> {
    use es_core::EventReader as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = es_rocksdb::ReadOnlyStore::open(dir.path("shop")).await.expect("opened");
        let log = store.read_log(es_core::LogRead::all()).await.expect("read");
        log.collect().await.expect("read")
    })
}

#[test]
fn the_correlation_id_the_trace_and_the_tenant_of_a_request_are_those_of_its_events() {
    let dir = TestDir::new();
    let service = Service::with(&dir, &["--tenant-header", "x-tenant"]);
    json_body(&service, "PUT", "/orders/A-0", &[], &order()).problem(400);
    // A scrape belongs to no tenant.
    for path in ["/metrics", "/openapi.json"] {
        assert_eq!(raw(&service, "GET", path, &[], "").status, 200, "{path}");
    }
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [&format!("traceparent: {trace}"), "X-Tenant: acme"];
    let placed = json_body(&service, "PUT", "/orders/A-1", &headers, &order());
    assert_eq!(placed.header("x-correlation-id"), Some("0af76519-16cd-43dd-8448-eb211c80319c"), "{}", placed.body);
    service.stop();
    let event = first_event(&dir);
    assert_eq!(event.data.correlation_id.map(|id| id.to_string()).as_deref(), placed.header("x-correlation-id"));
    assert_eq!(event.data.metadata.get_str("traceparent"), Some(trace));
    assert_eq!(event.data.metadata.get_str("tenant"), Some("acme"));
}

/// A half-sent body and a half-sent header used to keep their connections, and a shutdown, open for ever.
#[test]
fn slow_clients_are_disconnected_and_do_not_delay_the_shutdown() {
    let dir = TestDir::new();
    let deadlines = ["--header-deadline", "1", "--body-deadline", "1", "--idle-deadline", "1", "--drain-deadline", "1"];
    let service = Service::with(&dir, &deadlines);
    let closes = |bytes: &str| {
        let mut stream = connect(&service);
        stream.write_all(bytes.as_bytes()).expect("sent");
        let (start, mut text) = (Instant::now(), String::new());
        let _ = stream.read_to_string(&mut text);
        assert!(start.elapsed() < Duration::from_secs(20), "the connection is open after {:?}", start.elapsed());
        text
    };
    closes("");
    closes("GET /orders HTTP/1.1\r\nHost: a\r\n");
    let answered = closes("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answered.starts_with("HTTP/1.1 200 "), "an idle connection: {answered}");
    let head =
        "PUT /orders/A-1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    assert!(closes(head).starts_with("HTTP/1.1 408 "));
    let mut slow = connect(&service);
    slow.write_all(head.as_bytes()).expect("sent");
    let start = Instant::now();
    service.stop();
    assert!(start.elapsed() < Duration::from_secs(15), "the shutdown took {:?}", start.elapsed());
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_half_sent_bodies_use_less_than_100_megabytes() {
    es_tool::process::raise_file_limit();
    let dir = TestDir::new();
    let service = Service::new(&dir);
    let (before, part) = (service.peak_memory(), vec![b'x'; 200_000]);
    let head = "PUT /orders/A-1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let send_half = |_| {
        let mut client = connect(&service);
        client.set_write_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        client.write_all(format!("{head}Content-Length: 400000\r\n\r\n").as_bytes()).expect("sent");
        // The service may have refused the body and closed the connection.
        let _ = client.write_all(&part);
        client
    };
    let clients: Vec<TcpStream> = (0..1000).map(send_half).collect();
    let used = service.peak_memory() - before;
    assert!((10_000..100_000).contains(&used), "{used} KiB");
    assert_eq!(raw(&service, "GET", "/livez", &[], "").status, 200);
    drop(clients);
}

#[test]
fn more_memory_for_bodies_than_the_maximum_is_refused() {
    let dir = TestDir::new();
    let service = Service::with(&dir, &["--max-bodies", "3000"]);
    let json = "Content-Type: application/json";
    let mut first = connect(&service);
    let head = format!("PUT /orders/A-1 HTTP/1.1\r\nHost: localhost\r\n{json}\r\nContent-Length: 2100\r\n\r\n");
    first.write_all(format!("{head}{}", "x".repeat(2000)).as_bytes()).expect("sent");
    std::thread::sleep(Duration::from_millis(500));
    let refused = raw(&service, "PUT", "/orders/A-2", &[json], &"x".repeat(2000));
    assert!(refused.problem(503).contains("too many bodies"), "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(first);
    std::thread::sleep(Duration::from_millis(500));
    raw(&service, "PUT", "/orders/A-2", &[json], &"x".repeat(2000)).problem(400);
}

#[test]
fn more_connections_than_the_maximum_wait_and_are_answered() {
    let dir = TestDir::new();
    let service = Service::with(&dir, &["--max-connections", "2", "--idle-deadline", "1", "--header-deadline", "1"]);
    let idle: Vec<TcpStream> = (0..40).map(|_| connect(&service)).collect();
    assert_eq!(raw(&service, "GET", "/livez", &[], "").status, 200);
    drop(idle);
}

#[test]
fn the_service_is_not_ready_while_a_projection_or_the_disk_is_not() {
    let dir = TestDir::new();
    let service = Service::new(&dir);
    let ready = raw(&service, "GET", "/readyz", &[], "");
    let checks: Value = serde_json::from_str(&ready.body).expect("JSON");
    let names: Vec<&String> = checks["checks"].as_object().expect("checks").keys().collect();
    let expected = ["disk space", "projection order-summaries", "projection product-demand", "projection sales"];
    assert_eq!(names[..4], expected.map(ToOwned::to_owned).each_ref()[..], "{checks}");
    assert_eq!((ready.status, &checks["checks"]["store"]), (200, &json!("ok")));
    service.stop();
    let service = Service::with(&dir, &["--min-free", "9000000000000000000"]);
    let refused = raw(&service, "GET", "/readyz", &[], "");
    refused.problem(503);
    let checks: Value = serde_json::from_str(&refused.body).expect("JSON");
    assert_eq!((&checks["checks"]["disk space"], &checks["checks"]["store"]), (&json!("failed"), &json!("ok")));
    assert_eq!(raw(&service, "GET", "/livez", &[], "").status, 200);
}

#[test]
fn requests_and_projections_are_measured() {
    let dir = TestDir::new();
    let service = Service::new(&dir);
    place(&service, "A-1");
    service.get("/orders?at_least=1", &[]).expect(200);
    let metrics = raw(&service, "GET", "/metrics", &[], "");
    for part in [
        "http_requests_total{method=\"PUT\",route=\"/orders/{id}\",status=\"201\"} 1",
        "es_projection_events_total{projection=\"order-summaries\"} 1",
        "es_commands_total{category=\"order\",outcome=\"executed\"} 1",
        "es_command_seconds_count{category=\"order\"} 1",
        "es_commit_seconds_count{category=\"order\"} 1",
        "es_loads_total{category=\"order\",source=\"events\"} ",
        "es_store_commits_total{outcome=\"accepted\"} ",
    ] {
        assert!(metrics.body.contains(part), "{part} is not in {}", metrics.body);
    }
}

pub(crate) fn certificate(name: &str) -> String {
    format!("{}/../../es-http/tests/http/tls/{name}.pem", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn commands_reach_a_service_with_tls_tokens_and_certificates() {
    let dir = TestDir::new();
    dir.write("tokens", TOKENS);
    dir.write("token", "operator\n");
    let (cert, key, ca) = (certificate("server"), certificate("server.key"), certificate("authority"));
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--tokens", "tokens"];
    let service = Service::with(&dir, &tls);
    let url = service.operations.replace("127.0.0.1", "localhost");
    assert!(url.starts_with("https://localhost:"), "{url}");
    let pause = |args: &[&str]| dir.run(&[&["projections", "--url", &url], args, &["pause", "sales"]].concat());
    assert_eq!(pause(&["--ca", &ca, "--token-file", "token"]).code, Some(0));
    let refused = pause(&["--ca", &ca]);
    assert!(refused.err.contains("rejected the request: expected a valid token"), "{}", refused.err);
    let unknown = pause(&["--token-file", "token"]);
    assert!(unknown.code == Some(1) && unknown.err.contains("did not respond"), "{}", unknown.err);
    let not_pem = pause(&["--ca", "token"]);
    assert_eq!(not_pem.err.trim(), "error: expected certificates in PEM in token, found none");
    let mut list = dir.command(&["projections", "--url", &url, "--ca", &ca, "list"]);
    assert!(list.env("ORDER_SERVICE_TOKEN", "reader").output().expect("the program runs").status.success());
    service.stop();

    // A client certificate is an identity, too.
    let hash = "e2e61c8122ab27eb7e69a841dcc683b1ef46286a2939116c66306746f9cbeaa0";
    dir.write("tokens", format!("certificate-sha256:{hash} read reports\n"));
    let service = Service::with(&dir, &[&tls[..], &["--tls-client-ca", &ca]].concat());
    let url = service.operations.replace("127.0.0.1", "localhost");
    let list = |args: &[&str]| dir.run(&[&["projections", "--url", &url, "--ca", &ca], args, &["list"]].concat());
    let listed = list(&["--cert", &certificate("client"), "--key", &certificate("client.key")]);
    assert_eq!(listed.code, Some(0), "{}", listed.err);
    assert_eq!(list(&[]).code, Some(1));
    let of_client = [("--cert", certificate("client")), ("--key", certificate("client.key"))];
    let of_client: Vec<&str> = of_client.iter().flat_map(|(flag, file)| [*flag, file.as_str()]).collect();
    let refused =
        dir.run(&[&["projections", "--url", &url, "--ca", &ca], &of_client[..], &["pause", "sales"]].concat());
    assert!(refused.code == Some(1) && refused.err.contains("expected the role operate"), "{}", refused.err);
    service.stop();
}

/// Accepts the next request, answers it with `{}`, and returns its body.
fn accept_body(collector: &TcpListener) -> String {
    let (mut stream, _) = collector.accept().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut length = 0;
    for line in reader.by_ref().lines().map(|line| line.expect("a line")).take_while(|line| !line.is_empty()) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body).expect("the body");
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    stream.write_all(answer.as_bytes()).expect("answered");
    body
}

#[test]
fn spans_of_requests_reach_the_collector_before_the_service_ends() {
    let dir = TestDir::new();
    let collector = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}/v1/traces", collector.local_addr().expect("an address"));
    let received = std::thread::spawn(move || accept_body(&collector));
    let service = Service::with(&dir, &["--spans", &endpoint]);
    place(&service, "1");
    service.stop();
    let spans: Value = serde_json::from_str(&received.join().expect("received")).expect("JSON");
    let resource = spans["resourceSpans"][0]["resource"]["attributes"].to_string();
    assert!(resource.contains("order-service"), "{spans}");
    assert!(spans.to_string().contains("PUT /orders/{id}"), "{spans}");
}

/// DNS rebinding: a page whose name resolves to 127.0.0.1 has the origin of a service that demands no token.
#[test]
fn a_service_without_tokens_on_a_loopback_address_is_not_reached_by_another_name() {
    let dir = TestDir::new();
    for (args, evil, shop) in [(&[][..], 421, 421), (&["--allow-host", "shop.example"], 421, 200)] {
        let service = Service::with(&dir, args);
        let port = service.address.rsplit_once(':').expect("a port").1;
        for (host, status) in [("evil.example", evil), ("shop.example", shop), ("localhost", 200)] {
            let of_page = format!("Host: {host}:{port}\r\nOrigin: http://{host}:{port}");
            let mut stream = connect(&service);
            write!(stream, "GET /orders HTTP/1.1\r\nConnection: close\r\n{of_page}\r\n\r\n").expect("sent");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("a response");
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {text}");
        }
        service.stop();
    }
}

/// A paused scavenge slept on a thread that neither its operator nor SIGTERM could end: the process needed SIGKILL.
#[test]
fn a_scavenge_with_a_pause_ends_when_its_operator_or_the_service_stops_it() {
    let dir = TestDir::new();
    let service = Service::new(&dir);
    let operate = |method: &str, path: &str, body: &str| {
        let headers: &[&str] = if body.is_empty() { &[] } else { &["Content-Type: application/json"] };
        let reply = raw_to(&service.operations, method, path, headers, body);
        assert!((200..300).contains(&reply.status), "{method} {path}: {}", reply.body);
        serde_json::from_str::<Value>(&reply.body).expect("JSON")
    };
    let start_scavenge = |order: &str| {
        place(&service, order);
        operate("DELETE", &format!("/streams/order-{order}"), "");
        let id = operate("POST", "/scavenge", r#"{"pause_ms":10000}"#)["id"].as_str().expect("an id").to_owned();
        // Until the scavenge has rewritten the segment, and pauses.
        std::thread::sleep(Duration::from_millis(1500));
        let path = format!("/jobs/{id}");
        assert_eq!(operate("GET", &path, "")["state"], "running");
        path
    };
    let path = start_scavenge("A-1");
    let start = Instant::now();
    operate("DELETE", &path, "");
    let ended = operate("GET", &format!("{path}?wait=20"), "");
    assert!(ended["state"] != "running" && start.elapsed() < Duration::from_secs(8), "{ended}");
    start_scavenge("A-2");
    let start = Instant::now();
    service.stop();
    assert!(start.elapsed() < Duration::from_secs(8), "the service stopped after {:?}", start.elapsed());
}
