//! The products as a participant of distributed transactions, and what operators see and do.
//!
//! Another service, the coordinator, moves stock here and changes something elsewhere together: both or neither.

use es_core::Timestamp;
use es_core::model::TransactionId;
use es_core::retention::Note;
use es_transaction::{Outcome, Participant, ParticipantState, ParticipantTransaction, ResolveError, StoreParticipant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::Product;
use crate::domain::product::{Receive, Withdraw};
use crate::failure::Failure;
use crate::sagas::require_reason;
use crate::shop::Shop;

/// The name of the participant.
pub const PARTICIPANT: &str = "order-service";

/// Returns the products as a participant, with the commands `withdraw` and `receive`.
#[must_use]
pub fn participant(shop: &Shop) -> StoreParticipant {
    StoreParticipant::new(PARTICIPANT, shop.shared_store())
        .command::<Product, Withdraw>("withdraw", &shop.products)
        .command::<Product, Receive>("receive", &shop.products)
}

/// A transaction that is in doubt here, or was decided here without its coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionSummary {
    /// The id, which begins with the name of the coordinator.
    pub transaction: String,
    /// The state: `prepared`, `pre-committed`, `committed` or `aborted`.
    pub state: String,
    /// Whether it was decided here without its coordinator.
    pub is_heuristic: bool,
    /// When it was prepared.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub prepared_at: Option<Timestamp>,
    /// The names of all participants, as far as they are known.
    pub participants: Vec<String>,
}

/// The name of an action of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransactionActionName {
    /// Commits a transaction in doubt without its coordinator.
    Commit,
    /// Aborts a transaction in doubt without its coordinator.
    Abort,
    /// Removes an outcome without the coordinator from the list, after its damage is repaired or accepted.
    Forget,
}

/// An action of an operator on a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransactionAction {
    /// The action.
    pub verb: TransactionActionName,
    /// The reason, which is recorded.
    pub reason: String,
    /// The person, which is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Parses the id of a transaction.
///
/// # Errors
/// [`Failure::TransactionId`] if the text is not one.
pub fn transaction_id(text: &str) -> Result<TransactionId, Failure> {
    Ok(text.parse()?)
}

/// Lists the transactions in doubt and those that were decided here without their coordinator, at most `limit` of each.
///
/// # Errors
/// [`Failure::Store`] if the store fails.
pub async fn list(participant: &StoreParticipant, limit: usize) -> Result<Vec<TransactionSummary>, Failure> {
    let listed = participant.prepared(limit).await?.into_iter().chain(participant.heuristics(limit).await?);
    Ok(listed.map(TransactionSummary::from).collect())
}

/// Performs an action, and returns the transaction after it. `by` is the person that is recorded.
///
/// # Errors
/// - [`Failure::IncompleteAction`] if the reason is missing.
/// - [`Failure::NoTransaction`] if the transaction is not in doubt here, or has no outcome to forget.
/// - [`Failure::Participant`] if the store fails.
pub async fn act(
    participant: &StoreParticipant,
    id: &TransactionId,
    action: &TransactionAction,
    by: &str,
) -> Result<TransactionSummary, Failure> {
    require_reason(&action.reason)?;
    let note = Note { by: Some(by.to_owned()), reason: Some(action.reason.clone()) };
    match action.verb {
        TransactionActionName::Commit => resolve(participant, id, Outcome::Committed, &note).await?,
        TransactionActionName::Abort => resolve(participant, id, Outcome::Aborted, &note).await?,
        TransactionActionName::Forget => {
            if !participant.status(id).await?.is_heuristic {
                return Err(Failure::NoTransaction(id.clone()));
            }
            participant.forget(id).await?;
            tracing::warn!(transaction = %id, by, reason = action.reason, "a heuristic outcome is forgotten");
        }
    }
    let status = participant.status(id).await?;
    Ok(TransactionSummary {
        transaction: id.to_string(),
        state: name(status.state).to_owned(),
        is_heuristic: status.is_heuristic,
        prepared_at: status.prepared_at,
        participants: Vec::new(),
    })
}

async fn resolve(
    participant: &StoreParticipant,
    id: &TransactionId,
    outcome: Outcome,
    note: &Note,
) -> Result<(), Failure> {
    match participant.resolve(id, outcome, note).await {
        Ok(()) => Ok(()),
        Err(ResolveError::NotPrepared { transaction }) => Err(Failure::NoTransaction(transaction)),
        Err(ResolveError::Participant(error)) => Err(error.into()),
    }
}

const fn name(state: ParticipantState) -> &'static str {
    match state {
        ParticipantState::Unknown => "unknown",
        ParticipantState::Prepared => "prepared",
        ParticipantState::PreCommitted => "pre-committed",
        ParticipantState::Committed => "committed",
        ParticipantState::Aborted => "aborted",
    }
}

impl From<ParticipantTransaction> for TransactionSummary {
    fn from(listed: ParticipantTransaction) -> Self {
        let ParticipantTransaction { transaction, state, is_heuristic, prepared_at, participants } = listed;
        Self {
            transaction: transaction.to_string(),
            state: name(state).to_owned(),
            is_heuristic,
            prepared_at,
            participants,
        }
    }
}
