//! [`ProjectionOptions`].

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::aggregate::repository::RetryPolicy;
use crate::consumer::subscription::DEFAULT_BATCH;

/// The largest number of partitions of one projection.
pub const MAX_PARTITIONS: u32 = 1024;

/// The minimum lease. A shorter one is replaced by it.
const MIN_LEASE: Duration = Duration::from_millis(15);
/// The minimum pause after a failure. A shorter one is replaced by it.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// The policy for a rebuild that has parked keys which are not parked in the active view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RebuildErrors {
    /// Keeps the old view active until the parked events of the rebuild are retried or skipped. The rebuild keeps
    /// following the log.
    #[default]
    Hold,
    /// Swaps the views despite the parked events.
    Swap,
}

/// Options of a background projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectionOptions {
    /// The number of workers, 1 to [`MAX_PARTITIONS`]. The keys are divided among them. Each worker reads the log
    /// separately and has its own checkpoint.
    ///
    /// Events of one key are applied in order; events of different keys are not. With more than one worker, a row that
    /// events of several keys change must therefore not depend on the order of those events. Each commit then also
    /// requires that the rows that it read are unchanged. If most events change the same row, several workers are
    /// slower than one.
    pub partitions: u32,
    /// The number of events per read, and the largest number of events per commit.
    pub batch: u32,
    /// The size of the changed rows, in bytes, at which a commit is ended. A single event may change more, up to
    /// [`MAX_COMMIT_BYTES`](crate::store::MAX_COMMIT_BYTES).
    pub commit_bytes: usize,
    /// The retry policy for an event that cannot be applied. After the last attempt its key is parked. During the
    /// pauses only the later events of its key wait, unless the worker retries a thousand keys. A restart of the worker
    /// makes the next attempt at once.
    pub retry: RetryPolicy,
    /// The policy for a rebuild with parked events.
    pub rebuild_errors: RebuildErrors,
    /// The time after its last heartbeat for which a worker keeps its lease. Afterwards another task may take the
    /// lease. A lease of an earlier [opening](crate::EventStore::opening) of the store is taken at once.
    pub lease: Duration,
    /// The interval between checkpoints while no event matches.
    pub idle_checkpoint: Duration,
    /// The first and the longest pause before a restart, after a failure of the store or of a task. The number of
    /// restarts is not limited.
    pub restart: (Duration, Duration),
    /// The time for which the rows of a retired generation are kept, for reads in progress.
    pub keep_retired: Duration,
}

impl Default for ProjectionOptions {
    fn default() -> Self {
        Self {
            partitions: 1,
            batch: DEFAULT_BATCH,
            commit_bytes: 4 * 1024 * 1024,
            retry: RetryPolicy {
                attempts: 5,
                first_pause: Duration::from_millis(50),
                longest_pause: Duration::from_secs(2),
            },
            rebuild_errors: RebuildErrors::default(),
            lease: Duration::from_secs(10),
            idle_checkpoint: Duration::from_secs(1),
            restart: (Duration::from_millis(100), Duration::from_secs(30)),
            keep_retired: Duration::from_secs(5),
        }
    }
}

impl ProjectionOptions {
    /// Returns the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of workers, clamped to 1 to [`MAX_PARTITIONS`].
    #[must_use]
    pub fn partitions(mut self, workers: u32) -> Self {
        self.partitions = workers.clamp(1, MAX_PARTITIONS);
        self
    }

    /// Sets the largest number of events per batch; 0 is replaced by 1.
    #[must_use]
    pub fn batch(mut self, events: u32) -> Self {
        self.batch = events.max(1);
        self
    }

    /// Sets the retry policy for an event that cannot be applied.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets the policy for a rebuild with parked events.
    #[must_use]
    pub fn rebuild_errors(mut self, policy: RebuildErrors) -> Self {
        self.rebuild_errors = policy;
        self
    }

    /// Sets the lease.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the first and the longest pause before a restart.
    #[must_use]
    pub fn restart(mut self, first: Duration, longest: Duration) -> Self {
        self.restart = (first, longest);
        self
    }

    /// Sets the time for which the rows of a retired generation are kept.
    #[must_use]
    pub fn keep_retired(mut self, time: Duration) -> Self {
        self.keep_retired = time;
        self
    }

    /// Returns the options with every value within its bounds, so that no loop runs without a pause.
    pub(crate) fn within_bounds(mut self) -> Self {
        self = self.partitions(self.partitions).batch(self.batch).lease(self.lease.max(MIN_LEASE));
        let (first, longest) = self.restart;
        let first = first.max(MIN_PAUSE);
        self.restart(first, longest.max(first))
    }

    pub(crate) fn restart_pauses(&self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.restart.0)
            .with_max_delay(self.restart.1)
            .without_max_times()
            .with_jitter()
            .build()
    }
}
