//! [`Supervisor`]: starts projections, starts them again after a failure, and lets them finish.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::claim::Terms;
use super::follower::told;
use super::operator::Operator;
use super::options::ProjectionOptions;
use super::rows::RowKeys;
use super::runner::{End, Runner};
use super::status::{Phase, ProjectionState, Shared, Status};
use crate::model::NameError;
use crate::model::Position;
use crate::model::{Clock, SystemClock};
use crate::projection::Projection;
use crate::store::{EventStore, StoreError};

/// A life that lasted for so long was a good one: the next pause is the first one again.
const GOOD_LIFE: Duration = Duration::from_secs(60);

/// Projections to be run over a store.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use es_core::prelude::*;
/// # use es_core::{EventStore, store::memory::MemoryStore};
/// # use es_core::projection::{ApplyError, Projection, ProjectionOptions, Rows, Supervisor};
/// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, es_core::Event)]
/// # #[event(name = "order-placed")]
/// # struct OrderPlaced {}
/// struct OrderCount;
///
/// impl Projection for OrderCount {
///     type Event = OrderPlaced;
///     const NAME: &'static str = "order-count";
///
///     fn apply(&self, _: &OrderPlaced, _: &EventContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
///         let table = es_core::Table::new("count")?;
///         let before = rows.get(&table, b"all")?.map_or(0, |count| count.len());
///         rows.put(&table, "all", "i".repeat(before + 1));
///         Ok(())
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// # let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
/// let running = Supervisor::new(Arc::clone(&store))
///     .projection(OrderCount, ProjectionOptions::new().partitions(2))
///     .start()?;
/// let counts = running.projection(OrderCount::NAME).expect("it was given");
/// # let event = es_core::NewEvent::json(es_core::EventType::new("order-placed")?, "{}");
/// # let commit = es_core::Commit::to(&es_core::StreamId::new("order-1")?, es_core::ExpectedRevision::Any, [event]);
/// let committed = store.commit(commit).await?;
/// counts.wait_for(committed.position(), Duration::from_secs(10)).await?;
/// counts.operator().pause("maintenance").await?;
/// running.shutdown(Duration::from_secs(10)).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Supervisor {
    store: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    given: Vec<Given>,
}

/// A projection that is to be run.
struct Given {
    name: &'static str,
    start: Starter,
}

type Starter = Box<dyn FnOnce(Start, &mut JoinSet<()>) + Send>;

/// What a projection is started with.
struct Start {
    store: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    operator: Operator,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A projection has a name that none can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Two projections have one name. Their rows would be the same.
    #[error("expected projections with names of their own, found {name:?} twice; rename one of them")]
    SameName {
        /// The name.
        name: &'static str,
    },
    /// The projection runs inline in this store. Both would write its checkpoint: run it in one way, or open the store without it.
    #[error("projection {name:?} runs inline in this store; run it inline or in the background, not both")]
    Inline {
        /// The name.
        name: &'static str,
    },
    /// There is no runtime of tokio here. Call it from within one.
    #[error("projections run on a tokio runtime, found none; start them from within one")]
    NoRuntime,
}

/// A caller has waited in vain. What it had committed is committed: there is nothing to repeat.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the command itself succeeded and must not be repeated: its events stand in the log up to position {position}; projection \
     {projection:?} {why} and shows the log up to {}; it is {state}",
    .reached.map_or_else(|| "no event".to_owned(), |reached| format!("position {reached}"))
)]
pub struct WaitError {
    /// The projection.
    pub projection: &'static str,
    /// What was to be shown.
    pub position: Position,
    /// What is shown.
    pub reached: Option<Position>,
    /// What the projection was doing.
    pub state: ProjectionState,
    /// Whether the time was over, or the projection had ended.
    pub why: GaveUp,
}

/// Why a caller does not wait any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaveUp {
    /// The time was over. Show what there is, or look again later.
    After(Duration),
    /// The projection was shut down here.
    Stopped,
}

impl std::fmt::Display for GaveUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::After(time) => write!(f, "did not get there within {time:?}"),
            Self::Stopped => f.write_str("has stopped here"),
        }
    }
}

/// Not everything had ended in time. What had not was ended all the same: nothing is half done, and what was not written yet is
/// done again at the next start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected all projections to finish within {deadline:?}, these had not: {}; they were ended, nothing is lost", .unfinished.join(", "))]
pub struct ShutdownError {
    /// How long they had.
    pub deadline: Duration,
    /// The projections.
    pub unfinished: Vec<&'static str>,
}

