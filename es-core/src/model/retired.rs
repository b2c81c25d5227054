//! [`RetiredOrigins`]: the origins that were removed from the vector clocks of new events.
//!
//! ```text
//!   retirement R of origin O through 7      an event of its own, which the log replicates like any other
//!
//!   clock without O, includes R             its node had every event of O up to 7
//!   clock without O, does not include R     its node had no event of O
//!   clock with O = 9                        its node had every event of O up to 9, whether it includes R or not
//! ```
//!
//! A missing entry has one meaning on every node, because the clock itself says which retirements its node knew. Two
//! nodes can retire origins at the same time, and no number has to be agreed on.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{Dot, VectorClock};

/// The origins that were removed from the vector clocks of new events, and the events that removed them.
///
/// It is a handle: clones share the retirements.
#[derive(Debug, Clone, Default)]
pub struct RetiredOrigins(Arc<RwLock<Retirements>>);

/// For each retirement, the last event of each origin that it removes.
type Retirements = Arc<Vec<(Dot, VectorClock)>>;

impl RetiredOrigins {
    /// Replaces the retirements. For each one, `origins` is the last event of each origin that it removes. Its node had
    /// these events when it decided the retirement, and has had them since.
    pub fn set(&self, retirements: impl IntoIterator<Item = (Dot, VectorClock)>) {
        let retirements = Arc::new(retirements.into_iter().collect());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = retirements;
    }

    /// Returns the clock without the entries that every reader adds again, for an event whose node knows all
    /// retirements.
    #[must_use]
    pub fn compress(&self, clock: &VectorClock) -> VectorClock {
        let retirements = self.get();
        let is_implied = |dot: Dot| retirements.iter().any(|(_, origins)| origins.includes(dot));
        clock.iter().filter(|dot| !is_implied(*dot)).collect()
    }

    /// Returns everything that the node of an event had seen when it decided it: `seen` of its stamp, and the removed
    /// entries. `dot` is the identity of the event.
    ///
    /// Every retirement that the node of the event knew must be among these. It is, if the store has the event: a node
    /// stores an event after its causes.
    #[must_use]
    pub fn expand<'a>(&self, dot: Dot, seen: &'a VectorClock) -> Cow<'a, VectorClock> {
        let mut pending: Vec<_> = self.get().iter().cloned().collect();
        let mut expanded = Cow::Borrowed(seen);
        // The entry of the origin of a retirement may be removed itself, by a later retirement. The last one of them
        // is always found first.
        loop {
            let is_known = |retirement: Dot| {
                let is_own = retirement.origin == dot.origin && retirement.sequence < dot.sequence;
                is_own || expanded.includes(retirement)
            };
            let (known, unknown): (Vec<_>, Vec<_>) = pending.into_iter().partition(|(dot, _)| is_known(*dot));
            if known.is_empty() {
                return expanded;
            }
            for (_, origins) in known {
                expanded.to_mut().extend(origins.iter().filter(|last| last.origin != dot.origin));
            }
            pending = unknown;
        }
    }

    fn get(&self) -> Retirements {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
