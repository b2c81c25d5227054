//! [`Failure`]: why something was not done, in words for the one who asked.

use std::io;
use std::path::{Path, PathBuf};

use es_core::{CommitError, StoreError, StreamId};
use es_rocksdb::{BackupError, OpenError, RepairError};

use crate::bad_line::BadLine;
use crate::text::{count, quoted};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The store could not be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A commit was refused.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A backup was not made or not restored.
    #[error(transparent)]
    Backup(BackupError),
    /// A store was not repaired.
    #[error(transparent)]
    Repair(RepairError),
    /// A line of an import is not what it must be.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// An import stopped before its end.
    #[error("the import stopped: {} added, {already_there} already there", count(*.added, "event", "events"))]
    Stopped {
        /// Why.
        source: Box<Failure>,
        /// How many events it has added.
        added: u64,
        /// How many of its events the store had already.
        already_there: u64,
    },
    /// What was given is not what it must be.
    #[error("{0}")]
    Input(String),
    /// What was typed is not understood, and the parser of the command line could not tell.
    #[error("{0}")]
    Usage(String),
    /// Another process has the store open.
    #[error(
        "the store in {} is in use: another process has it open; stop that service, or use a command that only looks \
         (see `es --help`)", .0.display()
    )]
    InUse(PathBuf),
    /// What was read is not what was written.
    #[error(
        "the store in {} is damaged: {place}: {detail}; restore a backup, or repair the store: `es --store {} repair` shows \
         what can be saved", .directory.display(), quoted(&.directory.display().to_string())
    )]
    Damaged {
        /// The directory of the store.
        directory: PathBuf,
        /// Where: a position, a stream, a file.
        place: String,
        /// What was expected and what was found.
        detail: String,
    },
    /// There is no such thing in the store.
    #[error("{0}")]
    Absent(String),
    /// The operating system refused.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: String,
        /// The refusal.
        source: io::Error,
    },
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            // NOTE: what the library says of allowing it is for programs.
            OpenError::NoSuchDirectory { directory } => Self::Absent(format!(
                "expected an event store in {}, found none; check the path and whether its disk is mounted \
                 (`es append` and `es import` make a new one)",
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
    /// A refusal of the operating system over a file.
    pub fn io(action: &str, path: &Path, source: io::Error) -> Self {
        Self::Io { action: format!("{action} {}", path.display()), source }
    }

    /// There is no such stream.
    #[must_use]
    pub fn no_stream(stream: &StreamId) -> Self {
        Self::Absent(format!("expected stream {stream:?}, found none; see `es streams`"))
    }

    /// The same, of the store in this directory: advice can name it.
    #[must_use]
    pub fn in_store(self, directory: &Path) -> Self {
        match self {
            Self::Store(StoreError::Damaged { place, detail })
            | Self::Commit(CommitError::Store(StoreError::Damaged { place, detail })) => {
                Self::Damaged { directory: directory.to_owned(), place, detail }
            }
            Self::Stopped { source, added, already_there } => {
                Self::Stopped { source: Box::new(source.in_store(directory)), added, already_there }
            }
            other => other,
        }
    }

    /// A refusal to write to standard output.
    #[must_use]
    pub fn output(source: io::Error) -> Self {
        Self::Io { action: "write to standard output".into(), source }
    }

    /// Whether nobody listens any more, which is no failure.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What the process ends with: 2 for what is not understood, 3 for a conflict, 4 for damage, otherwise 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Commit(CommitError::Conflict(_) | CommitError::IdConflict(_)) => 3,
            Self::Line(bad) if bad.is_conflict => 3,
            Self::Stopped { source, .. } => source.exit_code(),
            Self::Damaged { .. }
            | Self::Open(OpenError::Damaged { .. })
            | Self::Store(StoreError::Damaged { .. })
            | Self::Commit(CommitError::Store(StoreError::Damaged { .. }))
            | Self::Backup(
                BackupError::Store(StoreError::Damaged { .. })
                | BackupError::Write(CommitError::Store(StoreError::Damaged { .. }))
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
