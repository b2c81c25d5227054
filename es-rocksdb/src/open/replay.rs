//! Replay of the log after the tables: events go to runs in memory, rows and unique keys to RocksDB or to memory.

use std::sync::Arc;

use bytes::Bytes;
use es_core::store::implement::{Decider, ahead_of_clock};
use es_core::{Position, RecordedEvent, StoreError};
use es_log::{Batch, Body, LogReader, ReadableLog, Record};
use rocksdb::WriteBatch;

use crate::engine::changes::UnflushedChanges;
use crate::engine::database::{Database, Tier, place_of};
use crate::engine::key;
use crate::engine::layout::{self, FrameEnd, TABLES};
use crate::engine::rows;
use crate::index::recent::RecentIds;
use crate::index::{END, Index, of_log};
use crate::options::Options;
use crate::record::codec::LogDecoder;
use crate::retention::{Operators, first_key_of, has_removed};
use crate::schema::Cf;
use crate::writer::decide::Decisions;
use crate::writer::decide::LogEnd;
use crate::writer::pending::PendingCommits;
use crate::writer::publish::Publisher;
use crate::writer::seal;

/// What a replay may write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplayAccess {
    /// UnflushedChanges go to RocksDB, and full runs to tables.
    Writing,
    /// UnflushedChanges and runs stay in memory.
    Reading,
}

/// Reads the log after the last table, and returns the state of decisions and readers.
pub(crate) fn restore(
    database: Database,
    log: &ReadableLog,
    options: &Options,
    access: ReplayAccess,
) -> Result<(Arc<Publisher>, Arc<Decider>), StoreError> {
    let (applied, sealing) = (layout::applied(&database)?, layout::sealing(&database)?);
    if let Some(indexed) = applied.max(sealing).filter(|indexed| Some(*indexed) > log.head()) {
        let found = log.head().map_or_else(|| "no event".to_owned(), |head| format!("the end at {}", place_of(head)));
        let detail = format!("expected events up to {}, as in the index, found {found}", place_of(indexed));
        return Err(StoreError::damaged("the log", detail));
    }
    let index = Index::new(Position::following(applied), RecentIds::of_database(&database)?, options.index_run)
        .with_first_run_up_to(sealing.filter(|_| sealing > applied));
    let is_new = |position, _: &ChangedKey| Some(position) > applied;
    let FrameEnd { frame, head } = layout::applied_frame(&database)?;
    let is_in_log = frame <= log.last_frame();
    if !is_in_log && access == ReplayAccess::Writing {
        // A log that is not synced at each commit can lose frames that were in tables. The key must not name those that
        // follow instead.
        layout::flush_up_to(&database, FrameEnd::default())?;
    }
    // Rows can be in tables without the next event: then the frames with these rows are not read again.
    let reader = match head == applied && is_in_log {
        true => log.read_after_frame(frame, head),
        false => log.read_after(applied),
    };
    let Replayed { mut end, changes, bytes } = Replay::new(&database, log, &index, access).run(reader, &is_new)?;
    let database = Arc::new(database.with_changes(changes));
    let view = index.view(&database, log, END);
    if let (None, Some(head)) = (end.head, log.head()) {
        let last = view.event(head, Tier::Any, &mut LogDecoder::default())?;
        end = LogEnd { head: Some(head), recorded_at: Some(last.recorded_at) };
    }
    if let Some(ahead) =
        ahead_of_clock(end.recorded_at, options.clock.now()).filter(|_| access == ReplayAccess::Writing)
    {
        tracing::warn!(
            directory = %database.directory().display(), recorded_at = ?end.recorded_at, ?ahead,
            "the log is ahead of the clock; events get the time of the last event until the clock has caught up"
        );
    }
    let retention = view.retention_up_to(END)?;
    drop(view);
    let has_removed = has_removed(&database)?;
    let operators = Operators::new(retention.clone(), has_removed);
    let decisions = Decisions {
        end,
        pending: PendingCommits::default(),
        operators: Operators::new(retention, has_removed),
        stopped: None,
    };
    let decider = Arc::new(Decider::new(rows::locks(&database)?));
    // The frames that were read would be read again by the next opening.
    let publisher = Publisher::new(database, index, decisions, operators, options, bytes);
    publisher.set_end(FrameEnd { frame: log.last_frame(), head: log.head() });
    Ok((Arc::new(publisher), decider))
}

