//! [`RunningGroup`]: the handle of a running group.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::consumer::group::consumer::Consumer;
use crate::consumer::group::rows::{Parked, Skipped};
use crate::consumer::group::shared::GroupCore;
use crate::consumer::group::state::ReplaySelection;
use crate::consumer::lifecycle::GroupError;
use crate::consumer::lifecycle::{ShutdownError, WaitError};
use crate::model::Position;
use crate::store::StoreError;

/// A running group. Dropping it aborts the group without a last commit, like a crash.
pub struct RunningGroup {
    shared: Arc<GroupCore>,
    driver: Option<JoinHandle<()>>,
}

impl fmt::Debug for RunningGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningGroup").field("name", &self.shared.rows.name()).finish_non_exhaustive()
    }
}

/// The status of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// The position up to which all events are finished.
    pub checkpoint: Option<Position>,
    /// The position up to which the log was scanned.
    pub scanned: Option<Position>,
    /// The head of the log.
    pub head: Option<Position>,
    /// The number of positions between `checkpoint` and `head`, including those of events that do not match.
    pub lag: u64,
    /// The number of delivered events that are not settled.
    pub delivered: usize,
    /// The number of events that wait for a delivery, including those in a pause after a failure.
    pub waiting: usize,
    /// The number of finished events after the checkpoint, which waits for an earlier event.
    pub ahead: usize,
    /// The number of parked events.
    pub parked: usize,
    /// The number of parked events that are marked for a replay.
    pub replaying: usize,
    /// Whether the group is paused.
    pub is_paused: bool,
    /// The reason why the group has stopped; `None` while it runs.
    pub ended: Option<String>,
}

impl RunningGroup {
    pub(crate) fn new(shared: Arc<GroupCore>, driver: JoinHandle<()>) -> Self {
        Self { shared, driver: Some(driver) }
    }

    /// Creates a consumer.
    #[must_use]
    pub fn consumer(&self) -> Consumer {
        Consumer::new(Arc::clone(&self.shared))
    }

