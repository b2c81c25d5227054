//! `es replication status`, on a directory and on a running service, and the commands that change the members.

use std::fs;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use es_core::model::ErrorChain;
use es_core::prelude::*;
use es_core::{Commit, EventType, ExpectedRevision, NewEvent};
use es_http::ServeOptions;
use es_http::operations::{OperationsAddress, OperationsListener};
use es_node::{LocalPeer, Node};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::support::{TestDir, files, runtime, stream};

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
const FIELDS: [&str; 9] =
    ["categories", "homes", "is_restored", "members", "node", "origin", "origins", "peers", "running"];

#[test]
fn a_directory_shows_the_node_and_what_it_has() {
    let dir = stopped_nodes();
    let status = dir.json(&["replication", "status"]);
    let mut fields = names(&status);
    fields.sort_unstable();
    assert_eq!(fields, FIELDS);
    assert_eq!((&status["node"], &status["peers"], &status["running"]), (&json!("n1"), &json!(["n2"]), &json!(null)));
    assert_eq!(status["members"], json!({ "n1": "joined", "n2": "joined" }));
    let origins = status["origins"].as_array().unwrap();
    let own: Vec<_> = origins.iter().filter(|origin| origin["is_own"] == true).collect();
    assert_eq!((origins.len(), own.len(), &own[0]["origin"]), (2, 1, &status["origin"]));
    assert!(origins.iter().all(|origin| origin["sequence"] == 1 && origin["time"].is_string()), "{status}");
    let text = dir.done(&["replication", "status"]);
    for part in ["n1", "pulled from", "n2", "counter", "this node", "joined"] {
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

fn stopped_nodes() -> TestDir {
    let dir = TestDir::new();
    runtime().block_on(async {
        let (n1, n2) = open(&dir).await;
        n1.stop().await.unwrap();
        n2.stop().await.unwrap();
    });
    dir
}

/// Regression: the commands opened the store of a node without its hook. An event without a stamp prevented the next
/// start of the node for good, and a deletion hid events on this node only.
#[test]
fn the_streams_of_a_node_are_changed_by_the_node_only() {
    let dir = stopped_nodes();
    let before = dir.done(&["export", "-"]);
    let of = |scope: &str| {
        format!(
            "error: the store in store is that of node \"n1\", which replicates {scope}: only the node can change \
             that; start the node, and use its service"
        )
    };
    let (stream, category) = (of("stream \"counter-1\""), of("category \"counter\""));
    dir.refused(&["append", "counter-1", "--type", "t", "--data", "1"], 1, &stream);
    dir.refused(&["append", "counter-9", "--type", "t", "--data", "1"], 1, &of("stream \"counter-9\""));
    dir.refused(&["delete", "counter-1"], 1, &stream);
    dir.refused(&["delete", "counter-1", "--hard", "--yes"], 1, &stream);
    dir.refused(&["retain", "set", "--stream", "counter-1", "--max-count", "1"], 1, &stream);
    dir.refused(&["retain", "set", "--category", "counter", "--max-count", "1"], 1, &category);
    dir.write("export.jsonl", &before);
    let refused = dir.run(&["import", "export.jsonl"]);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.err.contains("export.jsonl:1: expected an event that is not replicated"), "{}", refused.err);
    assert!(refused.err.contains("the store is that of node \"n1\""), "{}", refused.err);
    assert_eq!(dir.done(&["export", "-"]), before);

    // A rule that another store has for the category, and an event with a stamp of another category.
    let other = TestDir::with([]);
    other.done(&["append", "counter-1", "--type", "t", "--data", "1"]);
    other.done(&["delete", "counter-1"]);
    let lines = other.done(&["export", "-"]);
    dir.write("rule.jsonl", lines.lines().last().unwrap());
    let stamped = before.lines().find(|line| line.contains("\"stamp\"")).unwrap();
    dir.write("stamped.jsonl", stamped.replace("counter-1", "note-1"));
    for (file, found) in [("rule.jsonl", "found a rule or a deletion of stream"), ("stamped.jsonl", "with a stamp")] {
        let refused = dir.run(&["import", file]);
        assert!(refused.code == Some(1) && refused.err.contains(found), "{file}: {}", refused.err);
    }

    dir.done(&["append", "note-1", "--type", "t", "--data", "1"]);
    dir.write("note.jsonl", r#"{"stream":"note-1","type":"t","data":1}"#);
    dir.done(&["import", "note.jsonl"]);
    dir.done(&["retain", "set", "--category", "note", "--max-count", "1"]);
    dir.done(&["delete", "note-1"]);
    runtime().block_on(async {
        let (n1, n2) = open(&dir).await;
        n1.stop().await.unwrap();
        n2.stop().await.unwrap();
    });
}

/// Regression: `retag` copied the events of a node without the rows of the replica. No node opens such a store.
#[test]
fn the_store_of_a_node_is_not_copied_with_tags() {
    let dir = stopped_nodes();
    let refused = "error: expected a store that is no replica, found that of node \"n1\" in store: a copy has the \
                   replicated events without the rows of the replica, so that no node opens it";
    dir.refused(&["retag", "--to", "new", "--tag", "counted", "by", "/by"], 1, refused);
    assert!(!dir.path("new").exists());
}

/// Regression: the rows of a repaired replica have the lost events, so that the node silently never pulled them again.
#[test]
fn a_node_refuses_a_store_that_a_repair_cut() {
    let dir = stopped_nodes();
    dir.done(&["compact"]);
    runtime().block_on(async {
        let (n1, n2) = open(&dir).await;
        n1.stop().await.unwrap();
        n2.stop().await.unwrap();
    });
    // The copies of these events are in the largest table.
    let text = format!("\"{}\"", "x".repeat(10_000));
    let event = |_| NewEvent::json(EventType::new("t").unwrap(), text.clone());
    dir.commit([Commit::to(&stream("note-1"), ExpectedRevision::Any, (0..100).map(event))]);
    dir.done(&["compact"]);
    let tables = files(&dir.path("store/index")).into_iter().filter(|file| file.extension() == Some("sst".as_ref()));
    fs::remove_file(tables.max_by_key(|file| file.metadata().unwrap().len()).unwrap()).unwrap();
    fs::remove_file(dir.path("store/log/00000002.seg")).unwrap();

    let shown: Value = serde_json::from_str(&dir.run(&["repair", "--json"]).out).unwrap();
    let loss = shown["loss"]["events"].to_string();
    let text = dir.done(&["repair", "--to", "new", "--accept-loss", &loss]);
    let advice = "this is the store of node \"n1\", which would not pull the lost events again: start the node on an \
                  empty store";
    assert!(text.contains(advice), "{text}");
    let opened = runtime().block_on(Node::builder("n1").directory(dir.path("new")).aggregate::<Counter>().open());
    let refused = ErrorChain(&opened.unwrap_err()).to_string();
    assert!(refused.contains("a repair lost replicated events; start the node on an empty store"), "{refused}");
}

/// A node whose operations are served at a Unix socket, and another one.
struct Served {
    dir: TestDir,
    url: String,
    stop: oneshot::Sender<()>,
    service: JoinHandle<()>,
}

impl Served {
    fn start() -> Self {
        let (dir, nodes) = (TestDir::new(), TestDir::new());
        let (url, socket) = (format!("unix:{}", dir.path("s").display()), dir.path("s"));
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, is_started) = mpsc::channel();
        let service = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let (n1, n2) = open(&nodes).await;
                let listener = OperationsListener::local(&OperationsAddress::Unix(socket)).await.unwrap();
                started.send(()).unwrap();
                n1.operations().serve(listener, ServeOptions::new(), async { drop(stopped.await) }).await;
                n1.stop().await.unwrap();
                n2.stop().await.unwrap();
            });
        });
        is_started.recv().unwrap();
        Self { dir, url, stop, service }
    }

    fn json(&self, args: &[&str]) -> Value {
        self.dir.json(&[&["--url", &self.url, "replication"], args].concat())
    }

    fn text(&self, args: &[&str]) -> String {
        self.dir.done(&[&["--url", &self.url, "replication"], args].concat())
    }

    fn refused(&self, args: &[&str], code: i32, error: &str) {
        let ran = self.dir.run(&[&["--url", &self.url, "replication"], args].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(error), "{args:?}: {}", ran.err);
    }

    /// Shows the status until the state of a member is the expected one.
    fn wait_for(&self, member: &str, state: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let status = self.json(&["status"]);
            if status["members"][member] == state {
                return status;
            }
            assert!(Instant::now() < deadline, "{member} is not {state}: {status}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.service.join().unwrap();
    }
}

