//! Consumers of the log: subscriptions, consumer groups and reactors.
//!
//! ```text
//!   log --> Subscription --> batches of events, in order: the recorded ones, then new ones as they are committed
//!              |
//!              +--> ConsumerGroup --> consumers that ack, retry or park
//!                        |
//!                        +--> Reactor: effects outside of the log, at least once, under a stable key
//! ```
//!
//! [`lease`] and [`timer`] are the durable parts from which background components are built: the exclusive right to a
//! piece of work, and wake-ups that survive a restart.
//!
//! [`Resolver`] is a reactor of the framework: it answers the conflicts of a replicated aggregate.
//!
//! Every background component is used in the same way: a builder describes it, `start(store).await` returns its running
//! handle, and the handle has `status`, `wait_for(position, timeout)` and `shutdown(deadline)`.
//!
//! Of the events of replicated streams, groups and reactors receive those that originated on their node: see
//! [`DeliveryScope`]. A [`Subscription`] receives all.
//!
//! Not in this module: views, rebuilds, replays. A rebuild of a projection calls no reactor.

pub mod group;
pub mod lease;
mod lifecycle;
pub mod reactor;
mod resolver;
mod scope;
pub(crate) mod selection;
pub(crate) mod subscription;
pub mod timer;

pub use group::{Consumer, ConsumerGroup};
pub use lifecycle::{ShutdownError, StartError, WaitError};
pub use reactor::{Reactor, ReactorRunner};
pub use resolver::Resolver;
pub use scope::DeliveryScope;
pub use subscription::Subscription;
