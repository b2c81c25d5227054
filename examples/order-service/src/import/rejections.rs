//! [`Rejections`]: collects invalid orders, or fails at the first.

use std::collections::HashSet;

use crate::bad_input::BadInput;
use crate::domain::OrderId;

/// The orders and rows that were rejected so far.
#[derive(Debug)]
pub(super) struct Rejections {
    skip_bad: bool,
    rejected: Vec<Rejected>,
    orders: HashSet<OrderId>,
}

/// An order or a row that was not imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The order; `None` for a row without a valid order id.
    pub order: Option<OrderId>,
    /// The first error that was found.
    pub reason: BadInput,
}

impl Rejections {
    /// Creates an empty collection. With `skip_bad`, [`reject`](Self::reject) collects errors; else it returns them.
    pub(super) fn new(skip_bad: bool) -> Self {
        Self { skip_bad, rejected: Vec::new(), orders: HashSet::new() }
    }

    /// Rejects an order, or a row without a valid order id. Further errors of a rejected order are ignored.
    pub(super) fn reject(&mut self, order: Option<&OrderId>, reason: BadInput) -> Result<(), BadInput> {
        if !self.skip_bad {
            return Err(reason);
        }
        if order.is_none_or(|order| self.orders.insert(order.clone())) {
            self.rejected.push(Rejected { order: order.cloned(), reason });
        }
        Ok(())
    }

    /// Returns a valid value; rejects the order of an invalid one and returns `None`.
    pub(super) fn accept<T>(
        &mut self,
        order: Option<&OrderId>,
        value: Result<T, BadInput>,
    ) -> Result<Option<T>, BadInput> {
        match value {
            Ok(value) => Ok(Some(value)),
            Err(reason) => self.reject(order, reason).map(|()| None),
        }
    }

    /// Returns whether an order was rejected.
    pub(super) fn contains(&self, order: &OrderId) -> bool {
        self.orders.contains(order)
    }

    /// Returns the rejected orders and rows sorted by file and line, independent of the order of concurrent commands.
    pub(super) fn into_sorted(mut self) -> Vec<Rejected> {
        self.rejected.sort_by(|a, b| (&a.reason.file, a.reason.line).cmp(&(&b.reason.file, b.reason.line)));
        self.rejected
    }
}
