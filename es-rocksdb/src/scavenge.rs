//! Scavenging: removes the events that a scavenge point covers, in batches, concurrently with commits.
//!
//! ```text
//!   commit the point ──► for each incomplete point, oldest first:
//!                          rules and deletions up to the point ──► each stream with a rule or a deletion
//!                            ──► its events before the first visible one at the point ──► batches ──► complete
//! ```
//!
//! The hidden events of a stream are its first ones. A scavenge therefore needs no other record of its progress: after
//! an interruption each stream begins with its first remaining event.
//!
//! Each batch is one write. It replaces the records in the log by tombstones, removes the records of the stream and the
//! index entries, and raises the first revision of the stream. It assigns no position, and takes the lock of the
//! writer. Before the write, the events are evicted from the tail, so that no read returns removed events from memory.
//!
//! One scavenge runs at a time. It continues to its end if the future of its caller is dropped.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use es_core::model::Category;
use es_core::retention::{Retention, Scavenge, ScavengePoint, ScavengeProgress, ScavengeReport};
use es_core::{Commit, CommitError, EventStore, Position, Revision, StoreError, StreamId};
use rocksdb::WriteBatch;
use tokio::sync::OwnedMutexGuard;

use crate::acknowledged::MarkFile;
use crate::database::{Database, Tier, bad_key, bad_name, decode_in, item, place_in};
use crate::key;
use crate::options::{self, Durability};
use crate::record::{self, Decoder};
use crate::retention::{StreamIndex, first_key, retention_up_to};
use crate::schema::{Cf, META_SCAVENGED};
use crate::shared::{Shared, off_executor};
use crate::store::RocksDbStore;

/// The limits of one write: events, and bytes of records. The last record can exceed the second.
const BATCH_EVENTS: u64 = 1000;
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// The number of streams of a category that are looked up at a time.
const STREAMS_PER_LOOKUP: usize = 256;

/// The counts of a scavenge.
#[derive(Debug, Clone, Copy, Default)]
struct Removed {
    /// The number of removed events.
    events: u64,
    /// The bytes of their records.
    bytes: u64,
    /// The number of processed streams.
    streams: u64,
}

/// A running scavenge.
struct Scavenger {
    shared: Arc<Shared>,
    mark: Arc<MarkFile>,
    durability: Durability,
    scavenge: Scavenge,
    removed: Removed,
    /// Prevents concurrent scavenges. The guard is a part of the scavenge, which continues on its thread if the future
    /// of the caller is dropped: a concurrent scavenge would remove events that this one has already read.
    _guard: OwnedMutexGuard<()>,
}

impl RocksDbStore {
    /// Commits a scavenge point, and completes all points up to it. See [`EventStore::scavenge`].
    pub(crate) async fn scavenge_now(&self, scavenge: &Scavenge) -> Result<ScavengeReport, CommitError> {
        let shared = self.shared();
        let scavenger = self.scavenger(scavenge.clone()).await;
        let at = shared.clock.now();
        let committed = self.commit(Commit::scavenge_point(at, scavenge.note.clone())).await?;
        let missing = || StoreError::damaged("scavenge points", "expected the point that was just written, found none");
        let position = committed.position().ok_or_else(missing)?;
        let Completed { removed, points, pending } = complete(scavenger, position).await?;
        let all = || points.iter().chain(&pending);
        let point = all().find(|point| point.position == position).copied().ok_or_else(missing)?;
        let earlier_points = points.iter().filter(|point| point.position < position).count() as u64;
        let is_complete = pending.is_empty();
        Ok(ScavengeReport { point, is_complete, events: removed.events, bytes: removed.bytes, earlier_points })
    }

    /// Completes the pending scavenge points up to a position.
    pub(crate) async fn complete_points(&self, up_to: Position) -> Result<(), StoreError> {
        complete(self.scavenger(Scavenge::default()).await, up_to).await.map(drop)
    }

    /// Removes the events of a stream before a revision. A backup removes the events that its store has removed.
    pub(crate) async fn remove_before(&self, stream: StreamId, first: Revision) -> Result<(), StoreError> {
        let mut scavenger = self.scavenger(Scavenge::default()).await;
        off_executor(move || scavenger.remove_before(&stream, first).map(drop)).await?
    }

    /// Sets entries of the index of unique keys; `None` removes an entry. A backup copies the entries whose events its
    /// store has removed.
    pub(crate) async fn change_keys(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        let scavenger = self.scavenger(Scavenge::default()).await;
        let write = move || {
            let shared = Arc::clone(&scavenger.shared);
            shared.locked(|database| {
                let (keys, mut batch) = (database.family(Cf::Keys)?, WriteBatch::new());
                for (key, value) in changes {
                    match value {
                        Some(value) => batch.put_cf(keys, key, value),
                        None => batch.delete_cf(keys, key),
                    }
                }
                scavenger.write(database, batch, None, || Ok(true)).map(drop)
            })
        };
        off_executor(write).await?
    }

