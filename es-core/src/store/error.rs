//! What can go wrong in a store, one type per operation: [`CommitError`] for commits, [`StoreError`] for reads.

use std::fmt;

use crate::model::EventId;
use crate::model::{ExpectedRevision, Position, Revision, found};
use crate::model::{StreamId, Table, UniqueKey, Version};
use crate::retention::InvalidOperatorEvent;
use crate::store::Query;
use crate::store::commit::{
    MAX_COMMIT_BYTES, MAX_COMMIT_EVENTS, MAX_KEYS, MAX_METADATA_BYTES, MAX_METADATA_DEPTH, MAX_ORIGINS,
    MAX_PAYLOAD_BYTES, MAX_ROW_KEY_BYTES, MAX_TAGS,
};

/// The machinery of a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What was read is not what was written. Do not retry: restore a backup, or mend the store with its tool, which is
    /// `es repair` for a store of es-rocksdb.
    #[error(
        "the store is damaged: {place}: {detail}; restore a backup, or repair the store: \
         `es --store DIR repair` shows what can be saved"
    )]
    Damaged {
        /// Where: a position, a stream, a file.
        place: String,
        /// What was expected and what was found.
        detail: String,
    },
    /// The store takes no more writes, because an earlier write failed and what is on disk is unknown. Reads go on, but for those
    /// of rows, keys, ids and last revisions where the failed write is there all the same: these give this error, too.
    /// Reopen the store; then repeat the commit with the same event ids, which adds nothing twice.
    #[error("the store takes no more writes since {reason}; reopen it and repeat the commit with the same event ids")]
    Stopped {
        /// The failure that stopped it.
        reason: String,
    },
    /// The operating system or the storage engine refused. Nothing was acknowledged; mend the cause and try again.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: String,
        /// The refusal.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store was closed. Open it again.
    #[error("the store is closed; open it again")]
    Closed,
}

impl StoreError {
    /// An [`Io`](Self::Io) error.
    pub fn io(action: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Io { action: action.into(), source: source.into() }
    }

    /// A [`Damaged`](Self::Damaged) error.
    pub fn damaged(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Damaged { place: place.into(), detail: detail.into() }
    }
}

impl From<InvalidOperatorEvent> for StoreError {
    fn from(InvalidOperatorEvent { position, found }: InvalidOperatorEvent) -> Self {
        Self::damaged(format!("position {position}"), format!("expected an event of retention, found {found}"))
    }
}

/// Why a commit wrote nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The log is not as the writer expects. Reload what was read, decide again, and commit what follows from it.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// An event id is in the log already, but not as part of this same commit. See [`IdConflict`].
    #[error(transparent)]
    IdConflict(#[from] IdConflict),
    /// The commit breaks a limit that holds whatever the log holds. Correct it.
    #[error(transparent)]
    Invalid(#[from] InvalidCommit),
    /// A [hook](crate::store::implement::DecisionHook) of the store refused the commit. The error is that of the hook; for an inline
    /// projection it is an [`InlineError`](crate::projection::inline::InlineError).
    #[error(transparent)]
    Rejected(Box<dyn std::error::Error + Send + Sync>),
    /// The machinery failed. Whether the commit was written is known only where the error says so: repeat it with the
    /// same event ids, which adds nothing twice.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All conditions of a commit that did not hold, together, so that one reload is enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Conflict {
    /// The conditions that did not hold, at least one, in the order of the commit.
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

/// A condition of a commit that did not hold, and what was found instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailedCheck {
    /// A stream is not as expected.
    Revision {
        /// The stream.
        stream: StreamId,
        /// What was expected.
        expected: ExpectedRevision,
        /// The revision of its last event; `None` where there is no stream, or only one that was deleted.
        actual: Option<Revision>,
    },
    /// An aggregate is not at the version that was demanded of it.
    Version {
        /// Its stream.
        stream: StreamId,
        /// The version that was demanded.
        expected: Version,
        /// Its version; `None` where it has no event.
        actual: Option<Version>,
    },
    /// A stream was hard deleted: nothing can be written to it, and nothing can be expected of it. Choose another stream.
    Deleted {
        /// The stream.
        stream: StreamId,
        /// Where its deletion stands in the log.
        position: Position,
    },
    /// Something matches a query that was to match nothing.
    Match {
        /// The query.
        query: Query,
        /// The position after which nothing was to match.
        after: Option<Position>,
        /// The first event that matches.
        found: Position,
    },
    /// Another stream holds a unique key.
    UniqueKey {
        /// The key.
        key: UniqueKey,
        /// The stream that wanted to claim or release it.
        wanted_by: StreamId,
        /// The stream that holds it.
        held_by: StreamId,
    },
    /// A row is not as expected.
    Row {
        /// The table.
        table: Table,
        /// Its key.
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
                write!(
                    f,
                    "stream {stream:?}: expected one that can be written, found it deleted for ever at position {position}"
                )
            }
            Self::Match { after: Some(after), found, .. } => {
                write!(f, "expected no matching event after position {after}, found one at position {found}")
            }
            Self::Match { after: None, found, .. } => {
                write!(f, "expected no matching event, found one at position {found}")
            }
            Self::UniqueKey { key, wanted_by, held_by } => {
                write!(f, "unique key {key}: expected to be free for stream {wanted_by:?}, found held by {held_by:?}")
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

/// Event ids of a commit are in the log already, but the commit is not a repeat of the one that wrote them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdConflict {
    /// Some of the ids are there and some are not: a repeat must be the same commit, whole.
    #[error(
        "a commit must be repeated whole: expected all or none of its {of} event ids in the log, found {found}, \
         the first is {id}; repeat the commit as it was, or give new ids"
    )]
    Partial {
        /// How many of the ids are in the log.
        found: usize,
        /// How many events the commit has.
        of: usize,
        /// The first id that is there.
        id: EventId,
    },
    /// The id belongs to an event of another commit or with another stream, type, payload or set of tags.
    #[error("event id {id} belongs to another event, at position {position}; give each event an id of its own")]
    Taken {
        /// The id.
        id: EventId,
        /// Where the event stands that has it.
        position: Position,
    },
    /// The id belongs to an event of this stream that was written and has since been removed by a
    /// [scavenge](crate::retention). Whether the commit is the same cannot be told any more. Take it for written, or give new
    /// ids to write it anew.
    #[error(
        "event id {id} was written at position {position} and has been removed since, so that a repeat cannot be compared; \
         take the commit for written, or give new ids"
    )]
    Removed {
        /// The id.
        id: EventId,
        /// Where the event stood.
        position: Position,
    },
}

