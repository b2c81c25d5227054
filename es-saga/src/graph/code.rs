//! The code of a node: its step, without its types.

use std::any::Any;
use std::sync::Arc;

use es_core::Commit;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::failure::{Classify, ErrorClass, StepFailure};
use crate::graph::Definition;
use crate::graph::input::{DecodeInputError, InputReader, Source};
use crate::id::StepKey;
use crate::instance::SagaInstance;
use crate::shape::{Effect, Repeat};
use crate::step::{DeclaredStep, LocalStep, SagaStep, StepContext, StepOptions, Stored};

/// A registered step.
pub(crate) type StepInstance = Arc<dyn Any + Send + Sync>;

/// What a call returned.
#[derive(Debug, Clone)]
pub(crate) struct Returned {
    /// The output; null for an undo.
    pub(crate) output: Value,
    /// The effect of a local step.
    pub(crate) commit: Option<Commit>,
}

/// The calls of a node.
pub(crate) trait NodeCode: Send + Sync {
    /// Returns the name under which the step is registered.
    fn step(&self) -> &str;
    /// Returns the definition of the child saga that the node runs instead of a step.
    fn child(&self) -> Option<&Arc<Definition>> {
        None
    }
    /// Returns whether the node calls a registered step.
    fn is_called(&self) -> bool {
        false
    }
    /// Returns whether a registered step has the type of this node.
    fn accepts(&self, _: &StepInstance) -> bool {
        false
    }
    fn options(&self) -> StepOptions {
        StepOptions::DEFAULT
    }
    /// Returns the number of items of the list.
    fn count(&self, instance: &SagaInstance) -> Result<usize, DecodeInputError>;
    /// Returns whether the condition holds.
    fn includes(&self, instance: &SagaInstance) -> Result<bool, DecodeInputError>;
    /// Returns the digest of the input, and the compensation of an external step, or the input of a child saga.
    fn prepare(
        &self,
        _step: Option<&StepInstance>,
        _instance: &SagaInstance,
        _context: &StepContext,
    ) -> Result<(String, Value), StepFailure> {
        Err(not_callable(self.step()))
    }
    /// Returns a call that executes the step.
    fn execute(
        &self,
        _step: &StepInstance,
        _instance: &SagaInstance,
        _context: StepContext,
    ) -> BoxFuture<'static, Result<Returned, StepFailure>> {
        let failure = not_callable(self.step());
        async { Err(failure) }.boxed()
    }
    /// Returns a call that undoes the step.
    fn undo(
        &self,
        _step: &StepInstance,
        _instance: &SagaInstance,
        _recorded: Recorded,
        _context: StepContext,
    ) -> BoxFuture<'static, Result<Option<Commit>, StepFailure>> {
        let failure = not_callable(self.step());
        async { Err(failure) }.boxed()
    }
    /// Returns the same code.
    fn share(&self) -> Box<dyn NodeCode>;
}

/// What is recorded of a step that is to be undone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    pub(crate) compensation: Option<Value>,
    pub(crate) output: Option<Value>,
}

/// Decides on the input whether a node executes its step.
pub(super) type Condition<I> = Arc<dyn Fn(&I) -> bool + Send + Sync>;

type DecodeWhole<I> = fn(&mut InputReader<'_>) -> Result<I, DecodeInputError>;

/// How a node gets its input.
pub(super) enum Wiring<I> {
    Whole(DecodeWhole<I>),
    If(DecodeWhole<I>, Condition<I>),
    Item,
}

impl<I> Clone for Wiring<I> {
    fn clone(&self) -> Self {
        match self {
            Self::Whole(decode) => Self::Whole(*decode),
            Self::If(decode, condition) => Self::If(*decode, Arc::clone(condition)),
            Self::Item => Self::Item,
        }
    }
}

/// The code of a node with a step of type `S`.
pub(super) struct TypedNode<S, K: StepKind<S>> {
    pub(super) sources: Vec<Source>,
    pub(super) wiring: Wiring<K::Input>,
}

/// Calls a step of type `S` as an external or as a local one.
pub(super) trait StepKind<S>: 'static {
    const EFFECT: Effect;
    type Input: Stored;
    type Output: Stored;

    fn compensation(step: &S, input: &Self::Input, key: StepKey) -> Result<Value, StepFailure>;

    /// Returns the output, and the effect of a local step.
    fn execute(
        step: Arc<S>,
        input: Self::Input,
        context: StepContext,
    ) -> impl Future<Output = Result<(Self::Output, Option<Commit>), StepFailure>> + Send + 'static;

    fn undo(
        step: Arc<S>,
        input: Result<Self::Input, DecodeInputError>,
        recorded: Recorded,
        context: StepContext,
    ) -> BoxFuture<'static, Result<Option<Commit>, StepFailure>>;
}

/// A [`SagaStep`].
pub(super) struct External;

impl<S: SagaStep> StepKind<S> for External {
    const EFFECT: Effect = Effect::External;
    type Input = S::Input;
    type Output = S::Output;

