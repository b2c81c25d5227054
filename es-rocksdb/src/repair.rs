//! [`Salvage`]: what can be saved of a damaged store, and a new store made of it.
//!
//! ```text
//!   damaged directory ──links, copies──► scratch ──open, skipping what is broken──► records ──► new directory
//!     is only read                      │ a flipped bit of a log is set right       │          │ indexes made anew
//!                                       │ a lost manifest is made anew              │          │ verified
//!                                       └ tables without a manifest                 └ behind the first lost one: set aside
//! ```
//!
//! Each record stands twice, under its position and under its stream, in different files, and has a checksum of its own.
//! So damage of one copy, or of any index, costs nothing: the record is taken from where it is whole, and every index is made
//! anew. A record that is whole nowhere ends the log, because a log has no gaps: events are kept up to the last whole commit
//! before it. What can be read behind it is set aside, for a person to decide on.
//!
//! What stands in the place of a removed event stands once, in the log. It is kept as it is; and what was removed stays removed,
//! also where damage has brought an older copy of it to light.
//!
//! Unique keys are claimed again by the events that are kept. Claims of removed events, and rows, are stored once and have no checksum
//! of their own: they are kept where RocksDB's checksum holds.
//!
//! Nothing is ever written to the damaged directory, and nothing of it is removed.

mod claims;
mod rebuild;
mod records;
mod scratch;
mod sources;

use std::io;
use std::path::{Path, PathBuf};

use es_core::model::ErrorChain;
use es_core::model::LogId;
use es_core::{Position, RecordedEvent, StoreError, StreamId};

use crate::acknowledged;
use crate::error::OpenError;
use crate::open::{self, DirectoryState};
use crate::read_only;
use crate::verify::{Damage, Progress, Verification};
use records::RecoverableEvents;
use scratch::Scratch;
use sources::Sources;

/// Why there is no repaired store. The damaged one is as it was, and nothing is left in the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// There is no store, or one of a later version. Its message says what to do.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new store could not be written or read. Mend the cause and try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing is damaged. Open the store as it is.
    #[error("expected damage in the store in {}, found none; open it as it is", .directory.display())]
    Sound {
        /// The directory of the store.
        directory: PathBuf,
    },
    /// Something would be lost, and it was not said that it may be, or another number of events was named. Look for a backup
    /// first; else give this number.
    #[error(
        "a repair loses {what}{}; restore a backup if there is one, or accept the loss of exactly {events} events \
         (`es repair --accept-loss {events}`)", .named.map(|named| format!(", not {named} events")).unwrap_or_default()
    )]
    Loss {
        /// How many events of the log would not be in the new store.
        events: u64,
        /// What would be lost, in words.
        what: String,
        /// The number that was named.
        named: Option<u64>,
    },
    /// Not even a part of the store can be opened. Restore a backup.
    #[error("nothing of the store in {} can be opened: {detail}; restore a backup", .directory.display())]
    Unreadable {
        /// The directory of the store.
        directory: PathBuf,
        /// What RocksDB says.
        detail: String,
    },
    /// The target has files, or is within the damaged store. Choose another; nothing was written.
    #[error(
        "expected an empty or a new directory outside of the damaged store, found {} to have files or to be within it; \
         choose another", .directory.display()
    )]
    Target {
        /// The target.
        directory: PathBuf,
    },
    /// What was written is not sound. It was not kept. Look after the disk, then try again.
    #[error(
        "expected a sound store in {}, found {found}; it was not kept: look after the disk and try again",
        .directory.display()
    )]
    Unsound {
        /// Where it was.
        directory: PathBuf,
        /// The first finding.
        found: String,
    },
    /// The operating system refused. Mend the cause and try again.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
}

/// What a repair must not do unasked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// How many events of the log would not be in the new store: those that cannot be read, and those behind them.
    pub events: u64,
    /// How many of these can be read, and would be set aside.
    pub set_aside: u64,
    /// The positions of which no whole record was found, as ranges with both ends: at most the first hundred.
    pub unreadable: Vec<(Position, Position)>,
    /// Streams that would lose events, as far as it can be told, with how many: at most the first hundred.
    pub streams: Vec<(StreamId, u64)>,
    /// How many more streams there are.
    pub more_streams: u64,
    /// What is lost besides events, in words: rows, claims of unique keys by removed events.
    pub other: Vec<String>,
}

impl Loss {
    /// Whether anything is lost.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.events == 0 && self.other.is_empty()
    }
}

/// What a look at a damaged store has found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// What is damaged: what opening says, or what a verification has found, at most the first thousand findings.
    pub damage: Vec<Damage>,
    /// How many findings there are beyond those.
    pub more_damage: u64,
    /// What was done to read on: in words, such as that the manifest was made anew.
    pub notes: Vec<String>,
    /// The position of the last event that a repaired store would have.
    pub head: Option<Position>,
    /// The position of the last event that the store is known to have had.
    pub last: Option<Position>,
    /// How many records would be taken from under their streams, because the log has them no more.
    pub from_streams: u64,
    /// What would be lost.
    pub loss: Loss,
}

impl Report {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

/// A repaired store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Repaired {
    /// Its directory.
    pub directory: PathBuf,
    /// Its id. It is that of the damaged store, unless events were lost, or its identity could not be read.
    pub id: LogId,
    /// Whether the id is a new one: a store from which events were cut is another history, which will give the same positions
    /// to other events. Backups and checkpoints of the old one must not be continued with it, and the id tells.
    pub is_new_id: bool,
    /// How many events it has.
    pub events: u64,
    /// The number of rows in the store.
    pub rows: u64,
    /// The number of claims of unique keys that were taken from the index, because their events were removed.
    pub carried_claims: u64,
    /// How many events were set aside.
    pub set_aside: u64,
}

