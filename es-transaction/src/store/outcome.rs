//! Changes of a transaction at a participant after it was prepared, each in one commit: pre-committed, committed,
//! aborted.

use std::sync::PoisonError;

use es_core::aggregate::InfrastructureError;
use es_core::model::{ErrorChain, Metadata, TransactionId};
use es_core::retention::Note;
use es_core::store::implement::Locks;
use es_core::store::transaction::{Prepared, TransactionEvent};
use es_core::{Commit, CommitError, StoreError, StreamId};

use crate::machine::ParticipantRecord;
use crate::participant::{ParticipantError, ParticipantState};
use crate::store::StoreParticipant;
use crate::store::rows::{self, Kind, OutcomeRow, PreparedRow, TransactionRows};

/// The number of attempts to change a transaction while another call changes it at the same time.
const ATTEMPTS: u32 = 10;
/// The number of old outcomes that each end of a transaction removes.
const REMOVED_OUTCOMES: usize = 2;

/// Why a transaction changes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cause<'a> {
    /// The coordinator has called with its decision.
    Decision,
    /// Another step of the protocol.
    Protocol,
    /// An operator, or the participant on its own, decides without the coordinator.
    Heuristic(&'a Note),
}

/// A transaction could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The transaction is not prepared at this participant, or has an outcome already.
    #[error("transaction {transaction} is not in doubt here")]
    NotPrepared {
        /// The transaction.
        transaction: TransactionId,
    },
    /// The participant failed.
    #[error(transparent)]
    Participant(#[from] ParticipantError),
}

