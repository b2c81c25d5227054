//! Opening: finds the end of the log, and distinguishes a torn end from damage.
//!
//! A frame is written only after the frame before it was synced, and has its checksum. So only the last frame can be
//! torn. An invalid frame before a valid one is damage, and so is an end before the high-water mark.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use es_core::Position;
use es_core::model::LogId;

use crate::active::{Active, SegmentInfo, read_trailer};
use crate::catalog::Head;
use crate::compressed;
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, OpenError};
use crate::frame::{Frame, FrameHeader, Place};
use crate::layout::{
    BLOCK_EVENTS, COMPRESSED_VERSION, FRAME_HEADER_LEN, MARK_FILE, RECORD_HEAD_LEN, SEGMENT_HEADER_LEN,
};
use crate::mark::{self, Mark, MarkFile};
use crate::record::Body;
use crate::scan::{Chain, READ_LEN, Rest, Window, read_frame, search};
use crate::segment::{self, HeaderError, SegmentHeader, Trailer};
use crate::spare;

/// The log as it was found, ready for the next frame.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) end: LogEnd,
    pub(crate) mark: MarkFile,
    /// How many times the log was opened, this time included.
    pub(crate) opens: u64,
}

/// The segments, and the end of the log.
#[derive(Debug)]
pub(crate) struct LogEnd {
    pub(crate) sealed: Vec<SegmentInfo>,
    pub(crate) active: Active,
    pub(crate) chain: Chain,
    /// The open count of the last frame; 0 if it is not known.
    opens: u64,
    /// The number of bytes after the last frame that were removed.
    pub(crate) removed_bytes: u64,
}

/// The values for a log that is created.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Creation {
    /// The id, which an existing log must have; `None` for any.
    pub(crate) log_id: Option<LogId>,
    pub(crate) base_time: i64,
    /// The sizes of the first and of the largest segment.
    pub(crate) sizes: (u32, u32),
}

/// Opens the log in a directory, or creates it. The caller has the lock.
pub(crate) fn recover(disk: &dyn Disk, directory: &Path, creation: Creation) -> Result<Recovered, OpenError> {
    Recovery { disk, directory, creation, use_of: Use::Writing }.run()
}

/// The end of a log that is only read.
pub(crate) struct ReadEnd {
    pub(crate) sealed: Vec<SegmentInfo>,
    /// The header of the segment after the sealed ones, which may not exist.
    pub(crate) header: SegmentHeader,
    /// Where the frames of that segment end, and the offsets of its events.
    pub(crate) end: u64,
    pub(crate) offsets: Vec<u32>,
    pub(crate) head: Head,
    /// How many times the log was opened.
    pub(crate) opens: u64,
}

/// Finds the end of the log in a directory, which another process may write. Writes nothing.
pub(crate) fn read_end(disk: &dyn Disk, directory: &Path) -> Result<ReadEnd, OpenError> {
    let creation = Creation { log_id: None, base_time: 0, sizes: (0, 0) };
    Recovery { disk, directory, creation, use_of: Use::Reading }.read_end()
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    creation: Creation,
    use_of: Use,
}

/// What the files are opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Writing,
    Reading,
}

