//! What an operator sees and does: unfinished transactions, their participants and damage.

use std::time::Duration;

use es_core::model::TransactionId;
use es_core::{EventReader, StoreError};

use crate::coordinator::error::OperateTransactionError;
use crate::coordinator::shared::{OperatorInput, Shared};
use crate::coordinator::{Transactions, log, tasks};
use crate::machine::{CoordinatorAct, CoordinatorPhase, CoordinatorState, Damage, LogRecord};
use crate::participant::{Finished, Outcome, Protocol};

/// How long an operator's action waits for the task of the transaction.
const WAIT: Duration = Duration::from_secs(5);

/// A transaction that has a record and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedTransaction {
    /// The transaction. Its UUID begins with the time at which it began.
    pub transaction: TransactionId,
    /// The protocol.
    pub protocol: Protocol,
    /// The decision; `None` for a three-phase commit that is not decided.
    pub outcome: Option<Outcome>,
    /// The participants that are told the outcome.
    pub participants: Vec<UnfinishedParticipant>,
    /// How the answers contradict the decision, if they do.
    pub damage: Option<Damage>,
    /// Why the records cannot be understood, if they cannot. The transaction is left alone.
    pub unreadable: Option<String>,
}

/// A participant of an unfinished transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedParticipant {
    /// The name.
    pub name: String,
    /// Whether its vote was received.
    pub has_voted: bool,
    /// The answer that was recorded, because it contradicts the decision.
    pub answer: Option<Finished>,
}

/// Returns the outcome of a transaction.
pub(super) async fn outcome(
    store: &dyn EventReader,
    transaction: &TransactionId,
) -> Result<Option<Outcome>, StoreError> {
    let records = log::records(store, transaction).await?;
    Ok(records.iter().find_map(|record| match record {
        LogRecord::Decided { outcome, .. } => Some(*outcome),
        _ => None,
    }))
}

/// Describes an unfinished transaction.
fn describe(transaction: TransactionId, records: &[LogRecord]) -> UnfinishedTransaction {
    let recorded = records.iter().rev().find_map(|record| match record {
        LogRecord::PreCommitting { participants } => Some((Protocol::ThreePhase, participants)),
        LogRecord::Decided { protocol, participants, .. } => Some((*protocol, participants)),
        _ => None,
    });
    let answer = |name: &str| {
        records.iter().find_map(|record| match record {
            LogRecord::Finished { participant, finished } if participant == name => Some(*finished),
            _ => None,
        })
    };
    let recovered = CoordinatorState::recover(records, Vec::new());
    let state = recovered.as_ref().ok().map(|(state, _)| state);
    UnfinishedTransaction {
        transaction,
        protocol: recorded.map_or(Protocol::TwoPhase, |(protocol, _)| protocol),
        outcome: state.and_then(CoordinatorState::outcome).filter(|_| recorded.is_some()),
        participants: recorded.map_or_else(Vec::new, |(_, participants)| {
            let participants = participants.iter();
            let describe = |participant: &crate::machine::RecordedParticipant| UnfinishedParticipant {
                name: participant.name.clone(),
                has_voted: participant.prepared.is_some(),
                answer: answer(&participant.name),
            };
            participants.map(describe).collect()
        }),
        damage: state.and_then(CoordinatorState::damage),
        unreadable: recovered.as_ref().err().map(ToString::to_string),
    }
}

impl Transactions {
    /// Returns the recorded decision of this coordinator on a transaction. `None` means that the outcome is not known
    /// from the log:
    ///
    /// - The transaction is not decided yet, or it aborted before a decision was recorded.
    /// - It committed without a record: in one commit of the coordinator's own store, or in one phase at a single
    ///   prepared participant. Read the store or the [status](crate::Participant::status) of the participant.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails, or a record cannot be read.
    pub async fn outcome(&self, transaction: &TransactionId) -> Result<Option<Outcome>, StoreError> {
        outcome(&*self.shared.store, transaction).await
    }

    /// Returns the transactions that have a record and have not ended, the oldest first, at most `limit` after `after`.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails, or a row cannot be read.
    pub async fn unfinished(
        &self,
        after: Option<&TransactionId>,
        limit: usize,
    ) -> Result<Vec<UnfinishedTransaction>, StoreError> {
        let Shared { store, epoch, .. } = &*self.shared;
        let mut described = Vec::new();
        for row in log::unfinished(&**store, epoch.coordinator(), after.map(log::key), limit).await? {
            let transaction = row.transaction?;
            described.push(match log::records(&**store, &transaction).await {
                Ok(records) => describe(transaction, &records),
                Err(error @ StoreError::Damaged { .. }) => {
                    UnfinishedTransaction { unreadable: Some(error.to_string()), ..describe(transaction, &[]) }
                }
                Err(error) => return Err(error),
            });
        }
        Ok(described)
    }

