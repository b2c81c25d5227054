//! [`SharedKeys`]: the key store of a node that replicates, which asks the peers for the keys that the node lacks.
//!
//! ```text
//!   PersonalData::open --> SharedKeys::get --> local key store: present or destroyed? ---------> answer
//!                                                  | missing
//!                                                  v
//!                              Peer::key, all peers at once --> Source::key --> key store of the peer
//!                                                  | the key, if its id is the requested one
//!                                                  v
//!                                  local key store: insert, unless destroyed ------------------> answer
//! ```
//!
//! A key is never part of an event or of a page. A node asks for a key when it must open a value, and for no other one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::model::{ErrorChain, SubjectId};
use es_personal::{DataKey, KeyId, KeyState, KeyStore, KeyStoreError};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Semaphore;

use crate::keys::{KeyRequest, SharedStore};
use crate::peer::Peer;
use crate::replica::Replica;
use crate::source::sender;

/// The number of keys for which a node asks at the same time. Each request that runs uses a connection to each peer.
const MAX_QUESTIONS: usize = 4;

/// No peer gave a key that this node does not have, and not every peer was able to say whether it has the key. A
/// [`KeyStoreError::Other`] contains it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "key {key} of subject {subject:?} is not on this node, and no peer gave it ({}); start the peer that has it or \
     heal the network, and retry", .peers.join(", ")
)]
pub struct KeyUnavailable {
    /// The subject.
    pub subject: SubjectId,
    /// The key.
    pub key: KeyId,
    /// The peers that were asked, each with its answer or the reason for which there is none.
    pub peers: Vec<String>,
}

/// The keys of a node that replicates: a [`KeyStore`] that asks the peers for a key that the node does not have, and
/// stores it. See [`Replica::share_keys`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedKeys {
    local: Arc<dyn KeyStore>,
    replica: Replica,
    peers: Vec<Arc<dyn Peer>>,
    timeout: Duration,
    questions: Arc<Semaphore>,
}

impl Replica {
    /// Shares the keys of personal data of this node with the other members, and returns a key store that asks the
    /// `peers` for keys that this node does not have. Give it to [`PersonalData::new`](es_personal::PersonalData::new);
    /// `local` is the key store of this node.
    ///
    /// - A value is sealed with a key of this node, so that no peer is needed.
    /// - A key is asked for when a value that was sealed with it is opened. It is checked and stored in `local` first,
    ///   so that the peer may be away later.
    /// - Only members that have joined and not left, and that were not declared dead, receive keys. Without an event of
    ///   the membership, they are the [declared](crate::ReplicaOptions::member) ones.
    /// - The keys of subjects whose names begin with `es.` stay on the node. So fingerprints differ between nodes.
    ///
    /// The erasure of a subject replicates like an event, also to nodes that were away. Run
    /// [`PersonalData::follow_erasures`](es_personal::PersonalData::follow_erasures) on every node: it destroys the
    /// keys when the erasure arrives. A key that arrives later is not stored.
    ///
    /// A [filter](Self::with_filter) is a choice of the node that pulls, and no access control: a node does not ask for
    /// the keys of streams that it withholds, because it has no value to open, and may get them once it selects the
    /// streams. Peers cannot decide it: a key belongs to a subject, whose values may be in any stream.
    ///
    /// Call it on the handle with the source that is served: see [`with_source`](Self::with_source). A later call
    /// replaces the keys that are shared.
    #[must_use]
    pub fn share_keys(&self, local: Arc<dyn KeyStore>, peers: impl IntoIterator<Item = Arc<dyn Peer>>) -> SharedKeys {
        let (store, table) = (Arc::clone(self.store()), self.table().clone());
        self.source.keys().share(SharedStore { keys: Arc::clone(&local), store, table });
        SharedKeys {
            local,
            replica: self.clone(),
            peers: peers.into_iter().collect(),
            timeout: SharedKeys::TIMEOUT,
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
        }
    }
}

/// What a peer said about a key.
enum PeerAnswer {
    Key(DataKey),
    Destroyed,
    /// The peer does not have the key.
    Missing,
    /// The peer gave no valid answer, for this reason.
    None(String),
}