    /// Waits until no other scavenge runs, and returns a new one.
    async fn scavenger(&self, scavenge: Scavenge) -> Scavenger {
        let guard = Arc::clone(&self.shared().scavenging).lock_owned().await;
        let (shared, mark) = (Arc::clone(self.shared()), Arc::clone(self.mark()));
        Scavenger { shared, mark, durability: self.durability(), scavenge, removed: Removed::default(), _guard: guard }
    }
}

/// The result of [`complete`].
struct Completed {
    removed: Removed,
    /// The points that were completed.
    points: Vec<ScavengePoint>,
    /// The remaining points, if the scavenge was stopped.
    pending: Vec<ScavengePoint>,
}

/// Completes the pending scavenge points up to a position. Ends early if the scavenge is stopped.
async fn complete(mut scavenger: Scavenger, up_to: Position) -> Result<Completed, StoreError> {
    off_executor(move || {
        let mut points = scavenger.pending(up_to)?;
        let mut done = 0;
        for point in &points {
            if scavenger.point(*point)?.is_break() {
                break;
            }
            done += 1;
        }
        let pending = points.split_off(done);
        Ok(Completed { removed: scavenger.removed, points, pending })
    })
    .await?
}

impl Scavenger {
    fn pending(&self, up_to: Position) -> Result<Vec<ScavengePoint>, StoreError> {
        let done = self.shared.locked(Database::scavenged)?;
        let retention = self.shared.operators.all();
        let is_pending = |point: &&ScavengePoint| Some(point.position) > done && point.position <= up_to;
        Ok(retention.points().iter().filter(is_pending).copied().collect())
    }

