//! The sagas of this project that are measured.

use std::sync::Arc;
use std::time::Duration;

use es_core::{Commit, EventStore, EventType, NewEvent, StreamId};
use es_saga::{
    Classify, DeclaredStep, LocalStep, NodeOut, RunningSagas, Saga, SagaCoordinator, SagaGraph, StepContext, StepKey,
    step_function,
};

use crate::contender::SagaSteps;
use crate::failure::Failure;

type Graph = for<'g> fn(&mut SagaGraph<'g>, NodeOut<'g, u64>) -> NodeOut<'g, u64>;

fn define(name: &str, graph: Graph) -> Result<Saga<u64, u64>, Failure> {
    Saga::define(name, 1, graph).map_err(|error| Failure::caused_by("define a saga", &error))
}

/// Returns a saga of external steps, one after the other.
pub(crate) fn external(steps: SagaSteps) -> Result<Saga<u64, u64>, Failure> {
    match steps {
        SagaSteps::Two => define("two-calls", |saga, input| calls(saga, input, SagaSteps::Two)),
        SagaSteps::Hundred => define("hundred-calls", |saga, input| calls(saga, input, SagaSteps::Hundred)),
    }
}

fn calls<'g>(saga: &mut SagaGraph<'g>, input: NodeOut<'g, u64>, steps: SagaSteps) -> NodeOut<'g, u64> {
    (0..steps.count()).fold(input, |input, number| saga.node(&format!("call-{number}")).step::<Call>(input))
}

/// Returns a saga of local steps, one after the other.
pub(crate) fn local(steps: SagaSteps) -> Result<Saga<u64, u64>, Failure> {
    match steps {
        SagaSteps::Two => define("two-notes", |saga, input| notes(saga, input, SagaSteps::Two)),
        SagaSteps::Hundred => define("hundred-notes", |saga, input| notes(saga, input, SagaSteps::Hundred)),
    }
}

fn notes<'g>(saga: &mut SagaGraph<'g>, input: NodeOut<'g, u64>, steps: SagaSteps) -> NodeOut<'g, u64> {
    (0..steps.count()).fold(input, |input, number| saga.node(&format!("note-{number}")).local::<Note>(input))
}

/// Returns a saga whose first step is tried again much later.
pub(crate) fn waiting() -> Result<Saga<u64, u64>, Failure> {
    define("waiting", |saga, input| saga.step::<Unavailable>(input))
}

/// Starts a coordinator of all sagas.
pub(crate) async fn start(store: &Arc<dyn EventStore>) -> Result<RunningSagas, Failure> {
    let mut coordinator = SagaCoordinator::new().step(Note).step(Call).step(Unavailable).saga(&waiting()?);
    for steps in SagaSteps::ALL {
        coordinator = coordinator.saga(&external(steps)?).saga(&local(steps)?);
    }
    let started = coordinator.start(Arc::clone(store)).await;
    started.map_err(|error| Failure::caused_by("start the coordinator", &error))
}

/// Stops a coordinator.
pub(crate) async fn stop(sagas: RunningSagas) -> Result<(), Failure> {
    if sagas.shutdown(Duration::from_secs(60)).await {
        Ok(())
    } else {
        Err(Failure::new("stop the coordinator", "calls did not end within 60 s"))
    }
}

/// Executes a saga to its end.
pub(crate) async fn execute(sagas: &RunningSagas, saga: &Saga<u64, u64>, name: &str) -> Result<(), Failure> {
    let executed = sagas.execute(saga, name, &1).await;
    executed.map(|_| ()).map_err(|error| Failure::caused_by("execute a saga", &error))
}

/// Returns the event that a local step appends.
pub(crate) fn noted() -> Result<NewEvent, Failure> {
    let event_type = EventType::new("noted").map_err(|error| Failure::caused_by("create an event type", &error))?;
    Ok(NewEvent::json(event_type, r#"{"note":"4815162342"}"#))
}

#[derive(Debug, thiserror::Error)]
#[error("the step failed")]
struct StepFailed;

impl Classify for StepFailed {}

/// A local step that appends one event to a stream of its own.
struct Note;

impl DeclaredStep for Note {
    const NAME: &'static str = "note";
}

impl LocalStep for Note {
    type Input = u64;
    type Output = u64;
    type Error = StepFailed;

    async fn execute(&self, input: u64, context: &StepContext) -> Result<(u64, Commit), StepFailed> {
        let stream = StreamId::of("note", context.key()).map_err(|_| StepFailed)?;
        Ok((input, Commit::new().append(stream, noted().map_err(|_| StepFailed)?)))
    }

    async fn undo(&self, _: u64, _: u64, _: &StepContext) -> Result<Commit, StepFailed> {
        Ok(Commit::new())
    }
}

/// An external step that returns at once.
#[step_function(step = Call, name = "call", undo = undo)]
async fn call(input: u64) -> Result<u64, StepFailed> {
    Ok(input)
}

/// An external step that fails, and is tried again at the earliest after minutes.
#[step_function(step = Unavailable, name = "unavailable", undo = undo, retry(first = "1d", cap = "1d"))]
async fn unavailable(_: u64) -> Result<u64, StepFailed> {
    Err(StepFailed)
}

async fn undo(_: StepKey, _: Option<u64>, _: &StepContext) -> Result<(), StepFailed> {
    Ok(())
}
