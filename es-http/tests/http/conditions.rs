//! Conditional requests and idempotency keys, from the header to the memory store (case 8: lists, `*` and weak tags
//! were 400; case 11: a key of another command).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use es_core::StreamId;
use es_core::model::{UniqueKey, Version};
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::store::{Conflict, FailedCheck};
use es_http::{EntityTag, EsPosition, IdempotencyKey, Json, Path, Preconditions, Problem, ServeOptions};

use crate::counter::{Add, Counter};
use crate::support::{Answer, Server};

async fn add(
    State(counters): State<Arc<Repository<Counter>>>,
    Path(id): Path<u32>,
    preconditions: Preconditions,
    key: Option<IdempotencyKey>,
    Json(command): Json<Add>,
) -> Result<(Option<EntityTag>, EsPosition, String), Problem> {
    let condition = preconditions.condition(&counters, &id).await?;
    let mut command = condition.apply(counters.execute(&id, command));
    if let Some(IdempotencyKey(key)) = key {
        command = command.with_id(key);
    }
    let added = command.await.map_err(|error| preconditions.problem(error))?;
    let position = EsPosition::in_store(&**counters.store(), added.position);
    Ok((added.version().map(EntityTag::from), position, added.state.sum.to_string()))
}

async fn show(
    State(counters): State<Arc<Repository<Counter>>>,
    Path(id): Path<u32>,
    preconditions: Preconditions,
    at_least: Option<EsPosition>,
) -> Result<Response, Problem> {
    at_least.map(|at_least| at_least.resolve(&**counters.store())).transpose()?;
    let counter = counters.load(&id).await?;
    let version = counter.version().ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no such counter"))?;
    Ok(preconditions.respond(Some(version), counter.state.sum))
}

/// Serves counter 1 at revision 1 with the sum 3.
async fn server() -> (Server, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    let counters = Repository::<Counter>::new(store.clone());
    for amount in [1, 2] {
        counters.execute(&1, Add { amount }).await.unwrap();
    }
    let router = Router::new().route("/{id}", post(add).get(show)).with_state(Arc::new(counters));
    (Server::start(router, ServeOptions::new()).await, store)
}

