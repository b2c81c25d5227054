//! An erasure destroys the keys on every node, also on nodes that are away, and no late answer undoes it.

use std::sync::Arc;
use std::time::Duration;

use es_core::consumer::Subscription;
use es_core::prelude::*;
use es_core::retention::{Erasure, Note, Scope};
use es_core::store::QueryItem;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, CommitError, LogRead, StreamId, retention};
use es_personal::{FileKeyStore, KeyState, KeyStore, MemoryKeyStore, Opened, SealError};
use es_replication::StreamFilter;

use crate::network::Network;
use crate::nodes::{EMAIL, Node, subject};

const GROUP: [&str; 3] = ["a", "b", "c"];

/// Returns the subjects whose erasures a node has recorded, in the order of its log.
async fn erased(node: &Node) -> Vec<String> {
    let read = LogRead::matching(QueryItem::erasures());
    let events = node.store.read_log(read).await.unwrap().collect().await.unwrap();
    events.iter().map(|event| Erasure::of(event).unwrap().name().to_owned()).collect()
}

/// The erasure travels as an event, also through a third node, to a node that was away and to one that withholds every
/// stream. Values that another node has sealed in the meantime are erased, too.
#[tokio::test]
async fn an_erasure_destroys_the_keys_on_every_node() {
    let network = Network::new(1);
    let a = Node::open(&network, "a", &GROUP).await;
    let b = Node::open(&network, "b", &GROUP).await;
    let parts = || (MemoryStore::new(), Arc::new(MemoryKeyStore::new()) as Arc<dyn KeyStore>);
    let c = Node::open_with(&network, "c", &GROUP, parts(), StreamFilter::none()).await;
    let first = a.register(1, "ada@example.org").await;
    let other = a.register(2, "bob@example.org").await;
    for node in [&b, &c] {
        assert_eq!(node.open_value(&first).await.unwrap(), Opened::Value("ada@example.org".to_owned()));
        assert_eq!(node.open_value(&other).await.unwrap(), Opened::Value("bob@example.org".to_owned()));
    }

    network.cut("a", "b");
    network.cut("a", "c");
    a.erase(1).await;
    assert_eq!(a.open_value(&first).await.unwrap(), Opened::Erased);
    // The other nodes do not know yet.
    let later = b.register(1, "later@example.org").await;
    assert_eq!(b.open_value(&first).await.unwrap(), Opened::Value("ada@example.org".to_owned()));

    network.heal("a", "b");
    b.pull("a").await.unwrap();
    b.wait_until_destroyed(1).await;
    c.pull("b").await.unwrap();
    c.wait_until_destroyed(1).await;
    a.pull("b").await.unwrap();
    for node in [&a, &b, &c] {
        assert_eq!(erased(node).await, ["person-1"], "{}", node.name);
        for sealed in [&first, &later] {
            assert_eq!(node.open_value(sealed).await.unwrap(), Opened::Erased, "{}", node.name);
        }
        let sealed = node.personal.seal(&EMAIL, &subject(1), &"x".to_owned()).await;
        assert!(matches!(sealed, Err(SealError::Erased { .. })), "{}", node.name);
        assert_eq!(node.open_value(&other).await.unwrap(), Opened::Value("bob@example.org".to_owned()));
    }
}

/// Each node records the erasure of the subjects itself, with the erasure of the stream. It replicates only that.
#[tokio::test]
async fn the_erasure_of_a_stream_destroys_the_keys_of_its_subjects_on_every_node() {
    let network = Network::new(11);
    let [a, b, c] = [
        Node::open(&network, "a", &GROUP).await,
        Node::open(&network, "b", &GROUP).await,
        Node::open(&network, "c", &GROUP).await,
    ];
    let sealed = a.register(1, "ada@example.org").await;
    b.pull("a").await.unwrap();
    assert_eq!(b.open_value(&sealed).await.unwrap(), Opened::Value("ada@example.org".to_owned()));

    let stream = StreamId::new("customer-1").unwrap();
    a.replica.erase(&stream, [subject(1)], Note::default()).await.unwrap();
    b.pull("a").await.unwrap();
    // The log of a restarted node has an erasure that is not replicated.
    let keys = Arc::clone(&b.local);
    let b = b.restart(&GROUP, keys).await;
    c.pull("b").await.unwrap();
    a.pull("c").await.unwrap();
    for node in [&a, &b, &c] {
        node.wait_until_destroyed(1).await;
        // Node c has no event of the stream to delete.
        let erasures = erased(node).await;
        assert_eq!(erasures.iter().filter(|name| *name == "person-1").count(), 1, "{}: {erasures:?}", node.name);
        assert_eq!(node.open_value(&sealed).await.unwrap(), Opened::Erased, "{}", node.name);
        assert!(node.customer(1).await.is_empty(), "{}", node.name);
    }
}

/// A node receives the erasure before the answer to its request for the key. The key is not stored, and it never is.
#[tokio::test]
async fn a_key_that_arrives_after_the_erasure_is_not_stored() {
    let network = Network::new(2);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let a = Node::open(&network, "a", &GROUP[..2]).await;
    let keys: Arc<dyn KeyStore> = Arc::new(FileKeyStore::open(&path).await.unwrap());
    let b = Node::open_with(&network, "b", &GROUP[..2], (MemoryStore::new(), keys), StreamFilter::all()).await;
    let sealed = a.register(1, "ada@example.org").await;
    let key = a.sealing_key(1).await;
    network.hold_keys(true);
    let personal = b.personal.clone();
    let late = tokio::spawn(async move { personal.open(&EMAIL, &sealed).await });
    while network.answered() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    a.erase(1).await;
    b.pull("a").await.unwrap();
    b.wait_until_destroyed(1).await;
    assert!(!late.is_finished(), "the answer is late");
    network.hold_keys(false);
    assert_eq!(late.await.unwrap().unwrap(), Opened::Erased);
    assert_eq!(network.sent().len(), 1, "the key has arrived");
    assert_eq!(b.local_state(1, &key).await, KeyState::Destroyed);
    let mut files = std::fs::read_dir(&path).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let has_key = |content: Vec<u8>| content.windows(key.as_bytes().len()).any(|window| window == key.as_bytes());
    assert!(!files.any(has_key), "no file has the key");
}

