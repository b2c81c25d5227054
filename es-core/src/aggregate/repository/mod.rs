//! [`Repository`]: executes commands to one aggregate. [`UnitOfWork`]: executes commands to several aggregates in one
//! commit.
//!
//! ```text
//! execute(id, command) -> turn -> load -> decide -> encode -> commit -> fold -> Executed { events, state, .. }
//!                                  ^                             |
//!                                  +- another writer was faster -+   (bounded, with pauses)
//!                                 [---------- Plan -----------]
//! ```
//!
//! - `turns`: commands to one aggregate in one process wait for each other.
//! - `cache`: the most recently used states.
//! - `load`: snapshot or cached state, then the events after it. `loaded`: the state, and how events extend it.
//! - `plan`: decides and encodes without committing, so that several plans can share one commit.
//! - `unit`: one or several commands in one commit, with retry. `execute` is a unit of one command.
//! - `command_id`: the first result of a command, stored with its events.
//! - `conflicts`: finds the conflicts of an event of a replicated stream, and answers them.
//! - `snapshotter`: takes snapshots in the background.
//!
//! The module uses the store for all I/O, and reads the time only through [`Clock`].

mod cache;
mod command_id;
mod conflicts;
mod error;
mod execute;
mod load;
mod loaded;
mod metrics;
mod options;
mod plan;
mod retry;
mod snapshotter;
mod turns;
mod unit;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

#[doc(hidden)]
pub use command_id::foreign_results;
pub(crate) use command_id::remove_lost_results;
pub use error::{AsOf, ExecuteError, InfrastructureError, LoadError, Locked};
pub use execute::{Execute, Executed, Outcome};
pub use loaded::Loaded;
pub use plan::Plan;
pub use retry::RetryPolicy;
pub use unit::{CommandBatch, UnitError, UnitOfWork, UnitRejection};

use crate::aggregate::snapshot::{Snapshot, SnapshotPolicy, Snapshots};
use crate::aggregate::{Aggregate, CommandFor, Evolve};
use crate::model::{Clock, Entropy, IdSource, OneOrder, Revision, StreamId, SystemClock, SystemEntropy};
use crate::store::{CheckedTags, Commit, EventStore, QueryItem, TagError, check_recorded_time};
use cache::Cache;
use load::{Loader, Past};
use metrics::{CommandMetrics, LoadMetrics};
use snapshotter::Snapshotter;
use turns::Turns;

/// Loads aggregates of one type from a store and executes commands on them. Share one repository in the whole program:
/// it serializes the commands to one aggregate, and caches states.
pub struct Repository<A> {
    loader: Loader<A>,
    snapshotter: Option<Snapshotter<A>>,
    turns: Turns,
    checked_tags: CheckedTags,
    retry: RetryPolicy,
    lock_wait: Duration,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: CommandMetrics,
}

impl<A: Aggregate> fmt::Debug for Repository<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("category", &A::CATEGORY)
            .field("store", &self.loader.store)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

impl<A> Repository<A> {
    fn ids(&self) -> IdSource<'_> {
        IdSource { clock: &*self.clock, entropy: &*self.entropy }
    }
}

impl<A: Aggregate> Repository<A> {
    /// The number of aggregates that the cache of a new repository holds.
    pub const CACHED_AGGREGATES: usize = 1024;

    /// How long a command waits by default for the end of a transaction that locks its aggregate.
    pub const LOCK_WAIT: Duration = Duration::from_secs(5);

