//! [`SagaInstance`]: the state of a saga instance, folded from its events.

use std::sync::Arc;
use std::time::Duration;

use es_core::model::Metadata;
use es_core::{Aggregate, Timestamp};
use serde_json::Value;

use crate::failure::Exhausted;
use crate::id::{Direction, SagaId};
use crate::instance::event::{SagaEvent, Unit};
use crate::shape::{Effect, Fingerprint, Repeat, SagaShape, Undo};

/// The phase of a saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It was never created.
    Missing,
    /// It goes forward.
    Running,
    /// It undoes its steps.
    Compensating,
    /// It waits for a person; it was going in this direction.
    Stuck(Direction),
    /// All steps are done.
    Completed,
    /// All effects are undone.
    Compensated,
    /// It was ended without compensation.
    Killed,
    /// It was given up while it could not go on.
    Abandoned,
}

impl Phase {
    /// Returns `true` if the saga has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated | Self::Killed | Self::Abandoned)
    }

    /// Returns the name that lists and metrics show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Stuck(_) => "stuck",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Killed => "killed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The status of one execution of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnitStatus {
    /// It was not started.
    #[default]
    Pending,
    /// It was called, and the outcome is not recorded.
    Running,
    /// It failed and is tried again at this time.
    Waiting(Timestamp),
    /// Its child saga was created and has not ended.
    AwaitingChild,
    /// It is a delay that ends at this time.
    Delayed(Timestamp),
    /// It has had its effect.
    Succeeded,
    /// It failed without an effect.
    Failed,
    /// It failed and may have had its effect, so it must be undone.
    Owed,
    /// An operator took it for done.
    Skipped,
    /// Its compensation was called, and the outcome is not recorded.
    Undoing,
    /// Its compensation failed and is tried again at this time.
    UndoWaiting(Timestamp),
    /// Its compensation failed for the last time.
    UndoFailed,
    /// It is undone.
    Undone,
}

impl UnitStatus {
    /// Returns the name that lists show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting(_) => "waiting",
            Self::AwaitingChild => "awaiting-child",
            Self::Delayed(_) => "delayed",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Owed => "owed",
            Self::Skipped => "skipped",
            Self::Undoing => "undoing",
            Self::UndoWaiting(_) => "undo-waiting",
            Self::UndoFailed => "undo-failed",
            Self::Undone => "undone",
        }
    }
}

/// The state of one execution of a step.
#[derive(Debug, Clone, Default)]
pub struct UnitState {
    /// The status.
    pub status: UnitStatus,
    /// The number of attempts to execute it in the current run.
    pub attempts: u32,
    /// The number of attempts to undo it.
    pub undo_attempts: u32,
    /// Whether an attempt may have had an effect that is not recorded.
    pub is_ambiguous: bool,
    /// The output, if it is known.
    pub output: Option<Value>,
    /// The compensation of an external step that was started.
    pub compensation: Option<Value>,
    /// The last error, or the reason why its child saga is stuck.
    pub error: Option<String>,
    /// Its child saga, if it was created.
    pub child: Option<SagaId>,
    /// When its first attempt started; for a local step, when the first attempt ended.
    pub started_at: Option<Timestamp>,
    /// When it was last changed.
    pub changed_at: Option<Timestamp>,
    /// When it succeeded, failed for the last time, or was skipped.
    pub(crate) ended_at: Option<Timestamp>,
    /// When it was undone.
    pub(crate) undone_at: Option<Timestamp>,
    /// The digest of the input of the first attempt.
    pub(crate) input: Option<String>,
    /// When the first attempt to undo it started.
    pub(crate) undo_started_at: Option<Timestamp>,
    pub(crate) then: Exhausted,
}

impl UnitState {
    /// Returns whether later steps can start.
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.status, UnitStatus::Succeeded | UnitStatus::Skipped)
    }

    /// Returns whether the last attempt failed.
    pub(crate) const fn is_failed(&self) -> bool {
        matches!(self.status, UnitStatus::Failed | UnitStatus::Owed)
    }

    /// Returns whether it has no effect and no call in progress.
    pub(crate) const fn is_clear(&self) -> bool {
        use UnitStatus::{Failed, Pending, Skipped, Undone};
        matches!(self.status, Pending | Failed | Skipped | Undone)
    }

    /// Returns whether the last attempt to undo it failed.
    pub(crate) const fn is_undo_failing(&self) -> bool {
        matches!(self.status, UnitStatus::UndoFailed | UnitStatus::UndoWaiting(_))
    }

    /// Ends a delay of a saga that turns back. The delay starts again if the saga is restarted.
    pub(super) fn undo_delay(&mut self, at: Timestamp) {
        self.ended_at.get_or_insert(at);
        (self.status, self.undone_at) = (UnitStatus::Undone, Some(at));
    }

    pub(super) fn end_forward(&mut self, at: Timestamp) {
        self.ended_at = Some(at);
        self.status = if self.is_ambiguous { UnitStatus::Owed } else { UnitStatus::Failed };
    }
}

/// The state of a node.
#[derive(Debug, Clone, Default)]
pub struct NodeState {
    /// Its executions: one, or one for each item of its list.
    pub units: Vec<UnitState>,
    /// Whether the condition of the node did not hold.
    pub is_omitted: bool,
    /// Whether the length of the list is not known yet.
    pub is_unlisted: bool,
    /// How often an operator had the node executed again.
    pub run: u32,
}

