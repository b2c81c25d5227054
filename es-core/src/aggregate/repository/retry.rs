//! [`RetryPolicy`]: when a command is decided again after another writer was faster.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::model::Entropy;

/// The number of attempts to execute a command after conflicts, and the pauses between them. Each attempt decides on
/// fresh state.
///
/// Pauses grow exponentially with jitter, so that writers that collided once spread out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The maximum number of attempts, at least 1.
    pub attempts: usize,
    /// The pause before the second attempt, before jitter.
    pub first_pause: Duration,
    /// The maximum pause, before jitter.
    pub longest_pause: Duration,
}

impl RetryPolicy {
    /// One attempt: the first conflict is returned to the caller.
    pub const NEVER: Self = Self { attempts: 1, first_pause: Duration::ZERO, longest_pause: Duration::ZERO };

    /// Returns a policy with the default pauses and this number of attempts; 0 counts as 1.
    #[must_use]
    pub fn attempts(attempts: usize) -> Self {
        Self { attempts: attempts.max(1), ..Self::default() }
    }

    /// Returns the pauses with jitter from `entropy`.
    pub(crate) fn pauses(&self, entropy: &dyn Entropy) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .with_max_times(self.attempts.saturating_sub(1))
            .with_jitter()
            .with_jitter_seed(entropy.next_u64())
            .build()
    }
}

impl Default for RetryPolicy {
    /// Returns twenty attempts with pauses of 1 to 100 ms, which take about a second in total.
    fn default() -> Self {
        Self { attempts: 20, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(100) }
    }
}
