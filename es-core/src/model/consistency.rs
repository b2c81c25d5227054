//! Consistency levels: the types that implement [`Level`], and the enum [`Consistency`] of their values. The answer of
//! a level without one order to conflicts: [`ConflictAnswer`].

use std::fmt;

/// The agreement between the copies of an aggregate on several nodes, as a value.
///
/// An aggregate declares the type with the same name, for example [`Causal`], and trait bounds use it. A store on one
/// node supports every level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// The value of [`Local`].
    #[default]
    Local,
    /// The value of [`Causal`].
    Causal,
    /// The value of [`Eventual`].
    Eventual,
    /// The value of [`Sequential`].
    Sequential,
    /// The value of [`Linearizable`].
    Linearizable,
}

impl Consistency {
    /// All levels, in the order of the variants.
    pub const ALL: [Self; 5] = [Self::Local, Self::Causal, Self::Eventual, Self::Sequential, Self::Linearizable];

    /// Returns `true` if the streams of the level have [one order](OneOrder).
    #[must_use]
    pub const fn has_one_order(self) -> bool {
        match self {
            Self::Local | Self::Sequential | Self::Linearizable => true,
            Self::Causal | Self::Eventual => false,
        }
    }

    /// Returns the name of the level in `#[aggregate(consistency = "...")]`.
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

/// The answer of an aggregate to conflicts, as a value.
///
/// Two events of an aggregate conflict if two nodes appended them without knowing of each other. Both events stay, and
/// every node folds them in canonical order. The declaration of a [`Causal`] aggregate states whether that is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConflictAnswer {
    /// The state that follows from the events in canonical order is right, and nothing is appended.
    Canonical,
    /// [`Resolve`](crate::Resolve) answers each conflict with events or none.
    Resolve,
    /// Each field of the state is a [`Crdt`](crate::Crdt), so the state is the same in whatever order the events are
    /// applied, and nothing is appended.
    Crdt,
}

/// A consistency level as a type, so that a bound can require it.
///
/// [`Aggregate::Level`](crate::Aggregate::Level) is the weakest level that the code of the aggregate tolerates. The
/// trait is sealed: [`Local`], [`Causal`], [`Eventual`], [`Sequential`] and [`Linearizable`] implement it.
pub trait Level: sealed::Sealed + Send + Sync + 'static {
    /// The level as a value.
    const CONSISTENCY: Consistency;
    /// The order in which a node receives the events of a stream: [`SingleOrder`] for a level with
    /// [one order](OneOrder), otherwise [`CanonicalOrder`].
    type Order: EventOrder;
}

/// A level whose streams have one order: revision 3 of a stream is the same event on every node.
///
/// Implemented by [`Local`], [`Sequential`] and [`Linearizable`]. Every operation that names a revision, or that checks
/// a condition over all nodes, requires it: loading at a revision, a command at a revision, unique keys, append
/// conditions.
#[diagnostic::on_unimplemented(
    message = "the level `{Self}` has no single order of events",
    label = "not available for an aggregate that is `{Self}`",
    note = "a revision of such an aggregate does not mean the same event on every node, and no node sees every event \
            when it decides: use `at_version`, or put the key or the condition into an aggregate that is declared with \
            `consistency = \"linearizable\"`"
)]
pub trait OneOrder: Level {}

/// The order in which a consumer receives the events of a source, as a type. The trait is sealed: [`SingleOrder`] and
/// [`CanonicalOrder`] implement it.
#[diagnostic::on_unimplemented(
    message = "the source of a view of states has no order of events",
    label = "not available for a `StateView`",
    note = "a `StateView` reads stored states: run it in the background with a `Supervisor`, or load the aggregate"
)]
pub trait EventOrder: sealed::Sealed + Send + Sync + 'static {
    /// The order of the events of two sources together: [`SingleOrder`] only if both have it.
    type And<O: EventOrder>: EventOrder;
}

/// No event arrives late: a consumer receives the events of each stream in the order in which they are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SingleOrder;

/// Events can arrive late: they are folded in canonical order, and a consumer can receive an event after events that
/// follow it in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CanonicalOrder;

impl sealed::Sealed for SingleOrder {}
impl sealed::Sealed for CanonicalOrder {}

impl EventOrder for SingleOrder {
    type And<O: EventOrder> = O;
}

impl EventOrder for CanonicalOrder {
    type And<O: EventOrder> = Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! levels {
    ($($(#[$doc:meta])* $level:ident, $order:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $level;

        impl sealed::Sealed for $level {}

        impl Level for $level {
            const CONSISTENCY: Consistency = Consistency::$level;
            type Order = $order;
        }
    )*};
}

levels! {
    /// One node decides, and only that node has the aggregate.
    Local, SingleOrder;
    /// Every node decides. Each node sees effects after their causes, and all copies converge.
    Causal, CanonicalOrder;
    /// Every node decides. All copies converge; events may arrive in any order.
    Eventual, CanonicalOrder;
    /// All nodes see the events in one order. A node may see them late.
    Sequential, SingleOrder;
    /// All nodes see the events in one order, and a read sees every write that was acknowledged before the read began.
    Linearizable, SingleOrder;
}

impl OneOrder for Local {}
impl OneOrder for Sequential {}
impl OneOrder for Linearizable {}
