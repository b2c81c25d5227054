//! Lists, shows and operates sagas, for the running service and for the command line.

use es_core::model::ErrorChain;
use es_core::{Aggregate, EventType, LogRead, Timestamp};
use es_saga::instance::VerbRefused;
use es_saga::{
    ItemDetails, NodeDetails, OperateError, OperatorNote, SagaAdmin, SagaDetails, SagaId, SagaInstance, SagaVerb,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::failure::Failure;
use crate::fulfilment::{FULFILMENT, PAYMENT_REMINDER};
use crate::shop::Shop;

/// The default maximum number of sagas in a list.
pub const DEFAULT_LIMIT: usize = 100;
/// The phase of a saga that cannot be read.
pub(crate) const UNREADABLE: &str = "unreadable";

/// A saga in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SagaSummary {
    /// The id, such as `fulfilment:10248`.
    pub saga: String,
    /// The phase, such as `running` or `stuck`; `unreadable` if its events cannot be read.
    pub phase: String,
    /// Whether an operator has paused it.
    pub is_paused: bool,
    /// The reason of the last change of its phase, or why it cannot be run.
    pub reason: Option<String>,
    /// When it last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
}

/// A saga with its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SagaReport {
    /// The id, such as `fulfilment:10248`.
    pub saga: String,
    /// The phase, such as `running` or `stuck`.
    pub phase: String,
    /// Whether an operator has paused it.
    pub is_paused: bool,
    /// The reason of the last change of its phase, or why it cannot be run.
    pub reason: Option<String>,
    /// The version of its graph.
    pub version: u32,
    /// When it was created.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// When it last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
    /// When it is compensated unless it is past its pivot.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
    /// The steps, in the order of the graph.
    pub steps: Vec<StepReport>,
    /// The graph with states and times, as a Mermaid flowchart.
    pub mermaid: String,
}

/// A step of a saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepReport {
    /// The name.
    pub step: String,
    /// The index of the item, from 0, if the step is executed for each item of a list.
    pub item: u32,
    /// The status, such as `succeeded` or `waiting`.
    pub status: String,
    /// The number of attempts to execute it.
    pub attempts: u32,
    /// The number of attempts to undo it.
    pub undo_attempts: u32,
    /// When it is tried again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retry_at: Option<Timestamp>,
    /// When its first attempt started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it succeeded, failed for the last time, was skipped or was undone.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// The last error.
    pub error: Option<String>,
}

/// The name of an action of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SagaActionName {
    /// Starts no new call until it is resumed.
    Pause,
    /// Continues a paused saga.
    Resume,
    /// Tries a failed step, or the failed undo of a step, again.
    Retry,
    /// Takes a failed step, or the failed undo of a step, for done.
    Skip,
    /// Undoes all steps.
    Cancel,
    /// Ends the saga at once, without undoing its steps.
    Kill,
    /// Executes a step, and those that depend on it, again.
    Restart,
    /// Ends a saga that is stuck or paused. Its effects remain.
    Abandon,
}

/// An action of an operator on a saga.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SagaAction {
    /// The action.
    pub verb: SagaActionName,
    /// The name of the step, for `retry`, `skip` and `restart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The index of the item of the step, from 0.
    #[serde(default)]
    pub item: u32,
    /// The output of a skipped step, which is required if a later step uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub output: Option<Value>,
    /// The reason, which is recorded.
    pub reason: String,
    /// The person, which is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl SagaAction {
    /// Returns the action, with its step and its item.
    fn verb(&self) -> Result<SagaVerb, Failure> {
        let step = || {
            let missing = "expected the name of a step for retry, skip and restart";
            self.step.clone().ok_or(Failure::IncompleteAction { detail: missing })
        };
        Ok(match self.verb {
            SagaActionName::Pause => SagaVerb::Pause,
            SagaActionName::Resume => SagaVerb::Resume,
            SagaActionName::Retry => SagaVerb::Retry { step: step()?, item: self.item },
            SagaActionName::Skip => SagaVerb::Skip { step: step()?, item: self.item, output: self.output.clone() },
            SagaActionName::Cancel => SagaVerb::Cancel,
            SagaActionName::Kill => SagaVerb::Kill,
            SagaActionName::Restart => SagaVerb::Restart { step: step()? },
            SagaActionName::Abandon => SagaVerb::Abandon,
        })
    }
}

/// Parses the id of a saga. A text without the name of the saga is that of an order.
///
/// # Errors
/// [`Failure::SagaId`] if the text is empty.
pub fn saga_id(text: &str) -> Result<SagaId, Failure> {
    let named = text.parse::<SagaId>().ok().filter(|id| [FULFILMENT, PAYMENT_REMINDER].contains(&id.saga()));
    Ok(match named {
        Some(id) => id,
        None => SagaId::new(FULFILMENT, text)?,
    })
}