    fn compensation(step: &S, input: &S::Input, key: StepKey) -> Result<Value, StepFailure> {
        encode("compensation", &step.compensation(input, key), ErrorClass::Terminal)
    }

    async fn execute(
        step: Arc<S>,
        input: S::Input,
        context: StepContext,
    ) -> Result<(S::Output, Option<Commit>), StepFailure> {
        let output = step.execute(input, &context).await;
        output.map(|output| (output, None)).map_err(|error| StepFailure::of(&error))
    }

    fn undo(
        step: Arc<S>,
        _: Result<S::Input, DecodeInputError>,
        recorded: Recorded,
        context: StepContext,
    ) -> BoxFuture<'static, Result<Option<Commit>, StepFailure>> {
        async move {
            let compensation = decode("compensation", &recorded.compensation.unwrap_or_default())?;
            let output = recorded.output.map(|output| decode("output", &output)).transpose()?;
            let undone = step.compensate(compensation, output, &context).await;
            undone.map(|()| None).map_err(|error| StepFailure::of(&error))
        }
        .boxed()
    }
}

/// A [`LocalStep`].
pub(super) struct InStore;

impl<S: LocalStep> StepKind<S> for InStore {
    const EFFECT: Effect = Effect::Local;
    type Input = S::Input;
    type Output = S::Output;

    fn compensation(_: &S, _: &S::Input, _: StepKey) -> Result<Value, StepFailure> {
        Ok(Value::Null)
    }

    async fn execute(
        step: Arc<S>,
        input: S::Input,
        context: StepContext,
    ) -> Result<(S::Output, Option<Commit>), StepFailure> {
        let decided = step.execute(input, &context).await;
        decided.map(|(output, commit)| (output, Some(commit))).map_err(|error| certain(&error))
    }

    fn undo(
        step: Arc<S>,
        input: Result<S::Input, DecodeInputError>,
        recorded: Recorded,
        context: StepContext,
    ) -> BoxFuture<'static, Result<Option<Commit>, StepFailure>> {
        async move {
            let input = input.map_err(|error| unreadable(&error))?;
            let output = decode("output", &recorded.output.unwrap_or_default())?;
            step.undo(input, output, &context).await.map(Some).map_err(|error| certain(&error))
        }
        .boxed()
    }
}

/// Returns the failure of a local step, which has no effect unless its commit is written.
fn certain<E: Classify>(error: &E) -> StepFailure {
    let failure = StepFailure::of(error);
    let class = if failure.class == ErrorClass::Ambiguous { ErrorClass::Transient } else { failure.class };
    StepFailure { class, ..failure }
}

fn unreadable(error: &DecodeInputError) -> StepFailure {
    StepFailure::new(ErrorClass::Terminal, es_core::model::ErrorChain(error).to_string())
}

/// Encodes a value, and decodes it again, so that nothing is recorded that cannot be read.
fn encode<T: Stored>(what: &str, value: &T, class: ErrorClass) -> Result<Value, StepFailure> {
    let failed = |error: serde_json::Error| StepFailure::new(class, format!("could not encode the {what}: {error}"));
    let encoded = serde_json::to_value(value).map_err(failed)?;
    T::deserialize(&encoded).map_err(failed)?;
    Ok(encoded)
}

fn decode<T: Stored>(what: &str, value: &Value) -> Result<T, StepFailure> {
    T::deserialize(value)
        .map_err(|error| StepFailure::new(ErrorClass::Terminal, format!("the recorded {what} cannot be read: {error}")))
}

/// The namespace of the digests of inputs.
const INPUTS: Uuid = Uuid::from_u128(0x81c0_44f2_7b6d_5a9e_93e8_1d50_c7a2_0f3b);

fn digest(input: &Value) -> String {
    Uuid::new_v5(&INPUTS, input.to_string().as_bytes()).simple().to_string()
}

fn not_callable(step: &str) -> StepFailure {
    StepFailure::new(ErrorClass::Terminal, format!("{step:?} is not a step that can be called"))
}

impl<I: DeserializeOwned> Wiring<I> {
    fn input(&self, sources: &[Source], instance: &SagaInstance, item: u32) -> Result<I, DecodeInputError> {
        let mut reader = InputReader::new(instance, sources);
        match self {
            Self::Whole(decode) | Self::If(decode, _) => decode(&mut reader),
            Self::Item => reader.item(item),
        }
    }

    /// Returns whether the condition holds.
    fn includes(&self, sources: &[Source], instance: &SagaInstance) -> Result<bool, DecodeInputError> {
        match self {
            Self::If(_, condition) => Ok(condition(&self.input(sources, instance, 0)?)),
            Self::Whole(_) | Self::Item => Ok(true),
        }
    }

    pub(super) const fn repeat(&self) -> Repeat {
        match self {
            Self::Whole(_) => Repeat::Once,
            Self::If(..) => Repeat::Optional,
            Self::Item => Repeat::Each,
        }
    }
}

/// The code of a node that runs a child saga with an input of type `I`.
pub(super) struct ChildNode<I> {
    pub(super) child: Arc<Definition>,
    pub(super) sources: Vec<Source>,
    pub(super) wiring: Wiring<I>,
}

