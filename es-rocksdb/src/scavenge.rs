//! Scavenging: removes the events that a scavenge point covers, from the log and from the index.
//!
//! ```text
//!   commit the point ──► index all events ──► for each incomplete point, oldest first:
//!     rules and deletions up to the point ──► each stream with a rule or a deletion ──► its hidden events
//!       ──► first revisions ──► segments without these events ──► index entries ──► complete
//! ```
//!
//! The index entries of an event are removed last. They are the record of the progress: after an interruption, the next
//! scavenge finds the events whose entries are left, and removes what is left of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use es_core::retention::{Retention, Scavenge, ScavengePoint, ScavengeProgress, ScavengeReport, Scope};
use es_core::{Commit, CommitError, EventStore, Position, Revision, StoreError, StreamId};
use es_log::{AppendError, Body, Log, Record};
use rocksdb::WriteBatch;
use tokio::sync::OwnedMutexGuard;

use crate::engine::database::{Database, Tier, bad_key, item};
use crate::engine::key;
use crate::engine::layout;
use crate::executor::off_executor;
use crate::index::posting_blocks;
use crate::index::{END, IndexView, not_rewritten};
use crate::reader;
use crate::reader::shared::{Core, SharedStore};
use crate::record::codec::LogDecoder;
use crate::retention::{StreamIndex, first_key};
use crate::schema::{Cf, META_SCAVENGED, META_UNCOMPACTED};
use crate::writer::decide::not_appended;

/// The number of streams of a category that are looked up at a time.
const STREAMS_PER_LOOKUP: usize = 256;

/// The longest time in which a paused scavenge does not ask whether it is stopped.
const PAUSE_STEP: Duration = Duration::from_millis(100);

/// The counts of a scavenge.
#[derive(Debug, Clone, Copy, Default)]
struct RemovedCounts {
    events: u64,
    /// The bytes of their records.
    bytes: u64,
    /// The number of processed streams.
    streams: u64,
}

/// A running scavenge or compaction. The guard is a part of it: it continues on its thread if the future of the caller
/// is dropped.
struct Maintenance {
    inner: Arc<SharedStore>,
    scavenge: Scavenge,
    removed: RemovedCounts,
    /// The position up to which rows and unique keys are in the index, so that the log does not need them.
    applied: Option<Position>,
    _guard: OwnedMutexGuard<()>,
}

/// Events that are removed together: at most as many as a run of the index has. Each needs some 600 bytes of memory.
/// Each segment that has one of them is rewritten once.
#[derive(Default)]
struct RemovalBatch {
    /// The first revision of each stream that stays.
    firsts: BTreeMap<StreamId, Revision>,
    /// The segments that have the events.
    segments: BTreeSet<u32>,
    /// The keys of the copies of the events.
    copies: Vec<Vec<u8>>,
    /// The positions of the events in each posting list.
    postings: BTreeMap<(Cf, String), BTreeSet<Position>>,
}

/// Commits a scavenge point, and completes all points up to it. See [`EventStore::scavenge`].
pub(crate) async fn scavenge(
    store: &dyn EventStore,
    inner: &Arc<SharedStore>,
    scavenge: &Scavenge,
) -> Result<ScavengeReport, CommitError> {
    let guard = Arc::clone(&inner.maintaining).lock_owned().await;
    let committed = store.commit(Commit::scavenge_point(inner.clock.now(), scavenge.note.clone())).await?;
    let missing = || StoreError::damaged("scavenge points", "expected the point that was just written, found none");
    let position = committed.position().ok_or_else(missing)?;
    let applied = inner.index_all().await?;
    let (inner, scavenge, removed) = (Arc::clone(inner), scavenge.clone(), RemovedCounts::default());
    let mut scavenger = Maintenance { inner, scavenge, removed, applied, _guard: guard };
    let completed = off_executor(move || scavenger.complete(position).map(|points| (scavenger.removed, points)));
    let (removed, (points, pending)) = completed.await??;
    let point = points.iter().chain(&pending).find(|point| point.position == position).copied().ok_or_else(missing)?;
    let earlier_points = points.iter().filter(|point| point.position < position).count() as u64;
    let is_complete = pending.is_empty();
    Ok(ScavengeReport { point, is_complete, events: removed.events, bytes: removed.bytes, earlier_points })
}

