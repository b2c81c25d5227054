//! [`Coordinator`]: decides transactions, and ends those that a crash has interrupted.
//!
//! - `driver`: the task of one transaction. `calls`: the calls of its participants.
//! - `log`: the records of transactions in the store.
//! - `recovery`: finds transactions without a task.
//! - `admin`: the view and the actions of an operator.

mod admin;
mod calls;
mod driver;
mod error;
mod log;
mod metrics;
mod recovery;
mod shared;
mod tasks;
mod transaction;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use es_core::EventStore;
use es_core::consumer::lease::{Acquisition, HeartbeatWatch, HeldLease, LeaseRows, LeaseTerms};
use es_core::model::{Clock, CoordinatorEpoch, Entropy, ErrorChain, SystemClock, SystemEntropy};
use tokio::runtime::Handle;
use uuid::Uuid;

pub use admin::{UnfinishedParticipant, UnfinishedTransaction};
pub use error::{EnlistError, OperateTransactionError, StartCoordinatorError, TransactionError};
pub use transaction::{Completed, Strength, TransactionBuilder, Tx};

use crate::hooks::{Hook, HookAction, HookPoint};
use crate::participant::Participant;
use shared::{Registered, RunState, Shared, SharedParts, Times};

/// Describes a coordinator of transactions. [`start`](Self::start) starts it.
///
/// The log of a coordinator is in its store: a stream for each transaction. A second process may start a coordinator
/// with the same name on the same store; it waits until the first one has ended, or its lease has expired. A
/// coordinator that lost its lease can record no decision.
pub struct Coordinator {
    name: String,
    store: Arc<dyn EventStore>,
    participants: Vec<Registered>,
    times: Times,
    lease: Duration,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    hook: Option<Arc<Hook>>,
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let participants: Vec<&str> = self.participants.iter().map(|registered| &*registered.name).collect();
        f.debug_struct("Coordinator")
            .field("name", &self.name)
            .field("participants", &participants)
            .finish_non_exhaustive()
    }
}

impl Coordinator {
    /// Returns a coordinator without participants. The name is part of the ids of its transactions; participants know
    /// the coordinator by it. It must be unique among all coordinators that share a participant, and never change.
    #[must_use]
    pub fn new(name: &str, store: Arc<dyn EventStore>) -> Self {
        Self {
            name: name.to_owned(),
            store,
            participants: Vec::new(),
            times: Times {
                call: Duration::from_secs(10),
                first_pause: Duration::from_millis(50),
                longest_pause: Duration::from_secs(10),
                search: Duration::from_secs(10),
                transaction: Duration::from_secs(30),
            },
            lease: Duration::from_secs(30),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            hook: None,
        }
    }

    /// Registers a participant under its [name](Participant::name). A participant stays registered as long as a
    /// transaction with it may be unfinished.
    #[must_use]
    pub fn participant(mut self, participant: impl Participant) -> Self {
        let name = participant.name().into();
        self.participants.push(Registered { name, participant: Arc::new(participant) });
        self
    }

    /// Sets the default time within which a transaction must be decided; 30 s unless set. A transaction that is not
    /// decided then aborts.
    #[must_use]
    pub const fn timeout(mut self, time: Duration) -> Self {
        self.times.transaction = time;
        self
    }

    /// Sets the time of one call of a participant, except prepare; 10 s by default. The call is repeated after a pause.
    #[must_use]
    pub const fn call_timeout(mut self, time: Duration) -> Self {
        self.times.call = time;
        self
    }

