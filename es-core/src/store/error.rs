//! The errors of stores, one type per operation: [`CommitError`] for commits, [`StoreError`] for reads.

use std::fmt;

use crate::model::{AheadOfLog, ExpectedRevision, Position, Revision, found};
use crate::model::{Category, EventId};
use crate::model::{StreamId, Table, TransactionId, UniqueKey, Version};
use crate::retention::InvalidOperatorEvent;
use crate::store::Query;
use crate::store::commit::{
    MAX_COMMIT_BYTES, MAX_COMMIT_EVENTS, MAX_KEYS, MAX_METADATA_BYTES, MAX_METADATA_DEPTH, MAX_ORIGINS,
    MAX_PAYLOAD_BYTES, MAX_ROW_KEY_BYTES, MAX_TAGS,
};

/// The infrastructure of a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The stored data is not what was written. Do not retry: restore a backup, or repair the store with its tool,
    /// which is `es repair` for a store of es-rocksdb.
    #[error(
        "the store is damaged: {place}: {detail}; restore a backup, or repair the store: \
         `es --store DIR repair` shows what can be recovered"
    )]
    Damaged {
        /// The damaged position, stream or file.
        place: String,
        /// What was expected and what was found.
        detail: String,
    },
    /// An earlier write failed, so the state on disk is unknown and the store rejects further writes. Reads of events
    /// continue. Reads of rows, keys, ids and last revisions that the failed write may have changed return this error,
    /// too. Reopen the store, then repeat the commit with the same event ids; a repeated commit is not written twice.
    #[error("the store takes no more writes since {reason}; reopen it and repeat the commit with the same event ids")]
    Stopped {
        /// The failure that stopped the store.
        reason: String,
    },
    /// An earlier write failed, for example on a full disk, and is tried again. The commit was refused before it was
    /// decided. Repeat it when the cause is gone.
    #[error("the store cannot write at present: {reason}; the commit was not written; repeat it later")]
    Stalled {
        /// The failure that is tried again.
        reason: String,
    },
    /// The operating system or the storage engine failed. Nothing was acknowledged. Fix the cause and try again.
    #[error("could not {action}")]
    Io {
        /// The action that failed.
        action: String,
        /// The error of the operating system or the storage engine.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store was closed. Open it again.
    #[error("the store is closed; open it again")]
    Closed,
}

impl StoreError {
    /// Returns an [`Io`](Self::Io) error.
    pub fn io(action: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Io { action: action.into(), source: source.into() }
    }

    /// Returns a [`Damaged`](Self::Damaged) error.
    pub fn damaged(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Damaged { place: place.into(), detail: detail.into() }
    }
}

impl From<InvalidOperatorEvent> for StoreError {
    fn from(InvalidOperatorEvent { position, found }: InvalidOperatorEvent) -> Self {
        Self::damaged(format!("position {position}"), format!("expected a retention event, found {found}"))
    }
}

/// A commit was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A condition of the commit does not hold. Nothing was written. Reload the state, decide again, and commit the new
    /// decision.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The log already contains an event id of this commit, but not as part of the same commit. Nothing was written.
    /// See [`IdConflict`].
    #[error(transparent)]
    IdConflict(#[from] IdConflict),
    /// The commit exceeds a limit that does not depend on the contents of the log. Nothing was written. Change the
    /// commit.
    #[error(transparent)]
    Invalid(#[from] InvalidCommit),
    /// A [hook](crate::store::implement::DecisionHook) of the store rejected the commit. Nothing was written. The error
    /// is that of the hook; for an inline projection it is an [`InlineError`](crate::projection::inline::InlineError).
    #[error(transparent)]
    Rejected(Box<dyn std::error::Error + Send + Sync>),
    /// The infrastructure failed. The commit may have been written. Repeat it with the same event ids; a repeated
    /// commit is not written twice.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The conditions of a commit that do not hold. All of them are reported together, so that one reload is enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Conflict {
    /// The failed conditions, at least one, in the order of the commit.
    pub failed: Vec<FailedCheck>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("conflict: ")?;
        for (index, check) in self.failed.iter().enumerate() {
            write!(f, "{}{check}", if index == 0 { "" } else { "; " })?;
        }
        f.write_str("; nothing was written: reload and decide again")
    }
}

