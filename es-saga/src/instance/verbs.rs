//! What an operator can do with a saga.

use es_core::{CommandContext, Decide, Decision, Timestamp};
use serde_json::Value;

use crate::id::Direction;
use crate::instance::event::{OperatorNote, RecordedValue, SagaEvent, Unit};
use crate::instance::state::{Phase, SagaInstance, UnitState, UnitStatus};

/// An action of an operator. Each is recorded as an event, with its [note](OperatorNote).
#[derive(Debug, Clone, PartialEq)]
pub enum SagaVerb {
    /// Starts no new call until it is resumed. Calls and child sagas in progress are finished. The time of a delay
    /// passes, and what follows it starts after the saga is resumed.
    Pause,
    /// Continues a paused saga.
    Resume,
    /// Tries a failed step again, or the undo of a step that failed for the last time, with a new count of attempts.
    /// A step that waits for its next attempt is tried at once.
    Retry {
        /// The name of the node.
        step: String,
        /// The index of the item; 0 for a node without a list.
        item: u32,
    },
    /// Takes a failed step, or the undo of a step, for done. A skipped step is not undone later. A delay in progress
    /// ends at once.
    Skip {
        /// The name of the node.
        step: String,
        /// The index of the item; 0 for a node without a list.
        item: u32,
        /// The output, which is required if a later step uses it. A delay has no other output than null.
        output: Option<Value>,
    },
    /// Undoes all steps, also those of a completed saga: child sagas first. A saga past its pivot cannot be cancelled.
    Cancel,
    /// Ends the saga and its child sagas at once, without compensation. The outcome of calls in progress is not
    /// recorded.
    Kill,
    /// Executes a step, those that depend on it, and those that are needed and not done, again. None of them may have
    /// an effect, and no undo of a step may be in progress or have failed.
    Restart {
        /// The name of the node.
        step: String,
    },
    /// Ends a saga that is stuck or paused. Its effects remain, and its child sagas in progress continue.
    Abandon,
}

/// An action of an operator was refused. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerbRefused {
    /// The instance does not exist.
    #[error("no saga {saga:?}")]
    NoSaga {
        /// The id.
        saga: String,
    },
    /// The saga is in a phase in which the action makes no sense.
    #[error("saga {saga:?} is {found}; expected it to be {expected}")]
    Phase {
        /// The id.
        saga: String,
        /// The phases in which the action is possible.
        expected: &'static str,
        /// The phase.
        found: &'static str,
    },
    /// The saga is past its pivot. Retry or skip the failed step, or kill or abandon the saga.
    #[error("saga {saga:?} is past its pivot and cannot be compensated; retry or skip its failed step, or abandon it")]
    PastPivot {
        /// The id.
        saga: String,
    },
    /// The saga has no such step.
    #[error("saga {saga:?} has no step {step:?} with item {item}")]
    NoStep {
        /// The id.
        saga: String,
        /// The name of the node.
        step: String,
        /// The index of the item.
        item: u32,
    },
    /// The step has not failed.
    #[error("step {step:?} of saga {saga:?} has not failed: it is {found:?}")]
    NotFailed {
        /// The id.
        saga: String,
        /// The name of the node.
        step: String,
        /// The status of the step.
        found: UnitStatus,
    },
    /// A later step uses the output of the step. Give an output.
    #[error("step {step:?} cannot be skipped without an output, because {by:?} uses it; give the output")]
    OutputNeeded {
        /// The name of the node.
        step: String,
        /// What uses the output.
        by: String,
    },
    /// The saga is a step of another one, which has recorded its end. Act on that saga.
    #[error("saga {saga:?} is a step of {parent:?}, which has recorded its end; act on {parent:?}")]
    Child {
        /// The id.
        saga: String,
        /// The saga of which it is a step.
        parent: String,
    },
    /// Steps that would be executed again have an effect, or the undo of a step has begun and not succeeded. Cancel the
    /// saga first.
    #[error("steps of saga {saga:?} have an effect: {}; cancel it first", .steps.join(", "))]
    HasEffect {
        /// The id.
        saga: String,
        /// The names of the nodes.
        steps: Vec<String>,
    },
}

