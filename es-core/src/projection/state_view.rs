//! [`StateView`]: a view with one row for each aggregate, computed from its state.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::aggregate::source::SourceEvents;
use crate::aggregate::{Aggregate, Evolve, Source};
use crate::model::{RecordedEvent, StreamId};
use crate::projection::late::{AcceptsOrder, sealed};
use crate::projection::states::StateLoader;
use crate::projection::view::{View, ViewKey};
use crate::projection::{ApplyError, ProjectedContext, Projection, Rows};
use crate::retention::Erasure;
use crate::schema::DecodeEventError;
use crate::store::Query;

/// A view with one row for each aggregate: the row is a function of the state of the aggregate.
///
/// Every state view is a [`Projection`] with the name of its [`VIEW`](Self::VIEW). It is registered, read, paused and
/// rebuilt like any other. For an event it loads the aggregate and writes its row, so nodes with equal events have
/// equal rows, also after late events. It can follow an aggregate of any level.
///
/// # Cost
/// One load of the aggregate for each aggregate in a batch of events. Each partition of the projection caches the last
/// 1,024 states, and a load reads the events after the cached state. It cannot run inline or as a
/// [`Live`](crate::projection::Live) view.
///
/// An aggregate whose events cannot be folded parks its key, like an event that cannot be applied. This includes an
/// aggregate of which a retention rule hides events that its state needs.
///
/// A row changes with the next event of its aggregate only. If the subject of personal data in a row is erased, the row
/// keeps the data until then: rebuild the view, or keep personal data out of it.
///
/// ```
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
/// # enum TaskEvent {
/// #     #[event(name = "task-renamed")] Renamed(String),
/// #     #[event(name = "task-done")] Done,
/// # }
/// # #[derive(Clone, Aggregate)]
/// # #[aggregate(category = "task", id = u64, event = TaskEvent, consistency = "causal", conflict = "canonical")]
/// # struct Task { title: String, is_done: bool }
/// # impl Evolve for Task {
/// #     fn initial(_: &u64) -> Self { Self { title: String::new(), is_done: false } }
/// #     fn evolve(&mut self, event: &TaskEvent, _: &EventContext<'_>) {
/// #         match event {
/// #             TaskEvent::Renamed(title) => self.title.clone_from(title),
/// #             TaskEvent::Done => self.is_done = true,
/// #         }
/// #     }
/// # }
/// use es_core::prelude::*;
/// use es_core::projection::StateView;
/// use es_core::projection::view::View;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct OpenTask {
///     title: String,
/// }
///
/// struct OpenTasks;
///
/// impl StateView for OpenTasks {
///     type Aggregate = Task;
///     type Row = OpenTask;
///     const VIEW: View<u64, OpenTask> = View::new("open-tasks");
///
///     fn row(task: &Task) -> Option<OpenTask> {
///         (!task.is_done).then(|| OpenTask { title: task.title.clone() })
///     }
/// }
///
/// es_core::testing::given_events()
///     .of::<Task>(1, [TaskEvent::Renamed("Call Ada".into())])
///     .of::<Task>(2, [TaskEvent::Renamed("Write to Ada".into()), TaskEvent::Done])
///     .project(OpenTasks)
///     .then(|views| {
///         assert_eq!(views.view(&OpenTasks::VIEW).get(&1), Some(OpenTask { title: "Call Ada".into() }));
///         assert_eq!(views.view(&OpenTasks::VIEW).get(&2), None);
///     });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a projection nor a state view",
    label = "not a projection",
    note = "implement `Projection`, or `StateView` for a view with one row for each aggregate"
)]
pub trait StateView: Send + Sync + 'static {
    /// The aggregate. Its id is the key of the row.
    type Aggregate: Evolve<Id: ViewKey>;

    /// The row.
    type Row: 'static;

    /// The view. Its name is also the name of the projection, and must not change.
    const VIEW: View<<Self::Aggregate as Aggregate>::Id, Self::Row>;

    /// The version of the view: [`Projection::VERSION`]. Increment it when [`row`](Self::row) or the fold of the
    /// aggregate changes.
    const VIEW_VERSION: u32 = 1;

    /// Returns the row of an aggregate with this state, or `None` if it has no row. Must depend on the state only.
    fn row(state: &Self::Aggregate) -> Option<Self::Row>;
}

/// The source of a [`StateView`]: the events of one aggregate, not decoded.
#[derive(Debug)]
pub struct StateOf<A>(PhantomData<fn() -> A>);

/// The order of the events of [`StateOf`]: none, because each row is computed from the current state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CurrentState;

impl<A: Aggregate> Source for StateOf<A> {
    type Event = RecordedEvent;
    type Order = CurrentState;

    fn query() -> Query {
        A::query()
    }

    fn decode(record: &RecordedEvent) -> Result<SourceEvents<'_, Self::Event>, DecodeEventError> {
        Ok(SourceEvents::Record(record))
    }
}

impl<V: StateView> Projection for V {
    type Source = StateOf<V::Aggregate>;
    const NAME: &'static str = V::VIEW.name();
    const VERSION: u32 = V::VIEW_VERSION;

    fn apply(&self, event: &RecordedEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        write_row::<V>(&event.stream, rows)
    }

    fn erased(&self, erasure: &Erasure, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        // The stream may have been written again after its deletion.
        let stream = erasure.stream().filter(|stream| V::Aggregate::id_of(stream).is_some());
        stream.map_or(Ok(()), |stream| write_row::<V>(stream, rows))
    }
}

impl<V: StateView> sealed::Accepts<CurrentState> for V {}
impl<V: StateView> AcceptsOrder<CurrentState> for V {}

/// Writes the row of the aggregate with this stream, or removes it.
fn write_row<V: StateView>(stream: &StreamId, rows: &mut Rows) -> Result<(), ApplyError> {
    let state = rows.state(stream, StateLoader::of::<V::Aggregate>())?;
    let state: Option<Arc<V::Aggregate>> = state.and_then(|state| state.downcast().ok());
    let Some(id) = V::Aggregate::id_of(stream) else { return Ok(()) };
    let view = V::VIEW;
    let mut rows = rows.view(&view)?;
    match state.and_then(|state| V::row(&state)) {
        Some(row) => rows.put(&id, &row),
        None => rows.delete(&id),
    }
}
