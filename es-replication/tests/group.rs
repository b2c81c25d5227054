//! Groups of replicas in one process: nodes that open at the same time, recovery, and the status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use es_core::model::{Dot, LogId, OriginId};
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_replication::{
    Claim, Confirmation, Link, LinkState, LocalPeer, Monitor, Page, Peer, PeerError, Pull, RecoverError, Replica,
    ReplicaOptions, ReplicationStatus, RunningStatus, Source,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

/// The time after which a test fails that waits for something.
const TIMEOUT: Duration = Duration::from_secs(20);
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
#[event(name = "counted")]
struct Counted(u64);

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "counter", id = u64, event = Counted, consistency = "causal", conflict = "canonical")]
struct Counter(u64);

impl Evolve for Counter {
    fn initial(_: &u64) -> Self {
        Self(0)
    }
    fn evolve(&mut self, event: &Counted, _: &EventContext<'_>) {
        self.0 += event.0;
    }
}

#[derive(Clone)]
struct Count(u64);

impl Decide<Count> for Counter {
    type Rejection = std::convert::Infallible;
    fn decide(&self, count: Count, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Counted(count.0).into())
    }
}

/// An open node.
struct Node {
    name: &'static str,
    store: MemoryStore,
    replica: Replica,
    counters: Repository<Counter>,
}

fn options(name: &str) -> ReplicaOptions {
    ReplicaOptions::new(name).aggregate::<Counter>().expect("a category")
}

/// Opens a node. Its source answers pulls from then on.
async fn open(name: &'static str, store: MemoryStore, options: ReplicaOptions) -> Node {
    let store = store.with_hook(options.hook()).await.expect("the hook starts");
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let replica = Replica::new(Arc::clone(&shared)).expect("a replica").with_source(options.source());
    Node { name, store, replica, counters: Repository::new(shared) }
}

/// Opens a node on an empty store.
async fn node(name: &'static str) -> Node {
    open(name, MemoryStore::new(), options(name)).await
}

/// Opens all nodes at the same time, each with the other ones as members.
async fn open_together(stores: [MemoryStore; 3]) -> [Node; 3] {
    let mut all = NAMES.map(options);
    let sources: Vec<Source> = all.iter().map(ReplicaOptions::source).collect();
    for (index, options) in all.iter_mut().enumerate() {
        for (to, source) in sources.iter().enumerate().filter(|(to, _)| *to != index) {
            *options = options.clone().member(Arc::new(LocalPeer::new(NAMES[to], source.clone())));
        }
    }
    let [a, b, c] = all;
    let [on_a, on_b, on_c] = stores;
    let nodes = async { tokio::join!(open("a", on_a, a), open("b", on_b, b), open("c", on_c, c)) };
    tokio::time::timeout(TIMEOUT, nodes).await.expect("no node waits for another one forever").into()
}

impl Node {
    fn as_peer(&self) -> Arc<dyn Peer> {
        Arc::new(LocalPeer::new(self.name, self.replica.source()))
    }

    fn link(&self, to: &Self) -> Link {
        Link::start(self.replica.clone(), to.as_peer())
    }

    async fn count(&self, by: u64) {
        self.counters.execute(&1, Count(by)).await.expect("executed");
    }

    async fn sum(&self) -> u64 {
        self.counters.load(&1).await.expect("loaded").state.0
    }

    async fn pull(&self, from: &Self) {
        self.replica.pull(&*from.as_peer(), Duration::ZERO).await.expect("pulled");
    }

    async fn origin(&self) -> OriginId {
        self.replica.origin().await.expect("an origin")
    }
}

/// A peer that is down.
#[derive(Debug)]
struct Down;

#[async_trait::async_trait]
impl Peer for Down {
    fn name(&self) -> &str {
        "down"
    }
    async fn pull(&self, _: Pull) -> Result<Page, PeerError> {
        Err(PeerError::Unreachable("no route".into()))
    }
    async fn confirm(&self, _: Claim) -> Result<Confirmation, PeerError> {
        Err(PeerError::Unreachable("no route".into()))
    }
}

/// A peer that answers one pull.
#[derive(Debug)]
struct OnePage(Arc<dyn Peer>, AtomicU32);

