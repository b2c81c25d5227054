//! [`Salvage`]: surveys a damaged store and writes its recoverable data to a new store.
//!
//! ```text
//!   damaged directory ── log ──► readable frames, intact records ──┐
//!     is only read    ── index ──► copies of damaged records ──────┴► new log ──► new index ──► verified
//!                                  rows and unique keys that the log does not have ──┘
//! ```
//!
//! Each record is stored twice once it is in tables: in the log, and under its stream, with its own checksum. Damage of
//! one copy, or of any index, therefore loses nothing. A record without an intact copy ends the log, because a log has
//! no gaps: the new store has the events up to the last complete commit before it. Readable events after it are set
//! aside, for an operator to decide.
//!
//! The damaged directory is never changed.

mod aside;
mod damaged_log;
mod scratch;
mod sources;
mod survey;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use es_core::model::ErrorChain;
use es_core::model::LogId;
use es_core::{Position, RecordedEvent, StoreError, StreamId};

use crate::access;
use crate::error::OpenError;
use crate::open::directory;
use crate::store::read_only::ReadOnlyStore;
use crate::verify::{Damage, Progress, Verification};
use scratch::Scratch;
use survey::Survey;

/// An error of surveying or repairing a store. The damaged store is unchanged, and the target has no files of the
/// repair.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The directory has no store that this version can examine. The variants of [`OpenError`] document how to
    /// continue.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new store could not be written or read. Fix the cause and try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is not damaged. Open it as it is.
    #[error("expected damage in the store in {}, found none; open it as it is", .directory.display())]
    Sound {
        /// The directory of the store.
        directory: PathBuf,
    },
    /// The repair would lose data, and the caller accepted no loss or another number of events. Restore a backup if
    /// there is one; otherwise accept the loss of exactly `events` events.
    #[error(
        "a repair loses {what}{}; restore a backup if there is one, or accept the loss of exactly {} \
         (`es repair --accept-loss {events}`)",
        .named.map(|named| format!(", not {}", counted(named))).unwrap_or_default(), counted(*.events)
    )]
    Loss {
        /// The number of events that the new store would not have.
        events: u64,
        /// A description of the loss.
        what: String,
        /// The number that the caller accepted.
        named: Option<u64>,
    },
    /// No part of the store can be opened. Restore a backup.
    #[error("nothing of the store in {} can be opened: {detail}; restore a backup", .directory.display())]
    Unreadable {
        /// The directory of the store.
        directory: PathBuf,
        /// The error of RocksDB.
        detail: String,
    },
    /// The target has files, or is within a store. Choose another directory. Nothing was written.
    #[error(
        "expected an empty or a new directory outside of any store, found {} to have files or to be within one; choose \
         another", .directory.display()
    )]
    Target {
        /// The target.
        directory: PathBuf,
    },
    /// There is the directory of an incomplete repair to this target. Nothing was written. If no other repair is
    /// running, remove the directory and try again.
    #[error(
        "expected no directory {0}, found that of an interrupted or a running repair; if none is running, remove {0} \
         and try again", .directory.display()
    )]
    Interrupted {
        /// The directory of the incomplete repair.
        directory: PathBuf,
    },
    /// The verification of the new store failed. The new store was removed. Check the disk and try again.
    #[error(
        "expected a sound store in {}, found {found}; the new store was removed: check the disk and try again",
        .directory.display()
    )]
    Unsound {
        /// The directory of the new store.
        directory: PathBuf,
        /// The first finding.
        found: String,
    },
    /// The operating system returned an error. Fix the cause and try again.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The file or directory of the operation.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// The data that a repair would lose. [`Salvage::write`] requires the caller to accept it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The number of events that the new store would not have: the unreadable ones, and all after the first of them.
    pub events: u64,
    /// The number of these events that can be read, and would be set aside.
    pub set_aside: u64,
    /// The positions without an intact record, as inclusive ranges: at most the first hundred.
    pub unreadable: Vec<(Position, Position)>,
    /// The streams that are known to lose events, with the number of these events: at most the first hundred.
    pub streams: Vec<(StreamId, u64)>,
    /// The number of further streams.
    pub more_streams: u64,
    /// Descriptions of other lost data: rows, claims of unique keys by removed events.
    pub other: Vec<String>,
}

