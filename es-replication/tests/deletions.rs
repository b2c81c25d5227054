#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]
//! The deletion of a stream on all nodes.

use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::Outcome;
use es_core::prelude::*;
use es_core::retention::{DeleteKind, Note, Rule, Scope};
use es_core::store::delete_stream;
use es_core::store::memory::MemoryStore;
use es_core::testing::{Fault, FaultyStore};
use es_core::{Commit, CommitError, ExecuteError, StreamId};
use es_replication::{DeleteError, LocalPeer, PullError, Refusal, Replica, ReplicaOptions};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "noted")]
struct Noted(String);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "task", id = u64, event = Noted, consistency = "causal", conflict = "canonical", snapshot(every = 2)
)]
struct Task {
    notes: Vec<String>,
}

impl Evolve for Task {
    fn initial(_: &u64) -> Self {
        Self::default()
    }
    fn evolve(&mut self, Noted(text): &Noted, _: &EventContext<'_>) {
        self.notes.push(text.clone());
    }
}

/// Adds a note to a task. The first one creates it.
#[derive(Clone, Serialize)]
struct Add(&'static str);

/// Creates a task, unless it exists.
#[derive(Clone)]
struct Create(&'static str);

impl Decide<Add> for Task {
    type Rejection = &'static str;
    fn decide(&self, Add(text): Add, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Noted(text.to_owned()).into())
    }
}

impl Decide<Create> for Task {
    type Rejection = &'static str;
    fn decide(&self, Create(text): Create, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        if at.revision().is_some() { Err("the task exists") } else { Ok(Noted(text.to_owned()).into()) }
    }
}

/// An aggregate that one node decides.
#[derive(Clone, Debug, PartialEq, Aggregate)]
#[aggregate(category = "owned", id = u64, event = Noted, consistency = "causal", owner)]
struct Owned(usize);

impl Evolve for Owned {
    fn initial(_: &u64) -> Self {
        Self(0)
    }
    fn evolve(&mut self, _: &Noted, _: &EventContext<'_>) {
        self.0 += 1;
    }
}

impl Decide<Add> for Owned {
    type Rejection = &'static str;
    fn decide(&self, Add(text): Add, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Noted(text.to_owned()).into())
    }
}

struct Node {
    name: &'static str,
    store: MemoryStore,
    replica: Replica,
    tasks: Repository<Task>,
    owned: Repository<Owned>,
}

async fn node(name: &'static str) -> Node {
    start(name, MemoryStore::new()).await
}

async fn start(name: &'static str, store: MemoryStore) -> Node {
    let options = ReplicaOptions::new(name).with_confirm_timeout(Duration::from_millis(20));
    let options = options.aggregate::<Task>().and_then(ReplicaOptions::aggregate::<Owned>).unwrap();
    let store = store.with_hook(options.hook()).await.unwrap();
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let replica = Replica::new(Arc::clone(&shared)).unwrap();
    Node { name, store, replica, tasks: Repository::new(Arc::clone(&shared)), owned: Repository::new(shared) }
}

impl Node {
    async fn pull(&self, from: &Self) {
        let peer = LocalPeer::new(from.name, from.replica.source());
        while !self.replica.pull(&peer, Duration::ZERO).await.unwrap().is_last {}
    }

    async fn add(&self, text: &'static str) {
        self.tasks.execute(&1, Add(text)).await.unwrap();
    }

    async fn delete(&self) {
        let note = Note { by: Some("ada".to_owned()), reason: None };
        self.replica.delete(&stream(), note).await.unwrap();
    }

    async fn notes(&self) -> Vec<String> {
        let loaded = self.tasks.load(&1).await.unwrap();
        assert_eq!(loaded.revision.is_some(), !loaded.state.notes.is_empty(), "it exists if it has notes");
        let reopened = Repository::<Task>::new(Arc::new(self.store.clone())).load(&1).await.unwrap();
        assert_eq!((reopened.state, reopened.revision), (loaded.state.clone(), loaded.revision));
        loaded.state.notes
    }
}

fn stream() -> StreamId {
    Task::stream(&1).unwrap()
}