/// Rewrites the files of the store. See [`EventStore::compact`].
pub(crate) async fn compact(inner: &Arc<SharedStore>) -> Result<(), StoreError> {
    let guard = Arc::clone(&inner.maintaining).lock_owned().await;
    // ORDER: the commits of sealed segments are published, and their rows are flushed after that. So the log needs none
    // of these rows any more, not even those after the last event.
    let segments = inner.with_log(|_, log| {
        seal_segment(log)?;
        Ok(log.sealed_segments())
    })?;
    // A frame that could not be published stops the store before the next one is written or the segment is sealed. Only
    // the log has its rows.
    inner.handles.visible.check_running()?;
    inner.index_all().await?;
    inner.with(|core| layout::flush(&core.publisher.database))?;
    let (scavenge, removed, applied) = (Scavenge::default(), RemovedCounts::default(), Some(END));
    let scavenger = Arc::new(Maintenance { inner: Arc::clone(inner), scavenge, removed, applied, _guard: guard });
    for segment in 1..=segments {
        let scavenger = Arc::clone(&scavenger);
        off_executor(move || scavenger.inner.with_log(|_, log| scavenger.compress(log, segment))).await??;
    }
    for cf in Cf::ALL {
        let inner = Arc::clone(inner);
        off_executor(move || inner.with(|core| core.publisher.database.compact(cf))).await??;
    }
    inner.with(|core| set_compacted(&core.publisher.database))
}

/// Removes the note that tables have the content of removed events.
fn set_compacted(database: &Database) -> Result<(), StoreError> {
    let mut compacted = WriteBatch::new();
    compacted.delete_cf(database.family(Cf::Meta)?, META_UNCOMPACTED);
    Ok(layout::write(database, &compacted)?)
}

/// The points that were completed, and those that were not.
type Points = (Vec<ScavengePoint>, Vec<ScavengePoint>);

impl Maintenance {
    /// Completes the pending scavenge points up to a position. Ends early if the scavenge is stopped.
    fn complete(&mut self, up_to: Position) -> Result<Points, StoreError> {
        self.compact_interrupted()?;
        let inner = Arc::clone(&self.inner);
        let mut points: Vec<ScavengePoint> = inner.with(|core| {
            let done = core.publisher.database.scavenged()?;
            let retention = core.publisher.operators.all();
            let is_pending = |point: &&ScavengePoint| Some(point.position) > done && point.position <= up_to;
            Ok(retention.points().iter().filter(is_pending).copied().collect())
        })?;
        let mut done = 0;
        for point in &points {
            if self.point(*point)?.is_break() {
                break;
            }
            done += 1;
        }
        let pending = points.split_off(done);
        Ok((points, pending))
    }

    /// Compacts the tables if an earlier scavenge has removed the keys of events and did not get to that. Which ones is
    /// not known.
    fn compact_interrupted(&self) -> Result<(), StoreError> {
        let find = |core: &Core| Ok(core.publisher.database.get(Cf::Meta, META_UNCOMPACTED, Tier::Any)?.is_some());
        if !self.inner.with(find)? {
            return Ok(());
        }
        for cf in [Cf::Streams, Cf::Categories, Cf::Types, Cf::Tags] {
            self.inner.with(|core| core.publisher.database.compact(cf))?;
        }
        self.inner.with(|core| set_compacted(&core.publisher.database))
    }