    /// Forgets a transaction whose participants contradict the decision, after the operator has repaired the damage or
    /// accepts it.
    ///
    /// # Errors
    /// - [`OperateTransactionError::NotUnfinished`] if the transaction is unknown or has ended.
    /// - [`OperateTransactionError::NoDamage`] if no participant contradicts the decision.
    /// - [`OperateTransactionError::NotEnded`] if other participants have not answered yet.
    /// - [`OperateTransactionError::Store`] if the store fails.
    pub async fn forget(&self, transaction: &TransactionId) -> Result<(), OperateTransactionError> {
        let (state, acts) = self.state(transaction).await?;
        if state.damage().is_none() {
            return Err(OperateTransactionError::NoDamage { transaction: transaction.clone() });
        }
        self.operate(transaction, state, acts, OperatorInput::Forget).await
    }

    /// Answers for a participant that is lost forever, so that its transaction can end: `finished` is what the operator
    /// knows of it. [`Finished::Unknown`] records a hazard, which must be [forgotten](Self::forget) afterwards.
    ///
    /// # Errors
    /// - [`OperateTransactionError::NotUnfinished`] if the transaction is unknown or has ended.
    /// - [`OperateTransactionError::NotWaiting`] if it is not decided, or the participant has answered.
    /// - [`OperateTransactionError::Store`] if the store fails.
    pub async fn resolve(
        &self,
        transaction: &TransactionId,
        participant: &str,
        finished: Finished,
    ) -> Result<(), OperateTransactionError> {
        let (state, acts) = self.state(transaction).await?;
        let index = state.participants().position(|name| name == participant);
        let participant = participant.to_owned();
        match index.filter(|index| state.waits_for(*index)) {
            Some(_) => self.operate(transaction, state, acts, OperatorInput::Finished { participant, finished }).await,
            None => Err(OperateTransactionError::NotWaiting { transaction: transaction.clone(), participant }),
        }
    }

    /// Returns the state of a transaction that has a record and has not ended, and the acts with which it continues.
    async fn state(
        &self,
        transaction: &TransactionId,
    ) -> Result<(CoordinatorState, Vec<CoordinatorAct>), OperateTransactionError> {
        let not_unfinished = || OperateTransactionError::NotUnfinished { transaction: transaction.clone() };
        let records = log::records(&*self.shared.store, transaction).await?;
        if records.is_empty() || transaction.coordinator() != self.shared.epoch.coordinator() {
            return Err(not_unfinished());
        }
        let (state, acts) = CoordinatorState::recover(&records, Vec::new()).map_err(|_| not_unfinished())?;
        match state.phase() {
            CoordinatorPhase::Ended { .. } => Err(not_unfinished()),
            _ => Ok((state, acts)),
        }
    }

    /// Passes an input to the task of a transaction, or starts one with it, and waits until a record follows.
    async fn operate(
        &self,
        transaction: &TransactionId,
        mut state: CoordinatorState,
        mut acts: Vec<CoordinatorAct>,
        input: OperatorInput,
    ) -> Result<(), OperateTransactionError> {
        let shared = &self.shared;
        let recorded = log::records(&*shared.store, transaction).await?.len();
        match shared.task_of(transaction) {
            Some(task) => task.send(input).await.map_err(|_| OperateTransactionError::Stopped)?,
            None => {
                let Some((guard, operator)) = shared.activate(transaction) else {
                    return Err(OperateTransactionError::Stopped);
                };
                acts.extend(input.for_state(&state).map(|input| state.on(input)).unwrap_or_default());
                tasks::spawn(shared, guard, operator, transaction.clone(), state, acts, None);
            }
        }
        let is_recorded = async {
            loop {
                if log::records(&*shared.store, transaction).await?.len() > recorded {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let not_ended = || OperateTransactionError::NotEnded { transaction: transaction.clone() };
        tokio::time::timeout(WAIT, is_recorded).await.unwrap_or_else(|_| Err(not_ended()))
    }
}
