//! [`Tail`]: the newest frames in memory, as the bytes that were written.

use std::collections::VecDeque;

use es_core::Position;

use crate::frame::{Batch, Frame};
use crate::record;

/// The newest frames, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct Tail {
    frames: VecDeque<TailFrame>,
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct TailFrame {
    frame: Frame,
    /// Where each event starts in the frame.
    offsets: Vec<u32>,
}

impl Tail {
    pub(crate) fn new(limit: usize) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, limit }
    }

    /// Adds the next frame, and removes the oldest ones above the limit. `offsets` are those of its events.
    pub(crate) fn push(&mut self, frame: Frame, offsets: Vec<u32>) {
        self.bytes += frame.bytes().len();
        self.frames.push_back(TailFrame { frame, offsets });
        while self.bytes > self.limit {
            let Some(oldest) = self.frames.pop_front() else { return };
            self.bytes -= oldest.frame.bytes().len();
        }
    }

    /// Removes the frames of the segments up to this one.
    pub(crate) fn remove_segments(&mut self, last: u32) {
        while let Some(oldest) = self.frames.pop_front_if(|oldest| oldest.frame.place().segment <= last) {
            self.bytes -= oldest.frame.bytes().len();
        }
    }

    /// Returns the frame with this number.
    pub(crate) fn numbered(&self, number: u64) -> Option<&Frame> {
        let first = self.frames.front()?.frame.header().number;
        Some(&self.frames.get(usize::try_from(number.checked_sub(first)?).ok()?)?.frame)
    }

    /// Returns the frame with the event at this position.
    pub(crate) fn with_position(&self, position: u64) -> Option<&Frame> {
        self.containing(position).map(|found| &found.frame)
    }

    /// Returns the record of the event at this position as a batch.
    pub(crate) fn event(&self, position: Position) -> Option<Batch> {
        let TailFrame { frame, offsets } = self.containing(position.get())?;
        let index = position.get().checked_sub(frame.header().first_position.get())?;
        let start = *offsets.get(usize::try_from(index).ok()?)? as usize;
        let (record, _) = record::split_first(frame.bytes().get(start..)?).ok()?;
        Some(Batch::verified(frame.bytes().slice_ref(record), position.get(), frame.place()))
    }

    fn containing(&self, position: u64) -> Option<&TailFrame> {
        let index = self.frames.partition_point(|of| of.frame.next_position() <= position);
        self.frames.get(index).filter(|of| of.frame.header().first_position.get() <= position)
    }
}
