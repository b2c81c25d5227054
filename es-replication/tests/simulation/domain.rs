//! The aggregate of the simulation: it remembers every event that was applied, and answers conflicts.

use es_core::prelude::*;
use es_core::{ConcurrentEvents, Resolve};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub(crate) enum TraceEvent {
    #[event(name = "noted")]
    Noted(u64),
    #[event(name = "answered")]
    Answered(u64, u64),
}

/// The numbers of all commands in the order of the fold, each with what depends on the order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "trace", id = u64, event = TraceEvent,
    consistency = "causal", conflict = "resolve", snapshot(every = 5)
)]
pub(crate) struct Trace {
    pub(crate) applied: Vec<(u64, u64, Vec<String>)>,
    /// The answered conflicts, each with the lower number first.
    pub(crate) answered: Vec<(u64, u64)>,
}

impl Evolve for Trace {
    fn initial(_: &u64) -> Self {
        Self { applied: Vec::new(), answered: Vec::new() }
    }

    fn evolve(&mut self, event: &TraceEvent, at: &EventContext<'_>) {
        match event {
            TraceEvent::Noted(number) => {
                let concurrent = at.concurrent_with().iter().map(ToString::to_string).collect();
                self.applied.push((*number, at.revision().get(), concurrent));
            }
            TraceEvent::Answered(one, other) => self.answered.push((*one.min(other), *one.max(other))),
        }
    }
}

impl Trace {
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.applied.iter().map(|(number, ..)| *number)
    }
}

/// Returns whether conflicts of an event are answered. Commands with an odd number have no id and one event, so their
/// number identifies the event. Half of them are enough: the number of conflicts is quadratic.
pub(crate) const fn is_resolved(number: u64) -> bool {
    number % 4 == 1
}

impl Resolve for Trace {
    /// Does not consult the state: a conflict that is found twice is answered twice.
    fn resolve(&self, conflict: &ConcurrentEvents<'_, Self>) -> Decision<Self> {
        let (TraceEvent::Noted(earlier), TraceEvent::Noted(later)) = (conflict.earlier(), conflict.later()) else {
            panic!("an answer takes part in no conflict")
        };
        let answer = TraceEvent::Answered(*earlier, *later);
        (is_resolved(*earlier) && is_resolved(*later)).then_some(answer).into()
    }
}

#[derive(Clone, Serialize)]
pub(crate) struct Note(pub u64);

impl Decide<Note> for Trace {
    type Rejection = std::convert::Infallible;

    fn decide(&self, Note(number): Note, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        // Two events: a commit must arrive whole.
        let events = if number % 4 == 0 { 2 } else { 1 };
        Ok((0..events).map(|_| TraceEvent::Noted(number)).collect())
    }
}
