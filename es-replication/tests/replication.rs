//! Replicas in one process: what a pull stores and refuses, sessions, and how a store becomes a replica.

mod one_page;

use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::{InfrastructureError, Outcome};
use es_core::model::{Clock, Dot, LogId, OriginId, UniqueKey};
use es_core::prelude::*;
use es_core::retention::{self, DeleteKind, Rule, Scavenge, Scope};
use es_core::store::memory::MemoryStore;
use es_core::store::{StartHookError, delete_stream};
use es_core::testing::{Fault, FaultyStore, ManualClock};
use es_core::{
    Commit, CommitError, EventType, ExecuteError, NewEvent, RecordedEvent, StreamId, StreamRead, UnitOfWork,
};
use es_replication::{
    Claim, Confirmation, GapReason, Knowledge, Link, LinkState, LocalPeer, Page, Peer, PeerError, Pull, PullError,
    Pulled, Refusal, Replica, ReplicaOptions, Sender, StreamFilter, Token, WaitError,
};
use one_page::OnePage;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum AccountEvent {
    #[event(name = "added")]
    Added(i64),
    #[event(name = "renamed")]
    Renamed(String),
    #[event(name = "moved")]
    Moved(String),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "account", id = u64, event = AccountEvent,
    consistency = "causal", conflict = "canonical", snapshot(every = 10)
)]
struct Account {
    sum: i64,
    name: String,
    city: String,
}

impl Evolve for Account {
    fn initial(_: &u64) -> Self {
        Self::default()
    }
    fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
        match event {
            AccountEvent::Added(amount) => self.sum += amount,
            AccountEvent::Renamed(name) => self.name.clone_from(name),
            AccountEvent::Moved(city) => self.city.clone_from(city),
        }
    }
}

#[derive(Clone, Serialize)]
struct Apply(AccountEvent);

impl Decide<Apply> for Account {
    type Rejection = std::convert::Infallible;
    fn decide(&self, Apply(event): Apply, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(event.into())
    }
}

fn add(amount: i64) -> Apply {
    Apply(AccountEvent::Added(amount))
}

/// An aggregate of one node.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "draft", id = u64, event = AccountEvent)]
struct Draft;

impl Evolve for Draft {
    fn initial(_: &u64) -> Self {
        Self
    }
    fn evolve(&mut self, _: &AccountEvent, _: &EventContext<'_>) {}
}

impl Decide<Apply> for Draft {
    type Rejection = std::convert::Infallible;
    fn decide(&self, Apply(event): Apply, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(event.into())
    }
}

/// A node in this process.
struct Node {
    name: &'static str,
    store: MemoryStore,
    replica: Replica,
    accounts: Repository<Account>,
}

fn options(name: &str) -> ReplicaOptions {
    let options = ReplicaOptions::new(name).with_confirm_timeout(Duration::from_millis(50));
    options.aggregate::<Account>().and_then(ReplicaOptions::aggregate::<Draft>).expect("valid categories")
}

async fn start(name: &'static str, store: MemoryStore, options: ReplicaOptions) -> Node {
    let store = store.with_hook(options.hook()).await.expect("started");
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let replica = Replica::new(Arc::clone(&shared)).expect("the store has the hook");
    Node { name, store, replica, accounts: Repository::new(shared) }
}

async fn node(name: &'static str) -> Node {
    start(name, MemoryStore::new(), options(name)).await
}

impl Node {
    fn as_peer(&self) -> LocalPeer {
        LocalPeer::new(self.name, self.replica.source())
    }

    async fn try_pull(&self, from: &Self) -> Result<Pulled, PullError> {
        self.replica.pull(&from.as_peer(), Duration::ZERO).await
    }

    async fn pull(&self, from: &Self) -> Pulled {
        self.try_pull(from).await.expect("pulled")
    }

    async fn add(&self, id: u64, amount: i64) {
        self.accounts.execute(&id, add(amount)).await.expect("executed");
    }

    async fn state(&self, id: u64) -> Account {
        self.accounts.load(&id).await.expect("loaded").state
    }

    async fn events(&self) -> usize {
        self.store.head().await.expect("read").map_or(0, |head| head.get() as usize)
    }

    async fn origin(&self) -> OriginId {
        self.replica.origin().await.expect("an origin")
    }

