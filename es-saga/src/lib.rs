//! Durable sagas for es-core.

mod coordinator;
mod failure;
mod graph;
mod hooks;
mod id;
pub mod instance;
mod shape;
mod step;

pub use coordinator::{CreateError, ExecuteSagaError, OperateError, RunningSagas, SagaAdmin, SagaCoordinator, SagaStartError, UnfinishedSaga};
pub use failure::{Classify, ErrorClass, Exhausted, StepFailure, StepRetry};
pub use graph::{DecodeInputError, DefineError, InputReader, MaybeOut, NodeBuilder, NodeOut, Provides, Saga, SagaGraph};
pub use hooks::{HookAction, HookPlace, HookPoint};
pub use id::{Direction, ParseSagaIdError, SagaId, StepKey};
pub use instance::{OperatorNote, Phase, SagaInstance, SagaVerb};
pub use shape::{Effect, Fingerprint, NodeShape, Pivot, Repeat, SagaShape, Undo};
pub use step::{DeclaredStep, LocalStep, SagaStep, StepContext, StepOptions, Stored};
