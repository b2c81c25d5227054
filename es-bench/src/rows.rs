//! Events as keys and values, for engines that are used directly. Each event is a record in the log and one under its
//! stream, as long as that of es-rocksdb, and an entry in the indexes by category, type, tag and id.

use crate::contender::{Append, Selection, Shape};
use crate::domain::{ADDED, Folded, REMOVED};
use crate::failure::Failure;

/// The length of a key: its purpose and two numbers.
pub const KEY: usize = 24;
/// A key.
pub type Key = [u8; KEY];
/// The callback for each key and value of a scan.
pub type Each<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), Failure> + 'a;

const LOG: u64 = 0;
const STREAM: u64 = 1;
const CATEGORY: u64 = 2;
const TYPE: u64 = 3;
const TAG: u64 = 4;
const ID: u64 = 5;
const HEAD: u64 = 6;

/// The read operations of an engine.
pub trait KeyValue {
    /// Calls `each` with the keys and values in `from..to`, in order.
    ///
    /// # Errors
    /// Returns a [`Failure`] of the engine or of `each`.
    fn scan(&self, from: Key, to: Key, each: &mut Each<'_>) -> Result<(), Failure>;

    /// Returns the value of a key.
    ///
    /// # Errors
    /// Returns a [`Failure`] of the engine.
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, Failure>;
}

/// Calls `put` with every key and value of a commit whose first event has this position.
pub fn rows(append: &Append, first: u64, shape: Shape, mut put: impl FnMut(Key, &[u8])) {
    for (index, event) in append.events.iter().enumerate() {
        let (position, revision) = (first + index as u64, append.expected + index as u64);
        let record = record(event.event_type, &event.payload, shape.event);
        put(key(LOG, position, 0), &record);
        put(key(STREAM, append.stream, revision), &record);
        put(key(CATEGORY, 0, position), &[]);
        put(key(TYPE, number_of(event.event_type), position), &[]);
        put(key(TAG, number_of(&event.tag), position), &[]);
        put(key(ID, position.wrapping_mul(0x9E37_79B9_7F4A_7C15), position), &position.to_be_bytes());
    }
    put(key(HEAD, append.stream, 0), &append.expected.to_be_bytes());
}

/// Scans a stream, decodes its records and folds them.
///
/// # Errors
/// Returns a [`Failure`] of the engine or of decoding.
pub fn load(engine: &impl KeyValue, stream: u64) -> Result<Folded, Failure> {
    let mut folded = Folded::default();
    engine.scan(key(STREAM, stream, 0), key(STREAM, stream + 1, 0), &mut |_, record| {
        let (event_type, payload) = parts(record);
        folded.add_encoded(event_type, payload)
    })?;
    Ok(folded)
}

/// Reads the log without decoding: a scan, or a scan of an index and a look-up for each event.
///
/// # Errors
/// Returns a [`Failure`] of the engine.
pub fn read(engine: &impl KeyValue, selection: &Selection) -> Result<u64, Failure> {
    each_record(engine, selection, &mut |_| {})
}

fn each_record(engine: &impl KeyValue, selection: &Selection, each: &mut dyn FnMut(&[u8])) -> Result<u64, Failure> {
    let mut events = 0;
    let (family, high) = match selection {
        Selection::All => {
            engine.scan(key(LOG, 0, 0), key(LOG + 1, 0, 0), &mut |_, record| {
                each(record);
                events += 1;
                Ok(())
            })?;
            return Ok(events);
        }
        Selection::Type(name) => (TYPE, number_of(name)),
        Selection::Tag(tag) => (TAG, number_of(tag)),
    };
    engine.scan(key(family, high, 0), key(family, high, u64::MAX), &mut |key_of_index, _| {
        let position = key_of_index[16..].try_into().map(u64::from_be_bytes);
        let position = position.map_err(|error| Failure::caused_by("read an index", &error))?;
        let record = engine.get(key(LOG, position, 0))?;
        each(&record.ok_or_else(|| Failure::new("read an index", format!("no event at {position}")))?);
        events += 1;
        Ok(())
    })?;
    Ok(events)
}

/// Reads the log and converts each record to an owned type and payload, as for a user of an event store.
///
/// # Errors
/// Returns a [`Failure`] of the engine.
pub fn read_events(engine: &impl KeyValue, selection: &Selection) -> Result<u64, Failure> {
    each_record(engine, selection, &mut |record| {
        let (event_type, payload) = parts(record);
        std::hint::black_box((event_type.to_owned(), payload.to_vec()));
    })
}

/// Encodes a record with the length of a record of es-rocksdb: the first byte is the type, the end is the payload.
fn record(event_type: &str, payload: &[u8], bytes: usize) -> Vec<u8> {
    let head = bytes.saturating_sub(payload.len()).max(1);
    let mut record = vec![u8::from(event_type == ADDED); head];
    record.extend_from_slice(payload);
    record
}

fn parts(record: &[u8]) -> (&'static str, &[u8]) {
    let start = record.iter().position(|byte| *byte == b'{').unwrap_or(0);
    (if record.first() == Some(&1) { ADDED } else { REMOVED }, &record[start..])
}

fn key(family: u64, high: u64, low: u64) -> Key {
    let mut key = [0; KEY];
    key[..8].copy_from_slice(&family.to_be_bytes());
    key[8..16].copy_from_slice(&high.to_be_bytes());
    key[16..].copy_from_slice(&low.to_be_bytes());
    key
}

/// Hashes a name with FNV-1a.
fn number_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{Tagging, sample};

    struct Map(BTreeMap<Key, Vec<u8>>);

    impl KeyValue for Map {
        fn scan(&self, from: Key, to: Key, each: &mut Each<'_>) -> Result<(), Failure> {
            self.0.range(from..to).try_for_each(|(key, value)| each(key, value))
        }

        fn get(&self, key: Key) -> Result<Option<Vec<u8>>, Failure> {
            Ok(self.0.get(&key).cloned())
        }
    }

    #[test]
    fn written_events_are_loaded_and_read_and_have_the_requested_size() {
        let shape = Shape { commit: 30, event: 1000 };
        let mut map = Map(BTreeMap::new());
        for stream in 0..3 {
            let events: Vec<_> = (0..20).map(|number| sample(stream, number, 200, Tagging::Spread(4))).collect();
            let append = Append { stream, expected: 0, seen: 0, conditional: false, events };
            rows(&append, 1 + stream * 20, shape, |key, value| drop(map.0.insert(key, value.to_vec())));
        }
        let records = map.0.values().filter(|value| value.len().abs_diff(shape.event) < 16);
        assert_eq!(records.count(), 2 * 60, "one in the log and one under the stream");
        assert_eq!(map.0.len(), 60 * 6 + 3);
        assert_eq!(load(&map, 1).unwrap().events, 20);
        let count = |selection| read(&map, &selection).unwrap();
        assert_eq!((count(Selection::All), count(Selection::Type(REMOVED))), (60, 6));
        assert_eq!(read_events(&map, &Selection::All).unwrap(), 60);
        assert_eq!(count(Selection::Tag(Tagging::Spread(4).tag(0, 1))), 15);
    }
}
