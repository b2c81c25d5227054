//! The pure part of a transition: whether an input fits, the call of the process, and the event that records it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use es_core::aggregate::EventOf;
use es_core::{RecordedEvent, Timestamp};
use serde_json::Value;

use crate::process::definition::{Correlation, Mismatch, Process, ProcessContext, ReactionError, Target};
use crate::process::id::{CompletionToken, ProcessId};
use crate::process::journal::{
    ConsumedEvent, InputRecord, ProcessEvent, ProcessJournal, ProcessPhase, RecordedChanges, signal_digest,
};
use crate::process::metrics::InputKind;
use crate::process::reaction::Reaction;

/// The longest name of a timer, a wait, a key or a signal, in bytes.
const MAX_NAME: usize = 200;

/// What an instance reacts to.
pub(crate) enum ProcessInput<'a, P: Process> {
    Event { event: &'a EventOf<P::Source>, record: &'a RecordedEvent, place: ConsumedEvent, step: Step },
    Signal { id: &'a str, content: &'a Value },
    Timer { name: String, due: Timestamp },
    Completion { token: &'a CompletionToken, value: &'a Value },
}

/// What an event does to its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Start,
    Continue,
    Stop,
}

/// Why an instance does not react.
#[derive(Debug)]
pub(crate) enum NoReaction {
    /// The event does not fit.
    Mismatch(Mismatch),
    /// Earlier events of the instance are pending.
    HasPending,
    /// The signal or the completion was handled before, or the timer is not due any more.
    Repeated,
    /// The instance is not running.
    NotRunning(ProcessPhase),
    /// The id of the signal belongs to another signal.
    SignalIdReused,
    /// The wait was never opened.
    UnknownToken,
    /// The process returned an error.
    Failed(ReactionError),
}

/// A reaction with the event that records it.
pub(crate) struct Reacted<P: Process> {
    pub(crate) event: ProcessEvent,
    pub(crate) changes: RecordedChanges,
    pub(crate) reaction: Reaction<P::State>,
}

/// Returns the instance of an event and what the event does to it, or `None` if the event is ignored. The instance is
/// known by its id, or by a key.
pub(crate) fn split<I>(correlation: Correlation<I>) -> Option<(Step, Target<I>)> {
    match correlation {
        Correlation::Ignore => None,
        Correlation::Start(id) => Some((Step::Start, Target::Id(id))),
        Correlation::Continue(target) => Some((Step::Continue, target)),
        Correlation::Stop(target) => Some((Step::Stop, target)),
    }
}

/// Calls the code of a process. A panic is an error.
pub(crate) fn guard<T>(call: impl FnOnce() -> Result<T, ReactionError>) -> Result<T, ReactionError> {
    // The functions of a process take shared references, so a panic leaves no state half changed.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&'static str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(format!("the process panicked: {}", text.unwrap_or("no message")).into())
    })
}

/// Lets an instance react to an input.
pub(crate) fn react<P: Process>(
    process: &P,
    journal: &ProcessJournal,
    state: &P::State,
    input: &ProcessInput<'_, P>,
    now: Timestamp,
) -> Result<Reacted<P>, NoReaction> {
    check(journal, input, now)?;
    let event = if let ProcessInput::Event { record, .. } = input { Some(*record) } else { None };
    let context = ProcessContext { now, journal, event };
    let reaction = guard(|| match input {
        ProcessInput::Event { event, .. } => process.on_event(state, event, &context),
        ProcessInput::Signal { content, .. } => {
            process.on_signal(state, serde_json::from_value((*content).clone())?, &context)
        }
        ProcessInput::Timer { name, .. } => process.on_timer(state, name, &context),
        ProcessInput::Completion { token, value } => process.on_completion(state, &token.wait, value, &context),
    });
    let reaction = reaction.map_err(NoReaction::Failed)?;
    let stops = matches!(input, ProcessInput::Event { step: Step::Stop, .. });
    let changes = changes::<P>(journal, &reaction, stops).map_err(|reason| NoReaction::Failed(reason.into()))?;
    let event = ProcessEvent::Handled { input: input.record(), changes: changes.clone() };
    Ok(Reacted { event, changes, reaction })
}

