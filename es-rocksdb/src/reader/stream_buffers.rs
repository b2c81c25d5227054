//! [`StreamBuffers`]: the records of the streams that were read last, in memory.
//!
//! A buffer has the first records of a stream. It is never changed by a commit: its events stay, and the events after
//! them are found in the runs of the index. Once these are in tables, the next read of the stream adds them.

use std::sync::Arc;

use es_core::{Position, Revision, StreamId};
use es_log::Batch;
use lru::LruCache;

use crate::sync::{Mutex, PoisonError};

/// About the memory of a record without its bytes.
const RECORD_BYTES: usize = 128;
/// A stream with more than this part of all bytes is not kept.
const MAX_PART: usize = 8;

/// The record of an event of a stream, which is not a tombstone.
#[derive(Debug, Clone)]
pub(crate) struct StreamRecord {
    pub(crate) revision: Revision,
    pub(crate) position: Position,
    pub(crate) record: Batch,
}

impl StreamRecord {
    fn bytes(&self) -> usize {
        RECORD_BYTES + self.record.bytes().len()
    }
}

/// The records of a stream from its first retained event on.
#[derive(Debug)]
pub(crate) struct StreamBuffer {
    pub(crate) records: Vec<StreamRecord>,
    pub(crate) first: Revision,
    /// The revision after the last record.
    pub(crate) next: Revision,
    /// The stream has no further event up to this position.
    pub(crate) end: Position,
    bytes: usize,
}

impl StreamBuffer {
    /// Returns the buffer of a stream with these records, which are all from the revision `first` to that before
    /// `next`, and up to the position `end`.
    pub(crate) fn new(first: Revision, records: Vec<StreamRecord>, next: Revision, end: Position) -> Self {
        let bytes = records.iter().map(StreamRecord::bytes).sum();
        Self { records, first, next, end, bytes }
    }

    /// Returns the records from a revision on.
    pub(crate) fn from(&self, revision: Revision) -> &[StreamRecord] {
        let start = self.records.partition_point(|record| record.revision < revision);
        self.records.get(start..).unwrap_or_default()
    }
}

/// The buffers of the streams that were read last, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct StreamBuffers {
    state: Mutex<BufferedStreams>,
    max_bytes: usize,
}

#[derive(Debug)]
struct BufferedStreams {
    streams: LruCache<StreamId, Arc<StreamBuffer>>,
    bytes: usize,
    /// How many times events were removed.
    removals: u64,
}

impl StreamBuffers {
    pub(crate) fn new(max_bytes: usize) -> Self {
        let state = BufferedStreams { streams: LruCache::unbounded(), bytes: 0, removals: 0 };
        Self { state: Mutex::new(state), max_bytes }
    }

    /// Returns the buffer of a stream, if there is one, and how many times events were removed, for
    /// [`put`](Self::put).
    pub(crate) fn get(&self, stream: &StreamId) -> (Option<Arc<StreamBuffer>>, u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.streams.get(stream).map(Arc::clone), state.removals)
    }

    /// Keeps a buffer that was read after [`get`](Self::get) returned `removals`. A buffer that may have an event that
    /// was removed since is dropped.
    pub(crate) fn put(&self, stream: &StreamId, buffer: StreamBuffer, removals: u64) {
        if buffer.bytes > self.max_bytes / MAX_PART {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.removals != removals {
            return;
        }
        state.bytes += buffer.bytes;
        if let Some(replaced) = state.streams.put(stream.clone(), Arc::new(buffer)) {
            state.bytes -= replaced.bytes;
        }
        while state.bytes > self.max_bytes
            && let Some((_, oldest)) = state.streams.pop_lru()
        {
            state.bytes -= oldest.bytes;
        }
    }

    /// Drops all buffers, because events were removed.
    pub(crate) fn clear(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.streams.clear();
        (state.bytes, state.removals) = (0, state.removals + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer() -> StreamBuffer {
        StreamBuffer { bytes: 100, ..StreamBuffer::new(Revision::FIRST, Vec::new(), Revision::FIRST, Position::FIRST) }
    }

    #[test]
    fn the_streams_that_were_read_last_are_kept() {
        let streams: Vec<_> = (0..9).map(|number| StreamId::of("order", number).unwrap()).collect();
        let buffers = StreamBuffers::new(800);
        for stream in &streams[..8] {
            buffers.put(stream, buffer(), 0);
        }
        assert!(buffers.get(&streams[0]).0.is_some());
        buffers.put(&streams[8], buffer(), 0);
        let kept: Vec<_> = streams.iter().map(|stream| buffers.get(stream).0.is_some()).collect();
        assert_eq!(kept, [true, false, true, true, true, true, true, true, true]);
        buffers.put(&streams[0], StreamBuffer { bytes: 101, ..buffer() }, 0);
        assert_eq!(buffers.state.lock().unwrap().bytes, 800, "a long stream is not kept");
    }

    /// Otherwise a read that began before a scavenge would bring the removed events back.
    #[test]
    fn a_buffer_from_before_a_removal_is_dropped() {
        let (buffers, stream) = (StreamBuffers::new(800), StreamId::of("order", 1).unwrap());
        let (_, removals) = buffers.get(&stream);
        buffers.clear();
        buffers.put(&stream, buffer(), removals);
        assert!(buffers.get(&stream).0.is_none());
    }
}