impl Loss {
    /// Returns `true` if nothing is lost.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.events == 0 && self.other.is_empty()
    }
}

/// The result of [`Salvage::survey`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// The findings of opening or of the verification: at most the first thousand.
    pub damage: Vec<Damage>,
    /// The number of further findings.
    pub more_damage: u64,
    /// Descriptions of the measures that made damaged files readable, such as a rebuilt manifest.
    pub notes: Vec<String>,
    /// The position of the last event that a repaired store would have.
    pub head: Option<Position>,
    /// The position of the last event that the store is known to have had.
    pub last: Option<Position>,
    /// The number of records that only the copy under their stream provides, because the copy in the log is lost.
    pub from_streams: u64,
    /// The data that a repair would lose.
    pub loss: Loss,
}

impl Report {
    /// Returns `true` if no damage was found.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

/// A repaired store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Repaired {
    /// The directory of the new store.
    pub directory: PathBuf,
    /// The id of the log: that of the damaged store, unless events were lost or the id could not be read.
    pub id: LogId,
    /// Whether the store and its log have a new id. A store that lost events is another history, because it will assign
    /// the lost positions to other events. Backups and checkpoints of the old store must not be continued with it.
    pub is_new_id: bool,
    /// The number of events in the store.
    pub events: u64,
    /// The number of rows in the store.
    pub rows: u64,
    /// The number of events that were set aside.
    pub set_aside: u64,
}

/// A repaired store under a temporary name, which no program opens by mistake. [`complete`](Self::complete) gives it
/// its name; dropping it removes it.
#[derive(Debug)]
#[must_use = "a draft that is dropped is removed"]
pub struct RepairDraft {
    target: RepairTarget,
    repaired: Repaired,
}

impl RepairDraft {
    /// Returns the present directory of the store, for changes before it is complete.
    #[must_use]
    pub fn incomplete_directory(&self) -> &Path {
        &self.target.incomplete
    }

    /// Returns the result of the repair. Its directory is the target, which has no store yet.
    #[must_use]
    pub fn repaired(&self) -> &Repaired {
        &self.repaired
    }

    /// Syncs the store and moves it to the target. Close the store first if you opened it.
    ///
    /// # Errors
    /// [`RepairError::Io`] if a file cannot be synced or renamed.
    pub fn complete(self) -> Result<Repaired, RepairError> {
        self.target.complete()?;
        Ok(self.repaired)
    }
}

/// Receives each event that can be read but is not in the repaired store. An error cancels the repair.
pub type SetAside<'a> = &'a mut dyn FnMut(&RecordedEvent) -> io::Result<()>;

/// A surveyed store and its recoverable data.
///
/// ```no_run
/// # fn repair() -> Result<(), es_rocksdb::RepairError> {
/// let salvage = es_rocksdb::Salvage::survey("data", &mut |_, _, _| {})?;
/// if !salvage.report().is_sound() && salvage.report().loss.is_none() {
///     salvage.write("repaired", None, &mut |_| Ok(()), &mut |_, _, _| {})?.complete()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Salvage {
    directory: PathBuf,
    report: Report,
    // ORDER: the databases are closed before the scratch directory under them is removed.
    found: Option<Box<Survey>>,
    _scratch: Option<Scratch>,
    /// Keeps the store from being opened for writing.
    _lock: Option<File>,
}

impl Salvage {
    /// Verifies the store in a directory. If it is damaged, determines the recoverable data. Stop the service first,
    /// because concurrent writes change the files during the survey. As long as the `Salvage` exists, the store cannot
    /// be opened for writing.
    ///
    /// It writes nothing to the directory. For a damaged store it creates a temporary directory, beside the store or
    /// else in the system's directory for temporary files, and removes it when the `Salvage` is dropped. Table files
    /// are linked into it where possible; other files are copied.
    ///
    /// It takes as long as a verification; if records are missing, it also looks up every event under its stream. It
    /// uses about 100 bytes of memory for each record that only the copy under its stream provides, and for each unique
    /// key whose event was removed. It blocks the calling thread.
    ///
    /// # Errors
    /// - [`RepairError::Open`] if the directory has no store or a store of another format version, if a process has the
    ///   store open for writing, or if the store cannot be read for a reason other than damage.
    /// - [`RepairError::Unreadable`] if no part of the store can be opened.
    /// - [`RepairError::Io`] if the temporary directory cannot be written.
    pub fn survey(directory: impl AsRef<Path>, progress: Progress<'_>) -> Result<Self, RepairError> {
        let directory = directory::resolve(directory.as_ref())?;
        let lock = directory::lock(&directory)?;
        let mut report = Report::default();
        diagnose(&directory, &mut report, progress)?;
        if report.is_sound() {
            return Ok(Self { directory, report, found: None, _scratch: None, _lock: lock });
        }
        let (survey, scratch) = survey::survey(&directory, &mut report, progress)?;
        Ok(Self { directory, report, found: Some(Box::new(survey)), _scratch: scratch, _lock: lock })
    }

