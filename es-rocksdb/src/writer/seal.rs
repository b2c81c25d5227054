//! Writes full runs to tables of RocksDB, in the background.
//!
//! A run becomes one table for each column family, which RocksDB takes over as it is: no memtable, no write-ahead log,
//! and no write that is not in order. The key `sealing` is written first and the key `applied` last: after a crash
//! between them, the log is read from the last `applied` on, and its first run has at least the events up to `sealing`,
//! so that its tables replace all keys and values of the tables that are there.

use std::path::{Path, PathBuf};
use std::sync::Weak;

use es_core::model::ErrorChain;
use es_core::{EventId, Position, StoreError, StreamId};
use es_log::{Log, ReadableLog};
use rocksdb::{IngestExternalFileOptions, SstFileWriter, WriteBatch};

use crate::engine::database::Database;
use crate::engine::key;
use crate::engine::layout::{self, FrameEnd};
use crate::error::of_rocksdb;
use crate::index::posting_blocks;
use crate::index::run::{Entries, Run, StreamEntries};
use crate::index::{Copied, encode_head, not_rewritten, of_log};
use crate::schema::{Cf, META_APPLIED, META_APPLIED_FRAME, META_SEALING};
use crate::writer::publish::Publisher;

/// The niceness of the thread, from 0 (that of the process, usually) to 19.
#[cfg(all(target_os = "linux", not(shuttle)))]
const NICENESS: i32 = 10;

/// Writes full runs to tables until the store is closed: the work of a thread. With `compresses`, it compresses the log
/// while no run is full.
pub(crate) fn run(publisher: &Publisher, log: &Weak<Log>, tables: &Path, compresses: bool) {
    lower_priority();
    let (signal, mut compressed) = (&publisher.handles.signal, 0);
    while signal.wait() {
        seal_full_runs(publisher, log, tables);
        // After each segment a pause, which a full run ends: a segment that is replaced meanwhile restarts a backup and
        // the opening of a read-only store.
        while compresses && compress_next(&publisher.database, log, &mut compressed) && signal.wait_briefly() {
            seal_full_runs(publisher, log, tables);
        }
    }
}

/// Writes full runs and their rows to tables until there is nothing to write or the store is closed. A failure is
/// reported to the commits that wait, and what failed is tried again.
fn seal_full_runs(publisher: &Publisher, log: &Weak<Log>, tables: &Path) {
    let signal = &publisher.handles.signal;
    loop {
        match seal_next(publisher, log, tables) {
            Ok(true) => signal.finished(None),
            Ok(false) => return,
            Err(error) => {
                let (directory, error) = (publisher.database.directory().display(), ErrorChain(&error).to_string());
                tracing::error!(%directory, error, "could not write tables of the index; the log has the commits");
                signal.finished(Some(error));
                if !signal.pause() {
                    return;
                }
            }
        }
    }
}

/// Writes the oldest full run to tables, or rows if no run is full. Returns `false` if there is nothing to write.
fn seal_next(publisher: &Publisher, log: &Weak<Log>, tables: &Path) -> Result<bool, StoreError> {
    let oldest_full = || publisher.index.oldest_full(publisher.handles.visible.head());
    // With many rows and few events, the run would not be full for a long time. An opening reads all frames after the
    // last run in tables, and a read-only one keeps their rows in memory.
    if oldest_full().is_none()
        && publisher.has_unflushed_run()
        && let Err(error) = publisher.end_run()
    {
        tracing::debug!(error = %ErrorChain(&error), "could not end the run of a store that has stopped");
    }
    let oldest = oldest_full();
    if oldest.is_none() && !publisher.has_unflushed_run() {
        return Ok(false);
    }
    let Some(log) = log.upgrade() else { return Ok(false) };
    publisher.flush_with(|end| {
        // ORDER: the tables are synced. The events and the frame that they name must be in the log after a power
        // failure.
        log.sync().map_err(|error| StoreError::io("sync the log", error))?;
        let Some(oldest) = &oldest else { return layout::flush_up_to(&publisher.database, end) };
        let ids = seal(&publisher.database, &log, oldest, Some(end), tables)?;
        publisher.index.remove_oldest(&ids);
        Ok(())
    })?;
    Ok(true)
}

