//! The interface between workloads and contenders: requests ([`Append`], [`Selection`], [`Task`]) and implementations
//! ([`Contender`], [`Opened`]).

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

use crate::domain::{self, Folded, Sample};
use crate::failure::Failure;

/// The role of a contender in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// This project.
    Ours,
    /// A limit of the engine or of the disk, without the work of an event store.
    Limit,
    /// An alternative that a user could choose.
    Peer,
}

/// The durability of an acknowledged append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk: survives a power failure.
    Synced,
    /// In the operating system: survives the end of the process.
    Buffered,
}

/// An operation that a contender may offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Durable appends, each with an expected revision if the contender supports it.
    Append,
    /// Buffered appends, otherwise as `Append`.
    AppendBuffered,
    /// Appends with the condition that no new event matches a tag (dynamic consistency boundary).
    AppendIf,
    /// Loads one stream, decoded and folded.
    Load,
    /// Loads one stream from a snapshot and the events after it.
    LoadSnapshot,
    /// Reads the whole log in order.
    ReadAll,
    /// Reads the events of one type in order.
    ReadType,
    /// Reads the events with one tag in order.
    ReadTag,
    /// Notifies a live subscriber of new events.
    Follow,
    /// Memory and disk per event, measured in a child process.
    Footprint,
    /// Appends while the log grows.
    Volume,
    /// Builds views of the log. Only this project is measured.
    Project,
    /// Runs sagas of external steps. A contender may offer nothing else.
    Sagas,
}

/// The number of steps of a saga: sagas are defined before they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SagaSteps {
    /// Two steps.
    Two,
    /// One hundred steps, for the time of one.
    Hundred,
}

impl SagaSteps {
    /// All numbers.
    pub const ALL: [Self; 2] = [Self::Two, Self::Hundred];

    /// Returns the number.
    #[must_use]
    pub fn count(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Hundred => 100,
        }
    }
}

/// The settings with which every contender is opened.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// When appends are acknowledged.
    pub durability: Durability,
    /// Bytes of a payload.
    pub payload: usize,
    /// The bytes that es-rocksdb writes to its log. The limits write records of as many.
    pub shape: Shape,
}

/// The bytes that es-rocksdb writes to its log for a commit: `commit + events * event`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes per commit.
    pub commit: usize,
    /// Bytes per event.
    pub event: usize,
}

/// One commit to append: events for one stream.
#[derive(Debug, Clone)]
pub struct Append {
    /// The number of the stream.
    pub stream: u64,
    /// The number of events in the stream, for the expected revision.
    pub expected: u64,
    /// The position of the last event in the stream; 0 for none.
    pub seen: u64,
    /// Whether the commit requires, instead of the expected revision, that no event after `seen` has the tag.
    pub conditional: bool,
    /// The events, at least one.
    pub events: Vec<Sample>,
}

/// The events of the log to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All events.
    All,
    /// The events of one type.
    Type(&'static str),
    /// The events with one tag.
    Tag(String),
}

/// The events that a live subscriber has received, with their times.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Vec<(u64, Instant)>>);

impl Seen {
    /// Records that the subscriber received an event with this payload.
    pub fn record(&self, payload: &[u8]) {
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

/// An implementation that can be measured.
#[async_trait]
pub trait Contender: Send + Sync {
    /// Returns a short name for tables and `--contender`.
    fn name(&self) -> &'static str;

    /// Returns one line with the version, the way it syncs, and other facts that a reader must know.
    fn about(&self) -> String;

    /// Returns the role in the comparison.
    fn role(&self) -> Role;

    /// Checks whether a task is offered.
    ///
    /// # Errors
    /// Returns the reason, in a few words, if it is not.
    fn offers(&self, task: Task) -> Result<(), &'static str>;

    /// Opens the contender in a directory, which it creates if needed.
    ///
    /// # Errors
    /// Returns a [`Failure`] that is reported; the contender is not run.
    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure>;
}

/// An open contender. A workload only calls the methods of tasks that it [offers](Contender::offers).
#[async_trait]
pub trait Opened: Send + Sync {
    /// Returns whether calls block the thread. Writers are then threads, otherwise tasks.
    fn blocks(&self) -> bool {
        false
    }

    /// Appends a commit with the durability of [`Setup`]. Returns the position of its last event, if there are
    /// positions.
    ///
    /// # Errors
    /// Returns a [`Failure`] that ends the run of this contender.
    async fn append(&self, append: Append) -> Result<u64, Failure>;

    /// Executes a command that appends one event to a new stream.
    ///
    /// # Errors
    /// Returns a [`Failure`] that ends the run of this contender.
    async fn command(&self, stream: u64, event: Sample) -> Result<(), Failure> {
        let append = Append { stream, expected: 0, seen: 0, conditional: false, events: vec![event] };
        self.append(append).await.map(|_| ())
    }

    /// Loads a stream, optionally from a snapshot, and decodes and folds its events.
    ///
    /// # Errors
    /// Returns a [`Failure`] that ends the run of this contender.
    async fn load(&self, stream: u64, from_snapshot: bool) -> Result<Folded, Failure> {
        let _ = (stream, from_snapshot);
        Err(Failure::new("load", "not offered"))
    }

    /// Reads the log in order and returns the number of events.
    ///
    /// # Errors
    /// Returns a [`Failure`] that ends the run of this contender.
    async fn read(&self, selection: Selection) -> Result<u64, Failure> {
        let _ = selection;
        Err(Failure::new("read", "not offered"))
    }

    /// Visits borrowed events of the whole log in order and returns their number. Only this project is measured.
    ///
    /// # Errors
    /// Returns a [`Failure`] that ends the run of this contender.
    async fn visit(&self) -> Result<u64, Failure> {
        Err(Failure::new("visit", "not offered"))
    }

    /// Executes a saga of external steps that run one after the other and return at once. Durable is what the contender
    /// needs to continue the saga after a crash. `name` names the instance.
    ///
    /// # Errors
    ///
    /// Returns the failure of the contender.
    async fn saga(&self, name: &str, steps: SagaSteps) -> Result<(), Failure> {
        let _ = (name, steps);
        Err(Failure::new("saga", "not offered"))
    }

    /// Follows the log from its end and records each event. The future only ends with a failure; the caller drops it.
    ///
    /// # Errors
    /// Returns a [`Failure`] that ends the run of this contender.
    async fn follow(&self, seen: &Seen) -> Result<(), Failure> {
        let _ = seen;
        Err(Failure::new("follow", "not offered"))
    }

    /// Waits until due snapshots are taken.
    ///
    /// # Errors
    /// Returns a [`Failure`] that ends the run of this contender.
    async fn settle_snapshots(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Brings the data into the form in which reads are fastest, and takes due snapshots.
    ///
    /// # Errors
    /// Returns a [`Failure`] that ends the run of this contender.
    async fn settle(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Brings the data into the form that takes the least space on disk.
    ///
    /// # Errors
    /// Returns a [`Failure`] that ends the run of this contender.
    async fn compact(&self) -> Result<(), Failure> {
        self.settle().await
    }

    /// Returns the bytes on disk outside the directory, for a server with a data directory of its own.
    ///
    /// # Errors
    /// Returns a [`Failure`] that ends the run of this contender.
    async fn bytes_outside_directory(&self) -> Result<u64, Failure> {
        Ok(0)
    }

    /// Closes the contender. After it is dropped, its directory can be removed.
    ///
    /// # Errors
    /// Returns a [`Failure`] that ends the run of this contender.
    async fn close(&self) -> Result<(), Failure> {
        Ok(())
    }
}
