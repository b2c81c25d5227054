//! What a domain and its service need: `use es_core::prelude::*`.

pub use crate::aggregate::{Aggregate, CommandContext, Decide, EventContext, Evolve};
pub use crate::decision::{Decision, Events};
pub use crate::projection::{ApplyError, OneOf, Projection, Rows};
pub use crate::repository::{At, CommandId, ExecuteError, Executed, Repository};
pub use crate::revision::{ExpectedRevision, Position, Revision};
pub use crate::store::EventStore;
pub use crate::typed::{Event, Upcast};

#[cfg(feature = "derive")]
pub use es_macros::{Aggregate, Event};