/// A command of an operator: an action with its note.
#[derive(Debug, Clone, PartialEq)]
pub struct Operate {
    /// The action.
    pub verb: SagaVerb,
    /// Who and why.
    pub note: OperatorNote,
}

impl SagaInstance {
    /// Applies an action of an operator and its consequences at this time. Returns their events.
    ///
    /// # Errors
    /// [`VerbRefused`] if the action is not possible. The state is then unchanged.
    pub fn operate(&mut self, command: Operate, now: Timestamp) -> Result<Vec<SagaEvent>, VerbRefused> {
        let event = self.verb_event(command)?;
        let mut events = Vec::with_capacity(2);
        self.apply(event, now, &mut events);
        self.apply_consequences(now, &mut events);
        Ok(events)
    }

    fn verb_event(&self, Operate { verb, note }: Operate) -> Result<SagaEvent, VerbRefused> {
        let saga = || self.id.to_string();
        if self.phase == Phase::Missing {
            return Err(VerbRefused::NoSaga { saga: saga() });
        }
        let need = |holds: bool, expected: &'static str| {
            let found = if self.is_paused { "paused" } else { self.phase.name() };
            if holds { Ok(()) } else { Err(VerbRefused::Phase { saga: saga(), expected, found }) }
        };
        let is_unfinished = !self.phase.is_final();
        if let Some(parent) = self.parent.as_ref().filter(|_| !is_unfinished) {
            return Err(VerbRefused::Child { saga: saga(), parent: parent.to_string() });
        }
        Ok(match verb {
            SagaVerb::Pause => {
                need(is_unfinished && !self.is_paused, "unfinished and not paused")?;
                SagaEvent::Paused(note)
            }
            SagaVerb::Resume => {
                need(is_unfinished && self.is_paused, "paused")?;
                SagaEvent::Resumed(note)
            }
            SagaVerb::Retry { step, item } => {
                need(is_unfinished, "unfinished")?;
                let unit = self.failed_unit(&step, item)?;
                SagaEvent::StepRetried { unit, note }
            }
            SagaVerb::Skip { step, item, output } => {
                need(is_unfinished, "unfinished")?;
                let unit = self.unit_to_skip(&step, item)?;
                let output = if self.delay_of(unit.node).is_some() { Some(Value::Null) } else { output };
                let is_undo = self.unit(unit).is_some_and(UnitState::is_undo_failing);
                if let Some(by) = self.user_of_output(&step).filter(|_| output.is_none() && !is_undo) {
                    return Err(VerbRefused::OutputNeeded { step, by });
                }
                let output = output.map(|value| RecordedValue { value });
                SagaEvent::StepSkipped { unit, output, note }
            }
            SagaVerb::Cancel => {
                need(
                    matches!(self.phase, Phase::Running | Phase::Stuck(_) | Phase::Completed),
                    "running, stuck or completed",
                )?;
                if self.is_past_pivot() {
                    return Err(VerbRefused::PastPivot { saga: saga() });
                }
                SagaEvent::Cancelled(note)
            }
            SagaVerb::Kill => {
                need(is_unfinished, "unfinished")?;
                SagaEvent::Killed(note)
            }
            SagaVerb::Restart { step } => {
                need(
                    matches!(self.phase, Phase::Stuck(_) | Phase::Compensated | Phase::Killed) || self.is_paused,
                    "stuck, paused, compensated or killed",
                )?;
                SagaEvent::Restarted { nodes: self.nodes_to_restart(&step)?, note }
            }
            SagaVerb::Abandon => {
                need(is_unfinished && (matches!(self.phase, Phase::Stuck(_)) || self.is_paused), "stuck or paused")?;
                SagaEvent::Abandoned(note)
            }
        })
    }

    fn node(&self, step: &str, item: u32) -> Result<u32, VerbRefused> {
        let no_step = || VerbRefused::NoStep { saga: self.id.to_string(), step: step.to_owned(), item };
        self.shape.position(step).ok_or_else(no_step)
    }

    fn failed_unit(&self, step: &str, item: u32) -> Result<Unit, VerbRefused> {
        use UnitStatus::{Failed, Owed, UndoFailed, UndoWaiting, Waiting};
        let unit = Unit { node: self.node(step, item)?, item };
        let no_step = || VerbRefused::NoStep { saga: self.id.to_string(), step: step.to_owned(), item };
        let state = self.unit(unit).ok_or_else(no_step)?;
        match state.status {
            // A saga that turned back does not execute failed steps again, whether an undo failed or not.
            Failed | Owed | Waiting(_)
                if !matches!(self.phase, Phase::Compensating | Phase::Stuck(Direction::Backward)) =>
            {
                Ok(unit)
            }
            UndoFailed | UndoWaiting(_) => Ok(unit),
            found => Err(VerbRefused::NotFailed { saga: self.id.to_string(), step: step.to_owned(), found }),
        }
    }

    fn unit_to_skip(&self, step: &str, item: u32) -> Result<Unit, VerbRefused> {
        match self.failed_unit(step, item) {
            Err(VerbRefused::NotFailed { found: UnitStatus::Delayed(_), .. }) => {
                Ok(Unit { node: self.node(step, item)?, item })
            }
            other => other,
        }
    }

    /// Returns the name of a node whose input contains the output of a node, or `output` for the output of the saga.
    fn user_of_output(&self, step: &str) -> Option<String> {
        let uses = |wiring: &str| wiring.split(['(', ')', ',', ' ']).any(|source| source == step);
        let node = self.shape.nodes.iter().find(|node| uses(&node.input)).map(|node| node.name.clone());
        node.or_else(|| uses(&self.shape.output).then(|| "output".to_owned()))
    }

    /// Returns the node, those that depend on it, and those on which they depend and that are not done.
    fn nodes_to_restart(&self, step: &str) -> Result<Vec<u32>, VerbRefused> {
        let first = self.node(step, 0)?;
        let mut restarted = vec![false; self.nodes.len()];
        if let Some(restarted) = restarted.get_mut(first as usize) {
            *restarted = true;
        }
        let is_set = |flags: &[bool], index: u32| flags.get(index as usize) == Some(&true);
        for (index, shape) in self.shape.nodes.iter().enumerate() {
            if shape.after.iter().any(|before| is_set(&restarted, *before)) {
                restarted[index] = true;
            }
        }
        // All nodes are needed in the end: those that are clear and not done are executed, too.
        for (index, node) in self.nodes.iter().enumerate() {
            let is_undone = node.units.iter().any(|unit| unit.is_clear() && !unit.is_done());
            restarted[index] |= is_undone && !node.is_done();
        }
        // A node is executed again as a whole, so one item with an effect is enough. A step whose undo has begun has an
        // effect that a saga which goes forward would neither execute nor undo.
        let has_effect = |index: u32, unit: &UnitState| {
            let is_again = is_set(&restarted, index) && self.delay_of(index).is_none();
            is_again && !unit.is_clear() || unit.is_undo_failing() || unit.status == UnitStatus::Undoing
        };
        let with_effect: Vec<String> = (0..)
            .zip(&self.nodes)
            .filter(|(index, node)| node.units.iter().any(|unit| has_effect(*index, unit)))
            .map(|(index, _)| self.node_name(index).to_owned())
            .collect();
        if !with_effect.is_empty() {
            return Err(VerbRefused::HasEffect { saga: self.id.to_string(), steps: with_effect });
        }
        Ok((0..).zip(restarted).filter(|(_, restarted)| *restarted).map(|(index, _)| index).collect())
    }
}

impl Decide<Operate> for SagaInstance {
    type Rejection = VerbRefused;

    fn decide(&self, command: Operate, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, VerbRefused> {
        Ok(self.clone().operate(command, at.time())?.into())
    }
}
