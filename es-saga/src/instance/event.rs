//! [`SagaEvent`]: what happened to a saga instance.

use es_core::{Event, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{ErrorClass, Exhausted};
use crate::id::{Direction, SagaId, StepKey};
use crate::shape::{Fingerprint, SagaShape};

/// One execution of a step: a node of the graph, and the index of the item for a node that runs for each item of a
/// list; 0 otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unit {
    /// The index of the node.
    pub node: u32,
    /// The index of the item.
    pub item: u32,
}

/// Who did something to a saga, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorNote {
    /// The person or the program.
    pub by: String,
    /// The reason.
    pub reason: String,
}

impl OperatorNote {
    /// Returns a note.
    #[must_use]
    pub fn new(by: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { by: by.into(), reason: reason.into() }
    }
}

/// A value that may be absent. As an object it is distinguished from an absent one even if it is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedValue {
    /// The value.
    pub value: Value,
}

/// The converted output of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigratedOutput {
    /// The step, in the new graph.
    pub unit: Unit,
    /// The output.
    pub output: Value,
}

/// An event of a saga instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[non_exhaustive]
pub enum SagaEvent {
    /// The instance was created.
    #[event(name = "saga-created")]
    Created {
        /// The graph.
        shape: SagaShape,
        /// The fingerprint of the graph.
        fingerprint: Fingerprint,
        /// The input.
        input: Value,
        /// The time at which the saga is compensated unless it is finished or past its pivot.
        deadline: Option<Timestamp>,
        /// The saga of which this one is a step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<SagaId>,
    },
    /// The instance was carried to another version of the graph. Nodes with the same name, step, effect and repetition
    /// keep their states.
    #[event(name = "saga-migrated")]
    Migrated {
        /// The new graph.
        shape: SagaShape,
        /// The converted input; `None` if it is unchanged.
        input: Option<RecordedValue>,
        /// The outputs that were converted.
        outputs: Vec<MigratedOutput>,
    },
    /// The length of the list of a node is known.
    #[event(name = "saga-items-listed")]
    ItemsListed {
        /// The node.
        node: u32,
        /// The number of items.
        count: u32,
    },
    /// The condition of a node does not hold.
    #[event(name = "saga-step-omitted")]
    StepOmitted {
        /// The node.
        node: u32,
    },
    /// An external step is about to be called.
    #[event(name = "saga-step-started")]
    StepStarted {
        /// The step.
        unit: Unit,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The idempotency key.
        key: StepKey,
        /// A digest of the input.
        input: String,
        /// The compensation; `None` for a later attempt, which has that of the first one.
        compensation: Option<RecordedValue>,
    },
    /// A step has had its effect.
    #[event(name = "saga-step-succeeded")]
    StepSucceeded {
        /// The step.
        unit: Unit,
        /// The output.
        output: Value,
    },
    /// An attempt failed.
    #[event(name = "saga-step-failed")]
    StepFailed {
        /// The step.
        unit: Unit,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// What is known of the effect.
        class: ErrorClass,
        /// The error.
        message: String,
        /// When the step is tried again; `None` if this was the last attempt.
        retry_at: Option<Timestamp>,
        /// What happens to the saga after the last attempt.
        then: Exhausted,
    },
    /// A child saga was created. It runs from now on.
    #[event(name = "saga-child-started")]
    ChildStarted {
        /// The step.
        unit: Unit,
        /// The child saga.
        child: SagaId,
        /// A digest of the input.
        input: String,
    },
    /// A child saga waits for a person, and this saga waits for the child.
    #[event(name = "saga-child-stuck")]
    ChildStuck {
        /// The step.
        unit: Unit,
        /// The reason.
        reason: String,
    },
    /// A delay started. Its end is a success with the output null.
    #[event(name = "saga-delay-started")]
    DelayStarted {
        /// The delay.
        unit: Unit,
        /// When it ends.
        until: Timestamp,
    },
    /// The saga turned back: it undoes its steps in reverse order.
    #[event(name = "saga-compensating")]
    Compensating {
        /// The reason.
        reason: String,
    },
    /// The compensation of an external step is about to be called.
    #[event(name = "saga-undo-started")]
    UndoStarted {
        /// The step.
        unit: Unit,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The idempotency key.
        key: StepKey,
    },
    /// A step is undone.
    #[event(name = "saga-undo-succeeded")]
    UndoSucceeded {
        /// The step.
        unit: Unit,
    },
    /// An attempt to undo a step failed.
    #[event(name = "saga-undo-failed")]
    UndoFailed {
        /// The step.
        unit: Unit,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The error.
        message: String,
        /// When it is tried again; `None` if this was the last attempt.
        retry_at: Option<Timestamp>,
    },
    /// The saga cannot go on and waits for a person.
    #[event(name = "saga-stuck")]
    Stuck {
        /// The step that stopped the saga.
        unit: Unit,
        /// Whether the saga was going forward or back.
        direction: Direction,
        /// The reason.
        reason: String,
    },
    /// All steps are done.
    #[event(name = "saga-completed")]
    Completed,
    /// All effects are undone.
    #[event(name = "saga-compensated")]
    Compensated,
    /// An operator stopped the saga for a while.
    #[event(name = "saga-paused")]
    Paused(OperatorNote),
    /// An operator let a paused saga continue.
    #[event(name = "saga-resumed")]
    Resumed(OperatorNote),
    /// An operator had a failed step, or a failed undo of a step, tried again.
    #[event(name = "saga-step-retried")]
    StepRetried {
        /// The step.
        unit: Unit,
        /// Who and why.
        note: OperatorNote,
    },
    /// An operator took a step, or the undo of a step, for done.
    #[event(name = "saga-step-skipped")]
    StepSkipped {
        /// The step.
        unit: Unit,
        /// The output that later steps get.
        output: Option<RecordedValue>,
        /// Who and why.
        note: OperatorNote,
    },
    /// An operator or a caller had the saga compensated.
    #[event(name = "saga-cancelled")]
    Cancelled(OperatorNote),
    /// The saga ended without compensation, by an operator or by the policy of a step.
    #[event(name = "saga-killed")]
    Killed(OperatorNote),
    /// An operator had steps executed again.
    #[event(name = "saga-restarted")]
    Restarted {
        /// The nodes, in ascending order.
        nodes: Vec<u32>,
        /// Who and why.
        note: OperatorNote,
    },
    /// An operator ended a saga that cannot go on. Its effects remain.
    #[event(name = "saga-abandoned")]
    Abandoned(OperatorNote),
}
