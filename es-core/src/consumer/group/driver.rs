//! [`Driver`]: the task of a group. It reads the log, commits changes of the [state](super::state) and wakes the
//! waiting consumers. All decisions are made by the state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::consumer::group::rows::{Parked, Stored};
use crate::consumer::group::shared::GroupCore;
use crate::consumer::group::state::{Changes, ReadEvent, ReplaySelection};
use crate::consumer::group::store_retry::STORE_RETRY;
use crate::consumer::group::{Includes, KeyOf};
use crate::consumer::lifecycle::GroupError;
use crate::consumer::subscription::{DEFAULT_BATCH, Subscription};
use crate::model::ErrorChain;
use crate::model::Position;
use crate::model::RecordedEvent;
use crate::retention::Erasure;
use crate::store::{Batch, Commit, CommitError, Query, StoreError};

/// The interval at which an idle group writes a checkpoint that only passed events that do not match, and checks
/// whether another process has started the group.
const IDLE: Duration = Duration::from_secs(1);

/// The largest number of parked events that are read for a replay at once.
const REPLAYS: usize = 16;

/// The events of a group, and their keys.
pub(crate) struct GroupEvents {
    pub(crate) query: Query,
    pub(crate) includes: Includes,
    pub(crate) key: KeyOf,
}

pub(crate) struct Driver {
    shared: Arc<GroupCore>,
    subscription: Subscription,
    includes: Includes,
    key: KeyOf,
    /// Events that were read and exceed the capacity of the state.
    pending: VecDeque<RecordedEvent>,
    /// The position up to which the log was scanned for the pending events.
    pending_scanned: Option<Position>,
    /// The state row as the last commit left it.
    written: Stored,
    /// The encoded state row.
    row: Bytes,
    /// The number of the last change that is written.
    written_change: u64,
    /// The time of the last commit, or of the last check that the row is unchanged.
    checked_at: Duration,
    /// The number of consecutive failed commits.
    failed_commits: usize,
}