/// A condition of a commit that does not hold, with the actual state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailedCheck {
    /// A stream does not have the expected revision.
    Revision {
        /// The stream.
        stream: StreamId,
        /// The expected revision.
        expected: ExpectedRevision,
        /// The revision of the last event, or `None` if the stream does not exist or is deleted.
        actual: Option<Revision>,
    },
    /// An aggregate does not have the expected version.
    Version {
        /// The stream of the aggregate.
        stream: StreamId,
        /// The expected version.
        expected: Version,
        /// The version of the aggregate, or `None` if it has no events.
        actual: Option<Version>,
    },
    /// A stream was hard deleted: it cannot be written, and no expectation on it holds. Choose another stream.
    Deleted {
        /// The stream.
        stream: StreamId,
        /// The position of the deletion event.
        position: Position,
    },
    /// An event matches the query of an append condition.
    Match {
        /// The query.
        query: Query,
        /// The position after which no event may match.
        after: Option<Position>,
        /// The position of the first matching event.
        found: Position,
    },
    /// The position of an append condition is ahead of the log, so that the condition would hold whatever the log
    /// contains.
    AheadOfLog(AheadOfLog),
    /// Another stream holds a unique key.
    UniqueKey {
        /// The key.
        key: UniqueKey,
        /// The stream that tried to claim or release the key.
        wanted_by: StreamId,
        /// The stream that holds the key.
        held_by: StreamId,
    },
    /// A prepared transaction locks a stream. Repeat the commit after the transaction has ended. It does not end while
    /// its coordinator is unavailable.
    Locked {
        /// The stream.
        stream: StreamId,
        /// The transaction.
        transaction: TransactionId,
    },
    /// The commit finishes a transaction that is not prepared in a stream.
    NotPrepared {
        /// The stream.
        stream: StreamId,
        /// The transaction.
        transaction: TransactionId,
        /// The transaction that locks the stream, if there is one.
        holder: Option<TransactionId>,
    },
    /// A row does not have the expected value.
    Row {
        /// The table.
        table: Table,
        /// The key of the row.
        key: bytes::Bytes,
        /// Whether a row was expected.
        expected_present: bool,
        /// Whether a row was found.
        found_present: bool,
    },
}

impl fmt::Display for FailedCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revision { stream, expected, actual } => {
                write!(f, "stream {stream:?}: expected {expected}, found {}", found(*actual))
            }
            Self::Version { stream, expected, actual: Some(actual) } => {
                write!(f, "stream {stream:?}: expected version {expected}, found version {actual}")
            }
            Self::Version { stream, expected, actual: None } => {
                write!(f, "stream {stream:?}: expected version {expected}, found no stream")
            }
            Self::Deleted { stream, position } => {
                write!(f, "stream {stream:?}: expected a writable stream, found it hard deleted at position {position}")
            }
            Self::Match { after: Some(after), found, .. } => {
                write!(f, "expected no matching event after position {after}, found one at position {found}")
            }
            Self::Match { after: None, found, .. } => {
                write!(f, "expected no matching event, found one at position {found}")
            }
            Self::AheadOfLog(ahead) => write!(f, "append condition: {ahead}"),
            Self::UniqueKey { key, wanted_by, held_by } => {
                write!(
                    f,
                    "unique key {key}: expected it to be free for stream {wanted_by:?}, found it held by {held_by:?}"
                )
            }
            Self::Locked { stream, transaction } => {
                write!(f, "stream {stream:?}: expected it to be unlocked, found it locked by transaction {transaction}")
            }
            Self::NotPrepared { stream, transaction, holder } => {
                write!(f, "stream {stream:?}: expected transaction {transaction} to be prepared, found ")?;
                match holder {
                    Some(holder) => write!(f, "transaction {holder}"),
                    None => f.write_str("no prepared transaction"),
                }
            }
            Self::Row { table, key, expected_present, found_present } => {
                let row = |present| if present { "a row" } else { "no row" };
                let found = match (expected_present, found_present) {
                    (true, true) => "another value",
                    (_, found) => row(*found),
                };
                write!(
                    f,
                    "table {table:?}, key {}: expected {}, found {found}",
                    key.escape_ascii(),
                    row(*expected_present)
                )
            }
        }
    }
}

/// The log already contains event ids of a commit, but the commit is not a repeat of the one that wrote them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdConflict {
    /// The log contains some of the ids but not all. A repeated commit must contain all events of the first one.
    #[error(
        "a commit must be repeated whole: expected all or none of its {of} event ids in the log, found {found}, \
         the first is {id}; repeat the commit as it was, or give new ids"
    )]
    Partial {
        /// The number of ids that the log contains.
        found: usize,
        /// The number of events in the commit.
        of: usize,
        /// The first id that the log contains.
        id: EventId,
    },
    /// The id belongs to an event of another commit, or the event differs in its stream, type, version, payload, tags
    /// or unique keys.
    #[error("event id {id} belongs to another event, at position {position}; give each event an id of its own")]
    Taken {
        /// The id.
        id: EventId,
        /// The position of the event that has the id.
        position: Position,
    },
    /// The log contains the event, but with other metadata, another time or other causes. Repeat the event as it was
    /// written.
    #[error(
        "event id {id} is stored at position {position}, and its {field} differs; repeat the event as it was written, \
         or give it a new id"
    )]
    Differs {
        /// The id.
        id: EventId,
        /// The position of the stored event.
        position: Position,
        /// The first field that differs: `metadata`, `occurred_at`, `correlation id` or `causation id`.
        field: &'static str,
    },
    /// The id belongs to an event of this stream that a [scavenge](crate::retention) has removed. Its content is gone,
    /// so the store cannot check whether the commit is a repeat. Treat the commit as written, or write it again with
    /// new ids.
    #[error(
        "event id {id} was written at position {position} and has been removed since, so a repeat cannot be compared; \
         treat the commit as written, or give new ids"
    )]
    Removed {
        /// The id.
        id: EventId,
        /// The position of the tombstone.
        position: Position,
    },
}

