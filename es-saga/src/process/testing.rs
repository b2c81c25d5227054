//! Tests of process managers in the given-when-then style, without a store and a runtime.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use es_core::aggregate::{Aggregate, EventContext, Source};
use es_core::model::{CommitPart, ErrorChain, EventId};
use es_core::schema::Event;
use es_core::{Evolve, Position, RecordedEvent, Revision, StreamId, Timestamp};
use serde_json::Value;

use crate::process::definition::{Mismatch, Process, Target};
use crate::process::id::CompletionToken;
use crate::process::journal::{ConsumedEvent, ProcessJournal, ProcessPhase, RecordedChanges};
use crate::process::reaction::{CommandTo, Reaction};
use crate::process::transition::{NoReaction, ProcessInput, process_id, react, split};

type IdOf<P> = <<P as Process>::State as Aggregate>::Id;

/// Starts a test of a process manager: given events, signals and timers that it has handled, when an input comes, then
/// it reacts with these commands, timers and changes.
///
/// The process handles all inputs as in production, also those that are given. The example of the
/// [module](crate::process) shows a test.
#[must_use]
pub fn given_process<P: Process>(process: P) -> GivenProcess<P> {
    GivenProcess {
        process: Arc::new(process),
        now: Timestamp::UNIX_EPOCH,
        instances: BTreeMap::new(),
        position: Position::FIRST,
    }
}

/// An instance under test.
struct TestedInstance<S: Aggregate> {
    id: S::Id,
    journal: ProcessJournal,
    state: S,
    revision: Option<Revision>,
}

/// A process with the inputs that it has handled.
pub struct GivenProcess<P: Process> {
    process: Arc<P>,
    now: Timestamp,
    instances: BTreeMap<String, TestedInstance<P::State>>,
    position: Position,
}

impl<P: Process> std::fmt::Debug for GivenProcess<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let instances: Vec<&ProcessJournal> = self.instances.values().map(|instance| &instance.journal).collect();
        f.debug_struct("GivenProcess").field("now", &self.now).field("instances", &instances).finish_non_exhaustive()
    }
}

