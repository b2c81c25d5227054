//! [`RunningReactor`]: the handle of a reactor that runs.

use tokio::task::JoinSet;

use crate::consumer::group::{GroupError, GroupStatus, Parked, RunningGroup, Skipped};
use crate::model::Position;
use crate::store::StoreError;

/// A reactor that runs. Dropping it ends it at once, as a crash does: what was in hand comes again.
#[derive(Debug)]
pub struct RunningReactor {
    group: RunningGroup,
    workers: JoinSet<()>,
}

impl RunningReactor {
    pub(crate) fn new(group: RunningGroup, workers: JoinSet<()>) -> Self {
        Self { group, workers }
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        self.group.status()
    }

    /// Waits until everything up to a position is finished (done, parked or skipped) and that is written.
    ///
    /// # Errors
    /// [`GroupError`]: the reactor ended before.
    pub async fn wait_for(&self, position: Position) -> Result<(), GroupError> {
        self.group.wait_for(position).await
    }

    /// Waits until it does not run any more, and says why.
    pub async fn ended(&self) -> GroupError {
        self.group.ended().await
    }

    /// Starts nothing new, until [`resume`](Self::resume); also behind a restart. What is in hand is finished.
    ///
    /// # Errors
    /// [`GroupError`]: it has ended, and whether it will be paused is unknown.
    pub async fn pause(&self) -> Result<(), GroupError> {
        self.group.pause().await
    }

    /// Goes on.
    ///
    /// # Errors
    /// [`GroupError`]: it has ended, and whether it will be paused is unknown.
    pub async fn resume(&self) -> Result<(), GroupError> {
        self.group.resume().await
    }

    /// The parked events, in the order of the log: those that failed too often, and those of their keys behind them.
    #[must_use]
    pub fn parked(&self) -> Vec<Parked> {
        self.group.parked()
    }

    /// Delivers parked events again, in order, as if for the first time: see [`RunningGroup::replay_parked`].
    ///
    /// # Errors
    /// [`GroupError`]: it has ended; ask again when it runs.
    pub async fn retry_parked(&self) -> Result<usize, GroupError> {
        self.group.replay_parked(None).await
    }

    /// Delivers the parked events of one key again, in order, as if for the first time.
    ///
    /// # Errors
    /// [`GroupError`]: it has ended; ask again when it runs.
    pub async fn retry_parked_key(&self, key: &str) -> Result<usize, GroupError> {
        self.group.replay_parked_key(key).await
    }

    /// Gives a parked event up, for a reason that is kept: see [`RunningGroup::skip_parked`].
    ///
    /// # Errors
    /// [`GroupError`]: it has ended; ask again when it runs.
    pub async fn skip_parked(&self, position: Position, reason: impl Into<String>) -> Result<bool, GroupError> {
        self.group.skip_parked(position, reason).await
    }

    /// At most `limit` events that were given up, behind a position, in the order of the log.
    ///
    /// # Errors
    /// [`StoreError`] when the machinery failed.
    pub async fn skipped(&self, after: Option<Position>, limit: usize) -> Result<Vec<Skipped>, StoreError> {
        self.group.skipped(after, limit).await
    }

    /// Starts nothing new, finishes what is in hand, notes it, and ends.
    ///
    /// # Errors
    /// [`GroupError`]: it had ended before, or its last commit failed. What was not noted is delivered again.
    pub async fn close(self) -> Result<(), GroupError> {
        let Self { group, mut workers } = self;
        group.begin_to_close();
        while workers.join_next().await.is_some() {}
        group.close().await
    }
}
