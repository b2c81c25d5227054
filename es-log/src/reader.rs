//! [`LogReader`]: reads the log in order, from memory or with large reads from the segments. [`PointReader`]: reads
//! single events.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use es_core::Position;

use crate::catalog::{BlockOffsets, Catalog, Head, OFFSET_STEP, ReadSegment};
use crate::compressed;
use crate::disk::Disk;
use crate::error::{Damage, ReadError};
use crate::frame::{Batch, FrameHeader, Place};
use crate::layout::{BLOCK_EVENTS, FRAME_HEADER_LEN, FRAME_MAGIC, SEGMENT_HEADER_LEN};
use crate::record;
use crate::scan::{Chain, READ_LEN, ReadLens, Window, read_frame};
use crate::segment;

/// The number of bytes that a look-up of one event reads.
const LOOK_UP_LEN: usize = 4096;
/// The numbers of bytes that look-ups of several events read.
const POINT_READ: ReadLens = ReadLens { least: LOOK_UP_LEN / 2, most: 64 * 1024 };

/// Reads the records of a log in order, up to the end that the log had when the reader was created.
#[derive(Debug)]
pub struct LogReader {
    catalog: Arc<Catalog>,
    files: Files,
    end: Head,
    next: u64,
    /// Records before this position are skipped.
    from: u64,
    /// Whether all rows and keys are returned, also those before the next event.
    has_changes: bool,
    /// The number of the next frame; `None` in the middle of a frame.
    next_frame: Option<u64>,
    cursor: Option<SegmentCursor>,
}

/// Where the segments are.
#[derive(Debug, Clone)]
struct Files {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
}

/// A place in a segment.
#[derive(Debug)]
struct SegmentCursor {
    window: Window,
    segment: ReadSegment,
    at: u64,
    /// The checksum of the frame before `at`, if it is known.
    previous: Option<u32>,
}

impl LogReader {
    pub(crate) fn new(catalog: Arc<Catalog>, disk: Arc<dyn Disk>, directory: PathBuf, from: Position) -> Self {
        let end = catalog.head();
        let (next, from) = (from.get(), from.get());
        Self {
            catalog,
            files: Files { disk, directory },
            end,
            next,
            from,
            has_changes: false,
            next_frame: None,
            cursor: None,
        }
    }

    /// Returns a reader of all records after an event; of the whole log for `None`.
    pub(crate) fn after(
        catalog: Arc<Catalog>,
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        event: Option<Position>,
    ) -> Self {
        // The rows and keys after the event have its frame or a later one, perhaps without an event. So the reader
        // starts at the event, which it skips.
        let reader = Self::new(catalog, disk, directory, event.unwrap_or(Position::FIRST));
        Self {
            from: Position::following(event).get(),
            next_frame: event.is_none().then_some(1),
            has_changes: true,
            ..reader
        }
    }

    /// Returns a reader of all records after a frame, up to which `event` is the last event.
    pub(crate) fn after_frame(
        catalog: Arc<Catalog>,
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        frame: u64,
        event: Option<Position>,
    ) -> Self {
        let reader = Self::new(catalog, disk, directory, Position::following(event));
        Self { next_frame: Some(frame + 1), has_changes: true, ..reader }
    }

