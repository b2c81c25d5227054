//! The domain of the test: a counter.

use es_core::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "added")]
pub(crate) struct Added {
    amount: u32,
}

#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "counter", id = u32, event = Added)]
pub(crate) struct Counter {
    pub(crate) sum: u32,
}

impl Evolve for Counter {
    fn initial(_: &u32) -> Self {
        Self { sum: 0 }
    }

    fn evolve(&mut self, event: &Added, _: &EventContext<'_>) {
        self.sum += event.amount;
    }
}

/// Adds an amount from 1 to 9.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Add {
    amount: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("expected an amount from 1 to 9, found {0}")]
pub(crate) struct NotADigit(u32);

impl Decide<Add> for Counter {
    type Rejection = NotADigit;

    fn decide(&self, Add { amount }: Add, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, NotADigit> {
        if !(1..10).contains(&amount) {
            return Err(NotADigit(amount));
        }
        Ok(Added { amount }.into())
    }
}
