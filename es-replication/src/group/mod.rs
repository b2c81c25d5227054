//! [`Group`]: the members of a replicated log, as the fold of events in a stream that is replicated itself.
//!
//! - `change`: the events. `members`: their fold.

mod change;
mod members;

use std::sync::{Arc, Mutex, PoisonError};

use es_core::model::StreamId;
use es_core::{EventReader, Revision, StoreError, StreamRead};

pub use members::{Departed, MemberState};

pub(crate) use change::{Change, MAX_MEMBER_BYTES, is_valid_name};
pub(crate) use members::{Group, RecordedChange};

/// Returns the stream of the membership.
pub(crate) fn stream() -> Result<StreamId, StoreError> {
    StreamId::new(es_core::__private::MEMBERSHIP_STREAM).map_err(|error| StoreError::io("name a stream", error))
}

/// Reads the group from a store.
pub(crate) async fn read(store: &dyn EventReader) -> Result<Arc<Group>, StoreError> {
    let mut events = store.read_stream(StreamRead::new(stream()?)).await?;
    let mut changes = Vec::new();
    while let Some(event) = events.next().await? {
        let change = RecordedChange::read(&event);
        let position = event.position;
        changes.push(change.map_err(|detail| StoreError::damaged(format!("position {position}"), detail))?);
    }
    Ok(Arc::new(Group::default().with(changes)))
}

/// The members of the group, as of the last revision of the stream that was read.
#[derive(Debug, Default)]
pub(crate) struct GroupCache(Mutex<Option<(Option<Revision>, Arc<Group>)>>);

impl GroupCache {
    /// Returns the members of the group. Reads the stream only if it has changed.
    pub(crate) async fn read(&self, store: &dyn EventReader) -> Result<Arc<Group>, StoreError> {
        let revision = store.revision(&stream()?).await?;
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, group)) = cached.filter(|(read, _)| *read == revision) {
            return Ok(group);
        }
        // A later read can only have more events, and the next call reads them again.
        let group = read(store).await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((revision, Arc::clone(&group)));
        Ok(group)
    }
}