async fn exchange(nodes: &[&Node]) {
    for _ in nodes {
        for node in nodes {
            for peer in nodes.iter().filter(|peer| peer.name != node.name) {
                node.pull(peer).await;
            }
        }
    }
}

#[tokio::test]
async fn a_deletion_reaches_every_node_and_keeps_the_events_that_its_node_did_not_have() {
    let (a, b, c) = (node("a").await, node("b").await, node("c").await);
    a.add("first").await;
    exchange(&[&a, &b, &c]).await;
    // C is cut off and keeps writing.
    a.add("second").await;
    b.pull(&a).await;
    c.add("kept").await;
    b.delete().await;
    assert_eq!((b.notes().await, a.notes().await.len()), (vec![], 2));
    a.pull(&b).await;
    assert_eq!(a.notes().await, [""; 0]);
    exchange(&[&a, &b, &c]).await;
    for node in [&a, &b, &c] {
        assert_eq!(node.notes().await, ["kept"], "node {}", node.name);
    }
    // The second deletion covers everything.
    c.delete().await;
    exchange(&[&a, &b, &c]).await;
    for node in [&a, &b, &c] {
        assert_eq!(node.notes().await, [""; 0], "node {}", node.name);
    }
}

#[tokio::test]
async fn a_deleted_aggregate_is_created_again_on_any_node() {
    let (a, b) = (node("a").await, node("b").await);
    a.add("first").await;
    let before = a.tasks.load(&1).await.unwrap().version().unwrap();
    a.delete().await;
    b.pull(&a).await;
    let outdated = a.tasks.execute(&1, Add("x")).at_version(before).await;
    assert!(matches!(outdated, Err(ExecuteError::Conflict(_))), "{outdated:?}");
    b.tasks.execute(&1, Create("again")).await.unwrap();
    let exists = b.tasks.execute(&1, Create("twice")).await;
    assert!(matches!(exists, Err(ExecuteError::Rejected("the task exists"))), "{exists:?}");
    a.pull(&b).await;
    for node in [&a, &b] {
        assert_eq!(node.notes().await, ["again"], "node {}", node.name);
    }
    let [one, other] = [a.tasks.load(&1).await.unwrap().version(), b.tasks.load(&1).await.unwrap().version()];
    assert!(one.is_some() && one == other && one != Some(before));
}

/// The deletion of a deleted stream has no effect, also after it was created again and deleted.
#[tokio::test]
async fn a_repeated_deletion_writes_nothing() {
    let a = node("a").await;
    for text in ["first", "second"] {
        a.add(text).await;
        a.delete().await;
        let head = a.store.head().await.unwrap();
        a.delete().await;
        assert_eq!(a.store.head().await.unwrap(), head, "after {text:?}");
    }
}

/// A command that was executed before the deletion is not executed again.
#[tokio::test]
async fn the_result_of_a_command_outlives_the_deletion_of_its_aggregate() {
    let (a, b) = (node("a").await, node("b").await);
    let id = || CommandId::new("request-1").unwrap();
    a.tasks.execute(&1, Add("first")).with_id(id()).await.unwrap();
    a.delete().await;
    b.pull(&a).await;
    for node in [&a, &b] {
        let repeated = node.tasks.execute(&1, Add("first")).with_id(id()).await.unwrap();
        assert_eq!((repeated.outcome, repeated.events), (Outcome::Repeated, vec![Noted("first".to_owned())]));
        assert_eq!(node.notes().await, [""; 0], "node {}", node.name);
    }
}

/// A snapshot has events that a later deletion keeps: the state is folded again without it.
#[tokio::test]
async fn a_snapshot_with_deleted_events_is_not_used() {
    let (a, b) = (node("a").await, node("b").await);
    a.add("first").await;
    a.add("second").await;
    b.pull(&a).await;
    a.delete().await;
    b.add("third").await;
    b.add("fourth").await;
    b.notes().await;
    b.tasks.settle().await;
    b.pull(&a).await;
    assert_eq!(b.notes().await, ["third", "fourth"]);
}

