//! [`Draft`]: a validated commit with its encoded records, before the writer adds positions, revisions and times.
//!
//! The committing task creates drafts, so that the single writer only has to complete them.

use es_core::model::CommitPart;
use es_core::store::implement::ValidCommit;
use es_core::{EventData, RecordedEvent, StoreError, StreamId};

use crate::record;

/// A commit and the drafts of its records.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) commit: ValidCommit,
    pub(crate) records: EncodedRecords,
}

/// The records of a commit, one after the other.
#[derive(Debug, Default)]
pub(crate) struct EncodedRecords {
    bytes: Vec<u8>,
    /// The end of each record in `bytes`.
    ends: Vec<usize>,
}

impl Draft {
    /// Drafts the records of a commit.
    ///
    /// # Errors
    /// [`StoreError`]: an event cannot be stored as a record.
    pub(crate) fn new(commit: ValidCommit) -> Result<Self, StoreError> {
        let size = u32::try_from(commit.events().len()).unwrap_or(u32::MAX);
        let events = (0..).zip(commit.events());
        let events = events.map(|(index, (stream, event))| (stream, &event.data, CommitPart { index, size }));
        Ok(Self { records: EncodedRecords::draft(events)?, commit })
    }

    /// Drafts the records of the decided events of a commit, which a hook has changed.
    ///
    /// # Errors
    /// [`StoreError`]: an event cannot be stored as a record.
    pub(crate) fn reencode(events: &[RecordedEvent]) -> Result<EncodedRecords, StoreError> {
        EncodedRecords::draft(events.iter().map(|event| (&event.stream, &event.data, event.part)))
    }
}

impl EncodedRecords {
    /// Drafts the records of events.
    ///
    /// # Errors
    /// [`StoreError`]: an event cannot be stored as a record.
    fn draft<'a>(events: impl Iterator<Item = (&'a StreamId, &'a EventData, CommitPart)>) -> Result<Self, StoreError> {
        let mut records = Self { bytes: Vec::new(), ends: Vec::with_capacity(events.size_hint().0) };
        for (stream, data, part) in events {
            record::draft(stream, data, part, &mut records.bytes)
                .map_err(|error| StoreError::io(format!("encode event {} for stream {stream:?}", data.id), error))?;
            records.ends.push(records.bytes.len());
        }
        Ok(records)
    }

    /// Completes the records with the numbers and times of the recorded events.
    pub(crate) fn number(&mut self, events: &[RecordedEvent]) {
        let mut start = 0;
        for (event, end) in events.iter().zip(&self.ends) {
            record::number(self.bytes.get_mut(start..*end).unwrap_or_default(), event);
            start = *end;
        }
    }

    /// Returns the length of all records, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the records, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }
}
