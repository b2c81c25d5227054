//! The clock: the only source of time in this crate and in the stores, so that a test can replace it.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, TimeDelta};

use crate::model::Timestamp;

/// A source of time: [`SystemClock`] in production, [`ManualClock`](crate::testing::ManualClock) in tests.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the wall-clock time in UTC. It may jump in either direction.
    fn now(&self) -> Timestamp;

    /// Returns the time since a fixed point in the past. It never decreases; use it to measure durations.
    fn elapsed(&self) -> Duration;
}

/// Returns the time of the operating system since 1970, or `None` before.
pub(crate) fn since_1970() -> Option<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok()
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Returns the clock of the operating system.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // `Utc::now` panics if the clock shows a time before 1970.
        let now = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => TimeDelta::from_std(since).ok(),
            Err(before) => TimeDelta::from_std(before.duration()).ok().map(|before| -before),
        };
        now.and_then(|now| DateTime::UNIX_EPOCH.checked_add_signed(now)).unwrap_or(Timestamp::MAX_UTC)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
