//! [`OpenError`]: why a store could not be opened. What goes wrong later is a [`StoreError`].

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use es_core::StoreError;
use es_core::store::StartHookError;
use rocksdb::ErrorKind;

use crate::schema::FORMAT_VERSION;

/// Why a store could not be opened. Nothing was written to it, except for what RocksDB itself writes when it opens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another handle of this process, has the store open. Stop that process, or use its handle:
    /// a handle can be cloned. After [`close`](es_core::EventStore::close) the directory is free.
    #[error(
        "the store in {} is open already, in another process or under another handle of this one; close that first, \
         or clone its handle", .directory.display()
    )]
    AlreadyOpen {
        /// The directory.
        directory: PathBuf,
    },
    /// A later version of this crate has written the store. Update this program. Nothing was written.
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
    /// An earlier version of this crate has written the store, in a format that this version does not read. Export the store with the
    /// program that wrote it, and import the lines into a new store. Nothing was written.
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
    /// A hook, such as an inline projection, could not start. What it has written so far is kept. Correct the hook, or open the
    /// store without it.
    #[error("the store in {} could not start a hook", .directory.display())]
    Hook {
        /// The directory.
        directory: PathBuf,
        /// The error of the hook.
        source: StartHookError,
    },
    /// There is something else. Choose another directory. Nothing was written.
    #[error(
        "expected an event store or an empty directory in {}, found {found}; choose another directory",
        .directory.display()
    )]
    NotAStore {
        /// The directory.
        directory: PathBuf,
        /// What is there.
        found: String,
    },
    /// What is on disk is not what was written: recovering it would lose what was acknowledged, or what is there cannot
    /// be trusted. Nothing was dropped; the store never does that by itself. Do not delete anything: keep the directory
    /// as it is, and restore a backup into another one. What can be saved of this one, and how, is said by `es repair`,
    /// or by [`Salvage::survey`](crate::Salvage::survey).
    #[error(
        "the store in {0} is damaged: {detail}; keep this directory as it is and restore a backup into another one; \
         `es --store {0} repair` shows what can be recovered from this one", .directory.display()
    )]
    Damaged {
        /// The directory.
        directory: PathBuf,
        /// What is known of the damage.
        detail: String,
    },
    /// The directory has no store, and [`create_if_missing(false)`](crate::Options::create_if_missing) is set. Check the
    /// path and whether its disk is mounted, or set `create_if_missing(true)`.
    #[error(
        "expected an event store in {}, found none; check the path and whether its disk is mounted, or set \
         `create_if_missing(true)`",
        .directory.display()
    )]
    NoSuchDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// The operating system or RocksDB refused. Mend the cause (permission, space, limits) and try again.
    #[error("could not {action} in {}", .directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What was tried.
        action: String,
        /// The refusal.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    /// Returns the error for a format version other than ours; `None` for ours.
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
        Self::Io { directory: directory.to_owned(), action: action.into(), source: source.into() }
    }

    /// What RocksDB said when it was to `action`.
    pub(crate) fn of_rocksdb(directory: &Path, action: &str, error: rocksdb::Error) -> Self {
        let message: &str = error.as_ref();
        // NOTE: RocksDB has no error of its own for its lock, only these words of its file system layer. What else can
        // go wrong with a lock, such as a file system without locks, has other words behind the first ones.
        let taken = message.contains("temporarily unavailable") || message.contains("Permission denied");
        let locked = message.contains("lock hold by current process") || (message.contains("While lock file") && taken);
        match error.kind() {
            ErrorKind::IOError if locked => Self::AlreadyOpen { directory: directory.to_owned() },
            ErrorKind::Corruption if is_about_log_files(&error) => {
                let found = message.trim_start_matches("Corruption: ");
                Self::damaged(directory, format!("the write-ahead log is not whole: {found}"))
            }
            ErrorKind::Corruption => Self::damaged(directory, error.into_string()),
            // NOTE: what RocksDB opens by itself are files that its manifest names.
            ErrorKind::IOError if message.contains("No such file") => Self::damaged(directory, error.into_string()),
            _ => Self::io(directory, action, error),
        }
    }

    /// What reading the end of the log said.
    pub(crate) fn of_store(directory: &Path, action: &str, error: StoreError) -> Self {
        match error {
            StoreError::Damaged { place, detail } => Self::damaged(directory, format!("{place}: {detail}")),
            other => Self::io(directory, action, other),
        }
    }
}

/// Whether RocksDB misses a file of the write-ahead log that its manifest names, or some of its bytes.
pub(crate) fn is_about_log_files(error: &rocksdb::Error) -> bool {
    let message: &str = error.as_ref();
    error.kind() == ErrorKind::Corruption && message.contains("WAL")
}

/// What RocksDB said to a read or a write of an open store.
pub(crate) fn of_rocksdb(verb: &str, place: impl Into<String>, error: rocksdb::Error) -> StoreError {
    match error.kind() {
        ErrorKind::Corruption => StoreError::damaged(place, error.into_string()),
        _ => StoreError::io(format!("{verb} {}", place.into()), error),
    }
}
