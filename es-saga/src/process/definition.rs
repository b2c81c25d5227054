//! [`Process`]: the code of a process manager.

use std::fmt;

use es_core::aggregate::{Aggregate, EventOf, Source};
use es_core::{Evolve, RecordedEvent, Timestamp};
use serde_json::Value;

use crate::process::id::{CompletionToken, ProcessId, ProcessKey};
use crate::process::journal::ProcessJournal;
use crate::process::reaction::Reaction;
use crate::step::Stored;

/// The error of a reaction. Every error type converts into it.
pub type ReactionError = Box<dyn std::error::Error + Send + Sync>;

/// A process manager: reacts to events, signals, timers and completions with commands, timers and changes of its state.
///
/// The name of the process is the category of its state. It never changes, because stored instances have it. The
/// functions are synchronous and have no access to I/O and clocks. A function is called again if another writer was
/// faster, so it must have no effect of its own.
pub trait Process: Send + Sync + 'static {
    /// The state: an aggregate, whose events only this process writes.
    type State: Evolve;
    /// The aggregates whose events the process consumes.
    type Source: Source;
    /// What callers send to an instance; `()` if the process takes no signals.
    type Signal: Stored;

    /// Returns what an event means for the process, and to which instance it belongs.
    fn correlate(
        &self,
        event: &EventOf<Self::Source>,
        record: &RecordedEvent,
    ) -> Correlation<<Self::State as Aggregate>::Id>;

    /// Reacts to an event. The state is that before the event.
    ///
    /// # Errors
    /// Any error quarantines the instance with this event pending.
    fn on_event(
        &self,
        state: &Self::State,
        event: &EventOf<Self::Source>,
        context: &ProcessContext<'_>,
    ) -> Result<Reaction<Self::State>, ReactionError>;

    /// Reacts to a signal. The default refuses all signals.
    ///
    /// # Errors
    /// Any error refuses the signal: the caller gets it, and nothing is written.
    fn on_signal(
        &self,
        state: &Self::State,
        signal: Self::Signal,
        context: &ProcessContext<'_>,
    ) -> Result<Reaction<Self::State>, ReactionError> {
        let _ = (state, signal, context);
        Err("the process takes no signals".into())
    }

    /// Reacts to a timer that is due. The timer is removed; set it again for another reminder.
    ///
    /// # Errors
    /// Any error quarantines the instance. The timer stays due.
    fn on_timer(
        &self,
        state: &Self::State,
        timer: &str,
        context: &ProcessContext<'_>,
    ) -> Result<Reaction<Self::State>, ReactionError> {
        let _ = (state, context);
        Err(format!("the process does not react to the timer {timer:?}").into())
    }

    /// Reacts to the completion of a wait by a caller outside. The wait is closed.
    ///
    /// # Errors
    /// Any error refuses the completion: the caller gets it, and nothing is written.
    fn on_completion(
        &self,
        state: &Self::State,
        wait: &str,
        value: &Value,
        context: &ProcessContext<'_>,
    ) -> Result<Reaction<Self::State>, ReactionError> {
        let _ = (state, value, context);
        Err(format!("the process does not react to the completion of {wait:?}").into())
    }

    /// Returns what happens to an event that does not fit, such as one that continues an instance that was never
    /// started. The default parks it.
    fn on_mismatch(&self, event: &EventOf<Self::Source>, mismatch: Mismatch) -> MismatchPolicy {
        let _ = (event, mismatch);
        MismatchPolicy::Park
    }
}

/// What an event means for a process. `I` is the id of its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Correlation<I> {
    /// The event does not concern the process.
    Ignore,
    /// The event starts this instance, which must be new.
    Start(I),
    /// The event continues this instance, which must be running.
    Continue(Target<I>),
    /// The event ends this instance, which must be running. The instance reacts to it first.
    Stop(Target<I>),
}

/// The instance that an event continues or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target<I> {
    /// The instance with this id.
    Id(I),
    /// The running instance that has this key.
    Key(ProcessKey),
}

/// An event does not fit to the instance to which it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mismatch {
    /// It starts an instance that is running.
    AlreadyStarted,
    /// It continues or ends an instance that was never started, or no instance has its key.
    NotStarted,
    /// It starts, continues or ends an instance that has ended.
    AlreadyEnded,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyStarted => "the event starts an instance that is running",
            Self::NotStarted => "the event continues an instance that was never started, or whose key no instance has",
            Self::AlreadyEnded => "the event is for an instance that has ended",
        })
    }
}

/// What happens to an event that does not fit. In each case it is recorded with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MismatchPolicy {
    /// It is parked until an operator retries or skips it.
    #[default]
    Park,
    /// It is listed among the skipped events.
    Skip,
}

/// What a reaction can use besides the state and the input.
#[derive(Debug, Clone, Copy)]
pub struct ProcessContext<'a> {
    pub(crate) now: Timestamp,
    pub(crate) journal: &'a ProcessJournal,
    pub(crate) event: Option<&'a RecordedEvent>,
}

impl ProcessContext<'_> {
    /// Returns the time of the reaction.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the id of the instance.
    #[must_use]
    pub const fn id(&self) -> &ProcessId {
        self.journal.id()
    }

    /// Returns the recorded event, if the input is an event.
    #[must_use]
    pub const fn event(&self) -> Option<&RecordedEvent> {
        self.event
    }

    /// Returns the token of a wait: of the open one, or of the one that this reaction opens with
    /// [`Reaction::wait`](crate::process::Reaction::wait). Pass it to the outside, for example in a command.
    #[must_use]
    pub fn token(&self, wait: &str) -> CompletionToken {
        self.journal.token(wait)
    }
}
