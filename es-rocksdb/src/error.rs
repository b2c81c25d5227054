//! [`OpenError`], and the conversion of RocksDB's errors. Operations on an open store return [`StoreError`].

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use es_core::StoreError;
use es_core::store::StartHookError;
use rocksdb::ErrorKind;

use crate::access;
use crate::marker;
use crate::schema::FORMAT_VERSION;

/// An error of opening a store. The store is unchanged, except for files that RocksDB itself writes when it opens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another handle of this process, has the store open. Stop that process, or clone that handle.
    /// [`close`](es_core::EventStore::close) unlocks the directory.
    #[error(
        "the store in {} is open already, in another process or under another handle of this one; close that first, \
         or clone its handle", .directory.display()
    )]
    AlreadyOpen {
        /// The directory.
        directory: PathBuf,
    },
    /// The store was written by a later version of this crate. Update this program. Nothing was written.
    #[error(
        "the store in {} has format version {found}, expected {supported}; update this program",
        .directory.display()
    )]
    NewerFormat {
        /// The directory.
        directory: PathBuf,
        /// The format version of the store.
        found: u32,
        /// The only format version that this version of the crate opens.
        supported: u32,
    },
    /// The store was written by an earlier version of this crate, in a format that this version cannot read. Export the
    /// store with the program that wrote it, and import the lines into a new store. Nothing was written.
    #[error(
        "the store in {0} has format version {found}, expected {supported}; export it with the program that wrote it \
         (`es --store {0} export`), and import that into a new store with this one (`es import`)", .directory.display()
    )]
    OlderFormat {
        /// The directory.
        directory: PathBuf,
        /// The format version of the store.
        found: u32,
        /// The only format version that this version of the crate opens.
        supported: u32,
    },
    /// A hook, such as an inline projection, could not start. Its writes so far are kept. Fix the hook, or open the
    /// store without it.
    #[error("the store in {} could not start a hook", .directory.display())]
    Hook {
        /// The directory.
        directory: PathBuf,
        /// The error of the hook.
        source: StartHookError,
    },
    /// The directory has files that are no event store. Choose another directory. Nothing was written.
    #[error(
        "expected an event store or an empty directory in {}, found {found}; choose another directory",
        .directory.display()
    )]
    NotAStore {
        /// The directory.
        directory: PathBuf,
        /// A description of the files in the directory.
        found: String,
    },
    /// The store is damaged: acknowledged events are lost, or a file is corrupt. The store never drops data by itself.
    /// Keep the directory as it is, and restore a backup into another one. `es repair` and
    /// [`Salvage::survey`](crate::Salvage::survey) report what can be recovered.
    #[error(
        "the store in {0} is damaged: {detail}; keep this directory as it is and restore a backup into another one; \
         `es --store {0} repair` shows what can be recovered from this one", .directory.display()
    )]
    Damaged {
        /// The directory.
        directory: PathBuf,
        /// A description of the damage.
        detail: String,
    },
    /// The directory has no store, and [`create_if_missing(false)`](crate::Options::create_if_missing) is set. Check
    /// the path and whether its disk is mounted, or set `create_if_missing(true)`.
    #[error(
        "expected an event store in {}, found none; check the path and whether its disk is mounted, or set \
         `create_if_missing(true)`",
        .directory.display()
    )]
    NoSuchDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// The store is a backup, which is read-only: the next backup continues it. Restore it into another directory, and
    /// open that. [`ReadOnlyStore`](crate::ReadOnlyStore) opens a backup as it is.
    #[error("the store in {} is a backup, which is read-only; restore it into another directory: `{}`",
        .directory.display(), marker::restore_command(.directory))]
    Backup {
        /// The directory.
        directory: PathBuf,
    },
    /// The process may not have as many files open as the store needs. Raise the limit.
    #[error(
        "could not open the files of the store in {}: {}",
        .directory.display(), access::file_limit_text(*.limit, *.needed)
    )]
    TooManyOpenFiles {
        /// The directory.
        directory: PathBuf,
        /// The number of files that the process may have open.
        limit: u64,
        /// The number of files that is sufficient.
        needed: u64,
    },
    /// The operating system or RocksDB returned an error. Fix the cause (permissions, disk space, limits) and try
    /// again.
    #[error("could not {action} in {}", .directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// The operation that failed.
        action: String,
        /// The error of the operating system or of RocksDB.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    /// Returns the error for an unsupported format version, or `None` for the supported one.
    pub(crate) fn of_format(directory: &Path, found: u32) -> Option<Self> {
        let (directory, supported) = (directory.to_owned(), FORMAT_VERSION);
        match found.cmp(&supported) {
            Ordering::Less => Some(Self::OlderFormat { directory, found, supported }),
            Ordering::Equal => None,
            Ordering::Greater => Some(Self::NewerFormat { directory, found, supported }),
        }
    }

    pub(crate) fn not_a_store(directory: &Path, found: impl Into<String>) -> Self {
        Self::NotAStore { directory: directory.to_owned(), found: found.into() }
    }

    pub(crate) fn damaged(directory: &Path, detail: impl Into<String>) -> Self {
        Self::Damaged { directory: directory.to_owned(), detail: detail.into() }
    }

    pub(crate) fn io(
        directory: &Path,
        action: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        if access::is_about_the_file_limit(&source.to_string()) {
            return Self::too_many_open_files(directory);
        }
        Self::Io { directory: directory.to_owned(), action: action.into(), source }
    }

    /// Returns the error after [`REPLACED_ATTEMPTS`](access::REPLACED_ATTEMPTS).
    pub(crate) fn replaced_each_time(directory: &Path, action: &str) -> Self {
        let reason = "its files were replaced each time that it was tried; try again when the service writes less";
        Self::io(directory, action, reason)
    }

    /// Converts an error of RocksDB that occurred during `action`.
    pub(crate) fn of_rocksdb(directory: &Path, action: &str, error: rocksdb::Error) -> Self {
        let message: &str = error.as_ref();
        // RocksDB has no error code for a taken lock, only these messages of its file system layer. The messages of
        // other lock errors, such as a file system without locks, differ after the first words.
        let taken = message.contains("temporarily unavailable") || message.contains("Permission denied");
        let locked = message.contains("lock hold by current process") || (message.contains("While lock file") && taken);
        match error.kind() {
            ErrorKind::IOError if locked => Self::AlreadyOpen { directory: directory.to_owned() },
            ErrorKind::Corruption => Self::damaged(directory, error.into_string()),
            // RocksDB opens only files that its manifest names.
            ErrorKind::IOError if message.contains("No such file") => Self::damaged(directory, error.into_string()),
            _ => Self::io(directory, action, error),
        }
    }

    fn too_many_open_files(directory: &Path) -> Self {
        let limit = access::file_limit().unwrap_or(u64::MAX);
        Self::TooManyOpenFiles { directory: directory.to_owned(), limit, needed: access::needed_files(directory) }
    }

    /// Converts an error of reading the store during opening.
    pub(crate) fn of_store(directory: &Path, action: &str, error: StoreError) -> Self {
        match error {
            StoreError::Damaged { place, detail } => Self::damaged(directory, format!("{place}: {detail}")),
            StoreError::Io { source, .. } if access::is_about_the_file_limit(&source.to_string()) => {
                Self::too_many_open_files(directory)
            }
            other => Self::io(directory, action, other),
        }
    }
}

/// Converts an error of RocksDB that a read or a write of an open store returned.
pub(crate) fn of_rocksdb(verb: &str, place: impl Into<String>, error: rocksdb::Error) -> StoreError {
    match error.kind() {
        ErrorKind::Corruption => StoreError::damaged(place, error.into_string()),
        _ if access::is_about_the_file_limit(error.as_ref()) => {
            let limit = access::file_limit().unwrap_or(u64::MAX);
            let directory = access::file_of_message(error.as_ref()).and_then(Path::parent);
            // Without a directory, the limit is doubled, which is sufficient after some attempts.
            let needed = directory.map_or_else(|| limit.saturating_mul(2).max(256), access::needed_files);
            StoreError::io(format!("{verb} {}: {}", place.into(), access::file_limit_text(limit, needed)), error)
        }
        _ => StoreError::io(format!("{verb} {}", place.into()), error),
    }
}
