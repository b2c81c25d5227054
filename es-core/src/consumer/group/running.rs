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

/// How a group is doing, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// Everything up to here is finished.
    pub checkpoint: Option<Position>,
    /// Up to where the log has been looked at.
    pub scanned: Option<Position>,
    /// Where the log ends.
    pub head: Option<Position>,
    /// How many positions the checkpoint is behind the head, events that do not match included.
    pub lag: u64,
    /// How many events are in the hands of consumers.
    pub delivered: usize,
    /// How many events wait to be delivered, the pauses after failures included.
    pub waiting: usize,
    /// How many events are finished behind the checkpoint, which waits for an earlier one.
    pub ahead: usize,
    /// How many events are parked.
    pub parked: usize,
    /// How many of the parked events are to be delivered again.
    pub replaying: usize,
    /// Whether it is paused.
    pub is_paused: bool,
    /// Why it does not run any more, if so.
    pub ended: Option<String>,
}

impl RunningGroup {
    pub(crate) fn new(shared: Arc<GroupCore>, driver: JoinHandle<()>) -> Self {
        Self { shared, driver: Some(driver) }
    }

    /// One more consumer.
    #[must_use]
    pub fn consumer(&self) -> Consumer {
        Consumer::new(Arc::clone(&self.shared))
    }

    /// How it is doing.
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

    /// Waits until every event up to a position is finished (acked, parked or skipped) and this is written. Returns at
    /// once for `None`.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] after `timeout`, [`WaitError::Stopped`] if the group ended before.
    pub async fn wait_for(&self, position: impl Into<Option<Position>>, timeout: Duration) -> Result<(), WaitError> {
        let Some(position) = position.into() else { return Ok(()) };
        let arrived = self.shared.wait(|progress| progress.checkpoint >= Some(position));
        let reason = match tokio::time::timeout(timeout, arrived).await {
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

    /// Waits until the group does not run any more, and says why.
    pub async fn ended(&self) -> GroupError {
        // NOTE: nothing is so but the end.
        match self.shared.wait(|_| false).await {
            Err(end) => end,
            Ok(()) => GroupError::Closed { name: self.shared.name() },
        }
    }

    /// Delivers nothing more, until [`resume`](Self::resume); also behind a restart. What is in hand can be answered.
    ///
    /// # Errors
    /// [`GroupError`]: the group has ended, and whether it will be paused is unknown.
    pub async fn pause(&self) -> Result<(), GroupError> {
        let change = self.shared.state().set_paused(true);
        self.shared.written(change).await
    }

    /// Delivers again.
    ///
    /// # Errors
    /// [`GroupError`]: the group has ended, and whether it will be paused is unknown.
    pub async fn resume(&self) -> Result<(), GroupError> {
        let change = self.shared.state().set_paused(false);
        self.shared.tell();
        self.shared.written(change).await
    }

    /// The parked events, in the order of the log.
    #[must_use]
    pub fn parked(&self) -> Vec<Parked> {
        self.shared.state().parked().values().cloned().collect()
    }

    /// Lets parked events be delivered again, in the order of the log, as if for the first time; with `stop_at` only
    /// the first so many. ReplaySelection fail again stay parked. Returns how many there are, when that is written.
    ///
    /// They are decoded by the code of today: an upcaster that was added meanwhile counts.
    ///
    /// # Errors
    /// [`GroupError`]: the group has ended; ask again when it is open.
    pub async fn replay_parked(&self, stop_at: Option<usize>) -> Result<usize, GroupError> {
        self.replay(&ReplaySelection::First(stop_at.unwrap_or(usize::MAX))).await
    }

    /// Lets the parked events of one key be delivered again. Returns how many there are, when that is written.
    ///
    /// # Errors
    /// [`GroupError`]: the group has ended; ask again when it is open.
    pub async fn replay_parked_key(&self, key: &str) -> Result<usize, GroupError> {
        self.replay(&ReplaySelection::Key(key.to_owned())).await
    }

    async fn replay(&self, which: &ReplaySelection) -> Result<usize, GroupError> {
        let (count, change) = {
            let mut state = self.shared.state();
            (state.replay(which), state.change())
        };
        self.shared.written(change).await?;
        Ok(count)
    }

    /// Gives a parked event up, for a reason that is kept; in an ordered group, those behind it stay parked until they
    /// are replayed. `false` where it is not parked, or is being delivered at this moment.
    ///
    /// # Errors
    /// [`GroupError`]: the group has ended; ask again when it is open.
    pub async fn skip_parked(&self, position: Position, reason: impl Into<String>) -> Result<bool, GroupError> {
        let now = self.shared.now();
        let change = self.shared.state().skip_parked(position, reason.into(), now);
        let Some(change) = change else { return Ok(false) };
        self.shared.tell();
        self.shared.written(change).await?;
        Ok(true)
    }

    /// At most `limit` events that were given up, behind a position, in the order of the log.
    ///
    /// # Errors
    /// [`StoreError`] when the machinery failed.
    pub async fn skipped(&self, after: Option<Position>, limit: usize) -> Result<Vec<Skipped>, StoreError> {
        self.shared.rows.skipped(&*self.shared.store, after, limit).await
    }

    /// Delivers no new event, waits until every delivered event is settled, writes the checkpoint and stops.
    ///
    /// # Errors
    /// [`ShutdownError::Timeout`] if a consumer did not settle an event before `deadline`, [`ShutdownError::Ended`] if
    /// the group had ended before or its last commit failed. Events whose settlement was not written are delivered
    /// again.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<(), ShutdownError> {
        self.begin_to_close();
        if let Some(driver) = &mut self.driver {
            // The driver itself reports how it ended, also after a panic.
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

    /// Delivers no new event from now on.
    pub(crate) fn begin_to_close(&self) {
        self.shared.state().begin_to_close();
        self.shared.tell();
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