    /// Returns the position of the next event.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.next).unwrap_or(Position::FIRST)
    }

    /// Returns the next records, which belong to one frame; `None` at the end. Blank frames are skipped.
    ///
    /// # Errors
    /// [`ReadError`]. The next call tries again.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, ReadError> {
        loop {
            match self.next_frame {
                Some(frame) if frame > self.end.frame => return Ok(None),
                // The rest of the frame of the last event can have changes.
                None if self.next > self.end.position && !(self.has_changes && self.cursor.is_some()) => {
                    return Ok(None);
                }
                _ => {}
            }
            let Some(batch) = self.next_from_memory().map_or_else(|| self.next_from_disk(), |batch| Ok(Some(batch)))?
            else {
                continue;
            };
            if !batch.bytes().is_empty() {
                return Ok(Some(batch.starting_at(self.from)));
            }
        }
    }

    /// Returns the next records if their frame is in memory, as [`next_batch`](Self::next_batch) does, without
    /// blocking.
    pub fn next_batch_in_memory(&mut self) -> Option<Batch> {
        while self.next <= self.end.position {
            let batch = self.next_from_memory()?;
            if !batch.bytes().is_empty() {
                return Some(batch.starting_at(self.from));
            }
        }
        None
    }

    fn next_from_memory(&mut self) -> Option<Batch> {
        let frame = match self.next_frame {
            Some(number) => self.catalog.frame(number)?,
            // In the middle of a frame of a segment, its rest is read from there.
            None if self.cursor.is_some() => return None,
            None => self.catalog.frame_with(self.next)?,
        };
        self.cursor = None;
        self.next_frame = Some(frame.header().number + 1);
        let batch = frame.batch();
        self.next = frame.next_position();
        Some(batch)
    }

    /// Reads a frame, or the rest of one; `None` if the next segment follows.
    fn next_from_disk(&mut self) -> Result<Option<Batch>, ReadError> {
        let mut cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => self.open_at()?,
        };
        if cursor.at >= cursor.segment.limit {
            return self.next_segment(&cursor).map(|()| None);
        }
        let batch = if self.next_frame.is_some() {
            let Some(batch) = self.whole_frame(&mut cursor)? else { return self.next_segment(&cursor).map(|()| None) };
            batch
        } else {
            self.rest_of_frame(&mut cursor)?
        };
        self.cursor = Some(cursor);
        Ok(Some(batch))
    }

    /// Opens the segment of the next frame if the reader needs each frame, otherwise that of the next position, at its
    /// event. Several segments can have one first position, because a frame need not have an event.
    fn open_at(&mut self) -> Result<SegmentCursor, ReadError> {
        if let Some(frame) = self.next_frame.filter(|_| self.has_changes) {
            let number = self.catalog.segment_with_frame(frame);
            let (segment, mut window) = self.files.open(&self.catalog, number, READ_LEN.into())?;
            let at = self.offset_of_frame(&mut window, &segment, frame)?;
            return Ok(SegmentCursor { window, segment, at, previous: None });
        }
        let number = self.catalog.segment_with(self.next);
        let (segment, mut window) = self.files.open(&self.catalog, number, READ_LEN.into())?;
        if self.next == segment.header.first_position {
            let at = SEGMENT_HEADER_LEN as u64;
            self.next_frame = Some(segment.header.first_frame);
            return Ok(SegmentCursor { window, segment, at, previous: None });
        }
        self.next_frame = None;
        let at = offset_of(&self.catalog, &self.files, &mut window, &segment, self.next)?;
        Ok(SegmentCursor { window, segment, at, previous: None })
    }

    /// Finds a frame by the headers of the frames before it.
    fn offset_of_frame(&self, window: &mut Window, segment: &ReadSegment, frame: u64) -> Result<u64, ReadError> {
        let number = segment.header.place.segment;
        let mut at = SEGMENT_HEADER_LEN as u64;
        loop {
            let head =
                window.at(at, FRAME_HEADER_LEN, segment.limit).map_err(|error| self.files.error(number, error))?;
            let header = FrameHeader::decode(&head);
            let header = header.map_err(|error| damaged(number, at, self.next, with_source(&error)))?;
            if header.number == frame {
                return Ok(at);
            }
            at += header.length as u64;
        }
    }

    fn next_segment(&mut self, cursor: &SegmentCursor) -> Result<(), ReadError> {
        let number = cursor.segment.header.place.segment;
        let (segment, window) = self.files.open(&self.catalog, number + 1, READ_LEN.into())?;
        let header = segment.header;
        let frame = self.next_frame.unwrap_or(header.first_frame);
        if (header.first_position, header.first_frame) != (self.next, frame) {
            let reason = format!(
                "expected events up to position {}, found the end of the segment",
                header.first_position.saturating_sub(1)
            );
            return Err(damaged(number, cursor.at, self.next, reason));
        }
        self.next_frame = Some(frame);
        let (at, previous) = (SEGMENT_HEADER_LEN as u64, cursor.previous);
        self.cursor = Some(SegmentCursor { window, segment, at, previous });
        Ok(())
    }

    /// Reads the frame at the cursor; `None` at the end of a segment without a trailer.
    fn whole_frame(&mut self, cursor: &mut SegmentCursor) -> Result<Option<Batch>, ReadError> {
        let place = cursor.segment.header.place;
        let number = place.segment;
        let frame = read_frame(&mut cursor.window, cursor.at, cursor.segment.limit, place)
            .map_err(|error| self.files.error(number, error))?;
        let frame = match frame {
            Ok(frame) => frame,
            // Without a trailer, the end of the frames is not known.
            Err(_) if cursor.segment.blocks.is_none() && self.is_end_of_segment(number)? => {
                return Ok(None);
            }
            Err(error) => return Err(damaged(number, cursor.at, self.next, with_source(&error))),
        };
        let mut chain =
            Chain { frame: self.next_frame.unwrap_or_default(), position: self.next, previous: cursor.previous };
        let at_first = frame.header().first_position.get();
        if self.next_frame.is_none() {
            (chain.frame, chain.position) = (frame.header().number, at_first);
        }
        chain.follow(&frame).map_err(|reason| damaged(number, cursor.at, self.next, reason))?;
        cursor.at += frame.bytes().len() as u64;
        cursor.previous = chain.previous;
        (self.next_frame, self.next) = (Some(chain.frame), chain.position);
        Ok(Some(frame.batch()))
    }

    /// Returns whether the next position and frame are those of the next segment.
    fn is_end_of_segment(&self, number: u32) -> Result<bool, ReadError> {
        let next = self.files.segment(&self.catalog, number + 1)?.header;
        Ok((next.first_position, Some(next.first_frame)) == (self.next, self.next_frame))
    }

    /// Returns the records of a frame from the next position on. Each has a checksum of its own. The records end at
    /// the magic of the next frame, which cannot be the length of a record.
    fn rest_of_frame(&mut self, cursor: &mut SegmentCursor) -> Result<Batch, ReadError> {
        let place = cursor.segment.header.place;
        let failed = |error| self.files.error(place.segment, error);
        let first = self.next;
        let mut bytes = cursor.window.at(cursor.at, LOOK_UP_LEN, cursor.segment.limit).map_err(failed)?;
        if let Ok(length) = length_of(&bytes).map_err(|reason| damaged(place.segment, cursor.at, first, reason))?
            && length > bytes.len()
        {
            bytes = cursor.window.at(cursor.at, length, cursor.segment.limit).map_err(failed)?;
        }
        let (mut rest, mut next) = (&*bytes, first);
        let mut is_end = cursor.at + bytes.len() as u64 >= cursor.segment.limit;
        while !rest.is_empty() {
            if rest.starts_with(&FRAME_MAGIC) {
                is_end = true;
                break;
            }
            let Ok((record, after)) = record::split_first(rest) else { break };
            record::check(record, next, place.segment)
                .map_err(|error| damaged(place.segment, cursor.at, next, error.to_string()))?;
            next += u64::from(record::has_position(record) == Some(true));
            rest = after;
        }
        let length = bytes.len() - rest.len();
        if length == 0 && !is_end {
            let reason = "expected a record, found other bytes".to_owned();
            return Err(damaged(place.segment, cursor.at, first, reason));
        }
        cursor.at += length as u64;
        self.next = next;
        if is_end {
            self.next_frame = self.frame_at(cursor)?;
        }
        Ok(Batch::verified(bytes.slice(..length), first, place))
    }

    /// Returns the number of the frame at the cursor. At the end of a segment, it is the first one of the next segment;
    /// at the end of the log, the one after the last.
    fn frame_at(&self, cursor: &mut SegmentCursor) -> Result<Option<u64>, ReadError> {
        let place = cursor.segment.header.place;
        if cursor.at < cursor.segment.limit {
            let frame = read_frame(&mut cursor.window, cursor.at, cursor.segment.limit, place);
            let frame = frame.map_err(|error| self.files.error(place.segment, error))?;
            let frame = frame.map_err(|error| damaged(place.segment, cursor.at, self.next, with_source(&error)))?;
            return Ok(Some(frame.header().number));
        }
        let next = self.catalog.segment(place.segment + 1);
        Ok(Some(next.map_or(self.end.frame + 1, |next| next.header.first_frame)))
    }
}

