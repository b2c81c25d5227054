//! Every refusal is a problem (case 24: refusals by extractors were text/plain), and no body is ignored (case 7).

use axum::Router;
use axum::routing::{get, post};
use es_http::{Edge, Json, NoInput, Path, Problem, Query, ServeOptions};
use serde::Deserialize;

use crate::support::{Answer, Server};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    at: u32,
}

async fn optional(body: Option<Json<Step>>) -> String {
    body.map_or("none".to_owned(), |Json(step)| step.at.to_string())
}

fn router() -> Router {
    Router::new()
        .route("/step", post(optional))
        .route("/required", post(async |Json(step): Json<Step>| step.at.to_string()))
        .route("/axum", post(async |axum::Json(step): axum::Json<Step>| step.at.to_string()))
        .route("/axum/{number}", get(async |axum::extract::Path(number): axum::extract::Path<u32>| number.to_string()))
        .route("/axum/query", get(async |axum::extract::Query(step): axum::extract::Query<Step>| step.at.to_string()))
        .route("/axum/text", post(async |text: String| text))
        .route("/axum/state", get(async |_: axum::Extension<u32>| ""))
        .route("/path/{number}", get(async |Path(number): Path<u32>| number.to_string()))
        .route("/query", get(async |Query(step): Query<Step>| step.at.to_string()))
        .route("/nothing/{number}", post(async |Path(number): Path<u32>, _: NoInput| number.to_string()))
        .route("/panic", get(async || if true { panic!("/etc/secret") } else { "" }))
        .route("/leak", get(async || (axum::http::StatusCode::INTERNAL_SERVER_ERROR, "/etc/secret: not found")))
        .route("/teapot", get(async || Problem::new(axum::http::StatusCode::IM_A_TEAPOT, "short").with("stout", true)))
}

async fn server() -> Server {
    Server::start(router(), ServeOptions::new()).await
}

async fn post_to(server: &Server, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    server.send(&format!("POST {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n{body}")).await
}

