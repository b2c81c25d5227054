//! The rows of a group: one state row, and one row for each parked and each skipped event.
//!
//! ```text
//!   key                                value (JSON)
//!   NAME 00 's'                        Stored: epoch, sequence, checkpoint, finished events after it, failures
//!   NAME 00 'p' position (8, BE)       Parked
//!   NAME 00 'x' position (8, BE)       Skipped
//! ```
//!
//! Every commit of a group is conditional on its state row. A new start raises the epoch in that row, so the store
//! refuses all later commits of the former handle.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::Position;
use crate::model::reserved;
use crate::model::{EventId, Timestamp};
use crate::model::{NameError, Table, Tag};
use crate::store::{Commit, CommitError, EventReader, EventStore, RowScan, StoreError, encode_row};

/// The number of rows per page of a scan.
const PAGE: usize = 1_000;

/// The value of the state row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Incremented by every start of the group.
    pub(crate) epoch: u64,
    /// Incremented by every commit of an epoch, so that every row is unique.
    pub(crate) sequence: u64,
    /// The position up to which all events are finished.
    pub(crate) checkpoint: Option<Position>,
    /// The finished events after the checkpoint.
    pub(crate) ahead: Vec<Position>,
    /// The number of failures of the unfinished events that have failed.
    pub(crate) failures: Vec<(Position, u32)>,
    pub(crate) paused: bool,
}

/// An event that was parked: it failed too often, its consumer parked it, or an earlier event of its key is parked.
///
/// The checkpoint has passed it. Its content is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parked {
    /// The position of the event in the log.
    pub position: Position,
    /// The id of the event.
    pub event_id: EventId,
    /// The ordering key of the event.
    pub key: String,
    /// The reason of the last failure, shortened to 1,000 bytes.
    pub reason: String,
    /// The number of failures; 0 if the event only waits for an earlier one.
    pub failures: u32,
    /// The first parked event of the key, if this event did not fail itself but waits for that one.
    pub waits_for: Option<Position>,
    /// Whether the event is marked for a replay.
    pub replaying: bool,
    /// The time at which the event was parked or failed last.
    pub parked_at: Timestamp,
}

/// An event that was skipped: it is not delivered again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Skipped {
    /// The position of the event in the log.
    pub position: Position,
    /// The id of the event.
    pub event_id: EventId,
    /// The ordering key of the event.
    pub key: String,
    /// The reason, shortened to 1,000 bytes.
    pub reason: String,
    /// The time at which the event was skipped.
    pub skipped_at: Timestamp,
}

/// The tables of consumer groups and of reactors.
pub(crate) const TABLES: [&str; 2] = [reserved::CONSUMER_GROUPS, reserved::REACTORS];

/// Sets every group that is ahead of the log back to its head, and returns their number.
pub(crate) async fn set_back(store: &dyn EventStore, head: Option<Position>) -> Result<u64, CommitError> {
    let mut count = 0;
    for table in TABLES {
        for name in names(store, table).await? {
            let rows = GroupRows::new(table, &name).map_err(|error| StoreError::damaged(table, error.to_string()))?;
            let Some(row) = rows.state(store).await? else { continue };
            let mut stored = rows.decode_state(&row)?;
            let is_in_log = |position: &Position| Some(*position) <= head;
            let parked = rows.parked(store).await?;
            let lost: Vec<_> = parked.into_iter().filter(|parked| !is_in_log(&parked.position)).collect();
            if stored.checkpoint <= head && stored.ahead.iter().all(is_in_log) && lost.is_empty() {
                continue;
            }
            stored.checkpoint = stored.checkpoint.min(head);
            stored.ahead.retain(is_in_log);
            stored.failures.retain(|(position, _)| is_in_log(position));
            (stored.epoch, stored.sequence) = (stored.epoch.saturating_add(1), 0);
            let (commit, _) = rows.replace_state(Some(row), &stored)?;
            let commit = lost.iter().try_fold(commit, |commit, parked| rows.park(commit, parked.position, None))?;
            store.commit(commit).await?;
            count += 1;
        }
    }
    Ok(count)
}

