//! Command ids: a command that is executed again under the same id returns its first result.
//!
//! The first result is a row of the side table `commands`. Its key is the stream and the command id. The commit of the
//! command writes it, so the events and the row are either both written or both absent, even after a crash. The row
//! contains the event ids of the command. Rows are never removed; a row has about 100 bytes, the command id, the stream
//! name twice, and 40 bytes for each event.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::aggregate::repository::error::InfrastructureError;
use crate::model::reserved;
use crate::model::{CommandId, EventId, Revision, StreamId, Table};
use crate::store::{Commit, CommitError, EventReader, EventStore, RowScan, StoreError};

/// The format of result rows. A row of another format is an error.
const FORMAT: u32 = 2;

/// A result row: the first results of all commands of a unit of work, in order.
#[derive(Debug, Serialize, Deserialize)]
struct StoredResult {
    format: u32,
    results: Vec<FirstResult>,
}

/// The first result of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstResult {
    /// The stream of the aggregate.
    pub(super) stream: StreamId,
    /// The ids of the events that the command wrote, in order.
    pub(super) events: Vec<EventId>,
    /// The revision of the aggregate after the command, on this node. Events are found by id. The revision gives the
    /// state after a command without events, and reveals that events were lost.
    pub(super) last: Option<Revision>,
}

/// The row that stores the first results of one command or unit of work.
#[derive(Debug, Clone)]
pub struct ResultRow {
    key: Bytes,
    id: CommandId,
    /// The number of commands that share the row.
    commands: usize,
}

fn table() -> Table {
    Table::well_known(reserved::COMMANDS)
}

/// Removes the results of commands whose events the log no longer contains, so that such a command can be executed
/// again. Returns the number of removed rows.
pub(crate) async fn remove_lost_results(store: &dyn EventStore, batch_size: usize) -> Result<u64, CommitError> {
    let (mut removed, mut after) = (0, None);
    loop {
        let mut scan = RowScan::new(table(), Bytes::new(), batch_size);
        scan.after = after.take();
        let rows = store.rows(scan).await?;
        let mut commit = Commit::new();
        for row in &rows {
            if let Ok(stored) = serde_json::from_slice::<StoredResult>(&row.value)
                && is_lost(store, &stored.results).await?
            {
                commit = commit.delete_row(table(), row.key.clone());
                removed += 1;
            }
        }
        store.commit(commit).await?;
        match rows.last() {
            Some(last) if rows.len() == batch_size => after = Some(last.key.clone()),
            _ => return Ok(removed),
        }
    }
}

async fn is_lost(store: &dyn EventReader, results: &[FirstResult]) -> Result<bool, StoreError> {
    for result in results {
        if result.last > store.revision(&result.stream).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl ResultRow {
    /// Returns the row of the command `id`, or of the unit of work `id` whose first command is to the aggregate of
    /// `stream`.
    pub(super) fn new(stream: &StreamId, id: CommandId, commands: usize) -> Self {
        Self { key: [stream.as_str().as_bytes(), &[0], id.as_str().as_bytes()].concat().into(), id, commands }
    }

    /// Returns the first results, one for each command, or `None` if the row does not exist.
    pub(super) async fn read(&self, store: &dyn EventReader) -> Result<Option<Vec<FirstResult>>, InfrastructureError> {
        let Some(value) = store.row(&table(), &self.key).await? else { return Ok(None) };
        let stored: StoredResult = serde_json::from_slice(&value).map_err(|error| self.unusable(error))?;
        if stored.format != FORMAT {
            return Err(self.unusable(format_args!("expected format {FORMAT}, found {}", stored.format)));
        }
        if stored.results.len() != self.commands {
            let found = stored.results.len();
            return Err(
                self.unusable(format_args!("expected the results of {} commands, found {found}", self.commands))
            );
        }
        Ok(Some(stored.results))
    }

    /// Adds the row to the commit of the commands. The commit conflicts if the row already exists.
    pub(super) fn write(&self, commit: Commit, results: Vec<FirstResult>) -> Result<Commit, StoreError> {
        let stored = StoredResult { format: FORMAT, results };
        let value = serde_json::to_vec(&stored).map_err(|error| StoreError::io("write a command result", error))?;
        Ok(commit.expect_row(table(), self.key.clone(), None).put_row(table(), self.key.clone(), value))
    }

    /// Returns the error for a row whose results do not match this command.
    pub(super) fn unusable(&self, detail: impl fmt::Display) -> InfrastructureError {
        InfrastructureError::CommandResult { command_id: self.id.clone(), detail: detail.to_string() }
    }

    /// Returns the error for a result whose events were removed.
    pub(super) fn removed(&self, stream: &StreamId) -> InfrastructureError {
        InfrastructureError::ResultRemoved { command_id: self.id.clone(), stream: stream.clone() }
    }
}