    /// Removes the events that one scavenge point covers. Breaks if the scavenge is stopped before the point is
    /// completed.
    fn point(&mut self, point: ScavengePoint) -> Result<ControlFlow<()>, StoreError> {
        let retention = self.shared.locked(|database| retention_up_to(database, Some(point.position)))?;
        let mut streams: BTreeSet<StreamId> = retention.deletions().map(|(stream, _)| stream.clone()).collect();
        let mut categories = Vec::new();
        for (scope, _) in retention.rules() {
            match scope {
                es_core::retention::Scope::Stream(stream) => drop(streams.insert(stream)),
                es_core::retention::Scope::Category(category) => categories.push(category),
            }
        }
        for stream in &streams {
            if self.remove_hidden(stream, &retention, point)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        for category in &categories {
            let mut after = None;
            loop {
                let of_category = self.shared.locked(|database| streams_of(database, category, after.as_ref()))?;
                let Some(last) = of_category.last().cloned() else { break };
                for stream in of_category.iter().filter(|stream| !streams.contains(*stream)) {
                    if self.remove_hidden(stream, &retention, point)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                after = Some(last);
            }
        }
        self.shared.locked(|database| {
            let mut batch = WriteBatch::new();
            batch.put_cf(database.family(Cf::Meta)?, META_SCAVENGED, key::position(point.position));
            self.write(database, batch, None, || Ok(true)).map(|_| ControlFlow::Continue(()))
        })
    }

    /// Removes the events of a stream that are hidden at a scavenge point.
    fn remove_hidden(
        &mut self,
        stream: &StreamId,
        retention: &Retention,
        point: ScavengePoint,
    ) -> Result<ControlFlow<()>, StoreError> {
        self.removed.streams += 1;
        let retention = retention.of(stream);
        let first = self.shared.locked(|database| {
            Ok(database.first_visible(stream, &retention, point.at, point.position, Tier::Any)?)
        })?;
        self.remove_before(stream, first)
    }

    /// Removes the events of a stream before a revision. Breaks if the scavenge is stopped.
    fn remove_before(&mut self, stream: &StreamId, first: Revision) -> Result<ControlFlow<()>, StoreError> {
        let shared = Arc::clone(&self.shared);
        loop {
            let removed = shared.locked(|database| match next_removal(database, stream, first)? {
                removal if removal.removed.events == 0 => Ok(Some(removal.removed)),
                removal => self.write_removal(database, stream, removal),
            })?;
            // A removal is stale only if other events were removed meanwhile, so that the loop ends.
            let Some(removed) = removed else { continue };
            if removed.events == 0 {
                return Ok(ControlFlow::Continue(()));
            }
            self.removed.events += removed.events;
            self.removed.bytes += removed.bytes;
            let progress = ScavengeProgress { streams: self.removed.streams, events: self.removed.events };
            if self.scavenge.report(progress).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            // Pauses without the lock, so that the store can be closed meanwhile.
            if !self.scavenge.pause.is_zero() {
                std::thread::sleep(self.scavenge.pause);
            }
        }
    }

    /// Writes a removal. Returns `None`, and writes nothing, if events of the stream were removed since it was read: it
    /// would lower the first revision of the stream to one without an event, which every read reports as damage.
    fn write_removal(
        &self,
        database: &Database,
        stream: &StreamId,
        removal: Removal,
    ) -> Result<Option<Removed>, StoreError> {
        let Removal { removed, from, last, batch } = removal;
        let is_current = || Ok(database.first_left(stream, Tier::Any)? == from);
        Ok(self.write(database, batch, last, is_current)?.then_some(removed))
    }

    /// Writes a batch under the lock of the writer, so that at most one write is not synced. `last` is the position of
    /// the last removed event. Returns `false`, and writes nothing, if `is_current` returns `false`.
    fn write(
        &self,
        database: &Database,
        batch: WriteBatch,
        last: Option<Position>,
        is_current: impl FnOnce() -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let shared = &self.shared;
        let Ok(mut turn) = shared.writing.lock() else {
            return Err(StoreError::Stopped { reason: "its writer panicked; this is a bug".to_owned() });
        };
        turn.clone().map_err(|reason| StoreError::Stopped { reason })?;
        // ORDER: under the lock, so that no other write removes events between this check and the write.
        if !is_current()? {
            return Ok(false);
        }
        // ORDER: before the write, so that no read after the write returns removed events from memory.
        let evicted = last.map(|last| shared.tail.evict_to(last));
        let in_place = || self.mark.check_in_place();
        let write =
            |batch| database.raw().write_opt(batch, &options::write(self.durability)).map_err(|e| e.to_string());
        // The directory is checked before and after the write, as in the writer.
        if let Err(error) = in_place().and_then(|()| write(batch)).and_then(|()| in_place()) {
            let reason = format!("a write failed: {error}");
            shared.stop(database, &mut turn, &reason);
            return Err(StoreError::Stopped { reason });
        }
        // ORDER: under the lock, so that a point read that saw this write waits only until it is published.
        shared.visible.advance(database.sequence());
        drop(turn);
        drop(evicted);
        Ok(true)
    }
}

/// A batch that removes the first events of a stream.
struct Removal {
    removed: Removed,
    /// The first revision of the stream when the batch was made.
    from: Revision,
    /// The position of the last removed event.
    last: Option<Position>,
    batch: WriteBatch,
}

/// Returns a batch that removes the next events of a stream before a revision.
fn next_removal(database: &Database, stream: &StreamId, first: Revision) -> Result<Removal, StoreError> {
    let family = |cf| database.family(cf);
    let (log, streams, meta) = (family(Cf::Log)?, family(Cf::Streams)?, family(Cf::Meta)?);
    let (categories, types, tags) = (family(Cf::Categories)?, family(Cf::Types)?, family(Cf::Tags)?);
    let prefix = key::prefix(stream.as_str());
    let mut records = database.iterate(Cf::Streams, prefix.clone(), Tier::Any)?;
    let from = database.first_left(stream, Tier::Any)?;
    // Seeks the first remaining event, because from the beginning RocksDB would scan all deleted keys.
    records.seek(key::in_stream(stream, from));
    let (mut removed, mut last, mut batch) = (Removed::default(), None, WriteBatch::new());
    let mut decoder = Decoder::default();
    while let Some((key, record)) = item(&records, Cf::Streams)? {
        let revision = key::decode_in_stream(key, &prefix).map_err(|error| bad_key(Cf::Streams, key, &error))?;
        if revision >= first || removed.events >= BATCH_EVENTS || removed.bytes >= BATCH_BYTES {
            break;
        }
        let event = decode_in(stream, revision, record, &mut decoder)?;
        let mut tombstone = Vec::new();
        let encoded = record::encode_tombstone(&event.without_content(), &mut tombstone);
        encoded.map_err(|error| StoreError::io(format!("encode {}", place_in(stream, revision)), error))?;
        batch.put_cf(log, key::position(event.position), tombstone);
        batch.delete_cf(streams, key);
        batch.delete_cf(categories, key::posting(stream.category_str(), event.position));
        batch.delete_cf(types, key::posting(event.data.event_type.as_str(), event.position));
        for tag in &event.data.tags {
            batch.delete_cf(tags, key::posting(tag.as_str(), event.position));
        }
        batch.put_cf(meta, first_key(stream), key::revision(revision.next()));
        removed.events += 1;
        removed.bytes += record.len() as u64;
        last = Some(event.position);
        records.next();
    }
    Ok(Removal { removed, from, last, batch })
}

/// Returns the next streams of a category after another one, in the order of their names.
fn streams_of(database: &Database, category: &Category, after: Option<&StreamId>) -> Result<Vec<StreamId>, StoreError> {
    let mut heads = database.iterate(Cf::Heads, category.as_str().as_bytes().to_vec(), Tier::Any)?;
    heads.seek(after.map_or(category.as_str(), StreamId::as_str));
    let mut streams = Vec::new();
    while streams.len() < STREAMS_PER_LOOKUP {
        let Some((name, _)) = item(&heads, Cf::Heads)? else { break };
        let stream = std::str::from_utf8(name).ok().and_then(|name| StreamId::new(name).ok());
        let stream = stream.ok_or_else(|| bad_name(Cf::Heads, name))?;
        if after != Some(&stream) && stream.category_str() == category.as_str() {
            streams.push(stream);
        }
        heads.next();
    }
    Ok(streams)
}

#[cfg(test)]
mod tests;
