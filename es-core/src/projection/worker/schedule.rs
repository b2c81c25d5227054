//! The attempts of the retry policy: a key whose event cannot be applied is parked at once, so that the events of other
//! keys continue, and is retried after pauses.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;

use super::feed::Reached;
use super::follower::{CommitRefusal, FollowError, Follower, put, stop_requested, unexpected};
use super::metrics;
use super::parked::{ParkedKey, ScheduledRetry};
use super::retry::KeyRetry;
use crate::consumer::group::shorten;
use crate::model::RecordedEvent;
use crate::projection::{Projection, partition_of};
use crate::store::encode_row;
use crate::store::implement::RowChange;

/// The largest number of keys that a worker retries at a time. With more, it waits until one of them is settled.
const MAX_RETRIES: usize = 1000;

impl<P: Projection> Follower<P> {
    /// Schedules the keys that were retried when an earlier worker ended. They are due at once.
    pub(super) fn resume_retries(&mut self) {
        let pipeline = Arc::clone(&self.pipeline);
        for parked in &pipeline.retried {
            if partition_of(&parked.key, pipeline.progress.build.partitions) != self.partition {
                continue;
            }
            let mut pauses = self.pauses();
            // The pauses of the attempts that were made.
            let _ = (1..parked.attempts).try_for_each(|_| pauses.next().map(drop));
            let retry = ScheduledRetry {
                position: parked.position,
                events: 1,
                attempts: parked.attempts,
                pauses,
                due: Duration::ZERO,
                since: parked.since,
                _guard: pipeline.progress.begin_retry(),
            };
            self.retries.insert(parked.key.clone(), retry);
        }
    }

    /// Parks a key and its first event after the first attempt, and schedules the second one.
    pub(super) async fn park(&mut self, key: &str, event: &RecordedEvent, error: String) -> Result<(), FollowError> {
        let retry = ScheduledRetry {
            position: event.position,
            events: 1,
            attempts: 1,
            pauses: self.pauses(),
            due: Duration::ZERO,
            since: self.pipeline.clock.now(),
            _guard: self.pipeline.progress.begin_retry(),
        };
        let row = self.parked_row(key, event, 0)?;
        let reached = self.reached_after(1, event.position);
        self.schedule(key, retry, error, vec![row], reached).await?;
        self.parked.insert(key);
        Ok(())
    }

    /// Returns the pause until the next attempt; `None` if no key is retried.
    pub(super) fn next_retry(&self) -> Option<Duration> {
        let due = self.retries.values().map(|retry| retry.due).min()?;
        Some(due.saturating_sub(self.pipeline.clock.elapsed()))
    }

    /// Retries the keys whose pauses are over.
    pub(super) async fn retry_due_keys(&mut self) -> Result<(), FollowError> {
        let now = self.pipeline.clock.elapsed();
        while let Some(key) = self.retries.iter().find(|(_, retry)| retry.due <= now).map(|(key, _)| key.clone())
            && !self.is_stopped()
        {
            self.retry_scheduled(&key).await?;
            self.publish_progress();
        }
        Ok(())
    }

    /// Waits, with attempts, while as many keys are retried as a worker may retry at a time.
    pub(super) async fn wait_for_room(&mut self) -> Result<(), FollowError> {
        let mut stop = self.stop.clone();
        while self.retries.len() >= MAX_RETRIES
            && let Some(pause) = self.next_retry()
        {
            tokio::select! {
                () = stop_requested(&mut stop) => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            self.retry_due_keys().await?;
        }
        Ok(())
    }

    /// Retries keys until all partitions have reached the position at which they end, or this worker is stopped. A
    /// partition that waits at an erasure may wait for an event that is retried here.
    pub(super) async fn retry_until_all_have_reached_the_end(&mut self) -> Result<(), FollowError> {
        let pipeline = Arc::clone(&self.pipeline);
        pipeline.progress.reach_end();
        let mut all_reached = pin!(pipeline.progress.wait_for_ends());
        let mut stop = self.stop.clone();
        while let Some(pause) = self.next_retry() {
            tokio::select! {
                biased;
                () = stop_requested(&mut stop) => return Ok(()),
                () = &mut all_reached => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            self.retry_due_keys().await?;
        }
        Ok(())
    }

    pub(super) async fn retry_scheduled(&mut self, key: &str) -> Result<(), FollowError> {
        metrics::count(metrics::RETRIES, P::NAME, 1);
        let retried = self.apply_parked(key, None).await?;
        if matches!(retried, KeyRetry::Stopped) {
            // Events of the key are still parked. Without the retry they would be published as applied.
            return Ok(());
        }
        let Some(mut retry) = self.retries.remove(key) else { return Ok(()) };
        let KeyRetry::Failed { position, failure } = retried else { return Ok(()) };
        match position {
            Some(position) if position != retry.position => {
                // The earlier events are applied, and this one has its own attempts.
                (retry.position, retry.attempts, retry.pauses) = (position, 1, self.pauses());
            }
            _ => retry.attempts = retry.attempts.saturating_add(1),
        }
        self.schedule(key, retry, failure, Vec::new(), Reached::default()).await
    }

    /// Records a failed attempt, and schedules the next one if the policy has one.
    async fn schedule(
        &mut self,
        key: &str,
        mut retry: ScheduledRetry,
        error: String,
        mut rows: Vec<RowChange>,
        checkpoint: Reached,
    ) -> Result<(), FollowError> {
        let pause: Option<Duration> = retry.pauses.next();
        let (projection, position, attempts) = (P::NAME, retry.position, retry.attempts);
        match pause {
            Some(_) => tracing::warn!(projection, %position, key, error, attempts, "event not applied; retrying it"),
            None => tracing::error!(projection, %position, key, error, attempts, "event not applied; parking its key"),
        }
        let generation = self.generation();
        let parked = ParkedKey {
            key: key.to_owned(),
            generation,
            position,
            // The row must fit into a commit, or the worker would fail again after each restart.
            error: shorten(error),
            attempts,
            since: retry.since,
            last_attempt: self.pipeline.clock.now(),
            is_retried: pause.is_some(),
        };
        rows.push(put(self.pipeline.keys.parked_key(generation, key), encode_row(&parked)?));
        let committed: Result<(), CommitRefusal> = self.commit(None, rows, checkpoint).await;
        committed.map_err(unexpected)?;
        match pause {
            Some(pause) => {
                retry.due = self.pipeline.clock.elapsed() + pause;
                self.retries.insert(key.to_owned(), retry);
            }
            None => metrics::count(metrics::PARKED, P::NAME, retry.events),
        }
        Ok(())
    }

    fn pauses(&self) -> ExponentialBackoff {
        self.pipeline.options.retry.pauses(&*self.pipeline.entropy)
    }
}
