//! [`Backups`]: a directory of backups, each a whole store, the unchanged files of which they share.
//!
//! ```text
//!   store ──read-only──► events behind the last backup ──► incomplete/ ──verify──► backup-000003/
//!                        keys and rows that differ             ▲
//!                                      backup-000002/ ──links──┘
//! ```
//!
//! A backup is not a copy of files: every event is read, checked and written anew with indexes of its own, so that damage of
//! the log is found now and not when the backup is needed, and damage of an index does not reach it. Only events that are new
//! are read from the store; all of the backup is verified.
//!
//! The tables of the last backup are linked unseen. Where damage comes with them, the new backup shows it, and is made again as a
//! full copy: the store has everything that a damaged backup has lost.

mod files;
mod keys;
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
    Store(StoreError),
    /// What was read from the store could not be written to the backup.
    #[error("could not write to the backup")]
    Write(#[source] CommitError),
    /// The disk of the backup refused a write: it may be full. Free room on it, or look after it, and make the backup again.
    #[error(
        "could not write to the backup since {reason}; free room on its disk, or look after it, and make the backup again"
    )]
    Stopped {
        /// The refusal.
        reason: String,
    },
    /// The backups are of another store, or of another history of this one. Choose another directory for these backups.
    #[error("expected backups of this store in {}, found {found}; choose another directory", .directory.display())]
    OtherStore {
        /// The directory of the backups.
        directory: PathBuf,
        /// What they are backups of.
        found: String,
    },
    /// What was written is not what was read, or not whole. It was not kept. Look after the disk, then try again.
    #[error(
        "expected a sound copy in {}, found {found}; it was not kept: look after the disk and try again",
        .directory.display()
    )]
    Unsound {
        /// Where it was.
        directory: PathBuf,
        /// The first finding.
        found: String,
        /// All findings, where it was verified.
        verification: Option<Box<Verification>>,
    },
    /// A backup is damaged, so that it was not restored; nothing of it was kept in the target. Restore another one.
    #[error("backup {number} in {} is damaged: {found}; {advice}", .directory.display())]
    Damaged {
        /// Its number.
        number: u32,
        /// Its directory.
        directory: PathBuf,
        /// The first finding.
        found: String,
        /// What to do: which other backups there are.
        advice: String,
        /// All findings, where it could be opened.
        verification: Option<Box<Verification>>,
    },
    /// There is no backup with this number. Choose one that is there.
    #[error("expected backup {number} in {}, found {found}; choose one of these", .directory.display())]
    NoSuchNumber {
        /// The number that was asked for.
        number: u32,
        /// The directory of the backups.
        directory: PathBuf,
        /// The numbers that are there, in words.
        found: String,
    },
    /// There is no backup in the directory. Check the path.
    #[error("expected backups in {}, found none; check the path", .directory.display())]
    NoBackup {
        /// The directory.
        directory: PathBuf,
    },
    /// The target of a restore, or the directory of a first backup, has other files. Choose another; nothing was
    /// written.
    #[error("expected an empty or a new directory in {}, found files; choose another", .directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory for the backups is within the store: who removes the store would remove its backups. Choose
    /// another; nothing was written.
    #[error(
        "expected a directory for backups outside of the store in {}, found {} within it; choose another, best on \
         another disk",
        .store.display(), .directory.display()
    )]
    WithinStore {
        /// The directory of the store.
        store: PathBuf,
        /// The directory for the backups.
        directory: PathBuf,
    },
    /// The operating system refused. Mend the cause and try again.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        match error {
            // NOTE: what a store advises then, to repeat the commit, is for programs that commit. Only the backup is written to.
            StoreError::Stopped { reason } => Self::Stopped { reason },
            other => Self::Store(other),
        }
    }
}

impl From<CommitError> for BackupError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store(stopped @ StoreError::Stopped { .. }) => stopped.into(),
            other => Self::Write(other),
        }
    }
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Its number, from 1.
    pub number: u32,
    /// Its directory, which is a whole store. Open it for reading only.
    pub directory: PathBuf,
    /// The position of its last event.
    pub head: Option<Position>,
    /// How many events it has that the one before has not; all, where that is [damaged](Self::damaged).
    pub new_events: u64,
    /// How many rows and claims of unique keys were changed in it since the one before.
    pub new_rows: u64,
    /// How many events it has.
    pub events: u64,
    /// The backup before it, where that was found to be damaged, so that this one is a full copy and shares nothing with it. It
    /// is of no use: remove it. Earlier ones may share the damaged file.
    pub damaged: Option<DamagedBackup>,
}

/// A backup that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedBackup {
    /// Its number.
    pub number: u32,
    /// Its directory.
    pub directory: PathBuf,
    /// The first finding.
    pub found: String,
}

/// A directory with backups of one store. It belongs to them alone.
#[derive(Debug, Clone)]
pub struct Backups {
    directory: PathBuf,
}

impl Backups {
    /// The backups in this directory.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The complete backups, oldest first: number and directory.
    ///
    /// # Errors
    /// [`BackupError::Io`] when the directory cannot be read. Where there is no directory, there are no backups.
    pub fn list(&self) -> Result<Vec<(u32, PathBuf)>, BackupError> {
        files::list(&self.directory)
    }

