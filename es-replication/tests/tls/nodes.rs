//! Nodes of the tests, and the counts of their metrics.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_replication::{Replica, ReplicaOptions, Server, ServerOptions, TestCa, TlsConfig, TlsPeer};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

/// The time after which a test fails that waits for something.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
#[event(name = "noted")]
pub(crate) struct Noted(String);

/// A list of texts.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "notes", id = u64, event = Noted, consistency = "causal", conflict = "canonical")]
struct Notes(Vec<String>);

impl Evolve for Notes {
    fn initial(_: &u64) -> Self {
        Self(Vec::new())
    }
    fn evolve(&mut self, event: &Noted, _: &EventContext<'_>) {
        self.0.push(event.0.clone());
    }
}

#[derive(Clone)]
struct Note(String);

impl Decide<Note> for Notes {
    type Rejection = std::convert::Infallible;
    fn decide(&self, note: Note, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Noted(note.0).into())
    }
}

/// A node with its store.
pub(crate) struct Node {
    pub(crate) replica: Replica,
    pub(crate) tls: TlsConfig,
    notes: Repository<Notes>,
}

impl Node {
    pub(crate) async fn open(name: &str, ca: &TestCa) -> Self {
        let options = ReplicaOptions::new(name).aggregate::<Notes>().and_then(ReplicaOptions::aggregate::<Label>);
        let options = options.expect("categories");
        let store = MemoryStore::new().with_hook(options.hook()).await.expect("a store");
        let store: Arc<dyn EventStore> = Arc::new(store);
        let replica = Replica::new(Arc::clone(&store)).expect("a replica");
        Self { replica, tls: tls(ca, name), notes: Repository::new(store) }
    }

    pub(crate) async fn note(&self, id: u64, text: &str) {
        self.notes.execute(&id, Note(text.to_owned())).await.expect("the command is accepted");
    }

    pub(crate) async fn texts(&self, id: u64) -> Vec<String> {
        self.notes.load(&id).await.expect("the aggregate loads").state.0
    }

    pub(crate) async fn serve<const N: usize>(&self, peers: [&str; N]) -> Server {
        self.serve_with(peers, ServerOptions::new()).await
    }

    pub(crate) async fn serve_with<const N: usize>(&self, peers: [&str; N], options: ServerOptions) -> Server {
        let server = Server::bind("127.0.0.1:0", self.replica.source(), self.tls.clone(), peers, options);
        server.await.expect("binds")
    }

    /// Returns a peer of this node.
    pub(crate) fn peer(&self, name: &str, server: &Server) -> TlsPeer {
        TlsPeer::new(name, server.local_addr().to_string(), self.tls.clone()).expect("a DNS name")
    }
}

/// Issues a certificate.
pub(crate) fn tls(ca: &TestCa, node: &str) -> TlsConfig {
    let files = ca.issue(node).expect("a certificate");
    TlsConfig::load(files.certificates, files.key, files.authorities).expect("the certificates load")
}

/// Returns a new directory, which is removed when the process of the tests is long gone.
pub(crate) fn directory() -> PathBuf {
    static DIRECTORIES: Mutex<Vec<tempfile::TempDir>> = Mutex::new(Vec::new());
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    DIRECTORIES.lock().expect("no test panics here").push(directory);
    path
}

/// Returns the output of a future that must complete in time.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.expect("completes in time")
}

/// The metrics of one test. Its runtime has one thread, so the server records them there.
pub(crate) struct Counts {
    recorder: DebuggingRecorder,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self { recorder: DebuggingRecorder::new(), counts: Mutex::default() }
    }

    pub(crate) fn record(&self) -> metrics::LocalRecorderGuard<'_> {
        metrics::set_default_local_recorder(&self.recorder)
    }

    /// Returns how many connections were refused for a reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        let mut counts = self.counts.lock().expect("no test panics here");
        // A snapshot resets the counters.
        for (key, _, _, value) in self.recorder.snapshotter().snapshot().into_vec() {
            let DebugValue::Counter(count) = value else { continue };
            if key.key().name() == "es_replication_refused_total" {
                let reason = key.key().labels().map(|label| label.value().to_owned()).collect();
                *counts.entry(reason).or_default() += count;
            }
        }
        counts.get(reason).copied().unwrap_or_default()
    }

    /// Waits until a number of connections were refused for a reason.
    pub(crate) async fn wait_for(&self, reason: &str, count: u64) {
        within(async {
            while self.refused(reason) < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// A text that one node decides.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "label", id = u64, event = Noted, consistency = "causal", owner)]
pub(crate) struct Label(pub(crate) String);

impl Evolve for Label {
    fn initial(_: &u64) -> Self {
        Self(String::new())
    }
    fn evolve(&mut self, event: &Noted, _: &EventContext<'_>) {
        self.0.clone_from(&event.0);
    }
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Rename(pub(crate) String);

impl Decide<Rename> for Label {
    type Rejection = String;
    fn decide(&self, Rename(text): Rename, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, String> {
        if text.is_empty() { Err(format!("label {} needs a text", at.id())) } else { Ok(Noted(text).into()) }
    }
}
