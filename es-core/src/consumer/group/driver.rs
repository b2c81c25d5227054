//! [`Driver`]: the task of a group. It reads the log, writes what has changed, and wakes who waits; what happens to an
//! event is decided by the [state](super::state).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::consumer::group::KeyOf;
use crate::consumer::group::patience::STORE_RETRY;
use crate::consumer::group::rows::{Parked, Stored};
use crate::consumer::group::shared::GroupCore;
use crate::consumer::group::state::{Arrival, Changes};
use crate::consumer::lifecycle::GroupError;
use crate::consumer::subscription::{DEFAULT_BATCH, Subscription};
use crate::model::ErrorChain;
use crate::model::Position;
use crate::model::RecordedEvent;
use crate::store::{Batch, Commit, CommitError, Query, StoreError};

/// How long a checkpoint that only passed events that do not match may stay unwritten, and how often an idle group
/// looks whether it was opened elsewhere.
const IDLE: Duration = Duration::from_secs(1);

/// How many parked events are read again at once.
const REPLAYS: usize = 16;

pub(crate) struct Driver {
    shared: Arc<GroupCore>,
    subscription: Subscription,
    key: KeyOf,
    /// What was read and does not fit in yet, and how far that read has looked.
    read: VecDeque<RecordedEvent>,
    read_to: Option<Position>,
    /// What is in the store.
    written: Stored,
    row: Bytes,
    /// The last change that is written.
    change: u64,
    /// When it was written, or looked at.
    looked_at: Duration,
    /// How often in a row it could not be written.
    refused: usize,
}

