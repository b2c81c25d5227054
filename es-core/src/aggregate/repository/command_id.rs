//! Command ids: a command that is executed again under the same id returns its first result.
//!
//! The first result is a row of the side table `commands`. Its key is the stream and the command id. The commit of the
//! command writes it, so the events and the row are either both written or both absent, even after a crash. The row
//! contains the event ids of the command, and its type with a digest of its content: another command under the same id
//! is an error. Rows are never removed; a row has about 150 bytes, the command id, the stream name twice, the name of
//! the command's type, and 40 bytes for each event.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::aggregate::repository::error::InfrastructureError;
use crate::aggregate::repository::unit::Target;
use crate::model::digest::Fnv;
use crate::model::reserved;
use crate::model::{
    CommandDigest, CommandId, Dot, EventId, NameError, RecordedEvent, Revision, StreamId, Table, Timestamp,
    to_stored_precision,
};
use crate::schema::{Json, encode_and_decode, ordered_value_digest};
use crate::store::implement::{LogView, RowChange};
use crate::store::{Commit, CommitError, EventReader, EventStore, RowScan, StoreError};

/// The type and the prefix of the ids of the commands that answer conflicts.
const ANSWER: (&str, &str) = ("es.resolve", "resolve:");

/// The format of result rows. A row of another format is an error.
const FORMAT: u32 = 2;

/// The type of a command, and a digest of its type and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandIdentity {
    /// The path of the Rust type. `None` for a command of another node, of which only the digest is known.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    command_type: Option<String>,
    /// The digest of the type and the content.
    digest: CommandDigest,
}

impl CommandIdentity {
    /// Returns the identity of a command, or `None` if its `Serialize` implementation fails.
    pub(super) fn of<C: Serialize>(command: &C) -> Option<Self> {
        Self::new(std::any::type_name::<C>(), command)
    }

    /// Returns the identity of a command of this type with this content.
    fn new(command_type: &str, content: &(impl Serialize + ?Sized)) -> Option<Self> {
        let content = ordered_value_digest(content)?;
        let mut digest = Fnv::new();
        digest.write(command_type.as_bytes());
        digest.write(&[0]);
        digest.write(&content.to_be_bytes());
        Some(Self { command_type: Some(command_type.to_owned()), digest: CommandDigest::from_bits(digest.value()) })
    }
}

/// Commands whose type and content can be bound to a command id.
pub trait Identified {
    /// Appends the identities of the commands, in order; `None` for a command that cannot be serialized.
    fn identify(&self, identities: &mut Vec<Option<CommandIdentity>>);
}

/// A command id, and the identities of the commands that it was given for.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    id: CommandId,
    commands: Vec<Option<CommandIdentity>>,
}

impl Binding {
    pub(super) fn new(id: CommandId, commands: &impl Identified) -> Self {
        let mut identities = Vec::new();
        commands.identify(&mut identities);
        Self { id, commands: identities }
    }

    /// Binds the id to commands of these types and to a content that the caller gives.
    pub(super) fn to_content(id: CommandId, types: &[&str], content: &(impl Serialize + ?Sized)) -> Self {
        Self { id, commands: types.iter().map(|name| CommandIdentity::new(name, content)).collect() }
    }

    /// Binds the id of an answer to the conflict of two events, of which the first precedes the second in canonical
    /// order. The id and the identity of the command depend only on the dots, so that the answers of several nodes
    /// count as one command, whatever their events.
    pub(super) fn of_answer(earlier: Dot, later: Dot) -> Result<Self, NameError> {
        let id = CommandId::new(format!("{}{earlier},{later}", ANSWER.1))?;
        Ok(Self::to_content(id, &[ANSWER.0], &()))
    }

    /// Returns `true` if a command with this id and digest answers a conflict.
    pub(super) fn is_of_answer((id, digest): &(CommandId, CommandDigest)) -> bool {
        let is_answer = |answer: CommandIdentity| answer.digest == *digest;
        id.as_str().starts_with(ANSWER.1) && CommandIdentity::new(ANSWER.0, &()).is_some_and(is_answer)
    }
}

