//! [`CommitChanges`]: what a commit changes besides its events.

use std::collections::BTreeMap;

use bytes::Bytes;
use es_core::model::Table;
use es_core::store::implement::{KeyHash, KeyOwner, KeySecret, key_entries};
use es_core::{Commit, RecordedEvent, Revision, StreamId};

/// What one commit changes besides its events. `None` deletes a row or a unique key.
#[derive(Debug, Default)]
pub(crate) struct CommitChanges {
    pub(crate) rows: BTreeMap<(Table, Bytes), Option<Bytes>>,
    pub(crate) owners: BTreeMap<KeyHash, Option<KeyOwner>>,
    /// The first retained revision of each stream to which the commit adds tombstones.
    pub(crate) firsts: BTreeMap<StreamId, Revision>,
}

impl CommitChanges {
    /// Returns the changes of a decided commit with these events.
    pub(crate) fn of(commit: &Commit, events: &[RecordedEvent], secret: &KeySecret) -> Self {
        let mut changes = Self::default();
        for row in commit.rows() {
            changes.rows.insert((row.table.clone(), row.key.clone()), row.value.clone());
        }
        for event in events {
            changes.owners.extend(key_entries(event).map(|(key, owner)| (secret.hash(key), owner)));
            if event.is_removed() {
                changes.firsts.insert(event.stream.clone(), event.revision.next());
            }
        }
        changes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.owners.is_empty() && self.firsts.is_empty()
    }
}