#[async_trait::async_trait]
impl Peer for OnePage {
    fn name(&self) -> &str {
        self.0.name()
    }
    async fn pull(&self, pull: Pull) -> Result<Page, PeerError> {
        match self.1.fetch_add(1, Ordering::Relaxed) {
            0 => self.0.pull(pull).await,
            _ => std::future::pending().await,
        }
    }
    async fn confirm(&self, claim: Claim) -> Result<Confirmation, PeerError> {
        self.0.confirm(claim).await
    }
}

/// Waits until the status of a monitor has a property.
async fn wait_for(monitor: &Monitor, property: impl Fn(&RunningStatus) -> bool) -> RunningStatus {
    let wait = async {
        loop {
            let status = monitor.status().await.expect("a status").running.expect("the node runs");
            if property(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, wait).await.expect("the status changes in time")
}

#[tokio::test]
async fn nodes_that_are_restarted_together_keep_their_origins() {
    let [a, b, c] = [node("a").await, node("b").await, node("c").await];
    for (node, by) in [(&a, 1), (&b, 10), (&c, 100)] {
        node.count(by).await;
    }
    for (to, from) in [(&a, &b), (&b, &c), (&c, &a), (&a, &c), (&b, &a), (&c, &b)] {
        to.pull(from).await;
    }
    let before = [a.origin().await, b.origin().await, c.origin().await];
    let stores = [&a, &b, &c].map(|node| node.store.copy(node.store.log_id()));
    let [a, b, c] = open_together(stores).await;
    assert_eq!([a.origin().await, b.origin().await, c.origin().await], before);
    a.count(1_000).await;
    b.pull(&a).await;
    assert_eq!(b.sum().await, 1_111);
}

/// Two members know that one node has lost an event. They answer before their own claims are answered.
#[tokio::test]
async fn a_node_that_lost_an_event_takes_a_new_origin_also_among_nodes_that_start() {
    let [a, b, c] = [node("a").await, node("b").await, node("c").await];
    let copy = a.store.copy(a.store.log_id());
    a.count(1).await;
    b.pull(&a).await;
    c.pull(&b).await;
    let before = [a.origin().await, b.origin().await, c.origin().await];
    let stores = [copy, b.store.copy(b.store.log_id()), c.store.copy(c.store.log_id())];
    let [a, b, c] = open_together(stores).await;
    assert_ne!(a.origin().await, before[0]);
    assert_eq!([b.origin().await, c.origin().await], before[1..]);
    a.count(10).await;
    a.pull(&c).await;
    b.pull(&a).await;
    assert_eq!([a.sum().await, b.sum().await], [11, 11]);
}

/// A member that restarts at the same time may listen later.
#[tokio::test(start_paused = true)]
async fn a_member_is_asked_until_it_answers() {
    /// Is down for the first questions.
    #[derive(Debug)]
    struct Late(LocalPeer, AtomicU32);

    #[async_trait::async_trait]
    impl Peer for Late {
        fn name(&self) -> &str {
            self.0.name()
        }
        async fn pull(&self, pull: Pull) -> Result<Page, PeerError> {
            self.0.pull(pull).await
        }
        async fn confirm(&self, claim: Claim) -> Result<Confirmation, PeerError> {
            if self.1.fetch_add(1, Ordering::Relaxed) < 3 {
                return Err(PeerError::Unreachable("connection refused".into()));
            }
            self.0.confirm(claim).await
        }
    }

    let (a, b) = (node("a").await, node("b").await);
    a.count(1).await;
    let origin = a.origin().await;
    let late = Late(LocalPeer::new("b", b.replica.source()), AtomicU32::new(0));
    let a = open("a", a.store.copy(a.store.log_id()), options("a").member(Arc::new(late))).await;
    assert_eq!(a.origin().await, origin);
    let a = open("a", a.store.copy(a.store.log_id()), options("a").member(Arc::new(Down))).await;
    assert_ne!(a.origin().await, origin, "a member that stays down leads to a new origin");
}

/// R4: `recover` returns only after the last remote event that was known when it was called is local.
#[tokio::test]
async fn r4_recover_returns_only_when_the_last_known_remote_event_is_local() {
    let (a, b) = (node("a").await, node("b").await);
    for by in 1..=200 {
        a.count(by).await;
    }
    b.pull(&a).await;
    b.count(1_000_000).await;

    // The disk of A is lost.
    let a = node("a").await;
    let small = Node { replica: a.replica.clone().with_page_bytes(500), ..a };
    let peers = [b.as_peer(), Arc::new(Down) as Arc<dyn Peer>];
    let error = small.replica.recover(&peers, Duration::from_millis(100)).await.expect_err("no link runs");
    let RecoverError::Stale(stale) = &error else { panic!("{error}") };
    let missing = |sequence, origin| Dot { origin, sequence: std::num::NonZeroU64::new(sequence).expect("not 0") };
    assert_eq!(stale.missing.len(), 2, "{error}");
    assert!(stale.missing.contains(&missing(1, b.origin().await)), "{error}");
    assert!(error.to_string().contains(&b.origin().await.to_string()), "{error}");

    let link = small.link(&b);
    let recovered = small.replica.recover(&peers, TIMEOUT).await.expect("recovered");
    assert_eq!(small.sum().await, 1_020_100, "the events are local when `recover` returns");
    assert_eq!((recovered.reached, recovered.unreachable), (vec!["b".to_owned()], vec!["down".to_owned()]));
    assert_eq!(recovered.target, *b.replica.knowledge().await.expect("read").clock());
    link.stop().await;
}

#[tokio::test]
async fn a_recovery_without_a_reachable_peer_fails() {
    let a = node("a").await;
    let error = a.replica.recover(&[Arc::new(Down)], Duration::from_secs(1)).await.expect_err("no peer answers");
    assert!(matches!(&error, RecoverError::NoPeer { unreachable } if unreachable[0].contains("no route")), "{error}");
    assert!(a.replica.recover(&[], Duration::ZERO).await.is_ok(), "a single node has everything");
}

/// R5: two nodes recover from each other at the same time.
#[tokio::test]
async fn r5_two_nodes_recover_from_each_other() {
    let (a, b) = (node("a").await, node("b").await);
    a.count(1).await;
    b.count(10).await;
    let links = [a.link(&b), b.link(&a)];
    let (from_b, from_a) = ([b.as_peer()], [a.as_peer()]);
    let (one, other) = tokio::join!(a.replica.recover(&from_b, TIMEOUT), b.replica.recover(&from_a, TIMEOUT));
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    assert_eq!([a.sum().await, b.sum().await], [11, 11]);
    for link in links {
        link.stop().await;
    }
}

#[tokio::test]
async fn the_status_names_the_member_that_blocks_stability() {
    let [a, b, c] = [node("a").await, node("b").await, node("c").await];
    a.count(1).await;
    a.count(2).await;
    b.count(10).await;
    let links = [a.link(&b), a.link(&c)];
    let monitor = Monitor::new(&a.replica, &links);
    // C and B have none of the events of A.
    let status = wait_for(&monitor, |status| status.members.iter().all(|member| member.knowledge.is_some())).await;
    assert_eq!(status.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), NAMES);
    let status = wait_for(&monitor, |status| status.blocked_by.as_deref() == Some("c")).await;
    assert_eq!(status.members.iter().map(|member| member.missing_events).collect::<Vec<_>>(), [0, 2, 3].map(Some));
    assert_eq!(status.stable.expect("all members have reported").iter().count(), 0);

    b.pull(&a).await;
    c.pull(&a).await;
    c.pull(&b).await;
    let status = wait_for(&monitor, |status| status.blocked_by.is_none()).await;
    assert_eq!(status.stable.as_ref(), Some(a.replica.knowledge().await.expect("read").clock()));
    for link in links {
        link.stop().await;
    }

    let links = [a.link(&b), Link::start(a.replica.clone(), Arc::new(Down))];
    let status = wait_for(&Monitor::new(&a.replica, &links), |status| status.links[1].failure.is_some()).await;
    assert_eq!((status.stable, status.blocked_by.as_deref()), (None, Some("down")), "it has never reported");
    assert_eq!(status.links[1].lag_events, None, "nothing is known of its events");
}

#[tokio::test]
async fn the_status_of_a_link_has_its_lag_and_what_it_received() {
    let (a, b) = (node("a").await, node("b").await);
    let link = a.link(&b);
    let monitor = Monitor::new(&a.replica, [&link]);
    let status = wait_for(&monitor, |status| status.links[0].state == LinkState::Current).await;
    let idle = &status.links[0];
    assert_eq!((idle.lag_events, idle.lag_bytes, idle.events, idle.bytes), (Some(0), None, 0, 0));
    let age = idle.lag_time(status.time).expect("it was current");
    assert!(age < TIMEOUT && idle.last_success >= idle.last_current, "{idle:?}");

    b.count(1).await;
    let status = wait_for(&monitor, |status| status.links[0].events == 1).await;
    let (size, one) = (status.links[0].bytes, &status.links[0]);
    assert!(size > 100 && one.lag_bytes == Some(0) && one.last_current > idle.last_current, "{one:?}");
    link.stop().await;

    for by in 0..3 {
        b.count(by).await;
    }
    let small = a.replica.clone().with_page_bytes(1);
    let link = Link::start(small.clone(), Arc::new(OnePage(b.as_peer(), AtomicU32::new(0))));
    let monitor = Monitor::new(&small, [&link]);
    let lagging = wait_for(&monitor, |status| status.links[0].lag_events > Some(0)).await.links.remove(0);
    assert_eq!((lagging.lag_events, lagging.events), (Some(2), 1), "{lagging:?}");
    assert_eq!((lagging.state, lagging.last_current), (LinkState::CatchingUp, None), "{lagging:?}");
    assert_eq!(lagging.lag_bytes, Some(lagging.bytes / lagging.events * 2), "{lagging:?}");
    link.stop().await;
}

/// The runtime has one thread, so the link records on the recorder of the test.
#[tokio::test]
async fn the_metrics_have_the_facts_of_the_status() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (a, b) = (node("a").await, node("b").await);
    a.count(1).await;
    b.count(10).await;
    let link = a.link(&b);
    let monitor = Monitor::new(&a.replica, [&link]);
    b.count(10).await;
    let status = wait_for(&monitor, |status| status.links[0].events == 2).await;
    let mut found = BTreeMap::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        let labels: Vec<_> = key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        found.insert(format!("{} {}", key.key().name(), labels.join(",")), value);
    }
    let counter = |name: &str| match found.get(name) {
        Some(DebugValue::Counter(value)) => *value as f64,
        Some(DebugValue::Gauge(value)) => value.into_inner(),
        other => panic!("{name}: {other:?} in {found:?}"),
    };
    assert_eq!(counter("es_replication_events_total peer=b"), 2.0);
    assert_eq!(counter("es_replication_bytes_total peer=b"), status.links[0].bytes as f64);
    assert_eq!(counter("es_replication_lag_events peer=b"), 0.0);
    assert_eq!(counter("es_replication_member_missing_events member=b"), 1.0);
    let current = status.links[0].last_current.expect("it was current").timestamp_micros() as f64 / 1e6;
    assert_eq!(counter("es_replication_current_timestamp_seconds peer=b"), current);
    link.stop().await;
}

