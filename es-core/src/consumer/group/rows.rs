//! What a group writes: one row for where it is, one for each parked and each skipped event.
//!
//! ```text
//!   key                                value (JSON)
//!   NAME 00 's'                        Stored: epoch, sequence, checkpoint, what is finished ahead of it, failures
//!   NAME 00 'p' position (8, BE)       Parked
//!   NAME 00 'x' position (8, BE)       Skipped
//! ```
//!
//! Every commit of a group demands that the first row is as this group wrote it last, which makes it the fence: who
//! opens the group anew raises the epoch, and what the one before still tries to write is refused.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::Position;
use crate::model::reserved;
use crate::model::{EventId, Timestamp};
use crate::model::{NameError, Table, Tag};
use crate::store::{Commit, CommitError, EventReader, EventStore, RowScan, StoreError};

/// How many rows are read at once.
const SCAN: usize = 1_000;

/// Where a group is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Raised whenever the group is opened.
    pub(crate) epoch: u64,
    /// Raised with every commit of an epoch, so that no two rows are the same.
    pub(crate) sequence: u64,
    /// Everything up to here is finished.
    pub(crate) checkpoint: Option<Position>,
    /// What is finished behind the checkpoint.
    pub(crate) ahead: Vec<Position>,
    /// How often what is not finished has failed.
    pub(crate) failures: Vec<(Position, u32)>,
    pub(crate) paused: bool,
}

/// An event that was set aside, because it failed too often or because its consumer said so. It stands in the log; here
/// stands why. The checkpoint has passed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parked {
    /// Where the event stands in the log.
    pub position: Position,
    /// Its identity.
    pub event_id: EventId,
    /// What it must stay in order with.
    pub key: String,
    /// Why it was parked, in the words of the last failure, cut after 1,000 bytes.
    pub reason: String,
    /// How often it has failed; 0 where it only waits behind another.
    pub failures: u32,
    /// The first parked event of its key, where this one did not fail itself but waits behind it.
    pub behind: Option<Position>,
    /// Whether it is to be delivered again.
    pub replaying: bool,
    /// When it was parked, or failed last.
    pub parked_at: Timestamp,
}

/// An event that was given up, and why. Kept for those who ask later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Skipped {
    /// Where the event stands in the log.
    pub position: Position,
    /// Its identity.
    pub event_id: EventId,
    /// What it would have stayed in order with.
    pub key: String,
    /// Why it was given up, in the words of who did it, cut after 1,000 bytes.
    pub reason: String,
    /// When.
    pub skipped_at: Timestamp,
}

/// The tables of consumer groups and of reactors.
pub(crate) const TABLES: [&str; 2] = [reserved::CONSUMER_GROUPS, reserved::REACTORS];

/// Sets every group that is ahead of the log back to its end, and returns how many there were.
pub(crate) async fn set_back(store: &dyn EventStore, head: Option<Position>) -> Result<u64, CommitError> {
    let mut set_back = 0;
    for table in TABLES {
        for name in names(store, table).await? {
            let rows = GroupRows::new(table, &name).map_err(|error| StoreError::damaged(table, error.to_string()))?;
            let Some(before) = rows.state(store).await? else { continue };
            let mut stored = rows.decode_state(&before)?;
            let is_there = |position: &Position| Some(*position) <= head;
            let lost: Vec<_> = rows.parked(store).await?.into_iter().filter(|it| !is_there(&it.position)).collect();
            if stored.checkpoint <= head && stored.ahead.iter().all(is_there) && lost.is_empty() {
                continue;
            }
            stored.checkpoint = stored.checkpoint.min(head);
            stored.ahead.retain(is_there);
            stored.failures.retain(|(position, _)| is_there(position));
            (stored.epoch, stored.sequence) = (stored.epoch.saturating_add(1), 0);
            let (commit, _) = rows.advance(Some(before), &stored)?;
            let commit = lost.iter().try_fold(commit, |commit, parked| rows.park(commit, parked.position, None))?;
            store.commit(commit).await?;
            set_back += 1;
        }
    }
    Ok(set_back)
}

