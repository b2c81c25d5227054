//! Spans reach a collector on a real socket, with the span of the caller as their parent. A test binary of its own,
//! because a process has one subscriber.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_http::{
    Edge, InstallSpansError, Json, LogFormat, Problem, ServeOptions, SpanExport, install_logs_and_spans, serve,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "placed")]
struct Placed;

#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = Placed)]
struct Order;

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self
    }

    fn evolve(&mut self, _: &Placed, _: &EventContext<'_>) {}
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place;

impl Decide<Place> for Order {
    type Rejection = std::convert::Infallible;

    fn decide(&self, _: Place, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Placed.into())
    }
}

async fn place(State(orders): State<Arc<Repository<Order>>>) -> Result<&'static str, Problem> {
    orders.execute(&7, Place).await?;
    Ok("placed")
}

/// Returns the fields of all exported spans, with the name of their service.
fn spans(export: &Value) -> Vec<(String, Value)> {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for resource in list(export, "resourceSpans") {
        let attributes = list(&resource["resource"], "attributes");
        let service = attributes.iter().find(|attribute| attribute["key"] == "service.name").unwrap();
        let service = service["value"]["stringValue"].as_str().unwrap().to_owned();
        for scope in list(&resource, "scopeSpans") {
            spans.extend(list(&scope, "spans").into_iter().map(|span| (service.clone(), span)));
        }
    }
    spans
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_of_a_request_reach_the_collector_with_their_parent() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", collector.local_addr().unwrap());
    let (received, mut exports) = mpsc::unbounded_channel::<Value>();
    let accept = move |Json(export): Json<Value>| async move {
        received.send(export).unwrap();
        Json(serde_json::json!({}))
    };
    let collect = Router::new().route("/v1/traces", post(accept));
    let (_stop_collector, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve(collector, collect, ServeOptions::new(), async { drop(stopped.await) }));

    for invalid in ["", "collector", "localhost:4318", "https://127.0.0.1:4318/v1/traces", "http://"] {
        let export = SpanExport::new(invalid, "orders");
        let refused = install_logs_and_spans(LogFormat::Json, "off", &export).unwrap_err();
        assert!(matches!(refused, InstallSpansError::Endpoint { .. }), "{invalid}: {refused}");
    }
    let export = SpanExport::new(endpoint, "orders");
    let installed = install_logs_and_spans(LogFormat::Json, "off,es_core=debug,es_http=info", &export).unwrap();
    let orders = Arc::new(Repository::<Order>::new(Arc::new(MemoryStore::new())));
    let router = Router::new().route("/orders", post(place)).with_state(orders);
    let router = router.layer(Edge::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, router, ServeOptions::new(), async { drop(stopped.await) }));
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!("POST /orders HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{TRACE}-{PARENT}-01\r\n");
    client.write_all(format!("{head}Connection: close\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // A body that is declared too long was answered before the span.
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = "PUT /orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1048577\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut refused = String::new();
    client.read_to_string(&mut refused).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    stop.send(()).unwrap();
    served.await.unwrap();
    installed.shutdown().await.unwrap();

    let mut found = Vec::new();
    while let Ok(export) = exports.try_recv() {
        found.extend(spans(&export));
    }
    let span = |name: &str| {
        let named = found.iter().find(|(_, span)| span["name"] == name);
        named.unwrap_or_else(|| panic!("no span {name} in {found:?}"))
    };
    let (service, request) = span("POST /orders");
    assert_eq!(
        (service.as_str(), &request["traceId"], &request["parentSpanId"]),
        ("orders", &TRACE.into(), &PARENT.into())
    );
    let (_, refused) = span("PUT /orders");
    let mut attributes = refused["attributes"].as_array().unwrap().iter();
    let status = attributes.find(|attribute| attribute["key"] == "http.response.status_code");
    assert!(status.is_some_and(|status| status["value"].to_string().contains("413")), "{refused}");
    let (_, command) = span("command");
    assert_eq!((&command["traceId"], &command["parentSpanId"]), (&TRACE.into(), &request["spanId"]));
    let (_, commit) = span("commit");
    assert_eq!((&commit["traceId"], &commit["parentSpanId"]), (&TRACE.into(), &command["spanId"]));
}