    /// Returns the node after a restart with the same store.
    async fn restart(self, options: ReplicaOptions) -> Self {
        start(self.name, self.store.copy(self.store.log_id()), options).await
    }
}

#[tokio::test]
async fn streams_of_causal_aggregates_are_replicated_and_others_are_not() {
    let (a, b) = (node("a").await, node("b").await);
    a.add(1, 5).await;
    let drafts = Repository::<Draft>::new(Arc::new(a.store.clone()));
    drafts.execute(&1, add(7)).await.expect("executed");
    a.add(1, 6).await;
    let pulled = b.pull(&a).await;
    assert_eq!((pulled.events, pulled.held, pulled.is_last), (2, 0, true));
    assert_eq!((b.state(1).await.sum, b.events().await), (11, 2));
    assert_eq!(b.pull(&a).await.events, 0);
    assert_eq!(a.pull(&b).await.events, 0, "a node does not get its own events back");
    let versions = [&a, &b].map(|node| node.accounts.load(&1));
    let versions = futures_util::future::join_all(versions).await.into_iter().map(|loaded| loaded.expect("loaded"));
    let versions: Vec<_> = versions.map(|loaded| loaded.version()).collect();
    assert_eq!(versions[0], versions[1]);
}

/// R7 and R8: e2 of B follows e1 of A. C is cut off from A, and gets both from B, in this order.
#[tokio::test]
async fn an_event_arrives_after_its_causes_on_every_path() {
    let (a, b, c) = (node("a").await, node("b").await, node("c").await);
    a.add(1, 1).await;
    b.pull(&a).await;
    b.add(1, 10).await;
    assert_eq!(c.pull(&b).await.events, 2);
    let seen = async |node: &Node| {
        let read = StreamRead::new(StreamId::new("account-1").expect("a name"));
        let events = node.store.read_stream(read).await.expect("read").collect().await.expect("read");
        events.into_iter().map(|event| event.data.id).collect::<Vec<_>>()
    };
    assert_eq!(seen(&c).await, seen(&b).await);
    assert_eq!(c.pull(&a).await.events, 0, "the event of A arrived through B");
}

/// R11: heads that wait for each other's origin. There is no buffer, so nothing can block.
#[tokio::test]
async fn three_nodes_that_pull_in_any_order_make_progress() {
    let nodes = [node("a").await, node("b").await, node("c").await];
    for round in 0..5 {
        for (index, node) in nodes.iter().enumerate() {
            node.add(1, 1).await;
            node.pull(&nodes[(index + 1 + round) % 3]).await;
        }
    }
    for _ in 0..3 {
        for (index, node) in nodes.iter().enumerate() {
            node.pull(&nodes[(index + 1) % 3]).await;
            node.pull(&nodes[(index + 2) % 3]).await;
        }
    }
    for node in &nodes {
        assert_eq!(node.state(1).await.sum, 15);
    }
}

/// R12 and R15: a page is bounded, so a node that was stopped catches up with little memory.
#[tokio::test]
async fn a_node_catches_up_in_bounded_pages() {
    let (a, b) = (node("a").await, node("b").await);
    for _ in 0..100 {
        a.add(1, 1).await;
    }
    let small = b.replica.clone().with_page_bytes(500);
    let mut pages = 0;
    loop {
        let pulled = small.pull(&a.as_peer(), Duration::ZERO).await.expect("pulled");
        assert!(pulled.events <= 5, "{} events in a page", pulled.events);
        pages += 1;
        if pulled.is_last {
            break;
        }
    }
    assert!(pages >= 20, "{pages} pages");
    assert_eq!(b.state(1).await.sum, 100);
    let huge = Apply(AccountEvent::Renamed("x".repeat(5_000)));
    a.accounts.execute(&1, huge).await.expect("executed");
    assert_eq!(small.pull(&a.as_peer(), Duration::ZERO).await.expect("pulled").events, 1, "a page has a commit");
}

#[tokio::test]
async fn a_commit_arrives_whole() {
    let (a, b) = (node("a").await, node("b").await);
    for count in [3, 1, 2] {
        let event = |n: usize| {
            let stream = StreamId::new(format!("account-{n}")).expect("a name");
            (stream, NewEvent::json(EventType::new("added").expect("a name"), "5"))
        };
        let commit = (0..count).map(event).fold(Commit::new(), |commit, (stream, event)| commit.append(stream, event));
        a.store.commit(commit).await.expect("written");
    }
    let small = b.replica.clone().with_page_bytes(1);
    for expected in [3, 1, 2] {
        assert_eq!(small.pull(&a.as_peer(), Duration::ZERO).await.expect("pulled").events, expected);
    }
    let read = b.store.read_log(es_core::LogRead::all()).await.expect("read").collect().await.expect("read");
    let parts: Vec<_> = read.iter().map(|event| (event.part.index, event.part.size)).collect();
    assert_eq!(parts, [(0, 3), (1, 3), (2, 3), (0, 1), (0, 2), (1, 2)]);
    let clocked = read.iter().filter(|event| event.data.stamp.as_ref().is_some_and(|stamp| stamp.seen.is_some()));
    assert_eq!(clocked.count(), 6, "the first event of each stream in a commit has the vector clock");
}

/// R6: the node fails between two commits of a page. Events and progress are one commit.
#[tokio::test]
async fn a_pull_that_fails_in_the_middle_is_repeated_without_loss_and_duplicates() {
    let (a, inner) = (node("a").await, MemoryStore::new().with_hook(options("b").hook()).await.expect("started"));
    for _ in 0..4 {
        a.add(1, 1).await;
    }
    for failing in 0..4 {
        let store = inner.copy(LogId::new()).with_hook(options("b").hook()).await.expect("started");
        let faulty = FaultyStore::new(Arc::new(store.clone()));
        let replica = Replica::new(Arc::new(faulty.clone())).expect("the store has the hook");
        faulty.at_commit(failing, Fault::Refuse);
        let first = replica.pull(&a.as_peer(), Duration::ZERO).await;
        assert!(first.is_err(), "{first:?}");
        while !replica.pull(&a.as_peer(), Duration::ZERO).await.expect("pulled").is_last {}
        let accounts = Repository::<Account>::new(Arc::new(store.clone()));
        assert_eq!(accounts.load(&1).await.expect("loaded").state.sum, 4, "commit {failing} failed");
        assert_eq!(store.head().await.expect("read").map(Position::get), Some(4));
    }
}

/// R9: a restart changes neither what a node knows nor the version of an aggregate.
#[tokio::test]
async fn a_restart_keeps_the_knowledge_and_the_origin() {
    let (a, b) = (node("a").await, node("b").await);
    for amount in 1..=12 {
        a.add(1, amount).await;
        b.add(1, 100 * amount).await;
        a.pull(&b).await;
    }
    a.accounts.settle().await;
    let (knowledge, origin) = (a.replica.knowledge().await.expect("read"), a.origin().await);
    let version = a.accounts.load(&1).await.expect("loaded").version();
    let a = a.restart(options("a").member(Arc::new(b.as_peer()))).await;
    assert_eq!((a.replica.knowledge().await.expect("read"), a.origin().await), (knowledge, origin));
    assert_eq!(a.accounts.load(&1).await.expect("loaded").version(), version);
    a.add(1, 1).await;
    b.pull(&a).await;
    assert_eq!(b.state(1).await, a.state(1).await);
}

/// R3: a node that was restored from an old backup never uses a dot again, and gets its events back.
#[tokio::test]
async fn a_node_from_an_old_backup_takes_a_new_origin() {
    let (a, b) = (node("a").await, node("b").await);
    a.add(1, 1).await;
    let backup = a.store.copy(LogId::new());
    a.add(1, 10).await;
    b.pull(&a).await;
    let origin = a.origin().await;
    let copied = start("a", backup.copy(a.store.log_id()), options("a").member(Arc::new(b.as_peer()))).await;
    assert_ne!(copied.origin().await, origin, "B knows an event that the copy of the directory has not");
    let restored = start("a", backup, options("a")).await;
    assert_ne!(restored.origin().await, origin, "a restored backup has another log id");
    restored.add(1, 100).await;
    restored.pull(&b).await;
    b.pull(&restored).await;
    assert_eq!([restored.state(1).await.sum, b.state(1).await.sum], [111, 111]);
}

/// A peer that never answers.
#[derive(Debug)]
struct SilentPeer;

#[async_trait::async_trait]
impl Peer for SilentPeer {
    fn name(&self) -> &str {
        "silent"
    }
    async fn pull(&self, _: Pull) -> Result<Page, PeerError> {
        std::future::pending().await
    }
    async fn confirm(&self, _: Claim) -> Result<Confirmation, PeerError> {
        std::future::pending().await
    }
}

/// R5: two nodes that open at the same time do not wait for each other forever. One silent member is enough for a new
/// origin, because it may have seen more than the others.
#[tokio::test]
async fn a_silent_member_leads_to_a_new_origin() {
    let (a, b) = (node("a").await, node("b").await);
    a.add(1, 1).await;
    let origin = a.origin().await;
    let with_both = options("a").member(Arc::new(b.as_peer())).member(Arc::new(SilentPeer));
    let a = a.restart(with_both).await;
    assert_ne!(a.origin().await, origin);
}

/// While a page is under way, the node that sent it loses its last event and asks for the end of its origin. The page
/// must not be stored: the node gives the same dot to another event.
#[tokio::test]
async fn a_page_from_before_a_lost_event_is_discarded() {
    /// Answers with a page that it got before.
    #[derive(Debug)]
    struct Delayed(tokio::sync::Mutex<Option<Page>>, tokio::sync::Semaphore);

    #[async_trait::async_trait]
    impl Peer for Delayed {
        fn name(&self) -> &str {
            "a"
        }
        async fn pull(&self, _: Pull) -> Result<Page, PeerError> {
            let _ = self.1.acquire().await;
            self.0.lock().await.take().ok_or_else(|| PeerError::Failed("no page".to_owned()))
        }
        async fn confirm(&self, _: Claim) -> Result<Confirmation, PeerError> {
            std::future::pending().await
        }
    }

    let (a, b) = (node("a").await, node("b").await);
    let backup = a.store.copy(a.store.log_id());
    a.add(1, 1).await;
    let page = a.replica.source().page(&everything()).await.expect("a page");
    assert_eq!(page.events(), 1);
    let delayed = Delayed(tokio::sync::Mutex::new(Some(page)), tokio::sync::Semaphore::new(0));
    let replica = b.replica.clone();
    let (pulled, ()) = tokio::join!(replica.pull(&delayed, Duration::ZERO), async {
        let restored = start("a", backup, options("a").member(Arc::new(b.as_peer()))).await;
        assert_eq!(restored.origin().await, a.origin().await, "B has no event of A");
        delayed.1.add_permits(1);
    });
    assert!(matches!(pulled, Err(PullError::Outdated)), "{pulled:?}");
    assert_eq!(b.events().await, 0);
}

/// R13 and R14: all nodes write at the same time, through links in the background. The sum is exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_deliver_every_event_once() {
    let nodes = [node("a").await, node("b").await, node("c").await];
    let mut links = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        for (_, peer) in nodes.iter().enumerate().filter(|(other, _)| *other != index) {
            links.push(Link::start(node.replica.clone(), Arc::new(peer.as_peer())));
        }
    }
    for amount in 1..=30 {
        for node in &nodes {
            node.add(1, amount).await;
        }
    }
    let mut token = Token::default();
    for node in &nodes {
        token.merge(&node.replica.token().await.expect("a token"));
    }
    for node in &nodes {
        node.replica.wait_for(&token, Duration::from_secs(30)).await.expect("converged");
        assert_eq!(node.state(1).await.sum, 3 * 465);
    }
    for link in &links {
        let mut status = link.watch();
        let current = status.wait_for(|status| status.state == LinkState::Current);
        let current = tokio::time::timeout(Duration::from_secs(30), current).await.expect("in time");
        assert_eq!((current.expect("runs").lag_events, link.status().failure), (Some(0), None));
    }
    // A link counts events after they are visible.
    let stored = || links.iter().map(|link| link.status().events).sum::<u64>();
    let counted = async {
        while stored() < 2 * 90 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), counted).await.expect("in time");
    assert_eq!(stored(), 2 * 90, "each event was stored once on each of the two other nodes");
    for link in links {
        link.stop().await;
    }
}

