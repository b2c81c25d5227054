//! How far the workers of one generation are, in memory: for those who wait and for the status.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::model::Clock;
use crate::model::Position;
use crate::model::{RecordedEvent, Timestamp};
use crate::projection::generation::Build;

/// Over which time a rate is measured.
const WINDOW: Duration = Duration::from_secs(5);

/// How far the workers of one generation are.
#[derive(Debug)]
pub(crate) struct GenerationProgress {
    pub(crate) build: Build,
    clock: Arc<dyn Clock>,
    /// For each partition up to where everything counts; 0 before the first event.
    partitions: Vec<AtomicU64>,
    least: watch::Sender<Option<Position>>,
    applied: AtomicU64,
    retrying: AtomicU32,
    /// When the last event was recorded that was looked at, in microseconds; `i64::MIN` for none.
    seen: AtomicI64,
    meter: Mutex<Meter>,
}

/// Measures how many positions pass in a second.
#[derive(Debug, Clone, Copy)]
struct Meter {
    since: Duration,
    from: u64,
    rate: Option<f64>,
}

impl GenerationProgress {
    pub(crate) fn new(
        build: Build,
        checkpoints: &[Option<Position>],
        least: watch::Sender<Option<Position>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let partitions: Vec<_> = checkpoints.iter().map(|position| AtomicU64::new(number(*position))).collect();
        let at = checkpoints.iter().copied().min().flatten();
        least.send_if_modified(|least| std::mem::replace(least, at) != at);
        let meter = Mutex::new(Meter { since: clock.elapsed(), from: number(at), rate: None });
        Self {
            build,
            clock,
            partitions,
            least,
            applied: AtomicU64::new(0),
            retrying: AtomicU32::new(0),
            seen: AtomicI64::new(i64::MIN),
            meter,
        }
    }

    /// Everything of a partition counts up to here.
    pub(crate) fn advance(&self, partition: u32, position: Option<Position>) {
        if let Some(slot) = self.partitions.get(partition as usize) {
            slot.store(number(position), Ordering::Release);
        }
        // NOTE: read anew under the lock of the channel, so that the last one to come publishes the newest.
        self.least.send_if_modified(|least| {
            let now = self.bounds().0;
            std::mem::replace(least, now) != now
        });
        self.measure();
    }

    /// Counts events that were applied or passed over.
    pub(crate) fn count<'e>(&self, events: impl Iterator<Item = &'e RecordedEvent>) {
        for event in events {
            self.applied.fetch_add(1, Ordering::Relaxed);
            self.seen.store(event.recorded_at.timestamp_micros(), Ordering::Relaxed);
        }
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// Says that a worker waits to try an event again, as long as the guard lives.
    pub(crate) fn retrying(&self) -> Retrying<'_> {
        self.retrying.fetch_add(1, Ordering::Relaxed);
        Retrying(self)
    }

    pub(crate) fn is_retrying(&self) -> bool {
        self.retrying.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn seen(&self) -> Option<Timestamp> {
        let micros = self.seen.load(Ordering::Relaxed);
        if micros == i64::MIN { None } else { Timestamp::from_timestamp_micros(micros) }
    }

    /// Up to where everything counts, and up to where anything does.
    pub(crate) fn bounds(&self) -> (Option<Position>, Option<Position>) {
        let positions = || self.partitions.iter().map(|slot| Position::new(slot.load(Ordering::Acquire)));
        (positions().min().flatten(), positions().max().flatten())
    }

    /// Positions per second, over the last few seconds.
    pub(crate) fn rate(&self) -> f64 {
        let meter = *self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.rate.unwrap_or_else(|| meter.over(self.clock.elapsed(), number(self.bounds().0)))
    }

    fn measure(&self) {
        let (now, at) = (self.clock.elapsed(), number(self.bounds().0));
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(meter.since) >= WINDOW {
            *meter = Meter { since: now, from: at, rate: Some(meter.over(now, at)) };
        }
    }
}

impl Meter {
    fn over(&self, now: Duration, at: u64) -> f64 {
        let seconds = now.saturating_sub(self.since).as_secs_f64();
        if seconds > 0.0 { at.saturating_sub(self.from) as f64 / seconds } else { 0.0 }
    }
}

/// A worker waits to try an event again.
pub(crate) struct Retrying<'a>(&'a GenerationProgress);

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        self.0.retrying.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn number(position: Option<Position>) -> u64 {
    position.map_or(0, Position::get)
}
