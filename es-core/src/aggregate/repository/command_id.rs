//! Command ids: a command that is executed again under the same id gives its first result.
//!
//! The first result is a row of the side table `commands` under stream and command id, written in the commit of the command: there
//! are both or neither, also after a crash. It names the events of the command by their ids. Rows are kept for ever; a row has about
//! 100 bytes, the command id, the stream name twice, and 40 bytes for each event.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::aggregate::repository::error::InfrastructureError;
use crate::model::reserved;
use crate::model::{CommandId, EventId, Revision, StreamId, Table};
use crate::store::{Commit, CommitError, EventReader, EventStore, RowScan, StoreError};

/// The format of result rows. A row of another format is an error, not another result.
const FORMAT: u32 = 2;

/// A result row: the first results of all commands of a unit of work, in their order.
#[derive(Debug, Serialize, Deserialize)]
struct StoredResult {
    format: u32,
    results: Vec<FirstResult>,
}

/// The first result of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstResult {
    /// The stream of its aggregate.
    pub(super) stream: StreamId,
    /// The events that it wrote, in order.
    pub(super) events: Vec<EventId>,
    /// The revision, on this node, of the last event in the state after it. The events are found by their ids; the revision gives the
    /// state after a command without events, and shows that events were lost.
    pub(super) last: Option<Revision>,
}

/// The row in which the first results of one command or unit of work are stored.
#[derive(Debug, Clone)]
pub struct ResultRow {
    key: Bytes,
    id: CommandId,
    /// How many commands share the row.
    commands: usize,
}

fn table() -> Table {
    Table::well_known(reserved::COMMANDS)
}

/// Removes the results of commands whose events are not in the log any more, so that such a command can be executed again; returns
/// how many there were.
pub(crate) async fn forget_lost(store: &dyn EventStore, at_once: usize) -> Result<u64, CommitError> {
    let (mut forgotten, mut after) = (0, None);
    loop {
        let mut scan = RowScan::new(table(), Bytes::new(), at_once);
        scan.after = after.take();
        let rows = store.rows(scan).await?;
        let mut commit = Commit::new();
        for row in &rows {
            if let Ok(stored) = serde_json::from_slice::<StoredResult>(&row.value)
                && is_lost(store, &stored.results).await?
            {
                commit = commit.delete_row(table(), row.key.clone());
                forgotten += 1;
            }
        }
        store.commit(commit).await?;
        match rows.last() {
            Some(last) if rows.len() == at_once => after = Some(last.key.clone()),
            _ => return Ok(forgotten),
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
    /// The row of the command `id`, or of the unit of work `id` whose first command is to the aggregate of `stream`.
    pub(super) fn new(stream: &StreamId, id: CommandId, commands: usize) -> Self {
        Self { key: [stream.as_str().as_bytes(), &[0], id.as_str().as_bytes()].concat().into(), id, commands }
    }

    /// Returns the first results, one for each command; `None` if there are none yet.
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

    /// Adds the results to the commit that makes them true. It conflicts if results exist already.
    pub(super) fn write(&self, commit: Commit, results: Vec<FirstResult>) -> Result<Commit, StoreError> {
        let stored = StoredResult { format: FORMAT, results };
        let value = serde_json::to_vec(&stored).map_err(|error| StoreError::io("write a command result", error))?;
        Ok(commit.expect_row(table(), self.key.clone(), None).put_row(table(), self.key.clone(), value))
    }

    /// The error for a row that does not hold what this command needs.
    pub(super) fn unusable(&self, detail: impl fmt::Display) -> InfrastructureError {
        InfrastructureError::CommandResult { command_id: self.id.clone(), detail: detail.to_string() }
    }

    /// The error for a result whose events were removed.
    pub(super) fn removed(&self, stream: &StreamId) -> InfrastructureError {
        InfrastructureError::ResultRemoved { command_id: self.id.clone(), stream: stream.clone() }
    }
}
