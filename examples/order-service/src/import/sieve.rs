//! [`Sieve`]: keeps bad orders out. It either stops at the first, or remembers each and lets the rest through.

use std::collections::HashSet;

use crate::bad_input::BadInput;
use crate::domain::OrderId;

/// What is done about bad input.
#[derive(Debug)]
pub(super) struct Sieve {
    skip: bool,
    rejected: Vec<Rejected>,
    orders: HashSet<OrderId>,
}

/// Something that was not imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The order, where that is known.
    pub order: Option<OrderId>,
    /// What is wrong with it: the first thing that was found.
    pub because: BadInput,
}

impl Sieve {
    /// One that remembers if `skip`, else one that stops.
    pub(super) fn new(skip: bool) -> Self {
        Self { skip, rejected: Vec::new(), orders: HashSet::new() }
    }

    /// Keeps something out: an order, once, or what belongs to no known order.
    pub(super) fn reject(&mut self, order: Option<&OrderId>, because: BadInput) -> Result<(), BadInput> {
        if !self.skip {
            return Err(because);
        }
        if order.is_none_or(|order| self.orders.insert(order.clone())) {
            self.rejected.push(Rejected { order: order.cloned(), because });
        }
        Ok(())
    }

    /// Lets a value through, or keeps its order out.
    pub(super) fn pass<T>(
        &mut self,
        order: Option<&OrderId>,
        value: Result<T, BadInput>,
    ) -> Result<Option<T>, BadInput> {
        match value {
            Ok(value) => Ok(Some(value)),
            Err(because) => self.reject(order, because).map(|()| None),
        }
    }

    /// Whether an order is kept out.
    pub(super) fn has_rejected(&self, order: &OrderId) -> bool {
        self.orders.contains(order)
    }

    /// Everything that was kept out, by file and line: the same for the same files, whatever came first.
    pub(super) fn into_rejected(mut self) -> Vec<Rejected> {
        self.rejected.sort_by(|a, b| (&a.because.file, a.because.line).cmp(&(&b.because.file, b.because.line)));
        self.rejected
    }
}
