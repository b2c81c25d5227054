//! [`Backups`]: a directory of backups. Each backup is a complete store; backups share unchanged files.
//!
//! ```text
//!   store ──links, copies──► incomplete/ ──verify──► backup-000003/
//!                                ▲
//!            backup-000002/ ──links
//! ```
//!
//! A backup has links of the sealed segments and of the tables of the index, or copies if the backups are on another
//! disk. A file that the last backup has as well is a link to that. Links share the blocks of the disk with the store:
//! backups on another disk survive the loss of this one. The whole backup is verified before it has a number.
//!
//! A backup is opened read-only. The file `BACKUP` marks it, and opening it for writing is refused, because the next
//! backup continues it. [`Backups::restore`] makes a store of a backup.

mod copy;
mod files;
mod history;

use std::path::{Path, PathBuf};

use es_core::{EventReader, Position, StoreError};

use crate::engine::layout::FrameEnd;
use crate::error::OpenError;
use crate::store::read_only::ReadOnlyStore;
use crate::verify::{Progress, Verification};

/// An error of making or restoring a backup. Complete backups are unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A store could not be opened. The variants of [`OpenError`] document how to continue.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The backups are of another store, or of another history of this one. Choose another directory for these backups.
    #[error("expected backups of this store in {}, found {found}; choose another directory", .directory.display())]
    OtherStore {
        /// The directory of the backups.
        directory: PathBuf,
        /// A description of the store of these backups.
        found: String,
    },
    /// The verification of the copy failed. The copy was removed. Check the disk and try again.
    #[error(
        "expected a sound copy in {}, found {found}; the copy was removed: check the disk and try again",
        .directory.display()
    )]
    Unsound {
        /// The directory of the copy.
        directory: PathBuf,
        /// The first finding.
        found: String,
        /// All findings, if the copy was verified.
        verification: Option<Box<Verification>>,
    },
    /// The backup is damaged and was not restored. The target has no files of it. Restore another backup.
    #[error("backup {number} in {} is damaged: {found}; {advice}", .directory.display())]
    Damaged {
        /// The number of the backup.
        number: u32,
        /// The directory of the backup.
        directory: PathBuf,
        /// The first finding.
        found: String,
        /// Advice with the numbers of other backups.
        advice: String,
        /// All findings, if the backup could be opened.
        verification: Option<Box<Verification>>,
    },
    /// No backup has this number. Choose an existing one.
    #[error("expected backup {number} in {}, found {found}; choose one of these", .directory.display())]
    NoSuchNumber {
        /// The requested number.
        number: u32,
        /// The directory of the backups.
        directory: PathBuf,
        /// The existing numbers, as text.
        found: String,
    },
    /// The directory has no backup. Check the path.
    #[error("expected backups in {}, found none; check the path", .directory.display())]
    NoBackup {
        /// The directory.
        directory: PathBuf,
    },
    /// The target of a restore, or the directory of a first backup, has other files. Choose another directory. Nothing
    /// was written.
    #[error("expected an empty or a new directory in {}, found files; choose another", .directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory for backups, or for a restored store, is within a store. Removing that store would remove it, too.
    /// Choose another directory. Nothing was written.
    #[error(
        "expected a directory outside of the store in {}, found {} within it; choose another, for backups preferably \
         on another disk",
        .store.display(), .directory.display()
    )]
    WithinStore {
        /// The directory of the store.
        store: PathBuf,
        /// The directory for the backups or the restored store.
        directory: PathBuf,
    },
    /// The operating system returned an error. Fix the cause and try again.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The file or directory of the operation.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

/// A backup, or a restored store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// The number of the backup, from 1.
    pub number: u32,
    /// The directory of the backup, which is a complete store; open it with [`ReadOnlyStore`] only. After a restore,
    /// the directory of the restored store.
    pub directory: PathBuf,
    /// The position of the last event.
    pub head: Option<Position>,
    /// The number of events after the previous backup; all events if that is [damaged](Self::damaged).
    pub new_events: u64,
    /// The number of changes of rows and of claims of unique keys in the log since the previous backup.
    pub new_rows: u64,
    /// The number of events.
    pub events: u64,
    /// The previous backup, if it is damaged. The new backup shares no damaged file with it. Remove the damaged backup.
    /// Earlier backups may share the damaged file.
    pub damaged: Option<DamagedBackup>,
}

/// A backup that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedBackup {
    /// The number of the backup.
    pub number: u32,
    /// The directory of the backup.
    pub directory: PathBuf,
    /// The first finding.
    pub found: String,
}

/// A directory with backups of one store. It must have no other files.
#[derive(Debug, Clone)]
pub struct Backups {
    directory: PathBuf,
}