impl<P: Process> GivenProcess<P> {
    /// Sets the time of the inputs that follow. The initial time is the start of 1970.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.now = es_core::__private::to_stored_precision(now);
        self
    }

    /// Adds an event of an aggregate that the process has handled.
    ///
    /// # Panics
    /// If the process does not react to it.
    #[must_use]
    #[track_caller]
    pub fn event<A: Aggregate>(self, id: &A::Id, event: &A::Event) -> Self {
        self.when_event::<A>(id, event).then_handled().and()
    }

    /// Adds a signal that an instance has handled.
    ///
    /// # Panics
    /// If the instance does not react to it.
    #[must_use]
    #[track_caller]
    pub fn signal(self, instance: &IdOf<P>, id: &str, signal: &P::Signal) -> Self {
        self.when_signal(instance, id, signal).then_handled().and()
    }

    /// Lets the process handle an event of an aggregate.
    ///
    /// # Panics
    /// If the event cannot be encoded, or the source of the process does not decode it.
    #[track_caller]
    #[must_use = "check the result with one of the `then` methods"]
    pub fn when_event<A: Aggregate>(mut self, id: &A::Id, event: &A::Event) -> ThenProcess<P> {
        let record = self.record(A::stream(id).expect("the id is valid in the name of a stream"), event);
        let process = Arc::clone(&self.process);
        let decoded = P::Source::decode(&record)
            .unwrap_or_else(|error| panic!("the source does not decode the event: {}", ErrorChain(&error)));
        let event = decoded.as_slice().first().expect("the record contains an event");
        let Some((step, target)) = split(process.correlate(event, &record)) else {
            return ThenProcess { given: self, instance: None, outcome: TestedOutcome::Ignored };
        };
        let instance = match target {
            Target::Id(id) => Some(id),
            Target::Key(key) => {
                let holder = self.instances.values().find(|instance| instance.journal.keys().contains(&key));
                holder.map(|instance| instance.id.clone())
            }
        };
        let Some(instance) = instance else {
            return ThenProcess { given: self, instance: None, outcome: TestedOutcome::Mismatch(Mismatch::NotStarted) };
        };
        let place = ConsumedEvent {
            position: record.position.get(),
            index: 0,
            event_type: record.data.event_type.as_str().to_owned(),
        };
        self.when(&instance, &ProcessInput::Event { event, record: &record, place, step })
    }

    /// Sends a signal to an instance.
    ///
    /// # Panics
    /// If the signal cannot be stored.
    #[track_caller]
    #[must_use = "check the result with one of the `then` methods"]
    pub fn when_signal(self, instance: &IdOf<P>, id: &str, signal: &P::Signal) -> ThenProcess<P> {
        let content = serde_json::to_value(signal).expect("the signal can be stored");
        self.when(instance, &ProcessInput::Signal { id, content: &content })
    }

    /// Fires a timer of an instance. The time becomes that of the timer, unless it is later.
    ///
    /// # Panics
    /// If the timer is not set.
    #[track_caller]
    #[must_use = "check the result with one of the `then` methods"]
    pub fn when_timer(mut self, instance: &IdOf<P>, name: &str) -> ThenProcess<P> {
        let journal = self.instances.get(&instance.to_string()).map(|instance| &instance.journal);
        let timers = journal.map(ProcessJournal::timers).cloned().unwrap_or_default();
        let due = timers.get(name).copied();
        let due = due.unwrap_or_else(|| panic!("expected the timer {name:?} to be set, found the timers {timers:?}"));
        self.now = self.now.max(due);
        self.when(instance, &ProcessInput::Timer { name: name.to_owned(), due })
    }

    /// Completes a wait with its token.
    #[track_caller]
    #[must_use = "check the result with one of the `then` methods"]
    pub fn when_completed(self, token: &CompletionToken, value: &Value) -> ThenProcess<P> {
        let instance = <P::State as Aggregate>::parse_id(token.process().instance());
        let instance = instance.unwrap_or_else(|error| panic!("the token has no id of the process: {error}"));
        self.when(&instance, &ProcessInput::Completion { token, value })
    }

    #[track_caller]
    fn when(mut self, id: &IdOf<P>, input: &ProcessInput<'_, P>) -> ThenProcess<P> {
        let key = id.to_string();
        let process = process_id(<P::State as Aggregate>::CATEGORY, id).expect("the id is valid");
        let mut instance = self.instances.remove(&key).unwrap_or_else(|| TestedInstance {
            id: id.clone(),
            journal: ProcessJournal::initial(&process),
            state: P::State::initial(id),
            revision: None,
        });
        let outcome = match react(&*self.process, &instance.journal, &instance.state, input, self.now) {
            Ok(reacted) => {
                let stored = reacted.event.encode_and_decode();
                stored.unwrap_or_else(|error| panic!("could not store the input: {}", ErrorChain(&error)));
                instance.journal.apply(&reacted.event, self.now);
                for event in &reacted.reaction.events {
                    let stream = P::State::stream(id).expect("the id is valid in the name of a stream");
                    let mut record = self.record(stream, event);
                    record.revision = Revision::following(instance.revision);
                    instance.revision = Some(record.revision);
                    instance.state.evolve(event, &EventContext::new(&record));
                }
                TestedOutcome::Handled(Box::new((reacted.changes, reacted.reaction)))
            }
            Err(NoReaction::Mismatch(mismatch)) => TestedOutcome::Mismatch(mismatch),
            Err(NoReaction::Repeated) => TestedOutcome::Repeated,
            Err(NoReaction::Failed(error)) => TestedOutcome::Refused(ErrorChain(&*error).to_string()),
            Err(other) => TestedOutcome::Refused(format!("{other:?}")),
        };
        self.instances.insert(key.clone(), instance);
        ThenProcess { given: self, instance: Some(key), outcome }
    }

    /// Returns the record of an event, as a store records it.
    #[track_caller]
    fn record<E: Event>(&mut self, stream: StreamId, event: &E) -> RecordedEvent {
        let encoded = event.encode_and_decode();
        let (encoded, _) = encoded.unwrap_or_else(|error| panic!("could not store an event: {}", ErrorChain(&error)));
        let position = self.position;
        self.position = position.next();
        RecordedEvent {
            position,
            stream,
            revision: Revision::FIRST,
            recorded_at: self.now,
            occurred_at: self.now,
            part: CommitPart { index: 0, size: 1 },
            data: encoded.into_data(EventId::from_uuid(uuid::Uuid::from_u128(position.get().into()))),
        }
    }
}

