//! [`Saga`]: the graph of a saga, built from typed handles.
//!
//! A handle stands for the output of a node. It belongs to the graph in which it was created and to no other, and a
//! step accepts only handles that give its input. A graph therefore cannot have a circle, and no step can use an output
//! that no earlier step has.

mod builder;
mod code;
mod input;
mod migration;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use builder::{DefineError, NodeBuilder, SagaGraph};
pub(crate) use code::{NodeCode, Recorded, Returned, StepInstance};
pub use input::{DecodeInputError, InputReader, MaybeOut, NodeOut, Provides};
pub use migration::SagaMigration;

use crate::instance::SagaInstance;
use crate::shape::{Fingerprint, SagaShape};
use crate::step::Stored;
use input::Source;
use migration::Migration;

/// The definition of a saga: its graph, and the code of its nodes. Cheap to clone.
///
/// ```
/// # use es_saga::{Classify, DeclaredStep, ErrorClass, Saga, SagaStep, StepContext, StepKey};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, thiserror::Error)] #[error("unreachable")] struct Unreachable;
/// # impl Classify for Unreachable {}
/// # struct Reserve;
/// # impl DeclaredStep for Reserve { const NAME: &'static str = "reserve"; }
/// # impl SagaStep for Reserve {
/// #     type Input = u64; type Output = Reservation; type Compensation = StepKey; type Error = Unreachable;
/// #     fn compensation(&self, _: &u64, key: StepKey) -> StepKey { key }
/// #     async fn execute(&self, _: u64, _: &StepContext) -> Result<Reservation, Unreachable> { Ok(Reservation) }
/// #     async fn compensate(&self, _: StepKey, _: Option<Reservation>, _: &StepContext) -> Result<(), Unreachable> {
/// #         Ok(())
/// #     }
/// # }
/// # #[derive(Serialize, Deserialize)] struct Reservation;
/// # #[derive(Serialize, Deserialize)] struct Payment;
/// # struct Pay;
/// # impl DeclaredStep for Pay { const NAME: &'static str = "pay"; }
/// # impl SagaStep for Pay {
/// #     type Input = (u64, Reservation); type Output = Payment; type Compensation = StepKey; type Error = Unreachable;
/// #     fn compensation(&self, _: &Self::Input, key: StepKey) -> StepKey { key }
/// #     async fn execute(&self, _: Self::Input, _: &StepContext) -> Result<Payment, Unreachable> { Ok(Payment) }
/// #     async fn compensate(&self, _: StepKey, _: Option<Payment>, _: &StepContext) -> Result<(), Unreachable> {
/// #         Ok(())
/// #     }
/// # }
/// let fulfilment = Saga::<u64, Payment>::define("fulfilment", 1, |saga, order| {
///     let stock = saga.step::<Reserve>(order);
///     saga.step::<Pay>((order, stock))
/// })?;
/// assert_eq!(fulfilment.shape().nodes[1].input, "(saga, reserve)");
/// # Ok::<(), es_saga::DefineError>(())
/// ```
pub struct Saga<I, O> {
    pub(crate) definition: Arc<Definition>,
    marker: PhantomData<fn(I) -> O>,
}

impl<I, O> Clone for Saga<I, O> {
    fn clone(&self) -> Self {
        Self { definition: Arc::clone(&self.definition), marker: PhantomData }
    }
}

impl<I, O> fmt::Debug for Saga<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saga").field("shape", &self.definition.shape).finish_non_exhaustive()
    }
}

/// The definition of a saga without its types.
pub(crate) struct Definition {
    pub(crate) shape: SagaShape,
    pub(crate) fingerprint: Fingerprint,
    /// The code of the nodes, in the order of the graph.
    pub(crate) codes: Vec<Box<dyn NodeCode>>,
    pub(crate) deadline: Option<Duration>,
    migrations: Vec<Migration>,
    output: Source,
}

impl Definition {
    /// Returns the migration of the instances of a version.
    pub(crate) fn migration_from(&self, version: u32) -> Option<&Migration> {
        self.migrations.iter().find(|migration| migration.from == version)
    }

    /// Returns the output of a completed instance.
    pub(crate) fn output(&self, instance: &SagaInstance) -> Result<Value, DecodeInputError> {
        InputReader::new(instance, &[self.output]).next_value()
    }
}

