//! Nodes with keys of personal data.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use es_core::LogRead;
use es_core::model::SubjectId;
use es_core::prelude::*;
use es_core::retention::Note;
use es_core::store::memory::MemoryStore;
use es_personal::{
    DataKey, KeyId, KeyState, KeyStore, MemoryKeyStore, OpenError, Opened, Personal, PersonalData, PersonalField,
};
use es_replication::{Item, Page, Peer, PullError, Replica, ReplicaOptions, SharedKeys, StreamFilter};
use serde::{Deserialize, Serialize};

use crate::network::{Network, SimulatedPeer};

pub(crate) const EMAIL: PersonalField<String> = PersonalField::new("customer-email");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "registered")]
pub(crate) struct Registered {
    pub(crate) email: Personal<String>,
}

/// The sealed addresses of a customer, in canonical order.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "customer", id = u64, event = Registered, consistency = "causal", conflict = "canonical")]
pub(crate) struct Customer(pub(crate) Vec<Personal<String>>);

/// The same in another category.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "guest", id = u64, event = Registered, consistency = "causal", conflict = "canonical")]
pub(crate) struct Guest(pub(crate) Vec<Personal<String>>);

#[derive(Clone)]
pub(crate) struct Register(pub(crate) Personal<String>);

/// Implements what the aggregates of both categories do: each address is kept.
macro_rules! keeps_addresses {
    ($aggregate:ident) => {
        impl Evolve for $aggregate {
            fn initial(_: &u64) -> Self {
                Self(Vec::new())
            }
            fn evolve(&mut self, event: &Registered, _: &EventContext<'_>) {
                self.0.push(event.email.clone());
            }
        }

        impl Decide<Register> for $aggregate {
            type Rejection = std::convert::Infallible;
            fn decide(
                &self,
                Register(email): Register,
                _: &CommandContext<'_, Self>,
            ) -> Result<Decision<Self>, Self::Rejection> {
                Ok(Registered { email }.into())
            }
        }
    };
}

keeps_addresses!(Customer);
keeps_addresses!(Guest);

pub(crate) fn subject(id: u64) -> SubjectId {
    SubjectId::new(format!("person-{id}")).expect("a name")
}

/// A node that shares its keys and follows erasures.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) store: MemoryStore,
    pub(crate) replica: Replica,
    pub(crate) network: Arc<Network>,
    /// The key store of the node alone.
    pub(crate) local: Arc<dyn KeyStore>,
    pub(crate) personal: PersonalData,
    follower: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Returns the nodes other than one as it reaches them.
pub(crate) fn peers(network: &Arc<Network>, from: &'static str, names: &[&'static str]) -> Vec<Arc<dyn Peer>> {
    let others = names.iter().filter(|name| **name != from);
    let peer =
        |to: &&'static str| -> Arc<dyn Peer> { Arc::new(SimulatedPeer { network: Arc::clone(network), from, to }) };
    others.map(peer).collect()
}