/// A result row: the first results of all commands of a unit of work, in order.
#[derive(Debug, Serialize, Deserialize)]
struct StoredResult {
    format: u32,
    results: Vec<FirstResult>,
    /// The time that the caller set for the commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
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
    /// The command. Rows of earlier versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<CommandIdentity>,
}

impl FirstResult {
    pub(super) const fn new(stream: StreamId, events: Vec<EventId>, last: Option<Revision>) -> Self {
        Self { stream, events, last, command: None }
    }
}

/// The row that stores the first results of one command or unit of work.
#[derive(Debug, Clone)]
pub struct ResultRow {
    key: Bytes,
    id: CommandId,
    /// The commands that share the row, in order, and the streams of their aggregates.
    commands: Vec<(StreamId, CommandIdentity)>,
    /// The time that the caller set for the commands.
    occurred_at: Option<Timestamp>,
}

fn table() -> Table {
    Table::well_known(reserved::COMMANDS)
}

/// The number of commands that the message of an error names.
const DESCRIBED: usize = 3;

/// Names commands and their aggregates, for the message of an error.
fn describe<'a>(commands: impl ExactSizeIterator<Item = (Option<&'a CommandIdentity>, &'a StreamId)>) -> String {
    let more = commands.len().saturating_sub(DESCRIBED);
    let named = commands.take(DESCRIBED).map(|(command, stream)| {
        let name = match command {
            Some(CommandIdentity { command_type: Some(name), .. }) => name,
            Some(_) => "a command of another node",
            None => "a command of an earlier version",
        };
        format!("{name} to {stream:?}")
    });
    let named = named.collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// Returns the result rows of commands that another node executed, so that a repeat on this node returns the first
/// result. `events` are the recorded events of one foreign commit. For a hook that stores them.
///
/// A unit of work of several commands has no row, because its events do not name the commands.
///
/// # Errors
/// [`StoreError`] if the view fails.
pub fn foreign_results(events: &[RecordedEvent], view: &mut dyn LogView) -> Result<Vec<RowChange>, StoreError> {
    let Some(first) = events.first() else { return Ok(Vec::new()) };
    let command = first.data.stamp.as_ref().and_then(|stamp| stamp.command.as_ref());
    let Some((id, digest)) = command.filter(|_| events.iter().all(|event| event.stream == first.stream)) else {
        return Ok(Vec::new());
    };
    let key = row_key(&first.stream, id);
    if view.row(&table(), &key)?.is_some() {
        // The command was executed here, too.
        return Ok(Vec::new());
    }
    let ids = events.iter().map(|event| event.data.id).collect();
    let mut result = FirstResult::new(first.stream.clone(), ids, events.last().map(|event| event.revision));
    result.command = Some(CommandIdentity { command_type: None, digest: *digest });
    let stored = StoredResult { format: FORMAT, results: vec![result], occurred_at: None };
    let (value, _) = encode_and_decode::<Json, _>(&stored).map_err(|error| StoreError::io("write a result", error))?;
    Ok(vec![RowChange { table: table(), key, value: Some(value) }])
}

