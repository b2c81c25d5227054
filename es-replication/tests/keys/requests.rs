//! Which node gets which key, and what the error says if there is none.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::model::{ErrorChain, SubjectId};
use es_core::store::memory::MemoryStore;
use es_core::{Aggregate, EventStore};
use es_personal::{
    DataKey, FileKeyStore, KeyId, KeyState, KeyStore, MemoryKeyStore, OpenError, Opened, Personal, PersonalData,
};
use es_replication::{
    AnswerError, Claim, Confirmation, KeyRequest, Page, Peer, PeerError, Pull, Replica, ReplicaOptions, StreamFilter,
};

use crate::network::Network;
use crate::nodes::{EMAIL, Guest, Node, contains_key, content, peers, subject};

const GROUP: [&str; 3] = ["a", "b", "c"];

fn value(text: &str) -> Opened<String> {
    Opened::Value(text.to_owned())
}

/// Returns the request of a node for the key with which a node seals values of a person.
async fn request(node: &str, of: &Node, person: u64) -> KeyRequest {
    KeyRequest { node: node.to_owned(), subject: subject(person), key: of.sealing_key(person).await.id() }
}

/// The key is asked for when a value is opened, and not before. It is stored durably: the value opens after a restart
/// while no peer can be reached.
#[tokio::test]
async fn a_key_is_asked_for_when_a_value_is_opened_and_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let network = Network::new(1);
    let a = Node::open(&network, "a", &GROUP[..2]).await;
    let keys = FileKeyStore::open(directory.path().join("keys")).await.unwrap();
    let parts = (MemoryStore::new(), Arc::new(keys) as Arc<dyn KeyStore>);
    let b = Node::open_with(&network, "b", &GROUP[..2], parts, StreamFilter::all()).await;
    a.register(1, "ada@example.org").await;
    a.register(2, "bob@example.org").await;
    b.pull("a").await.unwrap();
    assert_eq!(network.sent(), [], "a pull brings no key");

    let key = a.sealing_key(1).await;
    let sealed = b.customer(1).await;
    for _ in 0..2 {
        assert_eq!(b.open_value(&sealed[0]).await.unwrap(), value("ada@example.org"));
    }
    assert_eq!(network.sent(), [("b".to_owned(), request("b", &a, 1).await)], "once, and no other key");
    assert_eq!(b.local_state(1, &key).await, KeyState::Present(key.clone()));

    network.stop("a");
    network.stop("b");
    drop(b);
    // The task that follows erasures releases the key store when it has ended.
    let opened = async {
        loop {
            match FileKeyStore::open(directory.path().join("keys")).await {
                Ok(keys) => return keys,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let keys = tokio::time::timeout(TIMEOUT, opened).await.expect("the key store is closed");
    let b = PersonalData::new(Arc::new(keys));
    assert_eq!(b.open(&EMAIL, &sealed[0]).await.unwrap(), value("ada@example.org"));
}

/// Two nodes that are cut off from each other each create a key of one person. No value is lost, and both nodes can
/// open all of them afterwards.
#[tokio::test]
async fn nodes_that_create_keys_of_one_person_at_the_same_time_open_all_values() {
    let network = Network::new(2);
    let (a, b) = (Node::open(&network, "a", &GROUP[..2]).await, Node::open(&network, "b", &GROUP[..2]).await);
    network.cut("a", "b");
    a.register(1, "from a").await;
    b.register(1, "from b").await;
    assert_ne!(a.sealing_key(1).await, b.sealing_key(1).await);
    network.heal("a", "b");
    a.pull("b").await.unwrap();
    b.pull("a").await.unwrap();
    for node in [&a, &b] {
        let mut opened = Vec::new();
        for sealed in node.customer(1).await {
            opened.push(node.open_value(&sealed).await.unwrap());
        }
        assert_eq!(opened.len(), 2);
        assert!(opened.contains(&value("from a")) && opened.contains(&value("from b")), "{opened:?}");
    }
    // Each node still seals with its own key.
    assert_ne!(a.sealing_key(1).await, b.sealing_key(1).await);
}

/// A node that has received a key seals with it, so that a person has as few keys as possible.
#[tokio::test]
async fn a_node_seals_with_a_received_key() {
    let network = Network::new(3);
    let (a, b) = (Node::open(&network, "a", &GROUP[..2]).await, Node::open(&network, "b", &GROUP[..2]).await);
    let sealed = a.register(1, "from a").await;
    assert_eq!(b.open_value(&sealed).await.unwrap(), value("from a"));
    assert_eq!(b.sealing_key(1).await, a.sealing_key(1).await);
}

/// The error names the key, the person and each peer with its answer, and says what to do. It is no erasure.
#[tokio::test]
async fn a_key_that_no_peer_gives_is_an_error_that_names_the_peers() {
    let network = Network::new(4);
    let [a, b, c] = [
        Node::open(&network, "a", &GROUP).await,
        Node::open(&network, "b", &GROUP).await,
        Node::open(&network, "c", &GROUP).await,
    ];
    let sealed = a.register(1, "ada@example.org").await;
    network.cut("a", "b");
    let error = ErrorChain(&b.open_value(&sealed).await.expect_err("the node with the key is cut off")).to_string();
    let id = a.sealing_key(1).await.id();
    assert!(error.contains(&format!("key {id} of subject \"person-1\" is not on this node")), "{error}");
    assert!(error.contains("a: the peer is unreachable: the link is cut, c: it does not have the key"), "{error}");
    assert!(error.ends_with("start the peer that has it or heal the network, and retry"), "{error}");

    // The key is on no node: that is another error, because a retry does not help.
    let nobody = PersonalData::new(Arc::new(MemoryKeyStore::new()));
    let lost = nobody.seal(&EMAIL, &subject(1), &"lost".to_owned()).await.unwrap();
    let error = c.open_value(&lost).await.expect_err("no node has the key");
    assert!(matches!(&error, OpenError::NoKey { subject: found, .. } if *found == subject(1)), "{error}");

    network.heal("a", "b");
    assert_eq!(b.open_value(&sealed).await.unwrap(), value("ada@example.org"));
}

/// A peer that does not answer delays an open value for the timeout, and not longer. A peer that answers is enough.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_waited_for_until_the_timeout() {
    let network = Network::new(5);
    let (a, b) = (Node::open(&network, "a", &GROUP[..2]).await, Node::open(&network, "b", &GROUP[..2]).await);
    let sealed = a.register(1, "ada@example.org").await;
    network.hold_keys(true);
    let silent = b.keys(peers(&network, "b", &["a"]), Duration::from_secs(7));
    let personal = PersonalData::new(Arc::new(silent));
    let start = tokio::time::Instant::now();
    // More values than are asked for at the same time.
    let open = || personal.open(&EMAIL, &sealed);
    let (one, two, three) = tokio::join!(open(), open(), open());
    let (four, five, six) = tokio::join!(open(), open(), open());
    for error in [one, two, three, four, five, six].map(|result| result.expect_err("no answer")) {
        assert!(ErrorChain(&error).to_string().contains("a: no answer within 7s"), "{}", ErrorChain(&error));
    }
    assert_eq!(start.elapsed().as_secs(), 14, "the calls of a group wait at the same time");

    let keys =
        b.keys(vec![Arc::new(Hostile(KeyState::Missing, true)), peers(&network, "b", &["a"]).remove(0)], TIMEOUT);
    network.hold_keys(false);
    let opened = PersonalData::new(Arc::new(keys)).open(&EMAIL, &sealed).await.unwrap();
    assert_eq!((opened, start.elapsed().as_secs()), (value("ada@example.org"), 14));
}

const TIMEOUT: Duration = Duration::from_secs(5);

/// A hundred values of a view are opened at once. Each key is asked for once, and few at a time.
#[tokio::test]
async fn concurrent_values_of_one_person_need_one_request() {
    let network = Network::new(6);
    let (a, b) = (Node::open(&network, "a", &GROUP[..2]).await, Node::open(&network, "b", &GROUP[..2]).await);
    let mut sealed = Vec::new();
    for number in 0..25 {
        sealed.push(a.register(number % 5, "x").await);
    }
    network.hold_keys(true);
    let personal = b.personal.clone();
    let opened = sealed.into_iter().map(|sealed| {
        let personal = personal.clone();
        tokio::spawn(async move { personal.open(&EMAIL, &sealed).await })
    });
    let opened: Vec<_> = opened.collect();
    // All calls have found that the key is missing, and four of them ask.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(network.answered(), 4);
    network.hold_keys(false);
    for opened in opened {
        assert_eq!(opened.await.unwrap().unwrap(), value("x"));
    }
    // The four requests at the beginning are for four persons. The last person is one of the next four.
    let sent = network.sent().len();
    assert!((5..=8).contains(&sent), "{sent} requests");
}

/// A peer that answers anything.
#[derive(Debug)]
struct Hostile(KeyState, bool);

#[async_trait]
impl Peer for Hostile {
    fn name(&self) -> &str {
        "hostile"
    }

    async fn pull(&self, _: Pull) -> Result<Page, PeerError> {
        Err(PeerError::Failed("no page".to_owned()))
    }

    async fn confirm(&self, _: Claim) -> Result<Confirmation, PeerError> {
        Err(PeerError::Failed("no confirmation".to_owned()))
    }

    async fn key(&self, _: KeyRequest) -> Result<KeyState, PeerError> {
        match self.1 {
            true => std::future::pending().await,
            false => Ok(self.0.clone()),
        }
    }
}

/// A key whose id is not the requested one is not stored, and the error names the peer.
#[tokio::test]
async fn another_key_than_the_requested_one_is_refused() {
    let network = Network::new(7);
    let (a, b) = (Node::open(&network, "a", &GROUP[..2]).await, Node::open(&network, "b", &GROUP[..2]).await);
    let sealed = a.register(1, "ada@example.org").await;
    let other = DataKey::random();
    let hostile: Arc<dyn Peer> = Arc::new(Hostile(KeyState::Present(other.clone()), false));
    let personal = PersonalData::new(Arc::new(b.keys(vec![Arc::clone(&hostile)], TIMEOUT)));
    let error = personal.open(&EMAIL, &sealed).await.expect_err("another key");
    assert!(ErrorChain(&error).to_string().contains("hostile: it sent another key"), "{}", ErrorChain(&error));
    assert_eq!(b.local_state(1, &other).await, KeyState::Missing);
    // It does not keep another peer from giving the key.
    let all = vec![hostile, peers(&network, "b", &["a"]).remove(0)];
    let personal = PersonalData::new(Arc::new(b.keys(all, TIMEOUT)));
    assert_eq!(personal.open(&EMAIL, &sealed).await.unwrap(), value("ada@example.org"));
}

/// A node gives keys to nodes that are members now: not to one that nobody declared, that has left, or that was
/// declared dead.
#[tokio::test]
async fn only_members_get_keys() {
    let network = Network::new(8);
    let a = Node::open(&network, "a", &GROUP).await;
    a.register(1, "ada@example.org").await;
    let source = a.replica.source();
    let answer = async |node: &str| source.key(&request(node, &a, 1).await).await;
    assert!(matches!(answer("b").await, Ok(KeyState::Present(_))));
    let stranger = answer("d").await.expect_err("nobody declared it");
    assert!(matches!(&stranger, AnswerError::NotAMember { node } if node == "d"), "{stranger}");

    let membership = a.replica.membership();
    membership.join("d").await.unwrap();
    assert!(matches!(answer("d").await, Ok(KeyState::Present(_))));
    membership.retire("d").await.unwrap();
    assert!(matches!(answer("d").await, Err(AnswerError::NotAMember { .. })), "it was declared dead");
    membership.leave("b").await.unwrap();
    assert!(matches!(answer("b").await, Ok(KeyState::Present(_))), "it has not left yet");
    assert!(matches!(answer("c").await, Ok(KeyState::Present(_))));
}

/// The secret of fingerprints stays on its node, and a node that shares no keys answers with `NoKeys`.
#[tokio::test]
async fn secrets_of_a_node_and_keys_that_are_not_shared_stay_there() {
    let network = Network::new(9);
    let a = Node::open(&network, "a", &GROUP[..2]).await;
    a.personal.fingerprint(&EMAIL, &"ada@example.org".to_owned()).await.unwrap();
    let subject = SubjectId::new("es.fingerprints").unwrap();
    let KeyState::Present(secret) = a.local.get_or_create(&subject).await.unwrap() else { panic!("a secret") };
    let request = KeyRequest { node: "b".to_owned(), subject, key: secret.id() };
    assert_eq!(a.replica.source().key(&request).await.unwrap(), KeyState::Missing);

    let options = ReplicaOptions::new("e");
    let store = MemoryStore::new().with_hook(options.hook()).await.unwrap();
    let store: Arc<dyn EventStore> = Arc::new(store);
    let replica = Replica::new(store).unwrap();
    assert!(matches!(replica.source().key(&request).await, Err(AnswerError::NoKeys)));
}

/// A departed node does not hear of erasures, so that its answer does not count.
#[tokio::test]
async fn a_departed_peer_is_not_asked() {
    let network = Network::new(10);
    let (a, b) = (Node::open(&network, "a", &GROUP[..2]).await, Node::open(&network, "b", &GROUP[..2]).await);
    let sealed = a.register(1, "ada@example.org").await;
    b.replica.membership().retire("a").await.unwrap();
    b.replica.membership().advance().await.unwrap();
    let error = b.open_value(&sealed).await.expect_err("the node with the key was retired");
    assert!(ErrorChain(&error).to_string().contains("a: the node \"a\" has left the group"), "{}", ErrorChain(&error));
    assert_eq!(network.sent(), []);
}

/// A node asks for the keys of the values that it opens. Of a category that its filter withholds it has no value, and
/// so no key. The filter selects the erasures.
#[tokio::test]
async fn a_node_has_no_key_of_a_category_that_it_withholds() {
    let network = Network::new(11);
    let a = Node::open(&network, "a", &GROUP[..2]).await;
    let filter = StreamFilter::none().aggregate::<Guest>().unwrap();
    let keys = Arc::new(MemoryKeyStore::new());
    let b = Node::open_with(&network, "b", &GROUP[..2], (MemoryStore::new(), keys), filter).await;
    a.register(1, "customer@example.org").await;
    let guest = a.register_guest(2, "guest@example.org").await;
    b.pull("a").await.unwrap();
    assert_eq!(b.customer(1).await, [], "{} is withheld", Guest::CATEGORY);
    assert_eq!(b.open_value(&guest).await.unwrap(), value("guest@example.org"));
    assert_eq!(network.sent(), [("b".to_owned(), request("b", &a, 2).await)]);
    assert_eq!(b.local_state(1, &a.sealing_key(1).await).await, KeyState::Missing);
}

/// Neither the log of a node nor a page has a byte of a key, in any usual form.
#[tokio::test]
async fn the_log_and_the_pages_contain_no_key() {
    let network = Network::new(12);
    let (a, b) = (Node::open(&network, "a", &GROUP[..2]).await, Node::open(&network, "b", &GROUP[..2]).await);
    let sealed: Personal<String> = a.register(1, "ada@example.org").await;
    let key = a.sealing_key(1).await;
    b.pull("a").await.unwrap();
    b.open_value(&sealed).await.unwrap();
    b.register(1, "again@example.org").await;
    a.pull("b").await.unwrap();
    a.erase(1).await;
    b.pull("a").await.unwrap();
    let pages = content(&network.pages());
    for (place, bytes) in [("the pages", pages), ("the log of a", a.log().await), ("the log of b", b.log().await)] {
        let id = key.id().as_bytes().map(|byte| format!("{byte:02x}")).concat();
        assert!(bytes.len() > 100 && !contains_key(&bytes, &key), "{place}, key {id}");
    }
    // The search finds a key.
    assert!(contains_key(&[b"x", key.as_bytes().as_slice()].concat(), &key));
    assert!(contains_key(format!("{:?}", key.as_bytes()).as_bytes(), &key));
}

/// A value names its key, so that the id is not that of another person.
#[tokio::test]
async fn a_request_for_an_unknown_key_is_answered_as_missing() {
    let network = Network::new(13);
    let a = Node::open(&network, "a", &GROUP[..2]).await;
    a.register(1, "ada@example.org").await;
    let key = a.sealing_key(1).await.id();
    let of_other = KeyRequest { node: "b".to_owned(), subject: subject(2), key };
    assert_eq!(a.replica.source().key(&of_other).await.unwrap(), KeyState::Missing);
    let unknown = KeyRequest { node: "b".to_owned(), subject: subject(1), key: KeyId::from_bytes([9; 16]) };
    assert_eq!(a.replica.source().key(&unknown).await.unwrap(), KeyState::Missing);
}
