//! The calls of a coordinator to a [`StoreParticipant`].

use std::sync::Arc;
use std::time::Duration;

use es_core::__private::StoredRow;
use es_core::aggregate::{CommandBatch, Heuristic, Locked, UnitError};
use es_core::model::{CoordinatorEpoch, TransactionId};
use es_core::store::{Conflict, FailedCheck};
use es_core::{Commit, CommitError, StreamId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::machine::{LockAnswer, ParticipantRecord, PrepareAnswer, on_locked};
use crate::participant::{Finished, Participant, ParticipantError, ParticipantStatus, Prepare, Vote};
use crate::store::StoreParticipant;
use crate::store::commands::{CommandList, NotAdded};
use crate::store::outcome::Cause;
use crate::store::rows::{self, PreparedRow, TransactionRows, fence_key};

/// The pause before the second attempt to lock a stream, which doubles up to [`LONGEST_LOCK_PAUSE`].
const LOCK_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_LOCK_PAUSE: Duration = Duration::from_millis(50);
/// The number of transactions in doubt that one call returns.
const MAX_IN_DOUBT: usize = 10_000;

/// The streams that a transaction has locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedStreams {
    /// The streams.
    pub streams: Vec<StreamId>,
}

/// What a participant has read before it prepares a transaction.
struct Preparation<'a> {
    prepare: &'a Prepare,
    fence: StoredRow<CoordinatorEpoch>,
    rows: TransactionRows,
}

impl Participant for StoreParticipant {
    type Request = CommandList;
    type Prepared = LockedStreams;

    fn name(&self) -> &str {
        &self.name
    }

