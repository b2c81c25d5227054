//! [`Resolve`]: answers events that two nodes appended to one aggregate without knowing of each other.

use std::convert::Infallible;
use std::sync::Arc;

use crate::aggregate::{Aggregate, CommandContext, Decide, Decision, Evolve};
use crate::schema::Events;

/// Answers the conflicts of an aggregate with events. `#[aggregate(conflict = "resolve")]` requires it.
///
/// A [`Resolver`](crate::Resolver) calls it on every node, for each pair of conflicting events that the node has.
///
/// ```
/// # use es_core::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
/// # enum OrderEvent {
/// #     #[event(name = "item-added")] ItemAdded(String),
/// #     #[event(name = "cancelled")] Cancelled,
/// #     #[event(name = "reopened")] Reopened,
/// # }
/// use es_core::{ConcurrentEvents, Resolve};
///
/// #[derive(Clone, Aggregate)]
/// #[aggregate(category = "order", id = u64, event = OrderEvent, consistency = "causal", conflict = "resolve")]
/// struct Order {
///     is_cancelled: bool,
/// }
/// # impl Evolve for Order {
/// #     fn initial(_: &u64) -> Self { Self { is_cancelled: false } }
/// #     fn evolve(&mut self, event: &OrderEvent, _: &EventContext<'_>) {
/// #         match event {
/// #             OrderEvent::ItemAdded(_) => {}
/// #             OrderEvent::Cancelled => self.is_cancelled = true,
/// #             OrderEvent::Reopened => self.is_cancelled = false,
/// #         }
/// #     }
/// # }
///
/// impl Resolve for Order {
///     /// The customer who added an item did not know that the order was cancelled, and wants the order.
///     fn resolve(&self, conflict: &ConcurrentEvents<'_, Self>) -> Decision<Self> {
///         use OrderEvent::{Cancelled, ItemAdded, Reopened};
///         match (conflict.earlier(), conflict.later()) {
///             (Cancelled, ItemAdded(_)) | (ItemAdded(_), Cancelled) if self.is_cancelled => Reopened.into(),
///             _ => Decision::none(),
///         }
///     }
/// }
///
/// let (cancelled, added) = (OrderEvent::Cancelled, OrderEvent::ItemAdded("tea".to_owned()));
/// let order = Order { is_cancelled: true };
/// assert_eq!(order.resolve(&ConcurrentEvents::new(&7, &added, &cancelled)).events(), [OrderEvent::Reopened]);
/// let order = Order { is_cancelled: false };
/// assert!(order.resolve(&ConcurrentEvents::new(&7, &added, &cancelled)).events().is_empty());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer its conflicts",
    label = "no `Resolve`",
    note = "write `impl es_core::Resolve for {Self} {{ fn resolve(&self, conflict: &es_core::ConcurrentEvents<'_, \
            Self>) -> es_core::Decision<Self> {{ ... }} }}`, or declare `conflict = \"canonical\"` if the state that \
            follows from the events in canonical order is right, or `conflict = \"crdt\"` if each field of the state \
            is a CRDT"
)]
pub trait Resolve: Evolve {
    /// Returns the events that answer a conflict, or [`Decision::none`].
    ///
    /// `self` is the current state on this node: it has both events of the conflict, and perhaps the answers to other
    /// conflicts. Answer what the state still needs. If three items were added while the order was cancelled, each pair
    /// is a conflict of its own, and the order needs to be reopened once.
    ///
    /// The result must depend only on the state and the conflict. Several nodes may answer one conflict before they
    /// know of each other, also from different states, because one of them lacks an event. The answer that is first in
    /// canonical order then counts on all nodes; the fold skips the others.
    ///
    /// The answers to two conflicts can both count, also if they have one cause: two nodes may answer them before they
    /// know of each other. An answer must therefore be harmless when it is repeated: reopen the order, but do not
    /// refund an amount.
    ///
    /// It is called again on fresh state if another writer was faster.
    fn resolve(&self, conflict: &ConcurrentEvents<'_, Self>) -> Decision<Self>;
}

/// Two events of one aggregate that two nodes appended without knowing of each other.
#[derive(Debug)]
pub struct ConcurrentEvents<'a, A: Aggregate> {
    id: &'a A::Id,
    earlier: &'a A::Event,
    later: &'a A::Event,
}

impl<'a, A: Aggregate> ConcurrentEvents<'a, A> {
    /// Returns the conflict of two events, of which the first precedes the second in canonical order. For tests of
    /// [`Resolve::resolve`].
    #[must_use]
    pub const fn new(id: &'a A::Id, earlier: &'a A::Event, later: &'a A::Event) -> Self {
        Self { id, earlier, later }
    }

    /// Returns the id of the aggregate.
    #[must_use]
    pub const fn id(&self) -> &'a A::Id {
        self.id
    }

    /// Returns the event that precedes the other one in canonical order, which is the same on every node.
    #[must_use]
    pub const fn earlier(&self) -> &'a A::Event {
        self.earlier
    }

    /// Returns the event that follows the other one in canonical order.
    #[must_use]
    pub const fn later(&self) -> &'a A::Event {
        self.later
    }
}

/// The command that answers the conflict of two recorded events. An upcaster may decode a record as several events or
/// none: each pair is resolved.
pub(crate) struct AnswerConflict<A: Aggregate> {
    pub(crate) earlier: Arc<Events<A::Event>>,
    pub(crate) later: Arc<Events<A::Event>>,
}

impl<A: Aggregate> Clone for AnswerConflict<A> {
    fn clone(&self) -> Self {
        Self { earlier: Arc::clone(&self.earlier), later: Arc::clone(&self.later) }
    }
}

impl<A: Resolve> AnswerConflict<A> {
    /// Returns the answer to the conflict in a state.
    pub(crate) fn answer(&self, id: &A::Id, state: &A) -> Decision<A> {
        let mut events = Vec::new();
        for earlier in self.earlier.as_slice() {
            for later in self.later.as_slice() {
                events.extend(state.resolve(&ConcurrentEvents { id, earlier, later }).into_events());
            }
        }
        events.into()
    }
}

impl<A: Resolve> Decide<AnswerConflict<A>> for A {
    type Rejection = Infallible;

    fn decide(&self, command: AnswerConflict<A>, at: &CommandContext<'_, A>) -> Result<Decision<A>, Infallible> {
        Ok(command.answer(at.id(), self))
    }
}
