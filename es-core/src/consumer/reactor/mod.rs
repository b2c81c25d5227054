//! Reactors: what an event sets off in the world outside.
//!
//! ```text
//!   log --> group (ordered by key, at least once) --> react(event, context) --> mail, HTTP, a command
//!             ^                                            |
//!             |   ok: finished                             |
//!             +-- failed: again after a pause, then parked +    each time under the same delivery key
//! ```
//!
//! A [`Reactor`] is not a [`Projection`](crate::projection::Projection), and nothing that rebuilds or replays projections takes
//! one: what has been sent cannot be unsent. There is no way back to the beginning; a reactor begins where it is told once, and
//! from then on goes forward. What it can do again is what was **parked**, because it failed.
//!
//! Effects are **at least once**: a crash between an effect and the note that it was made repeats the effect, under the same
//! [`DeliveryKey`]. The system outside is to recognize a repeat by that key; where that system is an aggregate, the key is the
//! [command id](crate::CommandId). The example `examples/outbox` shows both ends.
//!
//! ```
//! # use std::sync::Arc;
//! # use serde::{Deserialize, Serialize};
//! # use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, StreamId};
//! # use es_core::store::memory::MemoryStore;
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, es_core::Event)]
//! # enum OrderEvent { #[event(name = "order-placed")] Placed { to: String } }
//! # #[derive(Debug)] struct MailServer;
//! # impl MailServer {
//! #     async fn send(&self, _: es_core::consumer::reactor::DeliveryKey, _: &str) -> Result<(), std::io::Error> { Ok(()) }
//! # }
//! use es_core::consumer::reactor::{ReactError, Reactor, ReactorContext, ReactorRunner, StartAt};
//!
//! struct Confirmations {
//!     mail: MailServer,
//! }
//!
//! #[async_trait::async_trait]
//! impl Reactor for Confirmations {
//!     type Event = OrderEvent;
//!     const NAME: &'static str = "confirmations";
//!
//!     async fn react(&self, event: &OrderEvent, context: &ReactorContext) -> Result<(), ReactError> {
//!         let OrderEvent::Placed { to } = event;
//!         Ok(self.mail.send(context.key(), to).await?) // the mail server drops what has a key that it knows
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! # let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
//! # let placed = NewEvent::json(EventType::new("order-placed")?, r#"{"to":"ada@example.org"}"#);
//! # let placed = store.commit(Commit::to(&StreamId::new("order-1")?, ExpectedRevision::NoStream, [placed])).await?;
//! let confirmations = ReactorRunner::new(Confirmations { mail: MailServer }).start_at(StartAt::Beginning);
//! let running = confirmations.start(store).await?;
//! # running.wait_for(placed.position().expect("it has an event")).await?;
//! running.close().await?; // finishes what is in hand, and starts nothing new
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod context;
mod runner;
mod running;

use async_trait::async_trait;

pub use crate::consumer::group::{DeliveryKey, GroupError, GroupStatus, OpenGroupError, Parked, Skipped, StartAt};
pub use context::{ReactError, ReactorContext};
pub use runner::ReactorRunner;
pub use running::RunningReactor;

use crate::aggregate::ProjectedEvent;
use crate::model::RecordedEvent;
use crate::store::{Query, QueryItem};

/// What is to happen outside of the log when something has happened in it.
#[async_trait]
pub trait Reactor: Send + Sync + 'static {
    /// The events that it understands: the event type of an aggregate, or [`OneOf`](crate::projection::OneOf) two of them.
    type Event: ProjectedEvent;

    /// The name under which it is known to the store, and from which its delivery keys follow. It must not change: under
    /// another name it is another reactor, which knows of no effect that this one had.
    const NAME: &'static str;

    /// Which events it gets; without more said, those of the types that it understands.
    fn query(&self) -> Query {
        let mut item = QueryItem::new();
        item.event_types = Self::Event::types();
        Query::from(item)
    }

    /// What must stay in order: an event of a key is delivered when the one before it is finished. Without more said, the
    /// stream. The same event must always have the same key.
    fn key(&self, event: &RecordedEvent) -> String {
        event.stream.as_str().to_owned()
    }

    /// Makes the effect. It may be called again for the same event, with the same [`ReactorContext::key`], when an earlier call
    /// failed, took too long, or was cut off by a crash, whatever it had done by then.
    ///
    /// It runs in the [context](crate::Context) of the event: commands that it executes name the event as their cause.
    ///
    /// # Errors
    /// [`ReactError`]: the effect was not made, as far as is known. Any error converts into one that is tried again.
    async fn react(&self, event: &Self::Event, context: &ReactorContext) -> Result<(), ReactError>;
}
