//! [`DamagedLog`]: the readable parts of a damaged log, with the copies of damaged records.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use es_core::model::CommitPart;
use es_core::{Position, RecordedEvent};
use es_log::{Batch, Body, Disk, EntryKind, Frame, FrameDraft, IntactRecord, LogGap, Place, SalvagedPart, salvage};

use super::sources::Sources;
use super::{MAX_LISTED, RepairError};
use crate::index::Copied;
use crate::record::codec::LogDecoder;
use crate::schema::Cf;

/// A damaged log.
pub(super) struct DamagedLog {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    pub(super) place: Place,
    pub(super) opens: u64,
    /// The last position in the log; 0 if there is none.
    pub(super) last: u64,
    /// The last position of the new log: that of the last complete commit before the first lost event.
    pub(super) kept: u64,
    /// The positions without an intact record in the log.
    damaged: BTreeSet<u64>,
    /// The copies of these records, by position.
    pub(super) copies: BTreeMap<u64, Bytes>,
    /// The segments and the ranges of positions of the gaps.
    gaps: Vec<(Place, Position, Position)>,
    /// The position of the first event, or of the next one, of the first frame that was rewritten or is missing.
    first_changed: Option<u64>,
    pub(super) has_removed: bool,
}

impl fmt::Debug for DamagedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DamagedLog").field("last", &self.last).field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// A part of a log with the records that can be recovered.
pub(super) enum RepairedPart<'a> {
    Segment,
    Frame(&'a Frame),
    Gap(RecoveredGap),
}

/// A gap, with the records that can be recovered.
pub(super) struct RecoveredGap {
    place: Place,
    first: Position,
    pub(super) next: Position,
    /// In the order of the log.
    records: Vec<IntactRecord>,
}

/// The records of a frame that replaces another one, or lost ones.
pub(super) struct RecoveredFrame {
    records: Vec<u8>,
    count: u32,
    commits: u32,
    opens: u64,
}

/// Whether the new log has the records of unique keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyRecords {
    Kept,
    Dropped,
}

impl KeyRecords {
    /// Returns whether all records of a frame are kept.
    pub(super) fn is_kept_in(self, frame: &Frame) -> bool {
        self == Self::Kept || !frame.batch().records().flatten().any(|record| matches!(record.body, Body::Key(_)))
    }
}

/// Returns a frame without records that counts as rewritten.
pub(super) fn rewritten_blank(opens: u64) -> RecoveredFrame {
    RecoveredFrame { records: Vec::new(), count: 0, commits: 0, opens }
}

/// Returns a frame without the records of unique keys.
pub(super) fn without_keys(frame: &Frame) -> RecoveredFrame {
    let (mut records, mut count) = (Vec::new(), 0);
    for record in frame.batch().records().flatten().filter(|record| !matches!(record.body, Body::Key(_))) {
        records.extend_from_slice(record.bytes);
        count += 1;
    }
    let header = frame.header();
    RecoveredFrame { records, count, commits: header.commits, opens: header.opens }
}

impl DamagedLog {
    /// Reads a log.
    pub(super) fn read(disk: Arc<dyn Disk>, directory: PathBuf, place: Place, opens: u64) -> Result<Self, RepairError> {
        let mut log = Self {
            disk,
            directory,
            place,
            opens,
            last: 0,
            kept: 0,
            damaged: BTreeSet::new(),
            copies: BTreeMap::new(),
            gaps: Vec::new(),
            first_changed: None,
            has_removed: false,
        };
        let (disk, directory) = (Arc::clone(&log.disk), log.directory.clone());
        salvage(&disk, &directory, |part| {
            match part {
                SalvagedPart::Segment(_) => {}
                SalvagedPart::Frame(frame) => {
                    log.last = (frame.header().first_position.get() + u64::from(frame.events())).saturating_sub(1);
                    if frame.header().original.is_some() {
                        log.first_changed.get_or_insert(frame.header().first_position.get());
                    }
                    let records = frame.batch();
                    let is_tombstone = |record: &es_log::Record<'_>| matches!(record.body, Body::Tombstone(_));
                    log.has_removed |= records.records().flatten().any(|record| is_tombstone(&record));
                }
                SalvagedPart::Gap(gap) => log.gap(&gap),
            }
            Ok::<_, RepairError>(())
        })?;
        log.cut();
        Ok(log)
    }

