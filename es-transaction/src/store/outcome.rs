//! The end of a prepared transaction at a participant.

use es_core::aggregate::InfrastructureError;
use es_core::model::{ErrorChain, Metadata, TransactionId};
use es_core::retention::Note;
use es_core::store::implement::Locks;
use es_core::store::transaction::{Prepared, TransactionEvent};
use es_core::{Commit, CommitError, StoreError, StreamId};

use crate::participant::{Finished, Outcome, ParticipantError};
use crate::store::StoreParticipant;
use crate::store::rows::{self, Kind, OutcomeRow, PreparedRow, Stored};

/// The number of attempts to end a transaction while another call ends it at the same time.
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
    /// Ends a transaction: writes its outcome into each locked stream. With a note, it is a heuristic outcome of an
    /// operator.
    pub(super) async fn finish(
        &self,
        transaction: &TransactionId,
        outcome: Outcome,
        note: Option<&Note>,
    ) -> Result<Finished, ParticipantError> {
        let mut attempt = 1;
        loop {
            let key = Kind::Prepared.key(&self.name, transaction);
            let prepared = Stored::<PreparedRow>::read(&*self.store, key).await.map_err(|error| self.failed(error))?;
            let Some(row) = &prepared.value else { return self.recorded(transaction, outcome).await };
            let commit =
                self.outcome_commit(&prepared, row, outcome, note).await.map_err(|error| self.failed(error))?;
            match self.store.commit(commit).await {
                Ok(_) => return Ok(Finished::Done),
                Err(CommitError::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(CommitError::Store(error)) => return Err(self.failed(error)),
                Err(error) => {
                    tracing::error!(
                        %transaction, participant = %self.name, error = %ErrorChain(&error),
                        "a prepared transaction could not be ended; it stays in doubt and is tried again"
                    );
                    return Err(self.unavailable(error));
                }
            }
        }
    }

    /// Returns the commit with the outcome of a transaction in all of its streams.
    async fn outcome_commit(
        &self,
        prepared: &Stored<PreparedRow>,
        row: &PreparedRow,
        outcome: Outcome,
        note: Option<&Note>,
    ) -> Result<Commit, StoreError> {
        let (transaction, is_heuristic) = (row.transaction.clone(), note.is_some());
        let event = match outcome {
            Outcome::Committed => TransactionEvent::Committed { transaction, is_heuristic },
            Outcome::Aborted => TransactionEvent::Aborted { transaction, is_heuristic },
        };
        let mut commit = prepared.expect(Commit::new())?;
        for stream in &row.streams {
            let decided = self.lock(stream).await?.filter(|lock| lock.transaction == row.transaction);
            let Some(decided) = decided else {
                let detail = format!("expected a lock of transaction {}, found none", row.transaction);
                return Err(StoreError::damaged(format!("stream {stream:?}"), detail));
            };
            commit = decided.finish(stream, &event, metadata(note), commit)?;
        }
        let ended = OutcomeRow {
            transaction: row.transaction.clone(),
            outcome,
            is_heuristic,
            prepared_at: Some(row.prepared_at),
            ended_at: self.clock.now(),
        };
        commit = commit.delete_row(rows::table()?, prepared.key.clone());
        commit = rows::put(commit, Kind::Outcome.key(&self.name, &row.transaction), &ended)?;
        if is_heuristic {
            commit = rows::put(commit, Kind::Heuristic.key(&self.name, &row.transaction), &ended)?;
        }
        self.remove_old_outcomes(commit).await
    }

    /// Returns the prepared transaction that locks a stream.
    pub(super) async fn lock(&self, stream: &StreamId) -> Result<Option<Prepared>, StoreError> {
        let key = stream.as_str().as_bytes();
        let Some(value) = self.store.row(&Locks::rows_table(), key).await? else { return Ok(None) };
        Locks::read_row(key, &value).map(|(_, prepared)| Some(prepared))
    }

    /// Returns the answer for a transaction that is not prepared any more, or never was.
    async fn recorded(&self, transaction: &TransactionId, outcome: Outcome) -> Result<Finished, ParticipantError> {
        for kind in [Kind::Heuristic, Kind::Outcome] {
            let key = kind.key(&self.name, transaction);
            let stored = Stored::<OutcomeRow>::read(&*self.store, key).await.map_err(|error| self.failed(error))?;
            match stored.value {
                Some(row) if row.is_heuristic || row.outcome != outcome => {
                    return Ok(Finished::Heuristic(row.outcome));
                }
                Some(_) => return Ok(Finished::Done),
                None => {}
            }
        }
        match outcome {
            Outcome::Aborted => self.refuse_later(transaction).await,
            Outcome::Committed => Ok(Finished::Unknown),
        }
    }

    /// Records that a transaction is aborted that was never prepared here, so that a late preparation is refused.
    async fn refuse_later(&self, transaction: &TransactionId) -> Result<Finished, ParticipantError> {
        let aborted = OutcomeRow {
            transaction: transaction.clone(),
            outcome: Outcome::Aborted,
            is_heuristic: false,
            prepared_at: None,
            ended_at: self.clock.now(),
        };
        let key = Kind::Outcome.key(&self.name, transaction);
        let prepared = Kind::Prepared.key(&self.name, transaction);
        let commit = rows::table()
            .map(|table| Commit::new().expect_row(table.clone(), prepared, None).expect_row(table, key.clone(), None));
        let commit = commit.and_then(|commit| rows::put(commit, key.clone(), &aborted));
        match self.store.commit(commit.map_err(|error| self.failed(error))?).await {
            Ok(_) => Ok(Finished::Done),
            Err(CommitError::Store(error)) => Err(self.failed(error)),
            // It was prepared or aborted at the same time. The coordinator repeats the abort.
            Err(error) => Err(self.unavailable(error)),
        }
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
