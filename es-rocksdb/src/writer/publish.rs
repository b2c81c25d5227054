//! [`Publisher`]: makes the commits of a written frame visible, before they are answered.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use es_core::model::ErrorChain;
use es_core::{Position, StoreError};
use es_log::{AppendError, Follower, FrameHeader};
use rocksdb::WriteBatch;

use crate::engine::database::Database;
use crate::engine::key;
use crate::engine::layout::{self, FrameEnd, WriteError};
use crate::index::Index;
use crate::options::{Durability, OnWriteFailure, Options};
use crate::retention::{Operators, first_key};
use crate::schema::Cf;
use crate::stats::{Counters, Stats};
use crate::sync::{AtomicU64, Mutex, MutexGuard, PoisonError};
use crate::writer::decide::{Decisions, stop_reason};
use crate::writer::pending::DecidedCommit;
use crate::writer::signal::SealSignal;
use crate::writer::visible::Visible;

/// The state that outlives an open store: handles and open reads keep it.
#[derive(Debug)]
pub(crate) struct Handles {
    pub(crate) visible: Visible,
    pub(crate) counters: Counters,
    pub(crate) signal: SealSignal,
}

/// The state that decisions, the log and readers share.
pub(crate) struct Publisher {
    pub(crate) database: Arc<Database>,
    pub(crate) index: Index,
    decisions: Mutex<Decisions>,
    /// The rules and deletions of all published commits.
    pub(crate) operators: Operators,
    pub(crate) handles: Arc<Handles>,
    /// The number of the last commit whose rows may be in RocksDB.
    started: AtomicU64,
    /// The number of syncs of each frame: 0 or 1.
    syncs: u64,
    on_write_failure: OnWriteFailure,
    /// The last frame whose rows are in RocksDB.
    end: Mutex<FrameEnd>,
    /// The bytes of the frames whose rows are not in tables.
    unflushed: AtomicU64,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("visible", &self.handles.visible).finish_non_exhaustive()
    }
}

impl Publisher {
    pub(crate) fn new(
        database: Arc<Database>,
        index: Index,
        decisions: Decisions,
        operators: Operators,
        options: &Options,
        unflushed: u64,
    ) -> Self {
        Self {
            database,
            index,
            handles: Arc::new(Handles {
                visible: Visible::new(decisions.end.head, 0),
                counters: Counters::default(),
                signal: SealSignal::default(),
            }),
            decisions: Mutex::new(decisions),
            operators,
            started: AtomicU64::new(0),
            syncs: u64::from(options.durability == Durability::Sync),
            on_write_failure: options.on_write_failure,
            end: Mutex::default(),
            unflushed: AtomicU64::new(unflushed),
        }
    }

    pub(crate) fn set_end(&self, end: FrameEnd) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// Returns whether the rows of so many frames are not in tables that they should be written. An opening would read
    /// these frames.
    pub(crate) fn has_unflushed_run(&self) -> bool {
        self.unflushed.load(Ordering::Relaxed) >= self.index.run_bytes()
    }

    /// Ends the run in memory, so that it is written to tables although it is not full.
    ///
    /// # Errors
    /// The errors of [`decisions`](Self::decisions).
    pub(crate) fn end_run(&self) -> Result<(), StoreError> {
        // ORDER: the decisions are locked, so that no event is added meanwhile.
        let _decisions = self.decisions()?;
        self.index.end_run();
        Ok(())
    }

    /// Calls `flush` with the last frame whose rows are in RocksDB. If it succeeds, the rows up to there are in tables.
    pub(crate) fn flush_with(&self, flush: impl FnOnce(FrameEnd) -> Result<(), StoreError>) -> Result<(), StoreError> {
        // ORDER: frames that are written meanwhile count as not flushed.
        let bytes = self.unflushed.load(Ordering::Relaxed);
        let end = *self.end.lock().unwrap_or_else(PoisonError::into_inner);
        flush(end)?;
        self.unflushed.fetch_sub(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Locks the state of decisions.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] if a decision has panicked, so that the state may be inconsistent.
    pub(crate) fn decisions(&self) -> Result<MutexGuard<'_, Decisions>, StoreError> {
        let panicked = || StoreError::Stopped { reason: "a decision panicked; this is a bug".to_owned() };
        self.decisions.lock().map_err(|_| panicked())
    }