#[tokio::test]
async fn a_stream_that_cannot_be_deleted_on_all_nodes_is_refused() {
    let (a, b) = (node("a").await, node("b").await);
    let delete = async |node: &Node, name: &str| {
        node.replica.delete(&StreamId::new(name).unwrap(), Note::default()).await.unwrap_err()
    };
    for name in ["draft-1", "es.membership", "es.retention-rules"] {
        let error = delete(&a, name).await;
        assert!(matches!(error, DeleteError::NotReplicated { .. }), "{error:?}");
        assert!(error.to_string().contains("delete_stream"), "{error}");
    }
    assert!(matches!(delete(&a, "task-1").await, DeleteError::NoEvents { .. }));
    a.owned.execute(&1, Add("first")).await.unwrap();
    b.pull(&a).await;
    let error = delete(&b, "owned-1").await;
    assert!(matches!(error, DeleteError::NotOwner(_)), "{error:?}");
    a.replica.delete(&Owned::stream(&1).unwrap(), Note::default()).await.unwrap();
    b.pull(&a).await;
    for node in [&a, &b] {
        let loaded = node.owned.load(&1).await.unwrap();
        assert_eq!((loaded.state, loaded.revision), (Owned(0), None), "node {}", node.name);
    }
    // The home stays, and creates it again.
    a.owned.execute(&1, Add("again")).await.unwrap();
    assert!(matches!(b.owned.execute(&1, Add("again")).await, Err(ExecuteError::NotOwner(_))));
}

/// A writer that appends between the read and the commit of the deletion is faster; the deletion covers its event, too.
#[tokio::test(start_paused = true)]
async fn a_deletion_covers_an_event_that_was_appended_while_it_was_decided() {
    let a = node("a").await;
    a.add("first").await;
    let faulty = Arc::new(FaultyStore::new(Arc::new(a.store.clone())));
    let replica = Replica::new(faulty.clone()).unwrap();
    faulty.at_commit(0, Fault::Delay(Duration::from_millis(50)));
    let stream = stream();
    let (deleted, ()) = tokio::join!(replica.delete(&stream, Note::default()), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        a.add("second").await;
    });
    deleted.unwrap();
    assert_eq!((a.notes().await, faulty.commits()), (vec![], 2), "it was decided again");
}

/// R10: the error says what to call instead.
#[tokio::test]
async fn a_local_deletion_of_a_replicated_stream_names_the_one_on_all_nodes() {
    let a = node("a").await;
    a.add("first").await;
    for kind in [DeleteKind::Soft, DeleteKind::Hard] {
        let error = delete_stream(&a.store, &stream(), kind, ExpectedRevision::Any, Note::default()).await.unwrap_err();
        let CommitError::Rejected(refusal) = &error else { panic!("{error:?}") };
        assert!(refusal.to_string().contains("`Replica::delete`"), "{refusal}");
    }
    assert_eq!(a.notes().await, ["first"]);
}

/// B has a rule from before it received the category, which it does not declare. It must not forward the hidden event
/// as removed.
#[tokio::test]
async fn a_copy_that_a_rule_would_hide_is_refused_until_the_rule_is_cleared() {
    let options = ReplicaOptions::new("b").with_confirm_timeout(Duration::from_millis(20));
    let store = MemoryStore::new();
    let rule = Rule { max_count: Some(1), ..Rule::default() };
    store.commit(Commit::set_rule(Scope::Stream(stream()), rule, Note::default())).await.unwrap();
    let store = store.with_hook(options.hook()).await.unwrap();
    let replica = Replica::new(Arc::new(store.clone())).unwrap();
    let a = node("a").await;
    a.tasks.execute(&2, Add("other")).await.unwrap();
    a.add("first").await;
    let peer = LocalPeer::new("a", a.replica.source());
    let error = replica.pull(&peer, Duration::ZERO).await.unwrap_err();
    let PullError::Refused(Refusal::Rule { stream: refused, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(*refused, stream());
    // The other stream was stored, so the category is replicated here. The rule can be cleared nevertheless.
    let set = store.commit(Commit::set_rule(Scope::Stream(stream()), rule, Note::default())).await;
    assert!(matches!(set, Err(CommitError::Rejected(_))), "{set:?}");
    store.commit(Commit::clear_rule(Scope::Stream(stream()), Note::default())).await.unwrap();
    assert_eq!(replica.pull(&peer, Duration::ZERO).await.unwrap().events, 1);
}
