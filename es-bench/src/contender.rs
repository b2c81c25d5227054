//! The seam between workloads and contenders: what is asked ([`Append`], [`Selection`], [`Task`]) and who answers
//! ([`Contender`], [`Opened`]).

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

use crate::domain::{self, Folded, Sample};
use crate::failure::Failure;

/// What a contender is to the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// This project.
    Ours,
    /// A limit of the engine or of the disk: it does none of the work that makes an event store.
    Limit,
    /// What a user would pick instead.
    Peer,
}

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the disk: it survives a power failure.
    Synced,
    /// When the operating system has it: it survives the end of the process.
    Buffered,
}

/// What can be asked of a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Appends that are on disk when they are acknowledged, each at an expected revision where the contender knows such.
    Append,
    /// The same, acknowledged when the operating system has them.
    AppendBuffered,
    /// Appends under the condition that nothing new matches a tag (dynamic consistency boundary).
    AppendIf,
    /// Loading one stream, decoded and folded.
    Load,
    /// The same from a snapshot and the events behind it.
    LoadSnapshot,
    /// The whole log in order.
    ReadAll,
    /// The events of one type, in order.
    ReadType,
    /// The events with one tag, in order.
    ReadTag,
    /// Telling a live subscriber of new events.
    Follow,
    /// Memory and disk per event, measured in a process of its own.
    Footprint,
    /// Appends while the log grows.
    Volume,
    /// Building views of the log; what this project alone is asked for.
    Project,
}

/// What every contender is opened with.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// When appends are acknowledged.
    pub durability: Durability,
    /// Bytes of a payload.
    pub payload: usize,
    /// What the project's durable store hands to RocksDB; what is written directly writes the same.
    pub shape: Shape,
}

/// How many bytes of keys and values the project's store hands to RocksDB: `commit + events * event`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes per commit and stream.
    pub commit: usize,
    /// Bytes per event.
    pub event: usize,
}

/// One commit to append: events for one stream.
#[derive(Debug, Clone)]
pub struct Append {
    /// Which stream.
    pub stream: u64,
    /// How many events the stream has, as the writer knows; for the expectation.
    pub expected: u64,
    /// The position of the stream's last event, as the writer knows; 0 for none.
    pub seen: u64,
    /// Whether, instead of the expectation, nothing with the events' tag may have come behind `seen`.
    pub conditional: bool,
    /// The events, at least one.
    pub events: Vec<Sample>,
}

/// Which events of the log to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// Those of one type.
    Type(&'static str),
    /// Those with one tag.
    Tag(String),
}

/// What a live subscriber has seen, and when.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Vec<(u64, Instant)>>);

impl Seen {
    /// The subscriber has been given an event with this payload.
    pub fn saw(&self, payload: &[u8]) {
        let now = Instant::now();
        if let Some(number) = domain::number(payload) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push((number, now));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn take(&self) -> Vec<(u64, Instant)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Somebody who can be measured.
#[async_trait]
pub trait Contender: Send + Sync {
    /// A short name, for tables and `--contender`.
    fn name(&self) -> &'static str;

    /// Its version, how it waits for the disk, and what else a reader must know: one line.
    fn about(&self) -> String;

    /// What it is to the comparison.
    fn role(&self) -> Role;

    /// Whether it does this; otherwise why not.
    ///
    /// # Errors
    /// Why not, in a few words.
    fn offers(&self, task: Task) -> Result<(), &'static str>;

    /// Opens it in a directory, creating it where there is none.
    ///
    /// # Errors
    /// [`Failure`]; it is reported as not run.
    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure>;
}

/// An open contender. What it does not offer, it is not asked.
#[async_trait]
pub trait Opened: Send + Sync {
    /// Whether its calls block the thread. Then writers are threads, otherwise tasks.
    fn blocks(&self) -> bool {
        false
    }

    /// Appends a commit, acknowledged as it was opened. Gives the position of its last event, where there is such.
    ///
    /// # Errors
    /// [`Failure`] ends the run of this contender.
    async fn append(&self, append: Append) -> Result<u64, Failure>;

    /// Executes a command that appends one event to a new stream. What a user of a framework would call.
    ///
    /// # Errors
    /// [`Failure`] ends the run of this contender.
    async fn command(&self, stream: u64, event: Sample) -> Result<(), Failure> {
        let append = Append { stream, expected: 0, seen: 0, conditional: false, events: vec![event] };
        self.append(append).await.map(|_| ())
    }

    /// Loads a stream, decodes its events and folds them; from a snapshot, if asked to.
    ///
    /// # Errors
    /// [`Failure`] ends the run of this contender.
    async fn load(&self, stream: u64, from_snapshot: bool) -> Result<Folded, Failure> {
        let _ = (stream, from_snapshot);
        Err(Failure::new("load", "not offered"))
    }

    /// Reads the log in order and gives how many events there were.
    ///
    /// # Errors
    /// [`Failure`] ends the run of this contender.
    async fn read(&self, selection: Selection) -> Result<u64, Failure> {
        let _ = selection;
        Err(Failure::new("read", "not offered"))
    }

    /// Visits the whole log in order, each event borrowed, and returns how many events there were. Only this project is asked.
    ///
    /// # Errors
    /// [`Failure`] ends the run of this contender.
    async fn visit(&self) -> Result<u64, Failure> {
        Err(Failure::new("visit", "not offered"))
    }

    /// Follows the log from its end on and reports each event. Never returns but for a failure; it is dropped.
    ///
    /// # Errors
    /// [`Failure`] ends the run of this contender.
    async fn follow(&self, seen: &Seen) -> Result<(), Failure> {
        let _ = seen;
        Err(Failure::new("follow", "not offered"))
    }

    /// Waits until the snapshots that are due are taken.
    ///
    /// # Errors
    /// [`Failure`] ends the run of this contender.
    async fn settle_snapshots(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Brings what was written to where it rests: compaction, snapshots that are due.
    ///
    /// # Errors
    /// [`Failure`] ends the run of this contender.
    async fn settle(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Bytes on disk outside of its directory: for a server that has its data elsewhere.
    ///
    /// # Errors
    /// [`Failure`] ends the run of this contender.
    async fn bytes_elsewhere(&self) -> Result<u64, Failure> {
        Ok(0)
    }

    /// Closes it; once it is dropped, its directory can be removed.
    ///
    /// # Errors
    /// [`Failure`] ends the run of this contender.
    async fn close(&self) -> Result<(), Failure> {
        Ok(())
    }
}