/// Compresses the next segment, and reports a failure. Returns whether it did.
fn compress_next(database: &Database, log: &Weak<Log>, compressed: &mut u32) -> bool {
    let Some(log) = log.upgrade() else { return false };
    compress_after(database, &log, compressed).unwrap_or_else(|error| {
        let (directory, error) = (database.directory().display(), ErrorChain(&error));
        tracing::warn!(%directory, %error, "could not compress a segment of the log; it stays as it is");
        false
    })
}

/// Compresses the first segment after the `compressed` ones, if all its events are in tables: the others are read by
/// position more often. Returns whether it did.
fn compress_after(database: &Database, log: &Log, compressed: &mut u32) -> Result<bool, StoreError> {
    let Some(applied) = layout::applied(database)? else { return Ok(false) };
    // The segment of the last indexed event can have later ones.
    let end = log.place_of(applied).map_or(0, |place| place.segment);
    while *compressed + 1 < end && log.is_compressed(*compressed + 1) {
        *compressed += 1;
    }
    if *compressed + 1 >= end {
        return Ok(false);
    }
    log.compress(*compressed + 1, |_| false).map_err(not_rewritten)?;
    *compressed += 1;
    Ok(true)
}

/// Lets commits go first while the processors are busy. Commits wait if too many runs are full, so that this thread
/// gets its time then.
fn lower_priority() {
    // On Linux, this is the priority of the calling thread; elsewhere it would be that of the process.
    #[cfg(all(target_os = "linux", not(shuttle)))]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "could not lower the priority of the thread of the index");
    }
}

/// Writes a full run to tables, and makes them part of RocksDB. Returns its ids in ascending order. `end` is the last
/// frame whose rows are in RocksDB, if it is known.
pub(crate) fn seal(
    database: &Database,
    log: &ReadableLog,
    run: &Run,
    end: Option<FrameEnd>,
    directory: &Path,
) -> Result<Vec<(EventId, Position)>, StoreError> {
    let Some(last) = run.last() else { return Ok(Vec::new()) };
    let io = |error| StoreError::io("write index tables", error);
    std::fs::create_dir_all(directory).map_err(io)?;
    let entries = run.entries();
    let mut streams: Vec<_> = entries.streams.iter().collect();
    streams.sort_unstable_by_key(|(stream, _)| *stream);

    // ORDER: on disk before the first table. If the process ends before `applied` is, the next one does not end its
    // first run before this position.
    let mut sealing = WriteBatch::new();
    sealing.put_cf(database.family(Cf::Meta)?, META_SEALING, key::position(last));
    layout::write_and_flush(database, &sealing)?;
    let tables = Tables { database, directory };
    tables.add(Cf::Heads, |table| {
        for (stream, found) in &streams {
            if let Some((revision, position)) = found.last_up_to(last) {
                table.put(stream.as_str(), encode_head(revision, position))?;
            }
        }
        Ok(())
    })?;
    let copies = Copies::read(log, run.first(), last)?;
    tables.add(Cf::Streams, |table| copies.write(&streams, table))?;
    drop(copies);
    let ids = entries.ids.sorted(run.first());
    tables.add(Cf::Ids, |table| {
        ids.iter().try_for_each(|(id, position)| table.put(key::id(*id), key::position(*position)))
    })?;
    add_postings(&tables, &entries)?;

    let mut applied = WriteBatch::new();
    applied.put_cf(database.family(Cf::Meta)?, META_APPLIED, key::position(last));
    if let Some(end) = end {
        applied.put_cf(database.family(Cf::Meta)?, META_APPLIED_FRAME, end.encode());
    }
    // ORDER: after the tables are part of RocksDB. The flush is atomic, so that `applied` is on disk only together with
    // the rows and keys of all commits up to there.
    layout::write_and_flush(database, &applied)?;
    Ok(ids)
}

