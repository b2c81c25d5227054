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
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::support::{TestDir, field, files, runtime, stream};

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

/// An account that the node in its id creates and decides.
#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "account", id = String, event = Counted, consistency = "causal", owner = creator_of)]
struct Account;

#[allow(clippy::ptr_arg, reason = "the function gets the type of the id")]
fn creator_of(id: &String) -> String {
    id.split('/').next().unwrap_or_default().to_owned()
}

impl Evolve for Account {
    fn initial(_: &String) -> Self {
        Self
    }

    fn evolve(&mut self, _: &Counted, _: &EventContext<'_>) {}
}

impl Decide<Count> for Account {
    type Rejection = std::convert::Infallible;

    fn decide(&self, Count(by): Count, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Counted { by }.into())
    }
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
    let builder = |name: &str, store| {
        Node::builder(name).directory(dir.path(store)).aggregate::<Counter>().aggregate::<Account>()
    };
    let (n1, n2) = (builder("n1", "store"), builder("n2", "other"));
    let peers = (LocalPeer::new("n1", n1.source()), LocalPeer::new("n2", n2.source()));
    let (n1, n2) = tokio::join!(n1.peer(Arc::new(peers.1)).open(), n2.peer(Arc::new(peers.0)).open());
    let (n1, n2) = (n1.unwrap(), n2.unwrap());
    n1.repository::<Counter>().unwrap().execute(&1, Count(1)).await.unwrap();
    n2.repository::<Counter>().unwrap().execute(&1, Count(2)).await.unwrap();
    for (node, account) in [(&n1, "n1/1"), (&n1, "n1/2"), (&n2, "n2/1")] {
        node.repository::<Account>().unwrap().execute(&account.to_owned(), Count(1)).await.unwrap();
    }
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
    assert!(origins.iter().all(|origin| origin["time"].is_string()), "{status}");
    let mut sequences: Vec<_> = origins.iter().map(|origin| (&origin["is_own"], &origin["sequence"])).collect();
    sequences.sort_by_key(|(is_own, _)| is_own.as_bool());
    assert_eq!(sequences, [(&json!(false), &json!(2)), (&json!(true), &json!(3))]);
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

/// Two nodes whose operations are served at Unix sockets.
struct Served {
    dir: TestDir,
    url: String,
    other_url: String,
    stop: oneshot::Sender<()>,
    service: JoinHandle<()>,
}

impl Served {
    fn start() -> Self {
        let (dir, nodes) = (TestDir::new(), TestDir::new());
        let sockets = [dir.path("s"), dir.path("other")];
        let [url, other_url] = sockets.clone().map(|socket| format!("unix:{}", socket.display()));
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, is_started) = mpsc::channel();
        let service = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let (n1, n2) = open(&nodes).await;
                let (stop, stopping) = watch::channel(false);
                let mut serving = JoinSet::new();
                for (node, socket) in [&n1, &n2].into_iter().zip(sockets) {
                    let listener = OperationsListener::local(&OperationsAddress::Unix(socket)).await.unwrap();
                    let (operations, mut stopping) = (node.operations(), stopping.clone());
                    let stopping = async move { drop(stopping.wait_for(|stop| *stop).await) };
                    serving.spawn(operations.serve(listener, ServeOptions::new(), stopping));
                }
                started.send(()).unwrap();
                drop(stopped.await);
                stop.send_replace(true);
                serving.join_all().await;
                n1.stop().await.unwrap();
                n2.stop().await.unwrap();
            });
        });
        is_started.recv().unwrap();
        Self { dir, url, other_url, stop, service }
    }

    /// Runs a command that has an effect at the operations of a node.
    fn done_at(&self, url: &str, args: &[&str]) -> String {
        self.dir.done(&[&["--url", url], args].concat())
    }

    /// Runs a command that the operations of a node refuse. Returns the error.
    fn refused_at(&self, url: &str, args: &[&str], code: i32) -> String {
        let ran = self.dir.run(&[&["--url", url], args].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{args:?}: {}", ran.err);
        ran.err
    }

    /// Reads a stream on a node until it has the expected types of events.
    fn wait_for_types(&self, url: &str, stream: &str, types: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let lines = self.dir.lines(&["--url", url, "read", stream]);
            let found = field(&lines, "type");
            if found == types {
                return;
            }
            assert!(Instant::now() < deadline, "{stream} has {found:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
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
    assert_eq!((&link["peer"], &link["events"], &link["failure"]), (&json!("n2"), &json!(2), &json!(null)));
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

#[test]
fn an_operator_deletes_a_stream_on_all_nodes() {
    let served = Served::start();
    served.wait_for_types(&served.url, "counter-1", &["counted", "counted"]);
    let delete = ["delete", "counter-1", "--expect", "1", "--by", "ada", "--reason", "a duplicate"];
    let conflict = served.refused_at(&served.url, &["delete", "counter-1", "--expect", "0"], 3);
    assert!(conflict.contains("counter-1"), "{conflict}");
    let text = served.done_at(&served.url, &delete);
    assert_eq!(
        text.trim(),
        "deleted: stream counter-1, up to revision 1 of this node; the other nodes delete the same events when they \
         receive the deletion, and keep events that they appended without knowing of it"
    );
    served.wait_for_types(&served.other_url, "counter-1", &["counted", "counted", "es.deleted"]);
    let repeated = served.dir.json(&[&["--url", &served.url], &delete[..]].concat());
    assert_eq!(
        repeated,
        json!({
            "stream": "counter-1", "kind": "soft", "through": 1, "position": repeated["position"], "repeated": true,
            "is_replicated": true
        })
    );
    assert!(served.done_at(&served.other_url, &["delete", "counter-1"]).starts_with("already deleted: "));
    let lines = served.dir.lines(&["--url", &served.url, "read", "counter-1"]);
    let by = lines[2]["data"]["by"].as_str().unwrap();
    assert!(by.ends_with(" for ada") && lines[2]["data"]["reason"] == "a duplicate", "{lines:?}");

    let unconfirmed = served.refused_at(&served.url, &["delete", "counter-1", "--hard"], 2);
    assert!(unconfirmed.contains("expected --yes with --hard"), "{unconfirmed}");
    let text = served.done_at(&served.url, &["delete", "counter-1", "--hard", "--yes"]);
    assert_eq!(
        text.trim(),
        "erased: stream counter-1, up to revision 2 of this node; the other nodes erase it with all of its events when \
         they receive the erasure, and no node accepts new ones"
    );
    served.wait_for_types(&served.other_url, "counter-1", &["es.erased"]);
    for args in [&["delete", "counter-1", "--hard", "--yes"][..], &["delete", "counter-1"]] {
        assert!(served.done_at(&served.other_url, args).starts_with("already erased: "), "{args:?}");
    }
    served.stop();
}

/// The mistakes of an operator.
#[test]
fn a_deletion_on_all_nodes_is_refused_with_the_reason() {
    let served = Served::start();
    let absent = served.refused_at(&served.url, &["delete", "counter-9"], 1);
    assert!(absent.contains("expected stream \"counter-9\", found none"), "{absent}");
    let elsewhere = served.refused_at(&served.url, &["delete", "account-n2/1"], 1);
    let expected = "stream \"account-n2/1\" is decided by the node \"n2\", not by this node; send the command there";
    assert!(elsewhere.contains(expected), "{elsewhere}");
    let hard = served.refused_at(&served.url, &["delete", "account-n2/1", "--hard", "--yes"], 1);
    assert!(hard.contains(expected), "{hard}");
    served.done_at(&served.other_url, &["delete", "account-n2/1"]);
    let membership = served.refused_at(&served.url, &["delete", "es.membership"], 1);
    assert!(membership.contains("es.membership"), "{membership}");
    let rule = ["retain", "set", "--category", "counter", "--max-count", "1"];
    let rule = served.refused_at(&served.url, &rule, 3);
    let expected = "delete a stream on all nodes: with `es --url URL delete STREAM`";
    assert!(rule.contains(expected) && rule.contains("category \"counter\""), "{rule}");

    // A node that departs decides on nothing.
    served.done_at(&served.url, &["replication", "leave", "n1"]);
    let departed = served.refused_at(&served.url, &["delete", "counter-1"], 3);
    assert!(departed.contains("the node \"n1\" leaves the group or has left it"), "{departed}");
    served.stop();
}

/// A stream of an aggregate that is not replicated is deleted on its node, and the role for changes is demanded.
#[test]
fn a_node_deletes_its_local_streams_for_clients_that_may_operate() {
    let dir = TestDir::with([Commit::to(
        &stream("note-1"),
        ExpectedRevision::Any,
        [NewEvent::json(EventType::new("t").unwrap(), "1")],
    )]);
    let tokens = "
        sha256:3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30 read reports
        sha256:06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23 operate ops
    ";
    let dir = Arc::new(dir);
    for (name, token) in [("reader", "reader"), ("operator", "operator")] {
        dir.write(name, token);
    }
    runtime().block_on(async {
        let (n1, n2) = open(&dir).await;
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = OperationsListener::authenticated(&address, tokens.parse().unwrap()).await.unwrap();
        let operator_dir = Arc::clone(&dir);
        operate(&n1, listener, move |address| {
            let url = format!("http://{address}");
            let run = |token, stream| operator_dir.run(&["--url", &url, "--token-file", token, "delete", stream]);
            let refused = run("reader", "counter-1");
            assert!(refused.code == Some(1) && refused.err.contains("operate"), "{}", refused.err);
            let done = run("operator", "note-1");
            assert!(done.out.ends_with("new events continue at the next revision\n"), "{} {}", done.out, done.err);
            let done = run("operator", "counter-1");
            assert!(done.out.contains("the other nodes delete the same events"), "{} {}", done.out, done.err);
        })
        .await;
        n1.stop().await.unwrap();
        n2.stop().await.unwrap();
    });
}

/// Serves the operations of a node while commands run, which get the address.
async fn operate(node: &Node, listener: OperationsListener, commands: impl FnOnce(&str) + Send + 'static) {
    let address = listener.address().unwrap().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let operations = node.operations();
    let serving = tokio::spawn(operations.serve(listener, ServeOptions::new(), async { drop(stopped.await) }));
    tokio::task::spawn_blocking(move || commands(&address)).await.unwrap();
    stop.send(()).unwrap();
    serving.await.unwrap();
}

/// n1 starts while n2 is down, so it takes a new origin. It decides on its former streams once n2 has confirmed.
#[test]
fn a_home_that_is_not_confirmed_says_when_it_decides_again() {
    let dir = Arc::new(stopped_nodes());
    runtime().block_on(async {
        let builder = |name: &str, store| {
            let builder = Node::builder(name).directory(dir.path(store)).aggregate::<Counter>().aggregate::<Account>();
            builder.with_confirm_timeout(Duration::from_millis(200))
        };
        let (n1, n2) = (builder("n1", "store"), builder("n2", "other"));
        let peers = (LocalPeer::new("n1", n1.source()), LocalPeer::new("n2", n2.source()));
        let n1 = n1.peer(Arc::new(peers.1)).open().await.unwrap();
        let listener = OperationsListener::local(&OperationsAddress::Unix(dir.path("s"))).await.unwrap();
        let operator_dir = Arc::clone(&dir);
        operate(&n1, listener, move |url| {
            let refused = operator_dir.run(&["--url", url, "delete", "account-n1/1"]);
            let expected = "it decides again once every member has confirmed that it has all of them";
            assert!(refused.code == Some(1) && refused.err.contains(expected), "{}", refused.err);
            let status = operator_dir.done(&["--url", url, "replication", "status"]);
            let is_row = |line: &str| line.contains("not confirmed") && line.contains("2 streams of former origins");
            assert!(status.lines().any(is_row) && status.contains("0 of 3 streams"), "{status}");
        })
        .await;

        let n2 = n2.peer(Arc::new(peers.0)).open().await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !n1.replica().unconfirmed_origins().await.unwrap().is_empty() {
            assert!(Instant::now() < deadline, "n2 does not confirm");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let listener = OperationsListener::local(&OperationsAddress::Unix(dir.path("s"))).await.unwrap();
        let operator_dir = Arc::clone(&dir);
        let deletion = move |url: &str| drop(operator_dir.done(&["--url", url, "delete", "account-n1/1"]));
        operate(&n1, listener, deletion).await;
        n1.stop().await.unwrap();
        n2.stop().await.unwrap();
    });
}

#[test]
fn the_status_counts_the_streams_of_each_home() {
    let served = Served::start();
    let status = served.json(&["status"]);
    let homes = &status["homes"];
    assert_eq!((&homes["categories"], &homes["is_complete"]), (&json!(["account"]), &json!(true)));
    assert_eq!((&homes["origins"], &homes["unconfirmed"]), (&json!([status["origin"]]), &json!([])));
    assert_eq!(homes["streams"].as_object().unwrap().len(), 2, "{homes}");
    let text = served.text(&["status"]);
    assert!(text.lines().any(|line| line.contains("home of") && line.contains("2 of 3 streams")), "{text}");
    for (home, streams) in [("this node", "2"), ("n2", "1")] {
        let is_row = |line: &str| line.contains(home) && line.trim_end_matches(['│', ' ']).ends_with(streams);
        assert!(text.lines().any(is_row), "{home}: {text}");
    }
    assert!(!text.contains("not confirmed"), "{text}");
    served.stop();
}