async fn request(server: &Server, method: &str, id: u32, headers: &str, amount: u32) -> Answer {
    let headers: String =
        headers.split('|').filter(|header| !header.is_empty()).fold(String::new(), |mut all, header| {
            all.extend([header, "\r\n"]);
            all
        });
    let body = if method == "POST" { format!("{{\"amount\":{amount}}}") } else { String::new() };
    let head = format!("{method} /{id} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{headers}");
    server.send(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await
}

#[tokio::test]
async fn a_write_is_conditional_on_the_version() {
    // (counter, headers, status): counter 1 is at revision 1, counter 2 does not exist.
    for (id, headers, status) in [
        (1, "If-Match: \"1\"", 200),
        (1, "If-Match: *", 200),
        (1, "If-Match: \"7\", \"1\"", 200),
        (1, "If-Match: \"7\"|If-Match: \"1\"", 200),
        (1, "If-Match: W/\"1\"", 412),
        (1, "If-Match: W/\"1\", \"1\"", 200),
        (1, "If-Match: \"0\"", 412),
        (1, "If-Match: \"0\", \"2\"", 412),
        (1, "If-Match: \"01\"", 412),
        (1, "If-Match: \"+1\"", 412),
        (1, "If-Match: \"x\"", 412),
        (1, "If-Match: 1", 400),
        (1, "If-Match: \"1", 400),
        (2, "If-Match: *", 412),
        (2, "If-Match: \"1\"", 412),
        (2, "If-None-Match: *", 200),
        (1, "If-None-Match: *", 412),
        (1, "If-None-Match: W/\"1\"", 412),
        (1, "If-None-Match: \"0\"", 200),
        (2, "If-None-Match: \"0\"", 200),
        (1, "If-Match: \"1\"|If-None-Match: \"0\"", 200),
        (1, "If-Match: \"1\"|If-None-Match: *", 412),
    ] {
        let (server, store) = server().await;
        let answer = request(&server, "POST", id, headers, 4).await;
        assert_eq!(answer.status, status, "{id}: {headers}: {answer:?}");
        let head = store.head().await.unwrap();
        assert_eq!(head, Position::new(if status == 200 { 3 } else { 2 }), "{id}: {headers}");
        if status == 200 {
            assert_eq!(answer.header("etag"), Some(if id == 1 { "\"2\"" } else { "\"0\"" }), "{id}: {headers}");
        } else {
            answer.problem(status);
        }
    }
}

/// The detail had "expected revision 18446744073709551615", and headers that were quoted twice.
#[tokio::test]
async fn a_refusal_is_in_the_terms_of_the_request() {
    let (server, _) = server().await;
    let written = "; nothing was written: reload and decide again";
    for (id, headers, detail) in [
        (1, "If-Match: \"0\"", "If-Match: expected \"0\", found \"1\""),
        (1, "If-Match: \"0\", \"2\"", "If-Match: expected \"0\" or \"2\", found \"1\""),
        (1, "If-Match: \"x\"", "If-Match: expected \"x\", found \"1\""),
        (1, "If-Match: W/\"1\"", "If-Match: expected W/\"1\", found \"1\"; a weak tag never matches"),
        (2, "If-Match: *", "If-Match: expected a version, found none"),
        (2, "If-Match: \"1\"", "If-Match: expected \"1\", found none"),
        (1, "If-None-Match: *", "If-None-Match: expected no version, found \"1\""),
        (1, "If-None-Match: W/\"1\"", "If-None-Match: expected another version than W/\"1\", found \"1\""),
        (1, "If-Match: \"1\"|If-None-Match: *", "If-None-Match: expected no version, found \"1\""),
    ] {
        let refused = request(&server, "POST", id, headers, 4).await;
        assert_eq!(refused.problem(412), format!("{detail}{written}"), "{headers}");
    }
    let read = request(&server, "GET", 1, "If-Match: \"0\"", 0).await;
    assert_eq!(read.problem(412), "If-Match: expected \"0\", found \"1\"");
    let key = "Idempotency-Key: expected a string of 1 to 255 visible characters in quotes, such as \"8e03978e-40d5\"";
    for (value, found) in [("k\tx", "\"k\\tx\""), ("\"k\tx\"", "\"\\\"k\\tx\\\"\"")] {
        let refused = request(&server, "POST", 1, &format!("Idempotency-Key: {value}"), 4).await;
        assert_eq!(refused.problem(400), format!("{key}, found {found}"));
    }
    let other = request(&server, "POST", 1, "Idempotency-Key: \"k\u{e9}\"", 4).await;
    let other = other.problem(400);
    assert_eq!(other, "idempotency-key: expected visible ASCII characters, found \"\\\"k\u{e9}\\\"\"");
}

#[tokio::test]
async fn a_read_is_conditional_on_the_version() {
    let (server, _) = server().await;
    for (headers, status) in [
        ("", 200),
        ("If-None-Match: \"1\"", 304),
        ("If-None-Match: W/\"1\"", 304),
        ("If-None-Match: \"0\", \"1\"", 304),
        ("If-None-Match: *", 304),
        ("If-None-Match: \"0\"", 200),
        ("If-None-Match: \"01\"", 200),
        ("If-Match: \"1\"", 200),
        ("If-Match: *", 200),
        ("If-Match: \"0\"", 412),
        ("If-Match: \"0\"|If-None-Match: \"1\"", 412),
        ("If-None-Match: 1", 400),
    ] {
        let answer = request(&server, "GET", 1, headers, 0).await;
        assert_eq!(answer.status, status, "{headers}: {answer:?}");
        assert_eq!(answer.body, if status == 200 { "3" } else { &answer.body }, "{headers}");
        assert_eq!(answer.header("etag"), (status != 400).then_some("\"1\""), "{headers}");
        assert!(status != 304 || answer.body.is_empty());
    }
}

#[tokio::test]
async fn a_repeated_key_returns_the_first_result_even_under_a_condition_that_no_longer_holds() {
    let (server, store) = server().await;
    for headers in ["Idempotency-Key: \"k 1\"|If-Match: \"1\"", "Idempotency-Key: \"k 1\"|If-Match: \"1\""] {
        let answer = request(&server, "POST", 1, headers, 4).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.header("etag")), (200, "7", Some("\"2\"")));
    }
    assert_eq!(store.head().await.unwrap(), Position::new(3));
    let reused = request(&server, "POST", 1, "Idempotency-Key: \"k 1\"", 5).await;
    let used = "Idempotency-Key: \"k 1\" was used for another request to this resource; use another key";
    assert_eq!(reused.problem(422), used, "the types of the program are not shown");
    assert!(reused.body.contains(es_http::problem::kind::COMMAND_ID_REUSED));
    let detail = request(&server, "POST", 1, "Idempotency-Key: \"", 4).await.problem(400);
    assert!(detail.starts_with("Idempotency-Key: expected a string of 1 to 255"), "{detail}");
}

