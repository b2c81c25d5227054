//! [`ProcessEvent`]: what happened to an instance of a process, and [`ProcessJournal`], its fold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use es_core::{Aggregate, Event, EventContext, Evolve, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::id::SagaId;
use crate::instance::OperatorNote;
use crate::process::id::{CompletionToken, ProcessId, ProcessKey};

/// The place of an event that a process consumes: its position, and its index among the events into which its record
/// is decoded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConsumedEvent {
    /// The position.
    pub position: u64,
    /// The index, from 0.
    pub index: u32,
    /// The event type of the record.
    pub event_type: String,
}

/// What a process reacted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputRecord {
    /// An event of its source.
    Event(ConsumedEvent),
    /// A signal.
    Signal {
        /// The id of the signal, which is unique for the instance.
        id: String,
        /// The signal.
        content: Value,
    },
    /// A timer that was due.
    Timer {
        /// The name of the timer.
        name: String,
        /// The time from which it was due.
        due: Timestamp,
    },
    /// The completion of a wait.
    Completion {
        /// The name of the wait.
        wait: String,
        /// The number of times that the wait had been opened.
        run: u32,
        /// The value that the caller passed.
        value: Value,
    },
}

/// What a reaction changed, apart from the events of the state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedChanges {
    /// The number of events that were added to the state.
    #[serde(skip_serializing_if = "is_zero")]
    pub events: u32,
    /// The timers that were set, and those that were cancelled (`None`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub timers: BTreeMap<String, Option<Timestamp>>,
    /// The keys that the instance got.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub associated: Vec<ProcessKey>,
    /// The keys that the instance gave back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dissociated: Vec<ProcessKey>,
    /// The waits that were opened (`true`) or closed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub waits: BTreeMap<String, bool>,
    /// The commands that were executed: the streams of their aggregates and the types of the commands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// The sagas that were started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sagas: Vec<SagaId>,
    /// Whether the instance ended.
    #[serde(skip_serializing_if = "is_false")]
    pub ended: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// An event of the journal of an instance. The events of its state are in a stream of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[non_exhaustive]
pub enum ProcessEvent {
    /// The instance reacted to an input. The first one starts it.
    #[event(name = "process-input-handled")]
    Handled {
        /// The input.
        input: InputRecord,
        /// What the reaction changed.
        changes: RecordedChanges,
    },
    /// The instance could not react, or cannot be read, and waits for a person.
    #[event(name = "process-quarantined")]
    Quarantined {
        /// The reason.
        reason: String,
        /// The event to which it could not react, which becomes pending; `None` for another input.
        input: Option<ConsumedEvent>,
    },
    /// An event came while the instance was quarantined, and became pending.
    #[event(name = "process-event-deferred")]
    Deferred {
        /// The event.
        input: ConsumedEvent,
    },
    /// An operator had a quarantined instance tried again.
    #[event(name = "process-retried")]
    Retried(OperatorNote),
    /// The first pending event was dropped: by an operator, or because it was parked as a mismatch.
    #[event(name = "process-event-dropped")]
    PendingDropped(OperatorNote),
    /// An operator ended the instance. What it has done remains.
    #[event(name = "process-abandoned")]
    Abandoned(OperatorNote),
}

/// The phase of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessPhase {
    /// It was never started.
    Missing,
    /// It was started and has not ended.
    Running,
    /// It has ended.
    Ended,
    /// An operator has ended it.
    Abandoned,
}

impl ProcessPhase {
    /// Returns the name that lists show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Running => "running",
            Self::Ended => "ended",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The journal of an instance of a process: its phase, timers, keys and waits. Folded from [`ProcessEvent`]s, in the
/// stream `process-{process}:{instance}`.
#[derive(Debug, Clone, PartialEq, Aggregate)]
#[aggregate(category = "process", id = ProcessId, event = ProcessEvent)]
pub struct ProcessJournal {
    id: ProcessId,
    phase: ProcessPhase,
    quarantine: Option<String>,
    pending: VecDeque<ConsumedEvent>,
    timers: BTreeMap<String, Timestamp>,
    keys: BTreeSet<ProcessKey>,
    /// The open waits with their runs.
    waits: BTreeMap<String, u32>,
    /// The number of times that each wait has been opened.
    runs: BTreeMap<String, u32>,
    /// The ids of the handled signals with digests of their contents.
    signals: BTreeMap<String, Uuid>,
    sagas: Vec<SagaId>,
    started_at: Option<Timestamp>,
    changed_at: Option<Timestamp>,
}

/// The namespace of the digests of signals.
const SIGNALS: Uuid = Uuid::from_u128(0x10d9_4a77_c2e5_5b38_a6f4_35c0_8e9b_1d72);

/// Returns the digest of the content of a signal.
pub(crate) fn signal_digest(content: &Value) -> Uuid {
    Uuid::new_v5(&SIGNALS, content.to_string().as_bytes())
}

impl ProcessJournal {
    /// Returns the id of the instance.
    #[must_use]
    pub const fn id(&self) -> &ProcessId {
        &self.id
    }

    /// Returns the phase.
    #[must_use]
    pub const fn phase(&self) -> ProcessPhase {
        self.phase
    }

    /// Returns the reason why the instance is quarantined, if it is.
    #[must_use]
    pub fn quarantine(&self) -> Option<&str> {
        self.quarantine.as_deref()
    }

    /// Returns the events that wait until the instance is tried again, in order.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = &ConsumedEvent> {
        self.pending.iter()
    }

