//! [`FetchedRecords`]: records that were read and checked, to be decoded later.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use es_core::model::EventView;
use es_core::store::Visitor;
use es_core::{Position, RecordedEvent, StoreError};

use crate::database::at;
use crate::record::{Checked, Decoder, RecordError, SHARED_BYTES};

/// Records under their numbers: positions of the log, or revisions of one stream.
///
/// They are copied into shared pieces of memory, so that the payloads of their events need no second copy. A payload that is kept
/// keeps one piece.
pub(crate) struct FetchedRecords<N> {
    /// Full pieces.
    shared: Vec<Bytes>,
    /// The last piece, until it is full.
    filling: Vec<u8>,
    /// The number of each record that is left, its piece, and its place in the piece.
    left: VecDeque<(N, usize, Range<usize>)>,
}

impl<N> Default for FetchedRecords<N> {
    fn default() -> Self {
        Self { shared: Vec::new(), filling: Vec::new(), left: VecDeque::new() }
    }
}

impl<N: Copy> FetchedRecords<N> {
    /// Copies a record.
    pub(super) fn push(&mut self, number: N, record: Checked<'_>) {
        let bytes = record.bytes();
        if self.filling.len() + bytes.len() > self.filling.capacity() {
            self.share();
            self.filling = Vec::with_capacity(SHARED_BYTES.1.max(bytes.len()));
        }
        let start = self.filling.len();
        self.filling.extend_from_slice(bytes);
        self.left.push_back((number, self.shared.len(), start..self.filling.len()));
    }

    /// Returns how many records are left.
    pub(super) fn len(&self) -> usize {
        self.left.len()
    }

    /// Returns whether no record is left.
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Returns the number of the last record that is left.
    pub(super) fn last(&self) -> Option<N> {
        self.left.back().map(|(number, ..)| *number)
    }

    fn share(&mut self) {
        if !self.filling.is_empty() {
            self.shared.push(std::mem::take(&mut self.filling).into());
        }
    }

    /// Visits the events of all records that are left. `check` checks that an event is the event of its number. Each event is
    /// decoded over the event before it, which is `last`. Returns the number of the event at which the visitor broke.
    pub(super) fn visit(
        &mut self,
        decoder: &mut Decoder,
        last: &mut Option<RecordedEvent>,
        check: impl for<'e> Fn(N, Result<&'e RecordedEvent, RecordError>) -> Result<&'e RecordedEvent, StoreError>,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<N>, StoreError> {
        self.share();
        let mut before = None;
        for (number, piece, place) in self.left.drain(..) {
            let piece = self.shared.get(piece);
            let record = Checked::copied(piece.and_then(|piece| piece.get(place)).unwrap_or_default());
            let decoded = decoder.decode_into(record, piece, last, before.as_ref()).map(|(event, fields)| {
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
    /// Decodes the events of the next `count` records.
    pub(super) fn decode(&mut self, count: usize, decoder: &mut Decoder) -> Result<Vec<RecordedEvent>, StoreError> {
        self.share();
        let count = count.min(self.left.len());
        let mut events = Vec::with_capacity(count);
        for (position, piece, place) in self.left.drain(..count) {
            let piece = self.shared.get(piece);
            let record = piece.and_then(|piece| piece.get(place)).unwrap_or_default();
            events.push(at(position, decoder.decode_checked(Checked::copied(record), piece))?);
        }
        Ok(events)
    }
}