    /// Makes a backup of the store in `store`, which may be open in a running service: it has the store as it is when this
    /// begins. It is complete and verified when this returns; until then it has no name, and one that was begun and not
    /// finished is removed by the next.
    ///
    /// Only what is new since the last backup is read from the store and takes room. Where the last backup is damaged, the new one
    /// is a full copy and [says so](Backup::damaged). To remove a backup, remove its directory.
    ///
    /// # Errors
    /// [`BackupError`]; each variant says what to do.
    pub async fn create(&self, store: &Path, progress: Progress<'_>) -> Result<Backup, BackupError> {
        let source = ReadOnlyStore::open(store).await?;
        if files::is_within(&self.directory, source.directory())? {
            return Err(BackupError::WithinStore {
                store: source.directory().to_owned(),
                directory: self.directory.clone(),
            });
        }
        let _lock = files::lock(&self.directory)?;
        let last = self.list()?.pop();
        let mut damaged = None;
        let mut written = self.write(&source, last.as_ref(), progress).await;
        if let (Err(error), Some(last)) = (&written, &last)
            && may_be_caused_by_damage(error)
        {
            damaged = find_damage(last, progress).await;
        }
        if damaged.is_some() {
            write::check_continues_any(&source, &self.list()?, &self.directory).await?;
            written = self.write(&source, None, progress).await;
        }
        let IncompleteBackup { directory: incomplete, changes, verification } = written?;
        let number = last.map_or(1, |(number, _)| number + 1);
        let directory = files::complete(&self.directory, &incomplete, number)?;
        let head = es_core::EventReader::head(&source).await?;
        let damaged = damaged.map(|(damaged, _)| damaged);
        let write::Changes { events: new_events, rows: new_rows } = changes;
        Ok(Backup { number, directory, head, new_events, new_rows, events: verification.events, damaged })
    }

    /// Makes a backup that has no name yet, upon another one or from nothing; what is not sound is removed.
    async fn write(
        &self,
        source: &ReadOnlyStore,
        last: Option<&Numbered>,
        progress: Progress<'_>,
    ) -> Result<IncompleteBackup, BackupError> {
        let directory = files::begin(&self.directory, last.map(|(_, directory)| directory.as_path()))?;
        let written = self.write_and_verify(source, &directory, last.is_none(), progress).await;
        match written {
            Ok((changes, verification)) => Ok(IncompleteBackup { directory, changes, verification }),
            Err(error) => {
                // NOTE: the error that counts is the first; what is left here is removed by the next backup.
                let _ = std::fs::remove_dir_all(&directory);
                Err(error)
            }
        }
    }

    async fn write_and_verify(
        &self,
        source: &ReadOnlyStore,
        incomplete: &Path,
        is_first: bool,
        progress: Progress<'_>,
    ) -> Result<(write::Changes, Verification), BackupError> {
        if is_first {
            write::create_with_identity(source, incomplete)?;
        }
        let changes = write::update(source, incomplete, &self.directory, progress).await?;
        Ok((changes, verify(incomplete, progress).await?))
    }

    /// Makes a store in `target`, which must be empty or not there yet, from the backup with this number, or from the last. It
    /// is verified when this returns. Where that fails, what was made is removed again, so that it can be tried again.
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
        let chosen = backups.iter().rev().find(|(found, _)| number.is_none_or(|number| number == *found));
        let chosen = chosen.ok_or_else(|| match number.filter(|_| !backups.is_empty()) {
            Some(number) => {
                let numbers: Vec<_> = backups.iter().map(|(number, _)| *number).collect();
                BackupError::NoSuchNumber { number, directory: self.directory.clone(), found: ranges(&numbers) }
            }
            None => BackupError::NoBackup { directory: self.directory.clone() },
        })?;
        let (number, from) = chosen;
        let is_new = files::is_free(target)?;
        let restored = match files::copy_store(from, target, progress) {
            Ok(()) => verify_copy(target, progress).await,
            Err(error) => Err(error),
        };
        match restored {
            Ok((head, events)) => {
                let (number, directory) = (*number, target.to_owned());
                Ok(Backup { number, directory, head, new_events: events, new_rows: 0, events, damaged: None })
            }
            Err(error) => {
                // NOTE: the error that counts is the first.
                let _ = if is_new {
                    std::fs::remove_dir_all(target).map_err(drop)
                } else {
                    files::empty(target).map_err(drop)
                };
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

/// What to do where a backup cannot be restored.
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

/// Numbers in words, the shorter the fewer gaps they have: `1 to 3, 7`.
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

/// A verified backup that has no number yet.
struct IncompleteBackup {
    directory: PathBuf,
    changes: write::Changes,
    verification: Verification,
}

/// Whether damage of the backup that a new one was built on can be the cause.
fn may_be_caused_by_damage(error: &BackupError) -> bool {
    // NOTE: RocksDB reports damage that it meets while it compacts as a write that failed.
    matches!(
        error,
        BackupError::Open(_)
            | BackupError::Store(_)
            | BackupError::Write(_)
            | BackupError::Stopped { .. }
            | BackupError::Unsound { .. }
    )
}

/// What is damaged in a backup, with all findings where it can be opened; `None` where it is sound, or nothing is known.
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

/// The last position and the number of events of a store that has to be sound.
async fn verify_copy(directory: &Path, progress: Progress<'_>) -> Result<(Option<Position>, u64), BackupError> {
    let verification = verify(directory, progress).await?;
    let head = es_core::EventReader::head(&ReadOnlyStore::open(directory).await?).await?;
    Ok((head, verification.events))
}

/// The verification of a store that has to be sound.
async fn verify(directory: &Path, progress: Progress<'_>) -> Result<Verification, BackupError> {
    let verification = ReadOnlyStore::open(directory).await?.verify(progress)?;
    match verification.damage.first() {
        None => Ok(verification),
        Some(first) => {
            let found = format!("{}: {}", first.place, first.detail);
            let (directory, verification) = (directory.to_owned(), Some(Box::new(verification)));
            Err(BackupError::Unsound { directory, found, verification })
        }
    }
}