fn add_postings(tables: &Tables<'_>, entries: &Entries) -> Result<(), StoreError> {
    type Lists<'a> = Vec<(&'a str, &'a Vec<Position>)>;
    let categories: Lists<'_> = entries.categories.iter().map(|(name, list)| (&**name, list)).collect();
    let types: Lists<'_> = entries.types.iter().map(|(name, list)| (name.as_str(), list)).collect();
    let tags: Lists<'_> = entries.tags.iter().map(|(name, list)| (name.as_str(), list)).collect();
    for (cf, mut lists) in [(Cf::Categories, categories), (Cf::Types, types), (Cf::Tags, tags)] {
        lists.sort_unstable_by_key(|(name, _)| *name);
        tables.add(cf, |table| {
            lists
                .iter()
                .try_for_each(|(name, list)| posting_blocks::encode(name, list, |key, value| table.put(key, value)))
        })?;
    }
    Ok(())
}

/// Creates tables in a directory and makes them part of RocksDB.
struct Tables<'a> {
    database: &'a Database,
    directory: &'a Path,
}

/// A table that is being written, in the order of its keys.
struct Table<'a> {
    writer: SstFileWriter<'a>,
    is_empty: bool,
    path: PathBuf,
}

impl Table<'_> {
    fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), StoreError> {
        self.is_empty = false;
        self.writer.put(key, value).map_err(|error| of_rocksdb("write", self.path.display().to_string(), error))
    }
}

impl Tables<'_> {
    fn add(&self, cf: Cf, fill: impl FnOnce(&mut Table<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let path = self.directory.join(format!("{}.sst", cf.name()));
        let place = path.display().to_string();
        let failed = |error| of_rocksdb("write", place.clone(), error);
        let options = layout::table_options(cf);
        // A process that ended after RocksDB had taken over a table, and before it removed this name of it, leaves a
        // second name of a file of the index. Writing to it would damage the index.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove a table of an earlier process", error));
            }
            _ => {}
        }
        let mut table = Table { writer: SstFileWriter::create(&options), is_empty: true, path: path.clone() };
        table.writer.open(&path).map_err(failed)?;
        fill(&mut table)?;
        if table.is_empty {
            // A table without keys is an error of RocksDB.
            drop(table);
            return std::fs::remove_file(&path).map_err(|error| StoreError::io("remove an empty table", error));
        }
        table.writer.finish().map_err(failed)?;
        drop(table);
        let mut ingestion = IngestExternalFileOptions::default();
        ingestion.set_move_files(true);
        let family = self.database.family(cf)?;
        self.database.raw().ingest_external_file_cf_opts(family, &ingestion, vec![&path]).map_err(failed)
    }
}

/// The records of a run, by position.
struct Copies {
    first: Position,
    records: Vec<(u32, bytes::Bytes)>,
}

impl Copies {
    fn read(log: &ReadableLog, first: Position, last: Position) -> Result<Self, StoreError> {
        let mut records = Vec::new();
        let mut reader = log.read(first);
        'run: while let Some(batch) = reader.next_batch().map_err(of_log)? {
            for (position, bytes) in batch.event_bytes() {
                if position > last {
                    break 'run;
                }
                records.push((batch.place().segment, batch.bytes().slice_ref(bytes)));
            }
        }
        Ok(Self { first, records })
    }

    fn write(&self, streams: &[(&StreamId, &StreamEntries)], table: &mut Table<'_>) -> Result<(), StoreError> {
        let mut value = Vec::new();
        for (stream, found) in streams {
            for (revision, position) in (found.first.get()..).zip(&found.positions) {
                let index = usize::try_from(position.get() - self.first.get()).unwrap_or(usize::MAX);
                let (segment, record) =
                    self.records.get(index).ok_or_else(|| crate::engine::database::missing_event(*position))?;
                let copy = Copied { position: *position, segment: *segment, record };
                copy.encode(&mut value);
                table.put(key::in_stream(stream, es_core::Revision::new(revision)), &value)?;
            }
        }
        Ok(())
    }
}
