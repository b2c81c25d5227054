//! What the driver, the consumers and the handle of a group have in common.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::aggregate::repository::RetryPolicy;
use crate::consumer::group::error::SettleError;
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
    state: Mutex<GroupState<Arc<RecordedEvent>>>,
    /// Wakes the driver.
    pub(crate) wake: Notify,
    /// The first in line waits for an event; the others wait for it. First come, first served.
    line: tokio::sync::Mutex<()>,
    /// Whether the group runs, and what is written; moves with everything that happens.
    pub(crate) progress: watch::Sender<GroupProgress>,
}

/// How far a group is, for those who wait for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupProgress {
    /// The last change that is written.
    pub(crate) written: u64,
    /// The checkpoint that is written.
    pub(crate) checkpoint: Option<Position>,
    /// It does not run any more.
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
        let (state, wake, line) = (Mutex::new(state), Notify::new(), tokio::sync::Mutex::new(()));
        Self { store, rows, clock, entropy, retry, state, wake, line, progress }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, GroupState<Arc<RecordedEvent>>> {
        // NOTE: nothing in the state panics, so a poisoned one is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Now {
        Now { elapsed: self.clock.elapsed(), time: self.clock.now() }
    }

    /// How long to wait after so many failures.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let nth = usize::try_from(failures).unwrap_or(usize::MAX).saturating_sub(1);
        let policy = RetryPolicy { attempts: nth.saturating_add(2), ..self.retry };
        // NOTE: with jitter, the pauses of an exponential sequence are worked out one by one; past the longest they
        // only vary by chance, so that a few dozen steps are enough.
        policy.pauses(&*self.entropy).nth(nth.min(63)).unwrap_or(policy.longest_pause)
    }

    /// Something has happened that others may wait for.
    pub(crate) fn tell(&self) {
        self.progress.send_modify(|_| {});
    }

    pub(crate) fn name(&self) -> String {
        self.rows.name().to_owned()
    }

    /// The next event; `None` once the group closes. When this future is dropped, no event is lost.
    pub(crate) async fn next(&self) -> Result<Option<Dispatch<Arc<RecordedEvent>>>, GroupError> {
        let _turn = self.line.lock().await;
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
                // NOTE: the driver waits for the first deadline, which may be this one's.
                self.wake.notify_one();
                return Ok(dispatch);
            }
            if progress.changed().await.is_err() {
                return Err(GroupError::Closed { name: self.name() });
            }
        }
    }

    /// Notes what a consumer says. It is written soon; the number is that of the change.
    pub(crate) fn settle(&self, position: Position, ticket: u64, settlement: Settlement) -> Result<u64, SettleError> {
        let now = self.now();
        let settled = self.state().settle(position, ticket, settlement, now, &|failures| self.pause(failures));
        let change = settled.map_err(|_| SettleError::TooLate)?;
        self.wake.notify_one();
        self.tell();
        Ok(change)
    }

    /// Waits until a change is written.
    pub(crate) async fn written(&self, change: u64) -> Result<(), GroupError> {
        self.wait(|progress| progress.written >= change).await
    }

    /// Waits until something is so, or the group has ended.
    pub(crate) async fn wait(&self, is_so: impl Fn(&GroupProgress) -> bool) -> Result<(), GroupError> {
        self.wake.notify_one();
        let mut watch = self.progress.subscribe();
        let closed = || GroupError::Closed { name: self.name() };
        let progress = watch.wait_for(|now| is_so(now) || now.end.is_some()).await.map_err(|_| closed())?;
        match &progress.end {
            Some(end) if !is_so(&progress) => Err(end.clone()),
            _ => Ok(()),
        }
    }
}