/// Performs an action and returns the saga after it. `by` is the person that is recorded.
///
/// # Errors
/// - [`Failure::IncompleteAction`] if the reason or the step is missing.
/// - [`Failure::NoSaga`] if the saga does not exist.
/// - [`Failure::Operate`] if the action is not possible.
pub async fn act(admin: &SagaAdmin, id: &SagaId, action: &SagaAction, by: &str) -> Result<SagaSummary, Failure> {
    let note = operator_note(&action.reason, by)?;
    let phase = match admin.operate(id, action.verb()?, note).await {
        Ok(phase) => phase,
        Err(OperateError::Refused(VerbRefused::NoSaga { .. })) => return Err(Failure::NoSaga(id.clone())),
        Err(error) => return Err(error.into()),
    };
    let summary = summary(admin, id).await;
    // A saga that cannot be read has been abandoned.
    Ok(SagaSummary { phase: phase.name().to_owned(), ..summary })
}

/// Returns the note of an action of an operator.
///
/// # Errors
/// [`Failure::IncompleteAction`] if the reason is missing.
pub(crate) fn operator_note(reason: &str, by: &str) -> Result<OperatorNote, Failure> {
    require_reason(reason)?;
    Ok(OperatorNote::new(by, reason))
}

/// Checks that the action of an operator has a reason.
///
/// # Errors
/// [`Failure::IncompleteAction`] if the reason is missing.
pub(crate) fn require_reason(reason: &str) -> Result<(), Failure> {
    if reason.trim().is_empty() {
        return Err(Failure::IncompleteAction { detail: "expected a reason, found none" });
    }
    Ok(())
}

/// Lists the unfinished sagas, at most `limit`.
///
/// # Errors
/// [`Failure::Store`] if the sagas cannot be read.
pub async fn unfinished(admin: &SagaAdmin, limit: usize) -> Result<Vec<SagaSummary>, Failure> {
    Ok(admin.list(None, limit).await?.sagas.into_iter().map(SagaSummary::from).collect())
}

/// Lists all sagas in the order of their creation, at most `limit`.
///
/// # Errors
/// [`Failure::Store`] if the log cannot be read.
pub async fn all(shop: &Shop, admin: &SagaAdmin, limit: usize) -> Result<Vec<SagaSummary>, Failure> {
    let created = EventType::new("saga-created")?;
    let mut log = shop.store().read_log(LogRead::event_type(created)).await?;
    let mut found = Vec::new();
    while let Some(batch) = log.next_batch().await? {
        for id in batch.iter().filter_map(|record| SagaInstance::id_of(&record.stream)) {
            if found.len() >= limit {
                return Ok(found);
            }
            found.push(summary(admin, &id).await);
        }
    }
    Ok(found)
}

async fn summary(admin: &SagaAdmin, id: &SagaId) -> SagaSummary {
    match admin.show(id).await {
        Ok(Some(details)) => details.summary.into(),
        unread => SagaSummary {
            saga: id.to_string(),
            phase: UNREADABLE.to_owned(),
            is_paused: false,
            reason: unread.err().map(|error| ErrorChain(&error).to_string()),
            changed_at: None,
        },
    }
}

/// Returns a saga with its steps.
///
/// # Errors
/// - [`Failure::NoSaga`] if it does not exist.
/// - [`Failure::Load`] if it cannot be read.
pub async fn show(admin: &SagaAdmin, id: &SagaId) -> Result<SagaReport, Failure> {
    let details = admin.show(id).await?.ok_or_else(|| Failure::NoSaga(id.clone()))?;
    Ok(details.into())
}

impl From<es_saga::SagaSummary> for SagaSummary {
    fn from(saga: es_saga::SagaSummary) -> Self {
        Self {
            saga: saga.id.to_string(),
            phase: saga.phase.to_owned(),
            is_paused: saga.is_paused,
            reason: saga.quarantine.or(saga.reason),
            changed_at: saga.changed_at,
        }
    }
}

impl From<SagaDetails> for SagaReport {
    fn from(details: SagaDetails) -> Self {
        let mermaid = details.mermaid();
        let steps = details.nodes.into_iter().flat_map(|node| {
            let NodeDetails { name, is_omitted, items, .. } = node;
            items.into_iter().map(move |item| StepReport::of(name.clone(), item, is_omitted))
        });
        let steps = steps.collect();
        let (version, created_at) = (details.summary.version.unwrap_or_default(), details.summary.created_at);
        let deadline = details.summary.deadline;
        let SagaSummary { saga, phase, is_paused, reason, changed_at } = details.summary.into();
        Self { saga, phase, is_paused, reason, version, created_at, changed_at, deadline, steps, mermaid }
    }
}

impl StepReport {
    fn of(step: String, item: ItemDetails, is_omitted: bool) -> Self {
        Self {
            step,
            item: item.item,
            status: if is_omitted { "omitted" } else { item.state }.to_owned(),
            attempts: item.attempts,
            undo_attempts: item.undo_attempts,
            retry_at: item.next_attempt_at,
            started_at: item.started_at,
            ended_at: item.undone_at.or(item.ended_at),
            error: item.error,
        }
    }
}
