//! [`ReadableLog`]: the reads of a log that is open for writing, or of one that was opened for reading only.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use es_core::Position;
use es_core::model::LogId;

use crate::builder::LogBuilder;
use crate::catalog::{Catalog, Head, OFFSET_BLOCKS};
use crate::compressed;
use crate::disk::Disk;
use crate::error::{Damage, OpenError, ReadError, RewriteError};
use crate::frame::{Batch, Place};
use crate::layout::{FRAME_HEADER_LEN, SEGMENT_HEADER_LEN};
use crate::mark::{Mark, MarkFile};
use crate::reader::{LogReader, PointReader, with_source};
use crate::record::Record;
use crate::recovery;
use crate::rewrite::{self, Form, Rewritten};
use crate::scan::{READ_LEN, Window, read_frame};
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
    opens: u64,
}

/// A file of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    /// The number of the segment, from 1.
    pub number: u32,
    /// The name of the file.
    pub name: String,
    /// Whether the segment is sealed. The content of a sealed segment never changes; a rewrite replaces the file.
    pub is_sealed: bool,
    /// Whether the content is compressed.
    pub is_compressed: bool,
}

impl ReadableLog {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        place: Place,
        opens: u64,
    ) -> Self {
        Self { catalog, disk, directory, place: Place { segment: 1, ..place }, opens }
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
        Ok(Self::new(catalog, disk, directory, place, end.opens))
    }

    /// Returns the files of the segments, in order. The last one is not sealed, and is missing if it has no frame.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentFile> {
        let sealed = self.catalog.sealed_count();
        let active = self.catalog.segment(sealed + 1).filter(|segment| segment.events != Some(0) || self.has_active());
        let last = sealed + u32::from(active.is_some());
        let file = |number| SegmentFile {
            number,
            name: segment::file_name(number),
            is_sealed: number <= sealed,
            is_compressed: self.is_compressed(number),
        };
        (1..=last).map(file).collect()
    }

    /// Returns whether a segment is compressed.
    #[must_use]
    pub fn is_compressed(&self, number: u32) -> bool {
        self.catalog.segment(number).is_some_and(|segment| segment.header.is_compressed)
    }

    /// Returns whether there is a file of the segment after the sealed ones.
    fn has_active(&self) -> bool {
        let name = segment::file_name(self.catalog.sealed_count() + 1);
        self.disk.open_read_only(&self.directory.join(name)).is_ok()
    }

    /// Calls `take` with the bytes of the file of a segment, in order: all bytes of a sealed one, those up to the last
    /// frame of another one.
    ///
    /// # Errors
    /// Those of the file system, and those of `take`.
    pub fn read_segment(&self, number: u32, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let path = self.directory.join(segment::file_name(number));
        let file = self.disk.open_read_only(&path)?;
        let is_sealed = number <= self.catalog.sealed_count();
        let end = match self.catalog.segment(number) {
            Some(segment) if !is_sealed => segment.limit,
            _ => file.length()?,
        };
        let mut buffer = vec![0; READ_LEN];
        let mut at = 0;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(READ_LEN).min(READ_LEN);
            let read = file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            take(buffer.get(..read).unwrap_or_default())?;
            at += read as u64;
        }
        Ok(())
    }

    /// Writes the high-water mark of this log, up to its head, to another directory, which gets the segments.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_mark(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        let Head { frame, position: head } = self.catalog.head();
        MarkFile::create(disk, directory)?.settle(Mark { frame, head, opens: self.opens })
    }

    /// Copies the log to a directory without files, with another id. Compressed segments stay compressed. `copied` is
    /// called after each segment.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if a frame is not valid; [`ReadError::Io`] if a read or a write fails.
    pub fn copy_with_id(
        &self,
        directory: &Path,
        disk: Arc<dyn Disk>,
        log_id: LogId,
        mut copied: impl FnMut(u32),
    ) -> Result<(), ReadError> {
        let failed = |source| ReadError::Io { path: directory.to_owned(), source };
        let mut builder = LogBuilder::create(directory, disk, log_id, self.place.base_time).map_err(failed)?;
        for SegmentFile { number, name, is_compressed, .. } in self.segments() {
            let Some(segment) = self.catalog.segment(number) else { continue };
            builder.begin_segment_as(is_compressed).map_err(failed)?;
            let path = self.directory.join(&name);
            let io = |source| ReadError::Io { path: path.clone(), source };
            let content = compressed::open(&*self.disk, &self.directory, number).map_err(io)?;
            let mut window = Window::new(content, READ_LEN);
            let mut at = SEGMENT_HEADER_LEN as u64;
            while at < segment.limit {
                let frame = read_frame(&mut window, at, segment.limit, segment.header.place).map_err(io)?;
                let frame = frame.map_err(|error| {
                    let position = Some(builder.position());
                    ReadError::Damaged(Damage { file: name.clone(), offset: at, position, reason: with_source(&error) })
                })?;
                builder.copy(&frame).map_err(failed)?;
                at += frame.bytes().len() as u64;
            }
            copied(number);
        }
        builder.finish(self.opens).map_err(failed)
    }

    /// Returns how many times the log was opened for writing. No two openings have the same number.
    #[must_use]
    pub const fn opens(&self) -> u64 {
        self.opens
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
        form: Form,
        is_unwanted: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> Result<Rewritten, RewriteError> {
        rewrite::rewrite(&self.catalog, &*self.disk, &self.directory, (segment, form), is_unwanted)
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

    /// Returns a reader of all records after the frame with this number, as [`read_after`](Self::read_after) does.
    /// `event` is the position of the last event up to this frame; with another one, the reads fail.
    #[must_use]
    pub fn read_after_frame(&self, frame: u64, event: Option<Position>) -> LogReader {
        let (catalog, disk) = (Arc::clone(&self.catalog), Arc::clone(&self.disk));
        LogReader::after_frame(catalog, disk, self.directory.clone(), frame, event)
    }

    /// Returns the record of the event at this position, if it is in the newest frames, which are in memory.
    #[must_use]
    pub fn event_in_memory(&self, position: Position) -> Option<Batch> {
        self.catalog.event(position)
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
    /// offset is not cached; none for an event of the newest frames. In a compressed segment, each of them decompresses
    /// 16 KiB.
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