impl<P: Process> ProcessInput<'_, P> {
    /// Returns the kind, for metrics and spans.
    pub(crate) const fn kind(&self) -> InputKind {
        match self {
            Self::Event { .. } => InputKind::Event,
            Self::Signal { .. } => InputKind::Signal,
            Self::Timer { .. } => InputKind::Timer,
            Self::Completion { .. } => InputKind::Completion,
        }
    }

    /// Returns the span of a reaction of an instance. Its field `traceparent` is the trace context of the event.
    pub(crate) fn span(&self, process: &str, instance: &impl std::fmt::Display) -> tracing::Span {
        let (input, traceparent) = match self {
            Self::Event { record, .. } => {
                (record.data.event_type.as_str(), record.data.metadata.get_str("traceparent"))
            }
            Self::Signal { id, .. } => (*id, None),
            Self::Timer { name, .. } => (name.as_str(), None),
            Self::Completion { token, .. } => (token.wait.as_str(), None),
        };
        let (kind, traceparent) = (self.kind().name(), traceparent.unwrap_or_default());
        tracing::info_span!("process_reaction", process, %instance, kind, input, traceparent)
    }

    fn record(&self) -> InputRecord {
        match self {
            Self::Event { place, .. } => InputRecord::Event(place.clone()),
            Self::Signal { id, content } => InputRecord::Signal { id: (*id).to_owned(), content: (*content).clone() },
            Self::Timer { name, due } => InputRecord::Timer { name: name.clone(), due: *due },
            Self::Completion { token, value } => {
                InputRecord::Completion { wait: token.wait.clone(), run: token.run, value: (*value).clone() }
            }
        }
    }
}

/// Checks that an input fits to the instance.
fn check<P: Process>(journal: &ProcessJournal, input: &ProcessInput<'_, P>, now: Timestamp) -> Result<(), NoReaction> {
    let phase = journal.phase();
    let is_running = phase == ProcessPhase::Running;
    match input {
        ProcessInput::Event { place, .. } if journal.first_pending().is_some_and(|first| first != place) => {
            Err(NoReaction::HasPending)
        }
        ProcessInput::Event { step, .. } => match (*step, phase) {
            (Step::Start, ProcessPhase::Missing) | (Step::Continue | Step::Stop, ProcessPhase::Running) => Ok(()),
            (Step::Start, ProcessPhase::Running) => Err(NoReaction::Mismatch(Mismatch::AlreadyStarted)),
            (_, ProcessPhase::Missing) => Err(NoReaction::Mismatch(Mismatch::NotStarted)),
            (_, ProcessPhase::Ended | ProcessPhase::Abandoned) => Err(NoReaction::Mismatch(Mismatch::AlreadyEnded)),
        },
        ProcessInput::Signal { id, content } => match journal.signal(id) {
            Some(digest) if digest == signal_digest(content) => Err(NoReaction::Repeated),
            Some(_) => Err(NoReaction::SignalIdReused),
            None if is_running => check_name("signal", id).map_err(|reason| NoReaction::Failed(reason.into())),
            None => Err(NoReaction::NotRunning(phase)),
        },
        ProcessInput::Timer { name, due } => {
            let is_due = *due <= now && journal.timers().get(name) == Some(due);
            if is_running && is_due { Ok(()) } else { Err(NoReaction::Repeated) }
        }
        ProcessInput::Completion { token, .. } => match journal.open_run(&token.wait) {
            Some(run) if run == token.run => Ok(()),
            _ if (1..=journal.runs(&token.wait)).contains(&token.run) => Err(NoReaction::Repeated),
            _ => Err(NoReaction::UnknownToken),
        },
    }
}

/// Returns what a reaction changes.
fn changes<P: Process>(
    journal: &ProcessJournal,
    reaction: &Reaction<P::State>,
    stops: bool,
) -> Result<RecordedChanges, String> {
    let mut changes = RecordedChanges {
        events: u32::try_from(reaction.events.len()).unwrap_or(u32::MAX),
        ended: stops || reaction.ends,
        commands: reaction.commands.iter().map(|command| command.label()).collect(),
        ..RecordedChanges::default()
    };
    for (name, due) in &reaction.timers {
        check_name("timer", name)?;
        // The timer that fired is removed by its record, so a cancellation of it changes nothing.
        if due.is_some() || journal.timers().contains_key(name) {
            changes.timers.insert(name.clone(), *due);
        }
    }
    for (key, is_added) in &reaction.keys {
        check_name("key", &key.name)?;
        check_name("key", &key.value)?;
        match (is_added, journal.keys().contains(key)) {
            (true, false) => changes.associated.push(key.clone()),
            (false, true) => changes.dissociated.push(key.clone()),
            _ => {}
        }
    }
    for (wait, is_open) in &reaction.waits {
        check_name("wait", wait)?;
        if *is_open != journal.open_run(wait).is_some() {
            changes.waits.insert(wait.clone(), *is_open);
        }
    }
    for saga in &reaction.sagas {
        changes.sagas.push(saga.label().parse().map_err(|error| format!("{error}"))?);
    }
    Ok(changes)
}

/// Checks that a name can be part of a row key and of a token.
fn check_name(kind: &str, name: &str) -> Result<(), String> {
    let is_valid = !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control);
    if is_valid && (kind != "wait" || !name.contains('/')) {
        return Ok(());
    }
    let without = if kind == "wait" { " and slashes" } else { "" };
    Err(format!(
        "expected the name of a {kind} of 1 to {MAX_NAME} bytes without control characters{without}, found {name:?}"
    ))
}

/// Returns the id of an instance.
pub(crate) fn process_id<I: std::fmt::Display>(process: &str, id: &I) -> Result<ProcessId, ReactionError> {
    Ok(ProcessId::new(process, id)?)
}
