//! [`Backups`]: a folder of backups, each a whole store, the unchanged files of which they share.
//!
//! ```text
//!   store ──read-only──► events behind the last backup ──► incomplete/ ──verify──► backup-000003/
//!                        rows and keys that differ             ▲
//!                                      backup-000002/ ──links──┘
//! ```
//!
//! A backup is not a copy of files: every event is read, checked and written anew with indexes of its own, so that damage of
//! the log is found now and not when the backup is needed, and damage of an index does not reach it. Only events that are new
//! are read from the store; all of the backup is verified.

mod files;
mod rows;
mod write;

use std::path::{Path, PathBuf};

use es_core::{CommitError, Position, StoreError};

use crate::error::OpenError;
use crate::read_only::ReadOnlyStore;
use crate::verify::{Progress, Verification};

/// Why there is no new backup, or why none could be restored. Backups that were complete before are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A store could not be opened. Its message says what to do.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was read from the store could not be written to the backup.
    #[error("could not write to the backup: {0}")]
    Write(#[from] CommitError),
    /// The backups are of another store, or of another history of this one. Choose another folder for these backups.
    #[error("expected backups of this store in {}, found {found}; choose another folder", .folder.display())]
    OtherStore {
        /// The folder of the backups.
        folder: PathBuf,
        /// What they are backups of.
        found: String,
    },
    /// What was written is not what was read, or not whole. It was not kept. Look after the disk, then try again.
    #[error("expected a sound copy in {}, found {found}; it was not kept: look after the disk and try again", .folder.display())]
    Unsound {
        /// Where it was.
        folder: PathBuf,
        /// The first finding.
        found: String,
        /// All findings, where it was verified.
        verification: Option<Box<Verification>>,
    },
    /// There is no backup in the folder. Check the path.
    #[error("expected backups in {}, found none; check the path", .folder.display())]
    NoBackup {
        /// The folder.
        folder: PathBuf,
    },
    /// The target of a restore, or the folder of a first backup, has other files. Choose another; nothing was written.
    #[error("expected an empty or a new folder in {}, found files; choose another", .folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// The operating system refused. Mend the cause and try again.
    #[error("could not {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Its number, from 1.
    pub number: u32,
    /// Its folder, which is a whole store. Open it for reading only.
    pub folder: PathBuf,
    /// The position of its last event.
    pub head: Option<Position>,
    /// How many events it has that the one before has not.
    pub new_events: u64,
    /// How many rows and unique keys were changed in it since the one before.
    pub new_rows: u64,
    /// How many events it has.
    pub events: u64,
}

/// A folder with backups of one store. It belongs to them alone.
#[derive(Debug, Clone)]
pub struct Backups {
    folder: PathBuf,
}

impl Backups {
    /// The backups in this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The complete backups, oldest first: number and folder.
    ///
    /// # Errors
    /// [`BackupError::Io`] when the folder cannot be read. Where there is no folder, there are no backups.
    pub fn list(&self) -> Result<Vec<(u32, PathBuf)>, BackupError> {
        files::list(&self.folder)
    }

    /// Makes a backup of the store in `store`, which may be open in a running service: it has the store as it is when this
    /// begins. It is complete and verified when this returns; until then it has no name, and one that was begun and not
    /// finished is removed by the next.
    ///
    /// Only what is new since the last backup is read from the store and takes room. To remove a backup, remove its folder.
    ///
    /// # Errors
    /// [`BackupError`]; each variant says what to do.
    pub async fn create(&self, store: &Path, progress: Progress<'_>) -> Result<Backup, BackupError> {
        let source = ReadOnlyStore::open(store).await?;
        let _lock = files::lock(&self.folder)?;
        let last = self.list()?.pop();
        let incomplete = files::begin(&self.folder, last.as_ref().map(|(_, folder)| folder.as_path()))?;
        let made = write::bring_up(&source, &incomplete, last.is_some(), &self.folder, progress).await;
        let made = match made {
            Ok(made) => verified(&incomplete, progress).await.map(|verification| (made, verification)),
            Err(error) => Err(error),
        };
        let (made, verification) = match made {
            Ok(made) => made,
            Err(error) => {
                // NOTE: the error that counts is the first; what is left here is removed by the next backup.
                let _ = std::fs::remove_dir_all(&incomplete);
                return Err(error);
            }
        };
        let number = last.map_or(1, |(number, _)| number + 1);
        let folder = files::complete(&self.folder, &incomplete, number)?;
        let (new_events, new_rows) = made;
        let head = es_core::EventStore::head(&source).await?;
        Ok(Backup { number, folder, head, new_events, new_rows, events: verification.events })
    }

    /// Makes a store in `target`, which must be empty or not there yet, from the backup with this number, or from the last. It
    /// is verified when this returns, and is removed again if it is not sound.
    ///
    /// It has the id of the store that was backed up. Do not let both be written to: backups of one would be refused as a
    /// history other than that of the other.
    ///
    /// # Errors
    /// [`BackupError`]; each variant says what to do.
    pub async fn restore(
        &self,
        number: Option<u32>,
        target: &Path,
        progress: Progress<'_>,
    ) -> Result<Backup, BackupError> {
        let backups = self.list()?;
        let chosen = backups.into_iter().rev().find(|(found, _)| number.is_none_or(|number| number == *found));
        let (number, from) = chosen.ok_or_else(|| BackupError::NoBackup { folder: self.folder.clone() })?;
        files::copy_store(&from, target, progress)?;
        match verified(target, progress).await {
            Ok(verification) => {
                let head = es_core::EventStore::head(&ReadOnlyStore::open(target).await?).await?;
                let (folder, events) = (target.to_owned(), verification.events);
                Ok(Backup { number, folder, head, new_events: events, new_rows: 0, events })
            }
            Err(error) => {
                files::empty(target)?;
                Err(error)
            }
        }
    }
}

/// The verification of a store that has to be sound.
async fn verified(folder: &Path, progress: Progress<'_>) -> Result<Verification, BackupError> {
    let verification = ReadOnlyStore::open(folder).await?.verify(progress)?;
    match verification.damage.first() {
        None => Ok(verification),
        Some(first) => {
            let found = format!("{}: {}", first.place, first.detail);
            let (folder, verification) = (folder.to_owned(), Some(Box::new(verification)));
            Err(BackupError::Unsound { folder, found, verification })
        }
    }
}