    /// Returns the status of the group.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        let head = self.shared.store.watch_head().current();
        let ended = self.shared.progress.borrow().end.as_ref().map(ToString::to_string);
        let state = self.shared.state();
        let checkpoint = state.in_flight().checkpoint();
        let number = |position: Option<Position>| position.map_or(0, Position::get);
        GroupStatus {
            checkpoint,
            scanned: state.in_flight().scanned(),
            head,
            lag: number(head).saturating_sub(number(checkpoint)),
            delivered: state.delivered(),
            waiting: state.waiting(),
            ahead: state.in_flight().ahead().len(),
            parked: state.parked().len(),
            replaying: state.parked().values().filter(|parked| parked.replaying).count(),
            is_paused: state.is_paused(),
            ended,
        }
    }

    /// Returns the name of the group.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.rows.name()
    }

    /// Waits until every event up to a position is durably finished: acked, parked or skipped. Returns immediately for
    /// `None`.
    ///
    /// # Errors
    /// [`WaitError::AheadOfLog`] at once if the log has not reached the position, [`WaitError::Timeout`] after
    /// `timeout`, [`WaitError::Stopped`] if the group stopped before.
    pub async fn wait_for(&self, position: impl Into<Option<Position>>, timeout: Duration) -> Result<(), WaitError> {
        let Some(position) = position.into() else { return Ok(()) };
        self.shared.store.watch_head().check(Some(position))?;
        let reached = self.shared.wait(|progress| progress.checkpoint >= Some(position));
        let reason = match tokio::time::timeout(timeout, reached).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => Some(reason),
            Err(_) => None,
        };
        let (name, reached) = (self.name().to_owned(), self.shared.progress.borrow().checkpoint);
        Err(match reason {
            Some(reason) => WaitError::Stopped { name, position, reached, reason: Some(reason) },
            None => {
                let state = if self.shared.state().is_paused() { "paused" } else { "running" }.to_owned();
                WaitError::Timeout { name, position, reached, state, timeout }
            }
        })
    }

    /// Waits until the group has stopped, and returns the reason.
    pub async fn ended(&self) -> GroupError {
        match self.shared.wait(|_| false).await {
            Err(end) => end,
            Ok(()) => GroupError::Closed { name: self.shared.name() },
        }
    }

    /// Stops deliveries until [`resume`](Self::resume), also across restarts. Delivered events can still be settled.
    ///
    /// # Errors
    /// [`GroupError`] if the group stopped. It is unknown whether the pause was written.
    pub async fn pause(&self) -> Result<(), GroupError> {
        let change = self.shared.state().set_paused(true);
        self.shared.written(change).await
    }

    /// Resumes deliveries.
    ///
    /// # Errors
    /// [`GroupError`] if the group stopped. It is unknown whether the resumption was written.
    pub async fn resume(&self) -> Result<(), GroupError> {
        let change = self.shared.state().set_paused(false);
        self.shared.notify();
        self.shared.written(change).await
    }

    /// Returns the parked events, in the order of the log.
    #[must_use]
    pub fn parked(&self) -> Vec<Parked> {
        self.shared.state().parked().values().cloned().collect()
    }

    /// Requests a replay of the parked events, in the order of the log; with `limit` only of the first ones. Returns
    /// their number when the request is durable.
    ///
    /// A replayed event is delivered with a new count of attempts, and decoded with the current upcasters. If it fails
    /// again, it stays parked.
    ///
    /// # Errors
    /// [`GroupError`] if the group stopped. It is unknown whether the request was written.
    pub async fn replay_parked(&self, limit: Option<usize>) -> Result<usize, GroupError> {
        self.replay(&ReplaySelection::First(limit.unwrap_or(usize::MAX))).await
    }

    /// Requests a replay of the parked events of one key. Returns their number when the request is durable.
    ///
    /// # Errors
    /// [`GroupError`] if the group stopped. It is unknown whether the request was written.
    pub async fn replay_parked_key(&self, key: &str) -> Result<usize, GroupError> {
        self.replay(&ReplaySelection::Key(key.to_owned())).await
    }

    async fn replay(&self, selection: &ReplaySelection) -> Result<usize, GroupError> {
        let (count, change) = {
            let mut state = self.shared.state();
            (state.replay(selection), state.change())
        };
        self.shared.written(change).await?;
        Ok(count)
    }

    /// Skips a parked event and stores the reason. Returns `false` if the event is not parked, or is delivered at this
    /// time.
    ///
    /// In an ordered group the later parked events of its key stay parked until they are replayed.
    ///
    /// # Errors
    /// [`GroupError`] if the group stopped. It is unknown whether the skip was written.
    pub async fn skip_parked(&self, position: Position, reason: impl Into<String>) -> Result<bool, GroupError> {
        let now = self.shared.now();
        let change = self.shared.state().skip_parked(position, reason.into(), now);
        let Some(change) = change else { return Ok(false) };
        self.shared.notify();
        self.shared.written(change).await?;
        Ok(true)
    }

    /// Returns at most `limit` skipped events after the position `after`, in the order of the log.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn skipped(&self, after: Option<Position>, limit: usize) -> Result<Vec<Skipped>, StoreError> {
        self.shared.rows.skipped(&*self.shared.store, after, limit).await
    }

    /// Delivers no new event, waits until every delivered event is settled, writes the checkpoint and stops.
    ///
    /// # Errors
    /// [`ShutdownError::Timeout`] if a consumer did not settle an event before `deadline`, [`ShutdownError::Ended`] if
    /// the group stopped before or its last commit failed. Events whose settlement was not written are delivered again.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<(), ShutdownError> {
        self.begin_to_close();
        if let Some(driver) = &mut self.driver {
            // The result of the task is not needed: the driver publishes its end, also after a panic.
            if tokio::time::timeout(deadline, driver).await.is_err() {
                return Err(ShutdownError::Timeout { deadline, unfinished: vec![self.name().to_owned()] });
            }
        }
        match &self.shared.progress.borrow().end {
            Some(GroupError::Closed { .. }) | None => Ok(()),
            Some(end) => Err(ShutdownError::Ended { name: self.name().to_owned(), source: end.clone() }),
        }
    }

    /// Returns the time of the clock of the group.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    /// Stops deliveries for a shutdown.
    pub(crate) fn begin_to_close(&self) {
        self.shared.state().begin_to_close();
        self.shared.notify();
        self.shared.wake.notify_one();
    }
}

impl Drop for RunningGroup {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
    }
}
