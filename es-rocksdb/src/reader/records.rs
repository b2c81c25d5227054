//! [`FetchedRecords`]: records that were fetched and checked and are decoded later.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use es_core::model::EventView;
use es_core::store::Visitor;
use es_core::{Position, RecordedEvent, StoreError};

use crate::database::check_position;
use crate::record::{Checked, Decoder, RecordError, SHARED_BYTES};

/// Records with their numbers: positions in the log, or revisions in one stream.
///
/// Records are copied into shared buffers, so that decoding does not copy the payloads again. A retained payload keeps
/// one whole buffer alive.
pub(crate) struct FetchedRecords<N> {
    /// The full buffers.
    buffers: Vec<Bytes>,
    /// The last buffer, until it is full.
    filling: Vec<u8>,
    /// The number of each record, the index of its buffer, and its range in the buffer.
    records: VecDeque<(N, usize, Range<usize>)>,
}

impl<N> Default for FetchedRecords<N> {
    fn default() -> Self {
        Self { buffers: Vec::new(), filling: Vec::new(), records: VecDeque::new() }
    }
}

impl<N: Copy> FetchedRecords<N> {
    /// Adds a copy of a record.
    pub(super) fn push(&mut self, number: N, record: Checked<'_>) {
        let bytes = record.bytes();
        if self.filling.len() + bytes.len() > self.filling.capacity() {
            self.finish_buffer();
            self.filling = Vec::with_capacity(SHARED_BYTES.1.max(bytes.len()));
        }
        let start = self.filling.len();
        self.filling.extend_from_slice(bytes);
        self.records.push_back((number, self.buffers.len(), start..self.filling.len()));
    }

    /// Returns the number of records.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether there are no records.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the position or revision of the last record.
    pub(super) fn last(&self) -> Option<N> {
        self.records.back().map(|(number, ..)| *number)
    }

    fn finish_buffer(&mut self) {
        if !self.filling.is_empty() {
            self.buffers.push(std::mem::take(&mut self.filling).into());
        }
    }

    /// Visits the events of all records and removes the records. `check` checks that an event has the number of its
    /// record. Each event is decoded over the event before it, which is in `last`. Returns the number of the event at
    /// which the visitor broke.
    pub(super) fn visit(
        &mut self,
        decoder: &mut Decoder,
        last: &mut Option<RecordedEvent>,
        check: impl for<'e> Fn(N, Result<&'e RecordedEvent, RecordError>) -> Result<&'e RecordedEvent, StoreError>,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<N>, StoreError> {
        self.finish_buffer();
        let mut before = None;
        for (number, buffer, range) in self.records.drain(..) {
            let buffer = self.buffers.get(buffer);
            let record = Checked::copied(buffer.and_then(|buffer| buffer.get(range)).unwrap_or_default());
            let decoded = decoder.decode_into(record, buffer, last, before.as_ref()).map(|(event, fields)| {
                before = fields;
                event
            });
            if visitor(EventView::from(check(number, decoded)?)).is_break() {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}

impl FetchedRecords<Position> {
    /// Decodes and removes the next `count` records.
    pub(super) fn decode(&mut self, count: usize, decoder: &mut Decoder) -> Result<Vec<RecordedEvent>, StoreError> {
        self.finish_buffer();
        let count = count.min(self.records.len());
        let mut events = Vec::with_capacity(count);
        for (position, buffer, range) in self.records.drain(..count) {
            let buffer = self.buffers.get(buffer);
            let record = buffer.and_then(|buffer| buffer.get(range)).unwrap_or_default();
            events.push(check_position(position, decoder.decode_checked(Checked::copied(record), buffer))?);
        }
        Ok(events)
    }
}