    /// Sets the first and the longest pause before a call is repeated; 50 ms and 10 s by default.
    #[must_use]
    pub const fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.times.first_pause = first;
        self.times.longest_pause = longest;
        self
    }

    /// Sets the time between two searches for transactions that no task drives; 10 s by default. The first search
    /// begins at the start, and after a failure a search is repeated earlier.
    #[must_use]
    pub const fn search_interval(mut self, time: Duration) -> Self {
        self.times.search = time;
        self
    }

    /// Sets the length of the lease, after which another process takes over from one that has died; 30 s by default. A
    /// store that is open in one process only does not wait for it.
    #[must_use]
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = time.max(Duration::from_millis(3));
        self
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the source of random numbers, from which the ids of transactions come.
    #[must_use]
    pub fn with_entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Sets a function that a test uses to interfere at each point of each transaction; see
    /// [`HookPlace`](crate::HookPlace).
    #[must_use]
    pub fn test_hook(mut self, hook: impl Fn(HookPoint<'_>) -> HookAction + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Starts the coordinator, and continues the transactions that an earlier process has not ended. New transactions
    /// do not wait for them.
    ///
    /// # Errors
    /// - [`StartCoordinatorError::Name`] if the name is invalid.
    /// - [`StartCoordinatorError::Duplicate`] if two participants have the same name.
    /// - [`StartCoordinatorError::Held`] if another process runs the coordinator for longer than the length of a lease.
    /// - [`StartCoordinatorError::NoRuntime`] if the caller is outside of a tokio runtime.
    /// - [`StartCoordinatorError::Store`] if the store fails.
    pub async fn start(self) -> Result<RunningCoordinator, StartCoordinatorError> {
        Handle::try_current().map_err(|_| StartCoordinatorError::NoRuntime)?;
        CoordinatorEpoch::new(&self.name, 0)?;
        let mut participants = BTreeMap::new();
        for registered in &self.participants {
            if participants.insert(Arc::clone(&registered.name), registered.clone()).is_some() {
                return Err(StartCoordinatorError::Duplicate { name: registered.name.to_string() });
            }
        }
        let owner = Uuid::from_u64_pair(self.entropy.next_u64(), self.entropy.next_u64());
        let terms = LeaseTerms { owner, duration: self.lease };
        let lease = self.acquire(terms).await?;
        let epoch = CoordinatorEpoch::new(&self.name, lease.epoch())?;
        tracing::info!(%epoch, "coordinator of transactions started");
        let Self { store, times, clock, entropy, hook, .. } = self;
        let parts = SharedParts { store, epoch, lease, participants, times, clock, entropy, hook };
        let shared = Arc::new(Shared::new(parts));
        shared.spawn(renew(Arc::clone(&shared), terms));
        shared.spawn(recovery::run(Arc::clone(&shared)));
        Ok(RunningCoordinator { transactions: Transactions { shared } })
    }

    /// Acquires the lease of the coordinator.
    async fn acquire(&self, terms: LeaseTerms) -> Result<HeldLease, StartCoordinatorError> {
        let rows = LeaseRows::named(&format!("transactions-{}", self.name));
        let mut watch = HeartbeatWatch::default();
        let until = self.clock.elapsed().saturating_add(terms.duration.saturating_mul(2));
        loop {
            match terms.acquire(&*self.store, &rows, &*self.clock, &mut watch).await? {
                Acquisition::Acquired(lease) => return Ok(lease),
                Acquisition::HeldBy(_) if self.clock.elapsed() >= until => {
                    return Err(StartCoordinatorError::Held { name: self.name.clone() });
                }
                Acquisition::HeldBy(_) => tokio::time::sleep(terms.duration / 10).await,
            }
        }
    }
}

/// Renews the lease until it is lost.
async fn renew(shared: Arc<Shared>, terms: LeaseTerms) {
    loop {
        tokio::select! {
            () = shared.ended() => return,
            () = tokio::time::sleep(terms.duration / 3) => {}
        }
        match terms.renew(&*shared.store, &*shared.clock, &shared.lease).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(epoch = %shared.epoch, "another process has taken over the coordinator");
                return shared.enter(RunState::Fenced);
            }
            // Every record is conditional on the lease, so that nothing is decided if it is lost.
            Err(error) => tracing::warn!(error = %ErrorChain(&error), "the lease of transactions was not renewed"),
        }
    }
}

/// Begins transactions at a running coordinator, and shows and operates those that are unfinished. Cheap to clone.
#[derive(Clone)]
pub struct Transactions {
    shared: Arc<Shared>,
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").field("epoch", &self.shared.epoch).finish_non_exhaustive()
    }
}

impl Transactions {
    /// Returns the epoch of the coordinator, which grows with each start.
    #[must_use]
    pub fn epoch(&self) -> &CoordinatorEpoch {
        &self.shared.epoch
    }
}

/// A running coordinator. Dropping it stops it as a crash does; its transactions continue at the next start.
#[derive(Debug)]
pub struct RunningCoordinator {
    transactions: Transactions,
}

impl std::ops::Deref for RunningCoordinator {
    type Target = Transactions;

    fn deref(&self) -> &Transactions {
        &self.transactions
    }
}

impl RunningCoordinator {
    /// Returns a handle that begins transactions.
    #[must_use]
    pub fn transactions(&self) -> Transactions {
        self.transactions.clone()
    }

    /// Stops the coordinator: begins no transaction, waits for those that have begun, and releases the lease. Returns
    /// `false` if some had not ended before `deadline`; they continue at the next start.
    pub async fn shutdown(self, deadline: Duration) -> bool {
        let shared = Arc::clone(&self.transactions.shared);
        shared.enter(RunState::Stopping);
        let is_idle = async {
            while !shared.is_idle() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let is_ended = tokio::time::timeout(deadline, is_idle).await.is_ok();
        // ORDER: the tasks end before the lease is released.
        shared.take_tasks().shutdown().await;
        if shared.state() == RunState::Stopping
            && let Err(error) = shared.lease.release(&*shared.store).await
        {
            tracing::warn!(error = %ErrorChain(&error), "the lease of transactions was not released");
        }
        is_ended
    }
}

impl Drop for RunningCoordinator {
    fn drop(&mut self) {
        self.transactions.shared.enter(RunState::Crashed);
        self.transactions.shared.take_tasks().abort_all();
    }
}
