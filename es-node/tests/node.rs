//! Nodes on disk: over TLS, in one process, and the messages of what does not open.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::ExecuteError;
use es_core::model::{ErrorChain, OriginId};
use es_core::prelude::*;
use es_node::{LocalPeer, Node, NodeBuilder, NodeError, NodeFiles};
use es_replication::{HomesStatus, LinkState, ReplicationStatus, TestCa};
use serde::{Deserialize, Serialize};
use tokio::net::TcpSocket;

/// The time after which a test fails that waits for something.
const TIMEOUT: Duration = Duration::from_secs(60);
const NAMES: [&str; 3] = ["n1", "n2", "n3"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
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

/// An account that the node in its id creates and decides.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "account", id = String, event = Counted, consistency = "causal", owner = creator_of)]
struct Account(u64);

#[allow(clippy::ptr_arg, reason = "the function gets the type of the id")]
fn creator_of(id: &String) -> String {
    id.split('/').next().unwrap_or_default().to_owned()
}

impl Evolve for Account {
    fn initial(_: &String) -> Self {
        Self(0)
    }
    fn evolve(&mut self, event: &Counted, _: &EventContext<'_>) {
        self.0 += event.0;
    }
}

impl Decide<Count> for Account {
    type Rejection = std::convert::Infallible;
    fn decide(&self, count: Count, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Counted(count.0).into())
    }
}

/// Directories, certificates and ports of three nodes.
struct Group {
    directory: tempfile::TempDir,
    files: [NodeFiles; 3],
    ports: [u16; 3],
    /// Keeps the ports for the nodes: no other listener gets one of them while no node uses it.
    _reserved: [TcpSocket; 3],
}

impl Group {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ca = TestCa::create(directory.path()).expect("an authority");
        let files = NAMES.map(|name| ca.issue(name).expect("a certificate"));
        let reserved = NAMES.map(|_| {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_reuseaddr(true).expect("the option is set");
            socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
            socket
        });
        let ports = reserved.each_ref().map(|socket| socket.local_addr().expect("an address").port());
        Self { directory, files, ports, _reserved: reserved }
    }

    fn builder(&self, number: usize) -> NodeBuilder {
        let address = |number: usize| format!("127.0.0.1:{}", self.ports[number]);
        let peers = (0..3).filter(|to| *to != number).map(|to| (NAMES[to], address(to)));
        Node::builder(NAMES[number])
            .directory(self.directory.path().join("stores").join(NAMES[number]))
            .listen(address(number))
            .peers(peers)
            .tls(self.files[number].clone())
            .aggregate::<Counter>()
            .aggregate::<Account>()
            .with_confirm_timeout(TIMEOUT)
    }

    async fn open(&self, number: usize) -> Node {
        self.builder(number).open().await.unwrap_or_else(|error| panic!("{}", ErrorChain(&error)))
    }

    async fn open_all(&self) -> [Node; 3] {
        let nodes = async { tokio::join!(self.open(0), self.open(1), self.open(2)) };
        tokio::time::timeout(2 * TIMEOUT, nodes).await.expect("the nodes open").into()
    }
}

async fn count(node: &Node, by: u64) {
    let counters = node.repository::<Counter>().expect("declared");
    counters.execute(&1, Count(by)).await.expect("executed");
}

async fn sum(node: &Node) -> u64 {
    node.repository::<Counter>().expect("declared").load(&1).await.expect("loaded").state.0
}

async fn origins(nodes: &[Node; 3]) -> Vec<String> {
    let mut origins = Vec::new();
    for node in nodes {
        origins.push(node.replica().origin().await.expect("an origin").to_string());
    }
    origins
}

