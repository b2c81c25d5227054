//! Records: what is accepted is what was written.

use arbitrary::Unstructured;
use es_core::RecordedEvent;

use super::made;
use crate::record::layout::{
    CHECKED_FROM, CHECKSUM_AT, EXTENSION_HEAD_LEN, FIXED_LEN, RECORD_VERSION, TOMBSTONE_LEN, TOMBSTONE_VERSION,
};
use crate::record::{Decoder, RecordError, draft, number};

/// Records, with any bytes as a record and as the choices for one:
///
/// - what a decoder accepts is written again as the same bytes, but for the text of its metadata and for extensions that
///   this version does not know; and it is read back as the same event;
/// - what is written is read back;
/// - a flipped bit is refused, or is one that changes nothing.
pub fn records(data: &[u8]) {
    accepted(data);
    // NOTE: no fuzzer finds a checksum by chance; with the right one, what is behind it is read.
    accepted(&sealed(data, RECORD_VERSION));
    accepted(&sealed(data, TOMBSTONE_VERSION));
    let Ok(event) = made::event(&mut Unstructured::new(data)) else { return };
    let record = written(&event);
    assert_eq!(decoded(&record).expect("what is written is read back"), event);
    flipped(&event, &record, data);
    cut(&record, data);
}

/// Flips each bit of the record that the choices make.
pub fn every_bit(data: &[u8]) {
    let Ok(event) = made::event(&mut Unstructured::new(data)) else { return };
    let record = written(&event);
    for bit in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = decoded(&flipped) {
            assert_eq!(other, event, "bit {} of byte {} makes another event", bit % 8, bit / 8);
        }
    }
}

/// The bytes as a record of a version with the checksum that they should have.
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
    draft(&event.stream, &event.data, event.part, &mut record).expect("what a store accepts can be written");
    number(&mut record, event);
    record
}

fn decoded(record: &[u8]) -> Result<RecordedEvent, RecordError> {
    Decoder::default().decode(record)
}

/// Whether the record has what an encoder would write otherwise: another text of the same metadata, or extensions that this
/// version does not know.
fn is_spared(record: &[u8], event: &RecordedEvent) -> bool {
    if event.is_removed() {
        return false;
    }
    // NOTE: the last three fields of the fixed part are the lengths of what stands last in the record.
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
    let keys = &event.data.keys;
    let known = if keys.is_empty() { 0 } else { EXTENSION_HEAD_LEN + 5 * keys.len() + keys.bytes() };
    extensions != known || text != canonical
}

fn accepted(record: &[u8]) {
    let Ok(event) = decoded(record) else { return };
    let again = match std::panic::catch_unwind(|| written(&event)) {
        Ok(again) => again,
        Err(_) => panic!("an accepted record cannot be written again: {event:?}"),
    };
    if !is_spared(record, &event) {
        assert_eq!(again, record, "an accepted record is written as other bytes");
    }
    assert_eq!(
        decoded(&again).expect("it was just written"),
        event,
        "an accepted record is read back as another event"
    );
}

/// Flips one bit, which `data` chooses.
fn flipped(event: &RecordedEvent, record: &[u8], data: &[u8]) {
    let choice = data.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let (byte, bit) = (choice / 8 % record.len(), choice % 8);
    let mut flipped = record.to_vec();
    flipped[byte] ^= 1 << bit;
    match decoded(&flipped) {
        Err(_) => {}
        Ok(other) => assert_eq!(&other, event, "bit {bit} of byte {byte} makes another event"),
    }
}

fn cut(record: &[u8], data: &[u8]) {
    let end = data.len() * 7 % record.len();
    assert!(decoded(&record[..end]).is_err(), "the first {end} bytes of a record are a record");
}
