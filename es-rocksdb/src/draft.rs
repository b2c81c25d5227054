//! A commit as the writer gets it: checked, and with its records written except for what only the writer knows.
//!
//! All of this is the work of whoever commits. The writer, of which there is one, only numbers it.

use es_core::model::CommitPart;
use es_core::store::InvalidCommit;
use es_core::store::implement::ValidCommit;
use es_core::{Commit, CommitError, RecordedEvent, StoreError};

use crate::record;

/// Refuses a commit that has a stamped event: the records of this store do not keep stamps.
pub(crate) fn refuse_stamps(commit: &Commit) -> Result<(), InvalidCommit> {
    match commit.events().iter().find(|(_, event)| event.data.stamp.is_some()) {
        Some((_, event)) => Err(InvalidCommit::Stamped { id: event.data.id }),
        None => Ok(()),
    }
}

/// A commit and the drafts of its records.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) commit: ValidCommit,
    pub(crate) records: EncodedRecords,
}

/// The records of a commit, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct EncodedRecords {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Draft {
    /// Drafts the records of a commit.
    ///
    /// # Errors
    /// [`StoreError`]: an event could not be read back.
    pub(crate) fn new(commit: ValidCommit) -> Result<Self, StoreError> {
        Ok(Self { records: EncodedRecords::draft(&commit)?, commit })
    }

    /// Drafts the records of a commit whose events a hook has changed.
    ///
    /// # Errors
    /// [`CommitError`]: the hook added stamps, or an event could not be read back.
    pub(crate) fn reencode(commit: &ValidCommit) -> Result<EncodedRecords, CommitError> {
        refuse_stamps(commit)?;
        Ok(EncodedRecords::draft(commit)?)
    }
}

impl EncodedRecords {
    /// Drafts the records of the events of a commit.
    ///
    /// # Errors
    /// [`StoreError`]: an event could not be read back.
    fn draft(commit: &ValidCommit) -> Result<Self, StoreError> {
        let mut records = Self { bytes: Vec::new(), ends: Vec::with_capacity(commit.events().len()) };
        let size = u32::try_from(commit.events().len()).unwrap_or(u32::MAX);
        for (index, (stream, event)) in (0..).zip(commit.events()) {
            record::draft(stream, &event.data, CommitPart { index, size }, &mut records.bytes).map_err(|error| {
                StoreError::io(format!("encode event {} for stream {stream:?}", event.data.id), error)
            })?;
            records.ends.push(records.bytes.len());
        }
        Ok(records)
    }

    /// Completes the records of the events that the commit gave.
    pub(crate) fn number(&mut self, events: &[RecordedEvent]) {
        let mut start = 0;
        for (event, end) in events.iter().zip(&self.ends) {
            record::number(self.bytes.get_mut(start..*end).unwrap_or_default(), event);
            start = *end;
        }
    }

    /// How many bytes they have together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }
}
