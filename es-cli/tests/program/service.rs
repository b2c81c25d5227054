//! `es --url`: the program against a running service with its store on disk.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use es_core::prelude::*;
use es_core::projection::{ProjectionOptions, Supervisor};
use es_core::{Commit, EventType, NewEvent};
use es_http::operations::{Operations, OperationsAddress, OperationsListener};
use es_http::{ServeOptions, Tls, Tokens};
use es_rocksdb::RocksDbStore;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;

use crate::support::{Ran, TestDir, field, stream};

/// The tokens `reader` and `operator`.
const TOKENS: &str = "
sha256:3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30 read reports
sha256:06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23 operate ops
";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "placed")]
struct Placed {
    cents: u64,
}

#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = Placed)]
struct Order;

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self
    }

    fn evolve(&mut self, _: &Placed, _: &EventContext<'_>) {}
}

/// A projection that parks each order of 9 cents.
struct Sales;

impl Projection for Sales {
    type Source = Order;
    const NAME: &'static str = "sales";

    fn apply(&self, event: &Placed, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
        if event.cents == 9 { Err(ApplyError::new("nine cents")) } else { Ok(()) }
    }
}

/// How clients reach the service.
enum Door {
    Unix,
    /// TCP with the tokens [`TOKENS`].
    Tokens,
    /// TLS, which also asks for certificates of clients.
    Tls,
}

/// A running service that has the store of the directory open.
struct Service {
    /// The value of `--url`.
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    append: mpsc::Sender<Commit>,
}

impl Service {
    fn start(dir: &TestDir, door: Door) -> Self {
        let (store, socket) = (dir.path("store"), dir.path("s"));
        let (stop, stopped) = oneshot::channel();
        let (started, url) = mpsc::channel();
        let (append, appended) = mpsc::channel::<Commit>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let store = RocksDbStore::open(store).await.unwrap();
                let projections = Supervisor::new().projection(Sales, ProjectionOptions::new());
                let projections = projections.start(Arc::new(store.clone())).await.unwrap();
                let writer = store.clone();
                let writes = tokio::task::spawn_blocking(move || {
                    for commit in appended {
                        tokio::runtime::Handle::current().block_on(writer.commit(commit)).unwrap();
                    }
                });
                let operations = Operations::new(Arc::new(store.clone())).projections(projections.handles().cloned());
                let (listener, options) = listen(&door, &socket).await;
                let address = listener.address().unwrap();
                started.send(url_of(&door, &address)).unwrap();
                operations.serve(listener, options, async { stopped.await.unwrap() }).await;
                drop(projections.shutdown(std::time::Duration::from_secs(10)).await);
                writes.await.unwrap();
                store.close().await.unwrap();
            });
        });
        Self { url: url.recv().unwrap(), stop: Some(stop), thread: Some(thread), append }
    }

    /// Stops the service, so that the directory can be opened.
    fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        let Self { append, thread, .. } = self;
        drop(append);
        thread.unwrap().join().unwrap();
    }
}

async fn listen(door: &Door, socket: &Path) -> (OperationsListener, ServeOptions) {
    let (tcp, options) = ("127.0.0.1:0".parse().unwrap(), ServeOptions::new());
    match door {
        Door::Unix => {
            let address = OperationsAddress::Unix(socket.to_owned());
            (OperationsListener::local(&address).await.unwrap(), options)
        }
        Door::Tokens => {
            (OperationsListener::authenticated(&tcp, TOKENS.parse::<Tokens>().unwrap()).await.unwrap(), options)
        }
        Door::Tls => {
            let tls = Tls::load_mutual(file("server.pem"), file("server.key.pem"), file("authority.pem")).unwrap();
            let listener = OperationsListener::authenticated(&tcp, client_tokens()).await.unwrap();
            (listener, options.tls(tls))
        }
    }
}

fn url_of(door: &Door, address: &OperationsAddress) -> String {
    let address = address.to_string();
    match door {
        Door::Unix => address,
        Door::Tokens => format!("http://{address}"),
        Door::Tls => format!("https://localhost:{}", address.rsplit_once(':').unwrap().1),
    }
}

