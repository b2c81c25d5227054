//! The HTTP edge of a service: a server with deadlines and limits, and helpers for [axum] that map HTTP to es-core.

mod conditional;
mod entity_tag;
mod extract;
mod header_value;
mod idempotency;
mod log_position;
pub mod problem;
mod server;

pub use conditional::{Preconditions, WriteCondition};
pub use entity_tag::EntityTag;
pub use extract::{Json, Path, Query};
pub use idempotency::IdempotencyKey;
pub use log_position::EsPosition;
pub use problem::{Problem, uniform_problems};
#[cfg(feature = "signal")]
pub use server::serve_until_signal;
pub use server::{Drained, Draining, ServeOptions, serve};
