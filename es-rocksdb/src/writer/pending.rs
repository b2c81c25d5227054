//! [`PendingCommits`]: the commits that are decided and not published yet, and the rows and unique keys that they
//! change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use es_core::model::Table;
use es_core::store::implement::{KeyHash, KeyOwner};
use es_core::{Position, RecordedEvent, Revision, StreamId};

use crate::record::CommitChanges;

/// A commit that is not published yet.
#[derive(Debug)]
pub(crate) struct DecidedCommit {
    /// The number of the commit since the store was opened.
    pub(crate) number: u64,
    pub(crate) events: Arc<Vec<RecordedEvent>>,
    pub(crate) changes: CommitChanges,
}

/// A changed value, and the number of the commit that changed it last.
type Changed<T> = (u64, T);

/// The commits that are not published yet, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct PendingCommits {
    commits: VecDeque<DecidedCommit>,
    rows: BTreeMap<(Table, Bytes), Changed<Option<Bytes>>>,
    owners: BTreeMap<KeyHash, Changed<Option<KeyOwner>>>,
    firsts: BTreeMap<StreamId, Changed<Revision>>,
    last_number: u64,
}

impl PendingCommits {
    /// Adds a commit. Returns its number.
    pub(crate) fn add(&mut self, events: Arc<Vec<RecordedEvent>>, changes: CommitChanges) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        self.rows.extend(changes.rows.iter().map(|(key, value)| (key.clone(), (number, value.clone()))));
        self.owners.extend(changes.owners.iter().map(|(hash, owner)| (*hash, (number, owner.clone()))));
        self.firsts.extend(changes.firsts.iter().map(|(stream, first)| (stream.clone(), (number, *first))));
        self.commits.push_back(DecidedCommit { number, events, changes });
        number
    }

    /// Returns the number of the last commit that was added; 0 before the first.
    pub(crate) const fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Takes the next commits, which are written. Their changes stay visible here until they are
    /// [removed](Self::remove).
    pub(crate) fn take(&mut self, count: u32) -> Vec<DecidedCommit> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.commits.len());
        self.commits.drain(..count).collect()
    }

    /// Puts the commits back that were taken last, in front of the others.
    pub(crate) fn put_back(&mut self, commits: Vec<DecidedCommit>) {
        commits.into_iter().rev().for_each(|commit| self.commits.push_front(commit));
    }

    /// Removes the changes of commits that were taken and are in RocksDB now.
    pub(crate) fn remove(&mut self, commits: &[DecidedCommit]) {
        let Some(last) = commits.last().map(|commit| commit.number) else { return };
        for CommitChanges { rows, owners, firsts } in commits.iter().map(|commit| &commit.changes) {
            for key in rows.keys() {
                remove_up_to(&mut self.rows, key, last);
            }
            for hash in owners.keys() {
                remove_up_to(&mut self.owners, hash, last);
            }
            for stream in firsts.keys() {
                remove_up_to(&mut self.firsts, stream, last);
            }
        }
    }

    /// Returns the event at a position, if it is not published yet.
    pub(crate) fn event(&self, position: Position) -> Option<&RecordedEvent> {
        let starts_up_to =
            |commit: &DecidedCommit| commit.events.first().is_some_and(|first| first.position <= position);
        let with_events = || self.commits.iter().filter(|commit| !commit.events.is_empty());
        let commit = with_events().take_while(|commit| starts_up_to(commit)).last()?;
        commit.events.iter().find(|event| event.position == position)
    }

    /// Returns the changed value of a row: `None` if no pending commit changes it.
    pub(crate) fn row(&self, table: &Table, key: &[u8]) -> Option<&Option<Bytes>> {
        if self.rows.is_empty() {
            return None;
        }
        // The keys of the map are owned, so a look-up needs copies.
        self.rows.get(&(table.clone(), Bytes::copy_from_slice(key))).map(|(_, value)| value)
    }

    /// Returns the changed owner of a unique key: `None` if no pending commit changes it.
    pub(crate) fn owner(&self, hash: &KeyHash) -> Option<&Option<KeyOwner>> {
        self.owners.get(hash).map(|(_, owner)| owner)
    }

    /// Returns the first retained revision of a stream to which a pending commit adds tombstones.
    pub(crate) fn first_left(&self, stream: &StreamId) -> Option<Revision> {
        self.firsts.get(stream).map(|(_, first)| *first)
    }
}

/// Removes a value unless a commit after `last` has changed it.
fn remove_up_to<K: Ord, T>(changed: &mut BTreeMap<K, Changed<T>>, key: &K, last: u64) {
    if changed.get(key).is_some_and(|(number, _)| *number <= last) {
        changed.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: &str) -> CommitChanges {
        let key = (Table::new("t").unwrap(), Bytes::from_static(b"k"));
        CommitChanges {
            rows: [(key, Some(Bytes::copy_from_slice(value.as_bytes())))].into(),
            ..CommitChanges::default()
        }
    }

    #[test]
    fn a_change_stays_until_its_last_commit_is_removed() {
        let (mut pending, table) = (PendingCommits::default(), Table::new("t").unwrap());
        let value = |pending: &PendingCommits| pending.row(&table, b"k").cloned().flatten();
        assert_eq!(pending.add(Arc::default(), row("1")), 1);
        assert_eq!(pending.add(Arc::default(), row("2")), 2);
        let first = pending.take(1);
        assert_eq!(value(&pending).as_deref(), Some(b"2".as_slice()));
        pending.remove(&first);
        assert_eq!(value(&pending).as_deref(), Some(b"2".as_slice()), "the second commit is not written yet");
        let second = pending.take(5);
        assert_eq!(second.len(), 1);
        pending.remove(&second);
        assert_eq!(pending.row(&table, b"k"), None);
        assert_eq!(pending.last_number(), 2);
    }
}
