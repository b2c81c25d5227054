//! Unique keys: the index that a store keeps of them, and the check of a commit's claims and releases.
//!
//! ```text
//!   event with keys ──► log                    UniqueKey (scope, value)    plain text: only in the event
//!         │                                        │ KeySecret::hash
//!         └── claim, release, in order ──► index   ▼
//!                                          KeyHash ──► KeyOwner (stream, revision of the claim)
//! ```
//!
//! The index follows from the events: a claim puts an entry, a release removes it. It has an entry for each claimed key also when
//! the event of the claim was [removed](crate::retention), so that the claim still holds. The entry is a hash under a secret of
//! the store, so that the text of a key is gone when its events are gone.
//!
//! An entry does not say that the key is held: a [deletion](crate::retention) of the owner frees the keys that were claimed up to
//! the deleted revision. [`KeyOwner::holder`] decides.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{KeyChange, NewEvent, RecordedEvent, Revision, StreamId, UniqueKey};
use crate::retention::{DeleteKind, OperatorEvent, is_reserved};
use crate::store::commit::Commit;
use crate::store::decide::LogView;
use crate::store::error::{FailedCheck, StoreError};

/// The secret under which a store hashes its unique keys. A store creates it with itself and keeps it in its metadata.
///
/// Without the secret, nobody can test whether the index has a given key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret([u8; Self::BYTES]);

impl KeySecret {
    /// The length of a secret, in bytes.
    pub const BYTES: usize = blake3::KEY_LEN;

    /// Returns a new random secret.
    #[must_use]
    pub fn random() -> Self {
        // A UUIDv4 has 122 random bits, from the random numbers of the operating system. Three of them give more than the 256 bits
        // of a secret.
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

    /// Returns the bytes. They belong into the metadata of the store, and nowhere else.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Returns the hash of a key: the first 16 bytes of BLAKE3, keyed with the secret, over the length of the scope as a big-endian
    /// `u64`, the scope and the value.
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

/// The hash of a unique key under the [secret](KeySecret) of a store: the key of the index.
///
/// With 128 bits, two of 10¹² keys have the same hash with a probability below 10⁻¹⁴.
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

/// The value of the index: the claim of a key that was not released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOwner {
    /// The stream of the claim.
    pub stream: StreamId,
    /// The revision of the event that made the claim.
    pub revision: Revision,
}

impl KeyOwner {
    /// Returns the stream that holds the key; `None` if a deletion has freed the key. `begins` is what
    /// [`StreamRetention::begins`](crate::retention::StreamRetention::begins) returns for the stream of the claim.
    #[must_use]
    pub fn holder(self, begins: Option<Revision>) -> Option<StreamId> {
        let is_held = begins.is_some_and(|begins| self.revision >= begins);
        is_held.then_some(self.stream)
    }
}

/// Returns how an event changes the index, in order: the new entry of each of its keys, or `None` if it removes the entry.
pub fn key_entries<'a>(event: &'a RecordedEvent) -> impl Iterator<Item = (&'a UniqueKey, Option<KeyOwner>)> {
    event.data.keys.iter().map(|change| match change {
        KeyChange::Claim(key) => (key, Some(KeyOwner { stream: event.stream.clone(), revision: event.revision })),
        KeyChange::Release(key) => (key, None),
    })
}

/// Checks the claims and releases of a commit in the order of its events, so that a commit can hand a key from one stream to another.
pub(super) fn failed_key_changes(commit: &Commit, view: &mut dyn LogView) -> Result<Vec<FailedCheck>, StoreError> {
    if commit.events().iter().all(|(_, event)| event.data.keys.is_empty()) {
        return Ok(Vec::new());
    }
    let mut index = IndexAhead { view, entries: BTreeMap::new(), begins: BTreeMap::new(), next: BTreeMap::new() };
    let mut failed = Vec::new();
    for (stream, event) in commit.events() {
        let revision = index.number(stream)?;
        index.delete_stream_of(stream, event);
        for change in &event.data.keys {
            match index.holder(change.key())? {
                Some(held_by) if held_by != *stream => {
                    failed.push(FailedCheck::UniqueKey {
                        key: change.key().clone(),
                        wanted_by: stream.clone(),
                        held_by,
                    });
                }
                _ => {
                    let is_claim = matches!(change, KeyChange::Claim(_));
                    let owner = is_claim.then(|| KeyOwner { stream: stream.clone(), revision });
                    index.entries.insert(change.key(), owner);
                }
            }
        }
    }
    Ok(failed)
}

/// The index after the first events of a commit that is not written yet.
struct IndexAhead<'a> {
    view: &'a mut dyn LogView,
    /// The entries that the commit changes.
    entries: BTreeMap<&'a UniqueKey, Option<KeyOwner>>,
    /// The revisions with which the streams begin that the commit deletes.
    begins: BTreeMap<StreamId, Option<Revision>>,
    /// The next revisions of the streams to which the commit writes.
    next: BTreeMap<&'a StreamId, Revision>,
}

impl<'a> IndexAhead<'a> {
    /// Returns the revision of the next event of a stream.
    fn number(&mut self, stream: &'a StreamId) -> Result<Revision, StoreError> {
        let revision = match self.next.get(stream) {
            Some(next) => *next,
            None => Revision::following(self.view.revision(stream)?),
        };
        self.next.insert(stream, revision.next());
        Ok(revision)
    }

    /// Takes note of the stream that an event deletes, if it deletes one.
    fn delete_stream_of(&mut self, stream: &StreamId, event: &NewEvent) {
        if is_reserved(stream)
            && let Ok(OperatorEvent::StreamDeleted { stream, kind, through, .. }) =
                OperatorEvent::read(stream, &event.data.event_type, &event.data.payload)
        {
            let begins = match kind {
                DeleteKind::Soft => Some(Revision::following(through)),
                DeleteKind::Hard => None,
            };
            self.begins.insert(stream, begins);
        }
    }

    /// Returns the stream that holds a key.
    fn holder(&mut self, key: &UniqueKey) -> Result<Option<StreamId>, StoreError> {
        let entry = match self.entries.get(key) {
            Some(entry) => entry.clone(),
            None => self.view.owner(key)?,
        };
        let Some(owner) = entry else { return Ok(None) };
        let begins = match self.begins.get(&owner.stream) {
            Some(begins) => *begins,
            None => self.view.retention(&owner.stream)?.begins(),
        };
        Ok(owner.holder(begins))
    }
}
