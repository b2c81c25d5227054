//! Projections: read models that follow the log.
//!
//! ```text
//!                 +--> apply --> rows that change ---+
//!   log --batch---+                                  +--> one Commit: rows and checkpoint together
//!                 +--> checkpoint -------------------+
//! ```
//!
//! A [`Projection`] is a synchronous function from an event and the rows that it reads to the rows that change. The
//! same projection can run in the background, [in the commit of the events](crate::projection::inline), or [on
//! demand](Live). Typed [views](crate::projection::view) are the usual way to read and write rows.
//!
//! Events of replicated aggregates can arrive late. A projection of such an aggregate [states how it handles
//! them](HandlesLateEvents). A [`StateView`] computes each row from the state of an aggregate instead of from its
//! events.
//!
//! A [`Supervisor`] runs projections in the background. A [`ProjectionAdmin`] pauses, resets and rebuilds a projection
//! and handles events that could not be applied, from any process that has the store open. [`metrics`] lists the
//! metrics.
//!
//! Not in this module: effects outside of the store (see [`consumer::reactor`](crate::consumer::reactor)), HTTP, SQL. A
//! view in another database follows a [`Subscription`](crate::Subscription).

mod apply;
mod checkpoint;
mod context;
mod generation;
pub mod inline;
pub(crate) mod inspect;
mod kept;
mod late;
mod live;
mod reset;
mod rows;
mod settled;
mod state_view;
mod states;
mod tables;
pub mod view;
mod worker;

pub use crate::consumer::{ShutdownError, StartError, WaitError};
pub use crate::model::reserved::AUDIT_STREAM_PREFIX;
pub use apply::{ApplyFailure, UnknownEvents};
pub(crate) use apply::{ApplyOutcome, BatchApplier, Pass};
pub(crate) use checkpoint::{
    Checkpoint, applied, checkpoint, checkpoint_key, checkpoint_prefix, checkpoints_table, partition_of,
};
pub use context::ProjectedContext;
pub(crate) use generation::{Build, Generations, active, check_name, generations, generations_table, table};
pub use generation::{Generation, MAX_PROJECTION_NAME_BYTES};
pub use late::{AcceptsOrder, Arrival, HandlesLateEvents, LateEventsMode, Settled};
pub use live::{Live, LiveError, LiveEvents};
pub use reset::{FollowersReset, reset_followers};
pub(crate) use rows::Missing;
pub use rows::{ApplyError, Rows};
pub use state_view::{CurrentState, StateOf, StateView};
pub(crate) use tables::remove_projection;
pub(crate) use tables::{GenerationTables, remove_generation, view_tables};
pub use worker::{
    AdminError, LastError, MAX_PARTITIONS, ParkedEvent, ParkedKey, ProjectionAdmin, ProjectionHandle,
    ProjectionOptions, ProjectionState, ProjectionStatus, RebuildErrors, RebuildFrom, RebuildStatus,
    RunningProjections, SettledStatus, Supervisor, metrics,
};
pub(crate) use worker::{count_parked, is_any_parked, worker_rows};

use crate::aggregate::{EventOf, Source};
use crate::model::RecordedEvent;
use crate::retention::Erasure;
use crate::store::Query;

/// A read model: a function of one event and of the rows that it reads.
///
/// `apply` must depend only on its arguments: no clock, no I/O, no randomness, no state in `self`. It may be called
/// several times for one event, until all rows that it reads are loaded; its changes are applied once. Effects outside
/// of the view belong in a [reactor](crate::consumer::reactor), because a rebuild calls `apply` again for all events.
pub trait Projection: Send + Sync + 'static {
    /// The source of the events: one aggregate, a tuple of aggregates, or [`RawEvents`](crate::aggregate::RawEvents).
    type Source: Source;

    /// The name under which the rows and the checkpoint are stored. It must not change.
    const NAME: &'static str;

    /// The version of the view. Increment it with every change that makes old rows wrong. A new view is then built, and
    /// replaces the old one when it has caught up.
    const VERSION: u32 = 1;

    /// Returns the query that selects the events. The default is [`Source::query`]; override it to select a part of the
    /// source, such as the events with a tag.
    fn query(&self) -> Query {
        Self::Source::query()
    }

    /// Returns the policy for events that [`query`](Self::query) selects and the source does not know. By default they
    /// fail.
    fn unknown_events(&self) -> UnknownEvents {
        UnknownEvents::Fail
    }

    /// Returns the ordering key of an event. Events with the same key are applied in order; if one fails, the later
    /// events with that key wait. The default is the name of the stream.
    fn key(&self, event: &RecordedEvent) -> String {
        event.stream.as_str().to_owned()
    }

    /// Applies one event to the rows.
    ///
    /// # Errors
    /// [`ApplyError`] if the event cannot be applied. All changes of this call are discarded.
    fn apply(
        &self,
        event: &EventOf<Self::Source>,
        context: &ProjectedContext<'_>,
        rows: &mut Rows,
    ) -> Result<(), ApplyError>;

    /// Deletes what the rows contain of erased content: the rows of a deleted stream, or the personal data of an erased
    /// subject. It is called once for each erasure, in the order of the log, in every mode and in rebuilds.
    ///
    /// A projection receives the deletions of all streams in the categories of its query, and the erasures of all
    /// subjects. The rows may not exist, because the projection may never have received the erased events. The
    /// [key](Self::key) of an erasure is the name of the deleted stream or of the erased subject.
    ///
    /// The default does nothing. The view then keeps what it contains of a deleted stream until it is rebuilt: a
    /// rebuild does not receive the events of a deleted stream. Those of a replicated stream stay in the log, so a
    /// rebuild receives them, too.
    ///
    /// A [deletion](crate::retention::ReplicatedDeletion) of a replicated stream keeps the events that other nodes
    /// appended without knowing of it. If this method changes a row, those of them that the projection has applied are
    /// applied again afterwards. So delete everything that the rows contain of the stream, or nothing.
    ///
    /// # Errors
    /// [`ApplyError`] if the erasure cannot be applied. It is treated like an event that cannot be applied.
    fn erased(&self, erasure: &Erasure, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let _ = (erasure, context, rows);
        Ok(())
    }
}

/// Returns whether projections receive an event. Of the reserved streams, such as the audit streams, they receive only
/// erasures.
pub(crate) fn is_projected(event: &RecordedEvent) -> bool {
    !crate::model::reserved::is_reserved(event.stream.as_str()) || Erasure::of(event).is_some()
}
