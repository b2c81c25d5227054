//! The clock: the only way in which this crate and the stores learn the time, so that a test can be the clock.

use std::fmt;
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::model::Timestamp;

/// A source of time. [`SystemClock`] for real, [`ManualClock`](crate::testing::ManualClock) in tests.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time of day in UTC. It may jump in either direction.
    fn now(&self) -> Timestamp;

    /// The time since some fixed point in the past. It never goes back; use it to measure.
    fn elapsed(&self) -> Duration;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// The clock of the machine.
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