impl Backups {
    /// Refers to the backups in this directory, which need not exist yet.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Returns the number and the directory of each complete backup, oldest first. A missing directory has no backups.
    ///
    /// # Errors
    /// [`BackupError::Io`] if the directory cannot be read.
    pub fn list(&self) -> Result<Vec<(u32, PathBuf)>, BackupError> {
        files::list(&self.directory)
    }

    /// Makes and verifies a backup of the store in the directory `store`, which may be open in a running service. The
    /// backup is a consistent snapshot from the start of the call.
    ///
    /// It links the files that the store and the last backup share, and uses disk space only for other files. If the
    /// last backup is damaged, [`Backup::damaged`] names it. An interrupted backup has no number; the next call removes
    /// it. To remove a backup, remove its directory.
    ///
    /// # Errors
    /// - [`BackupError::Open`] if the store cannot be opened.
    /// - [`BackupError::Store`] if the store cannot be read.
    /// - [`BackupError::WithinStore`], [`BackupError::NotEmpty`] or [`BackupError::OtherStore`] if the directory is not
    ///   suitable for backups of this store.
    /// - [`BackupError::Io`] if a file cannot be linked or written.
    /// - [`BackupError::Unsound`] if the verification of the backup fails.
    pub async fn create(&self, store: &Path, progress: Progress<'_>) -> Result<Backup, BackupError> {
        let source = ReadOnlyStore::open(store).await?;
        files::check_outside(&self.directory)?;
        let _lock = files::lock(&self.directory)?;
        let backups = self.list()?;
        let before = history::check_continues_any(&source, &backups, &self.directory).await?;
        let (incomplete, last) = (files::begin(&self.directory)?, backups.last());
        let copied = copy::copy(source.directory(), &incomplete, last.map(|(_, last)| last.as_path()), progress);
        let verified = match copied {
            Ok(copied) => verify_reader(&incomplete, progress).await.map(|verified| (copied, verified)),
            Err(error) => Err(error),
        };
        let (copied, (backup, verification)) = verified.inspect_err(|_| {
            // The first error is returned. The next backup removes the remaining files.
            let _ = std::fs::remove_dir_all(&incomplete);
        })?;
        let mut damaged = None;
        let is_read = before.map(|(number, _)| number) == last.map(|(number, _)| *number);
        if let Some(last) = last.filter(|_| copied.differs_from_last || !is_read) {
            damaged = find_damage(last, progress).await.map(|(damaged, _)| damaged);
        }
        let before = before.filter(|_| damaged.is_none()).map_or_else(FrameEnd::default, |(_, end)| end);
        let head = backup.head().await?;
        let new_events = head.map_or(0, Position::get) - before.head.map_or(0, Position::get);
        let new_rows = copy::changes_after(&backup, before)?;
        drop(backup);
        let number = last.map_or(1, |(number, _)| number + 1);
        let directory = files::complete(&self.directory, &incomplete, number)?;
        Ok(Backup { number, directory, head, new_events, new_rows, events: verification.events, damaged })
    }

    /// Restores the backup with this number, or the last one, to `target`, an empty or new directory, and verifies the
    /// restored store. After an error, `target` is as it was before.
    ///
    /// The restored store has the id of the original store. Do not write to both: their histories would diverge, and
    /// [`create`](Self::create) rejects backups of another history.
    ///
    /// # Errors
    /// - [`BackupError::NoBackup`] or [`BackupError::NoSuchNumber`] if the backup does not exist.
    /// - [`BackupError::NotEmpty`] if `target` has files, and [`BackupError::WithinStore`] if it is within a store.
    /// - [`BackupError::Damaged`] if the backup is damaged.
    /// - [`BackupError::Unsound`] if the verification of the restored store fails although the backup is sound.
    /// - [`BackupError::Open`], [`BackupError::Store`] or [`BackupError::Io`] if a file cannot be read or written.
    pub async fn restore(
        &self,
        number: Option<u32>,
        target: &Path,
        progress: Progress<'_>,
    ) -> Result<Backup, BackupError> {
        let backups = self.list()?;
        let chosen = backups.iter().rev().find(|(found, _)| number.is_none_or(|number| number == *found));
        let chosen = chosen.ok_or_else(|| match number.filter(|_| !backups.is_empty()) {
            Some(number) => {
                let numbers: Vec<_> = backups.iter().map(|(number, _)| *number).collect();
                BackupError::NoSuchNumber { number, directory: self.directory.clone(), found: ranges(&numbers) }
            }
            None => BackupError::NoBackup { directory: self.directory.clone() },
        })?;
        let (number, from) = chosen;
        let restored = restore(from, target, progress).await;
        match restored {
            Ok((head, events)) => {
                let (number, directory) = (*number, target.to_owned());
                Ok(Backup { number, directory, head, new_events: events, new_rows: 0, events, damaged: None })
            }
            Err(error) => {
                let damaged = if may_be_caused_by_damage(&error) { find_damage(chosen, progress).await } else { None };
                let Some((DamagedBackup { number, directory, found }, verification)) = damaged else {
                    return Err(error);
                };
                let advice = advise_other_backup(number, &directory, &backups);
                Err(BackupError::Damaged { number, directory, found, advice, verification })
            }
        }
    }
}