impl Node {
    /// Opens a node whose group has these members.
    pub(crate) async fn open(network: &Arc<Network>, name: &'static str, members: &[&'static str]) -> Self {
        let keys = Arc::new(MemoryKeyStore::new());
        Self::open_with(network, name, members, (MemoryStore::new(), keys), StreamFilter::all()).await
    }

    pub(crate) async fn open_with(
        network: &Arc<Network>,
        name: &'static str,
        members: &[&'static str],
        (store, local): (MemoryStore, Arc<dyn KeyStore>),
        filter: StreamFilter,
    ) -> Self {
        let peers = peers(network, name, members);
        let options = ReplicaOptions::new(name).aggregate::<Customer>().and_then(ReplicaOptions::aggregate::<Guest>);
        let options = options.expect("categories").with_confirm_timeout(Duration::from_millis(10));
        let options = peers.iter().cloned().fold(options, ReplicaOptions::member);
        let store = store.with_hook(options.hook()).await.expect("started");
        let shared: Arc<dyn EventStore> = Arc::new(store.clone());
        let replica = Replica::new(Arc::clone(&shared)).expect("a replica").with_filter(filter);
        let keys = replica.share_keys(Arc::clone(&local), peers);
        network.start(name, replica.source());
        let personal = PersonalData::new(Arc::new(keys));
        let following = personal.clone();
        let reader: Arc<dyn EventReader> = Arc::new(store.clone());
        let follower = tokio::spawn(async move { following.follow_erasures(reader).await });
        Self { name, store, replica, network: Arc::clone(network), local, personal, follower }
    }

    /// Opens the node again, with the same store and these keys.
    pub(crate) async fn restart(self, members: &[&'static str], keys: Arc<dyn KeyStore>) -> Self {
        let (network, name) = (Arc::clone(&self.network), self.name);
        let store = self.store.copy(self.store.log_id());
        drop(self);
        Self::open_with(&network, name, members, (store, keys), StreamFilter::all()).await
    }

    /// Returns the keys of the node with another timeout and other peers.
    pub(crate) fn keys(&self, peers: Vec<Arc<dyn Peer>>, timeout: Duration) -> SharedKeys {
        self.replica.share_keys(Arc::clone(&self.local), peers).with_timeout(timeout)
    }

    fn repository<A: Aggregate + Evolve>(&self) -> Repository<A> {
        Repository::new(Arc::new(self.store.clone()) as Arc<dyn EventStore>)
    }

    /// Seals an address of a person and registers it as a customer.
    pub(crate) async fn register(&self, person: u64, email: &str) -> Personal<String> {
        let sealed = self.personal.seal(&EMAIL, &subject(person), &email.to_owned()).await.expect("sealed");
        self.repository::<Customer>().execute(&person, Register(sealed.clone())).await.expect("executed");
        sealed
    }

    pub(crate) async fn register_guest(&self, person: u64, email: &str) -> Personal<String> {
        let sealed = self.personal.seal(&EMAIL, &subject(person), &email.to_owned()).await.expect("sealed");
        self.repository::<Guest>().execute(&person, Register(sealed.clone())).await.expect("executed");
        sealed
    }

    pub(crate) async fn customer(&self, person: u64) -> Vec<Personal<String>> {
        self.repository::<Customer>().load(&person).await.expect("loaded").state.0
    }

    pub(crate) async fn open_value(&self, sealed: &Personal<String>) -> Result<Opened<String>, OpenError> {
        self.personal.open(&EMAIL, sealed).await
    }

    pub(crate) async fn erase(&self, person: u64) {
        self.personal.erase(Arc::new(self.store.clone()), &subject(person), Note::default()).await.expect("erased");
    }

    pub(crate) fn peer(&self, name: &'static str) -> SimulatedPeer {
        SimulatedPeer { network: Arc::clone(&self.network), from: self.name, to: name }
    }

    /// Pulls everything that a peer has.
    pub(crate) async fn pull(&self, from: &'static str) -> Result<(), PullError> {
        while !self.replica.pull(&self.peer(from), Duration::ZERO).await?.is_last {}
        Ok(())
    }

    /// Returns the state of a key in the key store of the node alone.
    pub(crate) async fn local_state(&self, person: u64, key: &DataKey) -> KeyState {
        self.local.get(&subject(person), &key.id()).await.expect("read")
    }

    /// Returns the key with which the node seals values of a person.
    pub(crate) async fn sealing_key(&self, person: u64) -> DataKey {
        match self.local.get_or_create(&subject(person)).await.expect("read") {
            KeyState::Present(key) => key,
            other => panic!("expected a key, found {other:?}"),
        }
    }

    /// Waits until the keys of a person are destroyed on the node.
    pub(crate) async fn wait_until_destroyed(&self, person: u64) {
        let no_key = KeyId::from_bytes([0; KeyId::BYTES]);
        let is_destroyed =
            async || self.local.get(&subject(person), &no_key).await.expect("read") == KeyState::Destroyed;
        let wait = async {
            while !is_destroyed().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the keys are destroyed");
    }

    /// Returns the log as text and bytes: all of its events.
    pub(crate) async fn log(&self) -> Vec<u8> {
        let events = self.store.read_log(LogRead::all()).await.expect("read").collect().await.expect("read");
        let texts = events.iter().flat_map(|event| [format!("{event:?}").into_bytes(), event.data.payload.to_vec()]);
        texts.collect::<Vec<_>>().concat()
    }
}

/// Returns whether bytes contain a key, as it is or as a text.
pub(crate) fn contains_key(bytes: &[u8], key: &DataKey) -> bool {
    let key = key.as_bytes();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers = serde_json::to_string(key).expect("encoded");
    let numbers = numbers.trim_matches(['[', ']']);
    let forms: [Vec<u8>; 7] = [
        key.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        numbers.replace(',', ", ").into_bytes(),
        numbers.as_bytes().to_vec(),
        STANDARD_NO_PAD.encode(key).into_bytes(),
        URL_SAFE_NO_PAD.encode(key).into_bytes(),
    ];
    forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
}

/// Returns pages as text and bytes: all of their events and everything else.
pub(crate) fn content(pages: &[Page]) -> Vec<u8> {
    let mut content = format!("{pages:?}").into_bytes();
    for item in pages.iter().flat_map(|page| &page.items) {
        if let Item::Commit(events) = item {
            events.iter().for_each(|event| content.extend_from_slice(&event.data.payload));
        }
    }
    content
}
