//! [`Failure`]: the error of a command, with a message for operators and an exit code.

use std::io;
use std::path::{Path, PathBuf};

use es_core::model::PositionError;
use es_core::retention::Scope;
use es_core::{CommitError, StoreError, StreamId};
use es_rocksdb::{BackupError, OpenError, RepairError, RetagError};
use es_tool::input::InputError;
use es_tool::output::OutputError;

use crate::bad_line::BadLine;
use crate::service_error::ServiceError;
use crate::text::{count, quoted};

/// The error of a command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The store could not be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A position is not a position of the log.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// A commit was rejected or failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A backup could not be created or restored.
    #[error(transparent)]
    Backup(BackupError),
    /// A store could not be repaired.
    #[error(transparent)]
    Repair(RepairError),
    /// A log could not be copied with tags.
    #[error("the log was not copied to {}", .directory.display())]
    Retag {
        /// The directory of the copy.
        directory: PathBuf,
        /// The cause.
        source: RetagError,
    },
    /// A line cannot be imported.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// An import stopped before the end of its input.
    #[error("the import stopped: {} added, {repeated} already stored", count(*.added, "event", "events"))]
    Stopped {
        /// The cause.
        source: Box<Failure>,
        /// The number of events that were added.
        added: u64,
        /// The number of events that the store had already.
        repeated: u64,
    },
    /// An input is invalid.
    #[error("{0}")]
    Input(String),
    /// A file cannot be read.
    #[error(transparent)]
    InputFile(#[from] InputError),
    /// A file cannot be written.
    #[error(transparent)]
    OutputFile(#[from] OutputError),
    /// The command line is invalid in a way that its parser does not check.
    #[error("{0}")]
    Usage(String),
    /// Another process has the store open.
    #[error(
        "the store in {} is in use by another process; stop that process, or use a read-only command (see `es --help`)",
        .0.display()
    )]
    InUse(PathBuf),
    /// Only the node of the store writes these streams.
    #[error(
        "the store in {} is that of node {node:?}, which replicates {scope}: only the node can change that; start the \
         node, and use its service", .directory.display()
    )]
    Replicated {
        /// The directory of the store.
        directory: PathBuf,
        /// The name of the node.
        node: String,
        /// The stream or the category.
        scope: Scope,
    },
    /// The store is damaged.
    #[error(
        "the store in {} is damaged: {place}: {detail}; restore a backup, or repair the store: `es --store {} repair` \
         shows what can be recovered", .directory.display(), quoted(&.directory.display().to_string())
    )]
    Damaged {
        /// The directory of the store.
        directory: PathBuf,
        /// The damaged position, stream or file.
        place: String,
        /// What was expected and what was found.
        detail: String,
    },
    /// A running service could not be called, or refused the request.
    #[error("the service at {address}")]
    Service {
        /// The address of the service.
        address: String,
        /// The cause.
        source: ServiceError,
    },
    /// The store, the stream or the rule does not exist.
    #[error("{0}")]
    Absent(String),
    /// Standard output could not be written.
    #[error("could not write to standard output")]
    Output(#[source] io::Error),
    /// An operation of the operating system failed.
    #[error("could not {action}")]
    Io {
        /// The operation.
        action: String,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            // The message of the library advises to change an option, which is for programs.
            OpenError::NoSuchDirectory { directory } => Self::Absent(format!(
                "expected an event store in {}, found none; check the path and whether its disk is mounted \
                 (`es append` and `es import` create a store)",
                directory.display()
            )),
            OpenError::AlreadyOpen { directory } => Self::InUse(directory),
            other => Self::Open(other),
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Open(error) => error.into(),
            other => Self::Backup(other),
        }
    }
}

impl Failure {
    /// Returns the error of an operation on a file.
    pub fn io(action: &str, path: &Path, source: io::Error) -> Self {
        Self::Io { action: format!("{action} {}", path.display()), source }
    }

    /// Returns the error for a stream that does not exist.
    #[must_use]
    pub fn no_stream(stream: &StreamId) -> Self {
        Self::Absent(format!("expected stream {stream:?}, found none; see `es streams`"))
    }

    /// Adds the directory of the store to an error about damage, for the advice in its message.
    #[must_use]
    pub fn in_store(self, directory: &Path) -> Self {
        match self {
            Self::Store(StoreError::Damaged { place, detail })
            | Self::Commit(CommitError::Store(StoreError::Damaged { place, detail })) => {
                Self::Damaged { directory: directory.to_owned(), place, detail }
            }
            Self::Stopped { source, added, repeated } => {
                Self::Stopped { source: Box::new(source.in_store(directory)), added, repeated }
            }
            other => other,
        }
    }

    /// Returns the error of a write to standard output.
    #[must_use]
    pub fn output(source: io::Error) -> Self {
        Self::Output(source)
    }

    /// Returns whether the reader of standard output closed the pipe, which is not a failure. A pipe that is the target
    /// of an export is a file, whose content would be incomplete.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Returns the exit code: 2 usage error, 3 conflict, 4 damage found, otherwise 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Commit(CommitError::Conflict(_) | CommitError::IdConflict(_)) => 3,
            Self::Line(bad) if bad.is_conflict => 3,
            Self::Service { source: ServiceError::Refused { status: 409 | 412, .. }, .. } => 3,
            Self::Stopped { source, .. } => source.exit_code(),
            Self::Damaged { .. }
            | Self::Open(OpenError::Damaged { .. })
            | Self::Store(StoreError::Damaged { .. })
            | Self::Commit(CommitError::Store(StoreError::Damaged { .. }))
            | Self::Backup(
                BackupError::Store(StoreError::Damaged { .. })
                | BackupError::Unsound { .. }
                | BackupError::Damaged { .. },
            )
            | Self::Repair(RepairError::Loss { .. } | RepairError::Unreadable { .. } | RepairError::Unsound { .. }) => {
                4
            }
            _ => 1,
        }
    }
}
