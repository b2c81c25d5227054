use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;

use crate::model::Clock;
use crate::model::Timestamp;

/// A clock that changes only when a test sets or advances it.
///
/// ```
/// use es_core::model::Clock;
/// use es_core::testing::ManualClock;
/// use std::time::Duration;
/// let clock = ManualClock::at("2016-07-04T00:00:00Z".parse().expect("a time"));
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().to_rfc3339(), "2016-07-04T00:01:00+00:00");
/// assert_eq!(clock.elapsed(), Duration::from_secs(60));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    time: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// Creates a clock with this time.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self { time: Mutex::new((now, Duration::ZERO)) }
    }

    /// Advances the time of day and the elapsed time.
    pub fn advance(&self, duration: Duration) {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        time.0 += TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        time.1 += duration;
    }

    /// Sets the time of day, forward or backward, as an administrator or a time server does. Does not change
    /// [`Clock::elapsed`].
    pub fn set(&self, now: Timestamp) {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).0 = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn elapsed(&self) -> Duration {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}
