//! The rows of processes in the table `es.processes`, and their timers.
//!
//! | key | value |
//! |---|---|
//! | `c{process}` | the cursor: the event up to which the process has handled its source |
//! | `a{process}\0{name}\0{value}` | the instance that has a key |
//! | `p{process}\0{position}{index}` | a parked event |
//! | `r{process}\0{position}{index}` | the request of an operator to retry a parked event |
//! | `s{process}\0{position}{index}` | a skipped event |
//!
//! An instance has a timer in the queue `process-{process}` until it ends: in the past while an event is pending, at
//! the time of its first timer, far in the future if it has none, and later than that if it is quarantined.

use es_core::__private::Bytes;
use es_core::consumer::timer::{Timer, TimerQueue};
use es_core::model::Table;
use es_core::store::RowScan;
use es_core::{Commit, EventReader, StoreError, StreamId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::instance::OperatorNote;
use crate::process::id::ProcessKey;
use crate::process::journal::{ConsumedEvent, ProcessJournal, ProcessPhase};

/// The name of the table of rows of processes.
pub(crate) const TABLE: &str = es_core::__private::PROCESSES;

/// The kinds of rows.
pub(crate) const PARKED: u8 = b'p';
pub(crate) const RETRY: u8 = b'r';
pub(crate) const SKIPPED: u8 = b's';
const CURSOR: u8 = b'c';

/// The longest stored reason, in bytes.
const MAX_REASON: usize = 1_000;

/// The place up to which a process has handled its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// The position up to which all events are handled; 0 before the first event.
    pub(crate) position: u64,
    /// The number of handled events of the next record of the source.
    pub(crate) part: u32,
}

/// An event that was set aside, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedEvent {
    /// The event.
    pub event: ConsumedEvent,
    /// Why it was parked or skipped.
    pub reason: String,
    /// When it was parked or skipped.
    pub time: Timestamp,
    /// The operator who skipped it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<OperatorNote>,
}

pub(crate) fn table() -> Result<Table, StoreError> {
    es_core::__private::table(TABLE).map_err(|error| StoreError::io("name a table", error))
}

pub(crate) fn cursor_key(process: &str) -> Bytes {
    [&[CURSOR], process.as_bytes()].concat().into()
}

/// Returns the names of the processes from the keys of cursors.
pub(crate) fn cursor_scan(limit: usize) -> Result<RowScan, StoreError> {
    Ok(RowScan::new(table()?, vec![CURSOR], limit))
}

/// Returns whether a row is one that only the runner of a process changes, or an operator for it.
pub(crate) fn is_of_runner(key: &[u8]) -> bool {
    matches!(key.first(), Some(&(CURSOR | RETRY)))
}

pub(crate) fn association_key(process: &str, key: &ProcessKey) -> Bytes {
    [b"a", process.as_bytes(), &[0], key.name.as_bytes(), &[0], key.value.as_bytes()].concat().into()
}

/// Returns the prefix of the rows of set-aside events of a process.
pub(crate) fn events_prefix(kind: u8, process: &str) -> Vec<u8> {
    [&[kind], process.as_bytes(), &[0]].concat()
}

pub(crate) fn event_key(kind: u8, process: &str, position: u64, index: u32) -> Bytes {
    let prefix = events_prefix(kind, process);
    [&prefix[..], &position.to_be_bytes(), &index.to_be_bytes()].concat().into()
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Bytes, StoreError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| StoreError::io("write a row", error))
}

pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    let place = || format!("row {} of table {TABLE}", key.escape_ascii());
    serde_json::from_slice(value).map_err(|error| StoreError::damaged(place(), error.to_string()))
}

/// Reads a row and decodes it.
pub(crate) async fn read<T: DeserializeOwned>(
    store: &dyn EventReader,
    key: &[u8],
) -> Result<Option<(T, Bytes)>, StoreError> {
    let Some(bytes) = store.row(&table()?, key).await? else { return Ok(None) };
    Ok(Some((decode(key, &bytes)?, bytes)))
}

/// Adds a parked or skipped event to a commit.
pub(crate) fn set_aside(commit: Commit, kind: u8, process: &str, parked: &ParkedEvent) -> Result<Commit, StoreError> {
    let key = event_key(kind, process, parked.event.position, parked.event.index);
    Ok(commit.put_row(table()?, key, encode(parked)?))
}

/// Reads set-aside events of a process, in the order of the log.
pub(crate) async fn set_aside_events<T: DeserializeOwned>(
    store: &dyn EventReader,
    kind: u8,
    process: &str,
    after: Option<&ConsumedEvent>,
    limit: usize,
) -> Result<Vec<T>, StoreError> {
    let mut scan = RowScan::new(table()?, events_prefix(kind, process), limit);
    if let Some(after) = after {
        scan = scan.after(event_key(kind, process, after.position, after.index));
    }
    store.rows(scan).await?.iter().map(|row| decode(&row.key, &row.value)).collect()
}

pub(crate) fn queue(process: &str) -> TimerQueue {
    TimerQueue::new(&format!("process-{process}"))
}

/// The due time of an instance without a timer: the end of the year 9999.
fn never() -> Timestamp {
    Timestamp::from_timestamp(253_402_300_799, 0).unwrap_or(Timestamp::MAX_UTC)
}

/// The due time of a quarantined instance, which is after [`never`].
fn quarantined() -> Timestamp {
    Timestamp::from_timestamp(253_402_300_800, 0).unwrap_or(Timestamp::MAX_UTC)
}

/// Returns a timer that is after all timers of instances that are not quarantined, and before the others.
pub(crate) fn before_quarantined() -> Option<Timer> {
    Timer::before_all_of(quarantined())
}

/// Returns the timer of an instance in this state.
pub(crate) fn instance_timer(stream: &StreamId, journal: &ProcessJournal) -> Option<Timer> {
    if let Some(reason) = journal.quarantine() {
        return Some(quarantine_timer(stream, reason));
    }
    if journal.first_pending().is_some() {
        return Some(Timer::new(stream.clone(), Timestamp::UNIX_EPOCH));
    }
    let due = journal.first_timer().map_or_else(never, |(_, due)| due.min(never()));
    (journal.phase() == ProcessPhase::Running).then(|| Timer::new(stream.clone(), due))
}

/// Returns the timer of a quarantined instance.
pub(crate) fn quarantine_timer(stream: &StreamId, reason: &str) -> Timer {
    Timer::new(stream.clone(), quarantined()).with_note(if reason.is_empty() { "unknown" } else { reason })
}

/// Shortens a reason to [`MAX_REASON`] bytes at a character boundary.
pub(crate) fn shorten(mut reason: String) -> String {
    if reason.len() > MAX_REASON {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        reason.push('…');
    }
    reason
}
