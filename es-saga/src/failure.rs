//! Failures of steps: their class, and what follows from it.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is known of the effect of a failed attempt, and whether another attempt can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// The attempt had no effect, and a later one may succeed. It is retried.
    #[default]
    Transient,
    /// The attempt had no effect, and no later one can succeed: the other side has refused. It is not retried.
    Terminal,
    /// The attempt may have had its effect, as after a timeout. It is retried under the same key; if no attempt
    /// succeeds, the step is compensated.
    Ambiguous,
}

/// Tells the class of an error of a step.
#[diagnostic::on_unimplemented(
    message = "the error `{Self}` of a saga step has no class",
    label = "no `Classify`",
    note = "write `impl es_saga::Classify for {Self} {{ fn class(&self) -> es_saga::ErrorClass {{ ... }} }}`: \
            transient if there was no effect and a retry may help, terminal if there was none and no retry helps, \
            ambiguous if the effect is unknown"
)]
pub trait Classify: Error + Send + Sync + 'static {
    /// Returns the class. The default is transient.
    fn class(&self) -> ErrorClass {
        ErrorClass::Transient
    }
}

impl Classify for std::convert::Infallible {}

/// A failed attempt of a step or of its compensation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFailure {
    /// The class.
    pub class: ErrorClass,
    /// The message of the error and of its causes.
    pub message: String,
}

impl StepFailure {
    /// Returns a failure of this class.
    #[must_use]
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    pub(crate) fn of<E: Classify>(error: &E) -> Self {
        Self::new(error.class(), es_core::model::ErrorChain(error).to_string())
    }
}

/// When a failed attempt is repeated, and what happens after the last one.
///
/// The pauses have full jitter: each is a random part of `first`, doubled with each attempt, up to `cap`; see
/// "Exponential Backoff And Jitter" (Brooker 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepRetry {
    /// The largest number of attempts, at least 1 and at most [`MAX_ATTEMPTS`](Self::MAX_ATTEMPTS). An attempt that a
    /// crash interrupted counts, but at least three attempts are made before a step fails because of crashes.
    pub attempts: u32,
    /// The longest pause before the second attempt.
    pub first: Duration,
    /// The longest pause before any attempt.
    pub cap: Duration,
    /// The time after the first attempt from which no further attempt starts; `None` for no limit.
    pub max_elapsed: Option<Duration>,
    /// What happens when no attempt is left.
    pub exhausted: Exhausted,
}

/// What happens to a saga when a step has no attempt left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Exhausted {
    /// The saga is compensated.
    #[default]
    Compensate,
    /// The saga is stuck and waits for a person.
    Pause,
    /// The saga ends without compensation.
    Kill,
}

impl StepRetry {
    /// Five attempts with pauses of up to 100 ms to 30 s, then compensation.
    pub const DEFAULT: Self = Self {
        attempts: 5,
        first: Duration::from_millis(100),
        cap: Duration::from_secs(30),
        max_elapsed: None,
        exhausted: Exhausted::Compensate,
    };

    /// Returns whether a step fails because of crashes: this many attempts were made, and the last one was interrupted.
    #[must_use]
    pub(crate) fn is_exhausted_by_crashes(&self, attempts: u32) -> bool {
        attempts >= self.attempts.clamp(3, Self::MAX_ATTEMPTS)
    }

    /// Returns the pause after attempt number `attempt`, counted from 1. `roll` is the random number.
    #[must_use]
    pub fn pause(&self, attempt: u32, roll: u64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let longest = self.first.saturating_mul(1 << doublings).min(self.cap);
        let nanoseconds = longest.as_nanos().saturating_mul(u128::from(roll)) >> 64;
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// The limit of all attempts of a step, so that no saga has an unlimited number of events.
    pub const MAX_ATTEMPTS: u32 = 10_000;

    /// Returns whether an attempt follows attempt number `attempt`, if it starts `elapsed` after the first one.
    #[must_use]
    pub fn has_another(&self, attempt: u32, elapsed: Duration) -> bool {
        attempt < self.attempts.min(Self::MAX_ATTEMPTS) && self.max_elapsed.is_none_or(|longest| elapsed < longest)
    }
}

impl Default for StepRetry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_have_full_jitter_up_to_a_doubled_and_capped_limit() {
        let retry = StepRetry { first: Duration::from_secs(1), cap: Duration::from_secs(5), ..StepRetry::DEFAULT };
        let seconds = |attempt, roll| retry.pause(attempt, roll).as_secs_f64();
        assert_eq!(seconds(1, 0), 0.0);
        assert!((seconds(1, u64::MAX) - 1.0).abs() < 1e-6);
        assert!((seconds(2, u64::MAX / 2) - 1.0).abs() < 1e-6);
        assert!((seconds(9, u64::MAX) - 5.0).abs() < 1e-6);
        assert!((seconds(u32::MAX, u64::MAX) - 5.0).abs() < 1e-6);
    }

    #[test]
    fn attempts_and_time_limit_a_retry() {
        let retry = StepRetry { attempts: 3, max_elapsed: Some(Duration::from_secs(9)), ..StepRetry::DEFAULT };
        assert!(retry.has_another(2, Duration::from_secs(8)));
        assert!(!retry.has_another(3, Duration::ZERO));
        assert!(!retry.has_another(1, Duration::from_secs(9)));
        let unlimited = StepRetry { attempts: u32::MAX, ..StepRetry::DEFAULT };
        assert!(unlimited.has_another(9_999, Duration::ZERO) && !unlimited.has_another(10_000, Duration::ZERO));
    }
}
