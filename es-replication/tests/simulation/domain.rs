//! The aggregate of the simulation: it remembers every event that was applied.

use es_core::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "noted")]
pub(crate) struct Noted(pub u64);

/// The numbers of all commands in the order of the fold, each with what depends on the order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "trace", id = u64, event = Noted, consistency = "causal", snapshot(every = 5))]
pub(crate) struct Trace {
    pub(crate) applied: Vec<(u64, u64, Vec<String>)>,
}

impl Evolve for Trace {
    fn initial(_: &u64) -> Self {
        Self { applied: Vec::new() }
    }

    fn evolve(&mut self, Noted(number): &Noted, at: &EventContext<'_>) {
        let concurrent = at.concurrent_with().iter().map(ToString::to_string).collect();
        self.applied.push((*number, at.revision().get(), concurrent));
    }
}

impl Trace {
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.applied.iter().map(|(number, ..)| *number)
    }
}

#[derive(Clone, Serialize)]
pub(crate) struct Note(pub u64);

impl Decide<Note> for Trace {
    type Rejection = std::convert::Infallible;

    fn decide(&self, Note(number): Note, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        // Two events: a commit must arrive whole.
        Ok(if number % 4 == 0 { vec![Noted(number), Noted(number)].into() } else { Noted(number).into() })
    }
}
