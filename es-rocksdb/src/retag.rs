//! Copies a log into an empty store and adds tags to its events: [`ReadOnlyStore::retag`].

use std::error::Error;

use es_core::model::{EventView, Tags};
use es_core::{Commit, CommitError, EventStore, LogRead, NewEvent, Position, RecordedEvent, StoreError};

use crate::open::directory;
use crate::{HiddenEvents, OpenError, ReadOnlyStore};

/// The maximum number of commits that are copied with one sync.
const BATCH_COMMITS: usize = 512;
/// The maximum size of the payloads that are copied with one sync; a larger commit is a batch of its own.
const BATCH_BYTES: usize = 8 << 20;

/// A function that returns the tags to add to an event.
type TagsOf<'a> = dyn FnMut(EventView<'_>) -> Result<Tags, Box<dyn Error + Send + Sync>> + Send + 'a;

impl ReadOnlyStore {
    /// Copies the log into an empty store, and adds to each event the tags that `tags` returns for it. An event keeps
    /// its recorded tags.
    ///
    /// Queries find an event only by its recorded tags. Use this after a field of an event became a tag, with
    /// [`current_tags`](es_core::schema::current_tags):
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// use es_core::prelude::*;
    /// use es_core::model::Tags;
    /// use es_core::schema::current_tags;
    /// use es_rocksdb::{ReadOnlyStore, RocksDbStore};
    ///
    /// #[derive(Serialize, Deserialize, Event)]
    /// #[event(name = "course-booked")]
    /// struct Booked {
    ///     #[event(tag)] // new
    ///     course: u64,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let (data, copy) = (directory.path().join("data"), directory.path().join("data.retagged"));
    /// # RocksDbStore::open(&data).await?.close().await?;
    /// let source = ReadOnlyStore::open(&data).await?;
    /// let target = RocksDbStore::open(&copy).await?;
    /// let retagged = source
    ///     .retag(&target, &mut |event| match event.stream().category_str() {
    ///         "booking" => Ok(current_tags::<Booked>(event)?),
    ///         _ => Ok(Tags::new()),
    ///     })
    ///     .await?;
    /// assert_eq!(retagged.events, 0);
    /// target.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The copy is that of an export and an import: positions, revisions, ids, times, keys, metadata and stamps are
    /// kept, hidden events become tombstones, and the copy has an id of its own. Rows are not copied: views are built
    /// again, snapshots are taken again, and a command id can run again.
    ///
    /// The copy has every event that the source has when this is called, also those that were appended after this
    /// snapshot. The source is locked against writers meanwhile, so stop the service first. Events that are appended to
    /// the source afterwards are not in the copy.
    ///
    /// # Errors
    /// - [`RetagError::NotEmpty`] if the target has events. Nothing is copied.
    /// - [`RetagError::Open`] if a process has the source open for writing, or if the source cannot be locked or opened
    ///   again. Nothing is copied.
    /// - [`RetagError::Tags`] if `tags` returns an error.
    /// - [`RetagError::Read`] if the source cannot be read.
    /// - [`RetagError::Commit`] if the target refuses a commit, for example because an event has too many tags.
    /// - [`RetagError::Moved`] if another writer appends to the target.
    ///
    /// After an error with which something is copied, the copy is incomplete: delete the target and call this again.
    pub async fn retag(&self, target: &dyn EventStore, tags: &mut TagsOf<'_>) -> Result<Retagged, RetagError> {
        if let Some(head) = target.head().await? {
            return Err(RetagError::NotEmpty { head });
        }
        // ORDER: the lock before the snapshot, so that no event is appended after it.
        let _lock = directory::lock(self.directory())?;
        let newer = self.refresh().await?;
        newer.as_ref().unwrap_or(self).copy_to(target, tags).await
    }

