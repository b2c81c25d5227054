//! [`ReadableLog`]: the reads of a log that is open for writing, or of one that was opened for reading only.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use es_core::Position;
use es_core::model::LogId;

use crate::catalog::{Catalog, OFFSET_BLOCKS};
use crate::disk::Disk;
use crate::error::{OpenError, ReadError, RewriteError};
use crate::frame::{Batch, Place};
use crate::layout::FRAME_HEADER_LEN;
use crate::reader::{LogReader, PointReader, one_in_memory};
use crate::record::Record;
use crate::recovery;
use crate::rewrite::{self, Rewritten};
use crate::segment;

/// The reads of a log. Cheap to clone.
///
/// A [`Log`](crate::Log) has one, whose head grows. One that was [opened](Self::open) alone is a snapshot.
#[derive(Debug, Clone)]
pub struct ReadableLog {
    catalog: Arc<Catalog>,
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// The place of the records of the first segment.
    place: Place,
}

impl ReadableLog {
    pub(crate) fn new(catalog: Arc<Catalog>, disk: Arc<dyn Disk>, directory: PathBuf, place: Place) -> Self {
        Self { catalog, disk, directory, place: Place { segment: 1, ..place } }
    }

    /// Opens a snapshot of the log in a directory, which another process may write. Takes no lock and writes nothing.
    ///
    /// The snapshot has all frames that were complete when this was called, and therefore all acknowledged commits.
    /// A frame that is torn, or is being written, is not part of it.
    ///
    /// Segments are opened when they are read, unless `disk` keeps them open. A segment that is rewritten meanwhile has
    /// tombstones then.
    ///
    /// # Errors
    /// As [`Log::open`](crate::Log::open), except [`OpenError::Locked`]. A directory without a log is
    /// [`OpenError::Io`] with [`NotFound`](std::io::ErrorKind::NotFound).
    pub fn open(directory: impl AsRef<Path>, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let directory = directory.as_ref().to_owned();
        let end = recovery::read_end(&*disk, &directory)?;
        let limits = (0, OFFSET_BLOCKS);
        let place = end.header.place;
        let active = (end.end, end.offsets.as_slice());
        let catalog = Arc::new(Catalog::new(end.sealed, end.header, active, end.head, limits));
        Ok(Self::new(catalog, disk, directory, place))
    }

    /// Returns whether no frame was written after the head, by this or by another process. Costs one small read.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn is_current(&self) -> io::Result<bool> {
        let number = self.catalog.sealed_count() + 1;
        let open = |number| match self.disk.open_read_only(&self.directory.join(segment::file_name(number))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        };
        let Some(active) = open(number)? else { return Ok(true) };
        let limit = self.catalog.segment(number).map_or(0, |segment| segment.limit);
        let mut next = [0; FRAME_HEADER_LEN];
        let read = active.read_at(&mut next, limit)?;
        let is_blank = next.get(..read).is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0));
        Ok(is_blank && open(number + 1)?.is_none())
    }

    /// Rewrites a sealed segment. The caller excludes other rewrites.
    pub(crate) fn rewrite(
        &self,
        segment: u32,
        is_unwanted: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> Result<Rewritten, RewriteError> {
        rewrite::rewrite(&self.catalog, &*self.disk, &self.directory, segment, is_unwanted)
    }

    /// Returns the id of the log.
    #[must_use]
    pub const fn log_id(&self) -> LogId {
        self.place.log_id
    }

    /// Returns the place of the records of the log, with the number of the first segment.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Returns the position of the last event that is on disk.
    #[must_use]
    pub fn head(&self) -> Option<Position> {
        Position::new(self.catalog.head().position)
    }

    /// Returns the number of the last frame that is on disk; 0 for none.
    #[must_use]
    pub fn last_frame(&self) -> u64 {
        self.catalog.head().frame
    }

    /// Returns a reader of the records from the event at this position on, up to the end that the log has now.
    #[must_use]
    pub fn read(&self, from: Position) -> LogReader {
        LogReader::new(Arc::clone(&self.catalog), Arc::clone(&self.disk), self.directory.clone(), from)
    }

    /// Returns a reader of all records after the event at this position, or of the whole log for `None`. Unlike
    /// [`read`](Self::read) it also returns changes of rows and keys that no event follows.
    #[must_use]
    pub fn read_after(&self, event: Option<Position>) -> LogReader {
        LogReader::after(Arc::clone(&self.catalog), Arc::clone(&self.disk), self.directory.clone(), event)
    }

    /// Returns the record of the event at this position, if it is in the newest frames, which are in memory.
    #[must_use]
    pub fn event_in_memory(&self, position: Position) -> Option<Batch> {
        one_in_memory(&self.catalog, position)
    }

    /// Returns where the record of the event at this position is: its segment is part of the checksum. `None` after the
    /// end.
    #[must_use]
    pub fn place_of(&self, position: Position) -> Option<Place> {
        (position.get() <= self.catalog.head().position)
            .then(|| self.catalog.segment_with(position.get()))
            .and_then(|number| self.catalog.segment(number))
            .map(|segment| segment.header.place)
    }

    /// Returns the record of the event at this position; `None` after the end. Costs one read of 4 KiB, or two if the
    /// offset is not cached; none for an event of the newest frames.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn event(&self, position: Position) -> Result<Option<Batch>, ReadError> {
        self.point_reader().event(position)
    }

    /// Returns a reader of events by position, for many of them.
    #[must_use]
    pub fn point_reader(&self) -> PointReader {
        PointReader::new(Arc::clone(&self.catalog), Arc::clone(&self.disk), self.directory.clone())
    }

    /// Returns the number of sealed segments. Their numbers begin with 1.
    #[must_use]
    pub fn sealed_segments(&self) -> u32 {
        self.catalog.sealed_count()
    }
}