    /// Returns the timers with their due times.
    #[must_use]
    pub const fn timers(&self) -> &BTreeMap<String, Timestamp> {
        &self.timers
    }

    /// Returns the keys by which events find the instance.
    #[must_use]
    pub const fn keys(&self) -> &BTreeSet<ProcessKey> {
        &self.keys
    }

    /// Returns the tokens of the open waits.
    #[must_use]
    pub fn waits(&self) -> Vec<CompletionToken> {
        self.waits.iter().map(|(wait, run)| self.token_of(wait, *run)).collect()
    }

    /// Returns the sagas that the instance has started, in order.
    #[must_use]
    pub fn sagas(&self) -> &[SagaId] {
        &self.sagas
    }

    /// Returns the time of the first reaction.
    #[must_use]
    pub const fn started_at(&self) -> Option<Timestamp> {
        self.started_at
    }

    /// Returns the time of the last event of the journal.
    #[must_use]
    pub const fn changed_at(&self) -> Option<Timestamp> {
        self.changed_at
    }

    /// Returns the first pending event.
    pub(crate) fn first_pending(&self) -> Option<&ConsumedEvent> {
        self.pending.front()
    }

    /// Returns the timer that is due first.
    pub(crate) fn first_timer(&self) -> Option<(&str, Timestamp)> {
        self.timers.iter().min_by_key(|(name, due)| (**due, *name)).map(|(name, due)| (name.as_str(), *due))
    }

    /// Returns the run of a wait if it is open.
    pub(crate) fn open_run(&self, wait: &str) -> Option<u32> {
        self.waits.get(wait).copied()
    }

    /// Returns the number of times that a wait has been opened.
    pub(crate) fn runs(&self, wait: &str) -> u32 {
        self.runs.get(wait).copied().unwrap_or(0)
    }

    /// Returns the digest of a handled signal.
    pub(crate) fn signal(&self, id: &str) -> Option<Uuid> {
        self.signals.get(id).copied()
    }

    /// Returns the token of a wait: of the open one, or of the next one that is opened.
    pub(crate) fn token(&self, wait: &str) -> CompletionToken {
        self.token_of(wait, self.open_run(wait).unwrap_or_else(|| self.runs(wait).saturating_add(1)))
    }

    fn token_of(&self, wait: &str, run: u32) -> CompletionToken {
        CompletionToken { process: self.id.clone(), wait: wait.to_owned(), run }
    }

    fn handle(&mut self, input: &InputRecord, changes: &RecordedChanges) {
        match input {
            InputRecord::Event(event) => {
                if self.pending.front() == Some(event) {
                    self.pending.pop_front();
                }
            }
            InputRecord::Signal { id, content } => {
                self.signals.insert(id.clone(), signal_digest(content));
            }
            InputRecord::Timer { name, .. } => {
                self.timers.remove(name);
            }
            InputRecord::Completion { wait, .. } => {
                self.waits.remove(wait);
            }
        }
        if self.phase == ProcessPhase::Missing {
            self.phase = ProcessPhase::Running;
        }
        for (name, due) in &changes.timers {
            match due {
                Some(due) => self.timers.insert(name.clone(), *due),
                None => self.timers.remove(name),
            };
        }
        self.keys.extend(changes.associated.iter().cloned());
        self.keys.retain(|key| !changes.dissociated.contains(key));
        for (wait, is_open) in &changes.waits {
            if *is_open {
                let runs = self.runs.entry(wait.clone()).or_default();
                *runs = runs.saturating_add(1);
                self.waits.insert(wait.clone(), *runs);
            } else {
                self.waits.remove(wait);
            }
        }
        self.sagas.extend(changes.sagas.iter().cloned());
        if changes.ended {
            self.end(ProcessPhase::Ended);
        }
    }

    fn end(&mut self, phase: ProcessPhase) {
        self.phase = phase;
        self.timers.clear();
        self.keys.clear();
        self.waits.clear();
    }
}

impl Evolve for ProcessJournal {
    fn initial(id: &ProcessId) -> Self {
        Self {
            id: id.clone(),
            phase: ProcessPhase::Missing,
            quarantine: None,
            pending: VecDeque::new(),
            timers: BTreeMap::new(),
            keys: BTreeSet::new(),
            waits: BTreeMap::new(),
            runs: BTreeMap::new(),
            signals: BTreeMap::new(),
            sagas: Vec::new(),
            started_at: None,
            changed_at: None,
        }
    }

    fn evolve(&mut self, event: &ProcessEvent, at: &EventContext<'_>) {
        self.apply(event, at.occurred_at());
    }
}

impl ProcessJournal {
    /// Applies an event that happened at this time.
    pub(crate) fn apply(&mut self, event: &ProcessEvent, time: Timestamp) {
        self.changed_at = Some(time);
        match event {
            ProcessEvent::Handled { input, changes } => {
                self.started_at.get_or_insert(time);
                self.handle(input, changes);
            }
            ProcessEvent::Quarantined { reason, input } => {
                self.quarantine = Some(reason.clone());
                self.pending.extend(input.clone());
            }
            ProcessEvent::Deferred { input } => self.pending.push_back(input.clone()),
            ProcessEvent::Retried(_) => self.quarantine = None,
            ProcessEvent::PendingDropped(_) => {
                self.quarantine = None;
                self.pending.pop_front();
            }
            ProcessEvent::Abandoned(_) => {
                self.quarantine = None;
                self.pending.clear();
                self.end(ProcessPhase::Abandoned);
            }
        }
    }
}