    /// Returns a repository on a store, with the declared snapshots and a small [cache](Self::with_cache).
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self
    where
        A: Evolve, // on this function instead of the `impl`, so that the compiler names the missing trait
    {
        let (snapshots, metrics) = (A::snapshots().map(Snapshots::new), LoadMetrics::new(A::CATEGORY));
        let retired = store.replication().map(|replication| replication.retired_origins()).unwrap_or_default();
        Self {
            snapshotter: snapshots.map(|snapshots| Snapshotter::new(Arc::clone(&store), snapshots)),
            loader: Loader { store, snapshots, cache: Some(Cache::new(Self::CACHED_AGGREGATES)), metrics, retired },
            turns: Turns::default(),
            checked_tags: CheckedTags::default(),
            retry: RetryPolicy::default(),
            lock_wait: Self::LOCK_WAIT,
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            metrics: CommandMetrics::new(A::CATEGORY),
        }
    }
}

impl<A: Evolve> Repository<A> {
    /// Replaces the retry policy.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how long a command waits for the end of a distributed transaction that locks its aggregate, before it fails
    /// with [`ExecuteError::Locked`]. The default is [`LOCK_WAIT`](Self::LOCK_WAIT).
    #[must_use]
    pub const fn with_lock_wait(mut self, time: Duration) -> Self {
        self.lock_wait = time;
        self
    }

    /// Sets the number of aggregates that the cache holds, at least 1. The default is
    /// [`CACHED_AGGREGATES`](Self::CACHED_AGGREGATES). A load starts at the cached state and reads the events after it,
    /// so a decision is never made on a stale state. A load of a stream that a rule has truncated does not use the
    /// cache, so that its result is the same after a restart. The states of deleted streams are removed with the next
    /// load of any aggregate, at most one second late.
    ///
    /// The cache holds a clone of each of the most recently used states, and about 200 bytes of overhead for each. It
    /// has no limit in bytes: set a smaller number if states are large.
    #[must_use]
    pub fn with_cache(mut self, aggregates: usize) -> Self {
        self.loader.cache = Some(Cache::new(aggregates));
        self
    }