#[test]
fn a_service_shows_its_links_and_the_other_members() {
    let served = Served::start();
    let status = served.json(&["status"]);
    let mut fields = names(&status);
    fields.sort_unstable();
    assert_eq!(fields, FIELDS);
    let running = &status["running"];
    let mut fields = names(running);
    fields.sort_unstable();
    let expected =
        ["blocked_by", "links", "members", "settled", "settled_held_back_by", "stable", "time", "unacknowledged"];
    assert_eq!(fields, expected);
    let link = &running["links"][0];
    assert_eq!((&link["peer"], &link["events"], &link["failure"]), (&json!("n2"), &json!(1), &json!(null)));
    assert_eq!(running["members"][0]["name"], "n1");
    assert_eq!(running["members"][1]["name"], "n2");
    let text = served.text(&["status"]);
    for part in ["stable events", "blocked by", "link to", "missing events", "s ago"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    served.stop();
}

#[test]
fn an_operator_joins_and_retires_members_and_lets_them_leave() {
    let served = Served::start();
    assert_eq!(served.json(&["join", "n3"]), json!({ "n1": "joined", "n2": "joined", "n3": "joined" }));
    // The node n3 was never started, so it blocks stability.
    let text = served.text(&["status"]);
    assert!(text.contains("n3") && text.contains("unknown"), "{text}");
    assert_eq!(served.json(&["status"])["running"]["blocked_by"], "n3");

    let text = served.text(&["retire", "n3"]);
    assert!(text.contains("n3") && text.contains("retiring"), "{text}");
    let status = served.wait_for("n3", "retired");
    assert_eq!(status["running"]["unacknowledged"], json!({}));
    let text = served.text(&["status"]);
    assert!(text.lines().any(|line| line.contains("n3") && line.contains("retired")), "{text}");

    assert_eq!(served.json(&["leave", "n2"])["n2"], "leaving");
    served.wait_for("n2", "left");
    assert_eq!(served.json(&["join", "n2"])["n2"], "joined");

    served.refused(&["leave", "n9"], 1, "the group has no member \"n9\"; use a name that the status shows");
    let own = "the node \"n1\" cannot retire itself; let it leave, or retire it on another node";
    served.refused(&["retire", "n1"], 3, own);
    let message = "error: `es replication leave` needs the service of a member: give --url URL in place of --store";
    let dir = TestDir::with([]);
    dir.refused(&["replication", "leave", "n2"], 2, message);
    served.stop();
}
