//! [`GroupCore`]: the state that the driver, the consumers and the handle of a group share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::aggregate::repository::RetryPolicy;
use crate::consumer::group::error::SettleError;
use crate::consumer::group::metrics::{GroupMetrics, SettledOutcome};
use crate::consumer::group::rows::GroupRows;
use crate::consumer::group::settlement::Settlement;
use crate::consumer::group::state::{Dispatch, GroupState, Now};
use crate::consumer::lifecycle::GroupError;
use crate::model::Clock;
use crate::model::Entropy;
use crate::model::Position;
use crate::model::RecordedEvent;
use crate::store::EventStore;

#[derive(Debug)]
pub(crate) struct GroupCore {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) rows: GroupRows,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) retry: RetryPolicy,
    pub(crate) metrics: GroupMetrics,
    state: Mutex<GroupState<Arc<RecordedEvent>>>,
    /// Wakes the driver.
    pub(crate) wake: Notify,
    /// Held by the consumer that waits for the next event. The lock is fair, so consumers are served in the order of
    /// their calls.
    next_consumer: tokio::sync::Mutex<()>,
    /// The written progress. Also notified of every change of the state.
    pub(crate) progress: watch::Sender<GroupProgress>,
}

/// The written progress of a group.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupProgress {
    /// The number of the last written change.
    pub(crate) written: u64,
    /// The written checkpoint.
    pub(crate) checkpoint: Option<Position>,
    /// The reason why the group has stopped; `None` while it runs.
    pub(crate) end: Option<GroupError>,
}

impl GroupCore {
    pub(crate) fn new(
        store: Arc<dyn EventStore>,
        rows: GroupRows,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        retry: RetryPolicy,
        state: GroupState<Arc<RecordedEvent>>,
    ) -> Self {
        let checkpoint = state.in_flight().checkpoint();
        let progress = watch::Sender::new(GroupProgress { checkpoint, ..GroupProgress::default() });
        let (state, wake, next_consumer) = (Mutex::new(state), Notify::new(), tokio::sync::Mutex::new(()));
        let metrics = GroupMetrics::new(rows.name());
        Self { store, rows, clock, entropy, retry, metrics, state, wake, next_consumer, progress }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, GroupState<Arc<RecordedEvent>>> {
        // The state does not panic, so it is consistent under a poisoned lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the gauges of the group.
    pub(crate) fn report_progress(&self) {
        let head = self.store.watch_head().current();
        let (checkpoint, parked) = {
            let state = self.state();
            (state.in_flight().checkpoint(), state.parked().len())
        };
        self.metrics.set_progress(checkpoint, head, parked);
    }

    pub(crate) fn now(&self) -> Now {
        Now { elapsed: self.clock.elapsed(), time: self.clock.now() }
    }

    /// Returns the pause after a number of failures.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let index = usize::try_from(failures).unwrap_or(usize::MAX).saturating_sub(1);
        let policy = RetryPolicy { attempts: index.saturating_add(2), ..self.retry };
        // The iterator computes all earlier pauses. After 63 doublings every pause is the longest one, except for
        // jitter.
        policy.pauses(&*self.entropy).nth(index.min(63)).unwrap_or(policy.longest_pause)
    }

    /// Wakes the consumers and callers that wait for a change.
    pub(crate) fn notify(&self) {
        self.progress.send_modify(|_| {});
    }

    pub(crate) fn name(&self) -> String {
        self.rows.name().to_owned()
    }

    /// Waits for the next event; `None` when the group is shut down. If this future is dropped, no event is lost.
    pub(crate) async fn next(&self) -> Result<Option<Dispatch<Arc<RecordedEvent>>>, GroupError> {
        let _turn = self.next_consumer.lock().await;
        let mut progress = self.progress.subscribe();
        loop {
            let end = progress.borrow_and_update().end.clone();
            let (dispatch, is_closing) = {
                let mut state = self.state();
                (state.deliver(self.clock.elapsed()).filter(|_| end.is_none()), state.is_closing())
            };
            if is_closing {
                return Ok(None);
            }
            if let Some(end) = end {
                return Err(end);
            }
            if dispatch.is_some() {
                self.metrics.deliveries.increment(1);
                // The deadline of this delivery may be the next one for which the driver must wait.
                self.wake.notify_one();
                return Ok(dispatch);
            }
            if progress.changed().await.is_err() {
                return Err(GroupError::Closed { name: self.name() });
            }
        }
    }

    /// Settles a delivery. Returns the number of the change, which the driver then writes.
    pub(crate) fn settle(&self, position: Position, ticket: u64, settlement: Settlement) -> Result<u64, SettleError> {
        let now = self.now();
        let outcome = SettledOutcome::of(&settlement);
        let settled = self.state().settle(position, ticket, settlement, now, &|failures| self.pause(failures));
        let change = settled.map_err(|_| SettleError::TooLate)?;
        self.metrics.count(outcome);
        self.wake.notify_one();
        self.notify();
        Ok(change)
    }

    /// Waits until a change is written.
    pub(crate) async fn written(&self, change: u64) -> Result<(), GroupError> {
        self.wait(|progress| progress.written >= change).await
    }

    /// Waits until a condition holds. Returns an error if the group stops before.
    pub(crate) async fn wait(&self, condition: impl Fn(&GroupProgress) -> bool) -> Result<(), GroupError> {
        self.wake.notify_one();
        let mut watch = self.progress.subscribe();
        let closed = || GroupError::Closed { name: self.name() };
        let is_over = |progress: &GroupProgress| condition(progress) || progress.end.is_some();
        let progress = watch.wait_for(is_over).await.map_err(|_| closed())?;
        match &progress.end {
            Some(end) if !condition(&progress) => Err(end.clone()),
            _ => Ok(()),
        }
    }
}
