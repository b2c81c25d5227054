//! What a process has once: signals, metrics and logs.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use es_http::{Edge, Json, LogFormat, Metrics, Problem, ServeOptions, install_logs, serve_until_signal};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::support::{Answer, PATIENCE, Server, child, printed};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn server_until_signal() {
    install_logs(LogFormat::Json, "info").unwrap();
    let internal = async || Problem::internal(&std::io::Error::other("disk /dev/x is full"));
    let router = Router::new().route("/slow", get(async || sleep(LONG).await)).route("/fails", get(internal));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("address {}", listener.local_addr().unwrap());
    let drained = serve_until_signal(listener, router, ServeOptions::new().drain_deadline(LONG)).await.unwrap();
    println!("drained {drained:?}");
}

fn terminate(process: &Child) {
    assert!(Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap().success());
}

/// Fault: a second signal waited for the slow client, as the first one did.
#[tokio::test]
async fn the_first_signal_drains_and_the_second_one_ends_at_once() {
    for slow_clients in [0, 1] {
        let mut process = child("process::server_until_signal", 1000);
        let address: SocketAddr = printed(&mut process, "address").parse().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        if slow_clients == 1 {
            client.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        }
        // The process handles signals since before it accepted the connection.
        sleep(Duration::from_millis(300)).await;
        let start = Instant::now();
        terminate(&process);
        if slow_clients == 1 {
            sleep(Duration::from_millis(500)).await;
            assert!(process.try_wait().unwrap().is_none(), "the first signal waits for the response");
            terminate(&process);
        }
        let drained = printed(&mut process, "drained");
        assert_eq!(drained, if slow_clients == 1 { "None" } else { "Some(Drained { aborted: 0 })" });
        assert!(process.wait().unwrap().success() && start.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn the_cause_of_a_500_is_a_json_line_in_the_log_and_not_in_the_response() {
    let mut process = child("process::server_until_signal", 1000);
    let address: SocketAddr = printed(&mut process, "address").parse().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /fails HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(!Answer::read(&mut client).await.problem(500).contains("disk"));
    terminate(&process);
    assert!(process.wait().unwrap().success());
    let mut log = String::new();
    process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let line = log.lines().find(|line| line.contains("disk")).unwrap_or_else(|| panic!("no such line in {log}"));
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["level"], &line["error"]), (&"ERROR".into(), &"disk /dev/x is full".into()));
}

#[test]
fn an_invalid_filter_of_logs_is_refused() {
    let error = install_logs(LogFormat::Text, "info,=").unwrap_err().to_string();
    assert_eq!(error, "expected a filter of logs such as info,es_core=debug, found \"info,=\"");
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let metrics = Metrics::install().unwrap();
    assert!(Metrics::install().is_err(), "a process has one recorder");
    let router = Router::new()
        .route("/orders/{id}", get(async || "order").post(async |_: Option<Json<u32>>| "order"))
        .route("/axum", post(async |axum::Json(number): axum::Json<u32>| number.to_string()))
        .route("/panics", get(async || if true { panic!("a bug") } else { "" }));
    let router = router.merge(metrics.router()).layer(Edge::new());
    let options = ServeOptions::new().max_body_bytes(10).max_body_bytes_in_flight(70);
    let server = Server::start(router, options.stall_deadline(Duration::from_millis(300))).await;
    for path in ["/orders/1", "/orders/2", "/secret/1"] {
        server.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    }
    server.send("BREW /orders/1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // The metrics had 400 for a refused body, and nothing for a panic and for a declared length beyond the maximum.
    let post = "POST /orders/1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let body = "Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n1\r\n1\r\n0\r\n\r\n";
    server.send(&format!("{post}{body}")).await.problem(503);
    server.send(&format!("{post}Content-Length: 11\r\n\r\n")).await.problem(413);
    // An extractor of axum answers 400, and the client receives the reason of the server.
    let post = post.replace("/orders/1", "/axum");
    server.send(&format!("{post}Content-Length: 11\r\n\r\n")).await.problem(413);
    server.send(&format!("{post}Transfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n")).await.problem(413);
    server.send(&format!("{post}Content-Length: 2\r\n\r\n1")).await.problem(408);
    server.send("GET /panics HTTP/1.1\r\nHost: a\r\n\r\n").await.problem(500);
    let answer = server.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        r#"http_requests_total{method="GET",route="/orders/{id}",status="200"} 2"#,
        r#"http_requests_total{method="GET",route="",status="404"} 1"#,
        r#"http_requests_total{method="other",route="/orders/{id}",status="405"} 1"#,
        r#"http_requests_total{method="POST",route="/orders/{id}",status="503"} 1"#,
        r#"http_requests_total{method="POST",route="/orders/{id}",status="413"} 1"#,
        r#"http_requests_total{method="POST",route="/axum",status="413"} 2"#,
        r#"http_requests_total{method="POST",route="/axum",status="408"} 1"#,
        r#"http_requests_total{method="GET",route="/panics",status="500"} 1"#,
        r#"http_request_duration_seconds_bucket{method="GET",route="/orders/{id}",le="+Inf"} 2"#,
    ] {
        assert!(answer.body.contains(line), "{line} is not in\n{}", answer.body);
    }
    assert!(!answer.body.contains("secret"));
}
