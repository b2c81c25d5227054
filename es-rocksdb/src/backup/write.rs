//! Writes the changes of a store since the last backup.

use std::path::Path;

use es_core::{Commit, EventReader, EventStore, LogRead, NewEvent, Position, RecordedEvent, Revision, StoreError};
use rocksdb::WriteBatch;

use super::history::check_continues;
use super::{BackupError, keys, rows};
use crate::database::{Database, place_of};
use crate::open;
use crate::options::{self, Durability, Options};
use crate::read_only::RocksDbReader;
use crate::retention::HiddenEvents;
use crate::schema::{Cf, META_CREATED, META_KEY_SECRET, META_LOG_ID, META_STORE_ID};
use crate::store::RocksDbStore;
use crate::verify::Progress;

/// The limits of the events in memory: commits, and bytes. A larger commit is written alone.
const BATCH_COMMITS: usize = 512;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The counts of [`update`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Changes {
    /// The number of new events.
    pub(super) events: u64,
    /// The number of rows and claims of unique keys that changed.
    pub(super) rows: u64,
}

/// Writes the events, claims and rows of the store that the backup lacks.
pub(super) async fn update(
    source: &RocksDbReader,
    backup: &Path,
    backups: &Path,
    progress: Progress<'_>,
) -> Result<Changes, BackupError> {
    // A snapshot of the last backup. Rows and keys are compared with it.
    let before = RocksDbReader::open(backup).await?;
    let head = check_continues(&source.clone().into(), &before.clone().into(), backups).await?;
    // The store may be a restored copy of the last backup, whose log has another id.
    if source.log_id() != before.log_id() {
        open::set_log_id(backup, source.log_id())?;
    }
    // Without syncs: `files::complete` syncs the backup before it has a number.
    let options = Options::new().durability(Durability::Buffered).create_if_missing(false);
    let target = RocksDbStore::open_with(backup, options).await?;
    let keys = keys::drop_stale(source, &before, &target, progress).await?;
    let events = copy_events(source, head, &target, progress).await?;
    // Removes the events that the store has removed, and no others.
    if let Some(scavenged) = source.shared().locked(Database::scavenged)? {
        target.complete_points(scavenged).await?;
    }
    keys::complete(source, &target, progress).await?;
    let rows = rows::copy(source, &before, &target, progress).await?;
    // The next backup shares the table files, but not the write-ahead log.
    target.flush().await?;
    target.close().await?;
    Ok(Changes { events, rows: keys + rows })
}

/// Creates a store with the identity of another.
pub(super) fn create_with_identity(source: &RocksDbReader, directory: &Path) -> Result<(), BackupError> {
    let opened = open::open(directory, &Options::new())?;
    let meta = opened.database.family(Cf::Meta)?;
    let mut batch = WriteBatch::new();
    batch.put_cf(meta, META_STORE_ID, source.store_id().as_bytes());
    batch.put_cf(meta, META_LOG_ID, source.log_id().as_uuid().as_bytes());
    batch.put_cf(meta, META_CREATED, source.created().timestamp_micros().to_be_bytes());
    batch.put_cf(meta, META_KEY_SECRET, source.shared().secret.as_bytes());
    let written = opened.database.raw().write_opt(batch, &options::write(Durability::Sync));
    written.map_err(|error| crate::error::of_rocksdb("write", "the identity of the backup", error).into())
}

async fn copy_events(
    source: &RocksDbReader,
    after: Option<Position>,
    target: &RocksDbStore,
    progress: Progress<'_>,
) -> Result<u64, BackupError> {
    let first = after.map_or(0, Position::get);
    let total = source.head().await?.map_or(0, Position::get) - first;
    let mut log = source.read_log_with_hidden(LogRead::all().after(after), HiddenEvents::WithContent);
    let (mut batch, mut commits, mut bytes, mut done) = (Vec::new(), 0, 0, 0);
    while let Some(event) = log.next().await? {
        bytes += event.weight();
        commits += usize::from(event.part.is_last());
        let ends_commit = event.part.is_last();
        batch.push(event);
        if ends_commit && (commits >= BATCH_COMMITS || bytes >= BATCH_BYTES) {
            done += batch.len() as u64;
            write(std::mem::take(&mut batch), target).await?;
            (commits, bytes) = (0, 0);
            progress("events", done, Some(total));
        }
    }
    done += batch.len() as u64;
    write(batch, target).await?;
    progress("events", done, Some(total));
    Ok(done)
}

/// Writes events with their original commits, and compares the written events with them.
async fn write(events: Vec<RecordedEvent>, target: &RocksDbStore) -> Result<(), BackupError> {
    for event in events.iter().filter(|event| event.is_removed() && event.revision > Revision::FIRST) {
        // All earlier events of the stream were removed as well, possibly after the last backup.
        target.remove_before(event.stream.clone(), event.revision).await?;
    }
    let mut commits = Vec::new();
    for commit in events.chunk_by(|event, _| !event.part.is_last()) {
        let Some(first) = commit.first() else { continue };
        let empty = Commit::new().recorded_at(first.recorded_at);
        commits.push(commit.iter().fold(empty, |commit, event| match event.is_removed() {
            true => commit.append_removed(event.stream.clone(), event.data.id),
            false => commit.append(event.stream.clone(), to_new_event(event)),
        }));
    }
    let mut expected = events.iter();
    for answer in target.commit_all(commits).await {
        for written in answer?.events {
            let expected = expected.next();
            if expected != Some(&written) {
                let detail = "expected the written event to equal the read one, found a difference";
                return Err(StoreError::damaged(place_of(written.position), detail).into());
            }
        }
    }
    Ok(())
}

/// Returns the event as it was written.
fn to_new_event(event: &RecordedEvent) -> NewEvent {
    NewEvent { data: event.data.clone(), occurred_at: Some(event.occurred_at) }
}