impl Recovery<'_> {
    fn run(&self) -> Result<Recovered, OpenError> {
        self.remove_spares()?;
        let numbers = self.segments()?;
        let (mut mark_file, mark) = self.mark(!numbers.is_empty())?;
        let end = match self.headers(&numbers)? {
            None => self.create(mark)?,
            Some((sealed, last)) => self.open_last(sealed, &last, mark)?,
        };
        // A rename whose sync failed is on disk from now on.
        self.disk.sync_directory(self.directory).map_err(|error| self.io("sync", "", error))?;
        let opens = mark.opens.max(end.opens) + 1;
        let raised = Mark { frame: end.chain.frame - 1, head: end.chain.position - 1, opens };
        mark_file.settle(raised).map_err(|error| self.io("write", MARK_FILE, error))?;
        Ok(Recovered { end, mark: mark_file, opens })
    }

    /// Creates the first segment.
    fn create(&self, mark: Mark) -> Result<LogEnd, OpenError> {
        let log_id = self.creation.log_id.unwrap_or_else(LogId::new);
        let place = Place { log_id, segment: 1, base_time: self.creation.base_time };
        let chain = Chain { frame: 1, position: 1, previous: Some(0) };
        check_mark(mark, chain)?;
        let active = self.create_segment(place, chain)?;
        Ok(LogEnd { sealed: Vec::new(), active, chain, opens: 0, removed_bytes: 0 })
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.directory.to_owned() } else { self.directory.join(name) }
    }

    fn io(&self, operation: &'static str, name: &str, source: io::Error) -> OpenError {
        OpenError::Io { operation, path: self.path(name), source }
    }

    /// Removes spare segments, which may not be filled.
    fn remove_spares(&self) -> Result<(), OpenError> {
        for spare in self.names()?.iter().filter(|name| segment::is_spare(name)) {
            self.disk.remove(&self.path(spare)).map_err(|error| self.io("remove", spare, error))?;
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, OpenError> {
        self.disk.names(self.directory).map_err(|error| self.io("list", "", error))
    }

    /// Returns the numbers of the segments in order.
    fn segments(&self) -> Result<Vec<u32>, OpenError> {
        let names = self.names()?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| segment::number_of(name)).collect();
        numbers.sort_unstable();
        let missing = (1..).zip(&numbers).find(|(expected, found)| expected != *found);
        match missing {
            Some((expected, _)) => {
                let reason = "expected a segment, found no file".to_owned();
                Err(OpenError::Damaged(Damage {
                    file: segment::file_name(expected),
                    offset: 0,
                    position: None,
                    reason,
                }))
            }
            None => Ok(numbers),
        }
    }

    /// Opens the mark, or creates it with the log.
    fn mark(&self, has_segments: bool) -> Result<(MarkFile, Mark), OpenError> {
        let failed = |error| self.io("open", MARK_FILE, error);
        let missing = OpenError::MarkMissing { file: self.path(MARK_FILE).display().to_string() };
        match MarkFile::open(self.disk, self.directory) {
            Ok((file, Some(mark))) => return Ok((file, mark)),
            Ok((_, None)) if has_segments => return Err(missing),
            // The process ended while it created the log.
            Ok((_, None)) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && has_segments => return Err(missing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let file = MarkFile::create(self.disk, self.directory).map_err(failed)?;
        // ORDER: the mark is on disk before the first segment, so that a log without a mark is damaged.
        self.disk.sync_directory(self.directory).map_err(failed)?;
        Ok((file, Mark::default()))
    }

    /// Reads the headers and trailers of all segments. Returns the last one apart; `None` without segments.
    fn headers(&self, numbers: &[u32]) -> Result<Option<(Vec<SegmentInfo>, OpenSegment)>, OpenError> {
        let mut sealed = Vec::new();
        let mut last: Option<OpenSegment> = None;
        for number in numbers {
            let next = self.open_segment(*number)?;
            if let Some(before) = last.replace(next) {
                self.check_adjacent(&before, last.as_ref())?;
                sealed.push(before.info);
            }
        }
        Ok(last.map(|last| (sealed, last)))
    }

    fn open_segment(&self, number: u32) -> Result<OpenSegment, OpenError> {
        let name = segment::file_name(number);
        let failed = |error| self.io("open", &name, error);
        let file = match self.use_of {
            Use::Writing => self.disk.open(&self.path(&name)),
            Use::Reading => self.disk.open_read_only(&self.path(&name)),
        };
        // Header and trailer are not compressed, and no more is read of a segment before the last one.
        let file = file.and_then(|file| compressed::content_of(file, number)).map_err(failed)?;
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        let read = file.read_at(&mut bytes, 0).map_err(|error| self.io("read", &name, error))?;
        let header = SegmentHeader::decode(bytes.get(..read).unwrap_or_default()).map_err(|error| match error {
            HeaderError::Format { found } => {
                OpenError::Format { file: name.clone(), expected: COMPRESSED_VERSION, found }
            }
            HeaderError::Damaged => damaged(number, 0, 0, "expected a segment header, found other bytes".to_owned()),
        })?;
        let (expected, found) = (self.creation.log_id, header.place.log_id);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(OpenError::OtherLog { expected, found });
        }
        if header.place.segment != number || (number == 1 && (header.first_frame, header.first_position) != (1, 1)) {
            let reason = format!("expected the header of segment {number}, found that of {}", header.place.segment);
            return Err(damaged(number, 0, 0, reason));
        }
        let trailer = read_trailer(&*file, &header).map_err(|error| self.io("read", &name, error))?;
        Ok(OpenSegment { file, info: SegmentInfo { header, trailer, rewrites: 0 } })
    }

    /// Checks that one segment begins where the one before it ends. A damaged trailer is found by a verification.
    fn check_adjacent(&self, before: &OpenSegment, next: Option<&OpenSegment>) -> Result<(), OpenError> {
        let (Some(trailer), Some(next)) = (before.info.trailer, next) else { return Ok(()) };
        let (before, header) = (before.info.header, next.info.header);
        let expected =
            (trailer.first_position + u64::from(trailer.events), before.first_frame + u64::from(trailer.frames));
        let found = (header.first_position, header.first_frame);
        if expected == found && header.place.log_id == before.place.log_id {
            return Ok(());
        }
        let reason = format!(
            "expected position {} and frame {} of log {}, found position {} and frame {} of log {}",
            expected.0, expected.1, before.place.log_id, found.0, found.1, header.place.log_id
        );
        Err(damaged(header.place.segment, 0, expected.0, reason))
    }

    /// Returns whether all blocks before a trailer are valid. A power failure while they are written can leave the
    /// trailer without them.
    fn has_blocks(&self, segment: &OpenSegment, trailer: &Trailer) -> Result<bool, OpenError> {
        let length = usize::try_from(segment.info.header.size - trailer.blocks).unwrap_or(usize::MAX);
        let mut window = Window::new(Arc::clone(&segment.file), length);
        let footer = window.at(trailer.blocks.into(), length, segment.info.header.size.into());
        let footer = footer.map_err(|error| self.read_error(&segment.info.header, error))?;
        let events = trailer.events as usize;
        let mut blocks =
            (0..events.div_ceil(BLOCK_EVENTS)).map(|index| footer.get(segment::block_range(index, events)));
        Ok(blocks.all(|block| block.and_then(segment::decode_block).is_some()))
    }

    /// Finds the end of the log in its last segment.
    fn open_last(&self, mut sealed: Vec<SegmentInfo>, last: &OpenSegment, mark: Mark) -> Result<LogEnd, OpenError> {
        let header = last.info.header;
        // A compressed one is on disk since it has its name: the last segment of a copy.
        let trailer = match last.info.trailer {
            Some(trailer) if header.is_compressed || self.has_blocks(last, &trailer)? => Some(trailer),
            _ => None,
        };
        if let Some(trailer) = trailer {
            // The process ended after it sealed the segment and before it created the next one.
            let chain = trailer.chain(&header);
            check_mark(mark, chain)?;
            if !header.is_compressed {
                self.rewrite(last, trailer.blocks.into(), u64::from(header.size - trailer.blocks))?;
            }
            sealed.push(last.info);
            let place = Place { segment: header.place.segment + 1, ..header.place };
            let active = self.create_segment(place, chain)?;
            return Ok(LogEnd { sealed, active, chain, opens: 0, removed_bytes: 0 });
        }
        let FoundEnd { active, chain, last_frame, rest } = self.find_end(&sealed, last)?;
        check_mark(mark, chain)?;
        self.clean(last, active.end, rest.end)?;
        if let Some(frame) = last_frame {
            let length = frame.length as u64;
            self.rewrite(last, active.end - length, length)?;
        }
        let opens = last_frame.map_or(0, |frame| frame.opens);
        let removed_bytes = rest.end - active.end;
        Ok(LogEnd { sealed, active, chain, opens, removed_bytes })
    }

    /// Reads the frames of the last segment, which is not sealed.
    fn find_end(&self, sealed: &[SegmentInfo], last: &OpenSegment) -> Result<FoundEnd, OpenError> {
        let header = last.info.header;
        let mut active = Active::empty(Arc::clone(&last.file), header);
        let previous = self.checksum_before(sealed)?;
        let mut chain = Chain { frame: header.first_frame, position: header.first_position, previous };
        let mut last_frame = None;
        loop {
            last_frame = self.read_frames(&mut active, &mut chain)?.or(last_frame);
            let rest = search(&last.file, active.end, header.size.into(), header.place);
            let rest = rest.map_err(|error| self.read_error(&header, error))?;
            let Some((offset, found)) = rest.frame else { return Ok(FoundEnd { active, chain, last_frame, rest }) };
            if self.use_of == Use::Reading {
                // Another process may have written the frame after it was read, and before the later one was found.
                let before = active.end;
                last_frame = self.read_frames(&mut active, &mut chain)?.or(last_frame);
                if active.end > before {
                    continue;
                }
            }
            let reason = format!(
                "expected frame {}, found none that is valid, but the later frame {} at offset {offset}",
                chain.frame, found.number
            );
            return Err(damaged(header.place.segment, active.end, chain.position, reason));
        }
    }

    /// Finds the end of a log that is only read.
    fn read_end(&self) -> Result<ReadEnd, OpenError> {
        // ORDER: the mark before the frames, so that another process cannot have raised it above them.
        let failed = |error| self.io("open", MARK_FILE, error);
        let mark = mark::read(self.disk, self.directory).map_err(failed)?;
        let missing = || failed(io::ErrorKind::NotFound.into());
        let (mut sealed, last) = self.headers(&self.segments()?)?.ok_or_else(missing)?;
        let mark = mark.ok_or_else(|| OpenError::MarkMissing { file: self.path(MARK_FILE).display().to_string() })?;
        let header = last.info.header;
        let (chain, header, end, offsets) = match last.info.trailer {
            Some(trailer) => {
                let chain = trailer.chain(&header);
                sealed.push(last.info);
                let place = Place { segment: header.place.segment + 1, ..header.place };
                let (first_position, first_frame) = (chain.position, chain.frame);
                let size = header.size;
                let next = SegmentHeader { place, first_position, first_frame, size, is_compressed: false };
                (chain, next, SEGMENT_HEADER_LEN as u64, Vec::new())
            }
            None => {
                let FoundEnd { active, chain, .. } = self.find_end(&sealed, &last)?;
                (chain, header, active.end, active.offsets)
            }
        };
        check_mark(mark, chain)?;
        let head = Head { frame: chain.frame - 1, position: chain.position - 1 };
        Ok(ReadEnd { sealed, header, end, offsets, head, opens: mark.opens })
    }

    fn read_error(&self, header: &SegmentHeader, error: io::Error) -> OpenError {
        self.io("read", &segment::file_name(header.place.segment), error)
    }

    /// Reads all valid frames of the last segment. Returns the header of the last one.
    fn read_frames(&self, active: &mut Active, chain: &mut Chain) -> Result<Option<FrameHeader>, OpenError> {
        let header = active.header;
        let mut window = Window::new(Arc::clone(&active.file), READ_LEN);
        let mut last = None;
        loop {
            let frame = read_frame(&mut window, active.end, header.size.into(), header.place);
            let Ok(frame) = frame.map_err(|error| self.read_error(&header, error))? else { return Ok(last) };
            let position = chain.position;
            let at_frame = |reason| damaged(header.place.segment, active.end, position, reason);
            chain.follow(&frame).map_err(at_frame)?;
            let (offsets, times) = events(&frame).map_err(at_frame)?;
            active.push(&frame, &offsets, times);
            last = Some(*frame.header());
        }
    }

    /// Returns the checksum of the last frame before the last segment; `None` if it is not known.
    fn checksum_before(&self, sealed: &[SegmentInfo]) -> Result<Option<u32>, OpenError> {
        let Some(before) = sealed.last() else { return Ok(Some(0)) };
        if let Some(trailer) = before.trailer {
            return Ok(Some(trailer.last_checksum));
        }
        // The trailer is damaged: the frames have the checksum.
        let segment = self.open_segment(before.header.place.segment)?;
        let mut window = Window::new(segment.file, READ_LEN);
        let (mut at, mut checksum) = (SEGMENT_HEADER_LEN as u64, None);
        loop {
            let frame = read_frame(&mut window, at, before.header.size.into(), before.header.place);
            match frame.map_err(|error| self.read_error(&before.header, error))? {
                Ok(frame) => (at, checksum) = (at + frame.bytes().len() as u64, Some(frame.header().link())),
                Err(_) => return Ok(checksum),
            }
        }
    }

    /// Writes zeros over the torn end of a segment, and completes a file that is too short.
    fn clean(&self, segment: &OpenSegment, end: u64, rest_end: u64) -> Result<(), OpenError> {
        let header = &segment.info.header;
        let name = segment::file_name(header.place.segment);
        let (file, size) = (&segment.file, u64::from(header.size));
        let clean = || {
            let length = file.length()?;
            if rest_end > end {
                file.write_zeros(end, rest_end - end)?;
            }
            if length < size {
                file.write_zeros(length, size - length)?;
            }
            if rest_end > end || length < size { file.sync() } else { Ok(()) }
        };
        clean().map_err(|error| self.io("clean the end of", &name, error))
    }

    /// Writes a range of a file again and syncs it. After a failed sync, the cache of the system can differ from the
    /// disk; what a reader has seen in the cache must be on disk.
    fn rewrite(&self, segment: &OpenSegment, offset: u64, length: u64) -> Result<(), OpenError> {
        let name = segment::file_name(segment.info.header.place.segment);
        let rewrite = || {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let mut window = Window::new(Arc::clone(&segment.file), length);
            let bytes = window.at(offset, length, offset + length as u64)?;
            segment.file.write_at(&bytes, offset)?;
            segment.file.sync()
        };
        rewrite().map_err(|error| self.io("rewrite the end of", &name, error))
    }

    fn create_segment(&self, place: Place, chain: Chain) -> Result<Active, OpenError> {
        let number = place.segment;
        let size = segment::size_of(number, self.creation.sizes);
        let (first_position, first_frame) = (chain.position, chain.frame);
        let header = SegmentHeader { place, first_position, first_frame, size, is_compressed: false };
        let create = || {
            let spare = spare::fill(self.disk, self.directory, number, size)?;
            Active::create(self.disk, self.directory, spare.file, header).map_err(io::Error::from)
        };
        create().map_err(|error| self.io("create", &segment::file_name(number), error))
    }
}

/// Checks that the log has everything that was acknowledged.
fn check_mark(mark: Mark, chain: Chain) -> Result<(), OpenError> {
    let found = chain.frame - 1;
    if mark.frame <= found {
        return Ok(());
    }
    Err(OpenError::AcknowledgedMissing { expected: mark.frame, head: mark.head, found })
}

/// The end of the frames of the last segment.
struct FoundEnd {
    active: Active,
    chain: Chain,
    last_frame: Option<FrameHeader>,
    rest: Rest,
}

/// A segment that exists.
struct OpenSegment {
    file: Arc<dyn DiskFile>,
    info: SegmentInfo,
}

fn damaged(segment: u32, offset: u64, position: u64, reason: String) -> OpenError {
    let file = segment::file_name(segment);
    OpenError::Damaged(Damage { file, offset, position: Position::new(position), reason })
}

/// The offsets of the events in a frame, and the times of the first and the last event.
pub(crate) type FrameEvents = (Vec<u32>, Option<(i64, i64)>);

/// Decodes all records of a frame. Returns the offsets and the times of its events.
///
/// # Errors
/// Why a record cannot be decoded.
pub(crate) fn events(frame: &Frame) -> Result<FrameEvents, String> {
    let (mut offsets, mut times, mut at) = (Vec::new(), None::<(i64, i64)>, FRAME_HEADER_LEN);
    for record in frame.batch().records() {
        let record = record.map_err(|error| error.to_string())?;
        let time = match record.body {
            Body::Event(event) => Some(event.recorded_at),
            Body::Tombstone(tombstone) => Some(tombstone.recorded_at),
            Body::Row(_) | Body::Key(_) | Body::Opaque(_) => None,
        };
        if let Some(time) = time {
            offsets.push(u32::try_from(at).unwrap_or(u32::MAX));
            times = Some((times.map_or(time, |(first, _)| first), time));
        }
        at += record.bytes.len().max(RECORD_HEAD_LEN);
    }
    Ok((offsets, times))
}
