//! The task of a slot: holds the lease, finds the sagas that are due, and runs them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use es_core::consumer::lease::{Acquisition, HeartbeatWatch, HeldLease, LeaseTerms};
use es_core::consumer::timer::{ScanStart, Timer};
use es_core::model::ErrorChain;
use es_core::{Commit, CommitError, StoreError, StreamId, Timestamp};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::coordinator::driver::{DriveEnd, Driver};
use crate::coordinator::shared::{MAX_CHANGES, RunState, Shared};
use crate::coordinator::wake::{Slot, never, quarantined};

/// The number of timers that one scan reads, and that wait in memory for a free place.
const PAGE: usize = 512;

/// Runs the sagas of a slot until the coordinator stops.
pub(super) async fn run_slot(shared: Arc<Shared>, slot: Slot, terms: LeaseTerms) {
    let mut watch = HeartbeatWatch::default();
    while shared.is_running() {
        let acquired = terms.acquire(&*shared.store, &slot.lease(), &*shared.clock, &mut watch).await;
        match acquired {
            Ok(Acquisition::Acquired(lease)) => {
                tracing::info!(slot = slot.index(), epoch = lease.epoch(), "lease of sagas acquired");
                let mut held = HeldSlot::new(Arc::clone(&shared), slot, lease.clone());
                let is_lost = tokio::select! {
                    biased;
                    is_lost = held.run() => is_lost,
                    () = renew(&shared, &lease, terms) => true,
                };
                if shared.is_crashed() {
                    return;
                }
                // ORDER: the calls end before the lease is released.
                held.drivers.shutdown().await;
                if is_lost {
                    tracing::warn!(slot = slot.index(), epoch = lease.epoch(), "lease of sagas lost");
                } else if let Err(error) = lease.release(&*shared.store).await {
                    tracing::warn!(slot = slot.index(), error = %ErrorChain(&error), "lease of sagas not released");
                }
            }
            Ok(Acquisition::HeldBy(_)) => {}
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(slot = slot.index(), error = %ErrorChain(&error), "lease of sagas not acquired");
            }
        }
        tokio::select! {
            _ = shared.not_running() => {}
            () = tokio::time::sleep((terms.duration / 4).min(shared.poll)) => {}
        }
    }
}

/// Renews the lease until it is lost, or was not renewed for its whole length.
async fn renew(shared: &Shared, lease: &HeldLease, terms: LeaseTerms) {
    let mut renewed = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(terms.duration / 3).await;
        match terms.renew(&*shared.store, &*shared.clock, lease).await {
            Ok(true) => renewed = tokio::time::Instant::now(),
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "lease of sagas not renewed");
                // Another coordinator may own the sagas from now on, so the calls must end.
                if renewed.elapsed() >= terms.duration {
                    return;
                }
            }
        }
    }
}

/// A slot whose lease is held.
struct HeldSlot {
    shared: Arc<Shared>,
    slot: Slot,
    lease: HeldLease,
    drivers: JoinSet<(StreamId, Result<DriveEnd, StoreError>, OwnedSemaphorePermit)>,
    /// The sagas that run, and whether each was changed since its run began.
    active: BTreeMap<StreamId, bool>,
    /// Sagas that are due and wait for a free place, each once.
    ready: VecDeque<StreamId>,
    /// The sagas of `ready`.
    is_ready: BTreeSet<StreamId>,
    start: ScanStart,
    next_due: Option<Timestamp>,
    /// Whether the last scan did not reach the sagas that are not due.
    has_more: bool,
}

impl HeldSlot {
    fn new(shared: Arc<Shared>, slot: Slot, lease: HeldLease) -> Self {
        Self {
            shared,
            slot,
            lease,
            drivers: JoinSet::new(),
            active: BTreeMap::new(),
            ready: VecDeque::new(),
            is_ready: BTreeSet::new(),
            start: ScanStart::default(),
            next_due: None,
            has_more: false,
        }
    }

    /// Runs sagas until the coordinator stops or the lease is lost. Returns whether the lease was lost.
    async fn run(&mut self) -> bool {
        if let Err(error) = self.reconsider_quarantined().await {
            tracing::warn!(slot = self.slot.index(), error = %ErrorChain(&error), "quarantined sagas not read");
        }
        let mut must_scan = true;
        loop {
            if std::mem::take(&mut must_scan)
                && let Err(error) = self.scan().await
            {
                if matches!(error, StoreError::Closed) {
                    return true;
                }
                tracing::warn!(slot = self.slot.index(), error = %ErrorChain(&error), "timers of sagas not read");
            }
            self.start_ready();
            let (shared, pause) = (Arc::clone(&self.shared), self.pause());
            tokio::select! {
                biased;
                state = shared.not_running() => return self.stop(state).await,
                Some(joined) = self.drivers.join_next(), if !self.drivers.is_empty() => match joined {
                    Ok((stream, end, permit)) => {
                        drop(permit);
                        if self.ended(stream, end) {
                            return true;
                        }
                        must_scan = self.ready.is_empty() && self.has_more;
                    }
                    Err(error) => {
                        // The code of a saga does not get here: its panics are caught. The sagas continue with the
                        // next lease.
                        tracing::error!(slot = self.slot.index(), %error, "the task of a saga failed");
                        return true;
                    }
                },
                changed = shared.changes[self.slot.index()].take() => {
                    must_scan = changed.len() >= MAX_CHANGES;
                    for stream in changed {
                        self.offer(stream);
                    }
                }
                () = tokio::time::sleep(pause) => must_scan = true,
            }
        }
    }

