//! Durable sagas for es-core: processes of several steps that survive a crash at every instruction, and undo what they
//! did when they cannot go on. Process managers, which react to events, are in [`process`].
//!
//! es-saga has the graph of a saga, the state machine of an instance, and the coordinator that runs instances. It is
//!
//! - **not a workflow engine that replays code**: the graph is data, and each step is a function that is called;
//! - **no promise of exactly-once effects**: a call may be repeated, always under the same key;
//! - **no transaction**: other readers see the effects of a saga that is later undone.
//!
//! # Steps
//!
//! A [`SagaStep`] has an effect outside of the store. The intent, its [key](StepKey) and its compensation are recorded
//! before the call, the outcome after it, and before any dependent step starts. The compensation is computed before the
//! call, so that a call whose outcome is unknown can be undone. A [`LocalStep`] changes aggregates of the same store:
//! its effect and its outcome are one commit.
//!
//! ```
//! use es_saga::{Classify, ErrorClass, SagaStep, StepContext, StepKey};
//!
//! /// Takes a payment at a provider that recognizes repeated keys.
//! #[derive(SagaStep)]
//! #[saga_step(name = "take-payment", retry(attempts = 8, cap = "10s"), timeout = "5s")]
//! struct TakePayment {
//!     provider: Provider,
//! }
//!
//! impl SagaStep for TakePayment {
//!     type Input = u64;
//!     type Output = PaymentId;
//!     type Compensation = StepKey;
//!     type Error = ProviderError;
//!
//!     fn compensation(&self, _: &u64, key: StepKey) -> StepKey {
//!         key
//!     }
//!
//!     async fn execute(&self, cents: u64, context: &StepContext) -> Result<PaymentId, ProviderError> {
//!         self.provider.pay(cents, context.key()).await
//!     }
//!
//!     async fn compensate(
//!         &self,
//!         payment: StepKey,
//!         _: Option<PaymentId>,
//!         context: &StepContext,
//!     ) -> Result<(), ProviderError> {
//!         self.provider.refund(payment, context.key()).await
//!     }
//! }
//!
//! /// The provider did not answer in time.
//! #[derive(Debug, thiserror::Error)]
//! #[error("no answer")]
//! struct ProviderError;
//!
//! impl Classify for ProviderError {
//!     fn class(&self) -> ErrorClass {
//!         ErrorClass::Ambiguous
//!     }
//! }
//! # #[derive(serde::Serialize, serde::Deserialize)] struct PaymentId(u64);
//! # struct Provider;
//! # impl Provider {
//! #     async fn pay(&self, cents: u64, _: StepKey) -> Result<PaymentId, ProviderError> { Ok(PaymentId(cents)) }
//! #     async fn refund(&self, _: StepKey, _: StepKey) -> Result<(), ProviderError> { Ok(()) }
//! # }
//! #
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
//! # let store: std::sync::Arc<dyn es_core::EventStore> =
//! #     std::sync::Arc::new(es_core::store::memory::MemoryStore::new());
//! use es_saga::{SagaCoordinator, saga};
//!
//! saga! {
//!     saga Purchase(cents: u64) -> PaymentId, version = 1 {
//!         TakePayment(cents)
//!     }
//! }
//!
//! let payment = Purchase::define()?;
//! let sagas = SagaCoordinator::new().saga(&payment).step(TakePayment { provider: Provider }).start(store).await?;
//! let paid = sagas.execute(&payment, "order-7", &500).await?;
//! assert_eq!(paid.0, 500);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `#[derive(SagaStep)]` declares the name and the options of a step, `#[step_function]` a step that is a plain
//! function. Both can be written by hand: they implement [`DeclaredStep`].
//!
//! # Graphs
//!
//! [`saga!`] declares a saga, line by line. A step takes outputs of earlier lines only, so a graph has no cycle:
//!
//! ```
//! # use es_saga::{Classify, saga, step_function};
//! # #[derive(Debug, thiserror::Error)] #[error("refused")] struct Refused;
//! # impl Classify for Refused {}
//! # #[step_function(step = ReserveStock, name = "reserve-stock", undo = "ignore")]
//! # async fn reserve(order: u64) -> Result<u64, Refused> { Ok(order) }
//! # #[step_function(step = TakePayment, name = "take-payment", undo = "ignore")]
//! # async fn pay(order: u64, _: u64) -> Result<u64, Refused> { Ok(order) }
//! # #[step_function(step = PrintLabel, name = "print-label", undo = "ignore")]
//! # async fn print(stock: u64) -> Result<u64, Refused> { Ok(stock) }
//! # #[step_function(step = Ship, name = "ship", undo = "ignore")]
//! # async fn ship(payment: u64, _: u64) -> Result<u64, Refused> { Ok(payment) }
//! saga! {
//!     pub saga Fulfilment(order: u64) -> u64, version = 1 {
//!         let stock = ReserveStock(order);
//!         let payment = TakePayment(order, stock);
//!         let label = PrintLabel(stock); // runs in parallel to the payment
//!         pivot;
//!         Ship(payment, label)
//!     }
//! }
//! # assert_eq!(Fulfilment::define()?.shape().pivot.map(|pivot| pivot.next), Some(3));
//! # Ok::<(), es_saga::DefineError>(())
//! ```
//!
//! It expands to calls of a builder, which can also be used directly. [`Saga::define`] builds the graph from typed
//! handles: a step takes the input of the saga, the output of any earlier step, or a tuple of them. Steps without an
//! edge between them run in parallel. A node can have a condition ([`NodeBuilder::step_if`]), run for each item of a
//! list ([`NodeBuilder::each`]), run another saga ([`NodeBuilder::child`]), wait for a durable time
//! ([`NodeBuilder::delay`]), or wait for nodes whose outputs it does not use ([`NodeBuilder::after`]). After a
//! [pivot](SagaGraph::pivot) the saga is not undone any more.
//!
//! # Failures
//!
//! | class of the error | meaning | what follows |
//! |---|---|---|
//! | [transient](ErrorClass::Transient) | no effect, a retry may help | retried with full jitter, then the saga turns back |
//! | [terminal](ErrorClass::Terminal) | no effect, no retry helps | the saga turns back |
//! | [ambiguous](ErrorClass::Ambiguous) | the effect is unknown: timeout, panic, crash | retried under the same key; the step is undone if the saga turns back |
//!
//! A saga that turns back undoes its steps in reverse topological order. If an undo has no attempt left, or the saga is
//! past its pivot, it is [stuck](Phase::Stuck): recorded, listed, and not in the way of others. An operator then acts
//! with a [`SagaVerb`]; each action is an event.
//!
//! # Running
//!
//! [`SagaCoordinator`] runs the instances and continues them after a crash. An instance that this program cannot run is
//! quarantined with the reason: it is unreadable, its [fingerprint](Fingerprint) is that of another version of the
//! graph, or its code panicked outside of a call, such as in a condition. [`SagaAdmin::list`] and [`SagaAdmin::show`]
//! show sagas as text, as a Mermaid diagram and as JSON. The coordinator records metrics through the facade `metrics`,
//! and spans. [`testing`] tests a saga without a store. See [`instance`] for the state machine, and
//! `docs/adr/0047-sagas-are-aggregates.md` for the reasons.
//!
//! # Process managers
//!
//! A process that lasts for weeks, and reacts to events, signals, timers and answers from outside, is a
//! [`Process`](process::Process): see [`process`].

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
mod coordinator;
mod failure;
mod graph;
mod hooks;
mod id;
pub mod instance;
pub mod process;
mod record;
mod shape;
mod show;
mod step;
pub mod testing;

