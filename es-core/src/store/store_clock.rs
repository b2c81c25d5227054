//! The checks of the clock of a store: a clock before 1970 is refused, and a log that is ahead of the clock is
//! reported.

use std::time::Duration;

use chrono::TimeDelta;

use crate::model::Timestamp;

/// The last recorded time may be ahead of the clock by this much before a store reports it.
const TOLERANCE: TimeDelta = TimeDelta::minutes(1);

/// The clock of the machine shows a time before 1970, as after a reset. Ids and recorded times cannot be made from it.
/// Set the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a clock time of 1970 or later, found {now}; set the clock of this machine")]
pub struct InvalidClock {
    /// The time of the clock.
    pub now: Timestamp,
}

/// Checks that a clock can give recorded times.
///
/// # Errors
/// [`InvalidClock`] if the time is before 1970.
pub fn check_clock(now: Timestamp) -> Result<(), InvalidClock> {
    if now < Timestamp::UNIX_EPOCH { Err(InvalidClock { now }) } else { Ok(()) }
}

/// Returns by how much the last recorded time of a log is ahead of the clock, if that is more than a minute.
///
/// The clock was in the future when the event was recorded, or is in the past now. Recorded times never decrease, so
/// later events get the same time until the clock has caught up.
#[must_use]
pub fn ahead_of_clock(last_recorded: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let ahead = last_recorded? - now;
    if ahead > TOLERANCE { ahead.to_std().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_ahead_of_the_clock_after_a_minute() {
        let last = Timestamp::UNIX_EPOCH + TimeDelta::days(365);
        for (seconds, expected) in [(-1, None), (0, None), (60, None), (61, Some(Duration::from_secs(61)))] {
            assert_eq!(ahead_of_clock(Some(last), last - TimeDelta::seconds(seconds)), expected);
        }
        assert_eq!(ahead_of_clock(None, last), None);
        assert!(ahead_of_clock(Some(Timestamp::MAX_UTC), Timestamp::MIN_UTC).is_some());
    }

    #[test]
    fn a_clock_before_1970_is_refused() {
        assert_eq!(check_clock(Timestamp::UNIX_EPOCH), Ok(()));
        let refused = check_clock(Timestamp::UNIX_EPOCH - TimeDelta::microseconds(1)).unwrap_err().to_string();
        assert!(refused.contains("found 1969-12-31 23:59:59.999999 UTC; set the clock"), "{refused}");
    }
}
