//! Checks: what is well-formed by itself but wrong together, or breaks a rule of the log.

mod aggregate;
mod event;
mod names;
mod serde;
mod versions;

pub(crate) use aggregate::{Declaration, aggregate};
pub(crate) use event::event;