    async fn copy_to(&self, target: &dyn EventStore, tags: &mut TagsOf<'_>) -> Result<Retagged, RetagError> {
        let mut copy = Copy { target, batch: Batch::default(), summary: Retagged::default() };
        copy.summary.lost_claims = self.claims_of_hidden_events().await?.values().sum();
        let mut events = self.read_log_with_hidden(LogRead::all(), HiddenEvents::AsTombstones);
        while let Some(event) = events.next().await? {
            copy.add(event, tags).await?;
        }
        copy.write().await?;
        Ok(copy.summary)
    }
}

/// The result of [`ReadOnlyStore::retag`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Retagged {
    /// The number of copied events, without tombstones.
    pub events: u64,
    /// The number of events that have more tags than before.
    pub tagged: u64,
    /// The number of unique keys that hidden and removed events hold. The copy does not claim them, because the source
    /// does not know them.
    pub lost_claims: u64,
}

/// A log could not be copied with tags.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetagError {
    /// The target has events. Use an empty store.
    #[error("expected an empty store to copy to, found events up to position {head}; use a new directory")]
    NotEmpty {
        /// The position of the last event of the target.
        head: Position,
    },
    /// The source could not be locked, or not be opened for its last events. The variants of [`OpenError`] document how
    /// to continue.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The tags of an event could not be computed.
    #[error("could not compute the tags of the event at position {position}")]
    Tags {
        /// The position of the event.
        position: Position,
        /// The error of the function.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The source or the target could not be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// A commit could not be written.
    #[error("could not copy the commit of the event at position {position}")]
    Commit {
        /// The position of its last event.
        position: Position,
        /// The error of the target.
        source: CommitError,
    },
    /// An event has another position in the copy. Delete the copy, and begin again while no other process writes to it.
    #[error(
        "expected the copy of an event at position {expected}, found it at {found:?}: another writer uses the copy"
    )]
    Moved {
        /// The position in the source.
        expected: Position,
        /// The position in the target.
        found: Option<Position>,
    },
}

/// A copy that is being written.
struct Copy<'a> {
    target: &'a dyn EventStore,
    batch: Batch,
    summary: Retagged,
}

/// Commits that are not written yet.
#[derive(Default)]
struct Batch {
    /// The commits, each with the position of its last event.
    commits: Vec<(Position, Commit)>,
    /// The commit whose events are not complete.
    incomplete: Option<Commit>,
    bytes: usize,
}

impl Copy<'_> {
    async fn add(&mut self, event: RecordedEvent, tags: &mut TagsOf<'_>) -> Result<(), RetagError> {
        let (position, part) = (event.position, event.part);
        let commit = self.batch.incomplete.take().unwrap_or_else(|| Commit::new().recorded_at(event.recorded_at));
        self.batch.bytes += event.data.payload.len();
        let commit = if event.is_removed() {
            commit.append_removed(event.stream, event.data.id)
        } else {
            let added = tags(EventView::from(&event)).map_err(|source| RetagError::Tags { position, source })?;
            let RecordedEvent { stream, occurred_at, mut data, .. } = event;
            let before = data.tags.len();
            data.tags.extend(added);
            self.summary.events += 1;
            self.summary.tagged += u64::from(data.tags.len() > before);
            commit.append(stream, NewEvent { data, occurred_at: Some(occurred_at) })
        };
        if part.index + 1 < part.size {
            self.batch.incomplete = Some(commit);
            return Ok(());
        }
        self.batch.commits.push((position, commit));
        if self.batch.commits.len() >= BATCH_COMMITS || self.batch.bytes >= BATCH_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), RetagError> {
        let (positions, commits): (Vec<_>, Vec<_>) = std::mem::take(&mut self.batch).commits.into_iter().unzip();
        let results = self.target.commit_all(commits).await;
        for (position, result) in positions.into_iter().zip(results) {
            let committed = result.map_err(|source| RetagError::Commit { position, source })?;
            let found = committed.position();
            if found != Some(position) {
                return Err(RetagError::Moved { expected: position, found });
            }
        }
        Ok(())
    }
}
