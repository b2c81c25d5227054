//! The log of a coordinator: one stream for each transaction that has a record, and a row until it has ended
//! ([`Kind::Unfinished`]).
//!
//! Every record is conditional on the lease of the coordinator: after another process has taken over, this one writes
//! none.

use es_core::__private::{Bytes, TRANSACTION_STREAM_PREFIX};
use es_core::consumer::lease::HeldLease;
use es_core::model::{EventId, EventType, NameError, TransactionId};
use es_core::store::{Row, StreamRead};
use es_core::{Commit, EventReader, ExpectedRevision, NewEvent, Revision, StoreError, StreamId};
use serde_json::Value;
use uuid::Uuid;

use crate::machine::LogRecord;
use crate::store::rows::{self, Kind};

/// The beginning of the event types. The type of the record follows.
const TYPE_PREFIX: &str = "transaction-";

/// Returns the stream with the records of a transaction.
pub(super) fn stream(transaction: &TransactionId) -> Result<StreamId, NameError> {
    StreamId::new(format!("{TRANSACTION_STREAM_PREFIX}{transaction}"))
}

pub(super) fn key(transaction: &TransactionId) -> Bytes {
    Kind::Unfinished.key(transaction.coordinator(), transaction)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::io("write a record of a transaction", error)
}

/// Returns the commit of a record with this number, from 1.
pub(super) fn commit_of(
    lease: &HeldLease,
    transaction: &TransactionId,
    number: u32,
    record: &LogRecord,
) -> Result<Commit, StoreError> {
    let stream = stream(transaction).map_err(invalid)?;
    let mut content = serde_json::to_value(record).map_err(invalid)?;
    let Some(tag) = content.as_object_mut().and_then(|object| object.remove("type")) else {
        return Err(invalid("a record without a type"));
    };
    let event_type = format!("{TYPE_PREFIX}{}", tag.as_str().unwrap_or_default());
    let event_type = EventType::new(event_type).map_err(invalid)?;
    // The id depends on the transaction and the number, so that a repeat is recognized.
    let id = EventId::from_uuid(Uuid::new_v5(transaction.uuid(), format!("record {number}").as_bytes()));
    let event = NewEvent::json(event_type, content.to_string()).with_id(id);
    let expected = match number {
        0 | 1 => ExpectedRevision::NoStream,
        number => ExpectedRevision::Exact(Revision::new(u64::from(number) - 2)),
    };
    let commit = lease.expect(Commit::to(&stream, expected, [event]));
    match record {
        LogRecord::Ended | LogRecord::Forgotten => Ok(commit.delete_row(rows::table()?, key(transaction))),
        _ if number <= 1 => rows::put(commit, key(transaction), transaction),
        _ => Ok(commit),
    }
}

/// Returns the records of a transaction, in order.
///
/// # Errors
/// [`StoreError`] if the store fails, or a record cannot be read.
pub(super) async fn records(
    store: &dyn EventReader,
    transaction: &TransactionId,
) -> Result<Vec<LogRecord>, StoreError> {
    let stream = stream(transaction).map_err(invalid)?;
    let events = store.read_stream(StreamRead::new(stream)).await?.collect().await?;
    events
        .into_iter()
        .map(|event| {
            let damaged = |found: String| StoreError::damaged(format!("position {}", event.position), found);
            let mut content: Value =
                serde_json::from_slice(&event.data.payload).map_err(|error| damaged(error.to_string()))?;
            let tag = event.data.event_type.as_str().strip_prefix(TYPE_PREFIX).unwrap_or_default();
            if let Some(object) = content.as_object_mut() {
                object.insert("type".to_owned(), tag.into());
            }
            serde_json::from_value(content).map_err(|error| damaged(error.to_string()))
        })
        .collect()
}

/// The row of an unfinished transaction.
pub(super) struct UnfinishedRow {
    pub(super) key: Bytes,
    /// The transaction, or why the row cannot be read.
    pub(super) transaction: Result<TransactionId, StoreError>,
}

/// Returns the rows of the transactions of a coordinator that have a record and have not ended, the oldest first, at
/// most `limit` after the key `after`.
///
/// # Errors
/// [`StoreError`] if the store fails.
pub(super) async fn unfinished(
    store: &dyn EventReader,
    coordinator: &str,
    after: Option<Bytes>,
    limit: usize,
) -> Result<Vec<UnfinishedRow>, StoreError> {
    let mut scan = Kind::Unfinished.scan(coordinator, limit)?;
    scan.after = after;
    let found = store.rows(scan).await?;
    let decode = |row: Row| UnfinishedRow { transaction: rows::decode(&row.key, &row.value), key: row.key };
    Ok(found.into_iter().map(decode).collect())
}