impl Supervisor {
    /// Nothing to be run yet.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, clock: Arc::new(SystemClock::new()), given: Vec::new() }
    }

    /// Takes the time from this clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Adds a projection.
    #[must_use]
    pub fn projection<P: Projection>(mut self, projection: P, options: ProjectionOptions) -> Self {
        let start = Box::new(move |start: Start, tasks: &mut JoinSet<()>| {
            let options = options.within_bounds();
            let runner = Runner {
                keys: RowKeys::new(P::NAME),
                terms: Terms { owner: Uuid::now_v7(), lease: options.lease },
                projection: Arc::new(projection),
                options,
                store: start.store,
                clock: start.clock,
                operator: start.operator,
                shared: start.shared,
                stop: start.stop,
            };
            tasks.spawn(supervise(Arc::new(runner)));
        });
        self.given.push(Given { name: P::NAME, start });
        self
    }

    /// Starts everything on the current runtime.
    ///
    /// # Errors
    /// [`StartError`]: nothing was started.
    pub fn start(self) -> Result<Running, StartError> {
        if Handle::try_current().is_err() {
            return Err(StartError::NoRuntime);
        }
        let mut projections = BTreeMap::new();
        for given in &self.given {
            if self.store.runs_inline(given.name) {
                return Err(StartError::Inline { name: given.name });
            }
            let operator = Operator::new(Arc::clone(&self.store), given.name)?;
            let shared = Arc::new(Shared::new(given.name, Arc::clone(&self.clock)));
            let handle = ProjectionHandle { operator, shared, store: Arc::clone(&self.store) };
            if projections.insert(given.name, handle).is_some() {
                return Err(StartError::SameName { name: given.name });
            }
        }
        let (stop, mut tasks) = (watch::Sender::new(false), JoinSet::new());
        for given in self.given {
            let Some(handle) = projections.get(given.name) else { continue };
            let start = Start {
                store: Arc::clone(&self.store),
                clock: Arc::clone(&self.clock),
                operator: handle.operator.clone(),
                shared: Arc::clone(&handle.shared),
                stop: stop.subscribe(),
            };
            (given.start)(start, &mut tasks);
        }
        Ok(Running { projections, stop, tasks })
    }
}

/// Projections that run. Dropping it ends them at once, with nothing half done; [`shutdown`](Self::shutdown) lets them finish.
#[derive(Debug)]
pub struct Running {
    projections: BTreeMap<&'static str, ProjectionHandle>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Running {
    /// The projection of this name; `None` where none was given.
    #[must_use]
    pub fn projection(&self, name: &str) -> Option<&ProjectionHandle> {
        self.projections.get(name)
    }

    /// What is going on, for all of them in the order of their names.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        self.projections.values().map(ProjectionHandle::status).collect()
    }

    /// Lets each worker finish the batch that it has in hand and write its checkpoint, gives the claims up, and ends.
    ///
    /// # Errors
    /// [`ShutdownError`]: some had not finished within `deadline`, and were ended.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<(), ShutdownError> {
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, ended).await.is_ok() {
            return Ok(());
        }
        let unfinished = self.projections.values().filter(|handle| handle.shared.phase() != Phase::Stopped);
        let unfinished = unfinished.map(|handle| handle.shared.projection).collect();
        self.tasks.shutdown().await;
        Err(ShutdownError { deadline, unfinished })
    }
}

/// A projection that runs.
#[derive(Debug, Clone)]
pub struct ProjectionHandle {
    operator: Operator,
    shared: Arc<Shared>,
    store: Arc<dyn EventStore>,
}

impl ProjectionHandle {
    /// The verbs for it.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// What is going on.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status(self.store.watch_head().current())
    }

    /// Takes the claim for this process, whoever has it. What the other has on its way is refused from then on. Nothing happens
    /// where this process has it.
    pub fn take_over(&self) {
        self.shared.take_over.notify_one();
    }

    /// Waits until the view shows everything up to a position, for a caller that has just executed a command: what
    /// [`Executed`](crate::Executed) or [`Committed`](crate::Committed) names. Without a position there is nothing to wait for.
    ///
    /// A parked event counts as shown: it is in the dead-letter list.
    ///
    /// # Errors
    /// [`WaitError`]: it does not show it. The command itself has succeeded.
    pub async fn wait_for(&self, position: impl Into<Option<Position>>, timeout: Duration) -> Result<(), WaitError> {
        let Some(position) = position.into() else { return Ok(()) };
        let mut reached = self.shared.watch();
        let ended = async {
            while self.shared.phase() != Phase::Stopped {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let why = tokio::select! {
            biased;
            arrived = reached.wait_for(|reached| *reached >= Some(position)) => match arrived {
                Ok(_) => return Ok(()),
                Err(_) => GaveUp::Stopped,
            },
            () = ended => GaveUp::Stopped,
            () = tokio::time::sleep(timeout) => GaveUp::After(timeout),
        };
        let Status { projection, position: reached, state, .. } = self.status();
        Err(WaitError { projection, position, reached, state, why })
    }
}

/// Gives a projection one life after the other.
async fn supervise<P: Projection>(runner: Arc<Runner<P>>) {
    let mut stop = runner.stop.clone();
    let mut pauses = runner.options.restart_pauses();
    loop {
        let begun = runner.clock.elapsed();
        let mut life = JoinSet::new();
        let living = Arc::clone(&runner);
        life.spawn(async move { living.run().await });
        let failure = match life.join_next().await {
            Some(Ok(Ok(End::Stopped))) | None => break,
            // NOTE: it waits for the claim like anybody else.
            Some(Ok(Ok(End::ClaimLost))) => continue,
            Some(Ok(Err(error @ StoreError::Closed))) => {
                runner.shared.failed(error.to_string());
                break;
            }
            Some(Ok(Err(error))) => error.to_string(),
            Some(Err(error)) => error.to_string(),
        };
        if runner.clock.elapsed().saturating_sub(begun) > GOOD_LIFE {
            pauses = runner.options.restart_pauses();
        }
        // NOTE: pauses have no end.
        let pause = pauses.next().unwrap_or(runner.options.restart.1);
        tracing::error!(projection = P::NAME, error = failure, ?pause, "projection failed; starting it again");
        runner.shared.failed(failure);
        tokio::select! {
            () = told(&mut stop) => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    runner.shared.enter(Phase::Stopped);
}
