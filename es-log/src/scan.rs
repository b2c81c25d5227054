//! Reading frames from a file, and the search for frames after an invalid one.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::disk::DiskFile;
use crate::frame::{Frame, FrameError, FrameHeader, Place};
use crate::layout::{FRAME_HEADER_LEN, FRAME_MAGIC};

/// The number of bytes per read.
pub(crate) const READ_LEN: usize = 256 * 1024;
/// The distance in bytes up to which it is cheaper to read what is between two records than to read twice.
const NEAR: u64 = 8 * 1024;
/// The number of bytes that are compared with zeros at a time.
const STEP: usize = 4096;
static ZEROS: [u8; STEP] = [0; STEP];

/// A part of a file in memory.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn DiskFile>,
    start: u64,
    bytes: Bytes,
    /// The number of bytes of the next read.
    read_len: usize,
    read_lens: ReadLens,
}

/// The smallest and the largest number of bytes per read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLens {
    pub(crate) least: usize,
    pub(crate) most: usize,
}

impl From<usize> for ReadLens {
    fn from(length: usize) -> Self {
        Self { least: length, most: length }
    }
}

impl Window {
    /// Creates an empty window. Each read that begins near the end of the one before is twice as long.
    pub(crate) fn new(file: Arc<dyn DiskFile>, read_lens: impl Into<ReadLens>) -> Self {
        let read_lens = read_lens.into();
        Self { file, start: 0, bytes: Bytes::new(), read_len: read_lens.least, read_lens }
    }

    /// Returns a window of the same file.
    pub(crate) fn of_same_file(&self, read_len: usize) -> Self {
        Self::new(Arc::clone(&self.file), read_len)
    }

    /// Returns the bytes from `offset` on: at least `length`, or all up to `limit` or to the end of the file.
    pub(crate) fn at(&mut self, offset: u64, length: usize, limit: u64) -> io::Result<Bytes> {
        let held = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        if let Some(held) = held.and_then(|skip| self.bytes.get(skip..)).filter(|held| held.len() >= length) {
            return Ok(self.bytes.slice_ref(held));
        }
        self.adapt(offset);
        let available = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        // The memory is used again, unless a caller still has bytes of it.
        let read_len = length.max(self.read_len).min(available);
        let mut buffer = std::mem::take(&mut self.bytes).try_into_mut().unwrap_or_else(|_| BytesMut::zeroed(read_len));
        buffer.resize(read_len, 0);
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        buffer.truncate(filled);
        (self.start, self.bytes) = (offset, buffer.freeze());
        Ok(self.bytes.clone())
    }

    /// Sets the length of a read at `offset`.
    fn adapt(&mut self, offset: u64) {
        let end = self.start + self.bytes.len() as u64;
        let is_near = !self.bytes.is_empty() && (self.start..end + NEAR).contains(&offset);
        let ReadLens { least, most } = self.read_lens;
        self.read_len = if is_near { self.read_len.saturating_mul(2).min(most) } else { least };
    }
}

/// Reads and verifies the frame at an offset, which ends before `limit`.
pub(crate) fn read_frame(
    window: &mut Window,
    offset: u64,
    limit: u64,
    place: Place,
) -> io::Result<Result<Frame, FrameError>> {
    let head = window.at(offset, FRAME_HEADER_LEN, limit)?;
    let header = match FrameHeader::decode(&head) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };
    let available = limit.saturating_sub(offset);
    if header.length as u64 > available {
        let found = usize::try_from(available).unwrap_or(usize::MAX);
        return Ok(Err(FrameError::Length { expected: header.length, found }));
    }
    Ok(Frame::verify(&window.at(offset, header.length, limit)?, place))
}

/// What the next frame must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The number of the next frame.
    pub(crate) frame: u64,
    /// The position of the next event.
    pub(crate) position: u64,
    /// The link of the last frame; `None` if it is not known.
    pub(crate) previous: Option<u32>,
}

impl Chain {
    /// Checks that a frame is the next one, and continues after it.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub(crate) fn follow(&mut self, frame: &Frame) -> Result<(), String> {
        let header = frame.header();
        if header.number != self.frame {
            return Err(format!("expected frame {}, found frame {}", self.frame, header.number));
        }
        if self.previous.is_some_and(|previous| previous != header.previous) {
            return Err(format!("expected frame {} after another frame {}", self.frame, self.frame.saturating_sub(1)));
        }
        if header.first_position.get() != self.position {
            let found = header.first_position;
            return Err(format!("expected position {} in frame {}, found {found}", self.position, self.frame));
        }
        *self = Self {
            frame: self.frame.saturating_add(1),
            position: frame.next_position(),
            previous: Some(header.link()),
        };
        Ok(())
    }
}

/// What a file has after the last frame.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// Where the last byte that is not zero ends.
    pub(crate) end: u64,
    /// The first valid frame, and its offset.
    pub(crate) frame: Option<(u64, FrameHeader)>,
}

/// Searches a range of a file for bytes that are not zero, and for a valid frame at any offset.
pub(crate) fn search(file: &Arc<dyn DiskFile>, start: u64, limit: u64, place: Place) -> io::Result<Rest> {
    let mut rest = Rest { end: start, frame: None };
    let mut window = Window::new(Arc::clone(file), READ_LEN);
    let mut candidates = Window::new(Arc::clone(file), READ_LEN);
    let mut at = start;
    while at < limit {
        // A magic can begin in one step and end in the next.
        let bytes = window.at(at, STEP + FRAME_MAGIC.len(), limit)?;
        let step = bytes.get(..STEP).unwrap_or(&bytes);
        if step.is_empty() {
            break;
        }
        if step != ZEROS.get(..step.len()).unwrap_or_default() {
            let last = step.iter().rposition(|byte| *byte != 0).map_or(0, |index| index as u64 + 1);
            rest.end = at + last;
            let searched = bytes.get(..STEP + FRAME_MAGIC.len() - 1).unwrap_or(&bytes);
            for (index, found) in searched.windows(FRAME_MAGIC.len()).enumerate() {
                if rest.frame.is_none() && *found == FRAME_MAGIC {
                    let offset = at + index as u64;
                    let frame = read_frame(&mut candidates, offset, limit, place)?;
                    rest.frame = frame.ok().map(|frame| (offset, *frame.header()));
                }
            }
        }
        at += step.len() as u64;
    }
    Ok(rest)
}
