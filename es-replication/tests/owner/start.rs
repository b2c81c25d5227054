//! Which node decides after a restart, after a restore, and on events from before the replication.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::model::{LogId, OriginId};
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, ExecuteError};
use es_replication::{Claim, Confirmation, LocalPeer, Page, Peer, PeerError, Pull, Replica, ReplicaOptions};

use crate::domain::{Account, Node, Pay, account, paid};

/// A member that does not answer.
#[derive(Debug)]
struct SilentPeer;

#[async_trait]
impl Peer for SilentPeer {
    fn name(&self) -> &str {
        "rome"
    }
    async fn pull(&self, _: Pull) -> Result<Page, PeerError> {
        Err(PeerError::Unreachable("it is down".into()))
    }
    async fn confirm(&self, _: Claim) -> Result<Confirmation, PeerError> {
        Err(PeerError::Unreachable("it is down".into()))
    }
}

fn options(members: impl IntoIterator<Item = Arc<dyn Peer>>) -> ReplicaOptions {
    let options = ReplicaOptions::new("paris").with_confirm_timeout(Duration::from_millis(20));
    members.into_iter().fold(options, ReplicaOptions::member)
}

async fn restart(node: &Node, members: impl IntoIterator<Item = Arc<dyn Peer>>) -> Node {
    Node::start("paris", node.store.copy(node.store.log_id()), options(members)).await
}

