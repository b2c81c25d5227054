//! The clock: the only source of time in this crate and in the stores, so that a test can replace it.

use std::fmt;
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::model::Timestamp;

/// A source of time: [`SystemClock`] in production, [`ManualClock`](crate::testing::ManualClock) in tests.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the wall-clock time in UTC. It may jump in either direction.
    fn now(&self) -> Timestamp;

    /// Returns the time since a fixed point in the past. It never decreases; use it to measure durations.
    fn elapsed(&self) -> Duration;
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
        Utc::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