impl SharedKeys {
    /// How long [`get`](KeyStore::get) waits for the peers by default.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// Sets how long [`get`](KeyStore::get) waits for the peers. The default is [`TIMEOUT`](Self::TIMEOUT).
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Asks the peers for a key, and stores it. Returns [`KeyState::Missing`] if every peer answers that it does not
    /// have the key.
    async fn ask(&self, subject: &SubjectId, key: KeyId) -> Result<KeyState, KeyStoreError> {
        let silent = || format!("no answer within {:?}", self.timeout);
        let mut reasons: BTreeMap<&str, String> = self.peers.iter().map(|peer| (peer.name(), silent())).collect();
        let mut is_missing_everywhere = true;
        let deadline = tokio::time::sleep(self.timeout);
        tokio::pin!(deadline);
        let _permit = tokio::select! {
            permit = self.questions.acquire() => permit,
            () = &mut deadline => return Err(unavailable(subject, key, reasons)),
        };
        // The answer to another call may have brought the key.
        let state = self.local.get(subject, &key).await?;
        if state != KeyState::Missing {
            return Ok(state);
        }
        let node = sender(&**self.replica.store(), self.replica.table()).await.map_err(other)?.node;
        let request = &KeyRequest { node, subject: subject.clone(), key };
        let ask = |peer| async move { (peer, self.ask_peer(peer, request).await) };
        let mut answers: FuturesUnordered<_> = self.peers.iter().map(ask).collect();
        loop {
            let next = tokio::select! {
                next = answers.next() => next,
                () = &mut deadline => return Err(unavailable(subject, key, reasons)),
            };
            let Some((peer, answer)) = next else { break };
            match answer {
                // ORDER: the store refuses the key of a subject whose erasure has arrived in the meantime.
                PeerAnswer::Key(key) => return self.local.insert(subject, &key).await,
                // The erasure of the subject has not arrived at this node yet.
                PeerAnswer::Destroyed => return Ok(KeyState::Destroyed),
                PeerAnswer::Missing => drop(reasons.insert(peer.name(), "it does not have the key".to_owned())),
                PeerAnswer::None(reason) => {
                    is_missing_everywhere = false;
                    reasons.insert(peer.name(), reason);
                }
            }
        }
        if is_missing_everywhere { Ok(KeyState::Missing) } else { Err(unavailable(subject, key, reasons)) }
    }

    async fn ask_peer(&self, peer: &Arc<dyn Peer>, request: &KeyRequest) -> PeerAnswer {
        // A departed node does not hear of erasures, so what it says does not count.
        let departed = match self.replica.group().await {
            Ok(group) => group.check_node(peer.name(), None).map_err(|departed| departed.to_string()),
            Err(error) => Err(ErrorChain(&error).to_string()),
        };
        if let Err(reason) = departed {
            return PeerAnswer::None(reason);
        }
        match peer.key(request.clone()).await {
            Ok(KeyState::Present(key)) if key.id() == request.key => PeerAnswer::Key(key),
            Ok(KeyState::Present(_)) => PeerAnswer::None("it sent another key".to_owned()),
            Ok(KeyState::Destroyed) => PeerAnswer::Destroyed,
            Ok(KeyState::Missing) => PeerAnswer::Missing,
            Err(error) => PeerAnswer::None(ErrorChain(&error).to_string()),
        }
    }
}

#[async_trait]
impl KeyStore for SharedKeys {
    /// Returns the key of this node. Asks the peers if this node neither has the key nor has destroyed it.
    ///
    /// # Errors
    /// [`KeyStoreError::Other`] with a [`KeyUnavailable`] if no peer gives the key and one of them does not answer that
    /// it does not have it; and the errors of the local store.
    async fn get(&self, subject: &SubjectId, id: &KeyId) -> Result<KeyState, KeyStoreError> {
        let state = self.local.get(subject, id).await?;
        if state != KeyState::Missing || subject.is_reserved() { Ok(state) } else { self.ask(subject, *id).await }
    }

    async fn get_or_create(&self, subject: &SubjectId) -> Result<KeyState, KeyStoreError> {
        self.local.get_or_create(subject).await
    }

    async fn insert(&self, subject: &SubjectId, key: &DataKey) -> Result<KeyState, KeyStoreError> {
        self.local.insert(subject, key).await
    }

    async fn destroy(&self, subject: &SubjectId) -> Result<bool, KeyStoreError> {
        self.local.destroy(subject).await
    }
}

fn unavailable(subject: &SubjectId, key: KeyId, reasons: BTreeMap<&str, String>) -> KeyStoreError {
    let peers = reasons.into_iter().map(|(peer, reason)| format!("{peer}: {reason}")).collect();
    other(KeyUnavailable { subject: subject.clone(), key, peers })
}

fn other<E: std::error::Error + Send + Sync + 'static>(error: E) -> KeyStoreError {
    KeyStoreError::Other(Box::new(error))
}
