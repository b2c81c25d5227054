//! Event sourcing: the log of events is the truth, and state follows from it.
//!
//! es-core has the model and the contracts: events, commits, aggregates, projections, reactors, and what a store must
//! do. It performs no I/O; a store such as `es-rocksdb` does. It is
//!
//! - **not a message broker**: consumers read one log, and nothing is delivered and forgotten;
//! - **not a database of views**: views are derived from the log and can be rebuilt;
//! - **no promise of exactly-once effects**: rows in the store count each event once; effects outside it can be
//!   repeated safely.
//!
//! # The tour
//!
//! **Events** say what happened. Each has a wire name that never changes. See [`macro@Event`] and [`schema`].
//!
//! ```
//! #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, es_core::Event)]
//! enum OrderEvent {
//!     #[event(name = "order-placed")]
//!     Placed { cents: u64 },
//!     #[event(name = "order-shipped")]
//!     Shipped,
//! }
//! ```
//!
//! **Aggregates** are the state that follows from the events of one stream. See [`macro@Aggregate`] and [`Evolve`].
//!
//! ```
//! # use es_core::prelude::*;
//! # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
//! # enum OrderEvent {
//! #     #[event(name = "order-placed")] Placed { cents: u64 },
//! #     #[event(name = "order-shipped")] Shipped,
//! # }
//! #[derive(Clone, Debug, Aggregate)]
//! #[aggregate(category = "order", id = u64, event = OrderEvent)]
//! struct Order {
//!     is_shipped: bool,
//! }
//!
//! impl Evolve for Order {
//!     fn initial(_: &u64) -> Self {
//!         Self { is_shipped: false }
//!     }
//!
//!     fn evolve(&mut self, event: &OrderEvent, _: &EventContext<'_>) {
//!         self.is_shipped |= *event == OrderEvent::Shipped;
//!     }
//! }
//! ```
//!
//! **Commands** are decided by synchronous functions without I/O, and tested without a store. See [`Decide`] and
//! [`testing`].
//!
//! ```
//! # use es_core::prelude::*;
//! # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
//! # enum OrderEvent {
//! #     #[event(name = "order-placed")] Placed { cents: u64 },
//! #     #[event(name = "order-shipped")] Shipped,
//! # }
//! # #[derive(Clone, Debug, Aggregate)]
//! # #[aggregate(category = "order", id = u64, event = OrderEvent)]
//! # struct Order { is_shipped: bool }
//! # impl Evolve for Order {
//! #     fn initial(_: &u64) -> Self { Self { is_shipped: false } }
//! #     fn evolve(&mut self, event: &OrderEvent, _: &EventContext<'_>) {
//! #         self.is_shipped |= *event == OrderEvent::Shipped;
//! #     }
//! # }
//! #[derive(Clone)]
//! struct Ship;
//!
//! impl Decide<Ship> for Order {
//!     type Rejection = &'static str;
//!
//!     fn decide(&self, Ship: Ship, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, &'static str> {
//!         match at.revision() {
//!             None => Err("there is no such order"),
//!             Some(_) if self.is_shipped => Ok(Decision::unchanged()),
//!             Some(_) => Ok(OrderEvent::Shipped.into()),
//!         }
//!     }
//! }
//!
//! es_core::testing::given::<Order>(7, [OrderEvent::Placed { cents: 500 }]).when(Ship).then([OrderEvent::Shipped]);
//! es_core::testing::given::<Order>(7, []).when(Ship).then_rejected("there is no such order");
//! ```
//!
//! **Repositories** load, decide, commit, and decide again after a conflict. A command id makes a command idempotent;
//! the command then implements `serde::Serialize`, because the id is bound to its content.
//! See [`aggregate::repository`].
//!
//! ```
//! # use es_core::prelude::*;
//! # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
//! # enum OrderEvent {
//! #     #[event(name = "order-placed")] Placed { cents: u64 },
//! #     #[event(name = "order-shipped")] Shipped,
//! # }
//! # #[derive(Clone, Debug, Aggregate)]
//! # #[aggregate(category = "order", id = u64, event = OrderEvent)]
//! # struct Order { is_shipped: bool }
//! # impl Evolve for Order {
//! #     fn initial(_: &u64) -> Self { Self { is_shipped: false } }
//! #     fn evolve(&mut self, event: &OrderEvent, _: &EventContext<'_>) {
//! #         self.is_shipped |= *event == OrderEvent::Shipped;
//! #     }
//! # }
//! # #[derive(Clone, serde::Serialize)] struct Place { cents: u64 }
//! # impl Decide<Place> for Order {
//! #     type Rejection = &'static str;
//! #     fn decide(&self, command: Place, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, &'static str> {
//! #         if at.revision().is_some() { return Err("the order exists") }
//! #         Ok(OrderEvent::Placed { cents: command.cents }.into())
//! #     }
//! # }
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
//! # let store: std::sync::Arc<dyn EventStore> = std::sync::Arc::new(es_core::store::memory::MemoryStore::new());
//! let orders = Repository::<Order>::new(store);
//! let placed = orders.execute(&7, Place { cents: 500 }).with_id(CommandId::new("request-1")?).await?;
//! assert_eq!((placed.revision, placed.position), (Some(Revision::FIRST), Some(Position::FIRST)));
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Units of work** change several aggregates in one commit. See [`UnitOfWork`].
//!
//! ```
//! # use es_core::prelude::*;
//! # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
//! # enum OrderEvent {
//! #     #[event(name = "order-placed")] Placed { cents: u64 },
//! #     #[event(name = "order-shipped")] Shipped,
//! # }
//! # #[derive(Clone, Debug, Aggregate)]
//! # #[aggregate(category = "order", id = u64, event = OrderEvent)]
//! # struct Order { is_shipped: bool }
//! # impl Evolve for Order {
//! #     fn initial(_: &u64) -> Self { Self { is_shipped: false } }
//! #     fn evolve(&mut self, event: &OrderEvent, _: &EventContext<'_>) {
//! #         self.is_shipped |= *event == OrderEvent::Shipped;
//! #     }
//! # }
//! # #[derive(Clone)] struct Place { cents: u64 }
//! # impl Decide<Place> for Order {
//! #     type Rejection = &'static str;
//! #     fn decide(&self, command: Place, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, &'static str> {
//! #         if at.revision().is_some() { return Err("the order exists") }
//! #         Ok(OrderEvent::Placed { cents: command.cents }.into())
//! #     }
//! # }
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
//! # let store: std::sync::Arc<dyn EventStore> = std::sync::Arc::new(es_core::store::memory::MemoryStore::new());
//! let orders = Repository::<Order>::new(store.clone());
//! let both = es_core::UnitOfWork::new(&store)
//!     .execute(&orders, 7, Place { cents: 500 })
//!     .execute(&orders, 8, Place { cents: 700 })
//!     .await?;
//! assert_eq!(both.1.position, Position::new(2));
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Commits** are the one write primitive: events, conditions and rows, written atomically. A **subscription**
//! returns past events and then new ones, with one cursor. See [`Commit`], [`store`] and [`Subscription`].
//!
//! ```
//! # use es_core::prelude::*;
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
//! # let store: std::sync::Arc<dyn EventStore> = std::sync::Arc::new(es_core::store::memory::MemoryStore::new());
//! use es_core::{Commit, EventType, NewEvent, StreamId, Subscription, store::Query};
//!
//! let placed = NewEvent::json(EventType::new("order-placed")?, r#"{"cents":500}"#);
//! store.commit(Commit::to(&StreamId::new("order-7")?, ExpectedRevision::NoStream, [placed])).await?;
//!
//! let mut subscription = Subscription::new(store, Query::all(), None)?;
//! assert_eq!(subscription.next().await?.events.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Projections** follow the log and write views: in the background, inline in the commit of the events, or on
//! demand. Each event counts once. See [`projection`], [`projection::view`] and [`projection::inline`].
//!
//! ```
//! # use es_core::prelude::*;
//! # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
//! # enum OrderEvent {
//! #     #[event(name = "order-placed")] Placed { cents: u64 },
//! #     #[event(name = "order-shipped")] Shipped,
//! # }
//! # #[derive(Clone, Debug, Aggregate)]
//! # #[aggregate(category = "order", id = u64, event = OrderEvent)]
//! # struct Order;
//! use es_core::projection::view::View;
//!
//! const REVENUE: View<(), u64> = View::new("revenue");
//!
//! struct Revenue;
//!
//! impl Projection for Revenue {
//!     type Source = Order;
//!     const NAME: &'static str = "revenue";
//!
//!     fn apply(&self, event: &OrderEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
//!         let OrderEvent::Placed { cents } = event else { return Ok(()) };
//!         rows.view(&REVENUE)?.update(&(), |sum| *sum += cents)
//!     }
//! }
//!
//! let placed = |cents| OrderEvent::Placed { cents };
//! es_core::testing::given_events()
//!     .of::<Order>(7, [placed(500), OrderEvent::Shipped])
//!     .of::<Order>(8, [placed(700)])
//!     .project(Revenue)
//!     .then(|views| assert_eq!(views.view(&REVENUE).get(&()), Some(1200)));
//! ```
//!
//! **Reactors** perform effects outside the log, at least once, with a stable key. **Consumer groups** share events
//! among consumers that settle each of them. See [`consumer::reactor`] and [`consumer::group`].
//!
//! ```
//! # use es_core::prelude::*;
//! # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
//! # enum OrderEvent {
//! #     #[event(name = "order-placed")] Placed { cents: u64 },
//! #     #[event(name = "order-shipped")] Shipped,
//! # }
//! # #[derive(Clone, Debug, Aggregate)]
//! # #[aggregate(category = "order", id = u64, event = OrderEvent)]
//! # struct Order;
//! use es_core::consumer::reactor::{ReactError, Reactor, ReactorContext};
//!
//! struct Labels;
//!
//! #[async_trait::async_trait]
//! impl Reactor for Labels {
//!     type Source = Order;
//!     const NAME: &'static str = "labels";
//!
//!     async fn react(&self, event: &OrderEvent, context: &ReactorContext) -> Result<(), ReactError> {
//!         if let OrderEvent::Placed { .. } = event {
//!             print(context.key().to_string())?; // the printer drops a key that it knows
//!         }
//!         Ok(())
//!     }
//! }
//! # fn print(_: String) -> Result<(), std::io::Error> { Ok(()) }
//! ```
//!
//! **Services** run all background components of a store and stop them in the right order. See [`service`].
//!
//! ```
//! # use es_core::prelude::*;
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
//! # let store: std::sync::Arc<dyn EventStore> = std::sync::Arc::new(es_core::store::memory::MemoryStore::new());
//! let mut service = es_core::Service::new(store).start().await?; // after `projection`, `reactor`, `group`
//! service.intake("http", |stop| async move {
//!     stop.requested().await; // a server answers requests until then
//!     Ok::<(), std::io::Error>(())
//! });
//! service.run_until(async {}).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Upcasters** bring old versions of an event to the present one when they are read. See [`Upcast`] and
//! [`testing::golden`].
//!
//! ```
//! use es_core::prelude::*;
//!
//! #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
//! #[event(name = "price-set", version = 2, upcast(1 = PriceSetV1))]
//! struct PriceSet {
//!     cents: u64,
//! }
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct PriceSetV1 {
//!     euros: u64,
//! }
//!
//! impl Upcast<PriceSet> for PriceSetV1 {
//!     fn upcast(self) -> Events<PriceSet> {
//!         PriceSet { cents: self.euros * 100 }.into()
//!     }
//! }
//! ```
//!
//! **Snapshots** make loads cheaper and never change their result. See [`aggregate::snapshot`].
//!
//! ```
//! # use es_core::prelude::*;
//! # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
//! # #[event(name = "order-shipped")] struct OrderShipped;
//! #[derive(Clone, serde::Serialize, serde::Deserialize, Aggregate)]
//! #[aggregate(category = "order", id = u64, event = OrderShipped, snapshot(every = 100))]
//! struct Order {
//!     is_shipped: bool,
//! }
//! ```
//!
//! **Retention** hides and removes events by rules and deletions, which are events themselves. See [`retention`].
//!
//! ```
//! # use es_core::prelude::*;
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
//! # let store: std::sync::Arc<dyn EventStore> = std::sync::Arc::new(es_core::store::memory::MemoryStore::new());
//! use es_core::retention::{Note, Rule, Scavenge, Scope};
//! use es_core::{Commit, model::Category};
//!
//! let rule = Rule { max_count: Some(1000), ..Rule::default() };
//! store.commit(Commit::set_rule(Scope::Category(Category::new("sensor")?), rule, Note::default())).await?;
//! store.scavenge(&Scavenge::default()).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Implementers** of stores, layers and hooks begin at [`store::implement`], and run [`testing::conformance`].

pub mod aggregate;
pub mod consumer;
pub mod model;
pub mod prelude;
pub mod projection;
pub mod retention;
pub mod schema;
pub mod service;
pub mod store;
pub mod testing;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use aggregate::{
    Aggregate, Command, CommandContext, ConcurrentEvents, Crdt, Decide, Decision, EventContext, Evolve, ExecuteError,
    Executed, LoadError, Loaded, Outcome, Repository, Resolve, UnitOfWork,
};
pub use consumer::{Resolver, Subscription};
pub use model::{
    CommandId, EventData, EventId, EventType, ExpectedRevision, NewEvent, Position, RecordedEvent, Revision, StreamId,
    Timestamp,
};
pub use schema::{Event, Events, Upcast};
pub use service::Service;
pub use store::{Commit, CommitError, EventReader, EventStore, LogRead, StoreError, StreamRead};

#[cfg(feature = "derive")]
pub use es_macros::{Aggregate, Event};

// rustdoc compiles the examples in the documentation of the derive macros here: es-macros does not depend on es-core.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../es-macros/src/docs/event.md")]
const _: () = ();
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../es-macros/src/docs/aggregate.md")]
const _: () = ();
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../es-macros/src/docs/crate.md")]
const _: () = ();
