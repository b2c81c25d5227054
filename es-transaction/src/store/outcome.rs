//! Changes of a transaction at a participant after it was prepared, each in one commit: pre-committed, committed,
//! aborted.

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
    /// returned. `note` is that of an operator.
    pub(super) async fn change<T>(
        &self,
        transaction: &TransactionId,
        note: Option<&Note>,
        change: impl Fn(&mut ParticipantRecord) -> T,
    ) -> Result<T, ParticipantError> {
        let mut attempt = 1;
        loop {
            let rows = TransactionRows::read(&*self.store, &self.name, transaction).await;
            let rows = rows.map_err(|error| self.failed(error))?;
            let mut record = rows.record();
            let before = record.clone();
            let result = change(&mut record);
            if record.state() == before.state() {
                return Ok(result);
            }
            let commit = self.commit_of(transaction, &rows, record, note).await.map_err(|error| self.failed(error))?;
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
        note: Option<&Note>,
    ) -> Result<Commit, StoreError> {
        let commit = rows.expect(Commit::new());
        let Some(row) = &rows.prepared.value else {
            // An abort that arrived before its transaction was prepared.
            let ended =
                OutcomeRow { transaction: transaction.clone(), record, prepared_at: None, ended_at: self.clock.now() };
            return rows::put(commit, rows.outcome.key.clone(), &ended);
        };
        let (id, is_heuristic) = (transaction.clone(), record.is_heuristic());
        let event = match record.state() {
            ParticipantState::Committed => TransactionEvent::Committed { transaction: id, is_heuristic },
            ParticipantState::Aborted => TransactionEvent::Aborted { transaction: id, is_heuristic },
            _ => TransactionEvent::PreCommitted { transaction: id },
        };
        let commit = self.add_events(row, &event, note, commit).await?;
        if record.is_in_doubt() {
            return rows::put(commit, rows.prepared.key.clone(), &PreparedRow { record, ..row.clone() });
        }
        let commit = commit.delete_row(rows::table()?, rows.prepared.key.clone());
        let (prepared_at, ended_at) = (Some(row.prepared_at), self.clock.now());
        let ended = OutcomeRow { transaction: transaction.clone(), record, prepared_at, ended_at };
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
        note: Option<&Note>,
        mut commit: Commit,
    ) -> Result<Commit, StoreError> {
        for stream in &row.streams {
            let decided = self.lock(stream).await?.filter(|lock| lock.transaction == row.transaction);
            let Some(decided) = decided else {
                let detail = format!("expected a lock of transaction {}, found none", row.transaction);
                return Err(StoreError::damaged(format!("stream {stream:?}"), detail));
            };
            commit = decided.finish(stream, event, metadata(note), commit)?;
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
        for row in self.store.rows(Kind::Outcome.scan(&self.name, REMOVED_OUTCOMES)?).await? {
            if rows::decode::<OutcomeRow>(&row.key, &row.value)?.ended_at < oldest {
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
fn metadata(note: Option<&Note>) -> Metadata {
    let Some(Note { by, reason }) = note else { return Metadata::new() };
    let with = |metadata: Metadata, key: &str, value: &Option<String>| match value {
        Some(value) => metadata.with(key, value.clone()),
        None => metadata,
    };
    with(with(Metadata::new(), "by", by), "reason", reason)
}
