//! Reads what is readable of a damaged log, in order.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use es_core::Position;
use es_core::model::LogId;

use crate::active::read_trailer;
use crate::compressed;
use crate::disk::{Disk, DiskFile};
use crate::error::ReadError;
use crate::frame::{Frame, FrameHeader, Place};
use crate::layout::{FRAME_HEADER_LEN, FRAME_MAGIC, MARK_FILE, RECORD_HEAD_LEN, SEGMENT_HEADER_LEN};
use crate::mark;
use crate::record;
use crate::scan::{READ_LEN, Window, read_frame, search};
use crate::segment::{self, HeaderError, SegmentHeader};

/// A part of a damaged log.
#[derive(Debug)]
pub enum SalvagedPart {
    /// The segment with this number begins.
    Segment(u32),
    /// A valid frame.
    Frame(Frame),
    /// A place where frames are missing.
    Gap(LogGap),
}

/// A place of a log where one or more frames are not valid or missing.
#[derive(Debug)]
pub struct LogGap {
    /// Where the records were. Their checksums cover the number of the segment.
    pub place: Place,
    /// The position of the first event that is not in a valid frame.
    pub first: Position,
    /// The position of the first event after the gap, which equals `first` if the lost frames had no events.
    pub next: Position,
    /// The records in invalid frames whose own checksums are valid, in order.
    pub intact: Vec<IntactRecord>,
}

/// A record whose own checksum is valid.
#[derive(Debug, Clone)]
pub struct IntactRecord {
    /// The position of the event, or of the event after the change of a row or a unique key.
    pub position: Position,
    /// Whether the record is an event or a tombstone.
    pub is_event: bool,
    /// The record with its length.
    pub bytes: Bytes,
}

/// What is known of a damaged log as a whole.
#[derive(Debug, Clone, Copy)]
pub struct SalvagedLog {
    /// The place of its records, with the number of the first segment; `None` if no header of a segment is readable.
    pub place: Option<Place>,
    /// The position of the last acknowledged event, 0 for none; `None` if there is no valid high-water mark.
    pub acknowledged: Option<u64>,
    /// How many times the log was opened, as far as it is known.
    pub opens: u64,
}

/// Returns what is known of the log in a directory as a whole.
///
/// # Errors
/// [`ReadError::Io`].
pub fn inspect(disk: &Arc<dyn Disk>, directory: &Path) -> Result<SalvagedLog, ReadError> {
    Ok(Salvage::new(disk, directory)?.log)
}

/// Calls `take` with the readable parts of the log in a directory, in order. Changes nothing.
///
/// A torn end that was not acknowledged is omitted.
///
/// # Errors
/// [`ReadError::Io`], and those of `take`.
pub fn salvage<E: From<ReadError>>(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    mut take: impl FnMut(SalvagedPart) -> Result<(), E>,
) -> Result<(), E> {
    let mut salvage = Salvage::new(disk, directory)?;
    for number in 1..=salvage.last {
        take(SalvagedPart::Segment(number))?;
        salvage.segment(number, &mut take)?;
    }
    Ok(())
}

/// The file of a segment, and its header.
type OpenedSegment = (Arc<dyn DiskFile>, SegmentHeader);

struct Salvage<'a> {
    disk: &'a Arc<dyn Disk>,
    directory: &'a Path,
    log: SalvagedLog,
    /// The last acknowledged frame; `None` without a valid mark.
    acknowledged_frame: Option<u64>,
    /// The number of the last segment.
    last: u32,
    /// The next frame and the next position.
    frame: u64,
    position: u64,
}

