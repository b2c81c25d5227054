//! [`SagaStep`] and [`LocalStep`]: the steps of a saga.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use es_core::Commit;
use es_core::model::Metadata;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Classify, StepRetry};
use crate::id::{Direction, SagaId, StepKey};
use crate::shape::Undo;

/// The name and the options of a step.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not declared as a saga step",
    label = "no `DeclaredStep`",
    note = "add `#[derive(es_saga::SagaStep)]` and `#[saga_step(name = \"...\")]` to `{Self}`; the name must never \
            change"
)]
pub trait DeclaredStep: Send + Sync + 'static {
    /// The name under which an instance of the step is registered. It never changes, because stored sagas name it.
    const NAME: &'static str;
    /// The version of the step. Another version gives the graph another fingerprint: increase it when stored inputs,
    /// outputs or compensations have another meaning.
    const VERSION: u32 = 1;
    /// How the step is executed and undone.
    const OPTIONS: StepOptions = StepOptions::DEFAULT;
}

/// How a step is executed and undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepOptions {
    /// The attempts and their pauses, for executing and for undoing.
    pub retry: StepRetry,
    /// The time after which an attempt is dropped; its outcome is then ambiguous.
    pub timeout: Duration,
    /// How the step is undone. Part of the fingerprint of the graph.
    pub undo: Undo,
    /// Whether the success of the step is the pivot: afterwards the saga is not compensated any more. Part of the
    /// fingerprint of the graph.
    pub pivot: bool,
    /// The largest number of concurrent calls of the step in one coordinator, over all sagas; `None` for no limit.
    pub concurrency: Option<usize>,
}

impl StepOptions {
    /// The default retry, a timeout of 30 s, undone by its compensation, no pivot, no limit.
    pub const DEFAULT: Self = Self {
        retry: StepRetry::DEFAULT,
        timeout: Duration::from_secs(30),
        undo: Undo::Compensate,
        pivot: false,
        concurrency: None,
    };
}

impl Default for StepOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A value that is stored with a saga, as JSON.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored with a saga",
    label = "not `Serialize + DeserializeOwned`",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]` to `{Self}`: inputs, outputs and compensations are \
            stored as JSON, so that the saga continues after a restart"
)]
pub trait Stored: Serialize + DeserializeOwned + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Stored for T {}

/// A step whose effect is outside of the store.
///
/// The coordinator records the intent, the key and the compensation before it calls [`execute`](Self::execute), and the
/// outcome after the call. A call can be repeated: after a failure, a timeout or a crash. The other side must therefore
/// recognize a repeat by the [key](StepContext::key).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a saga step",
    label = "no `SagaStep`",
    note = "write `impl es_saga::SagaStep for {Self}` with `Input`, `Output`, `Compensation`, `Error`, `compensation`, \
            `execute` and `compensate`; a step on aggregates of the same store is a `LocalStep`, which is added with \
            `local` in the builder and in `saga!`; a child saga is added with `child`"
)]
pub trait SagaStep: DeclaredStep {
    /// What the step needs: the input of the saga, the output of an earlier step, or a tuple of them.
    type Input: Stored;
    /// The result.
    type Output: Stored;
    /// What undoes the step. It is stored before the call, because a call that times out has no output.
    type Compensation: Stored;
    /// The error, which tells its class.
    type Error: Classify;

    /// Computes the compensation before the call, from the input and the key of the call.
    fn compensation(&self, input: &Self::Input, key: StepKey) -> Self::Compensation;

    /// Makes the call. Pass the [key](StepContext::key) to the other side.
    fn execute(
        &self,
        input: Self::Input,
        context: &StepContext,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// Undoes the call, which may have had no effect: `output` is `None` if its outcome is not known. It can be
    /// repeated, and has a key of its own.
    fn compensate(
        &self,
        compensation: Self::Compensation,
        output: Option<Self::Output>,
        context: &StepContext,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A step whose effect is in the same store: its events and its outcome are one commit, so the outcome is never in
/// doubt.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a local saga step",
    label = "no `LocalStep`",
    note = "write `impl es_saga::LocalStep for {Self}` with `Input`, `Output`, `Error`, `execute` and `undo`; a step \
            with an effect outside of the store is a `SagaStep`, which is added with `step` in the builder and \
            without `local` in `saga!`"
)]
pub trait LocalStep: DeclaredStep {
    /// What the step needs: the input of the saga, the output of an earlier step, or a tuple of them.
    type Input: Stored;
    /// The result.
    type Output: Stored;
    /// The error, which tells its class. It is never ambiguous.
    type Error: Classify;

    /// Decides on the effect and returns it as a commit, which the coordinator completes with the outcome of the step
    /// and writes. [`Repository::plan`](es_core::Repository::plan) decides on a command, and
    /// [`Commit::with`](es_core::Commit::with) adds its events. After a conflict, this is called again.
    fn execute(
        &self,
        input: Self::Input,
        context: &StepContext,
    ) -> impl Future<Output = Result<(Self::Output, Commit), Self::Error>> + Send;

    /// Decides how to undo the effect, as a commit like that of [`execute`](Self::execute).
    fn undo(
        &self,
        input: Self::Input,
        output: Self::Output,
        context: &StepContext,
    ) -> impl Future<Output = Result<Commit, Self::Error>> + Send;
}

/// The context of a call of a step.
#[derive(Clone)]
pub struct StepContext {
    pub(crate) saga: SagaId,
    pub(crate) node: Arc<str>,
    pub(crate) item: u32,
    pub(crate) attempt: u32,
    pub(crate) direction: Direction,
    pub(crate) key: StepKey,
    pub(crate) metadata: Arc<Metadata>,
}

impl fmt::Debug for StepContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepContext")
            .field("saga", &self.saga)
            .field("node", &self.node)
            .field("item", &self.item)
            .field("attempt", &self.attempt)
            .field("direction", &self.direction)
            .finish_non_exhaustive()
    }
}

impl StepContext {
    /// Returns the id of the saga.
    #[must_use]
    pub const fn saga(&self) -> &SagaId {
        &self.saga
    }

    /// Returns the name of the node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the index of the item, from 0, if the node executes its step for each item of a list.
    #[must_use]
    pub const fn item(&self) -> u32 {
        self.item
    }

    /// Returns the number of the attempt, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns whether the call executes or undoes the step.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// Returns the metadata with which the saga was created. Add it to events of the call.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the trace context of the creation of the saga (W3C Trace Context), if it was created with one: the text
    /// under `traceparent` in its metadata. Pass it to the other side as the header `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.metadata.get_str("traceparent")
    }

    /// Returns the idempotency key of the call, which is the same in all attempts. Executing and undoing a step have
    /// different keys.
    #[must_use]
    pub const fn key(&self) -> StepKey {
        self.key
    }
}