async fn wait_until(node: &Node, property: impl Fn(&ReplicationStatus) -> bool) -> ReplicationStatus {
    let wait = async {
        loop {
            let status = node.status().await.expect("a status");
            if property(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, wait).await.expect("the status changes in time")
}

fn is_stable(status: &ReplicationStatus) -> bool {
    let running = status.running.as_ref().expect("the node runs");
    running.blocked_by.is_none() && running.links.iter().all(|link| link.state == LinkState::Current)
}

/// The example of the issue: three nodes over TLS, and a restart of all of them at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_replicate_and_keep_their_origins_when_all_restart() {
    let group = Group::new();
    let nodes = group.open_all().await;
    for (node, by) in nodes.iter().zip([1, 10, 100]) {
        count(node, by).await;
    }
    for node in &nodes {
        node.recover(TIMEOUT).await.expect("recovered");
        assert_eq!(sum(node).await, 111, "{}", node.name());
        let status = wait_until(node, is_stable).await;
        assert_eq!((status.node.as_str(), status.peers.len()), (node.name(), 2));
        let stable = status.running.as_ref().and_then(|running| running.stable.clone());
        assert_eq!(stable, Some(status.knowledge()));
    }
    let before = origins(&nodes).await;
    for node in nodes {
        node.stop().await.expect("stopped");
    }

    let nodes = group.open_all().await;
    assert_eq!(origins(&nodes).await, before, "each member confirms the others while it opens its own store");
    count(&nodes[0], 1_000).await;
    nodes[2].recover(TIMEOUT).await.expect("recovered");
    assert_eq!(sum(&nodes[2]).await, 1_111);

    // One node is down.
    let [one, two, three] = nodes;
    three.stop().await.expect("stopped");
    count(&one, 10_000).await;
    let recovered = two.recover(TIMEOUT).await.expect("n1 answers");
    assert_eq!((recovered.reached, recovered.unreachable), (vec!["n1".to_owned()], vec!["n3".to_owned()]));
    assert_eq!(sum(&two).await, 11_111);
    let status = wait_until(&one, |status| {
        let running = status.running.as_ref().expect("the node runs");
        running.blocked_by.as_deref() == Some("n3") && running.links[1].failure.is_some()
    });
    let running = status.await.running.expect("the node runs");
    assert_eq!(running.links[1].state, LinkState::Disconnected);
    one.stop().await.expect("stopped");
    two.stop().await.expect("stopped");
}

/// Pays into an account. Returns `false` if another node decides, or this one is not confirmed.
async fn pay(node: &Node, account: &str) -> bool {
    match node.repository::<Account>().expect("declared").execute(&account.to_owned(), Count(1)).await {
        Ok(_) => true,
        Err(ExecuteError::NotOwner(_)) => false,
        Err(error) => panic!("{}", ErrorChain(&error)),
    }
}

fn homes(status: &ReplicationStatus) -> &HomesStatus {
    status.homes.as_ref().expect("the node declares an aggregate with an owner")
}

/// n1 restarts while n3 is down, so it cannot know whether it has lost events. It decides on its former streams again
/// once n3 is back, without a call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_restarts_beside_a_silent_member_decides_again_once_all_have_confirmed() {
    let group = Group::new();
    let nodes = group.open_all().await;
    for account in ["n1/1", "n1/2"] {
        assert!(pay(&nodes[0], account).await, "{account}");
    }
    assert!(pay(&nodes[1], "n2/1").await && !pay(&nodes[1], "n1/1").await);
    for node in &nodes {
        node.recover(TIMEOUT).await.expect("recovered");
        let status = node.status().await.expect("a status");
        let own = if node.name() == "n3" { 0 } else { 3 - u64::from(node.name().as_bytes()[1] - b'0') };
        let homes = homes(&status);
        assert_eq!((homes.streams_of(&homes.origins), homes.is_complete), (own, true), "{}", node.name());
        assert_eq!((homes.streams.values().sum::<u64>(), homes.unconfirmed.len()), (3, 0), "{}", node.name());
    }
    let [one, two, three] = nodes;
    three.stop().await.expect("stopped");
    one.stop().await.expect("stopped");

    let restarted = group.builder(0).with_confirm_timeout(Duration::from_millis(300)).open().await;
    let one = restarted.unwrap_or_else(|error| panic!("{}", ErrorChain(&error)));
    assert!(!pay(&one, "n1/1").await, "it may have lost events");
    assert!(pay(&one, "n1/3").await, "it creates other accounts");
    let status = one.status().await.expect("a status");
    assert_eq!(homes(&status).streams_of(&homes(&status).unconfirmed), 2);
    assert!(one.confirm_homes().await.is_err(), "n3 does not answer");
    assert!(!pay(&one, "n1/1").await);

    let three = group.open(2).await;
    let status = wait_until(&one, |status| homes(status).unconfirmed.is_empty()).await;
    assert_eq!(homes(&status).streams_of(&homes(&status).origins), 3);
    assert!(pay(&one, "n1/1").await && one.confirm_homes().await.expect("nothing to confirm"));
    // Another node finds the home by its former origin, too.
    let stream = Account::stream(&"n1/1".to_owned()).expect("a name");
    let origin = two.replica().home(&stream).await.expect("read").expect("a home");
    let home = two.replica().node_that_decides(origin, two.peers()).await.expect("read");
    assert_eq!(home.as_deref(), Some("n1"));
    assert_eq!(two.replica().node_that_decides(OriginId::new(7), two.peers()).await.expect("read"), None);
    for node in [one, two, three] {
        node.stop().await.expect("stopped");
    }
}