impl Files {
    /// Opens the file of a segment.
    fn open(&self, catalog: &Catalog, number: u32, read_lens: ReadLens) -> Result<(ReadSegment, Window), ReadError> {
        loop {
            let segment = self.segment(catalog, number)?;
            let window = self.window(number, read_lens)?;
            // A rewrite can replace the file meanwhile.
            if self.segment(catalog, number)?.rewrites == segment.rewrites {
                return Ok((segment, window));
            }
        }
    }

    fn window(&self, number: u32, read_lens: ReadLens) -> Result<Window, ReadError> {
        let file = compressed::open(&*self.disk, &self.directory, number).map_err(|error| self.error(number, error))?;
        Ok(Window::new(file, read_lens))
    }

    fn segment(&self, catalog: &Catalog, number: u32) -> Result<ReadSegment, ReadError> {
        catalog
            .segment(number)
            .ok_or_else(|| damaged(number, 0, 0, "expected a segment after the one before, found none".to_owned()))
    }

    fn error(&self, number: u32, source: io::Error) -> ReadError {
        ReadError::Io { path: self.directory.join(segment::file_name(number)), source }
    }
}

/// Reads events by position. It keeps the file and the bytes of its last read, so that many events of one segment, and
/// neighbours in particular, cost less than a reader for each.
#[derive(Debug)]
pub struct PointReader {
    catalog: Arc<Catalog>,
    files: Files,
    /// The segment of the last event, and its bytes.
    last: Option<(ReadSegment, Window)>,
}

