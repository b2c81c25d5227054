//! [`RunningReactor`]: the handle of a running reactor.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::consumer::group::{GroupError, GroupStatus, Parked, RunningGroup, Skipped};
use crate::consumer::lifecycle::{ShutdownError, WaitError};
use crate::model::Position;
use crate::store::StoreError;

/// A running reactor. Dropping it aborts the running calls, like a crash; unfinished events are delivered again.
#[derive(Debug)]
pub struct RunningReactor {
    group: RunningGroup,
    workers: JoinSet<()>,
}

impl RunningReactor {
    pub(crate) fn new(group: RunningGroup, workers: JoinSet<()>) -> Self {
        Self { group, workers }
    }

    /// Returns the status of the reactor.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        self.group.status()
    }

    /// Returns the name of the reactor.
    #[must_use]
    pub fn name(&self) -> &str {
        self.group.name()
    }

    /// Waits until every event up to a position is durably finished: processed, parked or skipped. Returns immediately
    /// for `None`.
    ///
    /// # Errors
    /// [`WaitError::AheadOfLog`] at once if the log has not reached the position, [`WaitError::Timeout`] after
    /// `timeout`, [`WaitError::Stopped`] if the reactor stopped first.
    pub async fn wait_for(&self, position: impl Into<Option<Position>>, timeout: Duration) -> Result<(), WaitError> {
        self.group.wait_for(position, timeout).await
    }

    /// Waits until the reactor has stopped, and returns the reason.
    pub async fn ended(&self) -> GroupError {
        self.group.ended().await
    }

    /// Starts no new calls until [`resume`](Self::resume), also across restarts. Running calls are finished.
    ///
    /// # Errors
    /// [`GroupError`] if the reactor stopped. It is unknown whether the pause was written.
    pub async fn pause(&self) -> Result<(), GroupError> {
        self.group.pause().await
    }

    /// Resumes a paused reactor.
    ///
    /// # Errors
    /// [`GroupError`] if the reactor stopped. It is unknown whether the resumption was written.
    pub async fn resume(&self) -> Result<(), GroupError> {
        self.group.resume().await
    }

    /// Returns the parked events, in the order of the log: those that failed too often, and the later ones of their
    /// keys.
    #[must_use]
    pub fn parked(&self) -> Vec<Parked> {
        self.group.parked()
    }

    /// Requests a retry of the parked events, in order, with a new count of attempts. Returns their number. See
    /// [`RunningGroup::replay_parked`].
    ///
    /// # Errors
    /// [`GroupError`] if the reactor stopped. It is unknown whether the request was written.
    pub async fn retry_parked(&self) -> Result<usize, GroupError> {
        self.group.replay_parked(None).await
    }

    /// Requests a retry of the parked events of one key, in order, with a new count of attempts. Returns their number.
    ///
    /// # Errors
    /// [`GroupError`] if the reactor stopped. It is unknown whether the request was written.
    pub async fn retry_parked_key(&self, key: &str) -> Result<usize, GroupError> {
        self.group.replay_parked_key(key).await
    }

    /// Skips a parked event and stores the reason. See [`RunningGroup::skip_parked`].
    ///
    /// # Errors
    /// [`GroupError`] if the reactor stopped. It is unknown whether the skip was written.
    pub async fn skip_parked(&self, position: Position, reason: impl Into<String>) -> Result<bool, GroupError> {
        self.group.skip_parked(position, reason).await
    }

    /// Returns at most `limit` skipped events after the position `after`, in the order of the log.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn skipped(&self, after: Option<Position>, limit: usize) -> Result<Vec<Skipped>, StoreError> {
        self.group.skipped(after, limit).await
    }

    /// Stops the reactor: starts no new call, waits for the running calls, and writes the checkpoint.
    ///
    /// # Errors
    /// - [`ShutdownError::Timeout`] if a call did not return before `deadline` and was aborted.
    /// - [`ShutdownError::Ended`] if the reactor had already stopped, or could not write the checkpoint.
    ///
    /// After an error, the next start delivers the events again whose result was not written.
    pub async fn shutdown(self, deadline: Duration) -> Result<(), ShutdownError> {
        let Self { group, mut workers } = self;
        let started_at = group.elapsed();
        group.begin_to_close();
        let finished = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, finished).await.is_err() {
            return Err(ShutdownError::Timeout { deadline, unfinished: vec![group.name().to_owned()] });
        }
        let remaining = deadline.saturating_sub(group.elapsed().saturating_sub(started_at));
        group.shutdown(remaining).await
    }
}
