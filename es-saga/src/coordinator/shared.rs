//! What all tasks of a coordinator share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use es_core::aggregate::Aggregate;
use es_core::model::{Clock, Entropy};
use es_core::{EventStore, Repository, StreamId};
use tokio::sync::{Notify, Semaphore, broadcast, watch};

use crate::coordinator::metrics::SagaMetrics;
use crate::coordinator::wake::{SLOTS, Slot};
use crate::graph::{Definition, StepInstance};
use crate::hooks::{Hook, HookAction, HookPoint};
use crate::id::SagaId;
use crate::instance::SagaInstance;

/// Whether the coordinator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunState {
    Running,
    /// No new call starts; calls in progress are finished and recorded.
    Stopping,
    /// A test hook has simulated a crash.
    Crashed,
}

/// A registered step, and the limit of its concurrent calls.
pub(super) struct RegisteredStep {
    pub(super) instance: StepInstance,
    pub(super) permits: Option<Arc<Semaphore>>,
}

/// The sagas of a slot that were created or changed in this process since the task of the slot last took them.
#[derive(Default)]
pub(super) struct Changes {
    streams: Mutex<BTreeSet<StreamId>>,
    added: Notify,
}

/// The largest number of [`Changes`] of a slot. If there are that many, others may be missing.
pub(super) const MAX_CHANGES: usize = 512;

impl Changes {
    fn add(&self, stream: StreamId) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() < MAX_CHANGES {
            streams.insert(stream);
        }
        drop(streams);
        self.added.notify_one();
    }

    /// Waits for changes and takes them. Nothing is taken if the future is dropped.
    pub(super) async fn take(&self) -> BTreeSet<StreamId> {
        self.added.notified().await;
        std::mem::take(&mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) struct Shared {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) repository: Repository<SagaInstance>,
    pub(super) definitions: BTreeMap<String, Arc<Definition>>,
    pub(super) steps: BTreeMap<&'static str, RegisteredStep>,
    pub(super) metrics: BTreeMap<String, SagaMetrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) hook: Option<Arc<Hook>>,
    /// The limit of sagas that run at the same time.
    pub(super) sagas: Arc<Semaphore>,
    /// The longest time between two looks at the timers.
    pub(super) poll: Duration,
    /// The sagas of each slot that were created or changed in this process.
    pub(super) changes: [Changes; SLOTS as usize],
    /// Sends the stream of each saga that stopped running.
    pub(super) stopped_sagas: broadcast::Sender<StreamId>,
    pub(super) run_state: watch::Sender<RunState>,
}

impl Shared {
    /// Returns what a test does at this point. After a simulated crash, the tasks of the coordinator do nothing more.
    pub(super) fn hook(&self, point: HookPoint<'_>) -> HookAction {
        let Some(hook) = &self.hook else { return HookAction::Continue };
        let action = if self.is_crashed() { HookAction::Crash } else { hook(point) };
        if action == HookAction::Crash {
            self.run_state.send_replace(RunState::Crashed);
        }
        action
    }

    /// Schedules a saga that was created or changed in this process.
    pub(super) fn notify(&self, saga: &SagaId) {
        if let Ok(stream) = SagaInstance::stream(saga) {
            self.changes[Slot::of(&stream).index()].add(stream);
        }
    }

    pub(super) fn is_crashed(&self) -> bool {
        *self.run_state.borrow() == RunState::Crashed
    }

    pub(super) fn is_running(&self) -> bool {
        *self.run_state.borrow() == RunState::Running
    }

    /// Waits until the coordinator is in another state than running.
    pub(super) async fn not_running(&self) -> RunState {
        let mut state = self.run_state.subscribe();
        let changed = state.wait_for(|state| *state != RunState::Running).await.map(|state| *state);
        changed.unwrap_or(RunState::Crashed)
    }
}
