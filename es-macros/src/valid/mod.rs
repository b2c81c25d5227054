//! Validation of declarations: rules between attributes, and rules of the event log.

mod aggregate;
mod event;
mod fields;
mod names;
mod serde;
mod versions;

pub(crate) use aggregate::{Declaration, check_aggregate};
pub(crate) use event::check_event;
