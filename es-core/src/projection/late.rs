//! [`HandlesLateEvents`]: how a projection handles events that arrive late, and [`AcceptsOrder`], which every
//! registration of a projection requires.

use crate::model::{CanonicalOrder, SingleOrder};
use crate::projection::Projection;

/// Declares how a projection handles late events: events of a replicated aggregate that arrive on this node after
/// events that follow them in canonical order.
///
/// A projection whose source has such an aggregate (level `causal` or `eventual`) cannot be registered without it. A
/// [`StateView`](crate::projection::StateView) needs no declaration: its rows do not depend on the order of events.
///
/// ```
/// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, es_core::Event)]
/// # #[event(name = "task-done")]
/// # struct TaskDone;
/// use es_core::prelude::*;
/// use es_core::projection::view::View;
/// use es_core::projection::{Arrival, HandlesLateEvents};
/// use es_core::testing::given_events;
///
/// #[derive(Clone, Aggregate)]
/// #[aggregate(category = "task", id = u64, event = TaskDone, consistency = "causal", conflict = "canonical")]
/// struct Task;
///
/// const DONE: View<(), u64> = View::new("done");
///
/// struct DoneTasks;
///
/// impl Projection for DoneTasks {
///     type Source = Task;
///     const NAME: &'static str = "done-tasks";
///
///     fn apply(&self, _: &TaskDone, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
///         rows.view(&DONE)?.update(&(), |done| *done += 1)
///     }
/// }
///
/// impl HandlesLateEvents for DoneTasks {
///     type Mode = Arrival;
/// }
///
/// // The test of the declaration: fails if two orders of arrival give different rows.
/// given_events()
///     .on_node("paris").of::<Task>(1, [TaskDone])
///     .on_node("oslo").of::<Task>(1, [TaskDone])
///     .project_in_any_order(DoneTasks)
///     .then(|views| assert_eq!(views.view(&DONE).get(&()), Some(2)));
/// ```
pub trait HandlesLateEvents: Projection {
    /// How it handles them: [`Arrival`] or [`Settled`].
    type Mode: LateEventsMode;
}

/// How a projection [handles late events](HandlesLateEvents). The trait is sealed.
pub trait LateEventsMode: sealed::SealedMode + 'static {}

/// Events are applied in the order of their arrival, which differs between nodes.
///
/// `apply` must therefore commute: it gives the same rows for concurrent events in every order, for example because it
/// counts or inserts. It must not use position, revision and recorded time, which are numbers of one node. The events
/// of a command that two nodes executed under one id are applied twice.
///
/// [`GivenEvents::project_in_any_order`](crate::testing::GivenEvents::project_in_any_order) tests it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arrival;

impl sealed::SealedMode for Arrival {
    const IS_SETTLED: bool = false;
}
impl LateEventsMode for Arrival {}

/// Events are applied in canonical order, which is the same on every node, up to the *settled time* of the node: the
/// hybrid time up to which the node has the events of all members. So nodes with equal settled times have equal rows,
/// whatever `apply` does. On a store without a replica this is the order of the log.
///
/// # What differs from other projections
/// - The view is as old as the oldest promise of a member, and stops while a member cannot be reached:
///   [`ProjectionStatus::settled`](crate::projection::ProjectionStatus::settled) names that member.
///   [`wait_for`](crate::projection::ProjectionHandle::wait_for) a position waits until its event is settled, so a
///   client that reads its own write waits for an answer of every member.
/// - It has one worker: events of all keys are applied in one order.
///   [`ProjectionOptions::partitions`](crate::projection::ProjectionOptions::partitions) has no effect.
/// - The checkpoint is a place in canonical order. Its position in the log is the one before the first event that is
///   not applied yet.
/// - A rebuild begins with the first event, whatever
///   [`RebuildFrom`](crate::projection::RebuildFrom) names. The view is also rebuilt when its store becomes a replica.
/// - An event of another level in the source, which only this node has, is applied at its recorded time. An
///   [erasure](crate::projection::Projection::erased) is applied at once, unless it follows such an event that is not
///   settled yet.
/// - The events of a command that two nodes executed under one id are applied twice.
///
/// An event that arrives below the settled time is skipped and counted, and the view is rebuilt. This happens only if a
/// member was restored from an old backup, if a node begins to replicate older events, or if a filter becomes wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settled;

impl sealed::SealedMode for Settled {
    const IS_SETTLED: bool = true;
}
impl LateEventsMode for Settled {}

/// A projection that can be registered for a source with the order `O`.
///
/// Implemented for every [`Projection`] whose source has [`SingleOrder`], for those that implement
/// [`HandlesLateEvents`], and for every [`StateView`](crate::projection::StateView). A function that registers any
/// projection has the bound `P: Projection + AcceptsOrder<OrderOf<P::Source>>`.
#[diagnostic::on_unimplemented(
    message = "the projection `{Self}` does not handle late events",
    label = "its source has no single order of events",
    note = "events of a `causal` or `eventual` aggregate can arrive late from other nodes: if `apply` gives the same \
            rows in every order, write `impl HandlesLateEvents for {Self} {{ type Mode = Arrival; }}` and test it with \
            `given_events().project_in_any_order(..)`; otherwise implement `StateView`, which writes a row from the \
            state of the aggregate, or use `type Mode = Settled`, which applies events in canonical order after a delay"
)]
pub trait AcceptsOrder<O>: sealed::Accepts<O> {}

impl<P: Projection> AcceptsOrder<SingleOrder> for P {}
impl<P: HandlesLateEvents> AcceptsOrder<CanonicalOrder> for P {}

pub(super) mod sealed {
    use super::{CanonicalOrder, HandlesLateEvents, Projection, SingleOrder};

    pub trait SealedMode {
        const IS_SETTLED: bool;
    }

    pub trait Accepts<O> {
        /// Whether events are applied in canonical order, up to the settled time.
        const IS_SETTLED: bool = false;
    }

    impl<P: Projection> Accepts<SingleOrder> for P {}
    impl<P: HandlesLateEvents> Accepts<CanonicalOrder> for P {
        const IS_SETTLED: bool = <P::Mode as SealedMode>::IS_SETTLED;
    }
}