/// A node that has not received the erasure asks one that has. It must not report a lost key: the person was erased.
#[tokio::test]
async fn a_peer_that_has_destroyed_the_key_answers_that_the_person_was_erased() {
    let network = Network::new(3);
    let (a, b) = (Node::open(&network, "a", &GROUP[..2]).await, Node::open(&network, "b", &GROUP[..2]).await);
    let sealed = a.register(1, "ada@example.org").await;
    let key = a.sealing_key(1).await;
    a.erase(1).await;
    assert_eq!(b.open_value(&sealed).await.unwrap(), Opened::Erased);
    // The record of the destruction comes with the erasure, and not from a peer.
    assert_eq!(b.local_state(1, &key).await, KeyState::Missing);
    b.pull("a").await.unwrap();
    b.wait_until_destroyed(1).await;
}

/// The erasure is in the log, so that it survives restarts: of the node that was away, and of the one that erased. Keys
/// of an old backup are destroyed at the next start.
#[tokio::test]
async fn an_erasure_survives_restarts_and_restored_keys() {
    let network = Network::new(4);
    let (a, b) = (Node::open(&network, "a", &GROUP[..2]).await, Node::open(&network, "b", &GROUP[..2]).await);
    let sealed = a.register(1, "ada@example.org").await;
    b.open_value(&sealed).await.unwrap();
    let key = a.sealing_key(1).await;
    let backup = async || {
        let keys = Arc::new(MemoryKeyStore::new());
        keys.insert(&subject(1), &key).await.unwrap();
        keys
    };
    a.erase(1).await;
    let a = a.restart(&GROUP[..2], backup().await).await;
    a.wait_until_destroyed(1).await;
    let b = b.restart(&GROUP[..2], backup().await).await;
    assert_eq!(b.open_value(&sealed).await.unwrap(), Opened::Value("ada@example.org".to_owned()), "not received yet");
    b.pull("a").await.unwrap();
    b.wait_until_destroyed(1).await;
    let b = b.restart(&GROUP[..2], backup().await).await;
    b.wait_until_destroyed(1).await;
    assert_eq!(b.open_value(&sealed).await.unwrap(), Opened::Erased);
}

/// Consumers on every node receive the erasure in order, once. The other events of the retention stay on their node.
#[tokio::test]
async fn an_erasure_is_the_only_event_of_the_retention_that_replicates() {
    let network = Network::new(5);
    let (a, b) = (Node::open(&network, "a", &GROUP[..2]).await, Node::open(&network, "b", &GROUP[..2]).await);
    let category = es_core::model::Category::new("draft").unwrap();
    let rule = retention::Rule { max_count: Some(1), ..retention::Rule::default() };
    a.store.commit(Commit::set_rule(Scope::Category(category), rule, Note::default())).await.unwrap();
    let draft = es_core::StreamId::new("draft-1").unwrap();
    let event = es_core::NewEvent::json(es_core::EventType::new("drafted").unwrap(), "{}");
    a.store.commit(Commit::to(&draft, ExpectedRevision::NoStream, [event])).await.unwrap();
    let deletion = retention::DeleteKind::Soft;
    let deleted = es_core::store::delete_stream(&a.store, &draft, deletion, ExpectedRevision::Any, Note::default());
    deleted.await.unwrap();
    a.register(1, "ada@example.org").await;
    a.erase(1).await;
    a.erase(1).await;
    b.pull("a").await.unwrap();
    assert_eq!(erased(&a).await, ["draft-1", "person-1", "person-1"]);
    assert_eq!(erased(&b).await, ["person-1", "person-1"]);
    let events = b.store.read_log(LogRead::all()).await.unwrap().collect().await.unwrap();
    let streams: Vec<&str> = events.iter().map(|event| event.stream.as_str()).collect();
    assert_eq!(streams, ["customer-1", "es.retention-erasures", "es.retention-erasures"]);
    let reader: Arc<dyn EventReader> = Arc::new(b.store.clone());
    let mut subscription = Subscription::new(reader, QueryItem::erasures(), None).unwrap();
    assert_eq!(subscription.next().await.unwrap().events.len(), 2);
    // A rule of another node is refused, as before.
    let events = a.store.read_log(LogRead::all()).await.unwrap().collect().await.unwrap();
    let rule = events.into_iter().find(|event| event.stream.as_str() == "es.retention-rules").unwrap();
    let stamp = subscription_stamp(&b).await;
    let mut data = rule.data;
    data.stamp = Some(stamp);
    let foreign = Commit::foreign().append(rule.stream, es_core::NewEvent { data, occurred_at: None });
    let refused = b.store.commit(foreign).await.expect_err("a rule does not replicate");
    assert!(matches!(refused, CommitError::Invalid(_)), "{refused}");
}

/// Returns the stamp of a replicated event.
async fn subscription_stamp(node: &Node) -> Box<es_core::model::Stamp> {
    let events = node.store.read_log(LogRead::matching(QueryItem::erasures())).await.unwrap().collect().await.unwrap();
    events.into_iter().find_map(|event| event.data.stamp).unwrap()
}
