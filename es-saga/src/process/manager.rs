//! [`ProcessManager`]: signals, completions and queries of a process, and its start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::{Aggregate, LoadError};
use es_core::consumer::group::StartAt;
use es_core::consumer::lease::LeaseTerms;
use es_core::consumer::{DeliveryScope, WaitError};
use es_core::model::{Clock, Entropy, SystemClock, SystemEntropy};
use es_core::{Commit, EventStore, Position, Repository};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::coordinator::SagaAdmin;
use crate::process::admin::ProcessAdmin;
use crate::process::definition::Process;
use crate::process::engine::{HandleError, InstanceId, ProcessEngine};
use crate::process::error::{ProcessStartError, SignalError};
use crate::process::id::{CompletionToken, ParseProcessIdError, ProcessId};
use crate::process::journal::ProcessJournal;
use crate::process::metrics::ProcessMetrics;
use crate::process::reaction::Planner;
use crate::process::runner::{ProcessProgress, Runner};
use crate::process::transition::{NoReaction, ProcessInput};
use crate::record::owner_id;

/// A process over a store: takes signals and completions, answers queries, and [starts](Self::start) the consumption of
/// events. Cheap to clone.
///
/// Several programs may use one process on one store. One of them consumes its events and fires its timers.
pub struct ProcessManager<P: Process> {
    engine: Arc<ProcessEngine<P>>,
    start_at: StartAt,
    scope: DeliveryScope,
    poll: Duration,
    lease: Duration,
}

impl<P: Process> Clone for ProcessManager<P> {
    fn clone(&self) -> Self {
        let Self { start_at, scope, poll, lease, .. } = *self;
        Self { engine: Arc::clone(&self.engine), start_at, scope, poll, lease }
    }
}

impl<P: Process> fmt::Debug for ProcessManager<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessManager").field("process", &ProcessEngine::<P>::name()).finish_non_exhaustive()
    }
}

/// The outcome of a signal or a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignalOutcome {
    /// The instance reacted to it.
    Handled,
    /// The instance had reacted to it before. Nothing was written.
    Repeated,
}

/// An instance, for queries.
#[derive(Debug, Clone)]
pub struct ProcessView<S> {
    /// The state.
    pub state: S,
    /// The journal: phase, timers, keys, waits.
    pub journal: ProcessJournal,
}

impl<P: Process> ProcessManager<P> {
    /// Returns the position after which the process begins at its first start.
    async fn first_position(&self) -> Result<Option<Position>, ProcessStartError> {
        match self.start_at {
            StartAt::Now => Ok(self.engine.store().head().await?),
            StartAt::Beginning => Ok(None),
            StartAt::After(position) => {
                self.engine.store().watch_head().check(Some(position))?;
                Ok(Some(position))
            }
        }
    }

    /// Returns the process over this store, with the clock of the system.
    #[must_use]
    pub fn new(process: P, store: Arc<dyn EventStore>) -> Self {
        Self::with_clock(process, store, Arc::new(SystemClock::new()), Arc::new(SystemEntropy))
    }

    /// Returns the process over this store, with a clock and a source of random numbers, from which event ids come.
    #[must_use]
    pub fn with_clock(
        process: P,
        store: Arc<dyn EventStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let sagas = SagaAdmin::new(Arc::clone(&store)).with_clock(Arc::clone(&clock));
        let engine = ProcessEngine {
            process,
            journals: Repository::new(Arc::clone(&store)).without_cache(),
            states: Repository::new(Arc::clone(&store)),
            sagas: sagas.with_entropy(Arc::clone(&entropy)),
            planner: Planner { store, clock, entropy },
            metrics: ProcessMetrics::new(ProcessEngine::<P>::name()),
            changed: Notify::new(),
        };
        let (poll, lease) = (Duration::from_secs(1), Duration::from_secs(30));
        let (start_at, scope) = (StartAt::Now, DeliveryScope::Origin);
        Self { engine: Arc::new(engine), start_at, scope, poll, lease }
    }

    /// Sets the first event at the first start; the next one that is committed by default. Later starts ignore it and
    /// continue where the process stopped.
    #[must_use]
    pub const fn start_at(mut self, start_at: StartAt) -> Self {
        self.start_at = start_at;
        self
    }

