//! [`LogBuilder`]: writes a log of sealed segments from the frames of another log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use es_core::Position;
use es_core::model::LogId;

use crate::compressed;
use crate::disk::Disk;
use crate::frame::{self, EntryKind, Frame, FrameHeader, Place};
use crate::layout::{FRAME_HEADER_LEN, SEGMENT_HEADER_LEN};
use crate::mark::{Mark, MarkFile};
use crate::reader::with_source;
use crate::recovery::events;
use crate::scan::Chain;
use crate::segment::{self, SegmentHeader, Trailer};

/// Writes a log of sealed segments: a copy with another id, or one without damaged frames. Frames get new numbers and
/// new links. Records keep their segment and position, which their checksums cover.
///
/// A segment is in memory until the next one begins.
#[derive(Debug)]
pub struct LogBuilder {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    place: Place,
    chain: Chain,
    opens: u64,
    segment: Option<SegmentContent>,
}

/// The records of a frame, and the fields of its header that are kept.
#[derive(Debug, Clone, Copy)]
pub struct FrameDraft<'a> {
    /// The number of commits; 0 without records.
    pub commits: u32,
    /// The term of a Raft entry; 0 without consensus.
    pub term: u64,
    /// The open count.
    pub opens: u64,
    /// The purpose. A frame without records is blank.
    pub kind: EntryKind,
    /// Whether records were removed from the frame since it was written.
    pub is_rewritten: bool,
    /// The records with their lengths, one after the other.
    pub records: &'a [u8],
    /// The number of records.
    pub count: u32,
}

#[derive(Debug)]
struct SegmentContent {
    header: SegmentHeader,
    bytes: Vec<u8>,
    offsets: Vec<u32>,
    frames: u32,
    times: Option<(i64, i64)>,
}

impl LogBuilder {
    /// Creates a log in a directory without files.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(directory: &Path, disk: Arc<dyn Disk>, log_id: LogId, base_time: i64) -> io::Result<Self> {
        disk.create_directory(directory)?;
        let place = Place { log_id, segment: 0, base_time };
        let chain = Chain { frame: 1, position: 1, previous: Some(0) };
        Ok(Self { disk, directory: directory.to_owned(), place, chain, opens: 0, segment: None })
    }

    /// Returns the position of the next event.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.chain.position).unwrap_or(Position::FIRST)
    }

    /// Writes the segment and begins the next one, which is not compressed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn begin_segment(&mut self) -> io::Result<()> {
        self.begin_segment_as(false)
    }

    pub(crate) fn begin_segment_as(&mut self, is_compressed: bool) -> io::Result<()> {
        self.seal()?;
        self.place.segment += 1;
        let (first_position, first_frame) = (self.chain.position, self.chain.frame);
        let header = SegmentHeader { place: self.place, first_position, first_frame, size: 0, is_compressed };
        let bytes = vec![0; SEGMENT_HEADER_LEN];
        self.segment = Some(SegmentContent { header, bytes, offsets: Vec::new(), frames: 0, times: None });
        Ok(())
    }

    /// Adds a frame to the segment. The records must have valid checksums for their positions.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the records are not valid at this position of this segment.
    pub fn frame(&mut self, draft: &FrameDraft<'_>) -> io::Result<()> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let Some(segment) = &mut self.segment else { return Err(invalid("expected a segment, found none".to_owned())) };
        let is_blank = draft.count == 0;
        let header = FrameHeader {
            checksum: 0,
            length: 0,
            commits: if is_blank { 0 } else { draft.commits },
            records: draft.count,
            number: self.chain.frame,
            first_position: Position::new(self.chain.position).unwrap_or(Position::FIRST),
            term: draft.term,
            opens: draft.opens,
            previous: self.chain.previous.unwrap_or_default(),
            kind: if is_blank { EntryKind::Blank } else { draft.kind },
            // The next frame repeats it as its link. It may have any value.
            original: draft.is_rewritten.then_some(u32::from_be_bytes(*b"copy")),
        };
        let mut bytes = vec![0; FRAME_HEADER_LEN];
        bytes.extend_from_slice(draft.records);
        frame::complete(&mut bytes, header, &self.place, &mut Vec::new())
            .map_err(|error| invalid(with_source(&error)))?;
        let frame = Frame::verify(&bytes.into(), self.place).map_err(|error| invalid(with_source(&error)))?;
        self.chain.follow(&frame).map_err(invalid)?;
        let (offsets, times) = events(&frame).map_err(invalid)?;
        // A segment is smaller than 4 GiB.
        let start = u32::try_from(segment.bytes.len()).unwrap_or(u32::MAX);
        segment.offsets.extend(offsets.iter().map(|offset| start.saturating_add(*offset)));
        segment.bytes.extend_from_slice(frame.bytes());
        segment.frames += 1;
        if let Some((first, last)) = times {
            segment.times = Some((segment.times.map_or(first, |(first, _)| first), last));
        }
        self.opens = self.opens.max(draft.opens);
        Ok(())
    }

    /// Adds a copy of a frame.
    ///
    /// # Errors
    /// As [`frame`](Self::frame).
    pub fn copy(&mut self, frame: &Frame) -> io::Result<()> {
        let header = frame.header();
        self.frame(&FrameDraft {
            commits: header.commits,
            term: header.term,
            opens: header.opens,
            kind: header.kind,
            is_rewritten: header.original.is_some(),
            records: frame.bytes().get(FRAME_HEADER_LEN..).unwrap_or_default(),
            count: header.records,
        })
    }

    /// Writes the last segment and the high-water mark, and syncs the directory. `opens` is the least open count.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish(mut self, opens: u64) -> io::Result<()> {
        self.seal()?;
        let opens = self.opens.max(opens);
        let mark = Mark { frame: self.chain.frame - 1, head: self.chain.position - 1, opens };
        MarkFile::create(&*self.disk, &self.directory)?.settle(mark)?;
        self.disk.sync_directory(&self.directory)
    }

    fn seal(&mut self) -> io::Result<()> {
        let Some(SegmentContent { header, mut bytes, offsets, frames, times }) = self.segment.take() else {
            return Ok(());
        };
        let too_large = |_| io::Error::new(io::ErrorKind::InvalidData, "expected a segment below 4 GiB");
        let trailer = Trailer {
            first_position: header.first_position,
            last_position: self.chain.position.saturating_sub(1),
            times: times.unwrap_or_default(),
            frames,
            events: u32::try_from(offsets.len()).map_err(too_large)?,
            end: 0,
            blocks: 0,
            last_checksum: self.chain.previous.unwrap_or_default(),
        };
        let (plain, _) = segment::complete(&mut bytes, &offsets, header, trailer).map_err(too_large)?;
        if header.is_compressed {
            bytes = compressed::compress(&bytes, &plain)?;
        }
        let file = self.disk.create(&self.directory.join(segment::file_name(header.place.segment)))?;
        file.write_at(&bytes, 0)?;
        file.sync()
    }
}
