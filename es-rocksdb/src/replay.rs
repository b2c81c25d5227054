//! [`Replay`]: history that was recorded before is written again, with its times.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use es_core::model::Clock;
use es_core::store::Committed;
use es_core::{Commit, CommitError, EventReader, EventStore, Position, Revision, StoreError, StreamId, Timestamp};

use crate::database::Database;
use crate::draft::refuse_stamps;
use crate::error::OpenError;
use crate::options::Options;
use crate::store::RocksDbStore;

/// A commit, and when it was recorded.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The commit.
    pub commit: Commit,
    /// When it was recorded first; `None` says "now".
    pub at: Option<Timestamp>,
}

/// A store that is opened to have recorded history written to it: an import, a backup.
///
/// It has the store for itself, and with it the clock, so that each commit can be given the time at which it was recorded
/// first. All else is as in any other commit: the same checks, the same idempotency, and a recorded time never goes back, so
/// that a commit behind a later one gets that one's time.
#[derive(Debug)]
pub struct Replay {
    store: RocksDbStore,
    script: Arc<Script>,
    /// Whether a [`write`](Self::write) was left before its end, so that times and commits may be out of step.
    is_abandoned: bool,
}

impl Replay {
    /// Opens a store for a replay.
    ///
    /// # Errors
    /// [`OpenError`]; each variant says what to do.
    pub async fn open(folder: impl AsRef<Path> + Send, options: Options) -> Result<Self, OpenError> {
        let script = Arc::new(Script { times: Mutex::default(), otherwise: Arc::clone(&options.clock) });
        let clock: Arc<dyn Clock> = Arc::<Script>::clone(&script);
        let store = RocksDbStore::open_with(folder, options.clock(clock)).await?;
        Ok(Self { store, script, is_abandoned: false })
    }

    /// Writes commits in their order. They are decided on one after the other, each as if it came alone, and share waits
    /// for the disk: the answers are those of each, in order. A commit that is refused does not keep those behind it from
    /// being written.
    ///
    /// If the future is dropped, some of the first commits may be written; open the store again to go on.
    pub async fn write(&mut self, commits: Vec<Recorded>) -> Vec<Result<Committed, CommitError>> {
        let mut waiting = Vec::with_capacity(commits.len());
        let was_abandoned = std::mem::replace(&mut self.is_abandoned, true);
        for Recorded { commit, at } in commits {
            if was_abandoned {
                let error =
                    StoreError::io("go on with a replay", "an earlier part was left before its end; open it again");
                waiting.push(Err(error.into()));
                continue;
            }
            if let Err(invalid) = commit.validate().and_then(|()| refuse_stamps(&commit)) {
                waiting.push(Err(invalid.into()));
                continue;
            }
            // ORDER: the time is there before the commit. The writer asks the clock once for each commit that it decides on.
            self.script.push(at);
            waiting.push(self.store.enqueue(commit).await);
        }
        let mut answers = Vec::with_capacity(waiting.len());
        for waiting in waiting {
            answers.push(match waiting {
                Ok(waiting) => self.store.answer(waiting).await,
                Err(error) => Err(error),
            });
        }
        self.is_abandoned = was_abandoned;
        answers
    }

    /// The position of the last event.
    ///
    /// # Errors
    /// [`StoreError`] when the store is closed.
    pub async fn head(&self) -> Result<Option<Position>, StoreError> {
        self.store.head().await
    }

    /// Removes what scavenge points up to a position say.
    pub(crate) async fn complete_points(&self, up_to: Position) -> Result<(), StoreError> {
        self.store.complete_points(up_to).await
    }

    /// Removes the events of a stream before a revision.
    pub(crate) async fn remove_before(&self, stream: StreamId, first: Revision) -> Result<(), StoreError> {
        self.store.remove_before(stream, first).await
    }

    /// Sets entries of the index of unique keys; `None` removes one.
    pub(crate) async fn change_keys(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        self.store.change_keys(changes).await
    }

    /// Reads the store on this thread.
    pub(crate) fn locked<T>(&self, read: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.store.shared().locked(read)
    }

    /// Writes everything that is in memory into table files.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.store.flush().await
    }

    /// The same as [`RocksDbStore::close`].
    ///
    /// # Errors
    /// [`StoreError`] when the last wait for the disk failed.
    pub async fn close(self) -> Result<(), StoreError> {
        self.store.close().await
    }
}

/// A clock that says what it was told to, and the time of another where it was told nothing.
#[derive(Debug)]
struct Script {
    times: Mutex<VecDeque<Option<Timestamp>>>,
    otherwise: Arc<dyn Clock>,
}

impl Script {
    fn push(&self, time: Option<Timestamp>) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).push_back(time);
    }
}

impl Clock for Script {
    fn now(&self) -> Timestamp {
        let told = self.times.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        told.flatten().unwrap_or_else(|| self.otherwise.now())
    }

    fn elapsed(&self) -> Duration {
        self.otherwise.elapsed()
    }
}