enum TestedOutcome<P: Process> {
    Handled(Box<(RecordedChanges, Reaction<P::State>)>),
    Ignored,
    Repeated,
    Mismatch(Mismatch),
    Refused(String),
}

impl<P: Process> TestedOutcome<P> {
    fn describe(&self) -> String {
        match self {
            Self::Handled(reacted) => format!("the reaction {:?}", reacted.1),
            Self::Ignored => "an ignored event".to_owned(),
            Self::Repeated => "an input that was handled before".to_owned(),
            Self::Mismatch(mismatch) => format!("the mismatch {mismatch:?}"),
            Self::Refused(reason) => format!("the error {reason:?}"),
        }
    }
}

/// The result of an input. The methods panic at the location of the call if the result differs from the expected one.
/// They can be chained.
pub struct ThenProcess<P: Process> {
    given: GivenProcess<P>,
    instance: Option<String>,
    outcome: TestedOutcome<P>,
}

impl<P: Process> std::fmt::Debug for ThenProcess<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThenProcess").field("outcome", &self.outcome.describe()).finish_non_exhaustive()
    }
}

impl<P: Process> ThenProcess<P> {
    /// Continues with further inputs.
    #[must_use]
    pub fn and(self) -> GivenProcess<P> {
        self.given
    }

    #[track_caller]
    fn reacted(&self) -> (&RecordedChanges, &Reaction<P::State>) {
        match &self.outcome {
            TestedOutcome::Handled(reacted) => (&reacted.0, &reacted.1),
            other => panic!("expected a reaction, found {}", other.describe()),
        }
    }

    #[track_caller]
    fn tested(&self) -> &TestedInstance<P::State> {
        let instance = self.instance.as_ref().and_then(|key| self.given.instances.get(key));
        instance.unwrap_or_else(|| panic!("expected an instance, found {}", self.outcome.describe()))
    }

    /// Expects that the instance reacted, in whatever way.
    #[track_caller]
    pub fn then_handled(self) -> Self {
        self.reacted();
        self
    }

    /// Expects exactly these new events of the state.
    #[track_caller]
    pub fn then_events(self, expected: impl IntoIterator<Item = <P::State as Aggregate>::Event>) -> Self
    where
        <P::State as Aggregate>::Event: Debug + PartialEq,
    {
        let expected: Vec<_> = expected.into_iter().collect();
        let (_, reaction) = self.reacted();
        assert_eq!(reaction.events, expected, "expected the events on the right, found those on the left");
        self
    }

    /// Expects this command to an aggregate, among others.
    #[track_caller]
    pub fn then_executes<A, C>(self, id: &A::Id, command: &C) -> Self
    where
        A: Aggregate,
        C: Debug + PartialEq + 'static,
    {
        let (_, reaction) = self.reacted();
        let of_type: Vec<&CommandTo<A, C>> =
            reaction.commands.iter().filter_map(|command| command.as_any().downcast_ref()).collect();
        let found: Vec<(&A::Id, &C)> = of_type.iter().map(|to| (&to.id, &to.command)).collect();
        assert!(found.contains(&(id, command)), "expected {command:?} to {id:?}, found {found:?} of {reaction:?}");
        self
    }