/// The names of the groups of a table.
async fn names(store: &dyn EventReader, table: &'static str) -> Result<Vec<String>, StoreError> {
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let mut scan = RowScan::new(Table::well_known(table), Vec::new(), SCAN);
        scan.after = after.take();
        let rows = store.rows(scan).await?;
        let states = rows.iter().filter_map(|row| row.key.strip_suffix(b"\0s"));
        // NOTE: a name has no control characters, so that no other row looks like one of a state.
        let of_states = states.filter(|name| !name.contains(&0)).filter_map(|name| std::str::from_utf8(name).ok());
        names.extend(of_states.map(str::to_owned));
        match rows.last() {
            Some(last) if rows.len() == SCAN => after = Some(last.key.clone()),
            _ => return Ok(names),
        }
    }
}

/// The rows of one group.
#[derive(Debug, Clone)]
pub(crate) struct GroupRows {
    table: Table,
    name: Box<str>,
}

impl GroupRows {
    pub(crate) fn new(table: &'static str, name: &str) -> Result<Self, NameError> {
        // NOTE: the rules are those of every name; a tag has no others.
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

    /// Where the group is, as it stands in the store.
    pub(crate) async fn state(&self, store: &dyn EventReader) -> Result<Option<Bytes>, StoreError> {
        store.row(&self.table, &self.prefix(b's')).await
    }

    pub(crate) fn decode_state(&self, value: &[u8]) -> Result<Stored, StoreError> {
        serde_json::from_slice(value).map_err(|error| self.damaged("the row of its state", &error))
    }

    /// The events that are parked, in the order of the log.
    pub(crate) async fn parked(&self, store: &dyn EventReader) -> Result<Vec<Parked>, StoreError> {
        self.scan(store, b'p', usize::MAX, None).await
    }

    /// Events that were given up, in the order of the log.
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
            let mut scan = RowScan::new(self.table.clone(), self.prefix(kind), SCAN.min(limit - found.len()));
            scan.after = after.take();
            let wanted = scan.limit;
            let rows = store.rows(scan).await?;
            for row in &rows {
                found.push(serde_json::from_slice(&row.value).map_err(|error| self.damaged("a row", &error))?);
            }
            match rows.last() {
                Some(last) if rows.len() == wanted => after = Some(last.key.clone()),
                _ => break,
            }
        }
        Ok(found)
    }

    /// A commit that moves the group on, if it is still as `before`; and the row that it writes.
    pub(crate) fn advance(&self, before: Option<Bytes>, stored: &Stored) -> Result<(Commit, Bytes), StoreError> {
        let key = Bytes::from(self.prefix(b's'));
        let value = encode(stored)?;
        let commit = Commit::new().expect_row(self.table.clone(), key.clone(), before);
        Ok((commit.put_row(self.table.clone(), key, value.clone()), value))
    }

    /// Adds the row of a parked event; its removal where it is parked no more.
    pub(crate) fn park(&self, commit: Commit, at: Position, parked: Option<&Parked>) -> Result<Commit, StoreError> {
        let (table, key) = (self.table.clone(), self.key(b'p', at));
        Ok(match parked {
            Some(parked) => commit.put_row(table, key, encode(parked)?),
            None => commit.delete_row(table, key),
        })
    }

    /// Adds the row of an event that was given up.
    pub(crate) fn skip(&self, commit: Commit, skipped: &Skipped) -> Result<Commit, StoreError> {
        Ok(commit.put_row(self.table.clone(), self.key(b'x', skipped.position), encode(skipped)?))
    }

    fn damaged(&self, what: &str, error: &serde_json::Error) -> StoreError {
        StoreError::damaged(format!("table {:?}, {what} of {:?}", self.table.as_str(), self.name), error.to_string())
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, StoreError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| StoreError::io("write a row of a group", error))
}
