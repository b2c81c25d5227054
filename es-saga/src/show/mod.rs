//! [`SagaSummary`] and [`SagaDetails`]: a saga as operators see it.
//!
//! Both are values: `Display` renders text, [`SagaDetails::mermaid`] a diagram, and serde the JSON form. They contain
//! no inputs, outputs and compensations, which may be personal data.

mod diagram;
mod text;

use std::fmt;

use es_core::Timestamp;
use serde::Serialize;

use crate::id::SagaId;
use crate::instance::{NodeState, SagaInstance, UnitState, UnitStatus};
use crate::shape::{Effect, Fingerprint, NodeShape, Pivot, Repeat, Undo};

/// A saga in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SagaSummary {
    /// The id.
    pub id: SagaId,
    /// The version of the saga, or `None` if the instance cannot be read.
    pub version: Option<u32>,
    /// The name of the phase, or `unreadable`.
    pub phase: &'static str,
    /// Whether an operator has paused it.
    pub is_paused: bool,
    /// The reason of the last change of its phase, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason why the program cannot run it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    /// The saga of which this one is a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<SagaId>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it last changed.
    pub changed_at: Option<Timestamp>,
    /// The time at which it is compensated unless it is finished or past its pivot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// A saga with the states, the attempts and the timings of its steps.
///
/// ```text
/// fulfilment:10248, version 1: stuck
///   reason    pay: refund failed
///   created   2026-01-31T12:00:00Z
///   changed   2026-01-31T12:00:09Z
///
///   STEP     STATE        ATTEMPTS  UNDOS  START  TIME  AFTER    ERROR
///   reserve  succeeded           1      0     +0s    1s
///   pay      undo-failed         1      3     +1s    1s  reserve  refund failed
///   ship     failed              1      0     +2s    0s  pay      no driver
/// ```
///
/// `START` is the time since the creation of the saga, `TIME` that from the first attempt to the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SagaDetails {
    /// The saga.
    #[serde(flatten)]
    pub summary: SagaSummary,
    /// The fingerprint of its graph.
    pub fingerprint: Option<Fingerprint>,
    /// The pivot, if the saga has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pivot: Option<Pivot>,
    /// The nodes, in the order of the graph.
    pub nodes: Vec<NodeDetails>,
}

/// A node of a saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NodeDetails {
    /// The name of the node.
    pub name: String,
    /// The name of the step.
    pub step: String,
    /// The version of the step.
    pub step_version: u32,
    /// Where the effect of the step is.
    pub effect: Effect,
    /// How often the step is executed.
    pub repeat: Repeat,
    /// How the step is undone.
    pub undo: Undo,
    /// The names of the nodes on which it depends.
    pub after: Vec<String>,
    /// Whether its condition did not hold.
    pub is_omitted: bool,
    /// How often an operator had the node executed again.
    pub run: u32,
    /// Its executions: one, or one for each item of its list. Empty while the length of the list is not known.
    pub items: Vec<ItemDetails>,
}

/// One execution of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ItemDetails {
    /// The index of the item.
    pub item: u32,
    /// The name of the status; see [`UnitStatus::name`].
    pub state: &'static str,
    /// The number of attempts to execute it.
    pub attempts: u32,
    /// The number of attempts to undo it.
    pub undo_attempts: u32,
    /// The time of the next attempt, if it waits for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// When it ends, if it is a delay in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delayed_until: Option<Timestamp>,
    /// When its first attempt started; for a local step, when the first attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it succeeded, failed for the last time, or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// When the first attempt to undo it started; for a local step, when it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_started_at: Option<Timestamp>,
    /// When it was undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undone_at: Option<Timestamp>,
    /// Its child saga, if it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<SagaId>,
    /// The last error, or the reason why its child saga is stuck.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl SagaSummary {
    /// Returns the summary of an instance. The reason of a quarantine is not part of the instance.
    #[must_use]
    pub fn of(instance: &SagaInstance) -> Self {
        Self {
            id: instance.id().clone(),
            version: Some(instance.shape().version),
            phase: instance.phase().name(),
            is_paused: instance.is_paused(),
            reason: instance.reason().map(ToOwned::to_owned),
            quarantine: None,
            parent: instance.parent().cloned(),
            created_at: instance.created_at(),
            changed_at: instance.changed_at(),
            deadline: instance.deadline(),
        }
    }

    /// Returns the summary of an instance that cannot be read.
    pub(crate) fn unreadable(id: SagaId, reason: String) -> Self {
        Self {
            id,
            version: None,
            phase: "unreadable",
            is_paused: false,
            reason: Some(reason),
            quarantine: None,
            parent: None,
            created_at: None,
            changed_at: None,
            deadline: None,
        }
    }

    /// Sets the reason of a quarantine.
    #[must_use]
    pub(crate) fn with_quarantine(mut self, reason: Option<String>) -> Self {
        self.quarantine = reason;
        self
    }
}

