//! [`Dots`]: the changes that no later change has replaced.

use std::collections::BTreeSet;

use es_core::EventContext;
use es_core::model::Dot;
use serde::{Deserialize, Serialize};

/// The dots of changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Dots(BTreeSet<Dot>);

impl Dots {
    /// Adds the change of an event, which replaces those that its node had seen.
    pub(crate) fn replace(&mut self, at: &EventContext<'_>) {
        self.remove_seen(at);
        self.0.insert(at.dot());
    }

    /// Removes the changes that the node of an event had seen.
    pub(crate) fn remove_seen(&mut self, at: &EventContext<'_>) {
        self.0.retain(|dot| !at.follows(*dot));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