impl StoreParticipant {
    /// Changes the record of a transaction, and makes the change durable with its effects. Returns what the change
    /// returned.
    pub(super) async fn change<T>(
        &self,
        transaction: &TransactionId,
        cause: Cause<'_>,
        change: impl Fn(&mut ParticipantRecord) -> T,
    ) -> Result<T, ParticipantError> {
        let mut attempt = 1;
        loop {
            let rows = TransactionRows::read(&*self.store, &self.name, transaction).await;
            let rows = rows.map_err(|error| self.failed(error))?;
            let mut record = rows.record();
            let before = record.clone();
            let result = change(&mut record);
            let commit = if record.state() != before.state() {
                self.commit_of(transaction, &rows, record, cause).await
            } else {
                match rows.outcome.value.clone().filter(|row| row.is_kept() && matches!(cause, Cause::Decision)) {
                    Some(row) => rows::put(
                        rows.expect(Commit::new()),
                        rows.outcome.key.clone(),
                        &OutcomeRow { is_told: true, ..row },
                    ),
                    None => return Ok(result),
                }
            };
            let commit = commit.map_err(|error| self.failed(error))?;
            match self.store.commit(commit).await {
                Ok(_) => return Ok(result),
                Err(CommitError::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(CommitError::Store(error)) => return Err(self.failed(error)),
                Err(error) => {
                    tracing::error!(
                        %transaction, participant = %self.name, error = %ErrorChain(&error),
                        "a prepared transaction could not be changed; it stays in doubt and is tried again"
                    );
                    return Err(self.unavailable(error));
                }
            }
        }
    }

    /// Returns the commit of a changed record.
    async fn commit_of(
        &self,
        transaction: &TransactionId,
        rows: &TransactionRows,
        record: ParticipantRecord,
        cause: Cause<'_>,
    ) -> Result<Commit, StoreError> {
        let commit = rows.expect(Commit::new());
        let is_told = matches!(cause, Cause::Decision);
        let Some(row) = &rows.prepared.value else {
            // An abort that arrived before its transaction was prepared.
            let (transaction, ended_at) = (transaction.clone(), self.clock.now());
            let ended = OutcomeRow { transaction, record, prepared_at: None, ended_at, is_told };
            return rows::put(commit, rows.outcome.key.clone(), &ended);
        };
        let (id, is_heuristic) = (transaction.clone(), record.is_heuristic());
        let event = match record.state() {
            ParticipantState::Committed => TransactionEvent::Committed { transaction: id, is_heuristic },
            ParticipantState::Aborted => TransactionEvent::Aborted { transaction: id, is_heuristic },
            _ => TransactionEvent::PreCommitted { transaction: id },
        };
        let commit = self.add_events(row, &event, cause, commit).await?;
        if record.is_in_doubt() {
            return rows::put(commit, rows.prepared.key.clone(), &PreparedRow { record, ..row.clone() });
        }
        let commit = commit.delete_row(rows::table()?, rows.prepared.key.clone());
        let (prepared_at, ended_at) = (Some(row.prepared_at), self.clock.now());
        let ended = OutcomeRow { transaction: transaction.clone(), record, prepared_at, ended_at, is_told };
        let commit = rows::put(commit, rows.outcome.key.clone(), &ended)?;
        let commit = match is_heuristic {
            true => rows::put(commit, rows.heuristic.key.clone(), &ended)?,
            false => commit,
        };
        self.remove_old_outcomes(commit).await
    }

    /// Adds an event of the transaction to a commit for each locked stream.
    async fn add_events(
        &self,
        row: &PreparedRow,
        event: &TransactionEvent,
        cause: Cause<'_>,
        mut commit: Commit,
    ) -> Result<Commit, StoreError> {
        for stream in &row.streams {
            let decided = self.lock(stream).await?.filter(|lock| lock.transaction == row.transaction);
            let Some(decided) = decided else {
                let detail = format!("expected a lock of transaction {}, found none", row.transaction);
                return Err(StoreError::damaged(format!("stream {stream:?}"), detail));
            };
            commit = decided.finish(stream, event, metadata(cause), commit)?;
        }
        Ok(commit)
    }

    /// Returns the prepared transaction that locks a stream.
    async fn lock(&self, stream: &StreamId) -> Result<Option<Prepared>, StoreError> {
        let key = stream.as_str().as_bytes();
        let Some(value) = self.store.row(&Locks::rows_table(), key).await? else { return Ok(None) };
        Locks::read_row(key, &value).map(|(_, prepared)| Some(prepared))
    }

    /// Adds the removal of outcomes that are old enough to a commit.
    async fn remove_old_outcomes(&self, mut commit: Commit) -> Result<Commit, StoreError> {
        let age = chrono::TimeDelta::from_std(self.keep_outcomes).unwrap_or(chrono::TimeDelta::MAX);
        let Some(oldest) = self.clock.now().checked_sub_signed(age) else { return Ok(commit) };
        let mut scan = Kind::Outcome.scan(&self.name, REMOVED_OUTCOMES)?;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept {
            scan = scan.after(kept);
        }
        let mut only_kept = true;
        for row in self.store.rows(scan).await? {
            let outcome = rows::decode::<OutcomeRow>(&row.key, &row.value)?;
            only_kept &= outcome.is_kept();
            if only_kept {
                // Without this, a few outcomes that are kept would hide all later ones from the search. Those before
                // the key are searched again after a restart.
                *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(row.key);
            } else if outcome.ended_at < oldest && !outcome.is_kept() {
                commit = commit.delete_row(rows::table()?, row.key);
            }
        }
        Ok(commit)
    }

    pub(super) fn unavailable(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ParticipantError {
        ParticipantError::Unavailable { participant: self.name.to_string(), source: error.into() }
    }

    /// Returns the error for a failure of the infrastructure.
    pub(super) fn infrastructure(&self, error: InfrastructureError) -> ParticipantError {
        match error {
            InfrastructureError::Store(error) | InfrastructureError::Load(es_core::LoadError::Store(error)) => {
                self.failed(error)
            }
            error => self.unavailable(error),
        }
    }
}

/// Returns the metadata of the events of a heuristic outcome.
fn metadata(cause: Cause<'_>) -> Metadata {
    let Cause::Heuristic(Note { by, reason }) = cause else { return Metadata::new() };
    let with = |metadata: Metadata, key: &str, value: &Option<String>| match value {
        Some(value) => metadata.with(key, value.clone()),
        None => metadata,
    };
    with(with(Metadata::new(), "by", by), "reason", reason)
}