#[tokio::test]
async fn each_error_of_a_command_has_a_status() {
    let (server, store) = server().await;
    let rejected = request(&server, "POST", 1, "", 40).await;
    assert_eq!(rejected.problem(422), "counter 1: expected an amount from 1 to 9, found 40");
    assert!(rejected.body.contains(es_http::problem::kind::REJECTED));
    store.close().await.unwrap();
    let closed = request(&server, "POST", 1, "", 4).await;
    assert_eq!(closed.problem(503), "the store of the service accepts no requests at present");
    assert_eq!(closed.header("retry-after"), Some("1"));
}

/// A client sends the position of its command back. A position of a store that was restored since is refused.
#[tokio::test]
async fn a_position_comes_back_to_the_log_that_it_is_from() {
    let (server, store) = server().await;
    let added = request(&server, "POST", 1, "", 4).await;
    let position = added.header("es-position").unwrap().to_owned();
    assert_eq!(position, format!("{}:3", store.log_id()));
    assert_eq!(request(&server, "GET", 1, &format!("ES-Position: {position}"), 0).await.body, "7");
    for (position, status) in [
        ("3".to_owned(), 200),
        ("4".to_owned(), 409),
        (format!("{}:4", store.log_id()), 409),
        (format!("{}:1", es_core::model::LogId::new()), 410),
        ("x".to_owned(), 400),
        ("-1".to_owned(), 400),
    ] {
        let answer = request(&server, "GET", 1, &format!("ES-Position: {position}"), 0).await;
        assert_eq!(answer.status, status, "{position}: {answer:?}");
        assert!(status == 200 || !answer.problem(status).is_empty());
    }
}

/// A conflict with something else was 412 as soon as the request had a condition, also one that holds: a client
/// concluded from a unique key that another stream holds that its own aggregate exists.
#[test]
fn a_conflict_is_412_only_if_the_condition_does_not_hold() {
    let stream = |name: &str| StreamId::new(name).unwrap();
    let version = |revision: u64| Version::from(Revision::new(revision));
    let (wanted_by, held_by) = (stream("counter-2"), stream("counter-1"));
    let key = FailedCheck::UniqueKey { key: UniqueKey::new("email", "ada@example.org").unwrap(), wanted_by, held_by };
    // The client knows versions 1 and 2, and another writer has made 2 of 1 since.
    let changed = |actual: u64| FailedCheck::Version {
        stream: stream("counter-1"),
        expected: version(1),
        actual: Some(version(actual)),
    };
    let exists = FailedCheck::Revision {
        stream: stream("counter-2"),
        expected: ExpectedRevision::NoStream,
        actual: Some(Revision::FIRST),
    };
    for (name, value, failed, status) in [
        ("if-none-match", "*", key, 409),
        ("if-none-match", "*", exists, 412),
        ("if-match", "\"1\", \"2\"", changed(2), 409),
        ("if-match", "\"1\", \"2\"", changed(3), 412),
        ("if-none-match", "\"9\"", changed(2), 409),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let conflict = Conflict { failed: vec![failed] };
        let problem = Preconditions::of_headers(&headers).unwrap().problem(conflict.clone());
        let kind = if status == 409 { es_http::problem::kind::CONFLICT } else { es_http::problem::kind::PRECONDITION };
        assert_eq!((problem.status().as_u16(), problem.type_uri()), (status, Some(kind)), "{name}: {value} {conflict}");
    }
}