/// A saga that can be named by a type, with the input `I` and the output `O`. [`saga!`](crate::saga) declares one;
/// implement it to use a saga of the builder as the child saga of a line of `saga!`.
///
/// ```
/// # use es_saga::{Classify, DeclaredSaga, DefineError, Saga, saga, step_function};
/// # #[derive(Debug, thiserror::Error)] #[error("refused")] struct Refused;
/// # impl Classify for Refused {}
/// # #[step_function(step = BookTaxi, name = "book-taxi", undo = "ignore")]
/// # async fn book(city: String) -> Result<u64, Refused> { Ok(city.len() as u64) }
/// struct Ride;
///
/// impl DeclaredSaga<String, u64> for Ride {
///     const NAME: &'static str = "ride";
///
///     fn define() -> Result<Saga<String, u64>, DefineError> {
///         Saga::define(Self::NAME, 1, |saga, city| saga.step::<BookTaxi>(city))
///     }
/// }
///
/// saga! {
///     saga Trip(city: String) -> u64 {
///         child Ride(city)
///     }
/// }
/// # assert_eq!(Trip::define()?.shape().nodes[0].step, "ride");
/// # Ok::<(), DefineError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not declared as a saga",
    label = "no `DeclaredSaga`",
    note = "declare `{Self}` with `es_saga::saga!`, or write `impl es_saga::DeclaredSaga for {Self}`; a step is \
            written without `child`"
)]
pub trait DeclaredSaga<I, O> {
    /// The name of the saga, which never changes.
    const NAME: &'static str;
    /// The compiler evaluates this constant of all child sagas, and so finds a saga that contains itself.
    #[doc(hidden)]
    const NO_CYCLE: () = ();

    /// Defines the graph.
    ///
    /// # Errors
    /// [`DefineError`] with the first mistake.
    fn define() -> Result<Saga<I, O>, DefineError>;
}

impl<I: Stored, O: Stored> Saga<I, O> {
    /// Defines a saga. `build` adds the nodes to the graph and returns the handle of the output of the saga.
    ///
    /// Names consist of ASCII letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    /// [`DefineError`] with the first mistake that the types do not rule out, such as two nodes of one name.
    pub fn define<F>(name: &str, version: u32, build: F) -> Result<Self, DefineError>
    where
        F: for<'g> FnOnce(&mut SagaGraph<'g>, NodeOut<'g, I>) -> NodeOut<'g, O>,
    {
        let mut graph = SagaGraph::new();
        let output = build(&mut graph, NodeOut::new(Source::Saga)).source();
        let definition = Arc::new(graph.finish(name, version, output)?);
        Ok(Self { definition, marker: PhantomData })
    }

    /// Sets the deadline: the time after the creation of an instance at which it turns back, unless it is finished or
    /// past its pivot. It is not part of the fingerprint, and holds for instances that are created later.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        let definition = Arc::try_unwrap(self.definition).unwrap_or_else(Definition::share);
        Self { definition: Arc::new(Definition { deadline: Some(deadline), ..definition }), marker: PhantomData }
    }

    /// Carries the unfinished instances of an earlier version to this one when a coordinator finds them.
    #[must_use]
    pub fn with_migration(self, migration: SagaMigration<I>) -> Self {
        let mut definition = Arc::try_unwrap(self.definition).unwrap_or_else(Definition::share);
        definition.migrations.push(migration.untyped);
        Self { definition: Arc::new(definition), marker: PhantomData }
    }
}

impl<I, O> Saga<I, O> {
    /// Returns a saga without nodes, in place of one that cannot be defined.
    pub(crate) fn empty() -> Self {
        let shape = SagaShape::empty();
        let (fingerprint, output) = (Fingerprint::of(&shape), Source::Unit);
        let (codes, migrations) = (Vec::new(), Vec::new());
        let definition = Definition { shape, fingerprint, codes, deadline: None, migrations, output };
        Self { definition: Arc::new(definition), marker: PhantomData }
    }

    /// Returns the graph as data.
    #[must_use]
    pub fn shape(&self) -> &SagaShape {
        &self.definition.shape
    }

    /// Returns the fingerprint of the graph. An instance runs only on the graph with which it was created.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.definition.fingerprint
    }
}

impl Definition {
    fn share(self: Arc<Self>) -> Self {
        let codes = self.codes.iter().map(|code| code.share()).collect();
        let (shape, migrations) = (self.shape.clone(), self.migrations.clone());
        Self { shape, codes, migrations, ..*self }
    }
}
