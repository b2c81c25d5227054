//! Clients that are refused or excluded, and what they are told.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use es_core::model::CorrelationId;
use es_http::{Edge, Json, Problem, Revocation, ServeOptions, Tokens};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::edge::{READER, WRITER, protected, send};
use crate::log_lines::LogLines;
use crate::support::{Answer, PATIENCE, Server};

/// DNS rebinding: the page of another site gives its name the address of this machine, and has the origin of the
/// service.
#[tokio::test]
async fn a_name_that_resolves_to_this_machine_is_not_a_host_of_the_service() {
    let router = Router::new().route("/", get(async || "read").post(async || "written"));
    let server = Server::start(router.layer(Edge::new().hosts(["shop.example"])), ServeOptions::new()).await;
    let port = server.address.port();
    for (method, host, status) in [
        ("POST", "evil.example", 421),
        ("GET", "evil.example", 421),
        ("POST", "shop.example", 200),
        ("POST", "127.0.0.1", 200),
        ("GET", "localhost", 200),
    ] {
        let of_page = format!("Host: {host}:{port}\r\nOrigin: http://{host}:{port}\r\n");
        let answer = server.send(&format!("{method} / HTTP/1.1\r\n{of_page}Content-Length: 0\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{method} {host}: {answer:?}");
    }
}

/// A client that reported the id of a failed request reported one that the log did not have, or none: refusals of the
/// edge, refused bodies and panics had no id.
#[tokio::test(flavor = "current_thread")]
async fn each_response_and_the_log_line_of_a_500_have_the_correlation_id_of_the_request() {
    let lines = LogLines::collect();
    let router = Router::new()
        .route("/fails", get(async || Problem::internal(&std::io::Error::other("the disk is full"))))
        .route("/panics", get(async || if true { panic!("a bug") } else { "" }))
        .route("/leaks", get(async || (axum::http::StatusCode::INTERNAL_SERVER_ERROR, "a bug")))
        .route(
            "/",
            get(async || "read").post(async |body: Option<Json<u32>>| body.map_or(0, |Json(it)| it).to_string()),
        );
    let tokens: Tokens = format!("{READER}\n{WRITER}\n").parse().unwrap();
    let options = ServeOptions::new().max_body_bytes(10).max_body_bytes_in_flight(70);
    let options = options.stall_deadline(Duration::from_millis(200));
    let server = Server::start(router.layer(Edge::new().tokens(tokens)), options).await;
    let json = "Content-Type: application/json\r\n";
    let chunked = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (token, request, headers, status) in [
        ("other", "GET /", "", 401),
        ("reader", "POST /", "", 403),
        ("writer", "POST /", "Origin: http://evil.example\r\n", 403),
        ("writer", "POST /", "Content-Length: 1\r\n\r\n1", 415),
        ("writer", "POST /", &format!("{json}Content-Length: 9\r\n\r\n1"), 408),
        ("writer", "POST /", &format!("{json}Content-Length: 11\r\n"), 413),
        ("writer", "POST /", &format!("{chunked}b\r\n01234567890\r\n0\r\n"), 413),
        ("writer", "POST /", &format!("{chunked}1\r\n1\r\n1\r\n1\r\n0\r\n"), 503),
        ("writer", "GET /fails", "", 500),
        ("writer", "GET /panics", "", 500),
        ("writer", "GET /leaks", "", 500),
        ("writer", "GET /", "", 200),
    ] {
        let id = CorrelationId::new();
        let of_request = format!("Host: a\r\nAuthorization: Bearer {token}\r\nX-Correlation-ID: {id}\r\n{headers}\r\n");
        let answer = server.send(&format!("{request} HTTP/1.1\r\n{of_request}")).await;
        assert_eq!(answer.status, status, "{request} {headers}: {answer:?}");
        assert_eq!(answer.header("x-correlation-id"), Some(id.to_string().as_str()), "{request} {headers}: {answer:?}");
        let log = lines.text();
        let logged = log.lines().filter(|line| line.contains(r#""level":"ERROR""#) && line.contains(&id.to_string()));
        assert_eq!(logged.count(), usize::from(status == 500), "{request}: {log}");
    }
    let invalid = send(&server, "GET", "/", &["Authorization: Bearer reader", "X-Correlation-ID: 7"]).await;
    assert!(invalid.header("x-correlation-id").is_some_and(|id| id != "7"), "{invalid:?}");
    invalid.problem(400);
}

/// A client whose token was revoked received new events as long as it stayed connected.
#[tokio::test]
async fn a_response_without_an_end_ends_when_its_client_is_revoked() {
    let path = std::env::temp_dir().join(format!("es-http-revoked-{}", std::process::id()));
    std::fs::write(&path, format!("{READER}\n{WRITER}\n")).unwrap();
    let events = async |client: Revocation| {
        let pending = futures_util::stream::pending::<Result<Event, Infallible>>();
        Sse::new(pending.take_until(Box::pin(client.revoked())))
    };
    let router = Router::new().route("/", get(events)).layer(Edge::new().tokens(Tokens::load(&path).unwrap()));
    let server = Server::start(router, ServeOptions::new()).await;
    let open = async |token: &str| {
        let mut client = server.connect().await;
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(Answer::read(&mut client).await.status, 200);
        client
    };
    let (mut revoked, mut remaining) = (open("reader").await, open("writer").await);
    std::fs::write(&path, format!("{WRITER}\n")).unwrap();
    let mut end = [0; 5];
    timeout(PATIENCE, revoked.read_exact(&mut end)).await.expect("the stream ends").unwrap();
    assert_eq!(&end, b"0\r\n\r\n", "the last chunk");
    assert!(timeout(Duration::from_millis(2500), remaining.read_u8()).await.is_err(), "the other client remains");
    std::fs::remove_file(&path).unwrap();
}

/// An operator who deleted the file to exclude all clients was not told that all tokens remain valid.
#[tokio::test(flavor = "current_thread")]
async fn an_absent_file_of_tokens_is_logged_once_and_the_former_tokens_remain() {
    let lines = LogLines::collect();
    let path = std::env::temp_dir().join(format!("es-http-absent-{}", std::process::id()));
    std::fs::write(&path, READER).unwrap();
    let source = Tokens::load(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let server = Server::start(protected(source), ServeOptions::new()).await;
    let logged = || lines.text().lines().filter(|line| line.contains("could not find the files")).count();
    for failed_checks in [0, 0, 1, 1] {
        assert_eq!(send(&server, "GET", "/", &["Authorization: Bearer reader"]).await.status, 200);
        assert_eq!(logged(), failed_checks);
        sleep(Duration::from_millis(1100)).await;
    }
}
