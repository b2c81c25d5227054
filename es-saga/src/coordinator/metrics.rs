//! Metrics of sagas, for the facade `metrics`. The handles are registered when a coordinator starts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use crate::failure::ErrorClass;
use crate::graph::Definition;
use crate::id::Direction;
use crate::instance::{Phase, SagaEvent, SagaInstance};

const STARTED: &str = "es_sagas_started_total";
const ENDED: &str = "es_sagas_ended_total";
const SECONDS: &str = "es_saga_seconds";
const STUCK: &str = "es_sagas_stuck_total";
const QUARANTINED: &str = "es_sagas_quarantined_total";
const RUNNING: &str = "es_sagas_running";
const ATTEMPTS: &str = "es_saga_step_attempts_total";
const STEP_SECONDS: &str = "es_saga_step_seconds";

/// The metrics of one saga.
pub(super) struct SagaMetrics {
    started: Counter,
    completed: Counter,
    compensated: Counter,
    killed: Counter,
    abandoned: Counter,
    stuck: Counter,
    pub(super) quarantined: Counter,
    /// The sagas that this process runs now.
    running: Gauge,
    /// The time from the creation to the end.
    seconds: Histogram,
    steps: BTreeMap<String, [Arc<StepMetrics>; 2]>,
}

/// The metrics of the calls of one step in one direction.
pub(super) struct StepMetrics {
    succeeded: Counter,
    transient: Counter,
    terminal: Counter,
    ambiguous: Counter,
    /// The time of a call.
    seconds: Histogram,
}

/// A saga that is counted as running until this is dropped.
pub(super) struct RunningGuard(Gauge);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl SagaMetrics {
    pub(super) fn new(definition: &Definition) -> Self {
        let saga = || definition.shape.name.clone();
        let ended = |outcome: &'static str| metrics::counter!(ENDED, "saga" => saga(), "outcome" => outcome);
        let steps = definition.codes.iter().filter(|code| code.is_called()).map(|code| {
            let metrics = |direction| Arc::new(StepMetrics::new(&definition.shape.name, code.step(), direction));
            (code.step().to_owned(), [metrics("execute"), metrics("undo")])
        });
        Self {
            started: metrics::counter!(STARTED, "saga" => saga()),
            completed: ended("completed"),
            compensated: ended("compensated"),
            killed: ended("killed"),
            abandoned: ended("abandoned"),
            stuck: metrics::counter!(STUCK, "saga" => saga()),
            quarantined: metrics::counter!(QUARANTINED, "saga" => saga()),
            running: metrics::gauge!(RUNNING, "saga" => saga()),
            seconds: metrics::histogram!(SECONDS, "saga" => saga()),
            steps: steps.collect(),
        }
    }

    /// Counts a saga that is run by this process until the guard is dropped. A new one is counted as started.
    pub(super) fn run(&self, is_new: bool) -> RunningGuard {
        self.started.increment(u64::from(is_new));
        self.running.increment(1.0);
        RunningGuard(self.running.clone())
    }

    /// Counts what committed events mean for the saga.
    pub(super) fn count(&self, events: &[SagaEvent], state: &SagaInstance) {
        for event in events {
            let ended = match event {
                SagaEvent::Stuck { .. } => {
                    self.stuck.increment(1);
                    continue;
                }
                SagaEvent::Completed => &self.completed,
                SagaEvent::Compensated => &self.compensated,
                SagaEvent::Killed(_) => &self.killed,
                _ => continue,
            };
            ended.increment(1);
            let time = state.created_at().zip(state.changed_at()).and_then(|(from, to)| (to - from).to_std().ok());
            self.seconds.record(time.unwrap_or_default().as_secs_f64());
        }
    }

    /// Counts the end of a saga by an operator.
    pub(super) fn count_operated(&self, phase: Phase) {
        match phase {
            Phase::Killed => self.killed.increment(1),
            Phase::Abandoned => self.abandoned.increment(1),
            _ => {}
        }
    }

    pub(super) fn step(&self, step: &str, direction: Direction) -> Option<Arc<StepMetrics>> {
        let [execute, undo] = self.steps.get(step)?;
        Some(Arc::clone(if direction == Direction::Forward { execute } else { undo }))
    }
}

impl StepMetrics {
    fn new(saga: &str, step: &str, direction: &'static str) -> Self {
        let (saga, step) = (|| saga.to_owned(), || step.to_owned());
        let attempts = |outcome: &'static str| {
            metrics::counter!(
                ATTEMPTS, "saga" => saga(), "step" => step(), "direction" => direction, "outcome" => outcome
            )
        };
        Self {
            succeeded: attempts("succeeded"),
            transient: attempts("transient"),
            terminal: attempts("terminal"),
            ambiguous: attempts("ambiguous"),
            seconds: metrics::histogram!(STEP_SECONDS, "saga" => saga(), "step" => step(), "direction" => direction),
        }
    }

    /// Records a call: its time, and the class of its failure if it failed.
    pub(super) fn record(&self, time: Duration, failure: Option<ErrorClass>) {
        let counter = match failure {
            None => &self.succeeded,
            Some(ErrorClass::Transient) => &self.transient,
            Some(ErrorClass::Terminal) => &self.terminal,
            Some(ErrorClass::Ambiguous) => &self.ambiguous,
        };
        counter.increment(1);
        self.seconds.record(time.as_secs_f64());
    }
}
