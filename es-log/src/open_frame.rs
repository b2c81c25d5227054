//! [`OpenFrame`]: the frame that commits are added to, and [`CommitDraft`], through which a commit is added.

use std::sync::Arc;

use es_core::Position;

use crate::answer::Answer;
use crate::error::AppendError;
use crate::frame::{EntryKind, MAX_FRAME_LEN};
use crate::layout::FRAME_HEADER_LEN;
use crate::record::{Body, RecordError};

/// The frame that is written next. Its bytes start with space for the header.
#[derive(Debug)]
pub(crate) struct OpenFrame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) commits: u32,
    pub(crate) records: u32,
    pub(crate) events: u32,
    /// The position of the first event.
    pub(crate) first_position: u64,
    /// The times of the first and the last event.
    pub(crate) times: Option<(i64, i64)>,
    /// The callers of the commits.
    pub(crate) callers: Vec<Arc<Answer>>,
}

impl OpenFrame {
    pub(crate) fn new(first_position: u64) -> Self {
        Self::with_capacity(first_position, FRAME_HEADER_LEN)
    }

    /// Returns an empty frame that will have about this number of bytes.
    pub(crate) fn with_capacity(first_position: u64, bytes: usize) -> Self {
        let mut frame = Vec::with_capacity(bytes.max(FRAME_HEADER_LEN));
        frame.resize(FRAME_HEADER_LEN, 0);
        Self {
            bytes: frame,
            kind: EntryKind::Commits,
            commits: 0,
            records: 0,
            events: 0,
            first_position,
            times: None,
            callers: Vec::new(),
        }
    }

    /// Returns a frame without records.
    pub(crate) fn blank(first_position: u64) -> Self {
        Self { kind: EntryKind::Blank, ..Self::new(first_position) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commits == 0 && self.kind == EntryKind::Commits
    }

    /// Adds a commit. After an error of `draft`, or without a record, the frame is unchanged.
    pub(crate) fn add<R, E: From<AppendError>>(
        &mut self,
        base_time: i64,
        draft: impl FnOnce(&mut CommitDraft<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let (length, records, events, times) = (self.bytes.len(), self.records, self.events, self.times);
        let result = draft(&mut CommitDraft { frame: self, base_time }).and_then(|value| {
            let found = self.bytes.len() - length;
            let fits = self.bytes.len() < MAX_FRAME_LEN && self.records > records;
            if fits { Ok(value) } else { Err(AppendError::Size { found }.into()) }
        });
        match &result {
            Ok(_) => self.commits += 1,
            Err(_) => {
                self.bytes.truncate(length);
                (self.records, self.events, self.times) = (records, events, times);
            }
        }
        result
    }
}

/// A commit that is being added to the open frame. The log is locked meanwhile: do not wait for anything.
#[derive(Debug)]
pub struct CommitDraft<'a> {
    frame: &'a mut OpenFrame,
    base_time: i64,
}

impl CommitDraft<'_> {
    /// Returns the position of the next event or tombstone.
    #[must_use]
    pub fn next_position(&self) -> Position {
        let next = self.frame.first_position.saturating_add(self.frame.events.into());
        Position::new(next).unwrap_or(Position::FIRST)
    }

    /// Adds a record. Returns its position; that of the next event if it has none.
    ///
    /// # Errors
    /// [`RecordError`] if the record could not be read back.
    pub fn push(&mut self, body: &Body<'_>) -> Result<Position, RecordError> {
        let position = self.next_position();
        if position.get() >= u64::MAX - 1 {
            return Err(RecordError::Number { field: "position" });
        }
        body.encode(self.base_time, &mut self.frame.bytes)?;
        self.frame.records += 1;
        let time = match body {
            Body::Event(event) => event.recorded_at,
            Body::Tombstone(tombstone) => tombstone.recorded_at,
            Body::Row(_) | Body::Key(_) | Body::Opaque(_) => return Ok(position),
        };
        self.frame.events += 1;
        self.frame.times = Some((self.frame.times.map_or(time, |(first, _)| first), time));
        Ok(position)
    }
}
