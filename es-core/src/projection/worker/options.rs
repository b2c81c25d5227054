//! How a projection is run.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::aggregate::repository::RetryPolicy;
use crate::consumer::subscription::DEFAULT_BATCH;

/// The most workers of one projection.
pub const MAX_PARTITIONS: u32 = 1024;

/// The shortest lease: a shorter one counts as this one.
const SHORTEST_LEASE: Duration = Duration::from_millis(15);
/// The shortest pause after a failure.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// What happens to a rebuild in which events had to be parked that are not parked in the view that is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RebuildErrors {
    /// It goes on beside the old view and does not take its place, until its parked events are retried or skipped.
    #[default]
    Hold,
    /// It takes the place of the old view all the same.
    Swap,
}

/// How a projection is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectionOptions {
    /// How many workers share the keys, 1 to [`MAX_PARTITIONS`]. Each reads the log for itself and has a checkpoint of its own.
    ///
    /// With more than one, rows that events of several keys change must not depend on the order of those events: only the order
    /// within a key is kept. Each commit then demands that the rows that it has read are unchanged; rows that all events
    /// change make more workers slower than one.
    pub partitions: u32,
    /// How many events are read, and at the most written in one commit.
    pub batch: u32,
    /// A commit is ended when the rows of its events have this many bytes. One event alone may change more, up to
    /// [`MAX_COMMIT_BYTES`](crate::store::MAX_COMMIT_BYTES).
    pub commit_bytes: usize,
    /// How often an event is tried that cannot be applied, before its key stops. Meanwhile the later events of its worker wait.
    pub retry: RetryPolicy,
    /// What happens to a rebuild with parked events.
    pub rebuild_errors: RebuildErrors,
    /// How long a worker that gives no sign of life keeps its claim. Another one then takes over.
    pub lease: Duration,
    /// How often a checkpoint is written while nothing matches.
    pub idle_checkpoint: Duration,
    /// The pauses after a failure of the store or of a task, from the first to the longest, without an end.
    pub restart: (Duration, Duration),
    /// How long the rows of an old view stay after another one took its place, for readers that had begun.
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
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with this many workers, brought into 1 to [`MAX_PARTITIONS`].
    #[must_use]
    pub fn partitions(mut self, workers: u32) -> Self {
        self.partitions = workers.clamp(1, MAX_PARTITIONS);
        self
    }

    /// The same with batches of at most this many events; 0 counts as 1.
    #[must_use]
    pub fn batch(mut self, events: u32) -> Self {
        self.batch = events.max(1);
        self
    }

    /// The same with this patience for an event that cannot be applied.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// The same with this policy for rebuilds with parked events.
    #[must_use]
    pub fn rebuild_errors(mut self, policy: RebuildErrors) -> Self {
        self.rebuild_errors = policy;
        self
    }

    /// The same with this lease.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The same with these pauses after failures.
    #[must_use]
    pub fn restart(mut self, first: Duration, longest: Duration) -> Self {
        self.restart = (first, longest);
        self
    }

    /// The same with the rows of an old view kept for this time.
    #[must_use]
    pub fn keep_retired(mut self, time: Duration) -> Self {
        self.keep_retired = time;
        self
    }

    /// The same with nothing that would make a loop that does not wait.
    pub(crate) fn within_bounds(mut self) -> Self {
        self = self.partitions(self.partitions).batch(self.batch).lease(self.lease.max(SHORTEST_LEASE));
        let (first, longest) = self.restart;
        let first = first.max(SHORTEST_PAUSE);
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
