//! [`GenerationProgress`]: the in-memory progress of the workers of one generation, for the status and for callers that
//! wait.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::model::Clock;
use crate::model::Position;
use crate::model::{RecordedEvent, Timestamp};
use crate::projection::generation::Build;

/// The period over which a rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// The progress of the workers of one generation.
#[derive(Debug)]
pub(crate) struct GenerationProgress {
    pub(crate) build: Build,
    clock: Arc<dyn Clock>,
    /// For each partition the position up to which it has applied the log; 0 before the first event.
    partitions: Vec<AtomicU64>,
    /// Publishes the position up to which all partitions have applied the log.
    applied: watch::Sender<Option<Position>>,
    /// Wakes the partitions that wait for others.
    advanced: watch::Sender<()>,
    /// The number of partitions that have scanned the log up to the position at which they end.
    ends: AtomicU32,
    event_count: AtomicU64,
    /// The number of keys that wait for another attempt.
    retrying: AtomicU32,
    /// The recorded time of the last processed event, in microseconds since the Unix epoch; `i64::MIN` for none.
    last_recorded: AtomicI64,
    meter: Mutex<RateMeter>,
}

/// Measures positions per second.
#[derive(Debug, Clone, Copy)]
struct RateMeter {
    /// The start of the current window.
    since: Duration,
    /// The position at the start of the current window.
    from: u64,
    /// The rate of the previous window; `None` in the first one.
    rate: Option<f64>,
}

impl GenerationProgress {
    pub(crate) fn new(
        build: Build,
        checkpoints: &[Option<Position>],
        applied: watch::Sender<Option<Position>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let partitions: Vec<_> = checkpoints.iter().map(|position| AtomicU64::new(number(*position))).collect();
        let position = checkpoints.iter().copied().min().flatten();
        applied.send_if_modified(|applied| std::mem::replace(applied, position) != position);
        let meter = Mutex::new(RateMeter { since: clock.elapsed(), from: number(position), rate: None });
        Self {
            build,
            clock,
            partitions,
            applied,
            advanced: watch::Sender::new(()),
            ends: AtomicU32::new(0),
            event_count: AtomicU64::new(0),
            retrying: AtomicU32::new(0),
            last_recorded: AtomicI64::new(i64::MIN),
            meter,
        }
    }

    /// Sets the position up to which a partition has applied the log, and publishes the minimum of all partitions.
    pub(crate) fn advance(&self, partition: u32, position: Option<Position>) {
        if let Some(slot) = self.partitions.get(partition as usize) {
            slot.store(number(position), Ordering::Release);
        }
        // The minimum is computed under the lock of the channel, so that a concurrent caller cannot publish an older
        // one last.
        self.applied.send_if_modified(|applied| {
            let minimum = self.min_position();
            std::mem::replace(applied, minimum) != minimum
        });
        self.advanced.send_replace(());
        self.measure();
    }

    /// Waits until the partitions for which `is_awaited` returns `true` have applied the log up to a position.
    pub(crate) async fn wait_for(&self, position: Option<Position>, is_awaited: impl Fn(u32) -> bool) {
        let mut advanced = self.advanced.subscribe();
        let has_applied = || {
            let mut partitions = (0..).zip(self.positions());
            partitions.all(|(partition, applied)| !is_awaited(partition) || applied >= position)
        };
        // The sender is in `self`, so the channel is open.
        while !has_applied() && advanced.changed().await.is_ok() {}
    }

    /// Records that a partition has scanned the log up to the position at which it ends.
    pub(crate) fn reach_end(&self) {
        self.ends.fetch_add(1, Ordering::AcqRel);
        self.advanced.send_replace(());
    }

    /// Waits until all partitions have [reached their end](Self::reach_end).
    pub(crate) async fn wait_for_ends(&self) {
        let mut advanced = self.advanced.subscribe();
        let have_reached = || self.ends.load(Ordering::Acquire) as usize >= self.partitions.len();
        // The sender is in `self`, so the channel is open.
        while !have_reached() && advanced.changed().await.is_ok() {}
    }

    /// Counts events that were applied, parked or skipped.
    pub(crate) fn count<'e>(&self, events: impl Iterator<Item = &'e RecordedEvent>) {
        for event in events {
            self.event_count.fetch_add(1, Ordering::Relaxed);
            self.last_recorded.store(event.recorded_at.timestamp_micros(), Ordering::Relaxed);
        }
    }

    pub(crate) fn event_count(&self) -> u64 {
        self.event_count.load(Ordering::Relaxed)
    }

    /// Marks a key as waiting for another attempt, until the guard is dropped.
    pub(crate) fn begin_retry(self: &Arc<Self>) -> RetryGuard {
        self.retrying.fetch_add(1, Ordering::Relaxed);
        RetryGuard(Arc::clone(self))
    }

    pub(crate) fn is_retrying(&self) -> bool {
        self.retrying.load(Ordering::Relaxed) > 0
    }

    /// Returns the recorded time of the last processed event.
    pub(crate) fn last_recorded(&self) -> Option<Timestamp> {
        let micros = self.last_recorded.load(Ordering::Relaxed);
        if micros == i64::MIN { None } else { Timestamp::from_timestamp_micros(micros) }
    }

    /// Returns the position up to which all partitions have applied the log.
    pub(crate) fn min_position(&self) -> Option<Position> {
        self.positions().min().flatten()
    }

    /// Returns the position of the partition that is furthest ahead.
    pub(crate) fn max_position(&self) -> Option<Position> {
        self.positions().max().flatten()
    }

    fn positions(&self) -> impl Iterator<Item = Option<Position>> {
        self.partitions.iter().map(|slot| Position::new(slot.load(Ordering::Acquire)))
    }

    /// Returns the positions per second over the last few seconds.
    pub(crate) fn rate(&self) -> f64 {
        let meter = *self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.rate.unwrap_or_else(|| meter.rate_until(self.clock.elapsed(), number(self.min_position())))
    }

    fn measure(&self) {
        let (now, position) = (self.clock.elapsed(), number(self.min_position()));
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(meter.since) >= RATE_WINDOW {
            *meter = RateMeter { since: now, from: position, rate: Some(meter.rate_until(now, position)) };
        }
    }
}

impl RateMeter {
    fn rate_until(&self, now: Duration, position: u64) -> f64 {
        let seconds = now.saturating_sub(self.since).as_secs_f64();
        if seconds > 0.0 { position.saturating_sub(self.from) as f64 / seconds } else { 0.0 }
    }
}

/// Marks a key as waiting for another attempt.
#[derive(Debug)]
pub(crate) struct RetryGuard(Arc<GenerationProgress>);

impl Drop for RetryGuard {
    fn drop(&mut self) {
        self.0.retrying.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the position up to which a partition has applied the log: up to which it has scanned it, but not past the
/// first event that is retried.
pub(crate) fn applied_to(scanned: Option<Position>, retried: impl Iterator<Item = Position>) -> Option<Position> {
    retried.min().map_or(scanned, |first| scanned.min(first.previous()))
}

/// Returns the number of a position, 0 for `None`.
pub(crate) fn number(position: Option<Position>) -> u64 {
    position.map_or(0, Position::get)
}
