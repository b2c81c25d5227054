//! Claims of unique keys by removed events. The events do not have them any more, so that they are read from the index.

use std::collections::{BTreeMap, HashMap};

use es_core::store::implement::{KeyHash, KeyOwner, KeySecret};
use es_core::{RecordedEvent, Revision, StreamId};

use super::Loss;
use super::sources::Sources;
use crate::key;
use crate::schema::{Cf, META_KEY_SECRET};

/// The claims that the index has of removed events.
#[derive(Debug, Default)]
pub(super) struct RemovedClaims {
    /// The secret of the damaged store; `None` if it cannot be read, so that no entry can be used.
    pub(super) secret: Option<KeySecret>,
    by_event: BTreeMap<(StreamId, Revision), Vec<KeyHash>>,
    /// The number of entries that cannot be used.
    lost: u64,
    /// Whether the whole index could be read.
    is_complete: bool,
}

impl RemovedClaims {
    /// Reads the index. `first_left` returns the first revision of a stream that was not removed.
    pub(super) fn read(sources: &Sources, first_left: impl Fn(&StreamId) -> Revision) -> Self {
        let secret = sources.value(Cf::Meta, META_KEY_SECRET);
        let secret = secret.and_then(|secret| secret.as_slice().try_into().ok()).map(KeySecret::from_bytes);
        let (mut claims, mut invalid) = (HashMap::<KeyHash, KeyOwner>::new(), 0);
        let is_complete = sources.scan(Cf::Keys, |key, value| {
            let (Ok(hash), Ok(owner)) = (key::decode_hash(key), key::decode_owner(value)) else {
                invalid += 1;
                return;
            };
            // The newest entry of a hash is visited last.
            match owner.revision < first_left(&owner.stream) {
                true => claims.insert(hash, owner),
                false => claims.remove(&hash),
            };
        });
        let lost = invalid + if secret.is_some() { 0 } else { claims.len() as u64 };
        let mut by_event = BTreeMap::<_, Vec<_>>::new();
        for (hash, KeyOwner { stream, revision }) in claims.into_iter().filter(|_| secret.is_some()) {
            by_event.entry((stream, revision)).or_default().push(hash);
        }
        Self { secret, by_event, lost, is_complete }
    }

    /// Returns the keys that a removed event claimed.
    pub(super) fn of(&self, removed: &RecordedEvent) -> &[KeyHash] {
        self.by_event.get(&(removed.stream.clone(), removed.revision)).map_or(&[], Vec::as_slice)
    }

    /// Adds the claims that cannot be recovered to a loss.
    pub(super) fn add_to(&self, loss: &mut Loss) {
        if self.lost > 0 {
            loss.other.push(format!("{} claims of unique keys by removed events", self.lost));
        }
        if !self.is_complete {
            let what = "claims of unique keys by removed events, in the unreadable part of their index";
            loss.other.push(what.to_owned());
        }
    }
}
