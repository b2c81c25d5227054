//! [`SagaShape`]: the graph of a saga as data, which each instance stores when it starts.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The graph of a saga: names, versions and edges, without code. An instance stores the shape with which it started, so
/// that it can be shown and checked without the program that started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SagaShape {
    /// The name of the saga.
    pub name: String,
    /// The version of the saga.
    pub version: u32,
    /// The nodes. Each node comes after all nodes on which it depends.
    pub nodes: Vec<NodeShape>,
    /// The wiring of the output, as in [`NodeShape::input`].
    pub output: String,
    /// The pivot, if the saga has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pivot: Option<Pivot>,
}

/// The point of a saga after which it is not compensated any more: it can only go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pivot {
    /// The step whose success is the pivot; `None` if the pivot is reached when the first node after it starts.
    pub step: Option<u32>,
    /// The index of the first node after the pivot.
    pub next: u32,
}

/// One node of the graph: a step with its edges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShape {
    /// The name of the node, which is unique in the graph.
    pub name: String,
    /// The name under which the step is registered.
    pub step: String,
    /// The version of the step.
    pub step_version: u32,
    /// Where the effect of the step is.
    pub effect: Effect,
    /// How often the step is executed.
    pub repeat: Repeat,
    /// How the step is undone.
    pub undo: Undo,
    /// The nodes whose outputs the input contains, and the nodes that must be finished first, in ascending order.
    pub after: Vec<u32>,
    /// The wiring of the input: `saga`, the name of a node, or a list of both in parentheses.
    pub input: String,
}

/// Where the effect of a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Outside of the store. The intent is recorded before the call, the outcome after it.
    External,
    /// In the same store. The effect and the outcome are one commit.
    Local,
    /// A saga of its own, which is created in the commit that records its start.
    Child,
    /// None: the saga waits for this time, and nothing is called. The end of the wait is recorded with its start.
    Delay {
        /// The time in milliseconds.
        milliseconds: u64,
    },
}

/// How often a node executes its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repeat {
    /// Once.
    Once,
    /// Once or never, depending on a condition on the input.
    Optional,
    /// Once for each item of a list, in parallel.
    Each,
}

/// How a step is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// By its compensation.
    #[default]
    Compensate,
    /// Not at all: the step has no effect that matters.
    Ignore,
    /// By a person: a saga that has to undo this step is stuck.
    Pause,
}

/// Identifies the graph of a version of a saga: names, versions, edges and wiring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(Uuid);

/// The namespace of fingerprints.
const FINGERPRINTS: Uuid = Uuid::from_u128(0x0f2c_61a4_9d35_5b1e_a7c4_52d0_8e13_66b7);

impl Fingerprint {
    /// Returns the fingerprint of a shape.
    #[must_use]
    pub fn of(shape: &SagaShape) -> Self {
        // `Debug` of these types is a complete and stable rendering: names are quoted, and no field is left out.
        Self(Uuid::new_v5(&FINGERPRINTS, format!("{shape:?}").as_bytes()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.simple(), f)
    }
}

impl SagaShape {
    /// Returns the shape of a saga that does not exist.
    pub(crate) const fn empty() -> Self {
        Self { name: String::new(), version: 0, nodes: Vec::new(), output: String::new(), pivot: None }
    }

    /// Returns the index of the node with this name.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<u32> {
        (0..).zip(&self.nodes).find(|(_, node)| node.name == name).map(|(index, _)| index)
    }

    /// Returns a description of the first edge that does not point to an earlier node, or `None` for a sound shape.
    pub(crate) fn defect(&self) -> Option<String> {
        let forward = (0..).zip(&self.nodes).find_map(|(index, node)| {
            let wrong = node.after.iter().find(|before| **before >= index)?;
            Some(format!("node {:?} with index {index} depends on index {wrong}", node.name))
        });
        let count = self.nodes.len();
        let pivot =
            self.pivot.filter(|pivot| pivot.next as usize > count || pivot.step.is_some_and(|s| s >= pivot.next));
        forward.or_else(|| pivot.map(|pivot| format!("a pivot before index {} of {count} nodes", pivot.next)))
    }
}
