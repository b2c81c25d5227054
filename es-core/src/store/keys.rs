//! The index of unique keys that a store keeps.
//!
//! ```text
//!   event with keys ──► log                    UniqueKey (scope, value)    plain text: only in the event
//!         │                                        │ KeySecret::hash
//!         └── claim, release, in order ──► index   ▼
//!                                          KeyHash ──► KeyOwner (stream, revision of the claim)
//! ```
//!
//! The index is derived from the events: a claim inserts an entry, a release removes it. It keeps the entry of a
//! claimed key even if the event of the claim was [removed](crate::retention), so the claim stays in force. The index
//! stores a hash of the key under a secret of the store, so the text of a key is removed together with its events.
//!
//! An entry does not imply that the key is held: a [deletion](crate::retention) of the owner frees the keys claimed up
//! to the deleted revision. [`KeyOwner::holder`] takes this into account.

use std::fmt;

use crate::model::{KeyChange, RecordedEvent, Revision, StreamId, UniqueKey};

/// The secret under which a store hashes its unique keys. A store generates it when it is created and keeps it in its
/// metadata.
///
/// Without the secret, nobody can test whether the index contains a given key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret([u8; Self::BYTES]);

impl KeySecret {
    /// The length of a secret, in bytes.
    pub const BYTES: usize = blake3::KEY_LEN;

    /// Returns a new random secret.
    #[must_use]
    pub fn random() -> Self {
        // A UUIDv4 has 122 random bits from the operating system. Three UUIDs provide more than the 256 bits of a
        // secret.
        let mut hasher = blake3::Hasher::new();
        for _ in 0..3 {
            hasher.update(uuid::Uuid::new_v4().as_bytes());
        }
        Self(hasher.finalize().into())
    }

    /// Returns the secret with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes. Store them only in the metadata of the store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Returns the hash of a key: the first 16 bytes of the keyed BLAKE3 hash of the length of the scope as a
    /// big-endian `u64`, the scope, the length of the value as a big-endian `u64`, and the value.
    #[must_use]
    pub fn hash(&self, key: &UniqueKey) -> KeyHash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(key.scope().len() as u64).to_be_bytes());
        hasher.update(key.scope().as_bytes());
        hasher.update(&(key.value().len() as u64).to_be_bytes());
        hasher.update(key.value().as_bytes());
        let mut hash = [0; KeyHash::BYTES];
        hasher.finalize_xof().fill(&mut hash);
        KeyHash(hash)
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret")
    }
}

/// The hash of a unique key under the [secret](KeySecret) of a store: the key of an index entry.
///
/// With 128 bits, the probability that any two of 10¹² keys collide is below 10⁻¹⁴.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; Self::BYTES]);

impl KeyHash {
    /// The length of a hash, in bytes.
    pub const BYTES: usize = 16;

    /// Returns the hash with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The value of an index entry: the claim of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOwner {
    /// The stream of the claim.
    pub stream: StreamId,
    /// The revision of the event that made the claim.
    pub revision: Revision,
}

impl KeyOwner {
    /// Returns the stream that holds the key, or `None` if a deletion has freed the key. `begins` is the result of
    /// [`StreamRetention::begins`](crate::retention::StreamRetention::begins) for the stream of the claim.
    #[must_use]
    pub fn holder(self, begins: Option<Revision>) -> Option<StreamId> {
        let is_held = begins.is_some_and(|begins| self.revision >= begins);
        is_held.then_some(self.stream)
    }
}

/// Returns the changes that an event makes to the index, in order: for each key its new entry, or `None` to remove the
/// entry.
pub fn key_entries(event: &RecordedEvent) -> impl Iterator<Item = (&UniqueKey, Option<KeyOwner>)> {
    event.data.keys.iter().map(|change| match change {
        KeyChange::Claim(key) => (key, Some(KeyOwner { stream: event.stream.clone(), revision: event.revision })),
        KeyChange::Release(key) => (key, None),
    })
}