/// Applies the log to the index in memory, and its changes of rows, unique keys and first revisions.
pub(crate) struct Replay<'a> {
    database: &'a Database,
    log: &'a ReadableLog,
    index: &'a Index,
    access: ReplayAccess,
    decoder: LogDecoder,
    done: Replayed,
}

/// What a replay has found.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// The end of the log, unless no event was applied.
    end: LogEnd,
    /// The changes that are kept in memory.
    changes: UnflushedChanges,
    /// The bytes of the records.
    bytes: u64,
}

/// A changed key of RocksDB, with its new value; `None` if the change deletes it.
pub(crate) type ChangedKey = (Cf, Vec<u8>, Option<Vec<u8>>);

/// Returns the key of RocksDB that a record changes: a row, a unique key, or for a tombstone the first revision of its
/// stream.
pub(crate) fn change_of(record: &Record<'_>) -> Option<ChangedKey> {
    match &record.body {
        Body::Row(row) => {
            let key = [&key::prefix(row.table), row.key].concat();
            Some((Cf::Rows, key, row.value.map(<[u8]>::to_vec)))
        }
        Body::Key(key) => Some((Cf::Keys, key.key.to_vec(), key.value.map(<[u8]>::to_vec))),
        Body::Tombstone(tombstone) => {
            let first = key::revision(tombstone.revision.next()).to_vec();
            Some((Cf::Meta, first_key_of(tombstone.stream), Some(first)))
        }
        Body::Event(_) | Body::Opaque(_) => None,
    }
}

impl<'a> Replay<'a> {
    pub(crate) fn new(database: &'a Database, log: &'a ReadableLog, index: &'a Index, access: ReplayAccess) -> Self {
        Self { database, log, index, access, decoder: LogDecoder::default(), done: Replayed::default() }
    }

    /// Applies the records of a reader, with those changes of rows and unique keys that `accepts` returns `true` for,
    /// given the position of the next event.
    pub(crate) fn run(
        mut self,
        mut reader: LogReader,
        accepts: &dyn Fn(Position, &ChangedKey) -> bool,
    ) -> Result<Replayed, StoreError> {
        while let Some(batch) = reader.next_batch().map_err(of_log)? {
            self.apply(&batch, accepts)?;
            self.done.bytes += batch.bytes().len() as u64;
        }
        Ok(self.done)
    }

    fn apply(&mut self, batch: &Batch, accepts: &dyn Fn(Position, &ChangedKey) -> bool) -> Result<(), StoreError> {
        let mut events: Vec<RecordedEvent> = Vec::new();
        let mut changes = Vec::new();
        for record in batch.records() {
            let record = record.map_err(|error| StoreError::damaged("the log", error.to_string()))?;
            let event = self.decoder.event(&record, batch.bytes())?;
            // The first revision of a stream is that of its tombstones, wherever they are.
            let is_tombstone = event.is_some();
            changes.extend(change_of(&record).filter(|change| is_tombstone || accepts(record.position, change)));
            events.extend(event);
        }
        self.write(changes)?;
        if let Some(last) = events.last() {
            self.done.end = LogEnd { head: Some(last.position), recorded_at: Some(last.recorded_at) };
        }
        self.index.extend(&events);
        if self.access == ReplayAccess::Reading {
            return Ok(());
        }
        // A long log is indexed run by run, so that it needs no more memory than a short one.
        while let Some(full) = self.index.oldest_full(self.done.end.head) {
            let ids = seal::seal(self.database, self.log, &full, None, &self.database.directory().join(TABLES))?;
            self.index.remove_oldest(&ids);
        }
        Ok(())
    }

    fn write(&mut self, changes: Vec<ChangedKey>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        if self.access == ReplayAccess::Reading {
            for (cf, key, value) in changes {
                self.done.changes.set(cf, key, value.map(Bytes::from));
            }
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        for (cf, key, value) in changes {
            let family = self.database.family(cf)?;
            match value {
                Some(value) => batch.put_cf(family, key, value),
                None => batch.delete_cf(family, key),
            }
        }
        Ok(layout::write(self.database, &batch)?)
    }
}
