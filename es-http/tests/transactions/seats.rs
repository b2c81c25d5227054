//! [`Seats`]: a participant in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use es_core::model::{CoordinatorEpoch, Timestamp, TransactionId};
use es_transaction::{
    Finished, Outcome, Participant, ParticipantError, ParticipantState, ParticipantStatus, Prepare, Vote,
};
use serde::{Deserialize, Serialize};

/// Reserves seats. None is a request that changes nothing, and more than 100 are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reserve {
    pub(crate) seats: u32,
    /// The length of the text in the prepared data.
    #[serde(default)]
    pub(crate) text_bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reserved {
    pub(crate) seats: u32,
    #[serde(default)]
    pub(crate) text: String,
}

/// A participant that reserves seats.
#[derive(Default)]
pub(crate) struct Seats(Mutex<State>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) reserved: u32,
    pub(crate) transactions: BTreeMap<TransactionId, ParticipantState>,
    pub(crate) epochs: BTreeMap<String, CoordinatorEpoch>,
    /// The transactions whose heuristic outcome was forgotten.
    pub(crate) forgotten: Vec<TransactionId>,
    /// The prepared data of the last abort.
    pub(crate) aborted_with: Option<Option<Reserved>>,
    /// What the next status fails with.
    pub(crate) failure: Option<ParticipantError>,
}

pub(crate) fn reserve(seats: u32) -> Reserve {
    Reserve { seats, text_bytes: 0 }
}

pub(crate) fn reserved(seats: u32) -> Reserved {
    Reserved { seats, text: String::new() }
}

pub(crate) fn prepared_at() -> Timestamp {
    "2026-01-02T03:04:05.678901Z".parse().unwrap()
}

impl Seats {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Participant for Seats {
    type Request = Reserve;
    type Prepared = Reserved;

    fn name(&self) -> &str {
        "seats"
    }

    async fn prepare(&self, prepare: &Prepare, request: &Reserve) -> Result<Vote<Reserved>, ParticipantError> {
        let (mut state, found) = (self.state(), prepare.transaction.epoch());
        if let Some(known) = state.epochs.get(found.coordinator()).filter(|known| *known > found) {
            return Err(ParticipantError::Fenced { known: known.clone(), found: found.clone() });
        }
        match request.seats {
            0 => return Ok(Vote::ReadOnly),
            101.. => return Ok(Vote::No { reason: "expected at most 100 seats".to_owned() }),
            _ => {}
        }
        state.transactions.entry(prepare.transaction.clone()).or_insert(ParticipantState::Prepared);
        Ok(Vote::Prepared(Reserved { seats: request.seats, text: "x".repeat(request.text_bytes) }))
    }

    async fn commit(&self, transaction: &TransactionId, prepared: &Reserved) -> Result<Finished, ParticipantError> {
        let mut state = self.state();
        match state.transactions.get(transaction) {
            None => return Ok(Finished::Unknown),
            Some(ParticipantState::Committed) => return Ok(Finished::Done),
            Some(ParticipantState::Aborted) => return Ok(Finished::Heuristic(Outcome::Aborted)),
            Some(_) => {}
        }
        state.reserved += prepared.seats;
        state.transactions.insert(transaction.clone(), ParticipantState::Committed);
        Ok(Finished::Done)
    }

    async fn abort(
        &self,
        transaction: &TransactionId,
        prepared: Option<&Reserved>,
    ) -> Result<Finished, ParticipantError> {
        let mut state = self.state();
        state.aborted_with = Some(prepared.cloned());
        match state.transactions.get_mut(transaction) {
            Some(ParticipantState::Committed) => return Ok(Finished::Heuristic(Outcome::Committed)),
            Some(other) => *other = ParticipantState::Aborted,
            None => {}
        }
        Ok(Finished::Done)
    }

    async fn status(&self, transaction: &TransactionId) -> Result<ParticipantStatus, ParticipantError> {
        let mut state = self.state();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let known = state.transactions.get(transaction).copied();
        let prepared_at = known.map(|_| prepared_at());
        let state = known.unwrap_or(ParticipantState::Unknown);
        Ok(ParticipantStatus { state, is_heuristic: false, has_restarted: false, prepared_at })
    }

    async fn in_doubt(&self, epoch: &CoordinatorEpoch) -> Result<Vec<TransactionId>, ParticipantError> {
        let mut state = self.state();
        let known = state.epochs.entry(epoch.coordinator().to_owned()).or_insert_with(|| epoch.clone());
        if *known > *epoch {
            return Err(ParticipantError::Fenced { known: known.clone(), found: epoch.clone() });
        }
        *known = epoch.clone();
        let is_in_doubt = |(id, state): &(&TransactionId, &ParticipantState)| {
            id.coordinator() == epoch.coordinator() && **state == ParticipantState::Prepared
        };
        Ok(state.transactions.iter().filter(is_in_doubt).map(|(id, _)| id.clone()).collect())
    }

    async fn forget(&self, transaction: &TransactionId) -> Result<(), ParticipantError> {
        self.state().forgotten.push(transaction.clone());
        Ok(())
    }
}
