//! Durable sagas for es-core: processes of several steps that survive a crash at every instruction, and undo what they
//! did when they cannot go on.
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
//! use es_saga::{Classify, DeclaredStep, ErrorClass, SagaStep, StepContext, StepKey};
//!
//! /// Takes a payment at a provider that recognizes repeated keys.
//! struct TakePayment {
//!     provider: Provider,
//! }
//!
//! impl DeclaredStep for TakePayment {
//!     const NAME: &'static str = "take-payment";
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
//! use es_saga::{Saga, SagaCoordinator};
//!
//! let payment = Saga::<u64, PaymentId>::define("payment", 1, |saga, cents| saga.step::<TakePayment>(cents))?;
//! let sagas = SagaCoordinator::new().saga(&payment).step(TakePayment { provider: Provider }).start(store).await?;
//! let paid = sagas.execute(&payment, "order-7", &500).await?;
//! assert_eq!(paid.0, 500);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Graphs
//!
//! [`Saga::define`] builds the graph from typed handles: a step takes the input of the saga, the output of any earlier
//! step, or a tuple of them. Steps without an edge between them run in parallel. A node can have a condition
//! ([`NodeBuilder::step_if`]), run for each item of a list ([`NodeBuilder::each`]), run another saga
//! ([`NodeBuilder::child`]), or wait for nodes whose outputs it does not use ([`NodeBuilder::after`]). After a
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
//! quarantined with the reason: it is unreadable, or its [fingerprint](Fingerprint) is that of another version of the
//! graph. [`SagaAdmin::list`] and [`SagaAdmin::show`] show sagas as text, as a Mermaid diagram and as JSON. The
//! coordinator records metrics through the facade `metrics`, and spans. [`testing`] tests a saga without a store. See
//! [`instance`] for the state machine, and `docs/adr/0047-sagas-are-aggregates.md` for the reasons.

mod coordinator;
mod failure;
mod graph;
mod hooks;
mod id;
pub mod instance;
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
    DecodeInputError, DefineError, InputReader, MaybeOut, NodeBuilder, NodeOut, Provides, Saga, SagaGraph,
    SagaMigration,
};
pub use hooks::{HookAction, HookPlace, HookPoint};
pub use id::{Direction, ParseSagaIdError, SagaId, StepKey};
pub use instance::{OperatorNote, Phase, SagaInstance, SagaVerb};
pub use shape::{Effect, Fingerprint, NodeShape, Pivot, Repeat, SagaShape, Undo};
pub use show::{ItemDetails, NodeDetails, SagaDetails, SagaSummary};
pub use step::{DeclaredStep, LocalStep, SagaStep, StepContext, StepOptions, Stored};