/// Returns a file of the test authority.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../es-http/tests/http/tls").join(name)
}

/// Returns tokens with the certificate of the test client, which may operate.
fn client_tokens() -> Tokens {
    let hash = "e2e61c8122ab27eb7e69a841dcc683b1ef46286a2939116c66306746f9cbeaa0";
    format!("{TOKENS}\ncertificate-sha256:{hash} operate machine").parse().unwrap()
}

fn placed(name: &str, cents: u64) -> Commit {
    let event = NewEvent::json(EventType::new("placed").unwrap(), format!("{{\"cents\": {cents}}}"));
    Commit::to(&stream(name), ExpectedRevision::Any, [event])
}

/// Runs the program against a service.
fn run(dir: &TestDir, service: &Service, args: &[&str]) -> Ran {
    dir.run(&[&["--url", &service.url], args].concat())
}

#[track_caller]
fn done(dir: &TestDir, service: &Service, args: &[&str]) -> String {
    let ran = run(dir, service, args);
    assert_eq!(ran.code, Some(0), "{args:?}: {} {}", ran.err, ran.out);
    ran.out
}

#[track_caller]
fn refused(dir: &TestDir, service: &Service, args: &[&str], code: i32, error: &str) {
    let ran = run(dir, service, args);
    assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{args:?}: {}", ran.err);
    assert!(ran.err.contains(error), "{args:?}: {}", ran.err);
}

/// A store with visible, hidden and deleted events, and more events than a page.
fn sample() -> TestDir {
    let dir = TestDir::with((1..=1100).map(|number| placed(&format!("order-{}", number % 60 + 1), number)));
    dir.commit([placed("cart-1", 1), placed("cart-2", 1), placed("cart-2", 2)]);
    dir.done(&["delete", "cart-1", "--by", "ada", "--reason", "abandoned"]);
    dir.done(&["retain", "set", "--stream", "cart-2", "--max-count", "1"]);
    dir
}

#[test]
fn a_command_prints_the_same_for_a_service_as_for_its_directory() {
    let dir = sample();
    let service = Service::start(&dir, Door::Unix);
    for args in [
        &["streams"][..],
        &["streams", "--category", "cart", "--json"],
        &["streams", "--prefix", "order-1", "--limit", "3"],
        &["read", "order-7"],
        &["read", "order-7", "--backward", "--limit", "3", "--json"],
        &["read", "order-7", "--from", "2", "--limit", "1"],
        &["read", "cart-1"],
        &["log"],
        &["log", "--json"],
        &["log", "--category", "cart", "--limit", "5", "--json"],
        &["log", "--from", "1099", "--type", "placed"],
        &["log", "--after", "1100", "--category", "cart"],
        &["retain", "list"],
        &["retain", "list", "--json"],
        &["snapshots", "list"],
        &["snapshots", "list", "--category", "order", "--json"],
    ] {
        // Read-only commands can run beside the service.
        let (directory, remote) = (dir.run(args), run(&dir, &service, args));
        assert_eq!(remote.code, Some(0), "{args:?}: {}", remote.err);
        assert_eq!(
            (&remote.out, &remote.err, remote.code),
            (&directory.out, &directory.err, directory.code),
            "{args:?}"
        );
        assert!(!remote.out.is_empty(), "{args:?}");
    }
    let (directory, remote) = (dir.json(&["info"]), done(&dir, &service, &["info", "--json"]));
    let remote: serde_json::Value = serde_json::from_str(&remote).unwrap();
    for name in ["directory", "store_id", "log_id", "created", "head", "last_recorded_at", "mode"] {
        assert_eq!((name, &remote[name]), (name, &directory[name]));
    }
    service.stop();
}

/// Regression: a command with both changed the service, and not the directory that was named.
#[test]
fn a_directory_beside_a_service_is_refused() {
    let dir = sample();
    let service = Service::start(&dir, Door::Unix);
    for args in [
        ["--store", "other", "--url", &service.url, "delete", "order-1"],
        ["--url", &service.url, "delete", "order-1", "--store", "other"],
    ] {
        let ran = dir.run(&args);
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.err);
        assert!(ran.err.contains("'--store <DIR>' cannot be used with '--url <URL>'"), "{}", ran.err);
    }
    // Every run of these tests has ES_STORE.
    done(&dir, &service, &["info"]);
    service.stop();
}