    async fn prepare(&self, prepare: &Prepare, request: &CommandList) -> Result<Vote<LockedStreams>, ParticipantError> {
        let no = |reason: String| Ok(Vote::No { reason });
        let start = self.clock.elapsed();
        let until = start.saturating_add(prepare.timeout());
        // The older transaction is often decided, and about to end: its caller may be the one that began this one.
        let younger_until = until.min(start.saturating_add(Self::YOUNGER_WAIT));
        let mut pause = LOCK_PAUSE;
        loop {
            let preparation = self.read(prepare).await?;
            if let Some(vote) = preparation.earlier_vote() {
                return Ok(vote);
            }
            let mut batch = CommandBatch::new(Arc::clone(&self.store));
            let heuristic = match self.commands.add(request, &mut batch).await {
                Ok(heuristic) => heuristic,
                Err(NotAdded::Refused(reason)) => return no(reason),
                Err(NotAdded::Failed(error)) => return Err(self.infrastructure(error)),
            };
            match self.lock_streams(&preparation, &batch, heuristic).await {
                Ok(vote) => return Ok(vote),
                Err(UnitError::Rejected { rejection, .. }) => return no(rejection),
                Err(UnitError::Locked(Locked { stream, transaction: holder })) => {
                    let until = match on_locked(&prepare.transaction, &holder) {
                        LockAnswer::Wait => until,
                        LockAnswer::Die => younger_until,
                    };
                    if self.clock.elapsed() >= until {
                        return no(format!("stream {stream:?} is locked by transaction {holder}"));
                    }
                }
                Err(UnitError::Conflict(conflict)) if self.clock.elapsed() >= until => {
                    return no(conflict.to_string());
                }
                Err(UnitError::Conflict(conflict)) if !is_lost(&conflict) => return no(conflict.to_string()),
                Err(UnitError::Conflict(_)) => {}
                Err(UnitError::NotOwner(error)) => return no(error.to_string()),
                Err(UnitError::Failed(error)) => return self.not_prepared(error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOCK_PAUSE);
        }
    }

    async fn pre_commit(&self, transaction: &TransactionId, _: &LockedStreams) -> Result<Finished, ParticipantError> {
        self.change(transaction, Cause::Protocol, ParticipantRecord::pre_commit).await
    }

    async fn commit(&self, transaction: &TransactionId, _: &LockedStreams) -> Result<Finished, ParticipantError> {
        let finished = self.change(transaction, Cause::Decision, ParticipantRecord::commit).await?;
        if finished == Finished::Unknown {
            tracing::error!(%transaction, participant = %self.name, "a committed transaction is not known here");
        }
        Ok(finished)
    }

    async fn abort(
        &self,
        transaction: &TransactionId,
        _: Option<&LockedStreams>,
    ) -> Result<Finished, ParticipantError> {
        self.change(transaction, Cause::Decision, ParticipantRecord::abort).await
    }

    async fn status(&self, transaction: &TransactionId) -> Result<ParticipantStatus, ParticipantError> {
        // ORDER: the round ends before the report, whose reader may act on it.
        let mut rounds = self.rounds.lock().await;
        rounds.remove(transaction);
        let rows = TransactionRows::read(&*self.store, &self.name, transaction).await;
        let rows = rows.map_err(|error| self.failed(error))?;
        let record = rows.record();
        Ok(ParticipantStatus {
            state: record.state(),
            is_heuristic: record.is_heuristic(),
            has_restarted: record.has_restarted(),
            prepared_at: rows.prepared_at(),
        })
    }

    async fn in_doubt(&self, epoch: &CoordinatorEpoch) -> Result<Vec<TransactionId>, ParticipantError> {
        self.fence(epoch).await?;
        let failed = |error| self.failed(error);
        let prepared = self.prepared(MAX_IN_DOUBT).await.map_err(failed)?;
        let heuristics = self.heuristics(MAX_IN_DOUBT).await.map_err(failed)?;
        let transactions = prepared.into_iter().chain(heuristics).map(|listed| listed.transaction);
        Ok(transactions.filter(|transaction| transaction.coordinator() == epoch.coordinator()).collect())
    }

    async fn forget(&self, transaction: &TransactionId) -> Result<(), ParticipantError> {
        let failed = |error| self.failed(error);
        let rows = TransactionRows::read(&*self.store, &self.name, transaction).await.map_err(failed)?;
        let Some(mut ended) = rows.heuristic.value.clone() else { return Ok(()) };
        ended.record.forget();
        // The coordinator forgets a heuristic outcome after it has received it.
        ended.is_told = true;
        let commit = rows.expect(Commit::new());
        let commit = commit.delete_row(rows.heuristic.table.clone(), rows.heuristic.key.clone());
        let commit = rows::put(commit, rows.outcome.key.clone(), &ended).map_err(failed)?;
        match self.store.commit(commit).await {
            Ok(_) => Ok(()),
            Err(CommitError::Store(error)) => Err(self.failed(error)),
            Err(error) => Err(self.unavailable(error)),
        }
    }
}

impl StoreParticipant {
    /// Reads the rows of a transaction, and refuses a coordinator of an earlier epoch.
    async fn read<'a>(&self, prepare: &'a Prepare) -> Result<Preparation<'a>, ParticipantError> {
        let failed = |error| self.failed(error);
        let (store, transaction) = (&*self.store, &prepare.transaction);
        let fence = self.read_fence(transaction.coordinator()).await?;
        check_fence(&fence, transaction.epoch())?;
        let rows = TransactionRows::read(store, &self.name, transaction).await.map_err(failed)?;
        Ok(Preparation { prepare, fence, rows })
    }

    /// Reads the newest epoch of a coordinator that this participant knows.
    async fn read_fence(&self, coordinator: &str) -> Result<StoredRow<CoordinatorEpoch>, ParticipantError> {
        let read = async {
            let (table, key) = (rows::table()?, fence_key(&self.name, coordinator));
            StoredRow::read(&*self.store, &table, key).await
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Prepares the commands of a batch, in one commit.
    async fn lock_streams(
        &self,
        preparation: &Preparation<'_>,
        batch: &CommandBatch,
        heuristic: Heuristic,
    ) -> Result<Vote<LockedStreams>, UnitError<String>> {
        let Preparation { prepare, fence, rows } = preparation;
        let mut record = rows.record();
        record.prepared(prepare.protocol);
        let row = PreparedRow {
            transaction: prepare.transaction.clone(),
            record,
            participants: prepare.participants.clone(),
            streams: Vec::new(),
            prepared_at: self.clock.now(),
            opening: self.store.opening(),
            heuristic,
        };
        let (fence, read) = (fence.clone(), rows.clone());
        let rows = move |streams: &[StreamId], commit: Commit| {
            let row = PreparedRow { streams: streams.to_vec(), ..row.clone() };
            let commit = rows::put(read.expect(fence.expect(commit)), read.prepared.key.clone(), &row)?;
            match fence.value.as_ref() == Some(row.transaction.epoch()) {
                true => Ok(commit),
                false => rows::put(commit, fence.key.clone(), row.transaction.epoch()),
            }
        };
        let details = json!({ "participant": &*self.name, "participants": prepare.participants });
        let committed = batch.prepare(&prepare.transaction, details, rows).await?;
        if committed.events.is_empty() {
            return Ok(Vote::ReadOnly);
        }
        let streams = committed.events.into_iter().map(|event| event.stream).collect();
        Ok(Vote::Prepared(LockedStreams { streams }))
    }

    /// Returns the vote after a failure of the infrastructure.
    fn not_prepared(
        &self,
        error: es_core::aggregate::InfrastructureError,
    ) -> Result<Vote<LockedStreams>, ParticipantError> {
        use es_core::aggregate::InfrastructureError;
        match error {
            error @ (InfrastructureError::Store(_) | InfrastructureError::Load(_)) => Err(self.infrastructure(error)),
            // A limit, or a hook of the store. Nothing was written, and a repeat fails, too.
            error => Ok(Vote::No { reason: es_core::model::ErrorChain(&error).to_string() }),
        }
    }

    /// Refuses later preparations of earlier epochs of a coordinator.
    async fn fence(&self, epoch: &CoordinatorEpoch) -> Result<(), ParticipantError> {
        loop {
            let fence = self.read_fence(epoch.coordinator()).await?;
            check_fence(&fence, epoch)?;
            if fence.value.as_ref() == Some(epoch) {
                return Ok(());
            }
            let commit = rows::put(fence.expect(Commit::new()), fence.key.clone(), epoch);
            match self.store.commit(commit.map_err(|error| self.failed(error))?).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict(_)) => {}
                Err(CommitError::Store(error)) => return Err(self.failed(error)),
                Err(error) => return Err(self.unavailable(error)),
            }
        }
    }
}

impl Preparation<'_> {
    /// Returns the vote of an earlier preparation of the same transaction.
    fn earlier_vote(&self) -> Option<Vote<LockedStreams>> {
        match self.rows.record().prepare() {
            PrepareAnswer::Decide => None,
            PrepareAnswer::Repeat => {
                let streams = self.rows.prepared.value.as_ref().map(|row| row.streams.clone()).unwrap_or_default();
                Some(Vote::Prepared(LockedStreams { streams }))
            }
            PrepareAnswer::Refuse => {
                let transaction = &self.prepare.transaction;
                Some(Vote::No { reason: format!("transaction {transaction} is aborted already") })
            }
        }
    }
}

fn check_fence(fence: &StoredRow<CoordinatorEpoch>, found: &CoordinatorEpoch) -> Result<(), ParticipantError> {
    match &fence.value {
        Some(known) if known.epoch() > found.epoch() => {
            Err(ParticipantError::Fenced { known: known.clone(), found: found.clone() })
        }
        _ => Ok(()),
    }
}

/// Returns whether a conflict means that another writer was faster.
fn is_lost(conflict: &Conflict) -> bool {
    conflict.failed.iter().all(|check| matches!(check, FailedCheck::Row { .. } | FailedCheck::Revision { .. }))
}
