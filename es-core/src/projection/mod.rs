//! Projections: read models that follow the log.
//!
//! ```text
//!                 +--> apply --> rows that change ---+
//!   log --batch---+                                  +--> one Commit: rows and checkpoint together
//!                 +--> checkpoint -------------------+
//! ```
//!
//! A [`Projection`] is a plain, synchronous function from an event and the rows it asks for to the rows that change. It runs
//! nowhere by itself: the same projection is followed in the background, applied [in the commit of the events](crate::projection::inline),
//! or folded [on demand](Live). Its rows are best those of typed [views](crate::projection::view).
//!
//! In the background it is run by a [`Supervisor`]; a [`ProjectionAdmin`] pauses, resets and rebuilds it and looks after events that
//! could not be applied, by rows and from any process that has the store. The numbers that it counts stand at [`metrics`].

mod apply;
mod checkpoint;
mod generation;
pub mod inline;
mod live;
mod reset;
mod rows;
mod tables;
pub mod view;
mod worker;

pub use crate::aggregate::{OneOf, ProjectedEvent};
pub use crate::model::reserved::AUDIT_STREAM_PREFIX;
pub use apply::{ApplyFailure, ApplyOutcome, BatchApplier, MAX_PASSES, Pass, UnknownEvents, apply_events};
pub use checkpoint::{
    Checkpoint, applied, checkpoint, checkpoint_key, checkpoint_prefix, checkpoints_table, partition_of,
};
pub use generation::{
    Build, Generation, Generations, MAX_PROJECTION_NAME_BYTES, active, check_name, generations, generations_table,
    table,
};
pub use live::{Live, LiveError, LiveEvents};
pub use reset::{FollowersReset, reset_followers};
pub use rows::{ApplyError, Rows};
pub(crate) use tables::remove_projection;
pub use tables::{GenerationTables, remove_generation, view_tables};
pub use worker::{
    AdminError, LastError, MAX_PARTITIONS, ParkedEvent, ParkedKey, ProjectionAdmin, ProjectionHandle,
    ProjectionOptions, ProjectionState, ProjectionStatus, RebuildErrors, RebuildFrom, RebuildStatus,
    RunningProjections, ShutdownError, StartError, Supervisor, WaitError, metrics,
};
pub(crate) use worker::{is_any_parked, machinery_rows};

use crate::aggregate::EventContext;
use crate::model::RecordedEvent;
use crate::store::{Query, QueryItem};

/// A read model, as one function of one event.
///
/// `apply` must depend on nothing but its arguments: no clock, no I/O, no randomness, nothing remembered in `self`. It may
/// be called several times for one event, as rows that it asks for become known, before its changes count once. Effects on
/// the world outside belong into a reactor, which no replay reaches.
pub trait Projection: Send + Sync + 'static {
    /// The events that it understands: the event type of an aggregate, or [`OneOf`] two of them.
    type Event: ProjectedEvent;

    /// The name under which its rows and its checkpoint stand. It must not change.
    const NAME: &'static str;

    /// Raise it with every change that makes old rows wrong: the view is then rebuilt beside the old one.
    const VERSION: u32 = 1;

    /// Which events it gets; without more said, those of the types that it understands.
    fn query(&self) -> Query {
        let mut item = QueryItem::new();
        item.event_types = Self::Event::types();
        Query::from(item)
    }

    /// What becomes of events that [`query`](Self::query) lets through and whose type it does not know; without more said they
    /// fail, and are not left out without a word.
    fn unknown_events(&self) -> UnknownEvents {
        UnknownEvents::Fail
    }

    /// What must stay in order: events of one key are applied one after the other, and when one of them fails, the later ones
    /// of its key wait behind it. Without more said, the stream.
    fn key(&self, event: &RecordedEvent) -> String {
        event.stream.as_str().to_owned()
    }

    /// Applies one event to the rows.
    ///
    /// # Errors
    /// [`ApplyError`]: the event cannot be applied. Nothing of what this call changed counts.
    fn apply(&self, event: &Self::Event, context: &EventContext<'_>, rows: &mut Rows) -> Result<(), ApplyError>;
}
