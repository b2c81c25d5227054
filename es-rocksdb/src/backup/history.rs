//! Checks that a store continues a backup.

use std::path::{Path, PathBuf};

use es_core::{EventReader, LogRead, RecordedEvent};

use super::BackupError;
use crate::engine::layout::FrameEnd;
use crate::retention::HiddenEvents;
use crate::store::read_only::ReadOnlyStore;

/// Checks that the store continues the last backup. Returns the end of that backup.
pub(super) async fn check_continues(
    source: &ReadOnlyStore,
    before: &ReadOnlyStore,
    backups: &Path,
) -> Result<FrameEnd, BackupError> {
    let other = |found: String| BackupError::OtherStore { directory: backups.to_owned(), found };
    if source.store_id() != before.store_id() {
        return Err(other(format!("those of store {}", before.store_id())));
    }
    let end = FrameEnd { frame: before.snapshot().log().last_frame(), head: before.head().await? };
    let Some(head) = end.head else { return Ok(end) };
    let last = LogRead::all().from(head).limit(1);
    let (ours, theirs) = (
        source.read_log_with_hidden(last.clone(), HiddenEvents::WithContent).next().await?,
        before.read_log_with_hidden(last, HiddenEvents::WithContent).next().await?,
    );
    // The store may have removed the event since the last backup.
    let is_removed = |event: &Option<RecordedEvent>| event.as_ref().is_some_and(RecordedEvent::is_removed);
    let tombstone = |event: &Option<RecordedEvent>| event.as_ref().map(RecordedEvent::without_content);
    if ours != theirs && !(is_removed(&ours) && ours == tombstone(&theirs)) {
        let event = if ours.is_some() { "another event" } else { "an event that the store lacks" };
        return Err(other(format!("{event} at position {head}: another history of this store")));
    }
    Ok(end)
}

/// Checks that the store continues the newest readable backup. Returns the number and the end of that backup.
///
/// This check is for a backup without a predecessor, so that the backups of two stores are never in one directory.
pub(super) async fn check_continues_any(
    source: &ReadOnlyStore,
    earlier: &[(u32, PathBuf)],
    backups: &Path,
) -> Result<Option<(u32, FrameEnd)>, BackupError> {
    for (number, directory) in earlier.iter().rev() {
        let Ok(before) = ReadOnlyStore::open(directory).await else { continue };
        match check_continues(source, &before, backups).await {
            Err(error @ BackupError::OtherStore { .. }) => return Err(error),
            Ok(end) => return Ok(Some((*number, end))),
            Err(_) => {}
        }
    }
    Ok(None)
}