impl<I: Stored> NodeCode for ChildNode<I> {
    fn step(&self) -> &str {
        &self.child.shape.name
    }

    fn child(&self) -> Option<&Arc<Definition>> {
        Some(&self.child)
    }

    fn count(&self, instance: &SagaInstance) -> Result<usize, DecodeInputError> {
        InputReader::new(instance, &self.sources).count()
    }

    fn includes(&self, instance: &SagaInstance) -> Result<bool, DecodeInputError> {
        self.wiring.includes(&self.sources, instance)
    }

    fn prepare(
        &self,
        _: Option<&StepInstance>,
        instance: &SagaInstance,
        context: &StepContext,
    ) -> Result<(String, Value), StepFailure> {
        let input = self.wiring.input(&self.sources, instance, context.item).map_err(|error| unreadable(&error))?;
        let encoded = encode("input", &input, ErrorClass::Terminal)?;
        Ok((digest(&encoded), encoded))
    }

    fn share(&self) -> Box<dyn NodeCode> {
        let child = Arc::clone(&self.child);
        Box::new(Self { child, sources: self.sources.clone(), wiring: self.wiring.clone() })
    }
}

/// The name of the step of a delay, and of a delay without a name of its own.
pub(super) const DELAY: &str = "delay";

/// The code of a delay, whose condition has an input of type `I`.
pub(super) struct DelayNode<I> {
    pub(super) sources: Vec<Source>,
    pub(super) wiring: Wiring<I>,
}

impl<I: Stored> NodeCode for DelayNode<I> {
    fn step(&self) -> &str {
        DELAY
    }

    fn count(&self, instance: &SagaInstance) -> Result<usize, DecodeInputError> {
        InputReader::new(instance, &self.sources).count()
    }

    fn includes(&self, instance: &SagaInstance) -> Result<bool, DecodeInputError> {
        self.wiring.includes(&self.sources, instance)
    }

    fn share(&self) -> Box<dyn NodeCode> {
        Box::new(Self { sources: self.sources.clone(), wiring: self.wiring.clone() })
    }
}

impl<S: DeclaredStep, K: StepKind<S>> TypedNode<S, K> {
    /// Returns the step with its type. The coordinator checks the types of all steps when it starts.
    fn typed(step: &StepInstance) -> Result<Arc<S>, StepFailure> {
        Arc::clone(step).downcast::<S>().map_err(|_| {
            StepFailure::new(ErrorClass::Terminal, format!("step {:?} is registered with another type", S::NAME))
        })
    }
}

impl<S: DeclaredStep, K: StepKind<S>> NodeCode for TypedNode<S, K> {
    fn step(&self) -> &str {
        S::NAME
    }

    fn is_called(&self) -> bool {
        true
    }

    fn accepts(&self, step: &StepInstance) -> bool {
        (**step).is::<S>()
    }

    fn options(&self) -> StepOptions {
        S::OPTIONS
    }

    fn count(&self, instance: &SagaInstance) -> Result<usize, DecodeInputError> {
        InputReader::new(instance, &self.sources).count()
    }

    fn includes(&self, instance: &SagaInstance) -> Result<bool, DecodeInputError> {
        self.wiring.includes(&self.sources, instance)
    }

    fn prepare(
        &self,
        step: Option<&StepInstance>,
        instance: &SagaInstance,
        context: &StepContext,
    ) -> Result<(String, Value), StepFailure> {
        let Some(step) = step else { return Err(not_callable(S::NAME)) };
        let step = Self::typed(step)?;
        let input = self.wiring.input(&self.sources, instance, context.item).map_err(|error| unreadable(&error))?;
        let encoded = encode("input", &input, ErrorClass::Terminal)?;
        Ok((digest(&encoded), K::compensation(&step, &input, context.key)?))
    }

    fn execute(
        &self,
        step: &StepInstance,
        instance: &SagaInstance,
        context: StepContext,
    ) -> BoxFuture<'static, Result<Returned, StepFailure>> {
        let input = self.wiring.input(&self.sources, instance, context.item).map_err(|error| unreadable(&error));
        let step = Self::typed(step);
        // The effect of an external step remains even if its output cannot be stored.
        let class = if K::EFFECT == Effect::External { ErrorClass::Ambiguous } else { ErrorClass::Terminal };
        async move {
            let (output, commit) = K::execute(step?, input?, context).await?;
            Ok(Returned { output: encode("output", &output, class)?, commit })
        }
        .boxed()
    }

    fn undo(
        &self,
        step: &StepInstance,
        instance: &SagaInstance,
        recorded: Recorded,
        context: StepContext,
    ) -> BoxFuture<'static, Result<Option<Commit>, StepFailure>> {
        let input = self.wiring.input(&self.sources, instance, context.item);
        match Self::typed(step) {
            Ok(step) => K::undo(step, input, recorded, context),
            Err(failure) => async { Err(failure) }.boxed(),
        }
    }

    fn share(&self) -> Box<dyn NodeCode> {
        Box::new(Self { sources: self.sources.clone(), wiring: self.wiring.clone() })
    }
}