    /// Removes the cache: each load starts at the newest snapshot.
    #[must_use]
    pub fn without_cache(mut self) -> Self {
        self.loader.cache = None;
        self
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the source of random numbers, from which event ids and the jitter of retries come.
    #[must_use]
    pub fn with_entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Replaces the declared snapshot policy. It has no effect on an aggregate that declares no snapshots, because the
    /// encoding of its state is not known.
    #[must_use]
    pub fn with_snapshot_policy(mut self, policy: SnapshotPolicy) -> Self {
        if let Some(mut support) = A::snapshots() {
            support.policy = policy;
            let snapshots = Snapshots::new(support);
            self.loader.snapshots = Some(snapshots);
            self.snapshotter = Some(Snapshotter::new(Arc::clone(&self.loader.store), snapshots));
        }
        self
    }

    /// Disables snapshots: none is read and none is taken.
    #[must_use]
    pub fn without_snapshots(mut self) -> Self {
        self.loader.snapshots = None;
        self.snapshotter = None;
        self
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn EventStore> {
        &self.loader.store
    }

    /// Returns the current state of an aggregate. An aggregate without events has its initial state and no revision.
    ///
    /// # Errors
    /// - [`LoadError::Name`] if the id cannot be part of a stream name.
    /// - [`LoadError::Event`] if an event cannot be decoded.
    /// - [`LoadError::Truncated`] if a retention rule hides events that the state needs, and no snapshot covers them.
    /// - [`LoadError::Store`] if the store fails.
    pub async fn load(&self, id: &A::Id) -> Result<Loaded<A>, LoadError> {
        self.load_stream(id, &A::stream(id)?).await
    }

    /// Returns the state of an aggregate at a past time. Reads every event of the aggregate.
    ///
    /// # Errors
    /// - [`LoadError::TimeAheadOfLog`] if a recorded time is later than the clock and the last recorded event.
    /// - The errors of [`load`](Self::load).
    pub async fn load_at(&self, id: &A::Id, as_of: AsOf) -> Result<Loaded<A>, LoadError> {
        if let AsOf::Recorded(time) = as_of {
            check_recorded_time(&*self.loader.store, &*self.clock, time).await??;
        }
        self.loader.load_past(id, &A::stream(id)?, Past::Time(as_of)).await
    }

    /// Returns the state of an aggregate after the event with this revision. Reads only the events after the newest
    /// snapshot up to that revision.
    ///
    /// The aggregate's consistency level must have [one order](OneOrder) of events; otherwise a revision means
    /// different events on different nodes.
    ///
    /// # Errors
    /// - [`LoadError::NotYet`] if the last revision of the stream is lower.
    /// - [`LoadError::Deleted`] if the revision is before the last deletion of the stream.
    /// - The errors of [`load`](Self::load).
    pub async fn load_at_revision(&self, id: &A::Id, revision: Revision) -> Result<Loaded<A>, LoadError>
    where
        A: Aggregate<Level: OneOrder>,
    {
        self.loader.load_past(id, &A::stream(id)?, Past::Revision(revision)).await
    }

    /// Returns a command that is executed when it is awaited.
    ///
    /// ```text
    /// repository.execute(&id, Approve { by }).await?
    /// repository.execute(&id, Approve { by }).at_revision(seen).with_id(request).await?
    /// ```
    ///
    /// # Errors
    /// Awaiting it returns [`ExecuteError`]: a rejection by the domain, a conflict, or a failure of the infrastructure.
    pub fn execute<C: CommandFor<A>>(&self, id: &A::Id, command: C) -> Execute<'_, A, C::Accepted> {
        Execute::new(self, id.clone(), command.accepted())
    }

    /// Waits until all requested snapshots are taken, for example before a shutdown or in tests.
    pub async fn settle(&self) {
        if let Some(snapshotter) = &self.snapshotter {
            snapshotter.settle().await;
        }
    }

    /// Checks that the events of the aggregate type have the tags of the append conditions.
    async fn check_tags(&self, conditions: &Commit) -> Result<(), TagError> {
        for condition in conditions.append_conditions() {
            for item in condition.query.items().unwrap_or_default().iter().filter(|item| !item.tags.is_empty()) {
                let category = A::category()?;
                if item.categories.is_empty() || item.categories.contains(&category) {
                    let item = QueryItem { categories: [category].into(), ..item.clone() };
                    self.checked_tags.check::<A::Event>(&*self.loader.store, &item).await?;
                }
            }
        }
        Ok(())
    }

    async fn load_stream(&self, id: &A::Id, stream: &StreamId) -> Result<Loaded<A>, LoadError> {
        let started = self.clock.elapsed();
        if let Some(cache) = &self.loader.cache {
            cache.remove_deleted(&**self.store(), started).await?;
        }
        let mut loaded = self.loader.load(id, stream).await?;
        let cost = self.clock.elapsed().saturating_sub(started);
        self.snapshot_if_due(stream, &mut loaded, cost);
        self.loader.cache(stream, &loaded);
        Ok(loaded)
    }

    /// Requests a snapshot if the policy says that one is due. The caller does not wait for it.
    fn snapshot_if_due(&self, stream: &StreamId, loaded: &mut Loaded<A>, cost: Duration) {
        let (Some(snapshots), Some(snapshotter)) = (&self.loader.snapshots, &self.snapshotter) else { return };
        let (Some(revision), Some(position)) = (loaded.revision, loaded.position) else { return };
        // A load from a snapshot must find the event that locks the aggregate, if there is one.
        if loaded.lock.is_some() || !snapshots.support.policy.is_due(loaded.events_since_snapshot(), cost) {
            return;
        }
        // Without a runtime there is no background task, so no snapshot is taken.
        let Ok(runtime) = Handle::try_current() else { return };
        let (state, last, history) = (loaded.state.clone(), loaded.last, loaded.history.clone());
        let snapshot = Snapshot { state, revision, position, last, history };
        if snapshotter.take(&runtime, stream, snapshot) {
            loaded.snapshot = Some(revision);
        }
    }
}
