//! [`RunningReactor`]: the handle of a running reactor.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::consumer::group::{GroupError, GroupStatus, Parked, RunningGroup, Skipped};
use crate::consumer::lifecycle::{ShutdownError, WaitError};
use crate::model::Position;
use crate::store::StoreError;

/// A running reactor. Dropping it aborts it like a crash: unfinished events are delivered again.
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

    /// Returns the name of the reactor.
    #[must_use]
    pub fn name(&self) -> &str {
        self.group.name()
    }

    /// Waits until every event up to a position is finished (done, parked or skipped) and this is written. Returns at
    /// once for `None`.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] after `timeout`, [`WaitError::Stopped`] if the reactor ended before.
    pub async fn wait_for(&self, position: impl Into<Option<Position>>, timeout: Duration) -> Result<(), WaitError> {
        self.group.wait_for(position, timeout).await
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

    /// Delivers no new event, waits until the running calls have returned, writes the checkpoint and stops.
    ///
    /// # Errors
    /// [`ShutdownError::Timeout`] if a call did not return before `deadline` and was aborted, [`ShutdownError::Ended`]
    /// if the reactor had ended before or its last commit failed. Events whose end was not written are delivered again.
    pub async fn shutdown(self, deadline: Duration) -> Result<(), ShutdownError> {
        let Self { group, mut workers } = self;
        let begun = group.elapsed();
        group.begin_to_close();
        let finished = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, finished).await.is_err() {
            return Err(ShutdownError::Timeout { deadline, unfinished: vec![group.name().to_owned()] });
        }
        let remaining = deadline.saturating_sub(group.elapsed().saturating_sub(begun));
        group.shutdown(remaining).await
    }
}
