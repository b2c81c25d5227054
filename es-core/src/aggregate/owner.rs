//! [`Owned`]: a replicated aggregate of which one node decides each stream.

use std::fmt;

use crate::aggregate::Aggregate;
use crate::model::Causal;

/// A causal aggregate of which one node, the home, decides each stream. `#[aggregate(owner)]` implements it.
///
/// Commands on another node fail with [`NotOwner`](crate::store::NotOwner). The crate es-replication forwards commands
/// to the home, and hands streams over.
#[diagnostic::on_unimplemented(
    message = "every node decides on commands to `{Self}`",
    label = "not an owned aggregate",
    note = "add `owner` to `#[aggregate(..., consistency = \"causal\", owner)]` of `{Self}`, so that one node decides \
            each of its streams"
)]
pub trait Owned: Aggregate<Level = Causal> {}

/// How the first home of an aggregate is chosen. A stream can be handed over later.
pub enum Ownership<A: Aggregate> {
    /// The node that writes the first event. Two nodes must not create one aggregate: ids are chosen at random, or one
    /// node creates all.
    FirstWriter,
    /// The node with the name that the function returns for the id. No other node can create the aggregate.
    ById(fn(&A::Id) -> String),
}

impl<A: Aggregate> Ownership<A> {
    /// Returns the name of the only node that can create an aggregate; `None` if every node can.
    #[must_use]
    pub fn creator(&self, id: &A::Id) -> Option<String> {
        match self {
            Self::FirstWriter => None,
            Self::ById(home_of) => Some(home_of(id)),
        }
    }
}

impl<A: Aggregate> fmt::Debug for Ownership<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstWriter => "FirstWriter",
            Self::ById(_) => "ById",
        })
    }
}
