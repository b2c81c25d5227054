//! [`Tail`]: the newest frames in memory, as the bytes that were written.

use std::collections::VecDeque;

use crate::frame::Frame;

/// The newest frames, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct Tail {
    frames: VecDeque<Frame>,
    bytes: usize,
    limit: usize,
}

impl Tail {
    pub(crate) fn new(limit: usize) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, limit }
    }

    /// Adds the next frame, and removes the oldest ones above the limit.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes().len();
        self.frames.push_back(frame);
        while self.bytes > self.limit {
            let Some(oldest) = self.frames.pop_front() else { return };
            self.bytes -= oldest.bytes().len();
        }
    }

    /// Removes the frames of the segments up to this one.
    pub(crate) fn remove_segments(&mut self, last: u32) {
        while let Some(oldest) = self.frames.pop_front_if(|frame| frame.place().segment <= last) {
            self.bytes -= oldest.bytes().len();
        }
    }

    /// Returns the frame with this number.
    pub(crate) fn numbered(&self, number: u64) -> Option<&Frame> {
        let first = self.frames.front()?.header().number;
        self.frames.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// Returns the frame with the event at this position.
    pub(crate) fn with_position(&self, position: u64) -> Option<&Frame> {
        let index = self.frames.partition_point(|frame| frame.next_position() <= position);
        self.frames.get(index).filter(|frame| frame.header().first_position.get() <= position)
    }
}
