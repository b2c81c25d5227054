//! [`Shared`]: the state that handles, reads and the writer share: the open database, and the ways to read from it.

use std::fmt;
use std::sync::{Arc, TryLockError};
use std::time::Duration;

use es_core::model::Clock;
use es_core::store::implement::{KeySecret, ahead_of_clock};
use es_core::{StoreError, Timestamp};

use crate::database::{Database, Fault, Tier};
use crate::notify::Visible;
use crate::retention::Operators;
use crate::stats::Counters;
use crate::sync::{Mutex, PoisonError, RwLock};
use crate::tail::Tail;

/// The shared state of an open store.
pub(crate) struct Shared {
    /// `None` after the store is closed. A read holds the lock only during a call of RocksDB, so that closing waits for
    /// running calls only. An open but idle read does not keep the store open.
    database: RwLock<Option<Arc<Database>>>,
    pub(crate) visible: Visible,
    pub(crate) tail: Tail,
    pub(crate) counters: Counters,
    /// The retention rules and deletions in memory.
    pub(crate) operators: Operators,
    /// The secret of the hashes of unique keys.
    pub(crate) secret: KeySecret,
    pub(crate) clock: Arc<dyn Clock>,
    /// The recorded time of the last event.
    last_recorded: Mutex<Option<Timestamp>>,
    /// The writer lock: held by the writer or a scavenge from the check of its changes until they are published. Reads
    /// do not need it. The value is an error after a failed write, with its reason.
    pub(crate) writing: Mutex<Result<(), String>>,
    /// Held by the running scavenge, also after its caller stopped waiting.
    pub(crate) scavenging: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("visible", &self.visible).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        database: Arc<Database>,
        visible: Visible,
        tail: Tail,
        operators: Operators,
        secret: KeySecret,
        clock: Arc<dyn Clock>,
        last_recorded: Option<Timestamp>,
    ) -> Self {
        Self {
            database: RwLock::new(Some(database)),
            visible,
            tail,
            counters: Counters::default(),
            operators,
            secret,
            clock,
            last_recorded: Mutex::new(last_recorded),
            writing: Mutex::new(Ok(())),
            scavenging: Arc::default(),
        }
    }

    /// Sets the recorded time of the last event.
    pub(crate) fn set_last_recorded(&self, time: Option<Timestamp>) {
        *self.last_recorded.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    /// Returns the time at which the last event was recorded.
    pub(crate) fn last_recorded(&self) -> Option<Timestamp> {
        *self.last_recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns by how much the log is ahead of the clock, if that is more than a minute.
    pub(crate) fn ahead_of_clock(&self) -> Option<Duration> {
        ahead_of_clock(self.last_recorded(), self.clock.now())
    }

    /// Reads on this thread, from memory only.
    ///
    /// # Errors
    /// [`Fault::NotCached`] if the read needs the disk, or while the store is being closed; [`StoreError::Closed`].
    pub(crate) fn cached<T>(&self, read: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, Fault> {
        let database = match self.database.try_read() {
            Ok(database) => database,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The store is being closed. A blocking read waits for that.
            Err(TryLockError::WouldBlock) => return Err(Fault::NotCached),
        };
        database.as_ref().map_or(Err(Fault::Store(StoreError::Closed)), |database| read(database))
    }

    /// Returns whether the store is closed or being closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.cached(|_| Ok(())).is_err()
    }

    /// Reads on a blocking thread.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(self);
        off_executor(move || shared.locked(read)).await?
    }

    /// Reads on this thread, and may block it.
    pub(crate) fn locked<T>(&self, read: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.as_ref().map_or(Err(StoreError::Closed), |database| read(database))
    }

    /// Reads a value that commits change, such as a row or a unique key, from memory if possible. Returns after all
    /// changes that it has seen are published.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] if RocksDB has a change of a failed write. It is never published, and may be lost when
    /// the store is reopened.
    pub(crate) async fn point<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&Database, Tier) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        // ORDER: read the sequence number after the value, so that it covers every change that the read has seen.
        let with_sequence = move |database: &Database, tier| Ok((read(database, tier)?, database.sequence()));
        let (value, sequence) = match self.cached(|database| with_sequence(database, Tier::Cached)) {
            Ok(found) => found,
            Err(Fault::Store(error)) => return Err(error),
            Err(Fault::NotCached) => {
                self.blocking(move |database| with_sequence(database, Tier::Any).map_err(|fault: Fault| fault.into()))
                    .await?
            }
        };
        self.visible.wait_published(sequence).await?;
        Ok(value)
    }

    /// Stops all writes after a failed write. The state on disk is then unknown, so nothing may be written after it.
    pub(crate) fn stop(&self, database: &Database, turn: &mut Result<(), String>, reason: &str) {
        tracing::error!(directory = %database.directory().display(), reason, "the store takes no more writes");
        self.visible.stop(reason);
        *turn = Err(reason.to_owned());
    }

    #[cfg(test)]
    pub(crate) fn database(&self) -> Option<Arc<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the database out of the shared state, after waiting for running reads. Also frees the tail.
    pub(crate) fn take(&self) -> Option<Arc<Database>> {
        self.tail.clear();
        self.database.write().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Runs blocking work on a blocking thread of the tokio runtime; on this thread if there is no runtime.
///
/// # Errors
/// [`StoreError::Io`] when the runtime is shut down, or when `work` panicked.
pub(crate) async fn off_executor<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            runtime.spawn_blocking(work).await.map_err(|error| StoreError::io("run on a blocking thread", error))
        }
        Err(_) => Ok(work()),
    }
}

/// Returns whether this thread may wait for the disk inside of [`block_in_place`](tokio::task::block_in_place) without
/// delaying other tasks: a worker of a multi-threaded runtime moves its other tasks to another thread. Without a
/// runtime, the calling thread is blocked, as by [`off_executor`].
///
/// On other threads of a runtime `block_in_place` may panic, because a current-thread runtime or a `LocalSet` has no
/// second thread for its tasks.
pub(crate) fn may_block_here() -> bool {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread
                && tokio::runtime::worker_index().is_some()
        }
        Err(_) => true,
    }
}