/// R39: two nodes change different fields at the same time. Both changes are kept.
#[tokio::test]
async fn concurrent_changes_of_independent_fields_are_both_kept() {
    let (a, b) = (node("a").await, node("b").await);
    let event = |event| Apply(event);
    a.accounts.execute(&1, event(AccountEvent::Renamed("Ada".into()))).await.expect("executed");
    b.accounts.execute(&1, event(AccountEvent::Moved("Paris".into()))).await.expect("executed");
    a.pull(&b).await;
    b.pull(&a).await;
    let expected = Account { sum: 0, name: "Ada".into(), city: "Paris".into() };
    assert_eq!([a.state(1).await, b.state(1).await], [expected.clone(), expected]);
}

#[tokio::test]
async fn a_command_that_is_repeated_on_another_node_returns_its_first_result() {
    let (a, b) = (node("a").await, node("b").await);
    let id = || CommandId::new("request-1").expect("a name");
    let first = a.accounts.execute(&1, add(5)).with_id(id()).await.expect("executed");
    b.pull(&a).await;
    let repeated = b.accounts.execute(&1, add(5)).with_id(id()).await.expect("repeated");
    assert_eq!((repeated.outcome, &repeated.events), (Outcome::Repeated, &first.events));
    assert_eq!(b.state(1).await.sum, 5);
    let other = b.accounts.execute(&1, add(6)).with_id(id()).await;
    let other = other.expect_err("another command");
    assert!(matches!(other, ExecuteError::Failed(InfrastructureError::CommandIdReused { .. })), "{other}");
    assert!(other.to_string().contains("another node") || format!("{other:?}").contains("another node"), "{other:?}");
}