impl NodeState {
    pub(super) fn new(repeat: Repeat) -> Self {
        let is_unlisted = repeat == Repeat::Each;
        let units = if is_unlisted { Vec::new() } else { vec![UnitState::default()] };
        Self { units, is_unlisted, ..Self::default() }
    }

    /// Returns whether later steps can start.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_omitted || (!self.is_unlisted && self.units.iter().all(UnitState::is_done))
    }

    /// Returns whether the node was started.
    pub(crate) fn is_started(&self) -> bool {
        self.units.iter().any(|unit| unit.status != UnitStatus::Pending)
    }
}

/// The state of a saga instance.
///
/// It is an aggregate in the streams `saga-{name}:{instance}`, so projections and repositories can read it. Only the
/// coordinator and its operators write to these streams.
#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "saga", id = SagaId, event = SagaEvent)]
pub struct SagaInstance {
    pub(crate) id: SagaId,
    pub(crate) phase: Phase,
    pub(crate) shape: Arc<SagaShape>,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) input: Arc<Value>,
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) parent: Option<SagaId>,
    pub(crate) is_paused: bool,
    pub(crate) reason: Option<String>,
    /// The metadata with which it was created.
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) changed_at: Option<Timestamp>,
    /// The reason why the events cannot be those of a saga, if there is one.
    pub(crate) defect: Option<String>,
}

impl SagaInstance {
    /// Returns the id.
    #[must_use]
    pub const fn id(&self) -> &SagaId {
        &self.id
    }

    /// Returns the phase.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns the graph with which the instance was created.
    #[must_use]
    pub fn shape(&self) -> &SagaShape {
        &self.shape
    }

    /// Returns the fingerprint of the graph, or `None` if the instance does not exist.
    #[must_use]
    pub const fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// Returns the states of the nodes, in the order of the graph.
    #[must_use]
    pub fn nodes(&self) -> &[NodeState] {
        &self.nodes
    }

    /// Returns whether an operator has paused it.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Returns the reason of the last change of its phase, if it has one.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns the time at which it is compensated unless it is finished or past its pivot.
    #[must_use]
    pub const fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Returns the saga of which this one is a step.
    #[must_use]
    pub const fn parent(&self) -> Option<&SagaId> {
        self.parent.as_ref()
    }

    /// Returns the metadata with which it was created, such as the trace context. All of its events have it.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns when it was created.
    #[must_use]
    pub const fn created_at(&self) -> Option<Timestamp> {
        self.created_at
    }

    /// Returns when it last changed.
    #[must_use]
    pub const fn changed_at(&self) -> Option<Timestamp> {
        self.changed_at
    }

    /// Returns the reason why the events cannot be those of a saga, or `None`.
    #[must_use]
    pub fn defect(&self) -> Option<&str> {
        self.defect.as_deref()
    }

    /// Returns whether the saga is past its pivot, so that it can only go forward.
    #[must_use]
    pub fn is_past_pivot(&self) -> bool {
        let Some(pivot) = self.shape.pivot else { return false };
        let step = pivot.step.and_then(|step| self.nodes.get(step as usize));
        step.is_some_and(NodeState::is_done)
            || self.nodes.iter().skip(pivot.next as usize).any(|node| node.is_omitted || node.is_started())
    }

    pub(crate) fn unit(&self, unit: Unit) -> Option<&UnitState> {
        self.nodes.get(unit.node as usize)?.units.get(unit.item as usize)
    }

    pub(crate) fn node_name(&self, node: u32) -> &str {
        self.shape.nodes.get(node as usize).map_or("", |node| node.name.as_str())
    }

    pub(crate) fn is_child(&self, node: u32) -> bool {
        self.shape.nodes.get(node as usize).is_some_and(|node| node.effect == Effect::Child)
    }

    /// Returns the time for which a node waits, or `None` if it is not a delay.
    pub(crate) fn delay_of(&self, node: u32) -> Option<Duration> {
        match self.shape.nodes.get(node as usize)?.effect {
            Effect::Delay { milliseconds } => Some(Duration::from_millis(milliseconds)),
            Effect::External | Effect::Local | Effect::Child => None,
        }
    }

    /// Returns the steps that wait for the end of their child sagas.
    pub(crate) fn awaited_children(&self) -> impl Iterator<Item = (Unit, &SagaId)> {
        self.units().filter_map(|(unit, state)| match state.status {
            UnitStatus::AwaitingChild | UnitStatus::Undoing => Some((unit, state.child.as_ref()?)),
            _ => None,
        })
    }

    pub(crate) fn undo_of(&self, node: u32) -> Undo {
        self.shape.nodes.get(node as usize).map_or(Undo::Compensate, |node| node.undo)
    }

    /// Returns the units with their states, in the order of the graph.
    pub(crate) fn units(&self) -> impl Iterator<Item = (Unit, &UnitState)> {
        (0..)
            .zip(&self.nodes)
            .flat_map(|(node, state)| (0..).zip(&state.units).map(move |(item, unit)| (Unit { node, item }, unit)))
    }
}