#[test]
fn a_change_in_a_service_is_in_the_log_with_its_operator() {
    let dir = sample();
    let service = Service::start(&dir, Door::Unix);
    let deleted = done(&dir, &service, &["delete", "order-1", "--expect", "17", "--by", "ada", "--reason", "asked"]);
    assert!(deleted.starts_with("deleted: stream order-1, up to revision 17"), "{deleted}");
    let again = done(&dir, &service, &["delete", "order-1"]);
    assert!(again.starts_with("already deleted: stream order-1"), "{again}");
    let rule = done(&dir, &service, &["retain", "set", "--category", "cart", "--max-age", "30d"]);
    assert!(rule.starts_with("rule set for category \"cart\": of 2 events in 1 stream, 1 is hidden"), "{rule}");
    let cleared = done(&dir, &service, &["retain", "clear", "--category", "cart"]);
    assert!(cleared.starts_with("rule cleared for category \"cart\""), "{cleared}");
    let scavenged = done(&dir, &service, &["retain", "scavenge", "--by", "ada", "--json"]);
    let scavenged: serde_json::Value = serde_json::from_str(&scavenged).unwrap();
    assert_eq!(scavenged["events"], 20, "18 of order-1, one of each cart");
    let compacted = done(&dir, &service, &["compact"]);
    assert!(compacted.contains(" before, ") && compacted.contains(" after"), "{compacted}");
    assert_eq!(done(&dir, &service, &["snapshots", "drop", "--all"]).trim(), "0 snapshots deleted");
    service.stop();
    let retention = dir.json(&["retain", "list"]);
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.path("store")).unwrap());
    let of_order = retention["deleted"].as_array().unwrap().iter().find(|row| row["stream"] == "order-1").unwrap();
    assert_eq!((&of_order["by"], &of_order["reason"]), (&json!(format!("uid:{uid} for ada")), &json!("asked")));
    assert_eq!(retention["scavenges"][0]["by"], format!("uid:{uid} for ada"));
    assert_eq!(dir.run(&["verify"]).code, Some(0));
}

