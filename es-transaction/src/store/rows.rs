//! The rows of participants and coordinators in the table `es.transactions`. A name is followed by a zero byte.
//!
//! | key | value |
//! |---|---|
//! | `f{participant}\0{coordinator}` | the newest epoch of the coordinator that the participant knows |
//! | `p{participant}\0{transaction}` | a prepared transaction |
//! | `o{participant}\0{transaction}` | the outcome of a transaction, which is removed after some time |
//! | `h{participant}\0{transaction}` | a heuristic outcome, until an operator forgets it |
//! | `c{coordinator}\0{transaction}` | a transaction of the coordinator that has a record and has not ended |
//!
//! A transaction is written as the 16 bytes of its UUID, which begin with the time.

use es_core::__private::{Bytes, StoredRow, decode_row, encode_row};
use es_core::aggregate::Heuristic;
use es_core::model::{Table, TransactionId};
use es_core::store::RowScan;
use es_core::{Commit, EventStore, StoreError, StreamId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::machine::ParticipantRecord;
use crate::participant::Protocol;

/// A kind of row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Fence,
    Prepared,
    Outcome,
    Heuristic,
    Unfinished,
}

impl Kind {
    const fn letter(self) -> u8 {
        match self {
            Self::Fence => b'f',
            Self::Prepared => b'p',
            Self::Outcome => b'o',
            Self::Heuristic => b'h',
            Self::Unfinished => b'c',
        }
    }

    fn prefix(self, owner: &str) -> Bytes {
        [&[self.letter()], owner.as_bytes(), &[0]].concat().into()
    }

    /// Returns the key of the row of a transaction at a participant or coordinator.
    pub(crate) fn key(self, owner: &str, transaction: &TransactionId) -> Bytes {
        [&self.prefix(owner)[..], transaction.uuid().as_bytes()].concat().into()
    }

    /// Returns a scan of all rows of this kind, from the oldest transaction on.
    pub(crate) fn scan(self, owner: &str, limit: usize) -> Result<RowScan, StoreError> {
        Ok(RowScan::new(table()?, self.prefix(owner), limit))
    }
}

/// Returns the key of the row with the newest epoch of a coordinator.
pub(crate) fn fence_key(participant: &str, coordinator: &str) -> Bytes {
    [&Kind::Fence.prefix(participant)[..], coordinator.as_bytes()].concat().into()
}

/// A prepared transaction at a participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PreparedRow {
    pub(crate) transaction: TransactionId,
    pub(crate) record: ParticipantRecord,
    /// The names of all participants.
    pub(crate) participants: Vec<String>,
    /// The locked streams.
    pub(crate) streams: Vec<StreamId>,
    pub(crate) prepared_at: Timestamp,
    /// The opening of the store in which it was prepared.
    pub(crate) opening: Option<u64>,
    /// What all locked aggregates do if the transaction stays in doubt.
    pub(crate) heuristic: Heuristic,
}

/// The outcome of a transaction at a participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutcomeRow {
    pub(crate) transaction: TransactionId,
    pub(crate) record: ParticipantRecord,
    /// When it was prepared; `None` if it was aborted before.
    pub(crate) prepared_at: Option<Timestamp>,
    pub(crate) ended_at: Timestamp,
    /// Whether the coordinator has called with its decision. It may not know the outcome of a three-phase commit
    /// before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_told: bool,
}

impl OutcomeRow {
    /// Returns whether the outcome is needed whatever its age: a coordinator that recovers, and participants that were
    /// down, would take one that is forgotten for a participant that was not asked to prepare.
    pub(crate) fn is_kept(&self) -> bool {
        self.record.protocol() == Protocol::ThreePhase && !self.is_told
    }
}

/// The rows of one transaction, as they were read.
#[derive(Debug, Clone)]
pub(crate) struct TransactionRows {
    pub(crate) prepared: StoredRow<PreparedRow>,
    pub(crate) outcome: StoredRow<OutcomeRow>,
    pub(crate) heuristic: StoredRow<OutcomeRow>,
}

impl TransactionRows {
    pub(crate) async fn read(
        store: &dyn EventStore,
        participant: &str,
        transaction: &TransactionId,
    ) -> Result<Self, StoreError> {
        let (table, key) = (table()?, |kind: Kind| kind.key(participant, transaction));
        let mut prepared: StoredRow<PreparedRow> = StoredRow::read(store, &table, key(Kind::Prepared)).await?;
        if let Some(row) = prepared.value.as_mut().filter(|row| row.opening != store.opening()) {
            row.record.restarted();
        }
        let outcome = StoredRow::read(store, &table, key(Kind::Outcome)).await?;
        let heuristic = StoredRow::read(store, &table, key(Kind::Heuristic)).await?;
        Ok(Self { prepared, outcome, heuristic })
    }

    /// Returns what the participant knows of the transaction.
    pub(crate) fn record(&self) -> ParticipantRecord {
        let prepared = self.prepared.value.as_ref().map(|row| &row.record);
        let ended = self.heuristic.value.as_ref().or(self.outcome.value.as_ref()).map(|row| &row.record);
        prepared.or(ended).cloned().unwrap_or_default()
    }

    /// Returns the time at which the transaction was prepared.
    pub(crate) fn prepared_at(&self) -> Option<Timestamp> {
        let ended = self.heuristic.value.as_ref().or(self.outcome.value.as_ref());
        self.prepared.value.as_ref().map(|row| row.prepared_at).or(ended.and_then(|row| row.prepared_at))
    }

    /// Adds the condition that no row has changed since it was read to a commit.
    pub(crate) fn expect(&self, commit: Commit) -> Commit {
        self.heuristic.expect(self.outcome.expect(self.prepared.expect(commit)))
    }
}

pub(crate) fn table() -> Result<Table, StoreError> {
    es_core::__private::table(es_core::__private::TRANSACTIONS).map_err(|error| StoreError::io("name a table", error))
}

/// Decodes the value of a row.
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    decode_row(&table()?, key, value)
}

/// Adds a row to a commit.
pub(crate) fn put<T: Serialize>(commit: Commit, key: Bytes, value: &T) -> Result<Commit, StoreError> {
    Ok(commit.put_row(table()?, key, encode_row(value)?))
}