    fn gap(&mut self, gap: &LogGap) {
        self.first_changed.get_or_insert(gap.first.get());
        self.last = gap.next.get().saturating_sub(1);
        self.damaged.extend(gap.first.get()..gap.next.get());
        for record in gap.intact.iter().filter(|record| record.is_event) {
            self.damaged.remove(&record.position.get());
        }
        self.gaps.push((gap.place, gap.first, gap.next));
    }

    /// Finds the copies of damaged records in their streams.
    pub(super) fn add_copies(&mut self, sources: &Sources) {
        if self.damaged.is_empty() {
            return;
        }
        let (damaged, gaps, copies) = (&self.damaged, &self.gaps, &mut self.copies);
        sources.scan(Cf::Streams, |_, value| {
            let Ok(copied) = Copied::decode(value) else { return };
            let position = copied.position;
            let is_within = |(_, first, next): &&(Place, Position, Position)| *first <= position && position < *next;
            let Some((place, ..)) = gaps.iter().find(is_within) else { return };
            let record = Bytes::copy_from_slice(copied.record);
            let is_intact = || Batch::of_copy(record.clone(), position, *place).is_ok();
            if copied.segment == place.segment && damaged.contains(&position.get()) && is_intact() {
                copies.insert(position.get(), record.clone());
            }
        });
        self.cut();
    }

    /// Determines where the new log ends.
    fn cut(&mut self) {
        let first_lost = self.damaged.iter().find(|position| !self.copies.contains_key(position)).copied();
        let Some(first_lost) = first_lost else {
            self.kept = self.last;
            return;
        };
        self.kept = first_lost - 1;
        let mut kept = self.kept;
        // Frames have complete commits. Those of a gap may end before the lost event does.
        let cut = self.each_part(|part| {
            if let RepairedPart::Gap(gap) = part
                && (gap.first.get()..gap.next.get()).contains(&first_lost)
            {
                kept = gap.first.get() - 1;
                let before = gap.events().into_iter().filter(|event| event.position.get() < first_lost);
                kept = before.filter(|event| event.part.is_last()).last().map_or(kept, |last| last.position.get());
            }
            Ok(())
        });
        // The log was read before.
        if cut.is_ok() {
            self.kept = kept;
        }
    }

    /// Returns whether the new log has only frames as they were written, and all frames up to its end.
    pub(super) fn is_as_written(&self) -> bool {
        let is_cut = self.kept < self.last;
        // A frame without events at the end of a log that is not cut is a part of it.
        self.first_changed.is_none_or(|first| first > self.kept && is_cut)
    }

    /// Returns the positions without an intact record up to `last`, as ranges.
    pub(super) fn unreadable(&self, last: u64) -> Vec<(Position, Position)> {
        let lost = self.damaged.iter().filter(|position| !self.copies.contains_key(position)).copied();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for position in lost.chain(self.last + 1..=last) {
            let is_full = ranges.len() == MAX_LISTED;
            match ranges.last_mut() {
                Some((_, end)) if *end + 1 == position => *end = position,
                _ if is_full => break,
                _ => ranges.push((position, position)),
            }
        }
        let position = |number| Position::new(number).unwrap_or(Position::FIRST);
        ranges.into_iter().map(|(from, to)| (position(from), position(to))).collect()
    }

    /// Returns whether frames after a position may have had changes that are lost.
    pub(super) fn lost_changes_after(&self, applied: Option<Position>) -> bool {
        self.gaps.iter().any(|(.., next)| Some(*next) > applied && next.get() <= self.kept + 1)
    }

