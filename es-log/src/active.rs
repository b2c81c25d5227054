//! [`Active`]: the segment that frames are written to.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, lacks_descriptor};
use crate::frame::Frame;
use crate::layout::{SEGMENT_HEADER_LEN, TRAILER_LEN};
use crate::segment::{self, SegmentHeader, Trailer};

/// The segment that frames are written to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) header: SegmentHeader,
    /// Where the next frame is written.
    pub(crate) end: u64,
    /// The offset of each event.
    pub(crate) offsets: Vec<u32>,
    pub(crate) frames: u32,
    /// The times of the first and the last event.
    pub(crate) times: Option<(i64, i64)>,
    /// Whether the footer may be written already.
    pub(crate) is_sealing: bool,
}

/// A change of the files failed.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// Before a sync: it can be repeated.
    Write(io::Error),
    /// A sync: it is unknown what is on disk.
    Sync(io::Error),
}

impl From<WriteFailure> for io::Error {
    fn from(failure: WriteFailure) -> Self {
        match failure {
            WriteFailure::Write(error) | WriteFailure::Sync(error) => error,
        }
    }
}

/// A segment that is part of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentInfo {
    pub(crate) header: SegmentHeader,
    /// The trailer of a sealed segment; `None` if it is damaged.
    pub(crate) trailer: Option<Trailer>,
    /// How many times the segment was rewritten since the log was opened.
    pub(crate) rewrites: u32,
}

impl Active {
    /// Makes a file of zeros, which has the name of a spare segment, part of the log.
    ///
    /// ORDER: the header is on disk before the file gets its name, so that each segment has a valid header.
    pub(crate) fn create(
        disk: &dyn Disk,
        directory: &Path,
        file: Arc<dyn DiskFile>,
        header: SegmentHeader,
    ) -> Result<Self, WriteFailure> {
        file.write_at(&header.encode(), 0).map_err(WriteFailure::Write)?;
        file.sync().map_err(WriteFailure::Sync)?;
        let number = header.place.segment;
        let (spare, name) = (segment::spare_name(number), segment::file_name(number));
        disk.rename(&directory.join(spare), &directory.join(name)).map_err(WriteFailure::Write)?;
        disk.sync_directory(directory).map_err(|error| match lacks_descriptor(&error) {
            // The directory could not be opened, so that nothing was synced.
            true => WriteFailure::Write(error),
            false => WriteFailure::Sync(error),
        })?;
        Ok(Self::empty(file, header))
    }

    pub(crate) fn empty(file: Arc<dyn DiskFile>, header: SegmentHeader) -> Self {
        let end = SEGMENT_HEADER_LEN as u64;
        Self { file, header, end, offsets: Vec::new(), frames: 0, times: None, is_sealing: false }
    }

    /// Returns the size that a segment needs for one frame.
    pub(crate) fn size_for(length: usize, events: usize) -> u64 {
        (SEGMENT_HEADER_LEN + length + segment::footer_len(events)) as u64
    }

    /// Returns whether a frame fits in front of the footer.
    pub(crate) fn has_space(&self, length: usize, events: usize) -> bool {
        let footer = segment::footer_len(self.offsets.len() + events);
        !self.is_sealing && self.end + (length + footer) as u64 <= self.header.size.into()
    }

    /// Counts a frame that was written at [`end`](Self::end). `offsets` are relative to the frame.
    pub(crate) fn push(&mut self, frame: &Frame, offsets: &[u32], times: Option<(i64, i64)>) {
        // A segment is smaller than 4 GiB.
        let start = u32::try_from(self.end).unwrap_or(u32::MAX);
        self.offsets.extend(offsets.iter().map(|offset| start + offset));
        self.end += frame.bytes().len() as u64;
        self.frames += 1;
        if let Some((first, last)) = times {
            self.times = Some((self.times.map_or(first, |(first, _)| first), last));
        }
    }

    /// Writes the footer and syncs it.
    pub(crate) fn seal(&self, last_checksum: u32) -> Result<SegmentInfo, WriteFailure> {
        let events = self.offsets.len();
        let length = segment::footer_len(events) as u64;
        let blocks = u64::from(self.header.size) - length;
        let trailer = Trailer {
            first_position: self.header.first_position,
            last_position: (self.header.first_position + events as u64).saturating_sub(1),
            times: self.times.unwrap_or_default(),
            frames: self.frames,
            events: u32::try_from(events).unwrap_or(u32::MAX),
            end: u32::try_from(self.end).unwrap_or(u32::MAX),
            blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
            last_checksum,
        };
        let mut footer = segment::encode_blocks(&self.offsets);
        footer.extend_from_slice(&trailer.encode());
        self.file.write_at(&footer, blocks).map_err(WriteFailure::Write)?;
        self.file.sync().map_err(WriteFailure::Sync)?;
        Ok(SegmentInfo { header: self.header, trailer: Some(trailer), rewrites: 0 })
    }
}

/// Reads the trailer of a segment; `None` if it is not sealed or damaged.
pub(crate) fn read_trailer(file: &dyn DiskFile, header: &SegmentHeader) -> io::Result<Option<Trailer>> {
    let mut bytes = [0; TRAILER_LEN];
    let Some(start) = u64::from(header.size).checked_sub(TRAILER_LEN as u64) else { return Ok(None) };
    let read = file.read_at(&mut bytes, start)?;
    let trailer = Trailer::decode(bytes.get(..read).unwrap_or_default());
    Ok(trailer.filter(|trailer| {
        let fits = trailer.size() == u64::from(header.size) && trailer.end <= trailer.blocks;
        fits && trailer.first_position == header.first_position
    }))
}
