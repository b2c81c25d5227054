//! The calls of a coordinator to a [`StoreParticipant`].

use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::{CommandBatch, Heuristic, Locked, UnitError};
use es_core::model::{CoordinatorEpoch, TransactionId};
use es_core::store::transaction::TransactionEvent;
use es_core::store::{Conflict, FailedCheck};
use es_core::{Commit, CommitError, StoreError, StreamId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::machine::{LockAnswer, on_locked};
use crate::participant::{
    Finished, Outcome, Participant, ParticipantError, ParticipantState, ParticipantStatus, Prepare, Vote,
};
use crate::store::commands::{CommandList, NotAdded};
use crate::store::rows::{self, Kind, OutcomeRow, PreparedRow, Stored, fence_key};
use crate::store::{StoreParticipant, state_of, state_of_outcome};

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

/// The rows that a participant has read before it prepares a transaction.
struct Preparation<'a> {
    prepare: &'a Prepare,
    fence: Stored<CoordinatorEpoch>,
    prepared: Stored<PreparedRow>,
    outcome: Stored<OutcomeRow>,
}

impl Participant for StoreParticipant {
    type Request = CommandList;
    type Prepared = LockedStreams;

    fn name(&self) -> &str {
        &self.name
    }

    async fn prepare(&self, prepare: &Prepare, request: &CommandList) -> Result<Vote<LockedStreams>, ParticipantError> {
        let no = |reason: String| Ok(Vote::No { reason });
        let until = self.clock.elapsed().saturating_add(prepare.timeout());
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
                    let is_due = self.clock.elapsed() >= until;
                    if is_due || on_locked(&prepare.transaction, &holder) == LockAnswer::Die {
                        return no(format!("stream {stream:?} is locked by transaction {holder}"));
                    }
                }
                Err(UnitError::Conflict(conflict)) if self.clock.elapsed() >= until => {
                    return no(conflict.to_string());
                }
                Err(UnitError::Conflict(conflict)) if !is_lost(&conflict) => return no(conflict.to_string()),
                Err(UnitError::Conflict(_)) => {}
                Err(UnitError::Failed(error)) => return self.not_prepared(error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOCK_PAUSE);
        }
    }

    async fn pre_commit(&self, transaction: &TransactionId, _: &LockedStreams) -> Result<Finished, ParticipantError> {
        let key = Kind::Prepared.key(&self.name, transaction);
        let prepared = Stored::<PreparedRow>::read(&*self.store, key).await.map_err(|error| self.failed(error))?;
        match &prepared.value {
            None => {
                let status = self.status(transaction).await?;
                Ok(match status.state {
                    ParticipantState::Committed => Finished::Heuristic(Outcome::Committed),
                    ParticipantState::Aborted => Finished::Heuristic(Outcome::Aborted),
                    _ => Finished::Unknown,
                })
            }
            Some(row) if row.is_pre_committed => Ok(Finished::Done),
            Some(row) => {
                let commit = pre_commit(&prepared, row).map_err(|error| self.failed(error))?;
                match self.store.commit(commit).await {
                    Ok(_) => Ok(Finished::Done),
                    Err(CommitError::Store(error)) => Err(self.failed(error)),
                    Err(error) => Err(self.unavailable(error)),
                }
            }
        }
    }

    async fn commit(&self, transaction: &TransactionId, _: &LockedStreams) -> Result<Finished, ParticipantError> {
        let finished = self.finish(transaction, Outcome::Committed, None).await?;
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
        self.finish(transaction, Outcome::Aborted, None).await
    }

    async fn status(&self, transaction: &TransactionId) -> Result<ParticipantStatus, ParticipantError> {
        let failed = |error| self.failed(error);
        let prepared = Kind::Prepared.key(&self.name, transaction);
        let prepared = Stored::<PreparedRow>::read(&*self.store, prepared).await.map_err(failed)?;
        if let Some(row) = prepared.value {
            let state = state_of(&row);
            let has_restarted = row.opening != self.store.opening();
            let prepared_at = Some(row.prepared_at);
            return Ok(ParticipantStatus { state, is_heuristic: false, has_restarted, prepared_at });
        }
        let unknown = ParticipantStatus {
            state: ParticipantState::Unknown,
            is_heuristic: false,
            has_restarted: false,
            prepared_at: None,
        };
        let outcome = Kind::Outcome.key(&self.name, transaction);
        let outcome = Stored::<OutcomeRow>::read(&*self.store, outcome).await.map_err(failed)?;
        Ok(outcome.value.map_or(unknown, |row| ParticipantStatus {
            state: state_of_outcome(row.outcome),
            is_heuristic: row.is_heuristic,
            has_restarted: false,
            prepared_at: row.prepared_at,
        }))
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
        let commit = rows::table()
            .map(|table| Commit::new().delete_row(table, Kind::Heuristic.key(&self.name, transaction)))
            .map_err(|error| self.failed(error))?;
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
        let fence = fence_key(&self.name, transaction.coordinator());
        let fence = Stored::<CoordinatorEpoch>::read(store, fence).await.map_err(failed)?;
        check_fence(&fence, transaction.epoch())?;
        let prepared = Stored::read(store, Kind::Prepared.key(&self.name, transaction)).await.map_err(failed)?;
        let outcome = Stored::read(store, Kind::Outcome.key(&self.name, transaction)).await.map_err(failed)?;
        Ok(Preparation { prepare, fence, prepared, outcome })
    }

    /// Prepares the commands of a batch, in one commit.
    async fn lock_streams(
        &self,
        preparation: &Preparation<'_>,
        batch: &CommandBatch,
        heuristic: Heuristic,
    ) -> Result<Vote<LockedStreams>, UnitError<String>> {
        let Preparation { prepare, fence, prepared, outcome } = preparation;
        let row = PreparedRow {
            transaction: prepare.transaction.clone(),
            protocol: prepare.protocol,
            participants: prepare.participants.clone(),
            streams: Vec::new(),
            prepared_at: self.clock.now(),
            is_pre_committed: false,
            opening: self.store.opening(),
            heuristic,
        };
        let (fence, prepared, outcome) = (fence.clone(), prepared.clone(), outcome.clone());
        let rows = move |streams: &[StreamId], commit: Commit| {
            let commit = outcome.expect(prepared.expect(fence.expect(commit)?)?)?;
            let row = PreparedRow { streams: streams.to_vec(), ..row.clone() };
            let commit = rows::put(commit, prepared.key.clone(), &row)?;
            rows::put(commit, fence.key.clone(), row.transaction.epoch())
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
            let key = fence_key(&self.name, epoch.coordinator());
            let fence = Stored::<CoordinatorEpoch>::read(&*self.store, key).await;
            let fence = fence.map_err(|error| self.failed(error))?;
            check_fence(&fence, epoch)?;
            if fence.value.as_ref() == Some(epoch) {
                return Ok(());
            }
            let commit = fence.expect(Commit::new()).and_then(|commit| rows::put(commit, fence.key.clone(), epoch));
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
        if let Some(row) = &self.prepared.value {
            return Some(Vote::Prepared(LockedStreams { streams: row.streams.clone() }));
        }
        let outcome = self.outcome.value.as_ref()?.outcome;
        let outcome = if outcome == Outcome::Committed { "committed" } else { "aborted" };
        let transaction = &self.prepare.transaction;
        Some(Vote::No { reason: format!("transaction {transaction} is {outcome} already") })
    }
}

fn check_fence(fence: &Stored<CoordinatorEpoch>, found: &CoordinatorEpoch) -> Result<(), ParticipantError> {
    match &fence.value {
        Some(known) if known.epoch() > found.epoch() => {
            Err(ParticipantError::Fenced { known: known.clone(), found: found.clone() })
        }
        _ => Ok(()),
    }
}

/// Returns the commit that pre-commits a prepared transaction.
fn pre_commit(prepared: &Stored<PreparedRow>, row: &PreparedRow) -> Result<Commit, StoreError> {
    let event = TransactionEvent::PreCommitted { transaction: row.transaction.clone() };
    let mut commit = prepared.expect(Commit::new())?;
    for stream in &row.streams {
        commit = commit.append(stream.clone(), event.encode(stream)?);
    }
    rows::put(commit, prepared.key.clone(), &PreparedRow { is_pre_committed: true, ..row.clone() })
}

/// Returns whether a conflict means that another writer was faster.
fn is_lost(conflict: &Conflict) -> bool {
    conflict.failed.iter().all(|check| matches!(check, FailedCheck::Row { .. } | FailedCheck::Revision { .. }))
}
