//! Durable sagas for es-core.

mod failure;
mod graph;
mod id;
pub mod instance;
mod shape;
mod step;

pub use failure::{Classify, ErrorClass, Exhausted, StepFailure, StepRetry};
pub use graph::{DecodeInputError, DefineError, InputReader, MaybeOut, NodeBuilder, NodeOut, Provides, Saga, SagaGraph};
pub use id::{Direction, ParseSagaIdError, SagaId, StepKey};
pub use instance::{OperatorNote, Phase, SagaInstance, SagaVerb};
pub use shape::{Effect, Fingerprint, NodeShape, Pivot, Repeat, SagaShape, Undo};
pub use step::{DeclaredStep, LocalStep, SagaStep, StepContext, StepOptions, Stored};