impl PointReader {
    pub(crate) const fn new(catalog: Arc<Catalog>, disk: Arc<dyn Disk>, directory: PathBuf) -> Self {
        Self { catalog, files: Files { disk, directory }, last: None }
    }

    /// Returns the record of the event at this position as a batch; `None` after the end of the log.
    ///
    /// # Errors
    /// [`ReadError`]. The next call tries again.
    pub fn event(&mut self, position: Position) -> Result<Option<Batch>, ReadError> {
        let wanted = position.get();
        if wanted > self.catalog.head().position {
            return Ok(None);
        }
        if let Some(found) = self.catalog.event(position) {
            return Ok(Some(found));
        }
        let (segment, mut window) = self.open(self.catalog.segment_with(wanted))?;
        let at = offset_of(&self.catalog, &self.files, &mut window, &segment, wanted)?;
        // A copy, so that the window can use its memory again: one record is a small part of it.
        let bytes = Bytes::copy_from_slice(&record_at(&self.files, &mut window, &segment, at, wanted)?);
        let place = segment.header.place;
        self.last = Some((segment, window));
        Ok(Some(Batch::verified(bytes, wanted, place)))
    }

    /// Opens a segment, unless it is the one of the last event.
    fn open(&mut self, number: u32) -> Result<(ReadSegment, Window), ReadError> {
        if let Some((last, window)) = self.last.take()
            && last.header.place.segment == number
        {
            // The segment can have grown, been sealed or been rewritten meanwhile.
            let segment = self.files.segment(&self.catalog, number)?;
            if segment.rewrites == last.rewrites {
                return Ok((segment, window));
            }
        }
        self.files.open(&self.catalog, number, POINT_READ)
    }
}

/// Reads the record of the event at this position, and verifies it.
fn record_at(
    files: &Files,
    window: &mut Window,
    segment: &ReadSegment,
    at: u64,
    position: u64,
) -> Result<Bytes, ReadError> {
    let number = segment.header.place.segment;
    let failed = |error| files.error(number, error);
    let bytes = window.at(at, 4, segment.limit).map_err(failed)?;
    let length = length_of(&bytes).map_err(|reason| damaged(number, at, position, reason))?;
    let expected = "expected a record, found a frame".to_owned();
    let length = length.map_err(|()| damaged(number, at, position, expected))?;
    let bytes = window.at(at, length, segment.limit).map_err(failed)?;
    let record = bytes.get(..length).unwrap_or(&bytes);
    record::check(record, position, number).map_err(|error| damaged(number, at, position, error.to_string()))?;
    Ok(bytes.slice_ref(record))
}