/// The next step of the driver.
enum Step {
    Write,
    /// Read these parked events for a replay.
    Replay(Vec<Position>),
    /// Read at most this many events.
    Read(usize),
    /// Wait until this time, or without limit.
    Wait(Option<Duration>),
    End,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<GroupCore>,
        GroupEvents { query, includes, key }: GroupEvents,
        written: Stored,
        row: Bytes,
        capacity: usize,
    ) -> Result<Self, StoreError> {
        let batch = u32::try_from(capacity).map_or(DEFAULT_BATCH, |capacity| capacity.min(DEFAULT_BATCH));
        let subscription = Subscription::new(shared.store.clone(), query, written.checkpoint)
            .map_err(|ahead| {
                StoreError::damaged(format!("checkpoint of group {:?}", shared.name()), ahead.to_string())
            })?
            .batch(batch);
        let (checked_at, pending_scanned) = (shared.clock.elapsed(), written.checkpoint);
        Ok(Self {
            shared,
            subscription,
            includes,
            key,
            pending: VecDeque::new(),
            pending_scanned,
            written,
            row,
            written_change: 0,
            checked_at,
            failed_commits: 0,
        })
    }

    /// Runs until the group is closed or fails, then publishes the reason.
    pub(crate) async fn run(mut self) {
        let end = match self.drive().await {
            Ok(()) => GroupError::Closed { name: self.shared.name() },
            Err(error) => {
                let group = self.shared.rows.name();
                tracing::error!(group, error = %ErrorChain(&error), "consumer group stopped");
                self.shared.metrics.failures.increment(1);
                error
            }
        };
        self.end(end);
    }

    /// Publishes the end of the group, unless it is published already.
    fn end(&self, end: GroupError) {
        self.shared.progress.send_modify(|progress| {
            progress.end.get_or_insert(end);
        });
    }

    async fn drive(&mut self) -> Result<(), GroupError> {
        loop {
            match self.next_step() {
                Step::Write => self.write().await?,
                Step::Replay(positions) => self.replay(positions).await?,
                Step::Read(limit) => self.read(limit).await?,
                Step::Wait(until) => self.wait(until).await?,
                Step::End => return Ok(()),
            }
        }
    }

    fn next_step(&mut self) -> Step {
        let now = self.shared.now();
        let mut state = self.shared.state();
        let is_closing = state.is_closing();
        state.expire(now, &|failures| self.shared.pause(failures));
        let has_change = state.change() != self.written_change;
        // The checkpoint passed events that do not match, and nothing else changed: it is written at intervals.
        let has_checkpoint_only = !has_change && state.in_flight().checkpoint() != self.written.checkpoint;
        let is_checkpoint_due = now.elapsed.saturating_sub(self.checked_at) >= IDLE || is_closing;
        if has_change || (has_checkpoint_only && is_checkpoint_due) {
            return Step::Write;
        }
        if is_closing {
            return if state.delivered() == 0 { Step::End } else { Step::Wait(state.next_deadline(now.elapsed)) };
        }
        let replays = state.replays_to_read(REPLAYS);
        if !replays.is_empty() {
            return Step::Replay(replays);
        }
        let capacity = state.remaining_capacity();
        let has_unread_events = !self.pending.is_empty()
            || self.pending_scanned > state.in_flight().scanned()
            || !self.subscription.is_at_head();
        if capacity > 0 && has_unread_events {
            return Step::Read(capacity);
        }
        Step::Wait(state.next_deadline(now.elapsed))
    }

    /// Waits for a change, a new event or a deadline.
    async fn wait(&mut self, until: Option<Duration>) -> Result<(), GroupError> {
        let now = self.shared.clock.elapsed();
        let idle = self.checked_at.saturating_add(IDLE).saturating_sub(now);
        let pause = until.map_or(idle, |until| until.saturating_sub(now).min(idle));
        // A pause before a retry may have ended, so that a waiting consumer can take the event.
        self.shared.notify();
        let can_read = {
            let state = self.shared.state();
            !state.is_closing() && state.remaining_capacity() > 0
        };
        let mut head = self.shared.store.watch_head();
        tokio::select! {
            () = self.shared.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
            new_head = head.wait_after(self.subscription.scanned()), if can_read => {
                new_head.map_err(|error| self.shared.failed(error))?;
            }
        }
        if self.shared.clock.elapsed().saturating_sub(self.checked_at) >= IDLE {
            self.check_fence().await?;
        }
        Ok(())
    }

    /// Fails if another process has started the group.
    async fn check_fence(&mut self) -> Result<(), GroupError> {
        let row = self.shared.stored_row().await?;
        if row.as_ref() != Some(&self.row) {
            return Err(self.fenced());
        }
        self.shared.report_progress();
        let is_clean = self.shared.state().in_flight().checkpoint() == self.written.checkpoint;
        // An unwritten checkpoint is due now. The commit updates the time.
        if is_clean {
            self.checked_at = self.shared.clock.elapsed();
        }
        Ok(())
    }

    /// Moves at most `limit` events from the log into the state.
    async fn read(&mut self, limit: usize) -> Result<(), GroupError> {
        if self.pending.is_empty() && self.pending_scanned <= self.shared.state().in_flight().scanned() {
            let batch = match self.subscription.next().await {
                Ok(batch) => batch,
                Err(error) => self.retry_read(error).await?,
            };
            self.pending_scanned = batch.scanned.max(self.pending_scanned);
            self.pending = batch.events.into_iter().filter(|event| (self.includes)(event)).collect();
        }
        let events: Vec<_> = self.pending.drain(..limit.min(self.pending.len())).collect();
        let scanned =
            if self.pending.is_empty() { self.pending_scanned } else { events.last().map(|event| event.position) };
        let erasures = events.iter().filter(|event| Erasure::of(event).is_some());
        // The log no longer has the parked events of a deleted stream, so that the erasure need not wait for them.
        let unblocked: Vec<String> = erasures.map(|event| (self.key)(event)).collect();
        let arrivals = events.into_iter().map(|event| arrival(&self.key, event));
        let now = self.shared.now();
        {
            let mut state = self.shared.state();
            state.take(arrivals, scanned, now);
            for key in unblocked {
                if state.parked().values().any(|parked| parked.key == key) {
                    state.replay(&ReplaySelection::Key(key));
                }
            }
        }
        self.shared.notify();
        Ok(())
    }

    /// Repeats a failed read until it succeeds or the pauses are used up.
    async fn retry_read(&mut self, mut error: StoreError) -> Result<Batch, GroupError> {
        let mut pauses = STORE_RETRY.pauses(&*self.shared.entropy);
        loop {
            self.shared.pause_or_fail(error, &mut pauses).await?;
            match self.subscription.next().await {
                Ok(batch) => return Ok(batch),
                Err(next) => error = next,
            }
        }
    }

    /// Reads parked events for a replay. An event that the log no longer has is skipped.
    async fn replay(&mut self, positions: Vec<Position>) -> Result<(), GroupError> {
        for position in positions {
            match self.shared.event_at(position).await? {
                Some(event) => self.shared.state().take_replay(arrival(&self.key, event)),
                None => {
                    let now = self.shared.now();
                    let reason = "the event was removed from the log".to_owned();
                    self.shared.state().skip_parked(position, reason, now);
                }
            }
        }
        self.shared.notify();
        Ok(())
    }

    /// Commits the state row and all changes. Fails if another process has changed the state row.
    async fn write(&mut self) -> Result<(), GroupError> {
        let (change, stored, changes, commit) = {
            let mut state = self.shared.state();
            let (epoch, sequence) = (self.written.epoch, self.written.sequence + 1);
            let stored = Stored { epoch, sequence, ..state.stored() };
            let changes = state.take_changes();
            let commit = self.commit(&stored, &changes, |position| state.parked().get(&position));
            (state.change(), stored, changes, commit.map_err(|error| self.shared.failed(error))?)
        };
        let (commit, row) = commit;
        match self.shared.store.commit(commit).await {
            Ok(_) => self.committed(change, stored, row),
            Err(CommitError::Conflict(_)) => return Err(self.fenced()),
            Err(CommitError::Store(error)) => {
                let is_written = self.is_written(error, &row).await;
                if let Ok(true) = is_written {
                    self.committed(change, stored, row);
                } else {
                    self.shared.state().restore_changes(changes);
                }
                is_written?;
            }
            Err(error) => {
                return Err(GroupError::Refused { name: self.shared.name(), source: Arc::new(error) });
            }
        }
        Ok(())
    }

    fn commit<'a>(
        &self,
        stored: &Stored,
        changes: &Changes,
        parked: impl Fn(Position) -> Option<&'a Parked>,
    ) -> Result<(Commit, Bytes), StoreError> {
        let rows = &self.shared.rows;
        let (mut commit, row) = rows.replace_state(Some(self.row.clone()), stored)?;
        for position in &changes.parked {
            commit = rows.park(commit, *position, parked(*position))?;
        }
        for skipped in &changes.skipped {
            commit = rows.skip(commit, skipped)?;
        }
        Ok((commit, row))
    }

    /// Records and publishes that a change is written.
    fn committed(&mut self, change: u64, stored: Stored, row: Bytes) {
        let checkpoint = stored.checkpoint;
        (self.written_change, self.written, self.row, self.failed_commits) = (change, stored, row, 0);
        self.checked_at = self.shared.clock.elapsed();
        // ORDER: the gauges first, so that a caller who waited for a position finds them there.
        self.shared.report_progress();
        self.shared.progress.send_modify(|progress| {
            progress.written = change;
            progress.checkpoint = checkpoint;
        });
    }

    /// Returns whether a commit that returned an error was written nevertheless. Each commit writes a unique state row,
    /// so the stored row shows it.
    async fn is_written(&mut self, error: StoreError, row: &Bytes) -> Result<bool, GroupError> {
        let mut pauses = STORE_RETRY.pauses(&*self.shared.entropy).skip(self.failed_commits);
        self.failed_commits += 1;
        self.shared.pause_or_fail(error, &mut pauses).await?;
        match self.shared.stored_row().await? {
            Some(stored) if stored == *row => Ok(true),
            Some(stored) if stored == self.row => Ok(false),
            _ => Err(self.fenced()),
        }
    }

    fn fenced(&self) -> GroupError {
        GroupError::Fenced { name: self.shared.name(), epoch: self.written.epoch }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The task may have been aborted, or the key function may have panicked. Waiting callers still get an error.
        self.end(GroupError::Closed { name: self.shared.name() });
    }
}

/// Returns the input of the state for an event.
fn arrival(key: &KeyOf, event: RecordedEvent) -> ReadEvent<Arc<RecordedEvent>> {
    ReadEvent { position: event.position, id: event.data.id, key: key(&event), content: Arc::new(event) }
}
