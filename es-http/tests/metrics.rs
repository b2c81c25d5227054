//! The metrics that a service exports at `/metrics` are those of the table in the book. A test binary of its own,
//! because a process has one recorder.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use es_core::Service;
use es_core::consumer::group::{ConsumerGroup, StartAt};
use es_core::prelude::*;
use es_core::projection::ProjectionOptions;
use es_core::store::memory::MemoryStore;
use es_http::{Edge, Metrics, ServeOptions};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "counted")]
struct Counted {
    by: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "counter", id = u64, event = Counted, snapshot(every = 2))]
struct Counter {
    sum: u64,
}

impl Evolve for Counter {
    fn initial(_: &u64) -> Self {
        Self { sum: 0 }
    }

    fn evolve(&mut self, event: &Counted, _: &EventContext<'_>) {
        self.sum += event.by;
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Count(u64);

#[derive(Debug, thiserror::Error)]
#[error("expected a number from 1")]
struct Nothing;

impl Decide<Count> for Counter {
    type Rejection = Nothing;

    fn decide(&self, Count(by): Count, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Nothing> {
        if by == 0 { Err(Nothing) } else { Ok(Counted { by }.into()) }
    }
}

struct Sums;

impl Projection for Sums {
    type Source = Counter;
    const NAME: &'static str = "sums";

    fn apply(&self, _: &Counted, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
        Ok(())
    }
}

/// Returns the names and kinds in the table of the book, without those of transactions, es-saga and es-replication.
fn documented() -> BTreeMap<String, String> {
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/book/src/operations.md");
    let book = std::fs::read_to_string(book).unwrap();
    let is_of_other_test = |line: &&str| {
        ["| `es_saga", "| `es_process", "| `es_replication", "| `es_transaction"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let rows = book.lines().filter(|line| line.starts_with("| `es_") || line.starts_with("| `http_"));
    let rows = rows.filter(|line| !is_of_other_test(line));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells.map(|cells| (cells[1].trim_matches('`').to_owned(), cells[2].to_owned())).collect()
}

/// Returns the response to `GET /metrics`, with its head.
async fn scrape(address: SocketAddr) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

/// Returns the value of a sample, which a line has with all of its labels.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_exports_the_metrics_of_the_table_in_the_book() {
    let metrics = Metrics::install().unwrap();
    let router = Router::new().merge(metrics.router()).layer(Edge::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(es_http::serve(listener, router, ServeOptions::new(), std::future::pending()));
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let group = ConsumerGroup::of::<Counter>("letters").start_at(StartAt::Beginning);
    let running = Service::new(store.clone()).projection(Sums, ProjectionOptions::new()).group(group);
    let running = running.start().await.unwrap();
    let counters = Repository::<Counter>::new(store.clone());
    for by in [1, 2, 3, 4] {
        counters.execute(&7, Count(by)).await.unwrap();
    }
    counters.execute(&7, Count(0)).await.unwrap_err();
    counters.execute(&7, Count(1)).expecting(ExpectedRevision::NoStream).await.unwrap_err();
    counters.settle().await;
    let head = store.head().await.unwrap();
    running.projection("sums").unwrap().wait_for(head, Duration::from_secs(60)).await.unwrap();
    let group = running.group("letters").unwrap();
    for _ in 0..4 {
        group.consumer().next().await.unwrap().unwrap().ack().await.unwrap();
    }
    group.wait_for(head, Duration::from_secs(60)).await.unwrap();
    let _ = running.status();
    scrape(address).await;
    let text = scrape(address).await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let exported: BTreeMap<String, String> =
        types.filter_map(|line| line.split_once(' ')).map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
    assert_eq!(exported, documented());
    for (name, expected) in [
        (r#"es_commands_total{category="counter",outcome="executed"}"#, 4.0),
        (r#"es_commands_total{category="counter",outcome="rejected"}"#, 1.0),
        (r#"es_commands_total{category="counter",outcome="conflict"}"#, 1.0),
        (r#"es_commands_total{category="counter",outcome="failed"}"#, 0.0),
        (r#"es_command_seconds_count{category="counter"}"#, 6.0),
        (r#"es_commit_seconds_count{category="counter"}"#, 4.0),
        (r#"es_loads_total{category="counter",source="events"}"#, 1.0),
        (r#"es_loads_total{category="counter",source="cache"}"#, 5.0),
        (r#"es_group_settled_total{group="letters",outcome="ack"}"#, 4.0),
        (r#"es_group_deliveries_total{group="letters"}"#, 4.0),
        (r#"es_group_lag_events{group="letters"}"#, 0.0),
        (r#"es_projection_events_total{projection="sums"}"#, 4.0),
        (r#"http_requests_total{method="GET",route="/metrics",status="200"}"#, 1.0),
    ] {
        assert_eq!(sample(&text, name), Some(expected), "{name}\n{text}");
    }
    let written = sample(&text, r#"es_store_commits_total{outcome="accepted"}"#).unwrap();
    assert!(written >= 4.0, "{text}");
    running.shutdown(Duration::from_secs(60)).await.unwrap();
}