    /// Sets on which nodes the process receives the events of replicated streams; [`DeliveryScope::Origin`] by default.
    ///
    /// An instance runs on the node on which the event that starts it originated. It receives the events that continue
    /// or stop it from all nodes, when they arrive. A node ignores events of other nodes for instances that it does not
    /// have. An event that originated on this node and continues an instance of another node does not fit here:
    /// [`Process::on_mismatch`] decides whether it is parked or skipped. With [`DeliveryScope::EveryNode`] each node
    /// has its own instances.
    #[must_use]
    pub const fn scope(mut self, scope: DeliveryScope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets the longest time after which timers and requests of operators are found that another program has written;
    /// 1 s by default.
    #[must_use]
    pub const fn poll(mut self, time: Duration) -> Self {
        self.poll = if time.is_zero() { Duration::from_millis(1) } else { time };
        self
    }

    /// Sets the length of the lease, after which another program takes over from one that has died; 30 s by default. A
    /// store that is open in one process only does not wait for it.
    #[must_use]
    pub const fn lease(mut self, time: Duration) -> Self {
        self.lease = time;
        self
    }

    /// Returns the admin interface, which uses the clock of this process.
    #[must_use]
    pub fn admin(&self) -> ProcessAdmin {
        let Planner { store, clock, entropy } = &self.engine.planner;
        ProcessAdmin::new(Arc::clone(store)).with_clock(Arc::clone(clock)).with_entropy(Arc::clone(entropy))
    }

    /// Returns the id of the instance with this state.
    ///
    /// # Errors
    /// [`ParseProcessIdError`] if the text of the id is empty.
    pub fn id(&self, instance: &InstanceId<P>) -> Result<ProcessId, ParseProcessIdError> {
        ProcessId::new(ProcessEngine::<P>::name(), instance)
    }

    /// Sends a signal to a running instance. It reacts before this returns. A signal with an id that it has handled has
    /// no effect.
    ///
    /// # Errors
    /// - [`SignalError::NotRunning`] if the instance was never started or has ended.
    /// - [`SignalError::IdReused`] if the id belongs to another signal.
    /// - [`SignalError::Quarantined`] if the instance is quarantined.
    /// - [`SignalError::Refused`] if the process refuses the signal.
    /// - The other variants if the signal cannot be stored, or the instance cannot be read or committed.
    pub async fn signal(
        &self,
        instance: &InstanceId<P>,
        signal_id: &str,
        signal: &P::Signal,
    ) -> Result<SignalOutcome, SignalError> {
        let content = serde_json::to_value(signal)?;
        let input = ProcessInput::Signal { id: signal_id, content: &content };
        self.handle(instance, &input, signal_id).await
    }

    /// Completes a wait from outside. The instance reacts before this returns. To complete a wait that is closed has no
    /// effect.
    ///
    /// # Errors
    /// - [`SignalError::Id`] if the token belongs to another process.
    /// - [`SignalError::UnknownToken`] if the wait was never opened.
    /// - Otherwise as for [`signal`](Self::signal).
    pub async fn complete(&self, token: &CompletionToken, value: &Value) -> Result<SignalOutcome, SignalError> {
        if token.process().process() != ProcessEngine::<P>::name() {
            let expected = "a token of this process";
            return Err(ParseProcessIdError { expected, text: token.to_string() }.into());
        }
        let instance = <P::State as Aggregate>::parse_id(token.process().instance())?;
        self.handle(&instance, &ProcessInput::Completion { token, value }, &token.to_string()).await
    }

    async fn handle(
        &self,
        instance: &InstanceId<P>,
        input: &ProcessInput<'_, P>,
        id: &str,
    ) -> Result<SignalOutcome, SignalError> {
        let process = || instance.to_string();
        match self.engine.handle(instance, input, &Commit::new()).await {
            Ok(()) => {
                self.engine.changed.notify_one();
                Ok(SignalOutcome::Handled)
            }
            Err(HandleError::NoReaction(NoReaction::Repeated)) => Ok(SignalOutcome::Repeated),
            Err(HandleError::NoReaction(NoReaction::NotRunning(phase))) => {
                Err(SignalError::NotRunning { process: process(), phase: phase.name() })
            }
            Err(HandleError::NoReaction(NoReaction::SignalIdReused)) => {
                Err(SignalError::IdReused { process: process(), id: id.to_owned() })
            }
            Err(HandleError::NoReaction(NoReaction::UnknownToken)) => {
                Err(SignalError::UnknownToken { token: id.to_owned() })
            }
            Err(HandleError::NoReaction(NoReaction::Failed(source))) => {
                Err(SignalError::Refused { process: process(), source })
            }
            // Only events have these outcomes.
            Err(HandleError::NoReaction(other @ (NoReaction::Mismatch(_) | NoReaction::HasPending))) => {
                Err(SignalError::Failed { process: process(), reason: format!("{other:?}") })
            }
            Err(HandleError::Quarantined(reason)) => Err(SignalError::Quarantined { process: process(), reason }),
            Err(HandleError::Refused(reason) | HandleError::Locked(reason)) => {
                Err(SignalError::Failed { process: process(), reason })
            }
            // A signal has no conditions of a runner.
            Err(HandleError::Fenced) => {
                Err(SignalError::Failed { process: process(), reason: "its rows changed".to_owned() })
            }
            Err(HandleError::Store(error)) => Err(SignalError::Store(error)),
        }
    }

    /// Returns the state and the journal of an instance. An instance that was never started is
    /// [`ProcessPhase::Missing`](crate::process::ProcessPhase::Missing).
    ///
    /// # Errors
    /// [`LoadError`] if the instance cannot be read.
    pub async fn query(&self, instance: &InstanceId<P>) -> Result<ProcessView<P::State>, LoadError> {
        let id = self.id(instance).map_err(|_| es_core::model::NameError::Empty { kind: "process id" })?;
        let journal = self.engine.journals.load(&id).await?.state;
        let state = self.engine.states.load(instance).await?.state;
        Ok(ProcessView { state, journal })
    }

    /// Starts the consumption of events and the timers.
    ///
    /// # Errors
    /// - [`ProcessStartError::NoRuntime`] if the caller is outside of a tokio runtime.
    /// - [`ProcessStartError::AheadOfLog`] if the position after which the process starts is ahead of the log.
    /// - [`ProcessStartError::Store`] if the store failed.
    pub async fn start(&self) -> Result<RunningProcess, ProcessStartError> {
        let runtime = Handle::try_current().map_err(|_| ProcessStartError::NoRuntime)?;
        self.engine.create_cursor(self.first_position().await?).await?;
        let owner = owner_id(&*self.engine.planner.entropy);
        let (stop, progress) = (watch::Sender::new(false), watch::Sender::new(ProcessProgress::default()));
        let observed = progress.subscribe();
        let runner = Runner {
            engine: Arc::clone(&self.engine),
            terms: LeaseTerms { owner, duration: self.lease },
            poll: self.poll,
            scope: self.scope,
            stop: stop.subscribe(),
            progress,
        };
        let mut task = JoinSet::new();
        task.spawn_on(runner.run(), &runtime);
        let (name, store) = (ProcessEngine::<P>::name(), Arc::clone(self.engine.store()));
        Ok(RunningProcess { name, store, stop, progress: observed, task })
    }
}

/// A running process. Dropping it ends its task like a crash: the next start continues after the last commit.
#[derive(Debug)]
pub struct RunningProcess {
    name: &'static str,
    store: Arc<dyn EventStore>,
    stop: watch::Sender<bool>,
    progress: watch::Receiver<ProcessProgress>,
    task: JoinSet<()>,
}

impl RunningProcess {
    /// Returns the name of the process.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the position up to which all events are handled: their instances reacted, or they are pending, parked or
    /// skipped.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        Position::new(self.progress.borrow().position)
    }

