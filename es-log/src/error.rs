//! The errors of the operations of a log.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use es_core::Position;
use es_core::model::LogId;

use crate::record::RecordError;

/// A place in the log that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// The offset in the file. In a compressed segment, the offset in the plain segment, except for a damaged chunk.
    pub offset: u64,
    /// The position of the first event that may be affected.
    pub position: Option<Position>,
    /// What was expected and what was found.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.file, self.offset)?;
        if let Some(position) = self.position {
            write!(f, " (position {position})")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// A log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system failed. Repeat when the cause is gone.
    #[error("could not {operation} {}", path.display())]
    Io {
        /// The operation.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another handle, in this process or another, has the log open. Close it first.
    #[error("the log in {} is open elsewhere; close it first", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// The format is of another version. Use the program that wrote it.
    #[error("expected log format 1 to {expected} in {file}, found {found}; use the program that wrote it")]
    Format {
        /// The file.
        file: String,
        /// The newest format of this version.
        expected: u32,
        /// The format of the file.
        found: u32,
    },
    /// The directory has another log.
    #[error("expected the log {expected}, found the log {found}")]
    OtherLog {
        /// The log in the options.
        expected: LogId,
        /// The log in the directory.
        found: LogId,
    },
    /// The log was changed after it was written. Restore a backup, or repair it.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
    /// Acknowledged frames are missing. Restore a backup, or repair the log.
    #[error(
        "expected the log up to frame {expected} (position {head}), which was acknowledged, found it up to frame \
         {found}"
    )]
    AcknowledgedMissing {
        /// The last acknowledged frame.
        expected: u64,
        /// The position of the last acknowledged event; 0 for none.
        head: u64,
        /// The last frame in the log.
        found: u64,
    },
    /// The high-water mark is missing or unreadable, so that the end of the log cannot be verified. Restore a backup,
    /// or repair the log.
    #[error("expected the high-water mark {file}, found none that is valid")]
    MarkMissing {
        /// The file.
        file: String,
    },
}

/// A commit failed. The variant tells whether it can be in the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Nothing was acknowledged and the commit is not in the log. The log accepts commits again as soon as the cause is
    /// gone, such as a full disk; with [`OnWriteFailure::Stop`](crate::OnWriteFailure::Stop), after it is opened again.
    /// With [`OnWriteFailure::Retry`](crate::OnWriteFailure::Retry), the log was closed before the cause was gone.
    #[error("could not write the log; the commit was not written")]
    NotWritten {
        /// The cause.
        source: Arc<io::Error>,
    },
    /// An earlier write failed, and is tried again until it succeeds; see
    /// [`OnWriteFailure::Retry`](crate::OnWriteFailure::Retry). The commit was not added to the log. Remove the cause,
    /// and repeat the commit.
    #[error("an earlier write of the log failed and is tried again; the commit was not written")]
    Stalled {
        /// The cause of the earlier failure.
        source: Arc<io::Error>,
    },
    /// A sync failed. The commit may be in the log after it is opened again. The log accepts no more commits.
    #[error("could not sync the log; it is unknown whether the commit was written; open the log again")]
    SyncFailed {
        /// The cause.
        source: Arc<io::Error>,
    },
    /// An earlier sync failed, or an earlier write with [`OnWriteFailure::Stop`](crate::OnWriteFailure::Stop). The
    /// commit was not written. Open the log again.
    #[error("an earlier write or sync of the log failed; open the log again")]
    Stopped {
        /// The cause of the earlier failure.
        source: Arc<io::Error>,
    },
    /// The directory was removed, moved or replaced while the log was open. The commit was not written.
    #[error("the directory of the log was removed, moved or replaced; the commit was not written")]
    DirectoryReplaced,
    /// The log is closed. The commit was not written.
    #[error("the log is closed")]
    Closed,
    /// The commit is too large for a frame, or has no record. It was not written.
    #[error("expected a commit of 1 byte to 1 GiB, found {found} bytes")]
    Size {
        /// The size of the commit.
        found: usize,
    },
    /// A record cannot be stored. The commit was not written.
    #[error("could not encode a record of the commit")]
    Record(#[from] RecordError),
}

/// A read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system failed. Repeat when the cause is gone.
    #[error("could not read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The log was changed after it was written. Other positions can still be read.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
}

/// A segment could not be rewritten. It is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The segment is not sealed. Seal it first.
    #[error("segment {segment} is not sealed; seal it first")]
    NotSealed {
        /// The number of the segment.
        segment: u32,
    },
    /// The segment cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file system failed. Repeat when the cause is gone.
    #[error("could not rewrite {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}