#[test]
fn a_refusal_has_the_exit_code_and_the_reason_of_the_directory() {
    let dir = sample();
    let service = Service::start(&dir, Door::Unix);
    refused(&dir, &service, &["read", "order-99"], 1, "expected stream \"order-99\", found none");
    refused(&dir, &service, &["read", "order-7", "--from", "99"], 1, "expected a revision up to");
    refused(&dir, &service, &["delete", "order-99"], 1, "expected stream \"order-99\", found none");
    refused(&dir, &service, &["delete", "order-7", "--expect", "0"], 3, "order-7");
    refused(&dir, &service, &["log", "--from", "99999"], 3, "is ahead of the log");
    refused(&dir, &service, &["retain", "clear", "--category", "x"], 1, "expected a rule for category \"x\"");
    refused(&dir, &service, &["delete", "order-7", "--hard"], 2, "expected --yes with --hard");
    refused(&dir, &service, &["replication", "status"], 1, "this service does not replicate");
    for command in ["stats", "verify", "export", "repair"] {
        let expected = format!("`es {command}` needs the directory of the store: give --store DIR in place of --url");
        refused(&dir, &service, &[command], 2, &expected);
    }
    refused(&dir, &service, &["retain", "scavenge", "--dry-run"], 2, "needs the directory of the store");
    service.stop();
    let ran = dir.run(&["--url", &format!("unix:{}", dir.path("s").display()), "info"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("it did not respond") && ran.err.contains("whether the service runs"), "{}", ran.err);
    let ran = dir.run(&["--url", "ftp://a", "info"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    let ran = dir.run(&["projections", "list"]);
    assert!(ran.code == Some(2) && ran.err.contains("needs a running service"), "{}", ran.err);
}

#[test]
fn a_token_decides_what_a_client_may_do() {
    let dir = sample();
    let service = Service::start(&dir, Door::Tokens);
    refused(&dir, &service, &["info"], 1, "expected a valid token");
    refused(&dir, &service, &["info"], 1, "give --token-file or set ES_TOKEN");
    dir.write("token", "reader\n");
    let with_reader = ["--token-file", "token"];
    done(&dir, &service, &[&with_reader[..], &["info"]].concat());
    refused(&dir, &service, &[&with_reader[..], &["delete", "order-1"]].concat(), 1, "expected the role operate");
    let mut command = dir.command(&["--url", &service.url, "delete", "order-1", "--by", "ada"]);
    assert!(command.env("ES_TOKEN", "operator").output().unwrap().status.success());
    service.stop();
    let retention = dir.json(&["retain", "list"]);
    let deleted = retention["deleted"].as_array().unwrap().iter().find(|row| row["stream"] == "order-1").unwrap();
    assert_eq!(deleted["by"], "ops for ada");
}

#[test]
fn a_certificate_identifies_the_service_and_the_client() {
    let dir = sample();
    let service = Service::start(&dir, Door::Tls);
    let path = |name: &str| file(name).display().to_string();
    let (ca, cert, key) = (path("authority.pem"), path("client.pem"), path("client.key.pem"));
    let client = ["--ca", &ca, "--cert", &cert, "--key", &key];
    done(&dir, &service, &[&client[..], &["delete", "order-1"]].concat());
    refused(&dir, &service, &["--cert", &cert, "--key", &key, "info"], 1, "did not respond");
    refused(&dir, &service, &["--ca", &ca, "info"], 1, "the service at https://localhost");
    refused(&dir, &service, &["--ca", &ca, "--cert", &cert, "info"], 2, "expected --cert and --key together");
    service.stop();
    let retention = dir.json(&["retain", "list"]);
    let deleted = retention["deleted"].as_array().unwrap().iter().find(|row| row["stream"] == "order-1").unwrap();
    assert_eq!(deleted["by"], "machine");
}

#[test]
fn a_follower_of_a_service_prints_new_events() {
    let dir = TestDir::with([placed("order-1", 1)]);
    let service = Service::start(&dir, Door::Unix);
    let mut command = dir.command(&["--url", &service.url, "log", "--follow", "--json", "--limit", "3"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<serde_json::Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["position"], 1);
    for number in [2, 3] {
        service.append.send(placed("order-1", number)).unwrap();
        assert_eq!(next()["position"], number);
    }
    assert!(follower.wait().unwrap().success());
    service.stop();
}

#[test]
fn projections_are_administered_in_a_service() {
    let dir = TestDir::with([placed("order-1", 1), placed("order-2", 9)]);
    let service = Service::start(&dir, Door::Unix);
    let projections = |args: &[&str]| {
        let out = done(&dir, &service, &[&["projections"], args, &["--json"]].concat());
        serde_json::from_str::<Vec<serde_json::Value>>(&out).unwrap()
    };
    let parked = loop {
        let parked = projections(&["parked", "sales"]);
        if !parked.is_empty() {
            break parked;
        }
    };
    assert_eq!(field(&parked, "position"), [json!(2)]);
    let key = parked[0]["key"].as_str().unwrap();
    projections(&["skip", "sales", key, "2", "--reason", "nine cents"]);
    let paused = projections(&["pause", "sales", "--reason", "maintenance"]);
    assert_eq!(field(&paused, "name"), [json!("sales")]);
    refused(&dir, &service, &["projections", "pause", "orders"], 1, "projection \"orders\" does not exist");
    refused(&dir, &service, &["projections", "retry", "sales", "order-1"], 3, "no parked event");
    let text = done(&dir, &service, &["projections", "list"]);
    assert!(text.contains("sales"), "{text}");
    service.stop();
    let audit = dir.lines(&["read", "es.projections-sales"]);
    let pause = audit.iter().find(|event| event["type"] == "projection-paused").unwrap();
    assert_eq!(pause["data"]["reason"], "maintenance");
    assert!(pause["data"]["by"].as_str().unwrap().starts_with("uid:"), "{pause}");
}
