//! The domain of the tests.

use es_core::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "added")]
pub(crate) struct Added {
    pub(crate) amount: u32,
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

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Add {
    pub(crate) amount: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("counter {id}: expected an amount from 1 to 9, found {amount}")]
pub(crate) struct NotADigit {
    pub(crate) id: u32,
    pub(crate) amount: u32,
}

impl Decide<Add> for Counter {
    type Rejection = NotADigit;

    fn decide(&self, Add { amount }: Add, context: &CommandContext<'_, Self>) -> Result<Decision<Self>, NotADigit> {
        if !(1..10).contains(&amount) {
            return Err(NotADigit { id: *context.id(), amount });
        }
        Ok(Added { amount }.into())
    }
}
