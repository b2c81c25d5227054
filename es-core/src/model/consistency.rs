//! [`Consistency`]: what an aggregate asks of the store that keeps it, in its one declaration.

use std::fmt;

/// How strongly the copies of an aggregate on several nodes agree.
///
/// The level is declared with `#[aggregate(consistency = "...")]` and carried by
/// [`Aggregate::CONSISTENCY`](crate::Aggregate::CONSISTENCY). A store on one node gives every level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// One node decides, and only it has the aggregate.
    #[default]
    Local,
    /// Every node decides; each sees effects after their causes, and all converge.
    Causal,
    /// Every node decides; all converge, in no promised order.
    Eventual,
    /// All nodes see one order, perhaps late.
    Sequential,
    /// All nodes see one order, at once: as if there were one copy.
    Linearizable,
}

impl Consistency {
    /// Every level, as declared.
    pub const ALL: [Self; 5] = [Self::Local, Self::Causal, Self::Eventual, Self::Sequential, Self::Linearizable];

    /// The level as it is declared.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Causal => "causal",
            Self::Eventual => "eventual",
            Self::Sequential => "sequential",
            Self::Linearizable => "linearizable",
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
