//! Scavenging: what a scavenge point says is removed, a part at a time, beside the writer.
//!
//! ```text
//!   commit the point ──► for each point that is not completed, oldest first:
//!                          rules and deletions up to the point ──► each stream that they are for
//!                            ──► its events before the first that is visible there and then ──► parts ──► completed
//! ```
//!
//! What is hidden of a stream is its beginning, so that nothing must be remembered on the way: who goes on after an interruption
//! finds each stream shorter. A part is one write: the record in the log gives way to one without content, the record in its
//! stream and the entries of the indexes go, and the first revision that is left moves up. It gives no position, and is done in
//! turn with the writer. What is removed is forgotten by the tail first, so that no read finds it there when it is gone.
//!
//! There is one scavenge at a time, and it goes on to its end when whoever asked for it gives up.

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
use crate::retention::{first_key, retention_up_to};
use crate::schema::{Cf, META_SCAVENGED};
use crate::shared::{Shared, off_executor};
use crate::store::RocksDbStore;

/// How many events, and about how many bytes of records, are removed in one write.
const PART_EVENTS: u64 = 1000;
const PART_BYTES: u64 = 4 * 1024 * 1024;
/// How many streams are looked up at a time.
const STREAMS_PER_LOOKUP: usize = 256;

/// How many events and bytes were removed.
#[derive(Debug, Clone, Copy, Default)]
struct Removed {
    events: u64,
    bytes: u64,
    streams: u64,
}

/// A scavenge under way.
struct Scavenger {
    shared: Arc<Shared>,
    mark: Arc<MarkFile>,
    durability: Durability,
    scavenge: Scavenge,
    removed: Removed,
    /// That it is the one scavenge. NOTE: it goes where the work goes, which does not end when the future that waits for it is
    /// dropped: a second scavenge beside it would remove what this one has already looked at.
    _turn: OwnedMutexGuard<()>,
}

impl RocksDbStore {
    /// Commits a point, and completes it and all before it. See [`EventStore::scavenge`].
    pub(crate) async fn scavenge_now(&self, scavenge: &Scavenge) -> Result<ScavengeReport, CommitError> {
        let shared = self.shared();
        let scavenger = self.scavenger(scavenge.clone()).await;
        let at = shared.clock.now();
        let committed = self.commit(Commit::scavenge_point(at, scavenge.note.clone())).await?;
        let missing = || StoreError::damaged("scavenge points", "expected the one that was just written, found none");
        let position = committed.position().ok_or_else(missing)?;
        let Completed { removed, points, pending } = complete(scavenger, position).await?;
        let all = || points.iter().chain(&pending);
        let point = all().find(|point| point.position == position).copied().ok_or_else(missing)?;
        let earlier_points = points.iter().filter(|point| point.position < position).count() as u64;
        let is_complete = pending.is_empty();
        Ok(ScavengeReport { point, is_complete, events: removed.events, bytes: removed.bytes, earlier_points })
    }

    /// Does what the points up to a position say that was not done yet.
    pub(crate) async fn complete_points(&self, up_to: Position) -> Result<(), StoreError> {
        complete(self.scavenger(Scavenge::default()).await, up_to).await.map(drop)
    }

    /// Removes the events of a stream before a revision, as a copy of a log does in which they were removed.
    pub(crate) async fn remove_before(&self, stream: StreamId, first: Revision) -> Result<(), StoreError> {
        let mut scavenger = self.scavenger(Scavenge::default()).await;
        off_executor(move || scavenger.stream(&stream, first).map(drop)).await?
    }

    /// Sets entries of the index of unique keys, as a copy of a log does where the events that say so were removed; `None` removes an
    /// entry.
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

    /// Waits until no other scavenge is under way.
    async fn scavenger(&self, scavenge: Scavenge) -> Scavenger {
        let turn = Arc::clone(&self.shared().scavenging).lock_owned().await;
        let (shared, mark) = (Arc::clone(self.shared()), Arc::clone(self.mark()));
        Scavenger { shared, mark, durability: self.durability(), scavenge, removed: Removed::default(), _turn: turn }
    }
}