    /// Removes the events that one scavenge point covers. Breaks if the scavenge is stopped before the point is
    /// completed.
    fn point(&mut self, point: ScavengePoint) -> Result<ControlFlow<()>, StoreError> {
        let inner = Arc::clone(&self.inner);
        let retention = inner.with(|core| core.view(END).retention_up_to(point.position))?;
        let mut streams: BTreeSet<StreamId> = retention.deletions().map(|(stream, _)| stream.clone()).collect();
        let mut categories = Vec::new();
        for (scope, _) in retention.rules() {
            match scope {
                Scope::Stream(stream) => drop(streams.insert(stream)),
                Scope::Category(category) => categories.push(category),
            }
        }
        let mut batch = RemovalBatch::default();
        let mut flow = self.remove_hidden(streams.iter(), &retention, point, &mut batch)?;
        for category in &categories {
            let mut after: Option<StreamId> = None;
            while flow.is_continue() {
                let found = inner.with(|core| {
                    let view = core.view(END);
                    Ok(reader::streams(&view, category.as_str(), after.as_ref(), STREAMS_PER_LOOKUP)?)
                })?;
                let Some((last, _)) = found.last() else { break };
                after = Some(last.clone());
                let is_new =
                    |stream: &&StreamId| stream.category_str() == category.as_str() && !streams.contains(*stream);
                let of_category = found.iter().map(|(stream, _)| stream).filter(is_new);
                flow = self.remove_hidden(of_category, &retention, point, &mut batch)?;
            }
        }
        self.remove(std::mem::take(&mut batch))?;
        if flow.is_break() {
            return Ok(flow);
        }
        inner.with(|core| {
            let database = &core.publisher.database;
            let mut done = WriteBatch::new();
            done.put_cf(database.family(Cf::Meta)?, META_SCAVENGED, key::position(point.position));
            layout::write_and_flush(database, &done)
        })?;
        Ok(flow)
    }