/// A commit exceeds a limit that every store enforces.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommit {
    /// Two events of the commit have the same id.
    #[error("each event of a commit must have an id of its own, found {id} twice")]
    SameIdTwice {
        /// The id.
        id: EventId,
    },
    /// The commit has more than [`MAX_COMMIT_EVENTS`] events.
    #[error("a commit must have at most {MAX_COMMIT_EVENTS} events, found {found}; split it")]
    TooManyEvents {
        /// The number of events.
        found: usize,
    },
    /// The commit has more than [`MAX_COMMIT_BYTES`] bytes.
    #[error("a commit must have at most {MAX_COMMIT_BYTES} bytes of payloads, rows and keys, found {found}; split it")]
    TooManyBytes {
        /// The size of the commit in bytes.
        found: usize,
    },
    /// A payload has more than [`MAX_PAYLOAD_BYTES`] bytes.
    #[error(
        "the payload of an event must have at most {MAX_PAYLOAD_BYTES} bytes, found {found} in event {id}; \
         store large content elsewhere and its address in the event"
    )]
    PayloadTooLarge {
        /// The event.
        id: EventId,
        /// The length of its payload in bytes.
        found: usize,
    },
    /// An event has more than [`MAX_TAGS`] tags.
    #[error("an event must have at most {MAX_TAGS} tags, found {found} on event {id}")]
    TooManyTags {
        /// The event.
        id: EventId,
        /// The number of tags.
        found: usize,
    },
    /// An event claims and releases more than [`MAX_KEYS`] unique keys.
    #[error("an event must have at most {MAX_KEYS} unique keys, found {found} on event {id}")]
    TooManyKeys {
        /// The event.
        id: EventId,
        /// The number of claims and releases.
        found: usize,
    },
    /// The vector clock of a stamp has more than [`MAX_ORIGINS`] origins.
    #[error("the vector clock of a stamp must have at most {MAX_ORIGINS} origins, found {found} on event {id}")]
    TooManyOrigins {
        /// The event.
        id: EventId,
        /// The number of origins.
        found: usize,
    },
    /// The metadata of an event is too large or nested too deeply, has a key that serde_json reserves, or has a float
    /// that is NaN or infinite.
    #[error(
        "the metadata of an event must have at most {MAX_METADATA_BYTES} bytes and {MAX_METADATA_DEPTH} levels, found \
         {found} in event {id}; put content into the payload"
    )]
    Metadata {
        /// The event.
        id: EventId,
        /// The violation.
        found: String,
    },
    /// The schema version of an event is 0.
    #[error("schema versions start at 1, found 0 on event {id}")]
    VersionZero {
        /// The event.
        id: EventId,
    },
    /// The stream or the type of the event has a reserved name, and the event is not one that the functions of
    /// [`retention`](crate::retention) write. Choose another name for the stream or the type.
    #[error(
        "reserved names are only for events that the functions for retention, deletion and projections write, found \
         {found} in event {id} for stream {stream:?}; use these functions, or choose another name"
    )]
    Reserved {
        /// The event.
        id: EventId,
        /// The stream.
        stream: StreamId,
        /// A description of the event.
        found: String,
    },
    /// The content type of an event is empty or too long.
    #[error("a content type must have 1 to 255 bytes, found {found} on event {id}")]
    ContentTypeLength {
        /// The event.
        id: EventId,
        /// The length of its content type in bytes.
        found: usize,
    },
    /// An event of a [foreign commit](crate::Commit::foreign) has no stamp. Keep the stamp of its origin.
    #[error("each event of a foreign commit must have a stamp, found none on event {id}")]
    ForeignWithoutStamp {
        /// The event.
        id: EventId,
    },
    /// A [foreign commit](crate::Commit::foreign) has a condition or a key change, which it must not have. Remove it.
    #[error("a foreign commit must have no expectations, append conditions or key changes, found {found}")]
    ForeignCondition {
        /// The condition or change.
        found: &'static str,
    },
    /// The key of a row is empty or longer than [`MAX_ROW_KEY_BYTES`].
    #[error("the key of a row must have 1 to {MAX_ROW_KEY_BYTES} bytes, found {found}")]
    RowKeyLength {
        /// The length of the key in bytes.
        found: usize,
    },
    /// The rule of a category would hide events that are not written yet, in each of its streams. Choose a revision up
    /// to the end of its longest stream.
    #[error(
        "category {category}: expected truncate_before up to {end}, found {found}; it would hide events that are not \
         written yet"
    )]
    TruncationAhead {
        /// The category.
        category: Category,
        /// The revision of the next event of the longest stream.
        end: Revision,
        /// The `truncate_before` of the rule.
        found: Revision,
    },
    /// A hook changed the events of a commit after they had been numbered. Change them in
    /// [`DecisionHook::before`](crate::store::implement::DecisionHook::before).
    #[error("a hook may change the events of a commit only before the decision")]
    Numbered,
}
