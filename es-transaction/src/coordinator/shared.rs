//! What all tasks of a coordinator share.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use es_core::__private::event_id_at;
use es_core::EventStore;
use es_core::consumer::lease::HeldLease;
use es_core::model::{Clock, CoordinatorEpoch, Entropy, TransactionId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::any::AnyParticipant;
use crate::coordinator::metrics::CoordinatorMetrics;
use crate::hooks::{Hook, HookAction, HookPlace, HookPoint};
use crate::machine::{CoordinatorInput, CoordinatorState};
use crate::participant::Finished;

/// The number of inputs of operators that a task has not taken yet.
const OPERATOR_INPUTS: usize = 16;

/// The transactions of this process.
#[derive(Default)]
struct ActiveTransactions {
    /// Those that a task drives, and how an operator reaches each.
    driven: BTreeMap<TransactionId, mpsc::Sender<OperatorInput>>,
    /// Those whose task has ended since the search that runs had started; `None` while none runs.
    ended: Option<BTreeSet<TransactionId>>,
}

/// The input of an operator.
#[derive(Debug, Clone)]
pub(super) enum OperatorInput {
    /// The operator answers for a participant.
    Finished {
        /// The name: the index of a participant differs between the states of a transaction.
        participant: String,
        finished: Finished,
    },
    /// The operator accepts the damage.
    Forget,
}

impl OperatorInput {
    /// Returns the input for a state of the transaction; `None` if the state does not have the participant.
    pub(super) fn for_state(self, state: &CoordinatorState) -> Option<CoordinatorInput> {
        match self {
            Self::Finished { participant, finished } => {
                let from = state.participants().position(|name| name == participant)?;
                Some(CoordinatorInput::Finished { from, finished })
            }
            Self::Forget => Some(CoordinatorInput::Forget),
        }
    }
}

/// Whether the coordinator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunState {
    Running,
    /// No transaction begins; those that have begun continue.
    Stopping,
    /// Another process has taken over.
    Fenced,
    /// The store failed while a record was written, which may be durable. Only a later epoch may presume an outcome.
    StoreFailed,
    /// A test hook has simulated a crash.
    Crashed,
}

/// The times of a coordinator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// The time of one call of a participant, except prepare.
    pub(super) call: Duration,
    /// The first and the longest pause before a call is repeated.
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    /// The time between two searches for transactions in doubt.
    pub(super) search: Duration,
    /// The time of a transaction, unless it says otherwise.
    pub(super) transaction: Duration,
}

/// A registered participant.
#[derive(Clone)]
pub(super) struct Registered {
    pub(super) name: Arc<str>,
    pub(super) participant: Arc<dyn AnyParticipant>,
}

pub(super) struct Shared {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) epoch: CoordinatorEpoch,
    pub(super) lease: HeldLease,
    pub(super) participants: BTreeMap<Arc<str>, Registered>,
    pub(super) times: Times,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) hook: Option<Arc<Hook>>,
    pub(super) metrics: CoordinatorMetrics,
    active: Mutex<ActiveTransactions>,
    tasks: Mutex<JoinSet<()>>,
    pub(super) run_state: watch::Sender<RunState>,
}

/// The parts of [`Shared`] that do not change.
pub(super) struct SharedParts {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) epoch: CoordinatorEpoch,
    pub(super) lease: HeldLease,
    pub(super) participants: BTreeMap<Arc<str>, Registered>,
    pub(super) times: Times,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) hook: Option<Arc<Hook>>,
}

/// A transaction that counts as active until this is dropped.
pub(super) struct ActiveGuard {
    shared: Arc<Shared>,
    transaction: TransactionId,
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.shared.active_map(|active| {
            active.driven.remove(&self.transaction);
            active.ended.iter_mut().for_each(|ended| _ = ended.insert(self.transaction.clone()));
        });
        self.shared.metrics.active.decrement(1.0);
    }
}