/// A node that does not declare an aggregate stores and forwards its events.
#[tokio::test]
async fn a_node_forwards_events_of_aggregates_that_it_does_not_know() {
    let a = node("a").await;
    let relay = start("b", MemoryStore::new(), ReplicaOptions::new("b")).await;
    let c = node("c").await;
    a.add(1, 5).await;
    assert_eq!(relay.pull(&a).await.events, 1);
    assert_eq!(c.pull(&relay).await.events, 1);
    assert_eq!(c.state(1).await.sum, 5);
}

#[tokio::test]
async fn a_node_waits_for_the_events_of_a_token() {
    let (a, b) = (node("a").await, node("b").await);
    a.add(1, 5).await;
    let token = a.replica.token().await.expect("a token");
    let text = serde_json::to_string(&token).expect("serializes");
    assert_eq!(serde_json::from_str::<Token>(&text).expect("deserializes"), token);
    let stale = b.replica.wait_for(&token, Duration::from_millis(20)).await.expect_err("not pulled yet");
    let dot = Dot { origin: a.origin().await, sequence: std::num::NonZeroU64::MIN };
    let expected = format!("this node has not received all events of the session yet: it lacks {dot}");
    assert_eq!(stale.to_string(), expected);
    assert!(matches!(stale, WaitError::Stale(_)), "{stale:?}");
    let waiting = {
        let (replica, token) = (b.replica.clone(), token.clone());
        tokio::spawn(async move { replica.wait_for(&token, Duration::from_secs(30)).await })
    };
    b.add(2, 1).await;
    b.pull(&a).await;
    waiting.await.expect("no panic").expect("the event arrived");
}

