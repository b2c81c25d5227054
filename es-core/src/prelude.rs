//! What a domain and its service need: `use es_core::prelude::*`.

pub use crate::aggregate::Decision;
pub use crate::aggregate::repository::{AsOf, ExecuteError, Executed, Repository};
pub use crate::aggregate::source::{OneOf2, OneOf3};
pub use crate::aggregate::{Aggregate, CommandContext, Decide, EventContext, EventOf, Evolve, RawEvents, Source};
pub use crate::model::{CommandId, ExpectedRevision, Position, Revision};
pub use crate::projection::{ApplyError, ProjectedContext, Projection, Rows};
pub use crate::schema::Events;
pub use crate::schema::{Event, Upcast};
pub use crate::store::{EventReader, EventStore};

#[cfg(feature = "derive")]
pub use es_macros::{Aggregate, Event};