/// What the driver does next.
enum Step {
    Write,
    Replay(Vec<Position>),
    Take(usize),
    Wait(Option<Duration>),
    End,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<GroupCore>,
        query: Query,
        key: KeyOf,
        written: Stored,
        row: Bytes,
        capacity: usize,
    ) -> Self {
        let batch = u32::try_from(capacity).map_or(DEFAULT_BATCH, |capacity| capacity.min(DEFAULT_BATCH));
        let subscription = Subscription::new(shared.store.clone(), query, written.checkpoint).batch(batch);
        let (looked_at, read_to) = (shared.clock.elapsed(), written.checkpoint);
        Self {
            shared,
            subscription,
            key,
            read: VecDeque::new(),
            read_to,
            written,
            row,
            change: 0,
            looked_at,
            refused: 0,
        }
    }

    /// Runs until the group is closed or cannot go on, and says so to all who wait.
    pub(crate) async fn run(mut self) {
        let end = match self.drive().await {
            Ok(()) => GroupError::Closed { name: self.shared.name() },
            Err(error) => {
                tracing::error!(group = self.shared.rows.name(), error = %ErrorChain(&error), "a consumer group has ended");
                error
            }
        };
        self.end(end);
    }

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
                Step::Take(room) => self.take(room).await?,
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
        let is_scanned_only =
            state.change() == self.change && state.in_flight().checkpoint() != self.written.checkpoint;
        let is_lazy = is_scanned_only && now.elapsed.saturating_sub(self.looked_at) < IDLE && !is_closing;
        if state.change() != self.change || (is_scanned_only && !is_lazy) {
            return Step::Write;
        }
        if is_closing {
            return if state.delivered() == 0 { Step::End } else { Step::Wait(state.next_moment(now.elapsed)) };
        }
        let wanted = state.wanted(REPLAYS);
        if !wanted.is_empty() {
            return Step::Replay(wanted);
        }
        let room = state.room();
        let has_more =
            !self.read.is_empty() || self.read_to > state.in_flight().scanned() || !self.subscription.is_at_head();
        if room > 0 && has_more {
            return Step::Take(room);
        }
        Step::Wait(state.next_moment(now.elapsed))
    }

    /// Waits until something can be done.
    async fn wait(&mut self, until: Option<Duration>) -> Result<(), GroupError> {
        let now = self.shared.clock.elapsed();
        let idle = self.looked_at.saturating_add(IDLE).saturating_sub(now);
        let pause = until.map_or(idle, |until| until.saturating_sub(now).min(idle));
        // NOTE: whoever waits for a pause to end is told so, whether or not anything else happens.
        self.shared.tell();
        let can_take = {
            let state = self.shared.state();
            !state.is_closing() && state.room() > 0
        };
        let mut head = self.shared.store.watch_head();
        tokio::select! {
            () = self.shared.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
            found = head.wait_after(self.subscription.scanned()), if can_take => {
                found.map_err(|error| self.shared.failed(error))?;
            }
        }
        if self.shared.clock.elapsed().saturating_sub(self.looked_at) >= IDLE {
            self.look().await?;
        }
        Ok(())
    }

    /// Whether the group was opened elsewhere.
    async fn look(&mut self) -> Result<(), GroupError> {
        let row = self.shared.stored_row().await?;
        if row.as_ref() != Some(&self.row) {
            return Err(self.fenced());
        }
        let is_clean = self.shared.state().in_flight().checkpoint() == self.written.checkpoint;
        // NOTE: what only passed over events that do not match is written now; writing notes the time.
        if is_clean {
            self.looked_at = self.shared.clock.elapsed();
        }
        Ok(())
    }

    /// Takes events from the log into the state, as far as there is room.
    async fn take(&mut self, room: usize) -> Result<(), GroupError> {
        if self.read.is_empty() && self.read_to <= self.shared.state().in_flight().scanned() {
            let batch = match self.subscription.next().await {
                Ok(batch) => batch,
                Err(first) => self.read_again(first).await?,
            };
            self.read_to = batch.scanned.max(self.read_to);
            self.read = batch.events.into();
        }
        let events: Vec<_> = self.read.drain(..room.min(self.read.len())).collect();
        let scanned = if self.read.is_empty() { self.read_to } else { events.last().map(|event| event.position) };
        let arrivals = events.into_iter().map(|event| arrival(&self.key, event));
        let now = self.shared.now();
        self.shared.state().take(arrivals, scanned, now);
        self.shared.tell();
        Ok(())
    }

    async fn read_again(&mut self, mut error: StoreError) -> Result<Batch, GroupError> {
        let mut pauses = STORE_RETRY.pauses(&*self.shared.entropy);
        loop {
            self.shared.pause_or_fail(error, &mut pauses).await?;
            match self.subscription.next().await {
                Ok(batch) => return Ok(batch),
                Err(next) => error = next,
            }
        }
    }

    /// Reads parked events that are to be delivered again.
    async fn replay(&mut self, positions: Vec<Position>) -> Result<(), GroupError> {
        for position in positions {
            match self.shared.event_at(position).await? {
                Some(event) => self.shared.state().take_again(arrival(&self.key, event)),
                None => {
                    let now = self.shared.now();
                    let reason = "the log does not have the event any more".to_owned();
                    self.shared.state().skip_parked(position, reason, now);
                }
            }
        }
        self.shared.tell();
        Ok(())
    }

    /// Writes what has changed. Nobody else has written meanwhile, or the group ends.
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
            Ok(_) => self.note(change, stored, row),
            Err(CommitError::Conflict(_)) => return Err(self.fenced()),
            Err(CommitError::Store(error)) => {
                let is_written = self.was_written(error, &row).await;
                if let Ok(true) = is_written {
                    self.note(change, stored, row);
                } else {
                    self.shared.state().give_back(changes);
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
        let (mut commit, row) = rows.advance(Some(self.row.clone()), stored)?;
        for position in &changes.parked {
            commit = rows.park(commit, *position, parked(*position))?;
        }
        for skipped in &changes.skipped {
            commit = rows.skip(commit, skipped)?;
        }
        Ok((commit, row))
    }

    fn note(&mut self, change: u64, stored: Stored, row: Bytes) {
        let checkpoint = stored.checkpoint;
        (self.change, self.written, self.row, self.refused) = (change, stored, row, 0);
        self.looked_at = self.shared.clock.elapsed();
        self.shared.progress.send_modify(|progress| {
            progress.written = change;
            progress.checkpoint = checkpoint;
        });
    }

    /// Whether a commit whose answer was an error was written all the same. What the row holds says so: no two are the
    /// same.
    async fn was_written(&mut self, error: StoreError, row: &Bytes) -> Result<bool, GroupError> {
        let mut pauses = STORE_RETRY.pauses(&*self.shared.entropy).skip(self.refused);
        self.refused += 1;
        self.shared.pause_or_fail(error, &mut pauses).await?;
        match self.shared.stored_row().await? {
            Some(found) if found == *row => Ok(true),
            Some(found) if found == self.row => Ok(false),
            _ => Err(self.fenced()),
        }
    }

    fn fenced(&self) -> GroupError {
        GroupError::Fenced { name: self.shared.name(), epoch: self.written.epoch }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // NOTE: aborted, or ended by a panic in the function that gives the key: whoever waits is told.
        self.end(GroupError::Closed { name: self.shared.name() });
    }
}

fn arrival(key: &KeyOf, event: RecordedEvent) -> Arrival<Arc<RecordedEvent>> {
    Arrival { position: event.position, id: event.data.id, key: key(&event), content: Arc::new(event) }
}
