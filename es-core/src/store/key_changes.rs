//! The check of the unique keys that a commit claims and releases.

use std::collections::BTreeMap;

use crate::model::{KeyChange, NewEvent, Revision, StreamId, UniqueKey};
use crate::retention::{DeleteKind, OperatorEvent, is_reserved};
use crate::store::commit::Commit;
use crate::store::error::{FailedCheck, StoreError};
use crate::store::keys::KeyOwner;
use crate::store::view::LogView;

/// Checks the claims and releases of a commit in the order of its events, so that a commit can move a key from one
/// stream to another.
pub(super) fn failed_key_changes(commit: &Commit, view: &mut dyn LogView) -> Result<Vec<FailedCheck>, StoreError> {
    if commit.events().iter().all(|(_, event)| event.data.keys.is_empty()) {
        return Ok(Vec::new());
    }
    let mut index = PendingIndex { view, entries: BTreeMap::new(), begins: BTreeMap::new(), next: BTreeMap::new() };
    let mut failed = Vec::new();
    for (stream, event) in commit.events() {
        let revision = index.next_revision(stream)?;
        index.apply_deletion(stream, event);
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

/// The index of unique keys with the first events of an unwritten commit applied.
struct PendingIndex<'a> {
    view: &'a mut dyn LogView,
    /// The entries that the commit changes, or `None` for a removed entry.
    entries: BTreeMap<&'a UniqueKey, Option<KeyOwner>>,
    /// The first revisions of the streams that the commit deletes, or `None` for a hard delete.
    begins: BTreeMap<StreamId, Option<Revision>>,
    /// The next revisions of the streams that the commit writes.
    next: BTreeMap<&'a StreamId, Revision>,
}

impl<'a> PendingIndex<'a> {
    /// Returns the revision of the next event of a stream, and advances it.
    fn next_revision(&mut self, stream: &'a StreamId) -> Result<Revision, StoreError> {
        let revision = match self.next.get(stream) {
            Some(next) => *next,
            None => Revision::following(self.view.revision(stream)?),
        };
        self.next.insert(stream, revision.next());
        Ok(revision)
    }

    /// Records the deletion of a stream if the event is one.
    fn apply_deletion(&mut self, stream: &StreamId, event: &NewEvent) {
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