/// Returns the length of the record at the start of the bytes; `Ok(Err(()))` if a frame starts there.
fn length_of(bytes: &[u8]) -> Result<Result<usize, ()>, String> {
    if bytes.starts_with(&FRAME_MAGIC) {
        return Ok(Err(()));
    }
    let length = bytes.first_chunk().map(|length| u32::from_be_bytes(*length) as usize);
    match length {
        Some(length) if (crate::layout::RECORD_HEAD_LEN..record::MAX_RECORD_LEN).contains(&length) => Ok(Ok(length)),
        _ => Err("expected a record, found other bytes".to_owned()),
    }
}

/// Returns the offset of the event at this position: from the offsets in memory, the footer, or the frames.
fn offset_of(
    catalog: &Catalog,
    files: &Files,
    window: &mut Window,
    segment: &ReadSegment,
    position: u64,
) -> Result<u64, ReadError> {
    let number = segment.header.place.segment;
    let index = position.saturating_sub(segment.header.first_position);
    let near = match (segment.blocks, segment.events) {
        (Some(blocks), Some(events)) => {
            let place = (number, segment.rewrites, blocks, events);
            block_offset(catalog, window, place, index).map_err(|error| files.error(number, error))?
        }
        _ => catalog.active_offset(number, index),
    };
    match near {
        Some(offset) => skip_events(files, window, segment, (offset.into(), position), index % OFFSET_STEP as u64),
        None => search_frames(files, window, segment, position),
    }
}

/// Returns the offset of an event at most [`OFFSET_STEP`] before the one with this index; `None` if its block is
/// damaged.
fn block_offset(
    catalog: &Catalog,
    window: &Window,
    (number, rewrites, blocks, events): (u32, u32, u64, u64),
    index: u64,
) -> io::Result<Option<u32>> {
    let (Ok(index), Ok(events)) = (usize::try_from(index), usize::try_from(events)) else { return Ok(None) };
    let (block, within) = (index / BLOCK_EVENTS, index % BLOCK_EVENTS);
    let name = u32::try_from(block).unwrap_or(u32::MAX);
    let offsets: BlockOffsets = match catalog.cached_block((number, rewrites, name)) {
        Some(offsets) => offsets,
        None => {
            let range = segment::block_range(block, events);
            let start = blocks + range.start as u64;
            let bytes = window.of_same_file(range.len()).at(start, range.len(), start + range.len() as u64)?;
            let Some(offsets) = segment::decode_block(&bytes) else { return Ok(None) };
            catalog.cache_block((number, rewrites, name), &offsets)
        }
    };
    Ok(offsets.get(within / OFFSET_STEP).copied())
}

/// Skips events from an offset on. Lengths are not verified here; the record that is found is.
fn skip_events(
    files: &Files,
    window: &mut Window,
    segment: &ReadSegment,
    (mut at, position): (u64, u64),
    mut count: u64,
) -> Result<u64, ReadError> {
    let number = segment.header.place.segment;
    loop {
        let head = window.at(at, FRAME_HEADER_LEN, segment.limit).map_err(|error| files.error(number, error))?;
        match length_of(&head).map_err(|reason| damaged(number, at, position, reason))? {
            Err(()) => at += FRAME_HEADER_LEN as u64,
            Ok(length) => {
                if record::has_position(&head) == Some(true) {
                    if count == 0 {
                        return Ok(at);
                    }
                    count -= 1;
                }
                at += length as u64;
            }
        }
    }
}

/// Finds an event by reading the frames of its segment, whose footer is damaged.
fn search_frames(files: &Files, window: &mut Window, segment: &ReadSegment, position: u64) -> Result<u64, ReadError> {
    let place: Place = segment.header.place;
    let mut at = SEGMENT_HEADER_LEN as u64;
    loop {
        let frame = read_frame(window, at, segment.limit, place);
        let frame = frame.map_err(|error| files.error(place.segment, error))?;
        let frame = frame.map_err(|error| damaged(place.segment, at, position, with_source(&error)))?;
        if position < frame.next_position() {
            let start = at + FRAME_HEADER_LEN as u64;
            let skipped = position.saturating_sub(frame.header().first_position.get());
            return skip_events(files, window, segment, (start, position), skipped);
        }
        at += frame.bytes().len() as u64;
    }
}

/// Returns the message of an error with that of its cause.
pub(crate) fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn damaged(segment: u32, offset: u64, position: u64, reason: String) -> ReadError {
    ReadError::Damaged(Damage { file: segment::file_name(segment), offset, position: Position::new(position), reason })
}