/// A store that was local becomes a replica without being rewritten.
#[tokio::test]
async fn events_from_before_the_replication_are_replicated() {
    let store = MemoryStore::new();
    let local = Repository::<Account>::new(Arc::new(store.clone()));
    for amount in [1, 10] {
        local.execute(&1, add(amount)).await.expect("executed");
    }
    let a = start("a", store, options("a")).await;
    let (b, c) = (node("b").await, node("c").await);
    b.add(1, 100).await;
    assert_eq!(b.pull(&a).await.events, 2);
    assert_eq!(c.pull(&b).await.events, 3, "through B");
    a.pull(&b).await;
    a.add(1, 1000).await;
    for node in [&b, &c] {
        node.pull(&a).await;
    }
    for node in [&a, &b, &c] {
        assert_eq!(node.state(1).await.sum, 1111);
        let (own, first) = (node.accounts.load(&1).await.expect("loaded"), a.accounts.load(&1).await.expect("loaded"));
        assert_eq!(own.version(), first.version(), "node {}", node.name);
    }
    let a = a.restart(options("a")).await;
    assert_eq!(a.replica.knowledge().await.expect("read"), b.replica.knowledge().await.expect("read"));
}

#[tokio::test]
async fn only_one_store_of_a_group_may_begin_with_events() {
    let old = |amount| async move {
        let store = MemoryStore::new();
        let local = Repository::<Account>::new(Arc::new(store.clone()));
        local.execute(&1, add(amount)).await.expect("executed");
        store
    };
    let a = start("a", old(1).await, options("a")).await;
    let b = start("b", old(2).await, options("b")).await;
    let error = b.try_pull(&a).await.expect_err("two geneses");
    assert!(matches!(error, PullError::Refused(Refusal::Forked { .. })), "{error:?}");
    let c = node("c").await;
    c.pull(&a).await;
    // An event that was written without the replica, by another program.
    let without_hook = c.store.copy(c.store.log_id());
    let local = Repository::<Account>::new(Arc::new(without_hook.clone()));
    local.execute(&2, add(3)).await.expect("executed");
    let error = without_hook.with_hook(options("c").hook()).await.expect_err("refused");
    let StartHookError::Prepare { source, .. } = error else { panic!("{error}") };
    assert!(source.to_string().starts_with("stream \"account-2\" has events from before"), "{source}");
}

/// Events that a rule had hidden before the replication, and that a scavenge removed, are a gap for other nodes.
#[tokio::test]
async fn removed_events_are_gaps() {
    let store = MemoryStore::new();
    let local = Repository::<Account>::new(Arc::new(store.clone())).without_snapshots();
    for id in [1, 2, 1] {
        local.execute(&id, add(1)).await.expect("executed");
    }
    let a = start("a", store.clone(), options("a")).await;
    // The hook refuses the deletion of a replicated stream, so an older program deletes it.
    let without_hook = a.store.copy(a.store.log_id());
    let stream = StreamId::new("account-1").expect("a name");
    delete_stream(&without_hook, &stream, DeleteKind::Hard, ExpectedRevision::Any, retention::Note::default())
        .await
        .expect("deleted");
    without_hook.scavenge(&Scavenge::default()).await.expect("scavenged");
    let a = start("a", without_hook, options("a")).await;
    a.add(2, 5).await;
    let b = node("b").await;
    let pulled = b.pull(&a).await;
    assert_eq!((pulled.events, pulled.is_last), (2, true));
    assert_eq!(b.replica.knowledge().await.expect("read"), a.replica.knowledge().await.expect("read"));
    assert_eq!((b.state(2).await.sum, b.pull(&a).await.events), (6, 0));
    let c = node("c").await;
    assert_eq!(c.pull(&b).await.events, 2, "B forwards the gap");
    assert_eq!(c.replica.knowledge().await.expect("read"), a.replica.knowledge().await.expect("read"));
}

/// R10: one node cannot hide events of a replicated stream from itself.
#[tokio::test]
async fn the_retention_of_replicated_streams_cannot_be_changed_on_one_node() {
    let a = node("a").await;
    a.add(1, 1).await;
    let rule = Rule { max_count: Some(1), ..Rule::default() };
    let stream = StreamId::new("account-1").expect("a name");
    for scope in [Scope::Stream(stream.clone()), Scope::Category(stream.category())] {
        let error =
            a.store.commit(Commit::set_rule(scope, rule, retention::Note::default())).await.expect_err("refused");
        assert!(matches!(refusal(error), Refusal::Retention { .. }));
    }
    let deleted =
        delete_stream(&a.store, &stream, DeleteKind::Soft, ExpectedRevision::Any, retention::Note::default()).await;
    assert!(matches!(refusal(deleted.expect_err("refused")), Refusal::Retention { .. }));
    let other = Scope::Stream(StreamId::new("draft-1").expect("a name"));
    a.store.commit(Commit::set_rule(other, rule, retention::Note::default())).await.expect("a local stream");
}

