//! Records: a decoder accepts only what the encoder writes.

use arbitrary::Unstructured;
use es_core::RecordedEvent;

use super::generated;
use crate::record::layout::{
    CHECKED_FROM, CHECKSUM_AT, COMMAND_TAG, EXTENSION_HEAD_LEN, FIXED_LEN, KEYS_TAG, RECORD_VERSION, SEEN_TAG,
    STAMP_TAG, TOMBSTONE_LEN, TOMBSTONE_VERSION,
};
use crate::record::{Decoder, RecordError, draft, number};

/// The properties of records:
///
/// - an accepted record is encoded as the same bytes, except the text of its metadata and unknown extensions, and then
///   decoded as the same event;
/// - an encoded event is decoded as the same event;
/// - a record with a flipped bit is rejected or decoded as the same event;
/// - a shortened record is rejected.
pub fn records(data: &[u8]) {
    check_decoded(data);
    // A fuzzer does not find a checksum by chance. With the correct one, the rest of the record is decoded.
    check_decoded(&sealed(data, RECORD_VERSION));
    check_decoded(&sealed(data, TOMBSTONE_VERSION));
    let Ok(event) = generated::event(&mut Unstructured::new(data)) else { return };
    let record = written(&event);
    assert_eq!(decoded(&record).expect("an encoded event can be decoded"), event);
    check_flipped(&event, &record, data);
    check_shortened(&record, data);
}

/// Flips each bit of the record that is generated from the bytes.
pub fn every_bit(data: &[u8]) {
    let Ok(event) = generated::event(&mut Unstructured::new(data)) else { return };
    let record = written(&event);
    for bit in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = decoded(&flipped) {
            assert_eq!(other, event, "bit {} of byte {} changes the event", bit % 8, bit / 8);
        }
    }
}

/// Sets the version and the correct checksum of a record.
#[must_use]
pub fn sealed(data: &[u8], version: u8) -> Vec<u8> {
    let mut record = data.to_vec();
    if record.len() >= TOMBSTONE_LEN {
        record[0] = version;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&record[..CHECKSUM_AT]), &record[CHECKED_FROM..]);
        record[CHECKSUM_AT..CHECKED_FROM].copy_from_slice(&sum.to_be_bytes());
    }
    record
}

pub(crate) fn written(event: &RecordedEvent) -> Vec<u8> {
    let mut record = Vec::new();
    draft(&event.stream, &event.data, event.part, &mut record).expect("an accepted event can be encoded");
    number(&mut record, event);
    record
}

fn decoded(record: &[u8]) -> Result<RecordedEvent, RecordError> {
    Decoder::default().decode(record)
}

/// Whether the record has a non-canonical text of the metadata, or extensions that this version does not know.
fn is_encoded_differently(record: &[u8], event: &RecordedEvent) -> bool {
    if event.is_removed() {
        return false;
    }
    // The last three fields of the fixed part are the lengths of the last three parts of the record.
    let number = |from_end: usize| {
        let at = FIXED_LEN - from_end;
        u32::from_be_bytes(record[at..at + 4].try_into().expect("four bytes")) as usize
    };
    let (metadata, payload, extensions) = (number(12), number(8), number(4));
    let end = record.len() - extensions - payload;
    let text = &record[end - metadata..end];
    let canonical = if event.data.metadata.is_empty() {
        Vec::new()
    } else {
        serde_json::to_vec(&event.data.metadata).expect("JSON")
    };
    has_unknown_extension(&record[record.len() - extensions..]) || text != canonical
}

fn has_unknown_extension(mut extensions: &[u8]) -> bool {
    while let Some((head, rest)) = extensions.split_first_chunk::<EXTENSION_HEAD_LEN>() {
        let [tag_0, tag_1, length @ ..] = *head;
        if ![STAMP_TAG, SEEN_TAG, COMMAND_TAG, KEYS_TAG].contains(&u16::from_be_bytes([tag_0, tag_1])) {
            return true;
        }
        extensions = &rest[u32::from_be_bytes(length) as usize..];
    }
    false
}

fn check_decoded(record: &[u8]) {
    let Ok(event) = decoded(record) else { return };
    let again = match std::panic::catch_unwind(|| written(&event)) {
        Ok(again) => again,
        Err(_) => panic!("an accepted record cannot be encoded: {event:?}"),
    };
    if !is_encoded_differently(record, &event) {
        assert_eq!(again, record, "an accepted record is encoded as other bytes");
    }
    let event_again = decoded(&again).expect("an encoded event can be decoded");
    assert_eq!(event_again, event, "an accepted record is encoded as another event");
}

/// Flips one bit, chosen by `data`.
fn check_flipped(event: &RecordedEvent, record: &[u8], data: &[u8]) {
    let choice = data.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let (byte, bit) = (choice / 8 % record.len(), choice % 8);
    let mut flipped = record.to_vec();
    flipped[byte] ^= 1 << bit;
    match decoded(&flipped) {
        Err(_) => {}
        Ok(other) => assert_eq!(&other, event, "bit {bit} of byte {byte} changes the event"),
    }
}

fn check_shortened(record: &[u8], data: &[u8]) {
    let end = data.len() * 7 % record.len();
    assert!(decoded(&record[..end]).is_err(), "the first {end} bytes of a record are accepted as a record");
}
