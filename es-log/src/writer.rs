//! [`Writer`]: writes and syncs frames. Only the holder of the token uses it.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use es_core::Position;

use crate::active::{Active, WriteFailure};
use crate::catalog::Catalog;
use crate::disk::{DirectoryLock, Disk};
use crate::error::AppendError;
use crate::frame::{self, Frame, FrameError, FrameHeader, Place};
use crate::mark::{Mark, MarkFile};
use crate::open_frame::OpenFrame;
use crate::scan::Chain;
use crate::segment::{self, SegmentHeader};
use crate::spare::Spare;

/// When a commit is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on disk.
    #[default]
    Sync,
    /// When the operating system has it: it survives the end of the process, but not a power failure.
    Buffered,
}

/// What follows a write that failed before its sync, such as without disk space or without a file descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnWriteFailure {
    /// The commits of the frame fail. Later commits are written as soon as the cause is gone. This suits callers that
    /// decide on a commit without regard to earlier ones, or can undo a decision.
    #[default]
    Continue,
    /// The frame is kept and written again until that succeeds or the log is closed. Its commits, and those that were
    /// added after it, wait. Until then, further commits are refused with [`AppendError::Stalled`]. This suits callers
    /// that decide on a commit as if all earlier ones were written.
    Retry,
    /// Later commits fail with [`AppendError::Stopped`] until the log is opened again, for services that an operator
    /// restarts. Reads go on.
    Stop,
}

/// Writes and syncs frames.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
    pub(crate) lock: Box<dyn DirectoryLock>,
    pub(crate) durability: Durability,
    pub(crate) sizes: (u32, u32),
    pub(crate) opens: u64,
    pub(crate) active: Active,
    pub(crate) chain: Chain,
    pub(crate) mark: MarkFile,
    /// Whether a failure to write the mark has been reported.
    pub(crate) has_mark_failed: bool,
    pub(crate) spare: Arc<Spare>,
    pub(crate) catalog: Arc<Catalog>,
}

impl Writer {
    /// Writes a frame, syncs it, and makes it visible. Returns its header.
    ///
    /// ORDER: write, sync, high-water mark, publish. The caller answers the commits after that.
    ///
    /// # Errors
    /// [`AppendError::NotWritten`]: `open` is as it was and may be written again, or the next frame may be written.
    /// [`AppendError::DirectoryReplaced`] and [`AppendError::Record`]: the next frame may be written.
    /// [`AppendError::SyncFailed`]: no further frame may be written.
    pub(crate) fn write(&mut self, open: &mut OpenFrame) -> Result<FrameHeader, AppendError> {
        if !self.lock.is_in_place() {
            return Err(AppendError::DirectoryReplaced);
        }
        let events = open.events as usize;
        if !self.active.has_space(open.bytes.len(), events) {
            let size = Active::size_for(open.bytes.len(), events);
            self.start_segment(size).map_err(append_error)?;
        }
        let start = self.active.end;
        let (header, offsets) = self.complete(open)?;
        self.active.file.write_at(&open.bytes, start).map_err(|error| append_error(WriteFailure::Write(error)))?;
        if self.durability == Durability::Sync {
            self.active.file.sync().map_err(|error| append_error(WriteFailure::Sync(error)))?;
        }
        let events = u32::try_from(offsets.len()).unwrap_or(u32::MAX);
        let bytes = Bytes::from(std::mem::take(&mut open.bytes));
        let frame = Frame::completed(bytes, header, self.active.header.place, events);
        self.active.push(&frame, &offsets, open.times);
        self.chain = Chain { frame: header.number + 1, position: frame.next_position(), previous: Some(header.link()) };
        if self.durability == Durability::Sync {
            self.raise_mark();
        }
        self.catalog.publish(frame, start, offsets);
        self.request_spare();
        Ok(header)
    }

