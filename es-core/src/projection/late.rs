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
    /// How it handles them: [`Arrival`].
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

impl sealed::SealedMode for Arrival {}
impl LateEventsMode for Arrival {}

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
            state of the aggregate"
)]
pub trait AcceptsOrder<O>: sealed::Accepts<O> {}

impl<P: Projection> AcceptsOrder<SingleOrder> for P {}
impl<P: HandlesLateEvents> AcceptsOrder<CanonicalOrder> for P {}

pub(super) mod sealed {
    use super::{CanonicalOrder, HandlesLateEvents, Projection, SingleOrder};

    pub trait SealedMode {}

    pub trait Accepts<O> {}

    impl<P: Projection> Accepts<SingleOrder> for P {}
    impl<P: HandlesLateEvents> Accepts<CanonicalOrder> for P {}
}
