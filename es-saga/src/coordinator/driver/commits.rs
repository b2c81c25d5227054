//! The commits of a driver: events, timer and conditions.

use es_core::consumer::timer::Timer;
use es_core::model::CorrelationId;
use es_core::store::Committed;
use es_core::{Commit, CommitError, StoreError, Timestamp};
use tracing::Instrument;

use crate::coordinator::driver::{Current, DriveEnd, Driver, Progress};
use crate::coordinator::record::Recorder;
use crate::coordinator::wake::idle_timer;
use crate::instance::SagaEvent;
use crate::record::stored_now;

impl Driver {
    /// Commits events that have no outcome of a call.
    pub(super) async fn commit(
        &mut self,
        current: &mut Current,
        commit: Commit,
        events: Vec<SagaEvent>,
        timer: Option<Timer>,
    ) -> Result<Progress, StoreError> {
        match self.write(current, commit, &events, timer.as_ref()).await {
            Ok(committed) => {
                current.revision = committed.revision(&self.stream).or(current.revision);
                current.timer = timer;
                Ok(Progress::Continue)
            }
            Err(CommitError::Conflict(conflict)) if self.lease.is_lost_by(&conflict) => {
                Ok(Progress::End(DriveEnd::LeaseLost))
            }
            Err(CommitError::Conflict(_)) => Ok(Progress::Reload),
            Err(CommitError::Store(error)) => Err(error),
            Err(error) => {
                let reason = format!("its events are refused: {}", es_core::model::ErrorChain(&error));
                if let Some(timer) = current.timer.clone() {
                    self.quarantine(&timer, reason).await?;
                }
                Ok(Progress::End(DriveEnd::Idle(None)))
            }
        }
    }

    pub(super) async fn write(
        &mut self,
        current: &Current,
        commit: Commit,
        events: &[SagaEvent],
        timer: Option<&Timer>,
    ) -> Result<Committed, CommitError> {
        let mut commit = self.build(current, commit, events, timer)?;
        if !events.is_empty() {
            commit = self.wake_parent(current, commit).await?;
        }
        let committed = self.shared.store.commit(commit).instrument(tracing::debug_span!("commit")).await?;
        if let Some(metrics) = self.shared.metrics.get(self.id.saga()) {
            metrics.count(events, &current.state);
        }
        if let Some(parent) = current.state.parent() {
            self.shared.notify(parent);
        }
        Ok(committed)
    }

    /// Adds events, the timer and the conditions to a commit.
    fn build(
        &self,
        current: &Current,
        commit: Commit,
        events: &[SagaEvent],
        timer: Option<&Timer>,
    ) -> Result<Commit, CommitError> {
        let (now, entropy) = (stored_now(&*self.shared.clock), &*self.shared.entropy);
        let correlation = CorrelationId::from_uuid(self.namespace);
        let (stream, revision, metadata) = (&self.stream, current.revision, &current.state.metadata);
        let recorder = Recorder { correlation, stream, revision, now, entropy, metadata };
        let commit = recorder.add(commit, events).map_err(|error| CommitError::Rejected(error.into()))?;
        let commit = self.lease.expect(commit);
        if timer == current.timer.as_ref() {
            return Ok(commit);
        }
        Ok(self.slot.queue().replace(commit, &self.stream, current.timer.as_ref(), timer)?)
    }

    /// Returns the timer with which the next commit leaves the saga: that of an idle saga if nothing more is to be
    /// done, otherwise one that is due, so that the saga continues after a crash.
    pub(super) fn timer_after(&self, current: &Current, has_more: bool, now: Timestamp) -> Option<Timer> {
        let calls = self.in_flight.len() > self.finished.len();
        if current.state.phase().is_final() || !(has_more || calls || current.state.has_next(now)) {
            return idle_timer(&self.stream, &current.state);
        }
        let due = current.timer.clone().filter(|timer| timer.due <= now);
        Some(due.unwrap_or_else(|| Timer::new(self.stream.clone(), now)))
    }
}