async fn get_from(server: &Server, path: &str) -> Answer {
    server.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await
}

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn an_optional_body_is_never_ignored() {
    let server = server().await;
    assert_eq!(post_to(&server, "/step", JSON, r#"{"at":3}"#).await.body, "3");
    assert_eq!(post_to(&server, "/step", "Content-Type: application/x+json; a=b\r\n", r#"{"at":3}"#).await.body, "3");
    for headers in ["", JSON, "Content-Type: text/plain\r\n"] {
        assert_eq!(post_to(&server, "/step", headers, "").await.body, "none", "{headers}");
    }
    let chunked = "POST /step HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(server.send(chunked).await.body, "none");
    for headers in
        ["", "Content-Type: text/plain\r\n", "Content-Type: text/plain\r\nContent-Type: application/json\r\n"]
    {
        for body in [r#"{"at":3}"#, "this is { no json"] {
            let detail = post_to(&server, "/step", headers, body).await.problem(415);
            assert!(detail.starts_with("Content-Type: expected application/json, found "), "{detail}");
        }
    }
}

/// Fault: a service ignored the body and the parameters of a command that had none, and executed it.
#[tokio::test]
async fn a_request_without_input_is_refused_with_a_body_or_a_parameter() {
    let server = server().await;
    for headers in ["", JSON, "Content-Type: text/plain\r\n"] {
        assert_eq!(post_to(&server, "/nothing/3?", headers, "").await.body, "3");
    }
    assert_eq!(post_to(&server, "/nothing/3", JSON, "{}").await.body, "3");
    for headers in ["", "Content-Type: text/plain\r\n"] {
        post_to(&server, "/nothing/3", headers, "{}").await.problem(415);
    }
    assert!(post_to(&server, "/nothing/3", JSON, r#"{"at":1}"#).await.problem(422).contains("unknown field `at`"));
    let detail = post_to(&server, "/nothing/3?dry_run=true", "", "").await.problem(400);
    assert_eq!(detail, r#"query: expected no parameters, found "dry_run=true""#);
}

/// Fault: a body without a content type was ignored by routes that read no body.
#[tokio::test]
async fn a_body_without_a_content_type_does_not_reach_a_route() {
    let router = Router::new().route("/", post(async || "executed")).layer(Edge::new());
    let server = Server::start(router, ServeOptions::new()).await;
    assert_eq!(post_to(&server, "/", "", "").await.body, "executed");
    let detail = post_to(&server, "/", "", "this is { no json").await.problem(415);
    assert_eq!(detail, "Content-Type: expected the type of the body, found none");
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    server.send(chunked).await.problem(415);
}

/// The body of a GET request was ignored, also one that is declared as JSON.
#[tokio::test]
async fn a_body_of_a_read_is_refused() {
    let router = Router::new().route("/", get(async || "read")).layer(Edge::new());
    let server = Server::start(router, ServeOptions::new()).await;
    assert_eq!(get_from(&server, "/").await.body, "read");
    for method in ["GET", "HEAD"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n{JSON}Content-Length: 7\r\n\r\n{{\"x\":1}}");
        let mut client = server.connect().await;
        tokio::io::AsyncWriteExt::write_all(&mut client, request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut client, &mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 415", "{method}");
    }
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let server = server().await;
    assert!(post_to(&server, "/required", JSON, "").await.problem(400).contains("found none"));
    assert!(post_to(&server, "/required", JSON, "{").await.problem(400).contains("invalid JSON body: EOF"));
    assert!(post_to(&server, "/required", JSON, r#"{"at":-1}"#).await.problem(422).contains("-1"));
    assert!(
        post_to(&server, "/required", JSON, r#"{"at":1,"on":2}"#).await.problem(422).contains("unknown field `on`")
    );
    assert!(post_to(&server, "/required", JSON, r#"{"at":1}x"#).await.problem(400).contains("trailing"));
    assert!(get_from(&server, "/path/x").await.problem(400).contains("x"));
    assert!(get_from(&server, "/query?at=x").await.problem(400).contains("at"));
    assert!(get_from(&server, "/query?at=1&on=2").await.problem(400).contains("on"));
    assert_eq!(get_from(&server, "/nowhere").await.problem(404), "/nowhere does not exist");
    let other_method = get_from(&server, "/step").await;
    assert_eq!(other_method.header("allow"), Some("POST"));
    assert_eq!(other_method.problem(405), "/step does not support GET: expected POST");
    let teapot = get_from(&server, "/teapot").await;
    assert_eq!(teapot.problem(418), "short");
    assert!(teapot.body.contains(r#""stout":true"#), "{}", teapot.body);
}

/// The extractors of axum refuse with texts. One of more than 16 KiB, which a client can cause, was sent as a text.
#[tokio::test]
async fn a_refusal_of_an_extractor_of_axum_is_a_problem() {
    let long = format!(r#"{{"{}":1}}"#, "é".repeat(20_000));
    for router in [router(), router().layer(Edge::new())] {
        let server = Server::start(router, ServeOptions::new()).await;
        for (path, headers, body, status, detail) in [
            ("/axum", JSON, r#"{"at":-1}"#, 422, "-1"),
            ("/axum", JSON, r#"{"at""#, 400, "EOF"),
            ("/axum", JSON, &long, 422, "Failed to deserialize the JSON body"),
            ("/axum", "Content-Type: text/plain\r\n", r#"{"at":1}"#, 415, "application/json"),
            ("/axum", "", r#"{"at":1}"#, 415, "Content-Type"),
            ("/axum/text", "Content-Type: text/plain\r\n", "\u{0}", 200, ""),
        ] {
            let answer = post_to(&server, path, headers, body).await;
            assert!(status == 200 || answer.problem(status).contains(detail), "{path} {headers}: {answer:?}");
            assert!(answer.body.len() < 20_000, "{path}: {}", answer.body.len());
        }
        for (path, status, detail) in [
            ("/axum/x", 400, "x"),
            ("/axum/%FF", 400, "UTF-8"),
            ("/axum/query?at=x", 400, "at"),
            ("/axum/query", 400, "at"),
            ("/axum/state", 500, "the log of the service has the cause"),
        ] {
            let detail_of_answer = get_from(&server, path).await.problem(status);
            assert!(detail_of_answer.contains(detail), "{path}: {detail_of_answer}");
        }
        let invalid_text =
            b"POST /axum/text HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n\xff";
        let mut client = server.connect().await;
        tokio::io::AsyncWriteExt::write_all(&mut client, invalid_text).await.unwrap();
        assert!(Answer::read(&mut client).await.problem(400).contains("UTF-8"));
    }
}

/// A body that is declared too long was answered before the edge: without a span and a route. The edge refuses it, also
/// where the handler would not read it.
#[tokio::test]
async fn a_body_that_is_declared_too_long_does_not_reach_a_route_inside_an_edge() {
    let router = Router::new().route("/", post(async || "executed")).layer(Edge::new());
    let server = Server::start(router, ServeOptions::new().max_body_bytes(10)).await;
    assert_eq!(post_to(&server, "/", JSON, "0123456789").await.body, "executed");
    for headers in ["", JSON] {
        let answer = post_to(&server, "/", headers, "0123456789a").await;
        assert_eq!(answer.problem(413), "the body of a request must have at most 10 bytes");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(answer.header("x-correlation-id").is_some() && answer.body.contains(r#""max_bytes":10"#), "{answer:?}");
    }
    let foreign = format!("{JSON}Origin: http://evil.example\r\n");
    post_to(&server, "/", &foreign, "0123456789a").await.problem(403);
}

#[tokio::test]
async fn a_failure_inside_the_service_is_not_sent() {
    let server = server().await;
    for path in ["/panic", "/leak"] {
        let detail = get_from(&server, path).await.problem(500);
        assert_eq!(detail, "the request failed; the log of the service has the cause", "{path}");
    }
    assert_eq!(get_from(&server, "/path/1").await.body, "1", "the server continues after a panic");
}

/// Another server can run the router, too.
#[tokio::test]
async fn uniform_problems_is_a_middleware() {
    use axum::response::IntoResponse;
    use tower::ServiceExt;

    let router = Router::new()
        .route(
            "/image",
            get(async || (axum::http::StatusCode::NOT_FOUND, [("content-type", "image/png")], "png").into_response()),
        )
        .layer(axum::middleware::from_fn(es_http::uniform_problems));
    for (path, content_type) in [("/nowhere", "application/problem+json"), ("/image", "image/png")] {
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (404, &content_type.parse().unwrap())
        );
    }
}