pub use coordinator::{
    CreateError, ExecuteSagaError, OperateError, RunningSagas, SagaAdmin, SagaCoordinator, SagaCursor, SagaList,
    SagaStartError, UnfinishedSaga,
};
pub use failure::{Classify, ErrorClass, Exhausted, StepFailure, StepRetry};
pub use graph::{
    DeclaredSaga, DecodeInputError, DefineError, InputReader, MaybeOut, NodeBuilder, NodeOut, Provides, Saga,
    SagaGraph, SagaMigration,
};
pub use hooks::{HookAction, HookPlace, HookPoint};
pub use id::{Direction, ParseSagaIdError, SagaId, StepKey};
pub use instance::{OperatorNote, Phase, SagaInstance, SagaVerb};
pub use shape::{Effect, Fingerprint, NodeShape, Pivot, Repeat, SagaShape, Undo};
pub use show::{ItemDetails, NodeDetails, SagaDetails, SagaSummary};
pub use step::{DeclaredStep, LocalStep, SagaStep, StepContext, StepOptions, Stored};

#[cfg(feature = "derive")]
pub use es_macros::{SagaStep, saga, step_function};

// rustdoc compiles the examples in the documentation of the macros here: es-macros does not depend on es-saga.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../es-macros/src/docs/saga_step.md")]
const _: () = ();
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../es-macros/src/docs/step_function.md")]
const _: () = ();
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../es-macros/src/docs/saga.md")]
const _: () = ();
