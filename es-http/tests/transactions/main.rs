//! Participants of transactions over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod access;
mod calls;
mod configuration;
mod document;
mod failures;
#[path = "../shared/log_lines.rs"]
mod log_lines;
#[cfg(feature = "metrics")]
mod metrics;
mod seats;
mod support;
