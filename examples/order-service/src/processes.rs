//! Lists, shows and operates the instances of process managers, for the running service and for the command line.

use std::collections::BTreeSet;

use es_core::model::ErrorChain;
use es_core::{Aggregate, Timestamp};
use es_saga::OperatorNote;
use es_saga::process::{
    ConsumedEvent, OperateProcessError, ParkedEvent, ProcessAdmin, ProcessId, ProcessJournal, ProcessPhase,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::failure::Failure;
use crate::fulfilment::PaymentReminder;
use crate::sagas::operator_note;

/// The process that reminds customers who have not paid.
pub const REMINDERS: &str = PaymentReminder::CATEGORY;
/// The default maximum number of instances, or of events, in a list.
pub const DEFAULT_LIMIT: usize = 100;
/// The maximum number of processes of a store.
const MAX_PROCESSES: usize = 1000;

/// An instance of a process in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessSummary {
    /// The id, such as `payment_reminder:10248`.
    pub process: String,
    /// The phase, such as `running` or `ended`; `missing` if it could not be started, and `unreadable` if its events
    /// cannot be read.
    pub phase: String,
    /// When its first timer is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due: Option<Timestamp>,
    /// The names of its open waits for answers from outside.
    pub waits: Vec<String>,
    /// The number of its pending events.
    pub pending: usize,
    /// The reason why it is quarantined, if it is.
    pub quarantine: Option<String>,
    /// When it last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
}

/// An instance of a process with all that it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessReport {
    /// The id, such as `payment_reminder:10248`.
    pub process: String,
    /// The phase, such as `running` or `ended`; `missing` if it could not be started.
    pub phase: String,
    /// The reason why it is quarantined, if it is.
    pub quarantine: Option<String>,
    /// When it first reacted to an event.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
    /// The timers, by name.
    pub timers: Vec<TimerReport>,
    /// The keys by which events find it.
    pub keys: Vec<KeyReport>,
    /// The tokens of its open waits for answers from outside.
    pub waits: Vec<String>,
    /// The events that wait until it is tried again, in order.
    pub pending: Vec<PendingEvent>,
    /// The sagas that it has started, in order.
    pub sagas: Vec<String>,
}

/// A timer of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimerReport {
    /// The name.
    pub name: String,
    /// When it is due.
    #[schema(value_type = String, format = DateTime)]
    pub due: Timestamp,
}

/// A key of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyReport {
    /// The kind of the value.
    pub name: String,
    /// The value.
    pub value: String,
}

/// An event that waits until its instance is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingEvent {
    /// The position in the log.
    pub position: u64,
    /// The index among the events of its record, from 0.
    pub index: u32,
    /// The event type.
    pub event_type: String,
}

/// An event that a process has parked or skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetAsideEvent {
    /// The name of the process.
    pub process: String,
    /// The position in the log.
    pub position: u64,
    /// The index among the events of its record, from 0.
    pub index: u32,
    /// The event type.
    pub event_type: String,
    /// Why it was parked or skipped.
    pub reason: String,
    /// When it was parked, or when the process skipped it.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The operator and the reason, if an operator has skipped it.
    pub skipped_by: Option<String>,
}

/// The name of an action of an operator on an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProcessActionName {
    /// Tries a quarantined instance again: its pending events, then its timers.
    Retry,
    /// Drops the first pending event of a quarantined instance, and tries it again without the event.
    Drop,
    /// Ends an instance. What it has done remains.
    Abandon,
}

/// An action of an operator on an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessAction {
    /// The action.
    pub verb: ProcessActionName,
    /// The reason, which is recorded.
    pub reason: String,
    /// The person, which is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The name of an action of an operator on a parked event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParkedEventActionName {
    /// Offers it to the process again.
    Retry,
    /// Moves it to the skipped events.
    Skip,
}

/// An action of an operator on a parked event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ParkedEventAction {
    /// The action.
    pub verb: ParkedEventActionName,
    /// The index among the events of its record, from 0.
    #[serde(default)]
    pub index: u32,
    /// The reason, which is recorded.
    pub reason: String,
    /// The person, which is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The instances in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceFilter {
    /// Those that have not ended.
    Unfinished,
    /// Those of them that are quarantined.
    Quarantined,
}

/// The kind of a list of events that were set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetAsideKind {
    /// The events that wait for an operator.
    Parked,
    /// The events that are not handled.
    Skipped,
}

