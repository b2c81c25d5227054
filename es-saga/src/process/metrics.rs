//! Metrics of processes, for the facade `metrics`. The handles are registered when a
//! [`ProcessManager`](crate::process::ProcessManager) is created.

use std::time::Duration;

use es_core::Timestamp;
use metrics::{Counter, Histogram};

const STARTED: &str = "es_processes_started_total";
const ENDED: &str = "es_processes_ended_total";
const SECONDS: &str = "es_process_seconds";
const QUARANTINED: &str = "es_processes_quarantined_total";
const REACTIONS: &str = "es_process_reactions_total";
const REACTION_SECONDS: &str = "es_process_reaction_seconds";
const EVENTS: &str = "es_process_events_set_aside_total";

/// The kind of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputKind {
    Event,
    Signal,
    Timer,
    Completion,
}

impl InputKind {
    /// Returns the name that metrics and spans show.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Signal => "signal",
            Self::Timer => "timer",
            Self::Completion => "completion",
        }
    }
}

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReactionOutcome {
    /// The reaction was committed.
    Handled,
    /// The input was handled before.
    Repeated,
    /// The input does not fit the instance, or waits at it.
    Refused,
    /// The process failed, or its reaction was refused.
    Failed,
}

/// Why an event of the source is not handled now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsideKind {
    Parked,
    Skipped,
    /// It is pending at its instance.
    Deferred,
}

/// The metrics of one process.
pub(crate) struct ProcessMetrics {
    started: Counter,
    ended: Counter,
    /// The time from the start of an instance to its end.
    seconds: Histogram,
    quarantined: Counter,
    parked: Counter,
    skipped: Counter,
    deferred: Counter,
    events: InputMetrics,
    signals: InputMetrics,
    timers: InputMetrics,
    completions: InputMetrics,
}

/// The metrics of the inputs of one kind.
struct InputMetrics {
    handled: Counter,
    repeated: Counter,
    refused: Counter,
    failed: Counter,
    /// The time from the load of the instance to the end of the commit, with retries after conflicts.
    seconds: Histogram,
}

impl ProcessMetrics {
    pub(crate) fn new(process: &'static str) -> Self {
        let aside = |outcome: &'static str| metrics::counter!(EVENTS, "process" => process, "outcome" => outcome);
        Self {
            started: metrics::counter!(STARTED, "process" => process),
            ended: metrics::counter!(ENDED, "process" => process, "outcome" => "ended"),
            seconds: metrics::histogram!(SECONDS, "process" => process),
            quarantined: metrics::counter!(QUARANTINED, "process" => process),
            parked: aside("parked"),
            skipped: aside("skipped"),
            deferred: aside("deferred"),
            events: InputMetrics::new(process, InputKind::Event),
            signals: InputMetrics::new(process, InputKind::Signal),
            timers: InputMetrics::new(process, InputKind::Timer),
            completions: InputMetrics::new(process, InputKind::Completion),
        }
    }

    /// Records an input: its time, and what became of it.
    pub(crate) fn record(&self, kind: InputKind, time: Duration, outcome: ReactionOutcome) {
        let input = match kind {
            InputKind::Event => &self.events,
            InputKind::Signal => &self.signals,
            InputKind::Timer => &self.timers,
            InputKind::Completion => &self.completions,
        };
        let counter = match outcome {
            ReactionOutcome::Handled => &input.handled,
            ReactionOutcome::Repeated => &input.repeated,
            ReactionOutcome::Refused => &input.refused,
            ReactionOutcome::Failed => &input.failed,
        };
        counter.increment(1);
        input.seconds.record(time.as_secs_f64());
    }

    /// Counts an instance that was started.
    pub(crate) fn count_started(&self) {
        self.started.increment(1);
    }

    /// Counts an instance that has ended at this time.
    pub(crate) fn count_ended(&self, started_at: Option<Timestamp>, now: Timestamp) {
        self.ended.increment(1);
        let time = started_at.and_then(|start| (now - start).to_std().ok());
        self.seconds.record(time.unwrap_or_default().as_secs_f64());
    }

    pub(crate) fn count_quarantined(&self) {
        self.quarantined.increment(1);
    }

    /// Counts an event that is not handled now.
    pub(crate) fn count_aside(&self, kind: AsideKind) {
        match kind {
            AsideKind::Parked => self.parked.increment(1),
            AsideKind::Skipped => self.skipped.increment(1),
            AsideKind::Deferred => self.deferred.increment(1),
        }
    }
}

impl InputMetrics {
    fn new(process: &'static str, kind: InputKind) -> Self {
        let input = kind.name();
        let outcome = |outcome: &'static str| {
            metrics::counter!(
                REACTIONS, "process" => process, "input" => input, "outcome" => outcome
            )
        };
        Self {
            handled: outcome("handled"),
            repeated: outcome("repeated"),
            refused: outcome("refused"),
            failed: outcome("failed"),
            seconds: metrics::histogram!(REACTION_SECONDS, "process" => process, "input" => input),
        }
    }
}

/// Counts an instance that an operator abandoned. An operator needs no code of the process, so there are no handles.
pub(crate) fn count_abandoned(process: &str) {
    metrics::counter!(ENDED, "process" => process.to_owned(), "outcome" => "abandoned").increment(1);
}
