//! The directory of a store, and its identity.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use es_core::model::LogId;
use es_core::store::implement::KeySecret;
use es_core::{StoreError, Timestamp};
use uuid::Uuid;

use crate::access;
use crate::engine::database::{Database, Tier};
use crate::engine::layout::LOG;
use crate::error::OpenError;
use crate::schema::{Cf, META_CREATED, META_KEY_SECRET, META_STORE_ID};

/// The identity of a store, from its metadata.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The id of the store and of its backups.
    pub(crate) id: Uuid,
    /// The id of the log. It differs from the id of the store after a restore.
    pub(crate) log_id: LogId,
    pub(crate) created: Timestamp,
    /// The secret of the hashes of unique keys.
    pub(crate) secret: KeySecret,
}

/// Returns the full path of a directory; creates the directory if it does not exist.
pub(crate) fn resolve_or_create(directory: &Path) -> Result<PathBuf, OpenError> {
    match resolve(directory) {
        Err(OpenError::NoSuchDirectory { .. }) => {
            let inspect = |error| OpenError::io(directory, "find the full path", error);
            if let Some(store) = access::enclosing_store(directory).map_err(inspect)? {
                let found = format!("a path within the store in {}", store.display());
                return Err(OpenError::not_a_store(directory, found));
            }
            create_durably(directory).map_err(|error| OpenError::io(directory, "create the directory", error))?;
            resolve(directory)
        }
        resolved => resolved,
    }
}

/// Returns the full path of a directory.
///
/// # Errors
/// [`OpenError::NoSuchDirectory`], [`OpenError::NotAStore`] for a file, [`OpenError::Io`].
pub(crate) fn resolve(directory: &Path) -> Result<PathBuf, OpenError> {
    match fs::metadata(directory) {
        Ok(metadata) if !metadata.is_dir() => return Err(OpenError::not_a_store(directory, "a file")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::NoSuchDirectory { directory: directory.to_owned() });
        }
        Err(error) => return Err(OpenError::io(directory, "inspect the directory", error)),
    }
    // RocksDB identifies a directory by its path: under another path, the same process could open it a second time.
    fs::canonicalize(directory).map_err(|error| OpenError::io(directory, "find the full path", error))
}

/// Creates a directory that only its user can access, and syncs each new directory entry, so that the directory exists
/// after a power failure. Created parent directories have the default mode.
pub(crate) fn create_durably(directory: &Path) -> io::Result<()> {
    let directory = std::path::absolute(directory)?;
    let missing = directory.ancestors().take_while(|ancestor| !ancestor.exists()).count();
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    if missing > 0 {
        access::create_directory(&directory)?;
    }
    for parent in directory.ancestors().skip(1).take(missing) {
        access::sync(parent)?;
    }
    Ok(())
}

/// Locks the log of a store, so that no process opens it for writing until the file is dropped; `None` if the store has
/// no file for that, as a backup.
///
/// # Errors
/// [`OpenError::AlreadyOpen`] if a process has the store open for writing, and [`OpenError::Io`].
pub(crate) fn lock(directory: &Path) -> Result<Option<File>, OpenError> {
    let failed = |error| OpenError::io(directory, "lock the store", error);
    let path = directory.join(LOG).join("LOCK");
    let opened = match File::options().read(true).write(true).open(&path) {
        // A lock needs no write access, except on some network file systems.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(&path),
        opened => opened,
    };
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::AlreadyOpen { directory: directory.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

pub(crate) fn decode_format(directory: &Path, bytes: &[u8]) -> Result<u32, OpenError> {
    match bytes.try_into().map(u32::from_be_bytes) {
        Ok(version) if version > 0 => Ok(version),
        _ => {
            let found = bytes.escape_ascii();
            Err(OpenError::damaged(directory, format!("expected a format version from 1 in 4 bytes, found {found}")))
        }
    }
}

/// Reads the identity of a store with this log from its metadata.
pub(crate) fn read_identity(database: &Database, log_id: LogId) -> Result<Identity, OpenError> {
    let directory = database.directory();
    let in_store = |error| OpenError::of_store(directory, "read the description of the store", error);
    let require = |key: &[u8]| {
        let missing =
            || OpenError::damaged(directory, format!("expected {} in its description, found none", key.escape_ascii()));
        let found = database.get(Cf::Meta, key, Tier::Any).map_err(StoreError::from).map_err(in_store)?;
        found.map(|value| value.to_vec()).ok_or_else(missing)
    };
    let id = require(META_STORE_ID)?;
    let id = Uuid::from_slice(&id)
        .map_err(|_| OpenError::damaged(directory, format!("expected a store id of 16 bytes, found {}", id.len())))?;
    let created = require(META_CREATED)?;
    let micros = created.as_slice().try_into().ok().map(i64::from_be_bytes);
    let created = micros.and_then(DateTime::from_timestamp_micros).ok_or_else(|| {
        OpenError::damaged(directory, format!("expected a time of creation, found {}", created.escape_ascii()))
    })?;
    let secret = require(META_KEY_SECRET)?;
    let secret = secret.as_slice().try_into().map(KeySecret::from_bytes).map_err(|_| {
        OpenError::damaged(
            directory,
            format!("expected a secret of {} bytes, found {}", KeySecret::BYTES, secret.len()),
        )
    })?;
    Ok(Identity { id, log_id, created, secret })
}