fn refusal(error: CommitError) -> Refusal {
    match error {
        CommitError::Rejected(error) => *error.downcast::<Refusal>().expect("a refusal of the replica"),
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_local_event_of_a_replicated_stream_has_no_stamp_and_no_unique_key() {
    let a = node("a").await;
    let stream = StreamId::new("account-1").expect("a name");
    let event = || NewEvent::json(EventType::new("added").expect("a name"), "5");
    let claiming = event().claiming(UniqueKey::new("email", "ada@example.org").expect("a key"));
    let error = a.store.commit(Commit::to(&stream, ExpectedRevision::Any, [claiming])).await.expect_err("refused");
    assert!(matches!(refusal(error), Refusal::UniqueKey { .. }));
    a.add(1, 1).await;
    let read = a.store.read_stream(StreamRead::new(stream.clone())).await.expect("read").collect().await.expect("read");
    let mut stamped = event();
    stamped.data.stamp.clone_from(&read[0].data.stamp);
    let error = a.store.commit(Commit::to(&stream, ExpectedRevision::Any, [stamped])).await.expect_err("refused");
    assert!(matches!(refusal(error), Refusal::Stamped { .. }));
    // A repeat of a commit is recognized, although its events have no stamps.
    let commit = Commit::to(&stream, ExpectedRevision::Any, [event()]);
    let first = a.store.commit(commit.clone()).await.expect("written");
    let again = a.store.commit(commit).await.expect("repeated");
    assert_eq!((again.repeated, again.events), (true, first.events));
    assert_eq!(a.replica.knowledge().await.expect("read").clock().iter().next().map(|dot| dot.sequence.get()), Some(2));
}

/// Two nodes run with copies of one directory, so both use one origin.
#[tokio::test]
async fn two_nodes_with_one_origin_are_detected() {
    let a = node("a").await;
    a.add(1, 1).await;
    let copy = start("a", a.store.copy(a.store.log_id()), options("a")).await;
    a.add(1, 2).await;
    copy.add(1, 3).await;
    let b = node("b").await;
    b.pull(&a).await;
    // A page has only events that the target lacks, so it names the last event that both have.
    let error = b.try_pull(&copy).await.expect_err("forked");
    assert!(matches!(error, PullError::Refused(Refusal::Forked { .. })), "{error:?}");
    let everything = everything();
    let page = copy.replica.source().page(&everything).await.expect("a page");
    let page = Page { ids: Vec::new(), ..page };
    let error = b.replica.pull(&OnePage(page.clone()), Duration::ZERO).await.expect_err("forked");
    assert!(matches!(error, PullError::Refused(Refusal::Forked { .. })), "{error:?}");
    let c = a.restart(options("a")).await;
    copy.add(1, 4).await;
    let page = Page { ids: Vec::new(), ..copy.replica.source().page(&everything).await.expect("a page") };
    let items = page.items.iter().skip(2).cloned().collect();
    let error =
        c.replica.pull(&OnePage(Page { items, is_last: true, ..page }), Duration::ZERO).await.expect_err("own origin");
    assert!(matches!(error, PullError::Refused(Refusal::OwnOrigin { .. })), "{error:?}");
}

/// Returns the request of everything that a peer has.
fn everything() -> Pull {
    let (knowledge, filter) = (Knowledge::new(), StreamFilter::all());
    let sender = Sender::now("x", OriginId::new(1));
    Pull { sender, knowledge, filter, cursor: None, max_bytes: 1 << 20, wait: Duration::ZERO }
}

#[tokio::test]
async fn an_event_far_ahead_of_the_clock_waits() {
    let (a_clock, b_clock) = {
        let clock = || Arc::new(ManualClock::at("2026-01-31T12:00:00Z".parse().expect("a time")));
        (clock(), clock())
    };
    let a = start("a", MemoryStore::with_clock(a_clock.clone()), options("a").with_clock(a_clock.clone())).await;
    let b = start("b", MemoryStore::with_clock(b_clock.clone()), options("b").with_clock(b_clock.clone())).await;
    a.add(1, 1).await;
    a_clock.advance(Duration::from_secs(61));
    a.add(1, 2).await;
    let c = start("c", MemoryStore::with_clock(b_clock.clone()), options("c").with_clock(b_clock.clone())).await;
    c.add(2, 1).await;
    a.pull(&c).await;
    let error = b.try_pull(&a).await.expect_err("ahead");
    assert!(matches!(error, PullError::Refused(Refusal::ClockAhead { .. })), "{error:?}");
    assert_eq!((b.state(1).await.sum, b.events().await), (1, 1), "the event before it is stored, and none after it");
    b_clock.advance(Duration::from_secs(1));
    assert_eq!(b.pull(&a).await.events, 2);
    // The events of B follow those that it has received, although its clock does not.
    b.add(1, 4).await;
    assert!(b_clock.now() < a_clock.now());
    let stream = StreamRead::new(StreamId::new("account-1").expect("a name"));
    let events = b.store.read_stream(stream).await.expect("read").collect().await.expect("read");
    assert!(events.is_sorted_by_key(RecordedEvent::canonical_key), "{events:#?}");
    assert_eq!(b.state(1).await.sum, 7);
}

#[tokio::test]
async fn a_store_has_one_name() {
    let a = node("a").await;
    let store = a.store.copy(a.store.log_id());
    let error = store.with_hook(options("b").hook()).await.expect_err("another name");
    let StartHookError::Prepare { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.to_string(), "the store belongs to the node \"a\", expected \"b\"; open it under its name");
    let error = Replica::new(Arc::new(MemoryStore::new())).expect_err("no hook");
    assert!(error.to_string().contains("ReplicaOptions::hook"), "{error}");
}

#[tokio::test]
async fn a_hostile_page_is_refused_whole() {
    let (a, b) = (node("a").await, node("b").await);
    a.add(1, 1).await;
    a.add(1, 2).await;
    let everything = everything();
    let page = a.replica.source().page(&everything).await.expect("a page");
    let first = |change: &dyn Fn(&mut es_replication::ForeignEvent)| {
        let mut page = page.clone();
        let Some(es_replication::Item::Commit(events)) = page.items.first_mut() else { panic!("a commit") };
        change(&mut events[0]);
        page
    };
    let without_stamp = first(&|event| event.data.stamp = None);
    let reserved = first(&|event| event.stream = StreamId::new("es.retention").expect("a name"));
    let with_key = first(&|event| {
        let key = UniqueKey::new("email", "ada@example.org").expect("a key");
        event.data.keys = NewEvent::json(EventType::new("x").expect("a name"), "1").claiming(key).data.keys;
    });
    for page in [without_stamp, reserved, with_key] {
        let error = b.replica.pull(&OnePage(page), Duration::ZERO).await.expect_err("invalid");
        assert!(matches!(error, PullError::Commit(CommitError::Invalid(_))), "{error:?}");
    }
    let mut skipped = page.clone();
    skipped.items.remove(0);
    let error = b.replica.pull(&OnePage(skipped), Duration::ZERO).await.expect_err("a cause is missing");
    assert!(matches!(error, PullError::Refused(Refusal::Dependency { .. })), "{error:?}");
    let mut gap = page.clone();
    let sequence = |n| std::num::NonZeroU64::new(n).expect("from 1");
    let reason = GapReason::Removed;
    let (origin, from, through) = (a.origin().await, sequence(2), sequence(2));
    gap.items = vec![es_replication::Item::Gap { origin, from, through, reason }];
    let error = b.replica.pull(&OnePage(gap.clone()), Duration::ZERO).await.expect_err("a gap after missing events");
    assert!(matches!(error, PullError::Refused(Refusal::Gap { .. })), "{error:?}");
    let through = std::num::NonZeroU64::MAX;
    gap.items = vec![es_replication::Item::Gap { origin: OriginId::new(9), from: sequence(1), through, reason }];
    let error = b.replica.pull(&OnePage(gap), Duration::ZERO).await.expect_err("a gap that the peer cannot know");
    assert!(matches!(error, PullError::Peer(PeerError::Invalid(_))), "{error:?}");
    let backwards = {
        let mut page = page.clone();
        let Some(es_replication::Item::Commit(events)) = page.items.last_mut() else { panic!("a commit") };
        if let Some(stamp) = &mut events[0].data.stamp {
            stamp.time = es_core::model::HybridTime::from_bits(1);
        }
        page
    };
    let error = b.replica.pull(&OnePage(backwards), Duration::ZERO).await.expect_err("a time that goes back");
    assert!(matches!(error, PullError::Refused(Refusal::TimeOrder { .. })), "{error:?}");
    assert_eq!(b.events().await, 1, "the valid commit before it is stored");
    assert_eq!(b.pull(&a).await.events, 1, "a correct peer continues");
}

/// Returns the error with which a replica on this store does not start.
async fn start_error(store: MemoryStore, options: ReplicaOptions) -> String {
    match store.with_hook(options.hook()).await.expect_err("refused") {
        StartHookError::Prepare { source, .. } => source.to_string(),
        error => panic!("{error}"),
    }
}

/// The sequences of adopted events follow the order of the log. If an aggregate were adopted later, its older events
/// would follow newer ones, and a new node would take the events in between for removed.
#[tokio::test]
async fn an_aggregate_with_older_events_is_not_adopted_later() {
    let store = MemoryStore::new();
    let event = || NewEvent::json(EventType::new("added").expect("a name"), "5");
    for name in ["note-1", "account-1"] {
        let stream = StreamId::new(name).expect("a name");
        store.commit(Commit::to(&stream, ExpectedRevision::Any, [event()])).await.expect("written");
    }
    let a = start("a", store.copy(store.log_id()), options("a")).await;
    let both = options("a").aggregate::<Note>().expect("a category");
    let error = start_error(a.store.copy(a.store.log_id()), both.clone()).await;
    assert!(error.starts_with("stream \"note-1\" has an event without a stamp at position 1"), "{error}");
    let (a, b) = (start("a", store, both).await, node("b").await);
    assert_eq!(b.pull(&a).await.events, 2, "all aggregates were declared at once");
}

/// An aggregate that not every node declares.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "note", id = u64, event = AccountEvent, consistency = "eventual")]
struct Note;

impl Evolve for Note {
    fn initial(_: &u64) -> Self {
        Self
    }
    fn evolve(&mut self, _: &AccountEvent, _: &EventContext<'_>) {}
}

/// A node has local events of an aggregate that another node replicates. It forwards the events of the other node, and
/// adopts its own when it declares the aggregate.
#[tokio::test]
async fn local_events_of_a_received_aggregate_are_adopted_when_it_is_declared() {
    let stream = |id: u64| StreamId::new(format!("note-{id}")).expect("a name");
    let event = || NewEvent::json(EventType::new("added").expect("a name"), "5");
    let b = node("b").await;
    b.store.commit(Commit::to(&stream(1), ExpectedRevision::Any, [event()])).await.expect("written");
    let a = start("a", MemoryStore::new(), options("a").aggregate::<Note>().expect("a category")).await;
    a.store.commit(Commit::to(&stream(2), ExpectedRevision::Any, [event()])).await.expect("written");
    b.pull(&a).await;
    let c = node("c").await;
    assert_eq!(c.pull(&b).await.events, 1, "only the event of A");
    let b = b.restart(options("b").aggregate::<Note>().expect("a category")).await;
    assert_eq!(c.pull(&b).await.events, 1, "the event of B");
    assert_eq!(c.replica.knowledge().await.expect("read"), b.replica.knowledge().await.expect("read"));
}

#[tokio::test]
async fn a_store_with_rules_or_imported_events_does_not_become_a_replica() {
    let stream = StreamId::new("account-1").expect("a name");
    let rule = Rule { max_count: Some(1), ..Rule::default() };
    for scope in [Scope::Stream(stream.clone()), Scope::Category(stream.category())] {
        let store = MemoryStore::new();
        store.commit(Commit::set_rule(scope, rule, retention::Note::default())).await.expect("written");
        let error = start_error(store, options("a")).await;
        assert!(error.ends_with("an aggregate that is replicated must have neither"), "{error}");
    }
    let a = node("a").await;
    a.add(1, 5).await;
    let import = MemoryStore::new();
    let read = a.store.read_stream(StreamRead::new(stream.clone())).await.expect("read").collect().await.expect("read");
    let copy = NewEvent { data: read[0].data.clone(), occurred_at: None };
    import.commit(Commit::to(&stream, ExpectedRevision::Any, [copy])).await.expect("imported");
    let error = start_error(import, options("b")).await;
    assert!(error.contains("an imported event with a stamp at position 1"), "{error}");
    a.store
        .commit(Commit::clear_rule(Scope::Stream(stream), retention::Note::default()))
        .await
        .expect("it hides nothing");
}

/// Unique keys are checked on one node. Those of adopted events stay there.
#[tokio::test]
async fn adopted_events_are_replicated_without_their_unique_keys() {
    let store = MemoryStore::new();
    let key = UniqueKey::new("email", "ada@example.org").expect("a key");
    let event = NewEvent::json(EventType::new("added").expect("a name"), "5").claiming(key.clone());
    let stream = StreamId::new("account-1").expect("a name");
    store.commit(Commit::to(&stream, ExpectedRevision::Any, [event])).await.expect("written");
    let (a, b) = (start("a", store, options("a")).await, node("b").await);
    assert_eq!(b.pull(&a).await.events, 1);
    assert_eq!(
        (a.store.owner(&key).await.expect("read"), b.store.owner(&key).await.expect("read")),
        (Some(stream), None)
    );
}

/// The events of a unit of work do not name its commands, so its id is known on one node only.
#[tokio::test]
async fn a_unit_of_work_can_be_repeated_on_another_node() {
    let (a, b) = (node("a").await, node("b").await);
    for node in [&a, &b] {
        let unit = UnitOfWork::new(node.replica.store()).execute(&node.accounts, 1, add(1)).execute(
            &node.accounts,
            1,
            add(10),
        );
        unit.with_id(CommandId::new("request-1").expect("a name")).await.expect("executed");
        b.pull(&a).await;
    }
    assert_eq!(b.state(1).await.sum, 22);
}

/// A stamp on an event of any local commit would change what the node knows of the origin.
#[tokio::test]
async fn a_copied_stamp_is_refused_in_every_stream() {
    let a = node("a").await;
    for _ in 0..3 {
        a.add(1, 1).await;
    }
    let stream = StreamRead::new(StreamId::new("account-1").expect("a name"));
    let read = a.store.read_stream(stream).await.expect("read").collect().await.expect("read");
    let mut copy = NewEvent::json(EventType::new("audited").expect("a name"), "5");
    copy.data.stamp.clone_from(&read[0].data.stamp);
    let audit = StreamId::new("audit-1").expect("a name");
    let error = a.store.commit(Commit::to(&audit, ExpectedRevision::Any, [copy])).await.expect_err("refused");
    assert!(matches!(refusal(error), Refusal::Stamped { .. }));
    assert_eq!(a.replica.knowledge().await.expect("read").clock().iter().next().map(|dot| dot.sequence.get()), Some(3));
}
