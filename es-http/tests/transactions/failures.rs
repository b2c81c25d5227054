//! Servers that fail, and servers that are no participants.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use es_http::transactions::HttpParticipantOptions;
use es_transaction::{Finished, Participant, ParticipantError, Prepare};
use tokio::net::TcpSocket;

use crate::seats::{Seats, reserve, reserved};
use crate::support::{Scripted, Server, Step, chain, client, epoch, prepare, response, routes, transaction};

const DONE: &str = "\"done\"";

fn busy() -> Step {
    response("503 Service Unavailable", "text/plain", "later")
}

fn done() -> Step {
    response("200 OK", "application/json", DONE)
}

fn short() -> HttpParticipantOptions {
    HttpParticipantOptions::new().token("shop")
}

/// Commits at a server that answers as the steps say. Returns the error and the number of requests.
async fn commit(steps: Vec<Step>) -> (Result<Finished, ParticipantError>, usize, Duration) {
    let scripted = Scripted::start(steps).await;
    let client = client(&scripted.server.url(), short());
    let start = Instant::now();
    let result = client.commit(&transaction("orders.7"), &reserved(2)).await;
    (result, scripted.requests().len(), start.elapsed())
}

/// Checks that a call failed because its participant is unavailable, and returns its message.
fn unavailable(result: Result<Finished, ParticipantError>) -> String {
    let error = result.unwrap_err();
    let text = chain(&error);
    assert!(matches!(error, ParticipantError::Unavailable { .. }), "{text}");
    text
}

#[tokio::test]
async fn a_busy_participant_is_called_again() {
    let (result, requests, _) = commit(vec![busy(), busy(), done()]).await;
    assert_eq!((result.unwrap(), requests), (Finished::Done, 3));
    let (result, requests, _) = commit(vec![Step::Close, response("429 Slow Down", "text/plain", ""), done()]).await;
    assert_eq!((result.unwrap(), requests), (Finished::Done, 3));
}

#[tokio::test]
async fn a_participant_that_stays_busy_is_unavailable_within_the_timeout() {
    let (result, requests, elapsed) = commit(vec![busy()]).await;
    let text = unavailable(result);
    // The deadline ends a pause or a call.
    let reasons = ["/transactions/commit was answered with 503", "/transactions/commit did not succeed within"];
    assert!(reasons.iter().any(|reason| text.contains(reason)), "{text}");
    assert!(requests > 3 && elapsed < Duration::from_secs(30), "{requests} requests in {elapsed:?}");
}

#[tokio::test]
async fn a_participant_that_starts_later_is_reached() {
    // It refuses connections until it listens.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    let client = client(&format!("http://{address}/transactions"), short());
    let starting = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let listener = socket.listen(128).unwrap();
        let router = routes(&std::sync::Arc::new(Seats::default()));
        es_http::serve(listener, router, es_http::ServeOptions::new(), std::future::pending()).await;
    };
    let id = transaction("orders.7");
    tokio::select! {
        result = client.abort(&id, None) => assert_eq!(result.unwrap(), Finished::Done),
        () = starting => panic!("the server ended"),
    }
}