impl Shared {
    pub(super) fn new(parts: SharedParts) -> Self {
        let SharedParts { store, epoch, lease, participants, times, clock, entropy, hook } = parts;
        let metrics = CoordinatorMetrics::new(epoch.coordinator());
        let (active, tasks) = (Mutex::default(), Mutex::default());
        let run_state = watch::Sender::new(RunState::Running);
        Self { store, epoch, lease, participants, times, clock, entropy, hook, metrics, active, tasks, run_state }
    }

    fn active_map<T>(&self, use_map: impl FnOnce(&mut ActiveTransactions) -> T) -> T {
        use_map(&mut self.active.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Marks a transaction as active. Returns `None` if a task drives it already, or the coordinator does not run.
    pub(super) fn activate(
        self: &Arc<Self>,
        transaction: &TransactionId,
    ) -> Option<(ActiveGuard, mpsc::Receiver<OperatorInput>)> {
        // ORDER: the state is read under the mutex, so that a shutdown waits for each transaction that this accepts.
        self.active_map(|active| match active.driven.entry(transaction.clone()) {
            _ if self.state() != RunState::Running => None,
            Entry::Occupied(_) => None,
            Entry::Vacant(vacant) => {
                let (sender, receiver) = mpsc::channel(OPERATOR_INPUTS);
                vacant.insert(sender);
                self.metrics.active.increment(1.0);
                Some((ActiveGuard { shared: Arc::clone(self), transaction: transaction.clone() }, receiver))
            }
        })
    }

    /// Starts a search. Returns the transactions that a task drives now.
    pub(super) fn start_search(&self) -> BTreeSet<TransactionId> {
        self.active_map(|active| {
            active.ended = Some(BTreeSet::new());
            active.driven.keys().cloned().collect()
        })
    }

    /// Returns whether the task of a transaction has ended since the search started.
    pub(super) fn ended_during_search(&self, transaction: &TransactionId) -> bool {
        self.active_map(|active| active.ended.as_ref().is_some_and(|ended| ended.contains(transaction)))
    }

    /// Returns whether no task drives a transaction.
    pub(super) fn is_idle(&self) -> bool {
        self.active_map(|active| active.driven.is_empty())
    }

    pub(super) fn end_search(&self) {
        self.active_map(|active| active.ended = None);
    }

    /// Returns how an operator reaches the task of a transaction.
    pub(super) fn task_of(&self, transaction: &TransactionId) -> Option<mpsc::Sender<OperatorInput>> {
        self.active_map(|active| active.driven.get(transaction).cloned())
    }

    /// Starts a task, which ends with the coordinator.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Takes all tasks, so that they can be awaited or aborted.
    pub(super) fn take_tasks(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns a new UUIDv7.
    pub(super) fn new_id(&self) -> Uuid {
        *event_id_at(self.clock.now(), &*self.entropy).as_uuid()
    }

    /// Returns what a test does at this point. After a simulated crash, the tasks of the coordinator do nothing more.
    pub(super) fn hook(&self, transaction: &TransactionId, place: HookPlace<'_>) -> HookAction {
        let Some(hook) = &self.hook else { return HookAction::Continue };
        let is_crashed = self.state() == RunState::Crashed;
        let action = if is_crashed { HookAction::Crash } else { hook(HookPoint { transaction, place }) };
        if action == HookAction::Crash {
            self.run_state.send_replace(RunState::Crashed);
        }
        action
    }

    pub(super) fn state(&self) -> RunState {
        *self.run_state.borrow()
    }

    /// Enters a state, unless the coordinator has stopped in another way.
    pub(super) fn enter(&self, state: RunState) {
        self.run_state.send_if_modified(|current| {
            let is_changed = matches!(*current, RunState::Running | RunState::Stopping) && *current != state;
            if is_changed {
                *current = state;
            }
            is_changed
        });
    }

    /// Waits until another process has taken over, the store has failed, or a crash is simulated.
    pub(super) async fn ended(&self) {
        let is_ended = |state: &RunState| matches!(state, RunState::Fenced | RunState::StoreFailed | RunState::Crashed);
        // The sender is a field, so that the channel is open.
        let _ = self.run_state.subscribe().wait_for(is_ended).await;
    }
}
