//! The domain: an order whose lines are added on any node.

use es_core::EventId;
use es_core::prelude::*;
use serde::{Deserialize, Serialize};

/// The number of an order.
pub(crate) type OrderId = u64;
/// The number of a line. The client gives one to each line, and never uses it again.
pub(crate) type LineId = u64;

/// An event of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
pub(crate) enum OrderEvent {
    /// A line was added.
    #[event(name = "line-added")]
    LineAdded {
        /// The number of the line.
        line: LineId,
        /// The number of pieces.
        quantity: u32,
        /// The last event that the client had seen on the node. Every node must have it before this event: the check of
        /// the demonstration does not rely on the vector clocks.
        after: Option<EventId>,
    },
}

/// An order. Each node accepts lines; after a partition, all nodes have all of them in the same order.
///
/// `conflict = "canonical"`: two lines that were added at the same time are both wanted, so the fold of all lines in
/// canonical order is the right order. It only counts them, to show how often it happens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "order", id = OrderId, event = OrderEvent,
    consistency = "causal", conflict = "canonical", snapshot(every = 50)
)]
pub(crate) struct Order {
    /// The lines in the order of the fold, each with its quantity.
    pub(crate) lines: Vec<(LineId, u32)>,
    /// The number of lines that two nodes added without knowing of each other.
    pub(crate) concurrent: u32,
}

impl Evolve for Order {
    fn initial(_: &OrderId) -> Self {
        Self::default()
    }

    fn evolve(&mut self, event: &OrderEvent, at: &EventContext<'_>) {
        let OrderEvent::LineAdded { line, quantity, .. } = event;
        self.lines.push((*line, *quantity));
        self.concurrent += u32::from(at.is_concurrent());
    }
}

/// Adds a line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AddLine {
    /// The number of the line.
    pub(crate) line: LineId,
    /// The number of pieces.
    pub(crate) quantity: u32,
    /// The last event that the client had seen. Not part of the identity of the command: a repeat may have seen more.
    #[serde(skip)]
    pub(crate) after: Option<EventId>,
}

impl Decide<AddLine> for Order {
    type Rejection = std::convert::Infallible;

    fn decide(
        &self,
        AddLine { line, quantity, after }: AddLine,
        _: &CommandContext<'_, Self>,
    ) -> Result<Decision<Self>, Self::Rejection> {
        Ok(OrderEvent::LineAdded { line, quantity, after }.into())
    }
}