fn row_key(stream: &StreamId, id: &CommandId) -> Bytes {
    [stream.as_str().as_bytes(), &[0], id.as_str().as_bytes()].concat().into()
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
    /// Returns the row of the commands of a binding, or `None` if there is no command. Its key contains the stream of
    /// the first command.
    pub(super) fn new(
        binding: &Binding,
        targets: &[Target<'_>],
        occurred_at: Option<Timestamp>,
    ) -> Result<Option<Self>, InfrastructureError> {
        let Binding { id, commands } = binding;
        let Some(Target { stream, .. }) = targets.first() else { return Ok(None) };
        let unbound = |detail| InfrastructureError::UnboundCommand { command_id: id.clone(), detail };
        if commands.len() != targets.len() {
            return Err(unbound("commands were added after the id; set the id after all commands"));
        }
        let mut bound = Vec::with_capacity(targets.len());
        for (target, command) in targets.iter().zip(commands) {
            let command = command.clone().ok_or_else(|| unbound("the command could not be serialized"))?;
            bound.push((target.stream.clone(), command));
        }
        Ok(Some(Self {
            key: row_key(stream, id),
            id: id.clone(),
            commands: bound,
            occurred_at: occurred_at.map(to_stored_precision),
        }))
    }

    /// Returns the first results, one for each command, or `None` if the row does not exist.
    ///
    /// # Errors
    /// [`InfrastructureError::CommandIdReused`] if the row belongs to other commands.
    pub(super) async fn read(&self, store: &dyn EventReader) -> Result<Option<Vec<FirstResult>>, InfrastructureError> {
        let Some(value) = store.row(&table(), &self.key).await? else { return Ok(None) };
        let stored: StoredResult = serde_json::from_slice(&value).map_err(|error| self.unusable(error))?;
        if stored.format != FORMAT {
            return Err(self.unusable(format_args!("expected format {FORMAT}, found {}", stored.format)));
        }
        if self.is_result_of_same_commands(&stored) { Ok(Some(stored.results)) } else { Err(self.reused(&stored)) }
    }

    /// Returns whether the stored results are those of these commands. A row of an earlier version only names the
    /// aggregates of its commands. It counts as a result of any commands to them, because a caller that repeats a
    /// command after an upgrade must not conclude that the command was not executed.
    fn is_result_of_same_commands(&self, stored: &StoredResult) -> bool {
        let is_same = |(result, (stream, command)): (&FirstResult, &(StreamId, CommandIdentity))| {
            result.stream == *stream && result.command.as_ref().is_none_or(|first| first.digest == command.digest)
        };
        // A row of an earlier version or of a command of another node has no time.
        let names_type = |command: &CommandIdentity| command.command_type.is_some();
        let names_time = stored.results.iter().any(|result| result.command.as_ref().is_some_and(names_type));
        stored.results.len() == self.commands.len()
            && stored.results.iter().zip(&self.commands).all(is_same)
            && (!names_time || stored.occurred_at == self.occurred_at)
    }

    fn reused(&self, stored: &StoredResult) -> InfrastructureError {
        let first = describe(stored.results.iter().map(|result| (result.command.as_ref(), &result.stream)));
        let repeated = describe(self.commands.iter().map(|(stream, command)| (Some(command), stream)));
        let repeated =
            if repeated == first { format!("{repeated} with other content or another time") } else { repeated };
        InfrastructureError::CommandIdReused { command_id: self.id.clone(), first, repeated }
    }

    /// Adds the row to the commit of the commands. The commit conflicts if the row already exists.
    pub(super) fn write(&self, commit: Commit, mut results: Vec<FirstResult>) -> Result<Commit, StoreError> {
        for (result, (_, command)) in results.iter_mut().zip(&self.commands) {
            result.command = Some(command.clone());
        }
        let stored = StoredResult { format: FORMAT, results, occurred_at: self.occurred_at };
        // Read back, because a result that cannot be read refuses every repeat of the command.
        let encoded = encode_and_decode::<Json, _>(&stored);
        let (value, _) = encoded.map_err(|error| StoreError::io("write a command result", error))?;
        let commit = commit.expect_row(table(), self.key.clone(), None).put_row(table(), self.key.clone(), value);
        // The id of a unit of several commands is known on this node only: the events do not name their commands.
        let command = match &self.commands[..] {
            [(_, command)] => Some((self.id.clone(), command.digest)),
            _ => None,
        };
        Ok(Commit { command, ..commit })
    }

    /// Returns the error for a row that cannot be decoded.
    pub(super) fn unusable(&self, detail: impl fmt::Display) -> InfrastructureError {
        InfrastructureError::CommandResult { command_id: self.id.clone(), detail: detail.to_string() }
    }

    /// Returns the error for a result whose events were removed.
    pub(super) fn removed(&self, stream: &StreamId) -> InfrastructureError {
        InfrastructureError::ResultRemoved { command_id: self.id.clone(), stream: stream.clone() }
    }
}
