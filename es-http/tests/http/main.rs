//! The edge of a service over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod clients;
mod conditions;
mod conversion;
mod counter;
mod edge;
mod limits;
#[path = "../shared/log_lines.rs"]
mod log_lines;
#[cfg(unix)]
mod operations;
#[cfg(all(feature = "logs", feature = "metrics", feature = "signal"))]
mod process;
mod support;
#[cfg(feature = "tls")]
mod tls;