/// Takes an event that can be read but has no place in the repaired store.
pub type SetAside<'a> = &'a mut dyn FnMut(&RecordedEvent) -> io::Result<()>;

/// A store that was looked at, and what can be saved of it.
///
/// ```no_run
/// # fn repair() -> Result<(), es_rocksdb::RepairError> {
/// let salvage = es_rocksdb::Salvage::survey("data", &mut |_, _, _| {})?;
/// if !salvage.report().is_sound() && salvage.report().loss.is_none() {
///     salvage.write("repaired", None, &mut |_| Ok(()), &mut |_, _, _| {})?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Salvage {
    directory: PathBuf,
    report: Report,
    // ORDER: the databases are closed before the scratch directory under them is removed.
    found: Option<(Sources, RecoverableEvents)>,
    _scratch: Option<Scratch>,
}

impl Salvage {
    /// Looks at the store in a directory: whether it is damaged, and what can be saved of it. Stop the service first: a
    /// store that is being written to looks different from one moment to the next.
    ///
    /// It writes nothing to the directory. For a damaged store it needs a directory of its own, beside the store or
    /// else among the temporary files, which is removed again; tables are linked into it where that is possible, and
    /// all else is copied. It takes as long as verifying, and where records are missing as looking up every event under
    /// its stream besides. Of each record that only its stream has, and each unique key whose event was removed, it
    /// keeps about 100 bytes in memory. It blocks the thread that calls it.
    ///
    /// # Errors
    /// [`RepairError`]; each variant says what to do.
    pub fn survey(directory: impl AsRef<Path>, progress: Progress<'_>) -> Result<Self, RepairError> {
        let directory = open::resolve(directory.as_ref())?;
        let mut report = Report::default();
        diagnose(&directory, &mut report, progress)?;
        if report.is_sound() {
            return Ok(Self { directory, report, found: None, _scratch: None });
        }
        let mark = acknowledged::read(&directory).map_err(|error| OpenError::io(&directory, "read the mark", error))?;
        if mark.is_none() {
            let note = "the file ACKNOWLEDGED is missing or torn: nothing says up to where commits were acknowledged";
            report.notes.push(note.to_owned());
        }
        let scratch = Scratch::new(&directory, &mut report.notes)?;
        let mut sources = scratch.open(&directory, mark, &mut report)?;
        let before = report.clone();
        let mut survey = sources.survey(mark, &mut report, progress);
        if survey.has_unreadable_records || report.loss.events > 0 {
            sources.read_broken();
            report = before;
            survey = sources.survey(mark, &mut report, progress);
        }
        Ok(Self { directory, report, found: Some((sources, survey)), _scratch: Some(scratch) })
    }

    /// What was found.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Writes what can be saved into a new store in `target`, which must be empty or not there yet, and verifies it. The damaged
    /// store stays as it is. Where something is lost, `accept` must name the number of [events](Loss::events): it is known only
    /// to who has read the report. Rows are kept as they are, those of lost events, too: drop the snapshots, and call [`es_core::projection::reset_followers`].
    ///
    /// What can be read behind the first lost event goes to `set_aside`, in the order of the log. An event whose commit is not
    /// whole comes as a commit of its own.
    ///
    /// # Errors
    /// [`RepairError`]; each variant says what to do.
    pub fn write(
        &self,
        target: impl AsRef<Path>,
        accept: Option<u64>,
        set_aside: SetAside<'_>,
        progress: Progress<'_>,
    ) -> Result<Repaired, RepairError> {
        let Some((sources, survey)) = &self.found else {
            return Err(RepairError::Sound { directory: self.directory.clone() });
        };
        let events = self.report.loss.events;
        let is_accepted =
            if self.report.loss.is_none() { accept.is_none_or(|named| named == 0) } else { accept == Some(events) };
        if !is_accepted {
            let what = std::iter::once(format!("{events} events")).chain(self.report.loss.other.iter().cloned());
            return Err(RepairError::Loss { events, what: what.collect::<Vec<_>>().join(", "), named: accept });
        }
        rebuild::write(&self.directory, target.as_ref(), sources, survey, set_aside, progress)
    }
}

/// Finds out whether anything is damaged, as opening and verifying do.
fn diagnose(directory: &Path, report: &mut Report, progress: Progress<'_>) -> Result<(), RepairError> {
    let opened = open::examine(directory).and_then(|found| match found {
        DirectoryState::Store => read_only::open_with_retries(directory),
        DirectoryState::Empty => Err(OpenError::NoSuchDirectory { directory: directory.to_owned() }),
    });
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
        // NOTE: a table that is gone is no damage in RocksDB's words, but a file that it cannot open.
        Err(error) => {
            report.damage.push(Damage { place: "verifying".to_owned(), detail: ErrorChain(&error).to_string() });
        }
    }
    Ok(())
}

/// Verifies a new store.
fn verify_new_store(directory: &Path, progress: Progress<'_>) -> Result<Verification, RepairError> {
    let store = read_only::open_with_retries(directory)?;
    let found = store.verify(progress)?;
    match found.damage.first() {
        None => Ok(found),
        Some(Damage { place, detail }) => {
            Err(RepairError::Unsound { directory: directory.to_owned(), found: format!("{place}: {detail}") })
        }
    }
}

fn refused<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> RepairError + 'a {
    move |source| RepairError::Io { action, path: path.to_owned(), source }
}