/// Restores a backup to a directory that is empty or does not exist. Returns the last position of the store and the
/// number of its events.
async fn restore(backup: &Path, target: &Path, progress: Progress<'_>) -> Result<(Option<Position>, u64), BackupError> {
    let target = files::RestoreTarget::create(target)?;
    copy::restore(backup, target.incomplete(), progress)?;
    // ORDER: verified before it can be opened. A service could write to it.
    let verified = verify_copy(target.incomplete(), progress).await?;
    target.complete()?;
    Ok(verified)
}

/// Returns the advice for a backup that cannot be restored.
fn advise_other_backup(number: u32, directory: &Path, backups: &[Numbered]) -> String {
    let (earlier, later): (Vec<_>, Vec<_>) =
        backups.iter().map(|(found, _)| *found).filter(|found| *found != number).partition(|found| *found < number);
    match (earlier.is_empty(), later.is_empty()) {
        (false, _) => format!("restore an earlier one with --number: there are {}", ranges(&earlier)),
        (true, false) => {
            format!("there is no earlier one, restore a later one with --number: there are {}", ranges(&later))
        }
        (true, true) => {
            format!(
                "there is no other; `es --store {} repair` shows what can be recovered from it",
                directory.display()
            )
        }
    }
}

/// Formats numbers as ranges: `1 to 3, 7`.
fn ranges(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|before, number| before.checked_add(1) == Some(*number));
    let words = runs.map(|run| match run {
        [first, .., last] => format!("{first} to {last}"),
        [only] => only.to_string(),
        [] => String::new(),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The number and the directory of a backup.
type Numbered = (u32, PathBuf);

/// Returns `true` if damage of the backup can be the cause of an error.
fn may_be_caused_by_damage(error: &BackupError) -> bool {
    matches!(error, BackupError::Open(_) | BackupError::Store(_) | BackupError::Unsound { .. })
}

/// Returns the damage of a backup, with all findings if it can be opened; `None` if it is sound or cannot be examined.
async fn find_damage(
    (number, directory): &Numbered,
    progress: Progress<'_>,
) -> Option<(DamagedBackup, Option<Box<Verification>>)> {
    let (found, verification) = match verify(directory, progress).await {
        Err(BackupError::Unsound { found, verification, .. }) => (found, verification),
        Err(BackupError::Store(StoreError::Damaged { place, detail })) => (format!("{place}: {detail}"), None),
        Err(BackupError::Open(OpenError::Damaged { detail, .. })) => (detail, None),
        Err(BackupError::Open(OpenError::NoSuchDirectory { .. })) => ("expected a store, found none".to_owned(), None),
        Err(BackupError::Open(OpenError::NotAStore { found, .. })) => {
            (format!("expected a store, found {found}"), None)
        }
        _ => return None,
    };
    Some((DamagedBackup { number: *number, directory: directory.clone(), found }, verification))
}

/// Verifies a restored store. Returns its last position and the number of its events.
async fn verify_copy(directory: &Path, progress: Progress<'_>) -> Result<(Option<Position>, u64), BackupError> {
    let verification = verify(directory, progress).await?;
    let head = ReadOnlyStore::open(directory).await?.head().await?;
    Ok((head, verification.events))
}

/// Verifies a store. Damage is an error.
async fn verify(directory: &Path, progress: Progress<'_>) -> Result<Verification, BackupError> {
    Ok(verify_reader(directory, progress).await?.1)
}

/// Opens and verifies a store. Damage is an error.
async fn verify_reader(directory: &Path, progress: Progress<'_>) -> Result<(ReadOnlyStore, Verification), BackupError> {
    let store = ReadOnlyStore::open(directory).await?;
    let verification = store.verify(progress)?;
    match verification.damage.first() {
        None => Ok((store, verification)),
        Some(first) => {
            let found = format!("{}: {}", first.place, first.detail);
            let (directory, verification) = (directory.to_owned(), Some(Box::new(verification)));
            Err(BackupError::Unsound { directory, found, verification })
        }
    }
}