    /// Waits for the calls in progress after a stop.
    async fn stop(&mut self, state: RunState) -> bool {
        if state == RunState::Crashed {
            self.drivers.abort_all();
            return true;
        }
        while let Some(joined) = self.drivers.join_next().await {
            if self.shared.is_crashed() || joined.is_err() {
                return true;
            }
        }
        false
    }

    /// Handles the end of a run. Returns whether the lease was lost.
    fn ended(&mut self, stream: StreamId, end: Result<DriveEnd, StoreError>) -> bool {
        let was_changed = self.active.remove(&stream) == Some(true);
        let now = self.shared.clock.now();
        match end {
            Ok(DriveEnd::Idle(due)) if was_changed || due.is_some_and(|due| due <= now) => self.offer(stream.clone()),
            Ok(DriveEnd::Idle(due)) => self.next_due = self.next_due.into_iter().chain(due).min(),
            Ok(DriveEnd::Stopped) => {}
            Ok(DriveEnd::LeaseLost) => return true,
            Err(error) => {
                tracing::warn!(%stream, error = %ErrorChain(&error), "a saga was interrupted");
                self.offer(stream.clone());
            }
        }
        // Without a receiver nobody waits for a saga.
        let _ = self.shared.stopped_sagas.send(stream);
        false
    }

    /// Schedules a saga for the next free place. One that runs already is run again afterwards, because it may have
    /// been loaded before the change.
    fn offer(&mut self, stream: StreamId) {
        if let Some(was_changed) = self.active.get_mut(&stream) {
            *was_changed = true;
        } else if self.ready.len() >= PAGE {
            self.has_more = true;
        } else if self.is_ready.insert(stream.clone()) {
            self.ready.push_back(stream);
        }
    }

    /// Returns the time until the next timer is due, at most the longest pause.
    fn pause(&self) -> Duration {
        let now = self.shared.clock.now();
        let until = self.next_due.map(|due| (due - now).to_std().unwrap_or_default());
        until.unwrap_or(self.shared.poll).clamp(Duration::from_millis(1), self.shared.poll)
    }

    /// Finds the sagas that are due and do not run yet.
    async fn scan(&mut self) -> Result<(), StoreError> {
        let (queue, now) = (self.slot.queue(), self.shared.clock.now());
        (self.next_due, self.has_more) = (None, true);
        let mut after: Option<Timer> = None;
        while self.ready.len() < PAGE {
            let page = self.start.scan(&queue, &*self.shared.store, after.as_ref(), now, PAGE).await?;
            let is_last_page = page.len() < PAGE;
            for timer in &page {
                if timer.due > now {
                    (self.next_due, self.has_more) = (Some(timer.due).filter(|due| *due < never()), false);
                    return Ok(());
                }
                if !self.active.contains_key(&timer.stream) {
                    self.offer(timer.stream.clone());
                }
            }
            after = page.into_iter().next_back();
            if is_last_page {
                self.has_more = false;
                break;
            }
        }
        Ok(())
    }

    /// Starts sagas while there is a free place.
    fn start_ready(&mut self) {
        while !self.ready.is_empty() {
            let Ok(permit) = Arc::clone(&self.shared.sagas).try_acquire_owned() else { return };
            let Some(stream) = self.ready.pop_front() else { return };
            self.is_ready.remove(&stream);
            let shared = Arc::clone(&self.shared);
            let Some(driver) = Driver::new(Arc::clone(&shared), self.lease.clone(), stream.clone()) else { continue };
            self.active.insert(stream.clone(), false);
            let span = tracing::info_span!("saga", stream = %stream);
            self.drivers.spawn(async move {
                let end = driver.run().instrument(span).await;
                if end.is_err() {
                    // The saga is still due. Without a pause, a store that fails would be asked in a loop.
                    tokio::time::sleep(shared.poll).await;
                }
                (stream, end, permit)
            });
        }
    }

    /// Makes quarantined sagas due again, once after each acquisition of the lease: the program may have changed.
    async fn reconsider_quarantined(&self) -> Result<(), StoreError> {
        let queue = self.slot.queue();
        let Some(mut after) = Timer::before_all_of(quarantined()) else { return Ok(()) };
        loop {
            let page = queue.scan(&*self.shared.store, Some(&after), PAGE).await?;
            for timer in &page {
                let due = Timer::new(timer.stream.clone(), self.shared.clock.now());
                let commit = self.lease.expect(Commit::new());
                let commit = queue.replace(commit, &timer.stream, Some(timer), Some(&due))?;
                match self.shared.store.commit(commit).await {
                    Ok(_) | Err(CommitError::Conflict(_)) => {}
                    Err(CommitError::Store(error)) => return Err(error),
                    Err(error) => return Err(StoreError::io("reconsider a quarantined saga", error)),
                }
            }
            let is_last_page = page.len() < PAGE;
            match page.into_iter().next_back() {
                Some(last) if !is_last_page => after = last,
                _ => return Ok(()),
            }
        }
    }
}