    /// Returns the findings.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Checks that a repair can write to `target`, so that an unsuitable target is found before the survey.
    /// [`write`](Self::write) checks it again.
    ///
    /// # Errors
    /// - [`RepairError::Open`] if the directory does not exist.
    /// - [`RepairError::Target`] if `target` has files or is within a store.
    /// - [`RepairError::Interrupted`] if there is an incomplete repair to `target`.
    /// - [`RepairError::Io`] if a path cannot be resolved.
    pub fn check_target(directory: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<(), RepairError> {
        TargetPaths::check(&directory::resolve(directory.as_ref())?, target.as_ref()).map(drop)
    }

    /// Writes the recoverable data to a new store for `target`, an empty or new directory, and verifies it. The damaged
    /// store is unchanged. The store is in `target` after [`RepairDraft::complete`].
    ///
    /// If data is lost, `accept` must be the number of [lost events](Loss::events) in the report. Rows are those that
    /// the log has up to its new end, if it has all; otherwise they are copied unchanged, including those that depend
    /// on lost events. If the store [has a new id](Repaired::is_new_id), open it in its
    /// [incomplete directory](RepairDraft::incomplete_directory), delete the snapshots and call
    /// [`es_core::projection::reset_followers`] before you complete it.
    ///
    /// `set_aside` receives the readable events after the first lost one, in the order of the log. An event of an
    /// incomplete commit is passed as a commit of its own.
    ///
    /// # Errors
    /// - [`RepairError::Sound`] if the store is not damaged.
    /// - [`RepairError::Loss`] if data would be lost and `accept` is not the number of lost events.
    /// - [`RepairError::Target`] or [`RepairError::Interrupted`] if `target` is not suitable; see
    ///   [`check_target`](Self::check_target).
    /// - [`RepairError::Unsound`] if the verification of the new store fails.
    /// - [`RepairError::Open`], [`RepairError::Store`] or [`RepairError::Io`] if the new store cannot be opened, read
    ///   or written, or if `set_aside` returns an error.
    pub fn write(
        &self,
        target: impl AsRef<Path>,
        accept: Option<u64>,
        set_aside: SetAside<'_>,
        progress: Progress<'_>,
    ) -> Result<RepairDraft, RepairError> {
        let Some(found) = &self.found else {
            return Err(RepairError::Sound { directory: self.directory.clone() });
        };
        let events = self.report.loss.events;
        let is_accepted =
            if self.report.loss.is_none() { accept.is_none_or(|named| named == 0) } else { accept == Some(events) };
        if !is_accepted {
            let what = std::iter::once(counted(events)).chain(self.report.loss.other.iter().cloned());
            return Err(RepairError::Loss { events, what: what.collect::<Vec<_>>().join(", "), named: accept });
        }
        found.write(&self.directory, target.as_ref(), set_aside, progress)
    }
}

/// The maximum number of listed positions or streams in a report.
const MAX_LISTED: usize = 100;

/// Returns a number of events as text.
fn counted(events: u64) -> String {
    format!("{events} {}", if events == 1 { "event" } else { "events" })
}

/// Opens and verifies the store, and reports its damage.
fn diagnose(directory: &Path, report: &mut Report, progress: Progress<'_>) -> Result<(), RepairError> {
    let opened = ReadOnlyStore::open_blocking(directory);
    let verified = match opened {
        Ok(store) => store.verify(progress),
        Err(OpenError::Damaged { detail, .. }) => {
            report.damage.push(Damage { place: "opening".to_owned(), detail });
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    match verified {
        Ok(Verification { damage, more_damage, .. }) => (report.damage, report.more_damage) = (damage, more_damage),
        // A limit of the process is not damage.
        Err(error) if access::is_about_the_file_limit(&ErrorChain(&error).to_string()) => {
            return Err(OpenError::of_store(directory, "verify the store", error).into());
        }
        // RocksDB reports a missing table file as a file that it cannot open, not as damage.
        Err(error) => {
            report.damage.push(Damage { place: "verifying".to_owned(), detail: ErrorChain(&error).to_string() });
        }
    }
    Ok(())
}

/// Verifies a new store.
fn verify_new_store(directory: &Path, progress: Progress<'_>) -> Result<Verification, RepairError> {
    let store = ReadOnlyStore::open_blocking(directory)?;
    let found = store.verify(progress)?;
    match found.damage.first() {
        None => Ok(found),
        Some(Damage { place, detail }) => {
            Err(RepairError::Unsound { directory: directory.to_owned(), found: format!("{place}: {detail}") })
        }
    }
}

/// Returns the conversion of an error of the operating system that occurred during `action`.
fn io_error<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> RepairError + 'a {
    move |source| RepairError::Io { action, path: path.to_owned(), source }
}

/// The target of a repair, and the directory in which the new store is written. The store has another name until it is
/// complete, so that an incomplete store is never opened. Dropping an incomplete target removes the store.
#[derive(Debug)]
struct RepairTarget {
    directory: PathBuf,
    incomplete: PathBuf,
    is_complete: bool,
}

impl Drop for RepairTarget {
    fn drop(&mut self) {
        if !self.is_complete {
            // The error of the repair is reported, not that of the removal.
            let _ = fs::remove_dir_all(&self.incomplete);
        }
    }
}

/// The full paths of a target: its directory, and that of the incomplete store.
struct TargetPaths {
    directory: PathBuf,
    incomplete: PathBuf,
}

impl TargetPaths {
    /// Checks that a new store can be written to a target.
    fn check(damaged: &Path, target: &Path) -> Result<Self, RepairError> {
        // A link to an empty directory is followed, because a directory cannot replace a link.
        let target = access::resolve_links(target).map_err(io_error("find the full path of", target))?;
        let store = access::enclosing_store(&target).map_err(io_error("find the full path of", &target))?;
        let is_free = match fs::read_dir(&target) {
            Ok(mut entries) => entries.next().is_none(),
            Err(_) => !target.exists(),
        };
        if !is_free || store.is_some() || target.starts_with(damaged) {
            return Err(RepairError::Target { directory: target });
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let incomplete = target.with_file_name(format!("{name}.incomplete"));
        if incomplete.exists() {
            return Err(RepairError::Interrupted { directory: incomplete });
        }
        Ok(Self { directory: target, incomplete })
    }
}

impl RepairTarget {
    fn create(damaged: &Path, target: &Path) -> Result<Self, RepairError> {
        let TargetPaths { directory, incomplete } = TargetPaths::check(damaged, target)?;
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent).map_err(io_error("create the directory", parent))?;
        }
        access::create_directory(&incomplete).map_err(io_error("create the directory", &incomplete))?;
        Ok(Self { directory, incomplete, is_complete: false })
    }

    /// Syncs the new store, and renames it to its target.
    fn complete(mut self) -> Result<(), RepairError> {
        let (incomplete, target) = (&self.incomplete, &self.directory);
        let sync = |path: &Path| access::sync(path).map_err(io_error("sync", path));
        sync_all(incomplete)?;
        if let Ok(replaced) = fs::metadata(target) {
            fs::set_permissions(incomplete, replaced.permissions()).map_err(io_error("set the mode of", incomplete))?;
            fs::remove_dir(target).map_err(io_error("replace", target))?;
        }
        fs::rename(incomplete, target).map_err(io_error("rename", incomplete))?;
        self.is_complete = true;
        self.directory.parent().map_or(Ok(()), sync)
    }
}

/// Syncs a directory, its files, and the directories in it.
fn sync_all(directory: &Path) -> Result<(), RepairError> {
    let sync = |path: &Path| access::sync(path).map_err(io_error("sync", path));
    for entry in fs::read_dir(directory).map_err(io_error("read the directory", directory))? {
        let path = entry.map_err(io_error("read the directory", directory))?.path();
        if path.is_dir() { sync_all(&path)? } else { sync(&path)? }
    }
    sync(directory)
}