    /// Returns whether this program consumes the events. Another program does if it was started first.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.progress.borrow().is_active
    }

    /// Waits until all events up to a position are handled. Returns immediately for `None`.
    ///
    /// # Errors
    /// [`WaitError::AheadOfLog`] at once if the log has not reached the position, [`WaitError::Timeout`] after
    /// `timeout`, [`WaitError::Stopped`] if the process stopped first.
    pub async fn wait_for(&self, position: impl Into<Option<Position>>, timeout: Duration) -> Result<(), WaitError> {
        let Some(position) = position.into() else { return Ok(()) };
        self.store.watch_head().check(Some(position))?;
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|progress| progress.position >= position.get());
        let is_stopped = match tokio::time::timeout(timeout, reached).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => true,
            Err(_) => false,
        };
        let (name, reached) = (self.name.to_owned(), self.position());
        if is_stopped {
            return Err(WaitError::Stopped { name, position, reached, reason: None });
        }
        let state = if self.is_active() { "running" } else { "standby" }.to_owned();
        Err(WaitError::Timeout { name, position, reached, state, timeout })
    }

    /// Stops the process after the reaction in progress, and releases its lease. Returns `false` if it did not stop
    /// before `deadline` and was aborted.
    pub async fn shutdown(mut self, deadline: Duration) -> bool {
        self.stop.send_replace(true);
        let ended = async { while self.task.join_next().await.is_some() {} };
        tokio::time::timeout(deadline, ended).await.is_ok()
    }
}