#[tokio::test]
async fn the_status_is_read_from_a_store() {
    let (a, b) = (node("a").await, node("b").await);
    a.count(1).await;
    b.count(10).await;
    b.count(10).await;
    a.pull(&b).await;
    let status = ReplicationStatus::read(&a.store).await.expect("read").expect("a replica");
    assert_eq!((status.node.as_str(), status.origin, status.is_restored), ("a", a.origin().await, false));
    assert_eq!(status.peers, ["b"]);
    assert_eq!(status.categories.iter().map(ToString::to_string).collect::<Vec<_>>(), ["counter"]);
    let mut known: Vec<_> = status.origins.iter().map(|known| (known.is_own, known.sequence)).collect();
    known.sort_unstable();
    assert_eq!((known, status.running.clone()), (vec![(false, 2), (true, 1)], None));
    assert_eq!(status.knowledge(), *a.replica.knowledge().await.expect("read").clock());
    let json = serde_json::to_string(&status).expect("serializes");
    assert_eq!(serde_json::from_str::<ReplicationStatus>(&json).expect("deserializes"), status);

    let restored = a.store.copy(LogId::new());
    let status = ReplicationStatus::read(&restored).await.expect("read").expect("a replica");
    assert!(status.is_restored, "the next start takes a new origin");
    assert_eq!(ReplicationStatus::read(&MemoryStore::new()).await.expect("read"), None);
}