/// R4 on disk: a node that lost its disk waits until it has everything that its members had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_a_node_that_lost_its_disk_recovers_every_event() {
    let group = Group::new();
    let nodes = group.open_all().await;
    for (node, by) in nodes.iter().zip([1, 10, 100]) {
        count(node, by).await;
    }
    nodes[1].recover(TIMEOUT).await.expect("recovered");
    let [one, two, three] = nodes;
    one.stop().await.expect("stopped");
    std::fs::remove_dir_all(group.directory.path().join("stores/n1")).expect("removed");

    let one = group.open(0).await;
    let recovered = one.recover(TIMEOUT).await.expect("recovered");
    assert_eq!(recovered.reached.len(), 2);
    assert_eq!(sum(&one).await, 111);
    for node in [one, two, three] {
        node.stop().await.expect("stopped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_process_need_no_certificates() {
    let directory = tempfile::tempdir().expect("a directory");
    let builder = |name: &str| Node::builder(name).directory(directory.path().join(name)).aggregate::<Counter>();
    let (a, b) = (builder("a"), builder("b"));
    let (from_a, from_b) = (LocalPeer::new("a", a.source()), LocalPeer::new("b", b.source()));
    let (a, b) = tokio::join!(a.peer(Arc::new(from_b)).open(), b.peer(Arc::new(from_a)).open());
    let (a, b) = (a.expect("opened"), b.expect("opened"));
    count(&a, 1).await;
    count(&b, 10).await;
    a.recover(TIMEOUT).await.expect("recovered");
    b.recover(TIMEOUT).await.expect("recovered");
    assert_eq!([sum(&a).await, sum(&b).await], [11, 11]);
    a.stop().await.expect("stopped");
    b.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_single_node_is_a_replica_that_others_can_join() {
    let directory = tempfile::tempdir().expect("a directory");
    let builder = || Node::builder("n1").directory(directory.path().join("n1")).aggregate::<Counter>();
    let node = builder().open().await.expect("opened");
    count(&node, 1).await;
    let origin = node.replica().origin().await.expect("an origin");
    let status = node.status().await.expect("a status").running.expect("the node runs");
    assert_eq!((status.blocked_by, status.links.len(), node.local_addr()), (None, 0, None));
    node.stop().await.expect("stopped");
    let node = builder().open().await.expect("opened");
    assert_eq!((node.replica().origin().await.expect("an origin"), sum(&node).await), (origin, 1));
    node.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_causal_aggregate_must_be_declared() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::builder("n1").directory(directory.path().join("n1")).open().await.expect("opened");
    let error = node.repository::<Counter>().expect_err("its events would stay on this node");
    assert_eq!(error.category, "counter");
    node.stop().await.expect("stopped");
}

/// Opens a node, and returns the message of the error.
async fn refusal(builder: NodeBuilder) -> String {
    match builder.open().await {
        Ok(node) => panic!("{} is open", node.name()),
        Err(error) => {
            assert!(!matches!(error, NodeError::Store(_)), "{error}");
            ErrorChain(&error).to_string()
        }
    }
}

/// Regression: a node whose peer had no port opened, never had a link, and took a new origin at each start.
#[tokio::test]
async fn the_address_of_a_peer_is_a_host_and_a_port() {
    let group = Group::new();
    let node = |address: &str| {
        let directory = group.directory.path().join("store");
        let node = Node::builder("n1").directory(directory).tls(group.files[0].clone());
        node.peers([("n2", address)]).with_confirm_timeout(Duration::from_millis(1))
    };
    for address in ["n2", "", ":7001", "n2:", "n2:99999", "n2:-1", "https://n2:7001"] {
        let refused = refusal(node(address)).await;
        assert_eq!(refused, format!("expected HOST:PORT as the address of the peer \"n2\", found {address:?}"));
    }
    for address in ["127.0.0.1:1", "[::1]:1", "n2.invalid:7001"] {
        let opened = node(address).open().await.unwrap_or_else(|error| panic!("{}", ErrorChain(&error)));
        opened.stop().await.expect("stopped");
    }
}

#[tokio::test]
async fn what_does_not_open_says_what_to_do() {
    let group = Group::new();
    let check = |message: String, parts: &[&str]| {
        parts.iter().for_each(|part| assert!(message.contains(part), "{part:?} is not in {message:?}"));
    };
    check(refusal(Node::builder("n1")).await, &["\"n1\"", "call `directory`"]);
    let file = group.directory.path().join("file");
    std::fs::write(&file, "x").expect("written");
    check(refusal(Node::builder("n1").directory(&file)).await, &["a file", "choose another directory"]);
    let store = group.directory.path().join("store");
    let node = || Node::builder("n1").directory(&store);
    check(refusal(node().listen("127.0.0.1:0")).await, &["\"n1\"", "call `tls`"]);
    check(refusal(node().peers([("n2", "127.0.0.1:1")])).await, &["call `tls`"]);
    let with_tls = || node().tls(group.files[0].clone());
    check(refusal(with_tls().peers([("n1", "127.0.0.1:1")])).await, &["\"n1\"", "its own name"]);
    check(refusal(with_tls().peers([("n2", "a:1"), ("n2", "b:1")])).await, &["\"n2\"", "its own name"]);
    check(refusal(with_tls().peers([("not a name", "a:1")])).await, &["\"not a name\"", "first DNS name"]);
    check(refusal(node().tls(group.files[1].clone())).await, &["\"n2\"", "\"n1\"", "its own certificate"]);
    let absent = NodeFiles { key: Path::new("absent.key").into(), ..group.files[0].clone() };
    check(refusal(node().tls(absent)).await, &["absent.key", "check the files"]);
    let garbage = NodeFiles { certificates: file.clone(), ..group.files[0].clone() };
    check(refusal(node().tls(garbage)).await, &["file", "PEM", "check the files"]);

    let used = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = used.local_addr().expect("an address").to_string();
    check(refusal(with_tls().listen(&address)).await, &[&address, "choose another one"]);
    assert!(!store.exists(), "nothing is created before the options are checked");

    let node = node().open().await.expect("opened");
    check(refusal(Node::builder("n2").directory(&store)).await, &["open already"]);
    node.stop().await.expect("stopped");
    check(refusal(Node::builder("n2").directory(&store)).await, &["\"n1\"", "\"n2\"", "under its name"]);
}
