//! [`SagaInstance`]: the state of a saga instance, folded from its events.

use std::sync::Arc;

use es_core::{Aggregate, EventContext, Evolve, Timestamp};
use serde_json::Value;

use crate::failure::{ErrorClass, Exhausted};
use crate::id::{Direction, SagaId};
use crate::instance::event::{SagaEvent, Unit};
use crate::shape::{Fingerprint, Repeat, SagaShape, Undo};

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
    /// The last error.
    pub error: Option<String>,
    /// When its first attempt started; for a local step, when the first attempt ended.
    pub started_at: Option<Timestamp>,
    /// When it was last changed.
    pub changed_at: Option<Timestamp>,
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

    fn end_forward(&mut self) {
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
    fn new(repeat: Repeat) -> Self {
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
    pub(crate) is_paused: bool,
    pub(crate) reason: Option<String>,
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

    pub(crate) fn undo_of(&self, node: u32) -> Undo {
        self.shape.nodes.get(node as usize).map_or(Undo::Compensate, |node| node.undo)
    }

    /// Returns the units with their states, in the order of the graph.
    pub(crate) fn units(&self) -> impl Iterator<Item = (Unit, &UnitState)> {
        (0..)
            .zip(&self.nodes)
            .flat_map(|(node, state)| (0..).zip(&state.units).map(move |(item, unit)| (Unit { node, item }, unit)))
    }

    /// Applies an event that happened at this time.
    pub(crate) fn evolve_at(&mut self, event: &SagaEvent, at: Timestamp) {
        self.changed_at = Some(at);
        if let Some((unit, change)) = unit_of(event) {
            let state = self.nodes.get_mut(unit.node as usize).and_then(|node| node.units.get_mut(unit.item as usize));
            match state {
                Some(state) => {
                    state.changed_at = Some(at);
                    state.evolve(change, at);
                }
                None => self.refuse(format!("no item {} of node {}", unit.item, unit.node)),
            }
        }
        self.evolve_phase(event, at);
    }

    fn refuse(&mut self, defect: String) {
        self.defect.get_or_insert(defect);
    }

    fn evolve_phase(&mut self, event: &SagaEvent, at: Timestamp) {
        if self.phase == Phase::Missing && !matches!(event, SagaEvent::Created { .. }) {
            self.refuse("the first event is not `saga-created`".to_owned());
        }
        match event {
            SagaEvent::Created { shape, fingerprint, input, deadline } => {
                if self.phase != Phase::Missing {
                    self.refuse("it was created twice".to_owned());
                }
                if let Some(defect) = shape.defect() {
                    self.refuse(defect);
                }
                self.phase = Phase::Running;
                self.nodes = shape.nodes.iter().map(|node| NodeState::new(node.repeat)).collect();
                self.shape = Arc::new(shape.clone());
                self.fingerprint = Some(*fingerprint);
                self.input = Arc::new(input.clone());
                self.deadline = *deadline;
                self.created_at = Some(at);
            }
            SagaEvent::ItemsListed { node, count } => match self.nodes.get_mut(*node as usize) {
                Some(node) => {
                    node.is_unlisted = false;
                    node.units = vec![UnitState::default(); *count as usize];
                }
                None => self.refuse(format!("no node {node}")),
            },
            SagaEvent::StepOmitted { node } => match self.nodes.get_mut(*node as usize) {
                Some(node) => node.is_omitted = true,
                None => self.refuse(format!("no node {node}")),
            },
            SagaEvent::Compensating { reason } => self.turn_back(reason),
            SagaEvent::Cancelled(note) => self.turn_back(&format!("cancelled by {}: {}", note.by, note.reason)),
            SagaEvent::Stuck { unit, direction, reason } => {
                self.phase = Phase::Stuck(*direction);
                self.reason = Some(format!("{}: {reason}", self.node_name(unit.node)));
            }
            SagaEvent::Completed => self.phase = Phase::Completed,
            SagaEvent::Compensated => self.phase = Phase::Compensated,
            SagaEvent::Paused(note) => {
                self.is_paused = true;
                self.reason = Some(format!("paused by {}: {}", note.by, note.reason));
            }
            SagaEvent::Resumed(_) => self.is_paused = false,
            SagaEvent::StepRetried { .. } | SagaEvent::StepSkipped { .. } => self.leave_stuck(),
            SagaEvent::Killed(note) => self.end(Phase::Killed, "killed", &note.by, &note.reason),
            SagaEvent::Abandoned(note) => self.end(Phase::Abandoned, "abandoned", &note.by, &note.reason),
            SagaEvent::Restarted { nodes, note } => {
                for node in nodes {
                    self.restart_node(*node);
                }
                (self.phase, self.deadline) = (Phase::Running, None);
                self.reason = Some(format!("restarted by {}: {}", note.by, note.reason));
            }
            _ => {}
        }
    }

    fn turn_back(&mut self, reason: &str) {
        self.phase = Phase::Compensating;
        self.reason = Some(reason.to_owned());
        let waiting = |unit: &&mut UnitState| matches!(unit.status, UnitStatus::Waiting(_));
        self.nodes.iter_mut().flat_map(|node| &mut node.units).filter(waiting).for_each(UnitState::end_forward);
    }

    fn leave_stuck(&mut self) {
        match self.phase {
            Phase::Stuck(Direction::Forward) => self.phase = Phase::Running,
            Phase::Stuck(Direction::Backward) => self.phase = Phase::Compensating,
            _ => {}
        }
    }

    fn end(&mut self, phase: Phase, verb: &str, by: &str, reason: &str) {
        self.phase = phase;
        self.reason = Some(format!("{verb} by {by}: {reason}"));
    }

    fn restart_node(&mut self, node: u32) {
        let repeat = self.shape.nodes.get(node as usize).map_or(Repeat::Once, |node| node.repeat);
        if let Some(state) = self.nodes.get_mut(node as usize) {
            *state = NodeState { run: state.run + 1, ..NodeState::new(repeat) };
        }
    }
}

impl UnitState {
    fn evolve(&mut self, event: &SagaEvent, at: Timestamp) {
        match event {
            SagaEvent::StepStarted { attempt, compensation, input, .. } => {
                // An attempt without an outcome was interrupted, and may have had its effect.
                self.is_ambiguous |= self.status == UnitStatus::Running;
                self.status = UnitStatus::Running;
                self.attempts = *attempt;
                self.started_at.get_or_insert(at);
                self.input.get_or_insert_with(|| input.clone());
                if let Some(compensation) = compensation {
                    self.compensation = Some(compensation.value.clone());
                }
            }
            SagaEvent::StepSucceeded { output, .. } => {
                self.status = UnitStatus::Succeeded;
                self.started_at.get_or_insert(at);
                self.output = Some(output.clone());
            }
            SagaEvent::StepFailed { attempt, class, message, retry_at, then, .. } => {
                self.is_ambiguous |= *class == ErrorClass::Ambiguous;
                self.started_at.get_or_insert(at);
                (self.attempts, self.then, self.error) = (*attempt, *then, Some(message.clone()));
                match retry_at {
                    Some(at) => self.status = UnitStatus::Waiting(*at),
                    None => self.end_forward(),
                }
            }
            SagaEvent::UndoStarted { attempt, .. } => {
                self.status = UnitStatus::Undoing;
                self.undo_attempts = *attempt;
                self.undo_started_at.get_or_insert(at);
            }
            SagaEvent::UndoSucceeded { .. } => self.status = UnitStatus::Undone,
            SagaEvent::UndoFailed { attempt, message, retry_at, .. } => {
                self.undo_started_at.get_or_insert(at);
                (self.undo_attempts, self.error) = (*attempt, Some(message.clone()));
                self.status = retry_at.map_or(UnitStatus::UndoFailed, UnitStatus::UndoWaiting);
            }
            SagaEvent::StepRetried { .. } if self.is_undo_failing() => {
                (self.status, self.undo_attempts, self.undo_started_at) = (UnitStatus::UndoWaiting(at), 0, None);
            }
            SagaEvent::StepRetried { .. } => {
                (self.status, self.attempts, self.started_at) = (UnitStatus::Waiting(at), 0, None);
            }
            SagaEvent::StepSkipped { .. } if self.is_undo_failing() => self.status = UnitStatus::Undone,
            SagaEvent::StepSkipped { output, .. } => {
                self.status = UnitStatus::Skipped;
                self.output = output.as_ref().map(|output| output.value.clone());
            }
            // A step that cannot be undone stops the saga without an attempt.
            SagaEvent::Stuck { direction: Direction::Backward, reason, .. } => {
                (self.status, self.error) = (UnitStatus::UndoFailed, Some(reason.clone()));
            }
            _ => {}
        }
    }
}

/// Returns the unit that an event changes.
fn unit_of(event: &SagaEvent) -> Option<(Unit, &SagaEvent)> {
    match event {
        SagaEvent::StepStarted { unit, .. }
        | SagaEvent::StepSucceeded { unit, .. }
        | SagaEvent::StepFailed { unit, .. }
        | SagaEvent::UndoStarted { unit, .. }
        | SagaEvent::UndoSucceeded { unit }
        | SagaEvent::UndoFailed { unit, .. }
        | SagaEvent::Stuck { unit, .. }
        | SagaEvent::StepRetried { unit, .. }
        | SagaEvent::StepSkipped { unit, .. } => Some((*unit, event)),
        _ => None,
    }
}

impl Evolve for SagaInstance {
    fn initial(id: &SagaId) -> Self {
        let shape =
            SagaShape { name: String::new(), version: 0, nodes: Vec::new(), output: String::new(), pivot: None };
        Self {
            id: id.clone(),
            phase: Phase::Missing,
            shape: Arc::new(shape),
            fingerprint: None,
            input: Arc::new(Value::Null),
            nodes: Vec::new(),
            deadline: None,
            is_paused: false,
            reason: None,
            created_at: None,
            changed_at: None,
            defect: None,
        }
    }

    fn evolve(&mut self, event: &SagaEvent, at: &EventContext<'_>) {
        self.evolve_at(event, at.occurred_at());
    }
}