/// Parses the id of an instance. A text without the name of a process of the store is an order, whose reminder it is.
///
/// # Errors
/// - [`Failure::ProcessId`] if the text is empty.
/// - [`Failure::Store`] if the processes cannot be read.
pub async fn process_id(admin: &ProcessAdmin, text: &str) -> Result<ProcessId, Failure> {
    let known = all_names(admin).await?;
    Ok(match text.parse::<ProcessId>().ok().filter(|id| known.contains(id.process())) {
        Some(id) => id,
        None => ProcessId::new(REMINDERS, text)?,
    })
}

/// Returns the names of the processes of the service, and of those that have handled events of the store.
async fn all_names(admin: &ProcessAdmin) -> Result<BTreeSet<String>, Failure> {
    let stored = admin.processes(MAX_PROCESSES).await?;
    Ok(stored.into_iter().chain([REMINDERS.to_owned()]).collect())
}

/// Returns the names of the selected processes: the given one, or all.
async fn names(admin: &ProcessAdmin, process: Option<&str>) -> Result<BTreeSet<String>, Failure> {
    let known = all_names(admin).await?;
    match process {
        None => Ok(known),
        Some(name) if known.contains(name) => Ok([name.to_owned()].into()),
        Some(name) => {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            Err(Failure::NoProcessManager { name: name.to_owned(), known })
        }
    }
}

/// Lists instances of a process, or of all, at most `limit`, in the order in which they are due.
///
/// # Errors
/// - [`Failure::NoProcessManager`] if there is no such process.
/// - [`Failure::Store`] if the instances cannot be read.
pub async fn list(
    admin: &ProcessAdmin,
    filter: InstanceFilter,
    process: Option<&str>,
    limit: usize,
) -> Result<Vec<ProcessSummary>, Failure> {
    let mut found = Vec::new();
    for name in names(admin, process).await? {
        let rest = limit.saturating_sub(found.len());
        if rest == 0 {
            break;
        }
        let instances = match filter {
            InstanceFilter::Unfinished => admin.unfinished(&name, None, rest).await?,
            InstanceFilter::Quarantined => admin.quarantined(&name, None, rest).await?,
        };
        for instance in instances {
            found.push(summary(admin, &instance.id, instance.quarantine).await);
        }
    }
    Ok(found)
}

/// Returns the summary of an instance. `quarantine` is the reason of an instance that cannot be read.
async fn summary(admin: &ProcessAdmin, id: &ProcessId, quarantine: Option<String>) -> ProcessSummary {
    match admin.show(id).await {
        Ok(journal) => ProcessSummary {
            process: id.to_string(),
            phase: journal.phase().name().to_owned(),
            due: journal.timers().values().min().copied(),
            waits: journal.waits().iter().map(|token| token.wait().to_owned()).collect(),
            pending: journal.pending().len(),
            quarantine: journal.quarantine().map(ToOwned::to_owned),
            changed_at: journal.changed_at(),
        },
        Err(error) => ProcessSummary {
            process: id.to_string(),
            phase: "unreadable".to_owned(),
            due: None,
            waits: Vec::new(),
            pending: 0,
            quarantine: quarantine.or_else(|| Some(ErrorChain(&error).to_string())),
            changed_at: None,
        },
    }
}

/// Returns an instance with all that it waits for.
///
/// # Errors
/// - [`Failure::NoProcess`] if it does not exist.
/// - [`Failure::Load`] if it cannot be read.
pub async fn show(admin: &ProcessAdmin, id: &ProcessId) -> Result<ProcessReport, Failure> {
    let journal = admin.show(id).await?;
    // An instance whose first event was not handled is missing, and has a journal.
    if journal.phase() == ProcessPhase::Missing && journal.changed_at().is_none() {
        return Err(Failure::NoProcess(id.clone()));
    }
    Ok(ProcessReport::from(&journal))
}

/// Performs an action and returns the instance after it. `by` is the person that is recorded.
///
/// # Errors
/// - [`Failure::IncompleteAction`] if the reason is missing.
/// - [`Failure::NoProcess`] if the instance does not exist.
/// - [`Failure::OperateProcess`] if the action is not possible.
pub async fn act(
    admin: &ProcessAdmin,
    id: &ProcessId,
    action: &ProcessAction,
    by: &str,
) -> Result<ProcessSummary, Failure> {
    let note = operator_note(&action.reason, by)?;
    let acted = match action.verb {
        ProcessActionName::Retry => admin.retry(id, note).await,
        ProcessActionName::Drop => admin.drop_pending(id, note).await,
        ProcessActionName::Abandon => admin.abandon(id, note).await,
    };
    match acted {
        Ok(()) => Ok(summary(admin, id, None).await),
        Err(OperateProcessError::NoProcess { .. }) => Err(Failure::NoProcess(id.clone())),
        Err(error) => Err(error.into()),
    }
}