impl<'a> Salvage<'a> {
    fn new(disk: &'a Arc<dyn Disk>, directory: &'a Path) -> Result<Self, ReadError> {
        let failed = |name: &str, source| ReadError::Io { path: directory.join(name), source };
        let mark = mark::read(&**disk, directory).map_err(|error| failed(MARK_FILE, error))?;
        let names = disk.names(directory).map_err(|error| failed("", error))?;
        let last = names.iter().filter_map(|name| segment::number_of(name)).max().unwrap_or_default();
        let (acknowledged, opens) = (mark.map(|mark| mark.head), mark.map_or(0, |mark| mark.opens));
        let log = SalvagedLog { place: None, acknowledged, opens };
        let acknowledged_frame = mark.map(|mark| mark.frame);
        let mut salvage = Self { disk, directory, log, acknowledged_frame, last, frame: 1, position: 1 };
        for number in 1..=last {
            if let Some((_, header)) = salvage.open(number)? {
                salvage.log.place = Some(Place { segment: 1, ..header.place });
                break;
            }
        }
        Ok(salvage)
    }

    /// Opens a segment; `None` if it has no readable header, and none can be derived.
    fn open(&self, number: u32) -> Result<Option<OpenedSegment>, ReadError> {
        let path = self.directory.join(segment::file_name(number));
        let failed = |source| ReadError::Io { path: path.clone(), source };
        let file = match compressed::open_correcting(&**self.disk, self.directory, number) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if let Some(header) = header_of(&*file, number).map_err(failed)? {
            return Ok(Some((file, header)));
        }
        // The other segments have the id and the base time, and the segment before has the positions.
        let Some(place) = self.log.place else { return Ok(None) };
        let size = u32::try_from(file.length().map_err(failed)?).unwrap_or(u32::MAX);
        let place = Place { segment: number, ..place };
        let (first_position, first_frame) = (self.position, self.frame);
        Ok(Some((file, SegmentHeader { place, first_position, first_frame, size, is_compressed: false })))
    }

    /// Returns the header of a segment, if it is readable.
    fn valid_header(&self, number: u32) -> Result<Option<SegmentHeader>, ReadError> {
        let path = self.directory.join(segment::file_name(number));
        match compressed::open(&**self.disk, self.directory, number).and_then(|file| header_of(&*file, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            header => header.map_err(|source| ReadError::Io { path, source }),
        }
    }

    fn segment<E: From<ReadError>>(
        &mut self,
        number: u32,
        take: &mut impl FnMut(SalvagedPart) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((file, header)) = self.open(number)? else { return self.end_segment(number, Vec::new(), take) };
        let path = self.directory.join(segment::file_name(number));
        let failed = |source| E::from(ReadError::Io { path: path.clone(), source });
        let trailer = read_trailer(&*file, &header).map_err(failed)?;
        let limit = u64::from(trailer.map_or(header.size, |trailer| trailer.end));
        let mut window = Window::new(Arc::clone(&file), READ_LEN);
        let (mut at, mut intact) = (SEGMENT_HEADER_LEN as u64, Vec::new());
        while at < limit {
            if let Ok(frame) = read_frame(&mut window, at, limit, header.place).map_err(failed)?
                && frame.header().number >= self.frame
                && frame.header().first_position.get() >= self.position
            {
                at += frame.bytes().len() as u64;
                self.frame(frame, header.place, std::mem::take(&mut intact), take)?;
                continue;
            }
            let rest = search(&file, at + 1, limit, header.place).map_err(failed)?;
            let end = rest.frame.map_or(rest.end, |(offset, _)| offset);
            let bytes = Window::new(Arc::clone(&file), READ_LEN)
                .at(at, usize::try_from(end - at).unwrap_or(usize::MAX), end)
                .map_err(failed)?;
            intact.extend(intact_records(&bytes, self.position, number));
            if rest.frame.is_none() {
                break;
            }
            at = end;
        }
        self.end_segment(number, intact, take)
    }

    /// Passes on a valid frame, after the gap before it.
    fn frame<E>(
        &mut self,
        frame: Frame,
        place: Place,
        intact: Vec<IntactRecord>,
        take: &mut impl FnMut(SalvagedPart) -> Result<(), E>,
    ) -> Result<(), E> {
        let FrameHeader { number, first_position, .. } = *frame.header();
        if number > self.frame || first_position.get() > self.position {
            self.gap(first_position.get(), place, intact, take)?;
        }
        (self.frame, self.position) = (number + 1, frame.next_position());
        take(SalvagedPart::Frame(frame))
    }

    /// Passes on the gap at the end of a segment, if frames are missing there.
    fn end_segment<E: From<ReadError>>(
        &mut self,
        number: u32,
        intact: Vec<IntactRecord>,
        take: &mut impl FnMut(SalvagedPart) -> Result<(), E>,
    ) -> Result<(), E> {
        let place = Place { segment: number, ..self.log.place.unwrap_or_else(unknown_place) };
        let (frame, position) = if number == self.last {
            let frame = self.acknowledged_frame.unwrap_or_default() + 1;
            (frame, self.log.acknowledged.unwrap_or_default().saturating_add(1))
        } else {
            // Without the header of the next segment, it is not known that frames are missing here.
            self.valid_header(number + 1)?.map_or((0, 0), |next| (next.first_frame, next.first_position))
        };
        if frame > self.frame || position > self.position {
            self.gap(position.max(self.position), place, intact, take)?;
            self.frame = frame.max(self.frame);
        }
        Ok(())
    }

    fn gap<E>(
        &mut self,
        next: u64,
        place: Place,
        intact: Vec<IntactRecord>,
        take: &mut impl FnMut(SalvagedPart) -> Result<(), E>,
    ) -> Result<(), E> {
        let position = |number| Position::new(number).unwrap_or(Position::FIRST);
        let intact = intact.into_iter().filter(|record| record.position.get() < next || !record.is_event).collect();
        let gap = LogGap { place, first: position(self.position), next: position(next), intact };
        self.position = next;
        take(SalvagedPart::Gap(gap))
    }
}

fn unknown_place() -> Place {
    Place { log_id: LogId::from_uuid(uuid::Uuid::nil()), segment: 1, base_time: 0 }
}

/// Reads the header of a segment; `None` if it is not readable.
fn header_of(file: &dyn DiskFile, number: u32) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(correct(bytes.get(..read).unwrap_or_default()).filter(|header| header.place.segment == number))
}