    /// Completes the bytes of a frame. Returns its header and the offset of each event.
    fn complete(&self, open: &mut OpenFrame) -> Result<(FrameHeader, Vec<u32>), AppendError> {
        let first_position = Position::new(self.chain.position).unwrap_or(Position::FIRST);
        let header = FrameHeader {
            checksum: 0,
            length: open.bytes.len(),
            commits: open.commits,
            records: open.records,
            number: self.chain.frame,
            first_position,
            term: 0,
            opens: self.opens,
            previous: self.chain.previous.unwrap_or_default(),
            kind: open.kind,
            original: None,
        };
        let mut offsets = Vec::new();
        let header = frame::complete(&mut open.bytes, header, &self.active.header.place, &mut offsets);
        let header = header.map_err(|error| match error {
            FrameError::Record { source, .. } => AppendError::Record(source),
            error => append_error(WriteFailure::Write(std::io::Error::other(error))),
        })?;
        Ok((header, offsets))
    }

    /// Seals the active segment and starts the next one, with at least this size.
    ///
    /// ORDER: the spare segment first. It needs disk space and a file descriptor, and can fail without a change.
    fn start_segment(&mut self, least: u64) -> Result<(), WriteFailure> {
        let before = self.active.header;
        let number = before.place.segment + 1;
        let least = u32::try_from(least).map_err(|_| WriteFailure::Write(std::io::ErrorKind::FileTooLarge.into()))?;
        let size = segment::size_of(number, self.sizes).max(least);
        let spare = self.spare.take(number, size).map_err(WriteFailure::Write)?;
        // ORDER: from here on no frame may follow in this segment, whether or not the next one can be created: recovery
        // takes the trailer for the end.
        self.active.is_sealing = true;
        let sealed = self.active.seal(self.chain.previous.unwrap_or_default())?;
        let place = Place { segment: number, ..before.place };
        let (first_position, first_frame) = (self.chain.position, self.chain.frame);
        let header = SegmentHeader { place, first_position, first_frame, size: spare.size, is_compressed: false };
        self.active = Active::create(&*self.disk, &self.directory, spare.file, header)?;
        self.catalog.start_segment(sealed, header);
        Ok(())
    }

    /// Seals the active segment, unless it has no frame.
    pub(crate) fn seal(&mut self) -> Result<(), WriteFailure> {
        if self.active.frames == 0 { Ok(()) } else { self.start_segment(0) }
    }

    /// Requests the next segment when a quarter of this one is used, so that it is ready in time, and a log with few
    /// events does not write more zeros than needed.
    fn request_spare(&self) {
        if self.active.end > u64::from(self.active.header.size / 4) {
            let number = self.active.header.place.segment + 1;
            self.spare.request(number, segment::size_of(number, self.sizes));
        }
    }

    /// Raises the high-water mark to the last frame. After a failure the mark is too low, which is allowed.
    fn raise_mark(&mut self) {
        let (frame, head) = (self.chain.frame - 1, self.chain.position - 1);
        if let Err(error) = self.mark.write(Mark { frame, head, opens: self.opens })
            && !std::mem::replace(&mut self.has_mark_failed, true)
        {
            tracing::warn!(%error, "could not write the high-water mark of the log; commits are not affected");
        }
    }

    /// Brings the high-water mark up to date and waits until it is on disk.
    ///
    /// # Errors
    /// Those of a sync.
    pub(crate) fn finish(&mut self) -> std::io::Result<()> {
        if self.durability == Durability::Buffered {
            self.active.file.sync()?;
        }
        self.raise_mark();
        self.mark.sync()
    }
}

/// Returns the error of a commit for a failure.
pub(crate) fn append_error(failure: WriteFailure) -> AppendError {
    match failure {
        WriteFailure::Write(error) => AppendError::NotWritten { source: Arc::new(error) },
        WriteFailure::Sync(error) => AppendError::SyncFailed { source: Arc::new(error) },
    }
}
