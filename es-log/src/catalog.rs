//! [`Catalog`]: what readers see: the segments, the end of the log, offsets of events, and the newest frames.

use std::num::NonZeroUsize;
use std::sync::Arc;

use es_core::Position;
use lru::LruCache;

use crate::active::SegmentInfo;
use crate::frame::{Batch, Frame};
use crate::layout::{BLOCK_EVENTS, SEGMENT_HEADER_LEN};
use crate::segment::SegmentHeader;
use crate::sync::{Mutex, lock};
use crate::tail::Tail;

/// One offset of so many events is kept in memory: half a byte per event.
pub(crate) const OFFSET_STEP: usize = 8;

/// The number of cached blocks of offsets, unless another one is set.
pub(crate) const OFFSET_BLOCKS: NonZeroUsize = match NonZeroUsize::new(8192) {
    Some(blocks) => blocks,
    None => NonZeroUsize::MIN,
};

/// The end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The number of the last frame; 0 for none.
    pub(crate) frame: u64,
    /// The position of the last event; 0 for none.
    pub(crate) position: u64,
}

/// A segment as a reader needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadSegment {
    pub(crate) header: SegmentHeader,
    /// The end of the frames that can be read.
    pub(crate) limit: u64,
    /// The number of events; `None` if it is not known, because the trailer is damaged.
    pub(crate) events: Option<u64>,
    /// Where the blocks of offsets start; `None` in the active segment.
    pub(crate) blocks: Option<u64>,
    /// How many times the segment was rewritten since the log was opened.
    pub(crate) rewrites: u32,
}

/// The name of a block of offsets: the segment, how many times it was rewritten, and the index of the block.
pub(crate) type BlockName = (u32, u32, u32);

/// Every [`OFFSET_STEP`]th offset of a block.
pub(crate) type BlockOffsets = Arc<[u32]>;

/// What readers see.
#[derive(Debug)]
pub(crate) struct Catalog {
    state: Mutex<CatalogState>,
    blocks: Mutex<LruCache<BlockName, BlockOffsets>>,
}

#[derive(Debug)]
struct CatalogState {
    sealed: Vec<SegmentInfo>,
    active: ActiveView,
    head: Head,
    tail: Tail,
}

#[derive(Debug)]
struct ActiveView {
    header: SegmentHeader,
    end: u64,
    events: u64,
    /// Every [`OFFSET_STEP`]th offset.
    offsets: Vec<u32>,
}

impl ActiveView {
    fn empty(header: SegmentHeader) -> Self {
        Self { header, end: SEGMENT_HEADER_LEN as u64, events: 0, offsets: Vec::new() }
    }

    fn push(&mut self, offset: u32) {
        if self.events.is_multiple_of(OFFSET_STEP as u64) {
            self.offsets.push(offset);
        }
        self.events += 1;
    }
}

impl CatalogState {
    /// Returns the number of the last segment whose header fulfils a condition that holds up to some segment; the first
    /// one if none does. The active segment counts only if `with_active`.
    fn last_segment_where(&self, with_active: bool, holds: impl Fn(&SegmentHeader) -> bool) -> u32 {
        if with_active && holds(&self.active.header) {
            return self.active.header.place.segment;
        }
        let index = self.sealed.partition_point(|info| holds(&info.header));
        u32::try_from(index).unwrap_or(u32::MAX).max(1)
    }
}

impl Catalog {
    /// Returns the catalog of a log whose active segment has frames up to `end`.
    pub(crate) fn new(
        sealed: Vec<SegmentInfo>,
        header: SegmentHeader,
        (end, offsets): (u64, &[u32]),
        head: Head,
        (tail_bytes, cached_blocks): (usize, NonZeroUsize),
    ) -> Self {
        let mut active = ActiveView { end, ..ActiveView::empty(header) };
        offsets.iter().for_each(|offset| active.push(*offset));
        let state = CatalogState { sealed, active, head, tail: Tail::new(tail_bytes) };
        Self { state: Mutex::new(state), blocks: Mutex::new(LruCache::new(cached_blocks)) }
    }

    /// Makes a frame visible, which is on disk at `start` in the active segment. `offsets` are relative to it.
    pub(crate) fn publish(&self, frame: Frame, start: u64, offsets: Vec<u32>) {
        let mut state = lock(&self.state);
        // A segment is smaller than 4 GiB.
        let first = u32::try_from(start).unwrap_or(u32::MAX);
        for offset in &offsets {
            state.active.push(first + offset);
        }
        state.active.end = start + frame.bytes().len() as u64;
        state.head = Head { frame: frame.header().number, position: frame.next_position() - 1 };
        state.tail.push(frame, offsets);
    }

