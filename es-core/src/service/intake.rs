//! [`Intakes`]: the tasks of a service that accept requests from outside.

use std::collections::HashMap;
use std::future::Future;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use crate::model::panic::panic_message;
use crate::service::{Component, ComponentFailure};

type IntakeResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// The phase of a service, which its intakes observe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IntakePhase {
    /// The service is not running yet.
    Waiting,
    Running,
    Stopping,
}

/// Signals an intake to stop.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Receiver<IntakePhase>);

impl StopSignal {
    /// Waits until the service shuts down.
    pub async fn requested(mut self) {
        // An error means that the service was dropped, which stops the intake as well.
        let _ = self.0.wait_for(|phase| *phase == IntakePhase::Stopping).await;
    }
}

/// The intake tasks and their names.
#[derive(Debug)]
pub(super) struct Intakes {
    phase: watch::Sender<IntakePhase>,
    tasks: JoinSet<IntakeResult>,
    names: HashMap<Id, &'static str>,
}

impl Intakes {
    pub(super) fn new() -> Self {
        Self { phase: watch::Sender::new(IntakePhase::Waiting), tasks: JoinSet::new(), names: HashMap::new() }
    }

    /// Adds a task. It waits for [`begin`](Self::begin).
    pub(super) fn spawn<F, T, E>(&mut self, name: &'static str, task: F)
    where
        F: FnOnce(StopSignal) -> T,
        T: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let mut phase = self.phase.subscribe();
        let run = task(StopSignal(phase.clone()));
        let handle = self.tasks.spawn(async move {
            // An error means that the service was dropped, which also aborts this task.
            let _ = phase.wait_for(|phase| *phase != IntakePhase::Waiting).await;
            run.await.map_err(Into::into)
        });
        self.names.insert(handle.id(), name);
    }

    /// Waits until an intake ends without a request to stop. Never returns if there are no intakes.
    pub(super) async fn ended(&mut self) -> ComponentFailure {
        match self.tasks.join_next_with_id().await {
            Some(ended) => {
                let (component, failure) = self.outcome(ended);
                ComponentFailure {
                    component,
                    error: failure.unwrap_or_else(|| "it returned without a request to stop".into()),
                }
            }
            None => std::future::pending().await,
        }
    }

    /// Starts the intakes.
    pub(super) fn begin(&self) {
        self.phase.send_replace(IntakePhase::Running);
    }

    pub(super) fn request_stop(&self) {
        self.phase.send_replace(IntakePhase::Stopping);
    }

    /// Waits for the next intake that ends after a request to stop; `None` after the last one.
    pub(super) async fn next_finished(&mut self) -> Option<Result<(), ComponentFailure>> {
        let ended = self.tasks.join_next_with_id().await?;
        let (component, failure) = self.outcome(ended);
        Some(failure.map_or(Ok(()), |error| Err(ComponentFailure { component, error })))
    }

    /// Aborts the intakes that still run, and returns them.
    pub(super) fn abort(&mut self) -> Vec<Component> {
        self.tasks.abort_all();
        self.names.drain().map(|(_, name)| Component::Intake(name.to_owned())).collect()
    }

    fn outcome(
        &mut self,
        ended: Result<(Id, IntakeResult), JoinError>,
    ) -> (Component, Option<Box<dyn std::error::Error + Send + Sync>>) {
        let (id, failure) = match ended {
            Ok((id, result)) => (id, result.err()),
            Err(error) => (error.id(), Some(join_failure(error))),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        (Component::Intake(name.to_owned()), failure)
    }
}

fn join_failure(error: JoinError) -> Box<dyn std::error::Error + Send + Sync> {
    match error.try_into_panic() {
        Ok(panic) => format!("it panicked: {}", panic_message(&*panic)).into(),
        Err(error) => error.into(),
    }
}
