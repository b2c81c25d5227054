//! [`Flag`].

use es_core::{Crdt, EventContext};
use serde::{Deserialize, Serialize};

use crate::dots::Dots;
use crate::map::ObservedReset;

/// A flag that is enabled if one node enables it while another one disables it (enable-wins).
///
/// For a flag whose disabling wins, store the opposite.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flag(Dots);

impl Crdt for Flag {}

impl Flag {
    /// Returns a flag that is disabled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Enables the flag.
    pub fn enable(&mut self, at: &EventContext<'_>) {
        self.0.replace(at);
    }

    /// Disables the flag, except where a node enabled it without having seen this event, and this event had not seen
    /// that.
    pub fn disable(&mut self, at: &EventContext<'_>) {
        self.0.remove_seen(at);
    }

    /// Returns `true` if the flag is enabled.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.0.is_empty()
    }
}

impl ObservedReset for Flag {
    fn reset(&mut self, at: &EventContext<'_>) {
        self.disable(at);
    }
}
