//! Verification of a whole store.
//!
//! ```text
//!   1 log      each record: checksum, key, no gap in positions, index in its commit, time;
//!              and looks up the copy of the record in its stream, its id and its index entries
//!   2 streams  each record: checksum, key, no gap in revisions from the first retained one, head of its stream;
//!              the streams lack as many events at their beginnings as the log has tombstones
//!   3 counts   each family has exactly as many entries as steps 1 and 2 confirmed;
//!              otherwise checks each entry, to find the unconfirmed ones
//!   4 keys     each claim has its entry, a later claim or a release; each entry has its claim or a removed event
//!   5 tables   the checksum of each block of each table file, including blocks that RocksDB skips if they are corrupt
//! ```
//!
//! Steps 1 and 3 together verify both directions: no required entry is missing, and no other entry exists.
//!
//! Step 5 covers the parts of table files that RocksDB skips without an error if they are corrupt, because they are
//! only optimizations (Bloom filters, properties). RocksDB counts them: step 5 reads a key from each table file, and
//! the count must stay zero.

mod beyond;
mod keys;
mod strays;
mod tables;

pub(crate) use strays::{has_table, place_in_stream, split_numbered};
pub(crate) use tables::verify_tables;

use std::collections::HashMap;

use es_core::model::CommitPart;
use es_core::store::implement::{KeyHash, KeySecret};
use es_core::{Position, RecordedEvent, Revision, StoreError, StreamId, Timestamp};
use rocksdb::DBRawIterator;

use crate::database::{Database, Tier, bad_key, bad_name, check_position, check_revision, item, place_in, place_of};
use crate::key;
use crate::record::{Checked, Decoder, RecordError};
use crate::retention::Operators;
use crate::schema::{Cf, META_FIRST};

/// Receives the progress: the name of the current step, the number of processed entries, and the total if it is known.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, Option<u64>);

/// The maximum number of described findings. Further findings are only counted.
const MAX_DAMAGE: usize = 1000;
/// The number of entries between two reports of progress.
const PROGRESS_INTERVAL: u64 = 1024;

/// A finding of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Damage {
    /// The location: a position, a stream or an entry of an index.
    pub place: String,
    /// The expected and the found data.
    pub detail: String,
}

/// The result of [`ReadOnlyStore::verify`](crate::ReadOnlyStore::verify).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// The number of readable events.
    pub events: u64,
    /// The number of [removed](es_core::retention) events.
    pub removed: u64,
    /// The number of streams.
    pub streams: u64,
    /// The number of verified entries of all kinds.
    pub entries: u64,
    /// The distinct findings, at most the first thousand. [`findings`](Self::findings) returns their frequencies, too.
    pub damage: Vec<Damage>,
    /// The number of further findings, including repeated ones.
    pub more_damage: u64,
    /// The frequency of each finding.
    times: Vec<u64>,
    /// The index of each finding in `damage`.
    places: HashMap<Damage, usize>,
}

impl Verification {
    /// Returns `true` if no damage was found.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }

    /// Returns each finding with its frequency: every read of a corrupt block repeats its finding.
    pub fn findings(&self) -> impl Iterator<Item = (&Damage, u64)> {
        self.damage.iter().zip(self.times.iter().copied().chain(std::iter::repeat(1)))
    }

    pub(crate) fn add(&mut self, place: impl Into<String>, detail: impl Into<String>) {
        self.add_times(Damage { place: place.into(), detail: detail.into() }, 1);
    }

    fn add_times(&mut self, damage: Damage, count: u64) {
        // ORDER: before the limit, so that the repeated finding of one corrupt block does not displace other findings.
        if let Some(times) = self.places.get(&damage).and_then(|place| self.times.get_mut(*place)) {
            *times = times.saturating_add(count);
        } else if self.damage.len() < MAX_DAMAGE {
            self.places.insert(damage.clone(), self.damage.len());
            self.times.push(count);
            self.damage.push(damage);
        } else {
            self.more_damage = self.more_damage.saturating_add(count);
        }
    }

    /// Adds the findings of another part of the store.
    pub(crate) fn merge(&mut self, other: Self) {
        self.more_damage = self.more_damage.saturating_add(other.more_damage);
        for (damage, times) in other.damage.into_iter().zip(other.times) {
            self.add_times(damage, times);
        }
    }

