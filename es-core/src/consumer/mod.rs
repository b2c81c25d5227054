//! Consumers of the log: subscriptions, consumer groups and reactors.
//!
//! ```text
//!   log --> Subscription --> batches of events, in order, first the recorded ones, then new ones as they come
//!              |
//!              +--> ConsumerGroup --> consumers that ack, retry or park
//!                        |
//!                        +--> Reactor: effects outside of the log, at least once, under a stable key
//! ```
//!
//! Absent here: views. A reactor is never reached by a rebuild of a projection.

pub mod group;
mod lifecycle;
pub mod reactor;
pub mod subscription;

pub use lifecycle::{ShutdownError, StartError, WaitError};
