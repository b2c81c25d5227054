//! Copies of the records of all events, for a read that skips none of them. Two threads copy the halves of a large part,
//! because RocksDB needs more time to find and to decompress a record than the consumer needs to decode it.
//!
//! ```text
//!   blocking thread │ positions 1 to 2,048     │ join ... next part
//!   second thread   │ positions 2,049 to 4,096 │
//! ```

use std::thread;

use es_core::store::Direction;
use es_core::{Position, StoreError};

use super::{Fetched, LogScan};
use crate::database::{Database, bad_record, check_position, place_of};
use crate::options::ReadLimits;
use crate::postings::successor;
use crate::reader::{BatchBudget, FIRST_BATCH, FetchedRecords};
use crate::record::{Checked, Decoder};

/// The records of a part, and the first position of the next part; `None` if this is the last part.
type Copied = (FetchedRecords<Position>, Option<Position>);

impl LogScan {
    /// Copies the records of the next part. The consumer decodes them.
    pub(super) fn copy_records(&self, database: &Database, limits: ReadLimits) -> Result<Fetched, StoreError> {
        let (records, next) = match self.halves(limits) {
            Some((half, middle)) => self.copy_halves(database, half, middle)?,
            None => self.copy_part(database, limits)?,
        };
        Ok(Fetched::Records(records, next))
    }

    /// Returns the limits of each half of the next part, and the first position of the second half. Returns `None` if
    /// the part is small, or if the limit of bytes probably ends it.
    fn halves(&self, limits: ReadLimits) -> Option<(ReadLimits, Position)> {
        let events = BatchBudget::new(limits, self.remaining).events;
        if events <= FIRST_BATCH.events * 2 || self.record_bytes.saturating_mul(events) > limits.bytes {
            return None;
        }
        let half = ReadLimits { events: events / 2, bytes: limits.bytes / 2 };
        let (first, last) = self.range_of(half.events);
        let middle = match self.read.direction {
            Direction::Forward => successor(Direction::Forward, last).filter(|middle| *middle <= self.head),
            Direction::Backward => successor(Direction::Backward, first),
        };
        middle.map(|middle| (half, middle))
    }

    /// Copies the records of two halves at the same time, each with these limits.
    fn copy_halves(&self, database: &Database, half: ReadLimits, middle: Position) -> Result<Copied, StoreError> {
        let rest = Self { next: middle, ..self.clone() };
        let (first, second) = thread::scope(|scope| {
            let second = thread::Builder::new().spawn_scoped(scope, || rest.copy_part(database, half));
            let first = self.copy_part(database, half);
            // If the system has no more threads, the next part begins with the second half.
            (first, second.ok().map(thread::ScopedJoinHandle::join))
        });
        let (mut records, next) = first?;
        match second.filter(|_| next == Some(middle)) {
            Some(second) => {
                let (others, next) = second.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                records.append(others);
                Ok((records, next))
            }
            // Large records have ended the first half before the middle.
            None => Ok((records, next)),
        }
    }

    /// Copies the records of a part.
    fn copy_part(&self, database: &Database, limits: ReadLimits) -> Result<Copied, StoreError> {
        let mut budget = BatchBudget::new(limits, self.remaining);
        let mut records = FetchedRecords::default();
        let next = self.scan(database, self.range_of(budget.events), &mut budget, |position, record, budget| {
            // Checked here and decoded on the consumer's thread.
            let record = Checked::new(record).map_err(|error| bad_record(place_of(position), &error))?;
            // An event may have been hidden and removed after the check whether any event is hidden. Decoding detects a
            // damaged tombstone.
            if record.is_removed() && self.hidden.is_none() {
                check_position(position, Decoder::default().decode_checked(record, None))?;
                budget.skip_hidden();
            } else {
                budget.add(record.bytes().len());
                records.push(position, record);
            }
            Ok(())
        })?;
        Ok((records, next))
    }
}

#[cfg(test)]
mod tests;
