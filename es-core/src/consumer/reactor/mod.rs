//! Reactors: effects outside of the log that follow events.
//!
//! ```text
//!   log --> group (ordered by key, at least once) --> react(event, context) --> mail, HTTP, a command
//!             ^                                            |
//!             |   ok: finished                             |
//!             +-- failed: retried after a pause, then parked     each time with the same delivery key
//! ```
//!
//! A [`Reactor`] is not a [`Projection`](crate::projection::Projection): no rebuild and no replay of a projection calls
//! it, because an effect cannot be undone. A reactor starts once at the position that its runner names, and only moves
//! forward. Only **parked** events, which failed, can be delivered again.
//!
//! Effects are **at least once**: a crash between an effect and its record repeats the effect with the same
//! [`DeliveryKey`]. The external system must recognize a repeat by that key. If that system is an aggregate, the key is
//! the [command id](crate::CommandId). The example `examples/outbox` shows both sides.
//!
//! Not in this module: rebuilds, resets, and rows of views.
//!
//! ```
//! # use std::sync::Arc;
//! # use serde::{Deserialize, Serialize};
//! # use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, StreamId};
//! # use es_core::store::memory::MemoryStore;
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, es_core::Event)]
//! # enum OrderEvent { #[event(name = "order-placed")] Placed { to: String } }
//! # #[derive(Clone, es_core::Aggregate)]
//! # #[aggregate(category = "order", id = u64, event = OrderEvent)]
//! # struct Order;
//! # #[derive(Debug)] struct MailServer;
//! # impl MailServer {
//! #     async fn send(&self, _: DeliveryKey, _: &str) -> Result<(), std::io::Error> { Ok(()) }
//! # }
//! # use es_core::consumer::reactor::DeliveryKey;
//! use es_core::consumer::reactor::{ReactError, Reactor, ReactorContext, ReactorRunner, StartAt};
//!
//! struct Confirmations {
//!     mail: MailServer,
//! }
//!
//! #[async_trait::async_trait]
//! impl Reactor for Confirmations {
//!     type Source = Order;
//!     const NAME: &'static str = "confirmations";
//!
//!     async fn react(&self, event: &OrderEvent, context: &ReactorContext) -> Result<(), ReactError> {
//!         let OrderEvent::Placed { to } = event;
//!         Ok(self.mail.send(context.key(), to).await?) // the mail server ignores a repeated key
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! # let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
//! # let placed = NewEvent::json(EventType::new("order-placed")?, r#"{"to":"ada@example.org"}"#);
//! # let placed = store.commit(Commit::to(&StreamId::new("order-1")?, ExpectedRevision::NoStream, [placed])).await?;
//! let confirmations = ReactorRunner::new(Confirmations { mail: MailServer }).start_at(StartAt::Beginning);
//! let running = confirmations.start(store).await?;
//! # running.wait_for(placed.position(), std::time::Duration::from_secs(10)).await?;
//! running.shutdown(std::time::Duration::from_secs(10)).await?; // waits for running calls, starts no new one
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod context;
mod runner;
mod running;

use async_trait::async_trait;

pub use crate::consumer::group::{DeliveryKey, GroupError, GroupStatus, Parked, Skipped, StartAt};
pub use context::{ReactError, ReactorContext};
pub use runner::ReactorRunner;
pub use running::RunningReactor;

use crate::aggregate::{EventOf, Source};
use crate::model::RecordedEvent;
use crate::retention::Erasure;
use crate::store::Query;

/// An effect outside of the log that follows an event.
#[async_trait]
pub trait Reactor: Send + Sync + 'static {
    /// The source of the events: one aggregate, a tuple of aggregates, or [`RawEvents`](crate::aggregate::RawEvents).
    type Source: Source;

    /// The name under which the progress is stored, and from which the delivery keys are derived. It must not change: a
    /// reactor with another name does not know which events were processed.
    const NAME: &'static str;

    /// Returns the query that selects the events. The default is [`Source::query`]; override it to select a part of the
    /// source.
    fn query(&self) -> Query {
        Self::Source::query()
    }

    /// Returns the ordering key of an event: an event is delivered once the earlier events of its key are finished. The
    /// default is the name of the stream. Must return the same key for the same event.
    fn key(&self, event: &RecordedEvent) -> String {
        event.stream.as_str().to_owned()
    }

    /// Performs the effect. May be called again for the same event, with the same [`ReactorContext::key`], if an
    /// earlier call failed, timed out, or was interrupted by a crash.
    ///
    /// It is called in a [context](crate::model::Context) with the event as the cause: commands that it executes name
    /// the event as their cause.
    ///
    /// # Errors
    /// [`ReactError`] if the effect failed. Every error type converts into a `ReactError` that is retried.
    async fn react(&self, event: &EventOf<Self::Source>, context: &ReactorContext) -> Result<(), ReactError>;

    /// Tells other systems to delete their copies of erased content. It is called at least once for each erasure, like
    /// [`react`](Self::react) for an event; the key of the erasure is the name of the deleted stream or of the erased
    /// subject.
    ///
    /// A reactor receives the deletions of all streams in the categories of its query, and the erasures of all
    /// subjects. It may not have received the erased events. The default does nothing.
    ///
    /// # Errors
    /// [`ReactError`] if the effect failed. It is treated like a failed reaction.
    async fn erased(&self, erasure: &Erasure, context: &ReactorContext) -> Result<(), ReactError> {
        let _ = (erasure, context);
        Ok(())
    }
}
