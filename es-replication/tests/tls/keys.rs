//! Keys of personal data over TCP with mutual TLS.

use std::sync::Arc;
use std::time::Duration;

use es_core::model::{ErrorChain, SubjectId};
use es_core::prelude::*;
use es_core::retention::Note;
use es_core::store::memory::MemoryStore;
use es_personal::{DataKey, KeyState, KeyStore, MemoryKeyStore, Opened, PersonalData, PersonalField};
use es_replication::{
    KeyRequest, LocalPeer, Peer, PeerError, Replica, ReplicaOptions, Server, ServerOptions, TestCa, TlsConfig, TlsPeer,
};

use crate::nodes::{self, Counts, tls, within};
use crate::raw::{ASK_KEY, RawClient, frame, hello};

const EMAIL: PersonalField<String> = PersonalField::new("email");

/// A node with keys.
struct KeyNode {
    store: Arc<dyn EventStore>,
    replica: Replica,
    keys: Arc<MemoryKeyStore>,
    tls: TlsConfig,
}

impl KeyNode {
    /// Opens a node that declares these members.
    async fn open(name: &str, members: &[&str], ca: &TestCa) -> Self {
        let mut options = ReplicaOptions::new(name);
        for member in members {
            options = options.member(Arc::new(LocalPeer::new(*member, ReplicaOptions::new(*member).source())));
        }
        let options = options.with_confirm_timeout(Duration::from_millis(10));
        let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new().with_hook(options.hook()).await.expect("a store"));
        let replica = Replica::new(Arc::clone(&store)).expect("a replica");
        Self { store, replica, keys: Arc::new(MemoryKeyStore::new()), tls: tls(ca, name) }
    }

    async fn serve(&self, peers: &[&str]) -> Server {
        let (source, options) = (self.replica.source(), ServerOptions::new());
        let server = Server::bind("127.0.0.1:0", source, self.tls.clone(), peers.iter().copied(), options);
        server.await.expect("binds")
    }

    fn peer(&self, name: &str, server: &Server) -> Arc<TlsPeer> {
        Arc::new(TlsPeer::new(name, server.local_addr().to_string(), self.tls.clone()).expect("a DNS name"))
    }

    fn personal(&self, peers: Vec<Arc<dyn Peer>>) -> PersonalData {
        PersonalData::new(Arc::new(self.replica.share_keys(self.keys.clone(), peers)))
    }

    async fn key(&self) -> DataKey {
        match self.keys.get_or_create(&ada()).await.expect("read") {
            KeyState::Present(key) => key,
            other => panic!("expected a key, found {other:?}"),
        }
    }
}

fn ada() -> SubjectId {
    SubjectId::new("7c9e").expect("a name")
}

#[tokio::test]
async fn a_key_is_received_over_tls_and_destroyed_by_an_erasure() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (KeyNode::open("a", &["b"], &ca).await, KeyNode::open("b", &["a"], &ca).await);
    let server = a.serve(&["b"]).await;
    let to_a = b.peer("a", &server);
    let (at_a, at_b) = (a.personal(Vec::new()), b.personal(vec![to_a.clone()]));
    let sealed = at_a.seal(&EMAIL, &ada(), &"ada@example.org".to_owned()).await.expect("sealed");
    let opened = within(at_b.open(&EMAIL, &sealed)).await.expect("opened");
    assert_eq!(opened, Opened::Value("ada@example.org".to_owned()));
    let key = a.key().await;
    assert_eq!(b.keys.get(&ada(), &key.id()).await.expect("read"), KeyState::Present(key.clone()));

    at_a.erase(a.store.clone(), &ada(), Note::default()).await.expect("erased");
    let late = KeyRequest { node: "b".to_owned(), subject: ada(), key: key.id() };
    assert_eq!(within(to_a.key(late.clone())).await.expect("an answer"), KeyState::Destroyed);
    let unknown = KeyRequest { subject: SubjectId::new("1b2d").expect("a name"), ..late };
    assert_eq!(within(to_a.key(unknown)).await.expect("an answer"), KeyState::Missing);

    let (reader, following): (Arc<dyn EventReader>, _) = (b.store.clone(), at_b.clone());
    let follower = tokio::spawn(async move { following.follow_erasures(reader).await });
    within(b.replica.pull(&*to_a, Duration::ZERO)).await.expect("pulled");
    within(async {
        while b.keys.get(&ada(), &key.id()).await.expect("read") != KeyState::Destroyed {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(at_b.open(&EMAIL, &sealed).await.expect("opened"), Opened::Erased);
    follower.abort();
}

/// A node whose certificate is valid gets no key if it is not a peer of the server, nor if it is a peer and not a
/// member, nor in the name of another node.
#[tokio::test]
async fn only_members_get_keys_over_tls() {
    let counts = Counts::new();
    let _guard = counts.record();
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let a = KeyNode::open("a", &["b"], &ca).await;
    let (c, d) = (KeyNode::open("c", &["a"], &ca).await, KeyNode::open("d", &["a"], &ca).await);
    let server = a.serve(&["b", "c"]).await;
    let at_a = a.personal(Vec::new());
    let sealed = at_a.seal(&EMAIL, &ada(), &"ada@example.org".to_owned()).await.expect("sealed");
    let key = a.key().await;

    let error = within(c.personal(vec![c.peer("a", &server)]).open(&EMAIL, &sealed)).await.expect_err("no member");
    let message = ErrorChain(&error).to_string();
    assert!(message.contains("the node \"c\" is not a member of the group"), "{message}");
    let request = KeyRequest { node: "d".to_owned(), subject: ada(), key: key.id() };
    let error = within(d.peer("a", &server).key(request)).await.expect_err("no peer");
    assert!(matches!(error, PeerError::Failed(_) | PeerError::Unreachable(_)), "{error}");
    assert_eq!(counts.refused("unknown_peer"), 1);

    // The member b is not c. Nothing that c receives has the key.
    let mut client = RawClient::connect(&server, &ca.issue("c").expect("a certificate")).await;
    let id = key.id();
    let request = [b"\x0a\x01b\x12\x047c9e\x1a\x10".as_slice(), id.as_bytes()].concat();
    client.send(&[hello("c"), frame(4, ASK_KEY, &request)].concat()).await;
    let received = client.read_to_end().await;
    assert!(String::from_utf8_lossy(&received).contains("expected the node \"c\", found \"b\""));
    assert!(!received.windows(DataKey::BYTES).any(|window| window == key.as_bytes()));
    assert_eq!(counts.refused("other_node"), 1);
}
