//! Canonical order for projections with the mode [`Settled`](super::Settled).

mod log;
mod mark;

pub(crate) use log::{CanonicalBatch, CanonicalLog};
pub(crate) use mark::{SettledMark, SettledStep};
