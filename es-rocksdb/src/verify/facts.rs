//! [`Facts`]: what the frames of one segment say of the index, the unique keys and the rows.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use es_core::model::CommitPart;
use es_core::{Position, RecordedEvent, StoreError, Timestamp};
use es_log::{Frame, Place};

use super::Context;
use super::keys::KeyFacts;
use crate::engine::database::place_of;
use crate::open::replay::change_of;
use crate::record::codec::LogDecoder;
use crate::schema::Cf;
use crate::verify::Verification;

/// The number of entries, and the sum of their hashes. It does not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) count: u64,
    hashes: u64,
}

impl Sum {
    pub(super) fn add(&mut self, entry: impl Hash) {
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(hash_of(entry));
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.hashes = self.hashes.wrapping_add(other.hashes);
    }
}

fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Returns what the sum of the copies has of a copy. The checksum of the record, which is verified, covers the rest.
pub(super) fn copy_entry<'a>(
    (stream, revision): (&'a str, u64),
    (position, segment): (Position, u32),
    record: &'a [u8],
) -> impl Hash + use<'a> {
    (stream, revision, position.get(), segment, record.len(), record.get(..8))
}

/// The last values of the rows that frames name, as hashes: of the key, and of the value or `None` if it is deleted.
pub(super) type RowValues = HashMap<u64, Option<u64>>;

/// Returns the hash of the key of a row.
pub(super) fn row_key(key: &[u8]) -> u64 {
    hash_of(key)
}

/// Returns the hash of the value of a row.
pub(super) fn row_value(value: &[u8]) -> u64 {
    hash_of(value)
}

/// What the frames of one segment say.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) found: Verification,
    error: Option<StoreError>,
    events: u64,
    removed: u64,
    sums: [Sum; Cf::ALL.len()],
    /// The recorded times of the first and the last event, and the position of the first.
    times: Option<(Timestamp, Timestamp, Position)>,
    rows: RowValues,
    /// Whether a frame was rewritten. Rows before it may be missing in the log.
    is_rewritten: bool,
    keys: KeyFacts,
    decoder: LogDecoder,
}

impl Facts {
    pub(super) fn frame(&mut self, context: &Context<'_>, frame: &Frame) {
        if frame.header().original.is_some() {
            self.is_rewritten = true;
            self.rows.clear();
        }
        let batch = frame.batch();
        let mut part: Option<CommitPart> = None;
        for record in batch.records() {
            // The verification of the log has a finding for a record that cannot be decoded.
            let Ok(record) = record else { return };
            context.count();
            if let Some((Cf::Rows, key, value)) = change_of(&record) {
                self.rows.insert(row_key(&key), value.map(|value| row_value(&value)));
                continue;
            }
            let event = self.decoder.event(&record, batch.bytes());
            let Some(Some(event)) = self.note(event) else { continue };
            self.commit_part(part, &event);
            part = Some(event.part);
            self.event(context, &event, batch.place(), record.bytes);
        }
        if let Some(part) = part.filter(|part| !part.is_last()) {
            let place = place_of(frame.header().first_position);
            let detail = format!("expected {} events in the last commit of the frame, found fewer", part.size);
            self.found.add(place, detail);
        }
    }

    /// Records damage, and keeps another error.
    fn note<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        match self.found.note(result) {
            Ok(found) => found,
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }

    fn commit_part(&mut self, last: Option<CommitPart>, event: &RecordedEvent) {
        let part = event.part;
        let unfinished = last.filter(|last| !last.is_last());
        let index = unfinished.map_or(0, |last| last.index.saturating_add(1));
        let size = unfinished.map_or(part.size, |last| last.size);
        if part.index >= part.size || part.index != index || part.size != size {
            let detail = format!("expected event {index} of a commit of {size}, found {} of {}", part.index, part.size);
            self.found.add(place_of(event.position), detail);
        }
    }

    fn event(&mut self, context: &Context<'_>, event: &RecordedEvent, place: Place, record: &[u8]) {
        let (position, recorded_at) = (event.position, event.recorded_at);
        if let Some((_, last, _)) = self.times.filter(|(_, last, _)| *last > recorded_at) {
            self.found.add(place_of(position), format!("expected a time from {last} on, found {recorded_at}"));
        }
        let (first, at) = self.times.map_or((recorded_at, position), |(first, _, at)| (first, at));
        self.times = Some((first, recorded_at, at));
        match event.is_removed() {
            true => self.removed += 1,
            false => self.events += 1,
        }
        if context.is_in_tables(position) {
            self.add(Cf::Ids, (event.data.id, position.get()));
            if !event.is_removed() {
                self.add(Cf::Categories, (event.stream.category_str(), position.get()));
                self.add(Cf::Types, (event.data.event_type.as_str(), position.get()));
                for tag in &event.data.tags {
                    self.add(Cf::Tags, (tag.as_str(), position.get()));
                }
                let of_stream = (event.stream.as_str(), event.revision.get());
                self.add(Cf::Streams, copy_entry(of_stream, (position, place.segment), record));
            }
        }
        if !event.is_removed() && !event.data.keys.is_empty() {
            let checked = self.keys.event(context, event, &mut self.found);
            self.note(checked);
        }
    }

    fn add(&mut self, cf: Cf, entry: impl Hash) {
        if let Some(sum) = self.sums.get_mut(cf as usize) {
            sum.add(entry);
        }
    }
}

/// What all segments say.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) events: u64,
    pub(super) removed: u64,
    sums: [Sum; Cf::ALL.len()],
    pub(super) rows: RowValues,
    pub(super) is_rewritten: bool,
}

impl Totals {
    /// Adds up the facts of the segments, in order.
    pub(super) fn of(segments: Vec<Facts>, found: &mut Verification) -> Result<Self, StoreError> {
        let mut totals = Self::default();
        let (mut last_time, mut keys) = (None, KeyFacts::default());
        for facts in segments {
            if let Some(error) = facts.error {
                return Err(error);
            }
            found.merge(facts.found);
            totals.events += facts.events;
            totals.removed += facts.removed;
            for (sum, of_segment) in totals.sums.iter_mut().zip(facts.sums) {
                sum.merge(of_segment);
            }
            if let Some((first, last, at)) = facts.times {
                if let Some(last_time) = last_time.filter(|last_time| *last_time > first) {
                    found.add(place_of(at), format!("expected a time from {last_time} on, found {first}"));
                }
                last_time = Some(last);
            }
            if facts.is_rewritten {
                totals.is_rewritten = true;
                totals.rows.clear();
            }
            totals.rows.extend(facts.rows);
            keys.merge(facts.keys);
        }
        keys.add_to(found);
        Ok(totals)
    }

    pub(super) fn sum(&self, cf: Cf) -> Sum {
        self.sums.get(cf as usize).copied().unwrap_or_default()
    }
}
