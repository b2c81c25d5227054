//! [`SagaMigration`]: carries instances to another version of the graph.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde_json::Value;

use crate::instance::{MigratedOutput, RecordedValue, SagaInstance, Transition, Unit};
use crate::shape::SagaShape;
use crate::step::Stored;

type Convert = Arc<dyn Fn(&Value) -> Result<Value, serde_json::Error> + Send + Sync>;

/// Carries the unfinished instances of an earlier version of a saga to a version with an input of type `I`. Without it,
/// a coordinator of the new version quarantines them.
///
/// The nodes of both graphs are matched by their names. A node keeps its state if its step, its effect and its
/// repetition are the same. An instance is quarantined with the reason if the new graph does not have a node that has
/// an effect, if a node was started and does not follow from what is done, or if only one of the graphs is past its
/// pivot. A step in progress whose input changes fails, because its key belongs to the earlier input. A delay in
/// progress keeps its end.
///
/// ```
/// # use es_saga::{Classify, DeclaredStep, ErrorClass, Saga, SagaMigration, SagaStep, StepContext, StepKey};
/// # #[derive(Debug, thiserror::Error)] #[error("unreachable")] struct Unreachable;
/// # impl Classify for Unreachable {}
/// # struct Pay;
/// # impl DeclaredStep for Pay { const NAME: &'static str = "pay"; }
/// # impl SagaStep for Pay {
/// #     type Input = (u64, String); type Output = u64; type Compensation = StepKey; type Error = Unreachable;
/// #     fn compensation(&self, _: &Self::Input, key: StepKey) -> StepKey { key }
/// #     async fn execute(&self, input: Self::Input, _: &StepContext) -> Result<u64, Unreachable> { Ok(input.0) }
/// #     async fn compensate(&self, _: StepKey, _: Option<u64>, _: &StepContext) -> Result<(), Unreachable> { Ok(()) }
/// # }
/// // Version 1 had the input `u64`, in cents.
/// let migration = SagaMigration::from_version(1).input(|cents: u64| (cents, "EUR".to_owned()));
/// let payment = Saga::<(u64, String), u64>::define("payment", 2, |saga, input| saga.step::<Pay>(input))?;
/// let payment = payment.with_migration(migration);
/// # assert_eq!(payment.shape().version, 2);
/// # Ok::<(), es_saga::DefineError>(())
/// ```
pub struct SagaMigration<I> {
    pub(super) untyped: Migration,
    marker: PhantomData<fn() -> I>,
}

/// A migration without its types.
#[derive(Clone)]
pub(crate) struct Migration {
    pub(crate) from: u32,
    input: Option<Convert>,
    outputs: BTreeMap<String, Convert>,
}

impl<I> fmt::Debug for SagaMigration<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outputs: Vec<&String> = self.untyped.outputs.keys().collect();
        f.debug_struct("SagaMigration")
            .field("from", &self.untyped.from)
            .field("outputs", &outputs)
            .finish_non_exhaustive()
    }
}

impl<I: Stored> SagaMigration<I> {
    /// Returns a migration of the instances of this version, which keeps the input and the outputs.
    #[must_use]
    pub fn from_version(version: u32) -> Self {
        let untyped = Migration { from: version, input: None, outputs: BTreeMap::new() };
        Self { untyped, marker: PhantomData }
    }

    /// Converts the input of the saga.
    #[must_use]
    pub fn input<A: Stored>(mut self, convert: impl Fn(A) -> I + Send + Sync + 'static) -> Self {
        self.untyped.input = Some(untyped(convert));
        self
    }

    /// Converts the output of a node, of each item for a node with a list.
    #[must_use]
    pub fn output<A: Stored, B: Stored>(
        mut self,
        node: &str,
        convert: impl Fn(A) -> B + Send + Sync + 'static,
    ) -> Self {
        self.untyped.outputs.insert(node.to_owned(), untyped(convert));
        self
    }
}

fn untyped<A: Stored, B: Stored>(convert: impl Fn(A) -> B + Send + Sync + 'static) -> Convert {
    Arc::new(move |value| serde_json::to_value(convert(A::deserialize(value)?)))
}

impl Migration {
    /// Returns the transition of an instance to the graph `shape`, or the reason why it cannot be carried over.
    pub(crate) fn transition(&self, instance: &SagaInstance, shape: &SagaShape) -> Result<Transition, String> {
        let unreadable = |what: &str, error: serde_json::Error| format!("{what} cannot be converted: {error}");
        let input = self.input.as_ref().map(|convert| convert(&instance.input)).transpose();
        let input = input.map_err(|error| unreadable("its input", error))?;
        let mut outputs = Vec::new();
        for (node, new) in (0..).zip(&shape.nodes) {
            let Some(convert) = self.outputs.get(&new.name) else { continue };
            let Some(old) = instance.shape().position(&new.name) else { continue };
            let units = instance.nodes().get(old as usize).map_or(&[][..], |node| &node.units);
            for (item, unit) in (0..).zip(units) {
                let Some(output) = &unit.output else { continue };
                let output =
                    convert(output).map_err(|error| unreadable(&format!("the output of {:?}", new.name), error))?;
                outputs.push(MigratedOutput { unit: Unit { node, item }, output });
            }
        }
        instance.check_migration(shape)?;
        let input = input.map(|value| RecordedValue { value });
        Ok(Transition::Migrate { shape: shape.clone(), input, outputs })
    }
}
