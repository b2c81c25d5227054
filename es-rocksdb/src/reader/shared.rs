//! [`SharedStore`]: the state that the handles and the open reads of a store share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use es_core::model::{Clock, ErrorChain, LogId};
use es_core::store::implement::{Decider, KeySecret};
use es_core::{Position, StoreError, Timestamp};
use es_log::{Log, ReadableLog};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::engine::database::{Fault, Tier};
use crate::engine::layout;
use crate::executor::off_executor;
use crate::index::IndexView;
use crate::options::ReadLimits;
use crate::reader::stream_buffers::StreamBuffers;
use crate::record::codec::IdleDecoders;
use crate::sync::thread::JoinHandle;
use crate::sync::{AtomicBool, Mutex, PoisonError, RwLock};
use crate::writer::publish::{Handles, Publisher};

/// The state that all handles and open reads share.
pub(crate) struct SharedStore {
    pub(crate) core: RwLock<Option<Core>>,
    pub(crate) handles: Arc<Handles>,
    pub(crate) decider: Arc<Decider>,
    pub(crate) sealer: Mutex<Option<JoinHandle<()>>>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) capacity: u32,
    pub(crate) is_closed: AtomicBool,
    /// Held by the running scavenge or compaction, also after its caller stopped waiting.
    pub(crate) maintaining: Arc<tokio::sync::Mutex<()>>,
    pub(crate) read_batch: ReadLimits,
    pub(crate) decoders: IdleDecoders,
    pub(crate) buffers: StreamBuffers,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) directory: PathBuf,
    pub(crate) store_id: Uuid,
    pub(crate) log_id: LogId,
    pub(crate) created: Timestamp,
    pub(crate) opening: u64,
}

/// The open files of a store.
pub(crate) struct Core {
    pub(crate) log: ReadableLog,
    /// The log, for writes; `None` if the store is read-only.
    pub(crate) writer: Option<Arc<Log>>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) secret: KeySecret,
}

impl Core {
    /// Returns the index with the events up to `head`.
    pub(crate) fn view(&self, head: Position) -> IndexView<'_> {
        self.publisher.index.view(&self.publisher.database, &self.log, head)
    }
}

impl SharedStore {
    /// Uses the open files, and may block the thread.
    pub(crate) fn with<T>(&self, used: impl FnOnce(&Core) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let core = self.core.read().unwrap_or_else(PoisonError::into_inner);
        core.as_ref().map_or(Err(StoreError::Closed), used)
    }

    /// Uses the open files and the log for writes, and may block the thread.
    pub(crate) fn with_log<T>(&self, used: impl FnOnce(&Core, &Log) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.with(|core| core.writer.as_ref().map_or(Err(StoreError::Closed), |log| used(core, log)))
    }

    /// Reads on this thread if the data is in memory, otherwise on a blocking thread.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&Core, Tier) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let cached = self.with(|core| match read(core, Tier::Cached) {
            Ok(found) => Ok(Some(found)),
            Err(Fault::NotCached) => Ok(None),
            Err(Fault::Store(error)) => Err(error),
        });
        if let Some(found) = cached? {
            return Ok(found);
        }
        let inner = Arc::clone(self);
        off_executor(move || inner.with(|core| Ok(read(core, Tier::Any)?))).await?
    }

    /// Reads a row or a unique key. Returns after all changes that the read has seen are published.
    pub(crate) async fn read_changing<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&Core, Tier) -> Result<T, Fault> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        // ORDER: the number after the value, so that it covers every change that the read has seen.
        let numbered = Arc::new(move |core: &Core, tier: Tier| Ok((read(core, tier)?, core.publisher.started())));
        loop {
            let refusals = self.handles.visible.refusals();
            let numbered = Arc::clone(&numbered);
            let (value, number) = self.read(move |core, tier| numbered(core, tier)).await?;
            if self.handles.visible.wait_published_or_refused(number, Some(refusals)).await? {
                return Ok(value);
            }
        }
    }

    /// Returns the head up to which a new read sees events.
    pub(crate) fn open_head(&self) -> Result<Option<Position>, StoreError> {
        match self.is_closed() {
            true => Err(StoreError::Closed),
            false => Ok(self.handles.visible.head()),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Writes the index of all published events to tables. Returns the position up to which the tables have all events.
    pub(crate) async fn index_all(&self) -> Result<Option<Position>, StoreError> {
        let head = self.open_head()?;
        self.with(|core| {
            core.publisher.end_run()?;
            // ORDER: the head after the end of the run. An event that is published later wakes the thread itself.
            core.publisher.signal_full_run(self.handles.visible.head());
            Ok(())
        })?;
        self.wait_for_tables(|core| {
            Ok(Some(layout::applied(&core.publisher.database)?).filter(|applied| *applied >= head))
        })
        .await
    }

    /// Returns what `find` finds. Tries again each time a run was written to tables.
    ///
    /// # Errors
    /// - [`StoreError::Io`] if tables cannot be written.
    /// - [`StoreError::Stalled`] while a failed write is tried again: the events of a run may not be published.
    /// - [`StoreError::Stopped`] if the store has stopped and nothing is found: a run with events of a failed frame is
    ///   never written to tables.
    pub(crate) async fn wait_for_tables<T>(
        &self,
        find: impl Fn(&Core) -> Result<Option<T>, StoreError>,
    ) -> Result<T, StoreError> {
        loop {
            let sealed = self.handles.signal.sealed.notified();
            if let Some(found) = self.with(&find)? {
                return Ok(found);
            }
            self.handles.signal.check()?;
            self.handles.visible.check_running()?;
            self.handles.visible.unless_stalled(sealed).await?;
        }
    }

    pub(crate) fn close(&self) -> Result<(), StoreError> {
        self.is_closed.store(true, Ordering::Release);
        self.room.close();
        // The lock is held until the thread has ended, so that a concurrent call of `close` waits, too.
        let mut sealer = self.sealer.lock().unwrap_or_else(PoisonError::into_inner);
        let core = self.core.read().unwrap_or_else(PoisonError::into_inner);
        let Some(log) = core.as_ref().map(|core| core.writer.clone()) else { return Ok(()) };
        drop(core);
        // Waits for the commits in flight.
        let closed = log.as_ref().map_or(Ok(()), |log| log.close());
        let synced = closed.map_err(|error| StoreError::io("sync the log", error));
        self.handles.signal.close();
        let panicked = sealer.take().is_some_and(|sealer| sealer.join().is_err());
        // ORDER: after the log is closed, so that it does not grow after followers are notified of the close.
        self.handles.visible.close();
        // Waits for running reads.
        let core = self.core.write().unwrap_or_else(PoisonError::into_inner).take();
        drop((log, core));
        // Commits that wait for the index find the store closed.
        self.handles.signal.sealed.notify_waiters();
        tracing::info!(directory = %self.directory.display(), "closed the store");
        if panicked {
            return Err(StoreError::io("end the thread of the index", "it panicked; this is a bug, see its message"));
        }
        synced
    }
}

/// Closes the store when it is dropped. Handles share it; open reads do not hold it.
pub(crate) struct CloseOnDrop(pub(crate) Arc<SharedStore>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Err(error) = self.0.close() {
            let (directory, error) = (self.0.directory.display(), ErrorChain(&error));
            tracing::error!(%directory, %error, "could not close the store");
        }
    }
}