/// A commit that no store may write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommit {
    /// Two events have one id.
    #[error("each event of a commit must have an id of its own, found {id} twice")]
    SameIdTwice {
        /// The id.
        id: EventId,
    },
    /// More events than [`MAX_COMMIT_EVENTS`].
    #[error("a commit must have at most {MAX_COMMIT_EVENTS} events, found {found}; split it")]
    TooManyEvents {
        /// How many it has.
        found: usize,
    },
    /// More bytes than [`MAX_COMMIT_BYTES`].
    #[error("a commit must have at most {MAX_COMMIT_BYTES} bytes of payloads, rows and keys, found {found}; split it")]
    TooManyBytes {
        /// How many it has.
        found: usize,
    },
    /// A payload is longer than [`MAX_PAYLOAD_BYTES`].
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
    /// An event has more tags than [`MAX_TAGS`].
    #[error("an event must have at most {MAX_TAGS} tags, found {found} on event {id}")]
    TooManyTags {
        /// The event.
        id: EventId,
        /// How many tags it has.
        found: usize,
    },
    /// An event claims and releases more unique keys than [`MAX_KEYS`].
    #[error("an event must have at most {MAX_KEYS} unique keys, found {found} on event {id}")]
    TooManyKeys {
        /// The event.
        id: EventId,
        /// The number of claims and releases.
        found: usize,
    },
    /// The vector clock of a stamp has more origins than [`MAX_ORIGINS`].
    #[error("the vector clock of a stamp must have at most {MAX_ORIGINS} origins, found {found} on event {id}")]
    TooManyOrigins {
        /// The event.
        id: EventId,
        /// The number of origins.
        found: usize,
    },
    /// An event has a [`Stamp`](crate::model::Stamp), and this store does not keep stamps. Use a store that keeps them.
    #[error(
        "this store does not keep the stamps of replicated events, found one on event {id}; use a store that keeps \
         stamps, or copy the events with `es export` and `es import` into one"
    )]
    Stamped {
        /// The event.
        id: EventId,
    },
    /// The annotations of an event are too many or nested too deep, or have a key that serde_json keeps for itself.
    #[error(
        "the metadata of an event must have at most {MAX_METADATA_BYTES} bytes and {MAX_METADATA_DEPTH} levels, found \
         {found} in event {id}; put content into the payload"
    )]
    Metadata {
        /// The event.
        id: EventId,
        /// What is too much.
        found: String,
    },
    /// The schema version of an event is 0.
    #[error("schema versions start at 1, found 0 on event {id}")]
    VersionZero {
        /// The event.
        id: EventId,
    },
    /// The event is for a reserved stream, or has a reserved type, and is not what the functions of
    /// [`retention`](crate::retention) make. Choose another name for the stream or the type.
    #[error(
        "reserved names take only what the functions for retention, deletion and projections write, found {found} in event \
         {id} for stream {stream:?}; use these functions, or choose another name"
    )]
    Reserved {
        /// The event.
        id: EventId,
        /// The stream.
        stream: StreamId,
        /// What was found.
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
    /// An event of a [foreign commit](crate::Commit::foreign) has no stamp. Keep the stamp that its origin gave it.
    #[error("each event of a foreign commit must have a stamp, found none on event {id}")]
    ForeignWithoutStamp {
        /// The event.
        id: EventId,
    },
    /// A [foreign commit](crate::Commit::foreign) has a condition or a key change. Remove it: such a commit states facts.
    #[error("a foreign commit must have no expectations, append conditions or key changes, found {found}")]
    ForeignCondition {
        /// The part that it has.
        found: &'static str,
    },
    /// The key of a row is empty or longer than [`MAX_ROW_KEY_BYTES`].
    #[error("the key of a row must have 1 to {MAX_ROW_KEY_BYTES} bytes, found {found}")]
    RowKeyLength {
        /// Its length in bytes.
        found: usize,
    },
    /// A hook changed the events of a commit after they got their positions. Correct the hook: it may change them in
    /// [`DecisionHook::before`](crate::store::implement::DecisionHook::before).
    #[error("a hook may change the events of a commit only before the decision")]
    Numbered,
}
