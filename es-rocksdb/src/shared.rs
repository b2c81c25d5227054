//! What all handles, reads and the writer share: the open database, and the ways to read from it.

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

/// The open database, until it is closed.
pub(crate) struct Shared {
    /// NOTE: a read holds the lock only while it runs on RocksDB, so that closing waits for the reads under way, and for
    /// nothing else: a read that is open but idle does not keep the store open.
    database: RwLock<Option<Arc<Database>>>,
    pub(crate) visible: Visible,
    pub(crate) tail: Tail,
    pub(crate) counters: Counters,
    /// What operators have said of retention.
    pub(crate) operators: Operators,
    /// The secret of the hashes of unique keys.
    pub(crate) secret: KeySecret,
    pub(crate) clock: Arc<dyn Clock>,
    /// The time at which the last event was recorded.
    last_recorded: Mutex<Option<Timestamp>>,
    /// Held while something is decided, written and published, so that there is one who does that at a time: the writer, or a
    /// scavenge. No read needs it. Says why nothing is written any more.
    pub(crate) writing: Mutex<Result<(), String>>,
    /// Held by the one scavenge at a time, also where nobody waits for it any more.
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

    /// Sets the time at which the last event was recorded.
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
    pub(crate) fn cached<T>(&self, read: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, Fault> {
        let database = match self.database.try_read() {
            Ok(database) => database,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // NOTE: the store is being closed; whoever may block finds out when.
            Err(TryLockError::WouldBlock) => return Err(Fault::NotCached),
        };
        database.as_ref().map_or(Err(Fault::Store(StoreError::Closed)), |database| read(database))
    }

    /// Whether the store is closed, or is being closed just now.
    pub(crate) fn is_closed(&self) -> bool {
        self.cached(|_| Ok(())).is_err()
    }

    /// Reads on a thread that may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(self);
        off_executor(move || shared.locked(read)).await?
    }

    /// Reads on this thread, which may block.
    pub(crate) fn locked<T>(&self, read: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.as_ref().map_or(Err(StoreError::Closed), |database| read(database))
    }

    /// Reads what commits also change, such as a row or a key: from memory if possible, and not before everything that
    /// it has seen is published. What will never be, because a write failed that is there all the same, is not returned: it is
    /// not known what of it stays, and no other read shows it.
    pub(crate) async fn point<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&Database, Tier) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        // ORDER: the sequence is asked for after the read, so that it is not below what the read has seen.
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

    /// After a failed write it is unknown what is on the disk: nothing more must be put behind it, by whomever.
    pub(crate) fn stop(&self, database: &Database, turn: &mut Result<(), String>, reason: &str) {
        tracing::error!(directory = %database.directory().display(), reason, "the store takes no more writes");
        self.visible.stop(reason);
        *turn = Err(reason.to_owned());
    }

    #[cfg(test)]
    pub(crate) fn database(&self) -> Option<Arc<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the database out, once no read runs on it any more.
    pub(crate) fn take(&self) -> Option<Arc<Database>> {
        self.tail.clear();
        self.database.write().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Runs what may block on a thread for such work; on this thread where there is no tokio runtime.
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

/// Whether this thread can wait for the disk without keeping other tasks from running, inside of
/// [`block_in_place`](tokio::task::block_in_place): a worker of a runtime with several can hand its other tasks over to
/// another thread. Where there is no runtime, whoever polls is blocked, as by [`off_executor`].
///
/// On any other thread of a runtime `block_in_place` may panic, because the runtime or a `LocalSet` there has no second
/// thread that its tasks could go to.
pub(crate) fn may_block_here() -> bool {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread
                && tokio::runtime::worker_index().is_some()
        }
        Err(_) => true,
    }
}