async fn is_home(node: &Node, id: u64) -> bool {
    match node.accounts.execute(&id, Pay(1)).await {
        Ok(_) => true,
        Err(ExecuteError::NotOwner(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_home_that_restarts_with_its_origin_decides() {
    let (paris, oslo) = (Node::open("paris").await, Node::open("oslo").await);
    paris.accounts.execute(&1, Pay(1)).await.expect("created");
    oslo.pull(&paris).await;
    let paris = restart(&paris, [oslo.peer()]).await;
    assert!(is_home(&paris, 1).await);
}

/// Rome is down while Paris restarts, so Paris cannot know whether it has lost events, and takes a new origin. It does
/// not decide on its former streams until all members have confirmed that it has every event.
#[tokio::test]
async fn a_home_with_a_new_origin_decides_after_all_members_have_confirmed() {
    let (paris, oslo, rome) = (Node::open("paris").await, Node::open("oslo").await, Node::open("rome").await);
    paris.accounts.execute(&1, Pay(1)).await.expect("created");
    oslo.pull(&paris).await;
    let before = paris.store.copy(paris.store.log_id());
    paris.accounts.execute(&1, Pay(1)).await.expect("executed");
    rome.pull(&paris).await;

    // Paris starts on an older copy of its directory, which lacks the last event. Rome has it, and does not answer.
    let paris = Node { store: before, ..paris };
    let paris = restart(&paris, [oslo.peer(), Arc::new(SilentPeer) as Arc<dyn Peer>]).await;
    assert!(!is_home(&paris, 1).await, "it would decide without the lost event");
    assert!(is_home(&paris, 2).await, "it creates other aggregates");
    let silent: Arc<dyn Peer> = Arc::new(SilentPeer);
    assert!(paris.replica.confirm_homes(&[oslo.peer(), silent]).await.is_err());
    assert!(!is_home(&paris, 1).await);
    // Rome is back, and has an event that Paris lacks.
    let members = [oslo.peer(), rome.peer()];
    assert!(!paris.replica.confirm_homes(&members).await.expect("answers"));
    assert!(!is_home(&paris, 1).await);
    paris.pull(&rome).await;
    assert!(paris.replica.confirm_homes(&members).await.expect("answers"));
    assert!(is_home(&paris, 1).await);
    let loaded = paris.accounts.load(&1).await.expect("loaded");
    assert_eq!((loaded.state.sum, loaded.state.concurrent), (3, 0));
    // It is stored.
    let paris = restart(&paris, members.clone()).await;
    assert!(is_home(&paris, 1).await && is_home(&paris, 2).await);
    assert!(paris.replica.confirm_homes(&members).await.expect("nothing to confirm"));
    // Another restart beside a silent member concerns the streams of both origins.
    let paris = restart(&paris, [Arc::new(SilentPeer) as Arc<dyn Peer>]).await;
    assert!(!is_home(&paris, 1).await && !is_home(&paris, 2).await);
    assert!(paris.replica.confirm_homes(&members).await.expect("answers"));
    assert!(is_home(&paris, 1).await && is_home(&paris, 2).await);
}

/// Events of a restored node may be lost although every member confirms, so an operator decides.
#[tokio::test]
async fn a_restored_node_is_not_the_home_of_its_former_streams() {
    let (paris, oslo) = (Node::open("paris").await, Node::open("oslo").await);
    paris.accounts.execute(&1, Pay(1)).await.expect("created");
    oslo.pull(&paris).await;
    let paris = Node::start("paris", paris.store.copy(LogId::new()), options([oslo.peer()])).await;
    assert!(!is_home(&paris, 1).await);
    assert!(paris.replica.confirm_homes(&[oslo.peer()]).await.expect("answers"));
    assert!(!is_home(&paris, 1).await);
    paris.replica.take_over(&account(1)).await.expect("taken over");
    assert!(is_home(&paris, 1).await);
    oslo.pull(&paris).await;
    assert_eq!(oslo.replica.home(&account(1)).await.expect("read"), Some(paris.origin().await));
}

/// An aggregate of one node becomes a replicated one. The node that has its events decides.
#[tokio::test]
async fn the_node_with_events_from_before_the_replication_decides_on_their_streams() {
    let store = MemoryStore::new();
    for amount in [1, 2] {
        store.commit(Commit::new().append(account(1), paid(amount))).await.expect("a local event");
    }
    let (paris, oslo) = (Node::start("paris", store, options([])).await, Node::open("oslo").await);
    oslo.pull(&paris).await;
    assert_eq!(oslo.replica.home(&account(1)).await.expect("read"), Some(OriginId::GENESIS));
    assert!(!is_home(&oslo, 1).await);
    assert!(is_home(&paris, 1).await);
    let paris = restart(&paris, [oslo.peer()]).await;
    assert!(is_home(&paris, 1).await);
    let at_oslo = oslo.forwarding(&[&paris]);
    let _at_paris = paris.forwarding(&[&oslo]);
    let forwarded = at_oslo.execute(&1, Pay(5), CommandId::new("c").expect("an id")).await.expect("forwarded");
    assert_eq!(forwarded.node.as_deref(), Some("paris"));
    assert_eq!(paris.sum(1).await, 10);
}

/// The same aggregate without an owner, as an earlier version of a program declares it.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(
    category = "account", id = u64, event = crate::domain::Paid, consistency = "causal", conflict = "canonical"
)]
struct Unowned;

#[tokio::test]
async fn an_aggregate_gets_an_owner_later() {
    let (paris, oslo) = (MemoryStore::new(), MemoryStore::new());
    {
        let mut replicas = Vec::new();
        for (name, store) in [("paris", &paris), ("oslo", &oslo)] {
            let options = ReplicaOptions::new(name).aggregate::<Unowned>().expect("a name");
            let store = store.clone().with_hook(options.hook()).await.expect("started");
            replicas.push((store.clone(), Replica::new(Arc::new(store)).expect("a replica")));
        }
        let [(of_paris, at_paris), (of_oslo, at_oslo)] = &replicas[..] else { panic!("two replicas") };
        // More streams than are written at once; oslo writes to one of them.
        for id in 0..1_005 {
            of_paris.commit(Commit::new().append(account(id), paid(1))).await.expect("written");
        }
        let peer = LocalPeer::new("paris", at_paris.source());
        while !at_oslo.pull(&peer, Duration::ZERO).await.expect("pulled").is_last {}
        of_oslo.commit(Commit::new().append(account(7), paid(1))).await.expect("every node decides");
        of_oslo.commit(Commit::new().append(account(2_000), paid(1))).await.expect("every node decides");
    }
    let copy = |store: &MemoryStore| store.copy(store.log_id());
    let paris = Node::start("paris", copy(&paris), ReplicaOptions::new("paris")).await;
    let oslo = Node::start("oslo", copy(&oslo), ReplicaOptions::new("oslo")).await;
    for id in [0, 7, 1_004] {
        assert!(is_home(&paris, id).await && !is_home(&oslo, id).await, "{id}");
    }
    assert!(is_home(&oslo, 2_000).await);
    let homes = oslo.replica.homes(None, 5_000).await.expect("read");
    assert_eq!(homes.len(), 1_006);
    assert_eq!(Account::CATEGORY, Unowned::CATEGORY);
}