/// Lists the parked or skipped events of a process, or of all, at most `limit`, in the order of the log.
///
/// # Errors
/// - [`Failure::NoProcessManager`] if there is no such process.
/// - [`Failure::Store`] if the events cannot be read.
pub async fn set_aside(
    admin: &ProcessAdmin,
    kind: SetAsideKind,
    process: Option<&str>,
    limit: usize,
) -> Result<Vec<SetAsideEvent>, Failure> {
    let mut found = Vec::new();
    for name in names(admin, process).await? {
        let rest = limit.saturating_sub(found.len());
        if rest == 0 {
            break;
        }
        let events = match kind {
            SetAsideKind::Parked => admin.parked(&name, None, rest).await?,
            SetAsideKind::Skipped => admin.skipped(&name, None, rest).await?,
        };
        found.extend(events.into_iter().map(|event| SetAsideEvent::of(&name, event)));
    }
    Ok(found)
}

/// Performs an action on the parked event at a position, and returns the event. `by` is the person that is recorded.
///
/// # Errors
/// - [`Failure::IncompleteAction`] if the reason is missing.
/// - [`Failure::NoProcessManager`] if there is no such process.
/// - [`Failure::NoParkedEvent`] if there is no such parked event.
/// - [`Failure::OperateProcess`] if the store fails.
pub async fn act_on_event(
    admin: &ProcessAdmin,
    process: &str,
    position: u64,
    action: &ParkedEventAction,
    by: &str,
) -> Result<SetAsideEvent, Failure> {
    let note = operator_note(&action.reason, by)?;
    names(admin, Some(process)).await?;
    let missing = || Failure::NoParkedEvent { process: process.to_owned(), position, index: action.index };
    let parked = parked_event(admin, process, position, action.index).await?.ok_or_else(missing)?;
    let acted = match action.verb {
        ParkedEventActionName::Retry => admin.retry_parked(process, &parked.event, note).await.map(|()| parked),
        ParkedEventActionName::Skip => {
            let skipped = ParkedEvent { note: Some(note.clone()), ..parked };
            admin.skip_parked(process, &skipped.event, note).await.map(|()| skipped)
        }
    };
    match acted {
        Ok(event) => Ok(SetAsideEvent::of(process, event)),
        // The process has handled it, or another operator has skipped it in the meantime.
        Err(OperateProcessError::NoParked { .. }) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// Returns the parked event at a place.
async fn parked_event(
    admin: &ProcessAdmin,
    process: &str,
    position: u64,
    index: u32,
) -> Result<Option<ParkedEvent>, Failure> {
    let before = match (position.checked_sub(1), index.checked_sub(1)) {
        (_, Some(index)) => Some((position, index)),
        (Some(position), None) => Some((position, u32::MAX)),
        (None, None) => None,
    };
    let before = before.map(|(position, index)| ConsumedEvent { position, index, event_type: String::new() });
    let next = admin.parked(process, before.as_ref(), 1).await?.into_iter().next();
    Ok(next.filter(|parked| (parked.event.position, parked.event.index) == (position, index)))
}

impl SetAsideEvent {
    fn of(process: &str, parked: ParkedEvent) -> Self {
        let ParkedEvent { event: ConsumedEvent { position, index, event_type }, reason, time, note } = parked;
        let skipped_by = note.map(|OperatorNote { by, reason }| format!("{by}: {reason}"));
        Self { process: process.to_owned(), position, index, event_type, reason, time, skipped_by }
    }
}

impl From<&ProcessJournal> for ProcessReport {
    fn from(journal: &ProcessJournal) -> Self {
        let timers = journal.timers().iter().map(|(name, due)| TimerReport { name: name.clone(), due: *due });
        let keys = journal.keys().iter();
        let keys = keys.map(|key| KeyReport { name: key.name.clone(), value: key.value.clone() });
        let pending = journal.pending().map(|event| PendingEvent {
            position: event.position,
            index: event.index,
            event_type: event.event_type.clone(),
        });
        Self {
            process: journal.id().to_string(),
            phase: journal.phase().name().to_owned(),
            quarantine: journal.quarantine().map(ToOwned::to_owned),
            started_at: journal.started_at(),
            changed_at: journal.changed_at(),
            timers: timers.collect(),
            keys: keys.collect(),
            waits: journal.waits().iter().map(ToString::to_string).collect(),
            pending: pending.collect(),
            sagas: journal.sagas().iter().map(ToString::to_string).collect(),
        }
    }
}