/// Decodes the header of a segment, also if one of its bits was flipped: only one flip makes its checksum valid.
fn correct(bytes: &[u8]) -> Option<SegmentHeader> {
    match SegmentHeader::decode(bytes) {
        Ok(header) => return Some(header),
        Err(HeaderError::Format { .. }) => return None,
        Err(HeaderError::Damaged) => {}
    }
    let mut corrected = bytes.to_vec();
    (0..bytes.len() * 8).find_map(|bit| {
        let mask = 1 << (bit % 8);
        *corrected.get_mut(bit / 8)? ^= mask;
        let header = SegmentHeader::decode(&corrected).ok();
        *corrected.get_mut(bit / 8)? ^= mask;
        header
    })
}

/// Returns the records with valid checksums in the bytes of invalid frames. The first event has this position.
fn intact_records(bytes: &Bytes, mut position: u64, segment: u32) -> Vec<IntactRecord> {
    let mut intact = Vec::new();
    // The bytes begin with the header of a frame, which may be damaged.
    let mut at = FRAME_HEADER_LEN;
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= RECORD_HEAD_LEN) {
        if rest.starts_with(&FRAME_MAGIC) {
            at += FRAME_HEADER_LEN;
            continue;
        }
        let Ok((record, after)) = record::split_first(rest) else { break };
        let is_event = record::has_position(record);
        if record::check(record, position, segment).is_ok() {
            let is_event = is_event == Some(true);
            if let Some(position) = Position::new(position) {
                intact.push(IntactRecord { position, is_event, bytes: bytes.slice_ref(record) });
            }
            position += u64::from(is_event);
        } else {
            // The record is damaged. The one after it tells whether it was an event.
            let follows = |position| match record::split_first(after) {
                Ok((next, _)) => record::check(next, position, segment).is_ok(),
                Err(_) => false,
            };
            match is_event {
                _ if follows(position + 1) => position += 1,
                _ if follows(position) => {}
                Some(is_event) => position += u64::from(is_event),
                None => break,
            }
        }
        at += record.len();
    }
    intact
}