    /// Calls `take` with each part of the log.
    pub(super) fn each_part(
        &self,
        mut take: impl FnMut(&RepairedPart<'_>) -> Result<(), RepairError>,
    ) -> Result<(), RepairError> {
        salvage(&self.disk, &self.directory, |part| take(&part_of(&part, self)))
    }

    /// Returns a gap with its intact records and the copies of the others.
    pub(super) fn recovered(&self, gap: &LogGap) -> RecoveredGap {
        let mut records = gap.intact.clone();
        for (position, bytes) in self.copies.range(gap.first.get()..gap.next.get()) {
            let position = Position::new(*position).unwrap_or(Position::FIRST);
            records.push(IntactRecord { position, is_event: true, bytes: bytes.clone() });
        }
        // Changes of rows have the position of the event after them.
        records.sort_by_key(|record| (record.position, record.is_event));
        RecoveredGap { place: gap.place, first: gap.first, next: gap.next, records }
    }
}

impl RepairedPart<'_> {
    /// Returns the events, in order. Those of a gap may have gaps.
    pub(super) fn events(&self) -> Vec<RecordedEvent> {
        match self {
            Self::Segment => Vec::new(),
            Self::Gap(gap) => gap.events(),
            Self::Frame(frame) => {
                let (batch, mut decoder) = (frame.batch(), LogDecoder::default());
                let decode = |record: es_log::Record<'_>| decoder.event(&record, batch.bytes()).ok().flatten();
                batch.records().flatten().filter_map(decode).collect()
            }
        }
    }
}

impl RecoveredGap {
    fn events(&self) -> Vec<RecordedEvent> {
        let mut decoder = LogDecoder::default();
        let events = self.records.iter().filter(|record| record.is_event).filter_map(|record| {
            let batch = Batch::of_copy(record.bytes.clone(), record.position, self.place).ok()?;
            decoder.only_event(record.position, &batch).ok()
        });
        events.collect()
    }

    fn is_key(&self, record: &IntactRecord) -> bool {
        let batch = Batch::of_copy(record.bytes.clone(), record.position, self.place);
        batch.is_ok_and(|batch| batch.records().flatten().any(|record| matches!(record.body, Body::Key(_))))
    }

    /// Returns the frame with the records up to the last kept event; `None` if there are none.
    pub(super) fn draft(&self, kept: u64, opens: u64, keys: KeyRecords) -> Option<RecoveredFrame> {
        let is_kept = |record: &&IntactRecord| match record.is_event {
            true => record.position.get() <= kept,
            false => {
                record.position.get() <= kept.saturating_add(1) && (keys == KeyRecords::Kept || !self.is_key(record))
            }
        };
        let (mut records, mut count) = (Vec::new(), 0);
        for record in self.records.iter().filter(is_kept) {
            records.extend_from_slice(&record.bytes);
            count += 1;
        }
        let is_last = |part: CommitPart| part.is_last();
        let ends =
            self.events().into_iter().filter(|event| event.position.get() <= kept && is_last(event.part)).count();
        let commits = u32::try_from(ends).unwrap_or(u32::MAX).max(1);
        (count > 0).then_some(RecoveredFrame { records, count, commits, opens })
    }
}

impl RecoveredFrame {
    pub(super) fn as_draft(&self) -> FrameDraft<'_> {
        let Self { records, count, commits, opens } = self;
        // Rows of the lost frames may be missing, as in a frame that was rewritten.
        let (is_rewritten, kind) = (true, EntryKind::Commits);
        FrameDraft { commits: *commits, term: 0, opens: *opens, kind, is_rewritten, records, count: *count }
    }
}

/// Returns a part of a damaged log with the records that can be recovered.
fn part_of<'a>(part: &'a SalvagedPart, log: &'a DamagedLog) -> RepairedPart<'a> {
    match part {
        SalvagedPart::Segment(_) => RepairedPart::Segment,
        SalvagedPart::Frame(frame) => RepairedPart::Frame(frame),
        SalvagedPart::Gap(gap) => RepairedPart::Gap(log.recovered(gap)),
    }
}