#[tokio::test]
async fn a_participant_that_does_not_answer_is_unavailable_within_the_timeout() {
    let scripted = Scripted::start(vec![Step::Hang]).await;
    let client = client(&scripted.server.url(), short());
    let id = transaction("orders.7");
    let start = Instant::now();
    let error = client.prepare(&Prepare { timeout_ms: 300, ..prepare(&id) }, &reserve(2)).await.unwrap_err();
    let elapsed = start.elapsed();
    assert!(chain(&error).contains("/transactions/prepare did not succeed within"), "{}", chain(&error));
    assert!((Duration::from_millis(250)..Duration::from_secs(2)).contains(&elapsed), "{elapsed:?}");
    let start = Instant::now();
    let error = client.status(&id).await.unwrap_err();
    assert!(chain(&error).contains("did not succeed within"), "{}", chain(&error));
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

/// Fault: each call that hangs used a thread, and calls of other participants waited for one.
#[tokio::test]
async fn calls_that_hang_leave_threads_for_other_work() {
    let scripted = Scripted::start(vec![Step::Hang]).await;
    let client = std::sync::Arc::new(client(&scripted.server.url(), short()));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..600 {
        let client = std::sync::Arc::clone(&client);
        calls.spawn(async move { client.status(&transaction("orders.7")).await.unwrap_err() });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    tokio::task::spawn_blocking(|| {}).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    while let Some(error) = calls.join_next().await {
        assert!(matches!(error.unwrap(), ParticipantError::Unavailable { .. }));
    }
}

#[tokio::test]
async fn an_answer_of_something_else_is_not_an_answer_and_names_the_url() {
    let json = "application/json";
    let redirect = "HTTP/1.1 307 Temporary Redirect\r\nLocation: https://login.example/\r\nContent-Length: 0\r\n\r\n";
    let later = r#"{"type": "urn:es:problem:transaction-fenced", "known": "orders.7"}"#;
    let other = r#"{"type": "urn:es:problem:transaction-fenced", "known": "payments.9"}"#;
    let problem = "application/problem+json";
    for (step, expected) in [
        (Step::Answer(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec()), "could not call POST"),
        (response("200 OK", json, "<html>"), "expected the answer to commit, found expected value"),
        (
            response("200 OK", json, "{\"state\": \"committed\"}"),
            "expected the answer to commit, found unknown variant",
        ),
        (response("200 OK", "text/html", DONE), "expected Content-Type: application/json, found text/html"),
        (response("202 Accepted", json, DONE), "expected a problem (RFC 9457), found 202 Accepted"),
        (response("404 Not Found", "text/html", "<html>"), "expected a problem (RFC 9457), found 404 Not Found"),
        (response("502 Bad Gateway", "text/html", "<html>"), "expected a problem (RFC 9457), found 502 Bad Gateway"),
        (response("500 Oops", problem, r#"{"detail": "it failed"}"#), "found 500 Internal Server Error: it failed"),
        (Step::Answer(redirect.into()), "expected no redirect, found 307 Temporary Redirect to https://login.example/"),
        (response("409 Conflict", problem, later), "expected an epoch after orders.7, found orders.7"),
        (response("409 Conflict", problem, other), "expected an epoch after orders.7, found payments.9"),
        (response("409 Conflict", problem, r#"{"type": "urn:es:problem:transaction-fenced"}"#), "found none"),
        (response("409 Conflict", problem, "{\"known\": 7}"), "expected a problem (RFC 9457), found 409 Conflict"),
    ] {
        let (result, requests, elapsed) = commit(vec![step]).await;
        let text = unavailable(result);
        assert!(text.contains(expected) && text.contains("POST http://127.0.0.1:"), "{expected}: {text}");
        assert!(requests == 1 && elapsed < Duration::from_secs(3), "{expected}: {requests} in {elapsed:?}");
    }
}

#[tokio::test]
async fn a_problem_of_a_client_error_is_a_refusal() {
    let problem = r#"{"title": "Not Found", "status": 404, "detail": "/a does not exist\u001b[31m"}"#;
    let (result, requests, _) = commit(vec![response("404 Not Found", "application/problem+json", problem)]).await;
    let error = result.unwrap_err();
    let text = chain(&error);
    assert!(matches!(error, ParticipantError::Refused { .. }), "{text}");
    assert!(text.ends_with("/transactions/commit was answered with 404 Not Found: /a does not exist[31m"), "{text:?}");
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let mut declared = format!("{head}Content-Length: 99999999999\r\n\r\n\"").into_bytes();
    declared.resize(2 * 1024 * 1024, b'x');
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(0x10_0000));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(3)).into_bytes();
    for bytes in [declared, chunked] {
        let (result, requests, elapsed) = commit(vec![Step::Answer(bytes)]).await;
        let text = unavailable(result);
        assert!(text.contains("/transactions/commit has more than 1048576 bytes"), "{text}");
        assert!(requests == 1 && elapsed < Duration::from_secs(3), "{requests} in {elapsed:?}");
    }
}

#[tokio::test]
async fn a_long_list_of_transactions_in_doubt_is_read() {
    let id = transaction("orders.7");
    let ids: Vec<String> = (0..30_000).map(|_| format!("\"{id}\"")).collect();
    let list = format!("{{\"transactions\": [{}]}}", ids.join(","));
    assert!(list.len() > 1024 * 1024);
    let scripted = Scripted::start(vec![response("200 OK", "application/json", &list)]).await;
    let client = client(&scripted.server.url(), short());
    assert_eq!(client.in_doubt(&epoch("orders.8")).await.unwrap().len(), 30_000);
}

#[tokio::test]
async fn each_call_has_a_token_and_a_key_of_its_transaction_and_operation() {
    let scripted = Scripted::start(vec![busy(), done()]).await;
    let (client, id) = (client(&scripted.server.url(), short()), transaction("orders.7"));
    client.commit(&id, &reserved(2)).await.unwrap();
    client.abort(&id, None).await.unwrap();
    let requests = scripted.requests();
    let has = |request: &str, line: &str| request.lines().any(|found| found.eq_ignore_ascii_case(line));
    for (request, call) in [(&requests[0], "commit"), (&requests[1], "commit"), (&requests[2], "abort")] {
        assert!(request.starts_with(&format!("POST /transactions/{call} HTTP/1.1\r\n")), "{request}");
        assert!(has(request, &format!("idempotency-key: \"{id}:{call}\"")), "{request}");
        assert!(has(request, "authorization: Bearer shop"), "{request}");
        assert!(has(request, "content-type: application/json"), "{request}");
    }
    let (_, body) = requests[2].split_once("\r\n\r\n").unwrap();
    assert_eq!(body, format!("{{\"transaction\":\"{id}\"}}"), "a vote that was not received is absent");
}

#[tokio::test]
async fn a_connection_is_used_again_and_replaced_when_the_server_has_closed_it() {
    let server = Server::of(&std::sync::Arc::new(Seats::default())).await;
    let client = client(&server.url(), short());
    let id = transaction("orders.7");
    for _ in 0..5 {
        client.status(&id).await.unwrap();
    }
    let options = es_http::ServeOptions::new().idle_deadline(Duration::from_millis(100));
    let server = Server::start(routes(&std::sync::Arc::new(Seats::default())), options).await;
    let client = crate::support::client(&server.url(), short());
    for _ in 0..3 {
        client.status(&id).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