    /// Returns the number of the last commit whose rows a read before this call can have seen.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Acquire)
    }

    /// Refuses all later commits.
    pub(crate) fn stop(&self, reason: &str) {
        tracing::error!(directory = %self.database.directory().display(), reason, "the store takes no more writes");
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner).stopped = Some(reason.to_owned());
        self.handles.visible.stop(reason);
        // Commits and scavenges that wait for tables may wait for events that are never published.
        self.handles.signal.sealed.notify_waiters();
    }

    /// Publishes the commits of a frame.
    ///
    /// # Errors
    /// [`PublishError::ForNow`] if nothing was published, and this can be called again.
    fn publish(&self, frame: &FrameHeader) -> Result<(), PublishError> {
        // A frame after one that could not be published: its commits are in the log, and the next opening reads it. To
        // publish it now would make the events of both visible, and the index complete, without the rows of the first.
        if self.handles.visible.check_running().is_err() {
            return Ok(());
        }
        let commits = self.decisions()?.pending.take(frame.commits);
        let Some(last) = commits.last().map(|commit| commit.number) else { return Ok(()) };
        // ORDER: before the rows are changed, so that a reader that has seen one waits until it is published.
        let before = self.started.swap(last, Ordering::AcqRel);
        if let Err(error) = self.write_changes(&commits) {
            if matches!(error, PublishError::ForNow(_)) {
                // RocksDB has none of the changes.
                self.decisions()?.pending.put_back(commits);
                self.started.store(before, Ordering::Release);
                // ORDER: after the number is lowered, so that a reader that waits for it reads again and finds that.
                self.handles.visible.add_refusal();
            }
            return Err(error);
        }
        let events = || commits.iter().flat_map(|commit| commit.events.iter());
        // ORDER: before the commits are visible, so that a read that returns a retention event also applies its rule.
        if let Err(error) = self.operators.apply(events()) {
            tracing::error!(error = %ErrorChain(&error), "an event of a reserved stream could not be applied");
        }
        let head = events().next_back().map(|event| event.position).or_else(|| self.handles.visible.head());
        // ORDER: the rows are in RocksDB, where the next decision finds them.
        self.decisions()?.pending.remove(&commits);
        self.handles.visible.publish(head, last);
        let (written, events) = (commits.len() as u64, events().count() as u64);
        let bytes = frame.length as u64;
        let counted = Stats { commits: written, frames: 1, events, bytes, syncs: self.syncs };
        self.handles.counters.add(counted);
        self.set_end(FrameEnd { frame: frame.number, head });
        self.unflushed.fetch_add(bytes, Ordering::Relaxed);
        self.signal_full_run(head);
        Ok(())
    }

    /// Wakes the thread that writes tables, if there is a run or as many bytes of rows for it.
    pub(crate) fn signal_full_run(&self, head: Option<Position>) {
        if self.index.oldest_full(head).is_some() || self.has_unflushed_run() {
            self.handles.signal.wake();
        }
    }

    /// Changes the rows and unique keys of written commits.
    fn write_changes(&self, commits: &[DecidedCommit]) -> Result<(), PublishError> {
        if commits.iter().all(|commit| commit.changes.is_empty()) {
            return Ok(());
        }
        let database = &*self.database;
        let (meta, keys, rows) = (database.family(Cf::Meta)?, database.family(Cf::Keys)?, database.family(Cf::Rows)?);
        let mut batch = WriteBatch::new();
        for changes in commits.iter().map(|commit| &commit.changes) {
            for (stream, first) in &changes.firsts {
                batch.put_cf(meta, first_key(stream), key::revision(*first));
            }
            for (hash, owner) in &changes.owners {
                match owner {
                    Some(owner) => batch.put_cf(keys, hash.as_bytes(), key::owner(owner)),
                    None => batch.delete_cf(keys, hash.as_bytes()),
                }
            }
            for ((table, row), value) in &changes.rows {
                match value {
                    Some(value) => batch.put_cf(rows, key::row(table, row), value),
                    None => batch.delete_cf(rows, key::row(table, row)),
                }
            }
        }
        layout::write(database, &batch).map_err(|error| match error {
            WriteError::ForNow(_) if self.on_write_failure == OnWriteFailure::Retry => {
                PublishError::ForNow(ErrorChain(&StoreError::from(error)).to_string())
            }
            error => PublishError::ForGood(error.into()),
        })
    }
}

