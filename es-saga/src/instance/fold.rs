//! The fold of the events of a saga.

use std::sync::Arc;

use es_core::{EventContext, Evolve, Timestamp};
use serde_json::Value;

use crate::failure::ErrorClass;
use crate::id::{Direction, SagaId};
use crate::instance::event::{SagaEvent, Unit};
use crate::instance::state::{NodeState, Phase, SagaInstance, UnitState, UnitStatus};
use crate::shape::{Effect, Repeat, SagaShape};

impl SagaInstance {
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
            SagaEvent::Created { shape, fingerprint, input, deadline, parent } => {
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
                self.parent.clone_from(parent);
                self.created_at = Some(at);
            }
            SagaEvent::Migrated { shape, input, outputs } => match shape.defect() {
                Some(defect) => self.refuse(defect),
                None => self.migrate(shape, input.as_ref(), outputs),
            },
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
            SagaEvent::ChildStuck { unit, reason } => {
                self.reason = Some(format!("{}: {reason}", self.node_name(unit.node)));
            }
            SagaEvent::Compensating { reason } => self.turn_back(reason, at),
            SagaEvent::Cancelled(note) => self.turn_back(&format!("cancelled by {}: {}", note.by, note.reason), at),
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

    fn turn_back(&mut self, reason: &str, at: Timestamp) {
        self.phase = Phase::Compensating;
        self.reason = Some(reason.to_owned());
        for (node, shape) in self.nodes.iter_mut().zip(&self.shape.nodes) {
            let is_delay = matches!(shape.effect, Effect::Delay { .. });
            for unit in &mut node.units {
                match unit.status {
                    UnitStatus::Waiting(_) => unit.end_forward(at),
                    UnitStatus::Delayed(_) | UnitStatus::Succeeded if is_delay => unit.undo_delay(at),
                    _ => {}
                }
            }
        }
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
            SagaEvent::ChildStarted { child, input, .. } => {
                self.status = UnitStatus::AwaitingChild;
                self.attempts = self.attempts.saturating_add(1);
                self.started_at.get_or_insert(at);
                self.input.get_or_insert_with(|| input.clone());
                self.child = Some(child.clone());
            }
            SagaEvent::ChildStuck { reason, .. } => self.error = Some(reason.clone()),
            SagaEvent::DelayStarted { until, .. } => {
                self.status = UnitStatus::Delayed(*until);
                self.started_at.get_or_insert(at);
            }
            SagaEvent::StepSucceeded { output, .. } => {
                // The attempt of a local step is counted by its outcome, that of any other by its start. A delay has
                // none.
                let is_counted =
                    matches!(self.status, UnitStatus::Running | UnitStatus::AwaitingChild | UnitStatus::Delayed(_));
                self.attempts = self.attempts.saturating_add(u32::from(!is_counted));
                self.status = UnitStatus::Succeeded;
                self.started_at.get_or_insert(at);
                self.ended_at = Some(at);
                self.output = Some(output.clone());
            }
            SagaEvent::StepFailed { attempt, class, message, retry_at, then, .. } => {
                self.is_ambiguous |= *class == ErrorClass::Ambiguous;
                self.started_at.get_or_insert(at);
                (self.attempts, self.then, self.error) = (*attempt, *then, Some(message.clone()));
                match retry_at {
                    Some(at) => self.status = UnitStatus::Waiting(*at),
                    None => self.end_forward(at),
                }
            }
            SagaEvent::UndoStarted { attempt, .. } => {
                self.status = UnitStatus::Undoing;
                self.undo_attempts = *attempt;
                self.undo_started_at.get_or_insert(at);
            }
            SagaEvent::UndoSucceeded { .. } => {
                let is_counted = self.status == UnitStatus::Undoing;
                self.undo_attempts = self.undo_attempts.saturating_add(u32::from(!is_counted));
                self.undo_started_at.get_or_insert(at);
                (self.status, self.undone_at) = (UnitStatus::Undone, Some(at));
            }
            SagaEvent::UndoFailed { attempt, message, retry_at, .. } => {
                self.undo_started_at.get_or_insert(at);
                (self.undo_attempts, self.error) = (*attempt, Some(message.clone()));
                self.status = retry_at.map_or(UnitStatus::UndoFailed, UnitStatus::UndoWaiting);
            }
            SagaEvent::StepRetried { .. } if self.is_undo_failing() => {
                (self.status, self.undo_attempts, self.undo_started_at) = (UnitStatus::UndoWaiting(at), 0, None);
            }
            SagaEvent::StepRetried { .. } => {
                (self.status, self.attempts) = (UnitStatus::Waiting(at), 0);
                (self.started_at, self.ended_at) = (None, None);
            }
            SagaEvent::StepSkipped { .. } if self.is_undo_failing() => {
                (self.status, self.undone_at) = (UnitStatus::Undone, Some(at));
            }
            SagaEvent::StepSkipped { output, .. } => {
                (self.status, self.ended_at) = (UnitStatus::Skipped, Some(at));
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
        | SagaEvent::ChildStarted { unit, .. }
        | SagaEvent::ChildStuck { unit, .. }
        | SagaEvent::DelayStarted { unit, .. }
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
        Self {
            id: id.clone(),
            phase: Phase::Missing,
            shape: Arc::new(SagaShape::empty()),
            fingerprint: None,
            input: Arc::new(Value::Null),
            nodes: Vec::new(),
            deadline: None,
            parent: None,
            is_paused: false,
            reason: None,
            metadata: Arc::default(),
            created_at: None,
            changed_at: None,
            defect: None,
        }
    }

    fn evolve(&mut self, event: &SagaEvent, at: &EventContext<'_>) {
        if matches!(event, SagaEvent::Created { .. }) {
            self.metadata = Arc::new(at.metadata().clone());
        }
        self.evolve_at(event, at.occurred_at());
    }
}
