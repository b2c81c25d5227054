//! Command ids: a command that is executed again under the same id gives its first result.
//!
//! The first result is a row of the side table `commands` under stream and id, written in the commit of the command, so
//! that there is either both or neither, also after a crash. Rows are kept for ever: 60 bytes and the id, each.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::aggregate::repository::error::MachineryError;
use crate::model::Revision;
use crate::model::{NameError, StreamId, Table};
use crate::store::{Commit, CommitError, EventStore, RowScan, StoreError};

/// What a caller calls a command, so that it is executed at most once: any text that is a [name](crate::model), unique for
/// the aggregate, for example the id of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommandId(Box<str>);

impl CommandId {
    /// The command id with this text.
    ///
    /// # Errors
    /// [`NameError`] when the text is not a name.
    pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
        // NOTE: the rules of a command id are those of every name; a tag has no others.
        crate::model::Tag::new(text.as_ref())?;
        Ok(Self(text.as_ref().into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for CommandId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

/// The first result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FirstResult {
    /// How many events it wrote.
    pub(crate) events: u64,
    /// The revision of the aggregate behind it.
    pub(crate) revision: Option<Revision>,
}

/// The place of a command's first result.
#[derive(Debug, Clone)]
pub(crate) struct ResultRow {
    key: Bytes,
    id: CommandId,
}

fn table() -> Table {
    Table::well_known("commands")
}

/// Removes the results of commands whose events are not in the log any more, so that such a command can be given again; returns how
/// many there were.
pub(crate) async fn forget_lost(store: &dyn EventStore, at_once: usize) -> Result<u64, CommitError> {
    let (mut forgotten, mut after) = (0, None);
    loop {
        let mut scan = RowScan::new(table(), Bytes::new(), at_once);
        scan.after = after.take();
        let rows = store.rows(scan).await?;
        let mut commit = Commit::new();
        for row in &rows {
            let stream = row.key.split(|byte| *byte == 0).next().and_then(|name| std::str::from_utf8(name).ok());
            let stream = stream.and_then(|name| StreamId::new(name).ok());
            let result: Option<FirstResult> = serde_json::from_slice(&row.value).ok();
            if let (Some(stream), Some(result)) = (stream, result)
                && result.revision > store.revision(&stream).await?
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

impl ResultRow {
    pub(crate) fn new(stream: &StreamId, id: CommandId) -> Self {
        Self { key: [stream.as_str().as_bytes(), &[0], id.as_str().as_bytes()].concat().into(), id }
    }

    pub(crate) async fn read(&self, store: &dyn EventStore) -> Result<Option<FirstResult>, MachineryError> {
        let Some(value) = store.row(&table(), &self.key).await? else { return Ok(None) };
        serde_json::from_slice(&value).map(Some).map_err(|error| MachineryError::CommandResult {
            command_id: self.id.as_str().to_owned(),
            detail: error.to_string(),
        })
    }

    /// Adds the result to the commit that makes it true; refused where a result is there already.
    pub(crate) fn write(&self, commit: Commit, result: &FirstResult) -> Result<Commit, StoreError> {
        let value = serde_json::to_vec(result).map_err(|error| StoreError::io("write a command result", error))?;
        Ok(commit.expect_row(table(), self.key.clone(), None).put_row(table(), self.key.clone(), value))
    }
}