impl SagaDetails {
    /// Returns the details of an instance. The reason of a quarantine is not part of the instance.
    #[must_use]
    pub fn of(instance: &SagaInstance) -> Self {
        let shape = instance.shape();
        let name = |node: &u32| shape.nodes.get(*node as usize).map_or(String::new(), |node| node.name.clone());
        let details = |(node, state): (&NodeShape, &NodeState)| NodeDetails {
            name: node.name.clone(),
            step: node.step.clone(),
            step_version: node.step_version,
            effect: node.effect,
            repeat: node.repeat,
            undo: node.undo,
            after: node.after.iter().map(name).collect(),
            is_omitted: state.is_omitted,
            run: state.run,
            items: (0..).zip(&state.units).map(|(item, unit)| ItemDetails::of(item, unit)).collect(),
        };
        Self {
            summary: SagaSummary::of(instance),
            fingerprint: instance.fingerprint(),
            pivot: shape.pivot,
            nodes: shape.nodes.iter().zip(instance.nodes()).map(details).collect(),
        }
    }

    /// Returns the graph as a Mermaid flowchart, with the state, the attempts and the time of each node.
    #[must_use]
    pub fn mermaid(&self) -> String {
        diagram::flowchart(self)
    }
}

impl ItemDetails {
    fn of(item: u32, unit: &UnitState) -> Self {
        let next_attempt_at = match unit.status {
            UnitStatus::Waiting(at) | UnitStatus::UndoWaiting(at) => Some(at),
            _ => None,
        };
        let delayed_until = match unit.status {
            UnitStatus::Delayed(until) => Some(until),
            _ => None,
        };
        Self {
            item,
            state: unit.status.name(),
            attempts: unit.attempts,
            undo_attempts: unit.undo_attempts,
            next_attempt_at,
            delayed_until,
            started_at: unit.started_at,
            ended_at: unit.ended_at,
            undo_started_at: unit.undo_started_at,
            undone_at: unit.undone_at,
            child: unit.child.clone(),
            error: unit.error.clone(),
        }
    }
}

impl NodeDetails {
    /// Returns the name of the state of the node. A node with a list has the state of its items if it is the same for
    /// all of them, otherwise `mixed`, and `unlisted` while the length of the list is not known.
    #[must_use]
    pub fn state(&self) -> &'static str {
        if self.is_omitted {
            return "omitted";
        }
        let mut states = self.items.iter().map(|item| item.state);
        match states.next() {
            None if self.repeat == Repeat::Each => "unlisted",
            None => "pending",
            Some(first) if states.all(|state| state == first) => first,
            Some(_) => "mixed",
        }
    }

    /// Returns the time from the first start of an item to its outcome, over all items.
    fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let start = self.items.iter().filter_map(|item| item.started_at).min()?;
        Some((start, self.items.iter().filter_map(|item| item.ended_at).max()?))
    }
}

impl fmt::Display for SagaSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write_summary(self, f)
    }
}

impl fmt::Display for SagaDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write_details(self, f)
    }
}

#[cfg(test)]
mod tests;