/// Returns the names of the groups of a table.
async fn names(store: &dyn EventReader, table: &'static str) -> Result<Vec<String>, StoreError> {
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let mut scan = RowScan::new(Table::well_known(table), Vec::new(), PAGE);
        scan.after = after.take();
        let rows = store.rows(scan).await?;
        // A name has no control characters, so only the key of a state row matches.
        let prefixes = rows.iter().filter_map(|row| row.key.strip_suffix(b"\0s"));
        let found = prefixes.filter(|name| !name.contains(&0)).filter_map(|name| std::str::from_utf8(name).ok());
        names.extend(found.map(str::to_owned));
        match rows.last() {
            Some(last) if rows.len() == PAGE => after = Some(last.key.clone()),
            _ => return Ok(names),
        }
    }
}

/// Reads and encodes the rows of one group.
#[derive(Debug, Clone)]
pub(crate) struct GroupRows {
    table: Table,
    name: Box<str>,
}

impl GroupRows {
    pub(crate) fn new(table: &'static str, name: &str) -> Result<Self, NameError> {
        // Names of groups follow the rules of tags.
        Tag::new(name)?;
        Ok(Self { table: Table::well_known(table), name: name.into() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn prefix(&self, kind: u8) -> Vec<u8> {
        [self.name.as_bytes(), &[0, kind]].concat()
    }

    fn key(&self, kind: u8, position: Position) -> Vec<u8> {
        [self.prefix(kind).as_slice(), &position.get().to_be_bytes()].concat()
    }

    /// Reads the state row.
    pub(crate) async fn state(&self, store: &dyn EventReader) -> Result<Option<Bytes>, StoreError> {
        store.row(&self.table, &self.prefix(b's')).await
    }

    pub(crate) fn decode_state(&self, value: &[u8]) -> Result<Stored, StoreError> {
        serde_json::from_slice(value).map_err(|error| self.damaged("the row of its state", &error))
    }

    /// Reads the parked events, in the order of the log.
    pub(crate) async fn parked(&self, store: &dyn EventReader) -> Result<Vec<Parked>, StoreError> {
        self.scan(store, b'p', usize::MAX, None).await
    }

    /// Reads at most `limit` skipped events after a position, in the order of the log.
    pub(crate) async fn skipped(
        &self,
        store: &dyn EventReader,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Skipped>, StoreError> {
        self.scan(store, b'x', limit, after).await
    }

    async fn scan<T: DeserializeOwned>(
        &self,
        store: &dyn EventReader,
        kind: u8,
        limit: usize,
        after: Option<Position>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        let mut after = after.map(|position| Bytes::from(self.key(kind, position)));
        while found.len() < limit {
            let mut scan = RowScan::new(self.table.clone(), self.prefix(kind), PAGE.min(limit - found.len()));
            scan.after = after.take();
            let limit_of_page = scan.limit;
            let rows = store.rows(scan).await?;
            for row in &rows {
                found.push(serde_json::from_slice(&row.value).map_err(|error| self.damaged("a row", &error))?);
            }
            match rows.last() {
                Some(last) if rows.len() == limit_of_page => after = Some(last.key.clone()),
                _ => break,
            }
        }
        Ok(found)
    }

    /// Returns a commit that replaces the state row on the condition that it still is `current`, and the new row.
    pub(crate) fn replace_state(&self, current: Option<Bytes>, stored: &Stored) -> Result<(Commit, Bytes), StoreError> {
        let key = Bytes::from(self.prefix(b's'));
        let value = encode_row(stored)?;
        let commit = Commit::new().expect_row(self.table.clone(), key.clone(), current);
        Ok((commit.put_row(self.table.clone(), key, value.clone()), value))
    }

    /// Adds the row of a parked event to a commit; `None` removes it.
    pub(crate) fn park(&self, commit: Commit, at: Position, parked: Option<&Parked>) -> Result<Commit, StoreError> {
        let (table, key) = (self.table.clone(), self.key(b'p', at));
        Ok(match parked {
            Some(parked) => commit.put_row(table, key, encode_row(parked)?),
            None => commit.delete_row(table, key),
        })
    }

    /// Adds the row of a skipped event to a commit.
    pub(crate) fn skip(&self, commit: Commit, skipped: &Skipped) -> Result<Commit, StoreError> {
        Ok(commit.put_row(self.table.clone(), self.key(b'x', skipped.position), encode_row(skipped)?))
    }

    fn damaged(&self, what: &str, error: &serde_json::Error) -> StoreError {
        StoreError::damaged(format!("table {:?}, {what} of {:?}", self.table.as_str(), self.name), error.to_string())
    }
}