    /// Replaces the active segment, which is sealed.
    pub(crate) fn start_segment(&self, sealed: SegmentInfo, header: SegmentHeader) {
        let mut state = lock(&self.state);
        state.sealed.push(sealed);
        state.active = ActiveView::empty(header);
    }

    /// Returns what is known of a sealed segment.
    pub(crate) fn sealed(&self, number: u32) -> Option<SegmentInfo> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        lock(&self.state).sealed.get(index).copied()
    }

    /// Returns the number of sealed segments.
    pub(crate) fn sealed_count(&self) -> u32 {
        u32::try_from(lock(&self.state).sealed.len()).unwrap_or(u32::MAX)
    }

    /// Replaces a sealed segment by its rewritten file, which `rename` gives its name. If records were removed, the
    /// frames that still have them leave the memory.
    pub(crate) fn replace_segment(
        &self,
        info: SegmentInfo,
        has_removed: bool,
        rename: impl FnOnce() -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let number = info.header.place.segment;
        let mut state = lock(&self.state);
        let index = usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1);
        let Some(sealed) = state.sealed.get_mut(index) else { return Ok(()) };
        // ORDER: while the catalog is locked, so that a reader that finds the same segment before and after it has
        // opened the file has the file of this segment.
        rename()?;
        *sealed = SegmentInfo { rewrites: sealed.rewrites + 1, ..info };
        if has_removed {
            state.tail.remove_segments(number);
        }
        Ok(())
    }

    pub(crate) fn head(&self) -> Head {
        lock(&self.state).head
    }

    /// Returns the frame with this number, if it is in memory.
    pub(crate) fn frame(&self, number: u64) -> Option<Frame> {
        lock(&self.state).tail.numbered(number).cloned()
    }

    /// Returns the frame with the event at this position, if it is in memory.
    pub(crate) fn frame_with(&self, position: u64) -> Option<Frame> {
        lock(&self.state).tail.with_position(position).cloned()
    }

    /// Returns the record of the event at this position as a batch, if its frame is in memory.
    pub(crate) fn event(&self, position: Position) -> Option<Batch> {
        lock(&self.state).tail.event(position)
    }

    /// Returns the segment with this number.
    pub(crate) fn segment(&self, number: u32) -> Option<ReadSegment> {
        let state = lock(&self.state);
        let active = &state.active;
        if active.header.place.segment == number {
            let (header, limit) = (active.header, active.end);
            return Some(ReadSegment { header, limit, events: Some(active.events), blocks: None, rewrites: 0 });
        }
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        state.sealed.get(index).map(|info| {
            let trailer = info.trailer;
            ReadSegment {
                header: info.header,
                limit: trailer.map_or(info.header.size, |trailer| trailer.end).into(),
                events: trailer.map(|trailer| trailer.events.into()),
                blocks: trailer.map(|trailer| trailer.blocks.into()),
                rewrites: info.rewrites,
            }
        })
    }

    /// Returns the number of the segment that has the event at this position, if it is in the log.
    pub(crate) fn segment_with(&self, position: u64) -> u32 {
        let state = lock(&self.state);
        state.last_segment_where(state.active.events > 0, |header| header.first_position <= position)
    }

    /// Returns the number of the segment that has the frame with this number, if it is in the log.
    pub(crate) fn segment_with_frame(&self, frame: u64) -> u32 {
        lock(&self.state).last_segment_where(true, |header| header.first_frame <= frame)
    }

    /// Returns the offset of an event of the active segment that is at most [`OFFSET_STEP`] events before the event
    /// with this index.
    pub(crate) fn active_offset(&self, number: u32, index: u64) -> Option<u32> {
        let state = lock(&self.state);
        let active = Some(&state.active).filter(|active| active.header.place.segment == number)?;
        active.offsets.get(usize::try_from(index).ok()? / OFFSET_STEP).copied()
    }

    /// Returns the cached offsets of a block.
    pub(crate) fn cached_block(&self, name: BlockName) -> Option<BlockOffsets> {
        lock(&self.blocks).get(&name).cloned()
    }

    /// Caches the offsets of a block.
    pub(crate) fn cache_block(&self, name: BlockName, offsets: &[u32]) -> BlockOffsets {
        let offsets: BlockOffsets = offsets.iter().step_by(OFFSET_STEP).copied().collect();
        lock(&self.blocks).put(name, Arc::clone(&offsets));
        offsets
    }
}

const _: () = assert!(BLOCK_EVENTS.is_multiple_of(OFFSET_STEP));
