//! [`Repository`]: executes commands to one aggregate. [`UnitOfWork`]: executes commands to several aggregates in one commit.
//!
//! ```text
//! execute(id, command) -> turn -> load -> decide -> encode -> commit -> fold -> Executed { events, state, revision, position }
//!                                  ^                             |
//!                                  +- another writer was faster -+   (bounded, with pauses)
//!                                 [---------- Plan -----------]
//! ```
//!
//! - `turns`: commands to one aggregate in one process wait for each other.
//! - `load`: snapshot or cached state, then the events after it.
//! - `plan`: decides and encodes without a commit, so that several plans can share one.
//! - `unit`: one or several commands in one commit, with retry. `execute` is a unit of one command.
//! - `command_id`: the first result of a command, stored with it.
//! - `snapshotter`: takes snapshots in the background.
//!
//! Absent here: SQL, files, sockets; the wall clock except through [`Clock`].

mod command_id;
mod error;
mod execute;
mod load;
mod options;
mod plan;
mod retry;
mod snapshotter;
mod turns;
mod unit;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lru::LruCache;
use tokio::runtime::Handle;

pub(crate) use command_id::forget_lost;
pub use error::{AsOf, ExecuteError, InfrastructureError, LoadError};
pub use execute::{Execute, Executed, Outcome};
pub use load::Loaded;
pub use plan::Plan;
pub use retry::RetryPolicy;
pub use unit::{UnitError, UnitOfWork, UnitRejection};

use crate::aggregate::snapshot::{Snapshot, SnapshotPolicy, Snapshots};
use crate::aggregate::{Aggregate, CommandFor, Evolve};
use crate::model::{Clock, Entropy, IdSource, OneOrder, Revision, StreamId, SystemClock, SystemEntropy};
use crate::store::EventStore;
use load::{Loader, Past};
use snapshotter::Snapshotter;
use turns::Turns;

/// Loads aggregates of one type from a store and executes commands on them. Share one for the whole program: commands to
/// one aggregate take turns in it, and share its cache.
pub struct Repository<A> {
    loader: Loader<A>,
    snapshotter: Option<Snapshotter<A>>,
    turns: Turns,
    retry: RetryPolicy,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

fn cache_of<A>(aggregates: usize) -> Mutex<LruCache<StreamId, Loaded<A>>> {
    // An empty cache allocates nothing; `LruCache::new` would reserve its whole capacity.
    let mut cache = LruCache::unbounded();
    cache.resize(NonZeroUsize::new(aggregates).unwrap_or(NonZeroUsize::MIN));
    Mutex::new(cache)
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
    /// How many aggregates the cache of a new repository holds.
    pub const CACHED_AGGREGATES: usize = 1024;

    /// A repository over a store, with the declared snapshots and a small [cache](Self::with_cache).
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self
    where
        A: Evolve, // here and not at the `impl`, so that the compiler says what to write
    {
        let snapshots = A::snapshots().map(Snapshots::new);
        Self {
            snapshotter: snapshots.map(|snapshots| Snapshotter::new(Arc::clone(&store), snapshots)),
            loader: Loader { store, snapshots, cache: Some(cache_of(Self::CACHED_AGGREGATES)) },
            turns: Turns::default(),
            retry: RetryPolicy::default(),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
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

    /// Sets how many aggregates the cache holds, at least 1; [`CACHED_AGGREGATES`](Self::CACHED_AGGREGATES) without
    /// this. A cached state is only where a load starts: each load reads the events after it, so that a decision is
    /// never made on a stale state. A load of a stream that a rule has truncated does not use the cache, so that its
    /// result is the same after a restart.
    ///
    /// The cache holds one clone of each state, the states used last, and about 200 bytes beside each. It has no bound in bytes: set a
    /// smaller number where states are large.
    #[must_use]
    pub fn with_cache(mut self, aggregates: usize) -> Self {
        self.loader.cache = Some(cache_of(aggregates));
        self
    }

    /// Removes the cache: each load folds the newest snapshot and the events after it.
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

    /// Replaces the declared snapshot policy. It has no effect on an aggregate that declares no snapshots, because the encoding of its
    /// state is not known.
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

    /// Returns the present state of an aggregate. An aggregate without events has its initial state and no revision.
    ///
    /// # Errors
    /// [`LoadError`]; each variant says what to do.
    pub async fn load(&self, id: &A::Id) -> Result<Loaded<A>, LoadError> {
        self.load_stream(id, &A::stream(id)?).await
    }

    /// Returns the state of an aggregate at a past time. Reads every event of the aggregate.
    ///
    /// # Errors
    /// [`LoadError`]; each variant says what to do.
    pub async fn load_at(&self, id: &A::Id, as_of: AsOf) -> Result<Loaded<A>, LoadError> {
        self.loader.load_past(id, &A::stream(id)?, Past::Time(as_of)).await
    }

    /// Returns the state of an aggregate after the event with this revision. Reads the events after the newest snapshot that
    /// is not newer.
    ///
    /// It is not available for a level without [one order](OneOrder): there, a revision means different events on different
    /// nodes.
    ///
    /// # Errors
    /// [`LoadError`]; each variant says what to do. [`NotYet`](LoadError::NotYet) when the stream does not reach the revision.
    pub async fn load_at_revision(&self, id: &A::Id, revision: Revision) -> Result<Loaded<A>, LoadError>
    where
        A: Aggregate<Level: OneOrder>,
    {
        self.loader.load_past(id, &A::stream(id)?, Past::Revision(revision)).await
    }

    /// Executes a command when the returned value is awaited.
    ///
    /// ```text
    /// repository.execute(&id, Approve { by }).await?
    /// repository.execute(&id, Approve { by }).at_revision(seen).with_id(request).await?
    /// ```
    ///
    /// # Errors
    /// [`ExecuteError`] when it is awaited: a rejection by the domain, a conflict, or a failure of the infrastructure.
    pub fn execute<C: CommandFor<A>>(&self, id: &A::Id, command: C) -> Execute<'_, A, C::Accepted> {
        Execute::new(self, id.clone(), command.accepted())
    }

    /// Waits until all snapshots that are due are taken. For use before a shutdown, and in tests.
    pub async fn settle(&self) {
        if let Some(snapshotter) = &self.snapshotter {
            snapshotter.settle().await;
        }
    }

    async fn load_stream(&self, id: &A::Id, stream: &StreamId) -> Result<Loaded<A>, LoadError> {
        let started = self.clock.elapsed();
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
        if !snapshots.support.policy.is_due(loaded.ahead_of_snapshot(), cost) {
            return;
        }
        // Outside of a runtime no background task can run: then no snapshot is taken this time.
        let Ok(runtime) = Handle::try_current() else { return };
        let (state, last, origins) = (loaded.state.clone(), loaded.last, loaded.origins.clone());
        let snapshot = Snapshot { state, revision, position, last, origins };
        if snapshotter.take(&runtime, stream, snapshot) {
            loaded.snapshot = Some(revision);
        }
    }
}