/// The result of [`complete`].
struct Completed {
    removed: Removed,
    /// The points that were completed.
    points: Vec<ScavengePoint>,
    /// The points that are left, because the scavenge was stopped.
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
        let mut named: BTreeSet<StreamId> = retention.deletions().map(|(stream, _)| stream.clone()).collect();
        let mut categories = Vec::new();
        for (scope, _) in retention.rules() {
            match scope {
                es_core::retention::Scope::Stream(stream) => drop(named.insert(stream)),
                es_core::retention::Scope::Category(category) => categories.push(category),
            }
        }
        for stream in &named {
            if self.remove_hidden(stream, &retention, point)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        for category in &categories {
            let mut after = None;
            loop {
                let streams = self.shared.locked(|database| streams_of(database, category, after.as_ref()))?;
                let Some(last) = streams.last().cloned() else { break };
                for stream in streams.iter().filter(|stream| !named.contains(*stream)) {
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

    /// Removes what a point says of a stream.
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
        self.stream(stream, first)
    }

    /// Removes the events of a stream before a revision, until the scavenge is stopped.
    fn stream(&mut self, stream: &StreamId, first: Revision) -> Result<ControlFlow<()>, StoreError> {
        let shared = Arc::clone(&self.shared);
        loop {
            let part = shared.locked(|database| match part(database, stream, first)? {
                part if part.removed.events == 0 => Ok(Some(part.removed)),
                part => self.write_part(database, stream, part),
            })?;
            // NOTE: each time that a part does not count any more, another has removed something: this ends.
            let Some(part) = part else { continue };
            if part.events == 0 {
                return Ok(ControlFlow::Continue(()));
            }
            self.removed.events += part.events;
            self.removed.bytes += part.bytes;
            let progress = ScavengeProgress { streams: self.removed.streams, events: self.removed.events };
            if self.scavenge.report(progress).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            // NOTE: outside of the lock, so that the store can be closed meanwhile.
            if !self.scavenge.pause.is_zero() {
                std::thread::sleep(self.scavenge.pause);
            }
        }
    }

    /// Writes a part; not where something was removed since it was made. It would set the beginning of the stream back to where
    /// no event is any more, which is damage to every read.
    fn write_part(&self, database: &Database, stream: &StreamId, part: Part) -> Result<Option<Removed>, StoreError> {
        let Part { removed, from, last, batch } = part;
        let counts = || Ok(database.first_left(stream, Tier::Any)? == from);
        Ok(self.write(database, batch, last, counts)?.then_some(removed))
    }

    /// Writes in turn with the writer: there is never more than one write that is not synced. `last` is the position of the last
    /// event that it removes. Returns false, and writes nothing, where the batch does not count any more.
    fn write(
        &self,
        database: &Database,
        batch: WriteBatch,
        last: Option<Position>,
        counts: impl FnOnce() -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let shared = &self.shared;
        let Ok(mut turn) = shared.writing.lock() else {
            return Err(StoreError::Stopped { reason: "its writer panicked; this is a bug".to_owned() });
        };
        turn.clone().map_err(|reason| StoreError::Stopped { reason })?;
        // ORDER: in turn, so that nobody removes anything between this look and the write.
        if !counts()? {
            return Ok(false);
        }
        // ORDER: before the write, so that whoever reads when it is done does not find in memory what is gone.
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
        // ORDER: in turn, too, so that what a point read has seen is always published soon.
        shared.visible.advance(database.sequence());
        drop(turn);
        drop(evicted);
        Ok(true)
    }
}

/// What removes some events.
struct Part {
    removed: Removed,
    /// The first revision that was left when it was made.
    from: Revision,
    /// The position of the last of them.
    last: Option<Position>,
    batch: WriteBatch,
}

/// What removes the next events of a stream before a revision.
fn part(database: &Database, stream: &StreamId, first: Revision) -> Result<Part, StoreError> {
    let family = |cf| database.family(cf);
    let (log, streams, meta) = (family(Cf::Log)?, family(Cf::Streams)?, family(Cf::Meta)?);
    let (categories, types, tags) = (family(Cf::Categories)?, family(Cf::Types)?, family(Cf::Tags)?);
    let prefix = key::prefix(stream.as_str());
    let mut records = database.iterate(Cf::Streams, prefix.clone(), Tier::Any)?;
    let from = database.first_left(stream, Tier::Any)?;
    // NOTE: not from the beginning: RocksDB would pass over all that was removed before.
    records.seek(key::in_stream(stream, from));
    let (mut part, mut last, mut batch) = (Removed::default(), None, WriteBatch::new());
    let mut decoder = Decoder::default();
    while let Some((key, record)) = item(&records, Cf::Streams)? {
        let revision = key::decode_in_stream(key, &prefix).map_err(|error| bad_key(Cf::Streams, key, &error))?;
        if revision >= first || part.events >= PART_EVENTS || part.bytes >= PART_BYTES {
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
        part.events += 1;
        part.bytes += record.len() as u64;
        last = Some(event.position);
        records.next();
    }
    Ok(Part { removed: part, from, last, batch })
}

/// Some streams of a category, in the order of their names, behind another.
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