    /// Records damage. Returns other results and errors.
    pub(crate) fn note<T>(&mut self, result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(StoreError::Damaged { place, detail }) => {
                self.add(place, detail);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Verifies the store. `counts` are the options of the database, which have its statistics.
pub(crate) fn verify(
    database: &Database,
    operators: &Operators,
    secret: &KeySecret,
    counts: &rocksdb::Options,
    progress: Progress<'_>,
) -> Result<Verification, StoreError> {
    let mut verifier = Verifier {
        database,
        operators,
        secret,
        progress,
        found: Verification::default(),
        confirmed: [0; Cf::ALL.len()],
        unindexed: HashMap::new(),
        processed: 0,
    };
    verifier.log()?;
    verifier.unindexed();
    verifier.streams()?;
    for cf in [Cf::Heads, Cf::Ids, Cf::Categories, Cf::Types, Cf::Tags] {
        verifier.count(cf)?;
    }
    verifier.key_entries()?;
    verifier.rows()?;
    let Verifier { mut found, progress, .. } = verifier;
    let mut entries = 0;
    verify_tables(database, counts, &mut found, |done, total| {
        entries += 1;
        progress("tables", done, Some(total));
    })?;
    found.entries += entries;
    Ok(found)
}

struct Verifier<'a> {
    database: &'a Database,
    operators: &'a Operators,
    secret: &'a KeySecret,
    progress: Progress<'a>,
    found: Verification,
    /// The number of entries of each family that the log or the streams confirm.
    confirmed: [u64; Cf::ALL.len()],
    /// The claims without an entry that no event has released so far, with their positions.
    unindexed: HashMap<KeyHash, Position>,
    /// The number of calls of [`report`](Self::report).
    processed: u64,
}

/// The data of the previous event that the check of an event needs.
#[derive(Clone, Copy)]
struct Predecessor {
    position: Position,
    part: CommitPart,
    recorded_at: Timestamp,
}

/// An owned key and value.
type Entry = (Vec<u8>, Vec<u8>);

impl Verifier<'_> {
    /// Counts an entry, and reports the progress from time to time.
    fn report(&mut self, what: &str, done: u64, total: Option<u64>) {
        self.found.entries += 1;
        self.processed += 1;
        if self.processed.is_multiple_of(PROGRESS_INTERVAL) {
            (self.progress)(what, done, total);
        }
    }

    fn confirm(&mut self, cf: Cf) {
        if let Some(confirmed) = self.confirmed.get_mut(cf as usize) {
            *confirmed += 1;
        }
    }

    fn confirmed(&self, cf: Cf) -> u64 {
        self.confirmed.get(cf as usize).copied().unwrap_or_default()
    }

    /// Returns the current entry of an iterator; `None` at its end or at an unreadable block.
    fn entry(&mut self, entries: &DBRawIterator<'_>, cf: Cf) -> Result<Option<Entry>, StoreError> {
        let found = item(entries, cf).map_err(StoreError::from);
        let found = found.map(|found| found.map(|(key, value)| (key.to_vec(), value.to_vec())));
        Ok(self.found.note(found)?.flatten())
    }

    fn log(&mut self) -> Result<(), StoreError> {
        let total = self.found.note(self.database.last_event())?.flatten().map(|last| last.position.get());
        let mut decoder = Decoder::default();
        let mut log = self.database.iterate(Cf::Log, Vec::new(), Tier::Any)?;
        log.seek_to_first();
        let (mut expected, mut last, mut unread) = (Position::FIRST, None::<Predecessor>, None);
        let mut buffer = None;
        loop {
            let Some((key, record)) = self.entry(&log, Cf::Log)? else {
                if log.status().is_ok() {
                    break;
                }
                (unread, last) = (unread.or(Some(expected)), None);
                if beyond::seek(&mut log, expected, total) {
                    continue;
                }
                break;
            };
            log.next();
            self.report("log", expected.get(), total);
            let position = key::decode_position(&key).map_err(|error| bad_key(Cf::Log, &key, &error));
            let Some(position) = self.found.note(position)? else { continue };
            if let Some(from) = unread.take() {
                self.found.add(beyond::place(from, position), beyond::UNREAD);
            } else if position != expected {
                self.found.add(place_of(expected), format!("expected an event, found the next at position {position}"));
                last = None;
            }
            expected = position.next();
            let event = check_position(position, decode(&record, &mut decoder, &mut buffer));
            let Some(event) = self.found.note(event)? else {
                last = None;
                continue;
            };
            match event.is_removed() {
                true => self.found.removed += 1,
                false => self.found.events += 1,
            }
            self.follows(last, event);
            self.event(event, &record)?;
            last = Some(Predecessor { position, part: event.part, recorded_at: event.recorded_at });
        }
        if let Some(from) = unread {
            self.found.add(format!("{} and all after it", place_of(from)), beyond::UNREAD);
        }
        if let Some(event) = last.filter(|event| !event.part.is_last()) {
            self.found
                .add(place_of(event.position), "expected the rest of its commit after it, found the end of the log");
        }
        Ok(())
    }

    /// Checks an event against the previous one.
    fn follows(&mut self, last: Option<Predecessor>, event: &RecordedEvent) {
        let part = event.part;
        let index = last.map(|last| if last.part.is_last() { 0 } else { last.part.index.saturating_add(1) });
        let index = index.or((event.position == Position::FIRST).then_some(0));
        let size = last.filter(|last| !last.part.is_last()).map_or(part.size, |last| last.part.size);
        if part.index >= part.size || index.is_some_and(|index| index != part.index) || size != part.size {
            let index = index.map_or_else(|| "a lesser number".to_owned(), |index| index.to_string());
            let detail = format!("expected event {index} of a commit of {size}, found {} of {}", part.index, part.size);
            self.found.add(place_of(event.position), detail);
        }
        if let Some(last) = last.filter(|last| last.recorded_at > event.recorded_at) {
            let detail = format!("expected a time from {} on, found {}", last.recorded_at, event.recorded_at);
            self.found.add(place_of(event.position), detail);
        }
    }

    /// Checks that all required entries of an event exist.
    fn event(&mut self, event: &RecordedEvent, record: &[u8]) -> Result<(), StoreError> {
        if event.is_removed() {
            return self.id(event);
        }
        let key = key::in_stream(&event.stream, event.revision);
        let what = format!("the same record as {}", place_in(&event.stream, event.revision));
        self.require(event, Cf::Streams, &key, Some(record), &what)?;
        self.id(event)?;
        let category = event.stream.category_str();
        self.posting(event, Cf::Categories, category)?;
        self.posting(event, Cf::Types, event.data.event_type.as_str())?;
        for tag in &event.data.tags {
            self.posting(event, Cf::Tags, tag.as_str())?;
        }
        self.keys_of(event)
    }

    fn id(&mut self, event: &RecordedEvent) -> Result<(), StoreError> {
        let position = key::position(event.position);
        self.require(event, Cf::Ids, &key::id(event.data.id), Some(&position), &format!("its id {}", event.data.id))
    }

    fn posting(&mut self, event: &RecordedEvent, cf: Cf, name: &str) -> Result<(), StoreError> {
        self.require(event, cf, &key::posting(name, event.position), None, &format!("its entry under {name:?}"))
    }

    /// Checks that an entry of an event exists and has the value, if one is given.
    fn require(
        &mut self,
        event: &RecordedEvent,
        cf: Cf,
        key: &[u8],
        value: Option<&[u8]>,
        what: &str,
    ) -> Result<(), StoreError> {
        let found = self.database.get(cf, key, Tier::Any).map_err(StoreError::from);
        let found = found.map(|found| found.map(|found| value.is_none_or(|value| *found == *value)));
        let wrong = match self.found.note(found)? {
            Some(Some(true)) => {
                self.confirm(cf);
                return Ok(());
            }
            Some(Some(false)) => "found another",
            Some(None) => "found none",
            None => return Ok(()),
        };
        self.found.add(place_of(event.position), format!("expected {what} in the family {}, {wrong}", cf.name()));
        Ok(())
    }

    fn streams(&mut self) -> Result<(), StoreError> {
        let (mut decoder, mut buffer) = (Decoder::default(), None);
        let mut streams = self.database.iterate(Cf::Streams, Vec::new(), Tier::Any)?;
        streams.seek_to_first();
        let (mut last, mut count): (Option<(StreamId, Revision)>, u64) = (None, 0);
        while let Some((key, record)) = self.entry(&streams, Cf::Streams)? {
            streams.next();
            count += 1;
            self.report("streams", count, Some(self.found.events));
            let Some((stream, revision)) = self.found.note(strays::place_in_stream(&key))? else { continue };
            self.found.note(check_revision(&stream, revision, decode(&record, &mut decoder, &mut buffer)))?;
            let expected = match &last {
                Some((known, last)) if *known == stream => last.next(),
                _ => {
                    self.head(last.take())?;
                    self.found.streams += 1;
                    let first = self.database.first_left(&stream, Tier::Any).map_err(StoreError::from);
                    self.found.note(first)?.unwrap_or(revision)
                }
            };
            if revision != expected {
                let detail = format!("expected an event, found the next at revision {revision}");
                self.found.add(place_in(&stream, expected), detail);
            }
            last = Some((stream, revision));
        }
        // After a scan that ended at an unreadable block, `last` need not be the last event of its stream.
        if streams.status().is_ok() {
            self.head(last)?;
        }
        self.firsts()?;
        if count != self.confirmed(Cf::Streams) {
            self.strays(Cf::Streams)?;
        }
        Ok(())
    }

    /// Checks that the streams lack as many events at their beginnings as the log has tombstones, and that streams
    /// without retained events have their heads.
    fn firsts(&mut self) -> Result<(), StoreError> {
        let prefix = key::prefix(META_FIRST);
        let mut firsts = self.database.iterate(Cf::Meta, prefix.clone(), Tier::Any)?;
        firsts.seek_to_first();
        let mut removed = 0_u64;
        while let Some((key, value)) = self.entry(&firsts, Cf::Meta)? {
            firsts.next();
            self.report("streams", removed, None);
            let name = key.strip_prefix(prefix.as_slice()).and_then(|name| std::str::from_utf8(name).ok());
            let stream = name.and_then(|name| StreamId::new(name).ok()).ok_or_else(|| bad_name(Cf::Meta, &key));
            let Some(stream) = self.found.note(stream)? else { continue };
            let first = key::decode_revision(&value).map_err(|error| bad_key(Cf::Meta, &key, &error));
            let Some(first) = self.found.note(first)? else { continue };
            // A number from a damaged file can have any value.
            removed = removed.saturating_add(first.get());
            let last = first.get().checked_sub(1).map(Revision::new);
            let head = self.database.revision(&stream, Tier::Any).map_err(StoreError::from);
            if last.is_some() && self.found.note(head)?.flatten() == last {
                self.found.streams += 1;
                self.confirm(Cf::Heads);
            }
        }
        if removed != self.found.removed {
            let detail =
                format!("expected {removed} events that were removed in the log, found {}", self.found.removed);
            self.found.add("beginnings of streams", detail);
        }
        Ok(())
    }

    /// Checks that the head of a stream is its last event.
    fn head(&mut self, last: Option<(StreamId, Revision)>) -> Result<(), StoreError> {
        let Some((stream, last)) = last else { return Ok(()) };
        let head = self.database.revision(&stream, Tier::Any).map_err(StoreError::from);
        match self.found.note(head)? {
            Some(Some(head)) if head == last => self.confirm(Cf::Heads),
            Some(head) => {
                let found = head.map_or_else(|| "none".to_owned(), |head| format!("revision {head}"));
                self.found
                    .add(format!("head of stream {stream:?}"), format!("expected revision {last}, found {found}"));
            }
            None => {}
        }
        Ok(())
    }

    /// Checks that a family has only confirmed entries.
    fn count(&mut self, cf: Cf) -> Result<(), StoreError> {
        let mut entries = self.database.iterate(cf, Vec::new(), Tier::Any)?;
        entries.seek_to_first();
        let (mut count, expected) = (0, self.confirmed(cf));
        while self.found.note(item(&entries, cf).map(|item| item.is_some()).map_err(StoreError::from))? == Some(true) {
            entries.next();
            count += 1;
            self.report(cf.name(), count, Some(expected));
        }
        if count == expected { Ok(()) } else { self.strays(cf) }
    }
}

/// Decodes a record over the event in `buffer`, which verification does not need any more.
fn decode<'e>(
    record: &[u8],
    decoder: &mut Decoder,
    buffer: &'e mut Option<RecordedEvent>,
) -> Result<&'e RecordedEvent, RecordError> {
    let (event, _) = decoder.decode_into(Checked::new(record)?, None, buffer, None)?;
    Ok(event)
}