    /// Adds the hidden events of streams to the batch, and removes full batches. Breaks if the scavenge is stopped.
    fn remove_hidden<'a>(
        &mut self,
        streams: impl Iterator<Item = &'a StreamId>,
        retention: &Retention,
        point: ScavengePoint,
        batch: &mut RemovalBatch,
    ) -> Result<ControlFlow<()>, StoreError> {
        let inner = Arc::clone(&self.inner);
        for stream in streams {
            self.removed.streams += 1;
            let before = self.removed.events;
            loop {
                let is_full = inner.with(|core| {
                    let (view, retention) = (core.view(END), retention.of(stream));
                    let first = view.first_visible(stream, &retention, point.at, point.position, Tier::Any)?;
                    self.collect(&view, stream, first, batch, core.publisher.index.run_events())
                })?;
                if !is_full {
                    break;
                }
                self.remove(std::mem::take(batch))?;
            }
            if self.removed.events > before && self.report().is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Adds the events of a stream before a revision to the batch. Returns `true` if the batch reached `max_events`.
    fn collect(
        &mut self,
        view: &IndexView<'_>,
        stream: &StreamId,
        first: Revision,
        batch: &mut RemovalBatch,
        max_events: usize,
    ) -> Result<bool, StoreError> {
        let prefix = key::prefix(stream.as_str());
        let mut copies = view.database.iterate(Cf::Streams, prefix.clone(), Tier::Any)?;
        copies.seek_to_first();
        let mut decoder = LogDecoder::default();
        while let Some((key, value)) = item(&copies, Cf::Streams)? {
            let revision = key::decode_in_stream(key, &prefix).map_err(|error| bad_key(Cf::Streams, key, &error))?;
            if revision >= first {
                break;
            }
            if batch.copies.len() >= max_events {
                // A scavenge that was interrupted may have raised it further.
                let raised = view.first_left(stream, Tier::Any)?.max(revision);
                batch.firsts.insert(stream.clone(), raised);
                return Ok(true);
            }
            let event = view.copied_event(stream, revision, value, &mut decoder)?;
            batch.copies.push(key.to_vec());
            if !event.is_removed() {
                let position = event.position;
                let names = [(Cf::Categories, stream.category_str()), (Cf::Types, event.data.event_type.as_str())];
                let tags = event.data.tags.iter().map(|tag| (Cf::Tags, tag.as_str()));
                for (cf, name) in names.into_iter().chain(tags) {
                    batch.postings.entry((cf, name.to_owned())).or_default().insert(position);
                }
                batch.segments.extend(view.log.place_of(position).map(|place| place.segment));
                self.removed.events += 1;
                self.removed.bytes += value.len() as u64;
            }
            batch.firsts.insert(stream.clone(), first);
            copies.next();
        }
        Ok(false)
    }

    /// Removes the events of a batch.
    fn remove(&self, batch: RemovalBatch) -> Result<(), StoreError> {
        let RemovalBatch { firsts, segments, copies, postings, .. } = batch;
        if copies.is_empty() {
            return Ok(());
        }
        self.inner.with_log(|core, log| {
            let database = &core.publisher.database;
            let mut raised = WriteBatch::new();
            for (stream, first) in &firsts {
                raised.put_cf(database.family(Cf::Meta)?, first_key(stream), key::revision(*first));
            }
            // ORDER: first, so that a read that misses a removed event knows why; and on disk, because the log does not
            // have it, and has no removed event any more after a kill.
            layout::write_and_flush(database, &raised)?;
            if segments.last() > Some(&log.sealed_segments()) {
                seal_segment(log)?;
            }
            Ok(())
        })?;
        for segment in segments {
            self.inner.with_log(|_, log| self.rewrite(log, segment, &firsts))?;
            self.pause();
        }
        self.inner.with(|core| {
            let database = &core.publisher.database;
            let mut deleted = WriteBatch::new();
            // ORDER: with the deletions, because the next scavenge does not find these events any more.
            deleted.put_cf(database.family(Cf::Meta)?, META_UNCOMPACTED, []);
            for key in copies {
                deleted.delete_cf(database.family(Cf::Streams)?, key);
            }
            for ((cf, name), removed) in &postings {
                posting_blocks::remove(database, (*cf, name), removed, &mut deleted)?;
            }
            layout::write_and_flush(database, &deleted)
        })?;
        // ORDER: after the removal, so that a buffer that is read from now on has no removed event.
        self.inner.buffers.clear();
        // The tables still have the copies of the events, and the tags.
        let mut names: BTreeMap<Cf, Vec<&str>> = BTreeMap::new();
        names.insert(Cf::Streams, firsts.keys().map(StreamId::as_str).collect());
        for (cf, name) in postings.keys() {
            names.entry(*cf).or_default().push(name);
        }
        for (cf, names) in names {
            self.inner.with(|core| core.publisher.database.compact_names(cf, &names))?;
        }
        self.inner.with(|core| set_compacted(&core.publisher.database))
    }

    /// Pauses without the open files, so that the store can be closed meanwhile. A stopped scavenge does not pause.
    fn pause(&self) {
        let mut remaining = self.scavenge.pause;
        while !remaining.is_zero() && self.report().is_continue() {
            let step = remaining.min(PAUSE_STEP);
            std::thread::sleep(step);
            remaining -= step;
        }
    }

    /// Reports the progress. Breaks if the scavenge is stopped.
    fn report(&self) -> ControlFlow<()> {
        self.scavenge.report(ScavengeProgress { streams: self.removed.streams, events: self.removed.events })
    }

    /// Rewrites a segment without the events before the first revisions, and without rows and keys that the index has.
    fn rewrite(&self, log: &Log, segment: u32, firsts: &BTreeMap<StreamId, Revision>) -> Result<(), StoreError> {
        log.rewrite(segment, self.unwanted(firsts)).map(drop).map_err(not_rewritten)
    }

    /// Compresses a segment, without rows and keys that the index has.
    fn compress(&self, log: &Log, segment: u32) -> Result<(), StoreError> {
        log.compress(segment, self.unwanted(&BTreeMap::new())).map(drop).map_err(not_rewritten)
    }

    /// Returns whether a record is not wanted any more.
    fn unwanted<'a>(&'a self, firsts: &'a BTreeMap<StreamId, Revision>) -> impl Fn(&Record<'_>) -> bool + 'a {
        let first_left = |stream: &[u8]| firsts.get(std::str::from_utf8(stream).ok()?);
        move |record| match record.body {
            Body::Event(event) => first_left(event.stream).is_some_and(|first| event.revision < *first),
            Body::Row(_) | Body::Key(_) => Some(record.position) <= self.applied,
            Body::Tombstone(_) | Body::Opaque(_) => false,
        }
    }
}

fn seal_segment(log: &Log) -> Result<(), StoreError> {
    log.seal().map_err(|error| match error {
        AppendError::NotWritten { .. } | AppendError::Stalled { .. } => {
            StoreError::io("seal a segment of the log", error)
        }
        error => not_appended(error),
    })
}