    /// Expects this number of commands.
    #[track_caller]
    pub fn then_command_count(self, expected: usize) -> Self {
        let (changes, _) = self.reacted();
        assert_eq!(changes.commands.len(), expected, "found the commands {:?}", changes.commands);
        self
    }

    /// Expects that an instance of a saga is started, among others. The id is written as `fulfilment:17`.
    #[track_caller]
    pub fn then_starts_saga(self, id: &str) -> Self {
        let (changes, _) = self.reacted();
        let found: Vec<String> = changes.sagas.iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|found| found == id), "expected the saga {id:?}, found {found:?}");
        self
    }

    /// Expects that a timer of the instance is set to this time, by this reaction or an earlier one.
    #[track_caller]
    pub fn then_timer(self, name: &str, due: Timestamp) -> Self {
        let timers = self.tested().journal.timers();
        assert_eq!(timers.get(name), Some(&due), "expected the timer {name:?}, found the timers {timers:?}");
        self
    }

    /// Expects that a timer of the instance is not set.
    #[track_caller]
    pub fn then_no_timer(self, name: &str) -> Self {
        let timers = self.tested().journal.timers();
        assert!(!timers.contains_key(name), "expected no timer {name:?}, found the timers {timers:?}");
        self
    }

    /// Expects that a wait of the instance is open, and passes its token to `check`.
    #[track_caller]
    pub fn then_waits(self, wait: &str, check: impl FnOnce(&CompletionToken)) -> Self {
        let waits = self.tested().journal.waits();
        let token = waits.into_iter().find(|token| token.wait() == wait);
        check(&token.unwrap_or_else(|| panic!("expected the wait {wait:?} to be open")));
        self
    }

    /// Expects that the instance has ended.
    #[track_caller]
    pub fn then_ended(self) -> Self {
        assert_eq!(self.tested().journal.phase(), ProcessPhase::Ended, "expected the instance to have ended");
        self
    }

    /// Expects that the instance is running.
    #[track_caller]
    pub fn then_running(self) -> Self {
        assert_eq!(self.tested().journal.phase(), ProcessPhase::Running, "expected the instance to be running");
        self
    }

    /// Calls `check` with the state of the instance after the reaction.
    #[track_caller]
    pub fn then_state(self, check: impl FnOnce(&P::State)) -> Self {
        check(&self.tested().state);
        self
    }

    /// Expects that the event is ignored.
    #[track_caller]
    pub fn then_ignored(self) -> Self {
        let found = self.outcome.describe();
        assert!(matches!(self.outcome, TestedOutcome::Ignored), "expected an ignored event, found {found}");
        self
    }

    /// Expects that the input was handled before and has no effect.
    #[track_caller]
    pub fn then_repeated(self) -> Self {
        let found = self.outcome.describe();
        assert!(matches!(self.outcome, TestedOutcome::Repeated), "expected a repeated input, found {found}");
        self
    }

    /// Expects that the event does not fit to its instance.
    #[track_caller]
    pub fn then_mismatch(self, expected: Mismatch) -> Self {
        let found = self.outcome.describe();
        let is_expected = matches!(self.outcome, TestedOutcome::Mismatch(mismatch) if mismatch == expected);
        assert!(is_expected, "expected the mismatch {expected:?}, found {found}");
        self
    }

    /// Expects that the input is refused, with a reason that contains this text.
    #[track_caller]
    pub fn then_refused(self, text: &str) -> Self {
        let found = self.outcome.describe();
        let is_expected = matches!(&self.outcome, TestedOutcome::Refused(reason) if reason.contains(text));
        assert!(is_expected, "expected an error with {text:?}, found {found}");
        self
    }
}
