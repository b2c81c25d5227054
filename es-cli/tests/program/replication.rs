//! `es replication status`, on a directory and on a running service.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use es_core::prelude::*;
use es_http::ServeOptions;
use es_http::operations::{Operations, OperationsAddress, OperationsListener};
use es_node::{LocalPeer, Node};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::support::{TestDir, runtime};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "counted")]
struct Counted {
    by: u64,
}

#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "counter", id = u64, event = Counted, consistency = "causal", conflict = "canonical")]
struct Counter;

impl Evolve for Counter {
    fn initial(_: &u64) -> Self {
        Self
    }

    fn evolve(&mut self, _: &Counted, _: &EventContext<'_>) {}
}

#[derive(Clone)]
struct Count(u64);

impl Decide<Count> for Counter {
    type Rejection = std::convert::Infallible;

    fn decide(&self, Count(by): Count, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Counted { by }.into())
    }
}

/// Opens two nodes with stores in a directory, `store` and `other`. Each pulls from the other one.
async fn open(dir: &TestDir) -> (Node, Node) {
    let builder = |name: &str, store| Node::builder(name).directory(dir.path(store)).aggregate::<Counter>();
    let (n1, n2) = (builder("n1", "store"), builder("n2", "other"));
    let peers = (LocalPeer::new("n1", n1.source()), LocalPeer::new("n2", n2.source()));
    let (n1, n2) = tokio::join!(n1.peer(Arc::new(peers.1)).open(), n2.peer(Arc::new(peers.0)).open());
    let (n1, n2) = (n1.unwrap(), n2.unwrap());
    n1.repository::<Counter>().unwrap().execute(&1, Count(1)).await.unwrap();
    n2.repository::<Counter>().unwrap().execute(&1, Count(2)).await.unwrap();
    n1.recover(Duration::from_secs(20)).await.unwrap();
    n2.recover(Duration::from_secs(20)).await.unwrap();
    (n1, n2)
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The fields that the book documents.
const FIELDS: [&str; 7] = ["categories", "is_restored", "node", "origin", "origins", "peers", "running"];

#[test]
fn a_directory_shows_the_node_and_what_it_has() {
    let dir = TestDir::new();
    runtime().block_on(async {
        let (n1, n2) = open(&dir).await;
        n1.stop().await.unwrap();
        n2.stop().await.unwrap();
    });
    let status = dir.json(&["replication", "status"]);
    let mut fields = names(&status);
    fields.sort_unstable();
    assert_eq!(fields, FIELDS);
    assert_eq!((&status["node"], &status["peers"], &status["running"]), (&json!("n1"), &json!(["n2"]), &json!(null)));
    let origins = status["origins"].as_array().unwrap();
    let own: Vec<_> = origins.iter().filter(|origin| origin["is_own"] == true).collect();
    assert_eq!((origins.len(), own.len(), &own[0]["origin"]), (2, 1, &status["origin"]));
    assert!(origins.iter().all(|origin| origin["sequence"] == 1 && origin["time"].is_string()), "{status}");
    let text = dir.done(&["replication", "status"]);
    for part in ["n1", "pulled from", "n2", "counter", "this node"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("next start"), "{text}");

    dir.done(&["backup", "backup"]);
    dir.done(&["restore", "backup", "--to", "restored"]);
    let text = dir.done(&["--store", "restored", "replication", "status"]);
    assert!(text.contains("takes a new origin: the store was restored"), "{text}");
}

#[test]
fn a_store_that_is_no_replica_is_refused() {
    let dir = TestDir::with([]);
    let expected = "error: the store in store is no replica: no node has opened it for replication; see \
                    `es --store store info`";
    dir.refused(&["replication", "status"], 1, expected);
}

#[test]
fn a_service_shows_its_links_and_the_other_members() {
    let dir = TestDir::new();
    let (url, socket) = (format!("unix:{}", dir.path("s").display()), dir.path("s"));
    let (stop, stopped) = oneshot::channel::<()>();
    let (started, is_started) = mpsc::channel();
    let nodes = TestDir::new();
    let service = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let (n1, n2) = open(&nodes).await;
            let monitor = n1.monitor();
            let status = move || {
                let monitor = monitor.clone();
                async move { monitor.status().await }
            };
            let operations = Operations::new(Arc::clone(n1.store())).replication(status);
            let listener = OperationsListener::local(&OperationsAddress::Unix(socket)).await.unwrap();
            started.send(()).unwrap();
            operations.serve(listener, ServeOptions::new(), async { drop(stopped.await) }).await;
            n1.stop().await.unwrap();
            n2.stop().await.unwrap();
        });
    });
    is_started.recv().unwrap();
    let status = dir.json(&["--url", &url, "replication", "status"]);
    let mut fields = names(&status);
    fields.sort_unstable();
    assert_eq!(fields, FIELDS);
    let running = &status["running"];
    let fields = ["blocked_by", "links", "members", "settled", "settled_held_back_by", "stable", "time"];
    assert_eq!(names(running), fields);
    let link = &running["links"][0];
    assert_eq!((&link["peer"], &link["events"], &link["failure"]), (&json!("n2"), &json!(1), &json!(null)));
    assert_eq!(running["members"][0]["name"], "n1");
    assert_eq!(running["members"][1]["name"], "n2");
    let text = dir.done(&["--url", &url, "replication", "status"]);
    for part in ["stable events", "blocked by", "link to", "missing events", "s ago"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    stop.send(()).unwrap();
    service.join().unwrap();
}