/// The commits of a frame were not published.
#[derive(Debug)]
enum PublishError {
    /// RocksDB cannot write tables for now, for this reason.
    ForNow(String),
    /// They never will be.
    ForGood(StoreError),
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        Self::ForGood(error)
    }
}

impl Follower for Publisher {
    fn written(&self, frame: &FrameHeader) -> io::Result<()> {
        match self.publish(frame) {
            Ok(()) => Ok(()),
            Err(PublishError::ForNow(reason)) => Err(io::Error::other(reason)),
            Err(PublishError::ForGood(error)) => {
                self.stop(&format!("a written commit could not be published: {}", ErrorChain(&error)));
                Ok(())
            }
        }
    }

    fn stalled(&self, cause: Option<&io::Error>) {
        self.handles.visible.set_stalled(cause.map(|cause| ErrorChain(cause).to_string()));
        // Commits and scavenges that wait for tables may wait for events that are not published for now.
        self.handles.signal.sealed.notify_waiters();
    }

    fn failed(&self, error: &AppendError) {
        self.stop(&stop_reason(error));
    }
}

#[cfg(test)]
mod tests {
    use es_core::{Commit, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, StreamId};
    use es_log::{Body, RowFields};

    use super::*;
    use crate::RocksDbStore;
    use crate::record::CommitChanges;

    /// Regression: after a frame that could not be published, the next one was. A reader saw the events of both, and
    /// the index could be called complete, so that the rows and unique keys of the first were lost.
    #[tokio::test]
    async fn no_frame_is_published_after_one_that_was_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = RocksDbStore::open(directory.path()).await.unwrap();
        let event = NewEvent::json(EventType::new("happened").unwrap(), "{}");
        let stream = StreamId::new("a-1").unwrap();
        store.commit(Commit::to(&stream, ExpectedRevision::Any, [event])).await.unwrap();
        let [first] = &store.read_log(LogRead::all()).await.unwrap().collect().await.unwrap()[..] else {
            panic!("expected one event")
        };
        let second = es_core::RecordedEvent { position: first.position.next(), ..first.clone() };
        let written = store.inner.with_log(|core, log| {
            // The next commit is decided when the store stops, and its frame is written.
            core.publisher.decisions()?.pending.add(Arc::new(vec![second]), CommitChanges::default());
            core.publisher.stop("a frame could not be published");
            let row = RowFields { table: "t", key: b"k", value: None };
            Ok(log.commit(|draft| Ok::<_, AppendError>(draft.push(&Body::Row(row))?)))
        });
        written.unwrap().unwrap();
        let visible = &store.inner.handles.visible;
        assert_eq!(visible.head(), Some(Position::FIRST));
        assert!(matches!(visible.wait_published(2).await, Err(StoreError::Stopped { .. })));
        assert!(
            matches!(store.compact().await, Err(StoreError::Stopped { .. })),
            "the log has rows that nothing else has"
        );
    }
}
