use bytes::Bytes;
use chrono::{DateTime, SubsecRound};
use es_core::model::{CommitPart, ContentType, CorrelationId, KeyChange, Keys, Metadata, Tag, Tags, UniqueKey};
use es_core::{EventData, EventId, EventType, Position, RecordedEvent, Revision, StreamId};
use proptest::prelude::*;
use uuid::Uuid;

use super::checked::checksum;
use super::layout::{CHECKED_FROM, CHECKSUM_AT, EXTENSION_HEAD_LEN, FIXED_LEN, RECORD_VERSION};
use super::*;

/// Returns an event with every field set, so that each byte of its record is significant.
fn full() -> RecordedEvent {
    RecordedEvent {
        position: Position::new(7).unwrap(),
        stream: StreamId::new("order-10248").unwrap(),
        revision: Revision::new(3),
        recorded_at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
        occurred_at: DateTime::from_timestamp_micros(-1).unwrap(),
        part: CommitPart { index: 1, size: 4 },
        data: EventData {
            id: EventId::from_uuid(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001)),
            event_type: EventType::new("order-placed").unwrap(),
            version: 2,
            content_type: ContentType::Other("text/plain".into()),
            payload: Bytes::from_static(b"payload"),
            tags: [Tag::new("customer:VINET").unwrap(), Tag::new("vip").unwrap()].into(),
            metadata: Metadata::new().with("user", "ada").with("ratio", 0.1),
            correlation_id: Some(CorrelationId::from_uuid(Uuid::from_u128(5))),
            causation_id: Some(EventId::from_uuid(Uuid::from_u128(6))),
            keys: [claim("ada"), release("é")].into_iter().collect(),
            stamp: None,
        },
    }
}

fn claim(value: &str) -> KeyChange {
    KeyChange::Claim(UniqueKey::new("email", value).unwrap())
}

fn release(value: &str) -> KeyChange {
    KeyChange::Release(UniqueKey::new("email", value).unwrap())
}

/// Returns an event with every field set except the unique keys, so that its record has no extension.
fn keyless() -> RecordedEvent {
    let full = full();
    RecordedEvent { data: EventData { keys: Keys::new(), ..full.data }, ..full }
}

fn bare() -> RecordedEvent {
    let full = full();
    let data = EventData {
        content_type: ContentType::Json,
        payload: Bytes::new(),
        tags: Tags::new(),
        metadata: Metadata::new(),
        correlation_id: None,
        causation_id: None,
        keys: Keys::new(),
        ..full.data
    };
    RecordedEvent { data, ..full }
}

fn encoded(event: &RecordedEvent) -> Vec<u8> {
    let mut out = Vec::new();
    encode(event, &mut out).unwrap();
    out
}

fn decoded(record: &[u8]) -> Result<RecordedEvent, RecordError> {
    Decoder::default().decode(record)
}

/// Returns the record with a correct checksum, as a writer with a bug or a later version would write it.
fn sealed(mut record: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&record);
    record[CHECKSUM_AT..CHECKED_FROM].copy_from_slice(&sum.to_be_bytes());
    record
}

#[test]
fn an_event_is_decoded_as_it_was_encoded() {
    for event in [full(), bare()] {
        assert_eq!(decoded(&encoded(&event)).unwrap(), event);
    }
}

#[test]
fn a_decoder_returns_the_same_event_after_any_other_events() {
    let mut decoder = Decoder::default();
    let other = RecordedEvent { stream: StreamId::new("other").unwrap(), ..full() };
    for event in [other, full(), bare(), full()] {
        assert_eq!(decoder.decode(&encoded(&event)).unwrap(), event);
    }
}

#[test]
fn encoding_appends() {
    let mut out = b"before".to_vec();
    encode(&full(), &mut out).unwrap();
    assert_eq!(decoded(&out[6..]).unwrap(), full());
}

#[test]
fn every_truncation_is_refused() {
    for event in [full(), bare()] {
        let record = encoded(&event);
        for length in 0..record.len() {
            assert!(decoded(&record[..length]).is_err(), "{length} of {} bytes were read", record.len());
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for event in [full(), bare()] {
        let record = encoded(&event);
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decoded(&flipped).is_err(), "bit {bit} was flipped and read");
        }
    }
}

/// Decoding validates lengths even if the checksum is correct: extreme values of each byte give an error or an event,
/// never a panic.
#[test]
fn a_record_with_a_correct_checksum_and_wrong_lengths_does_not_panic() {
    let record = encoded(&full());
    for at in CHECKED_FROM..record.len() {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut changed = record.clone();
            changed[at] = value;
            let _ = decoded(&sealed(changed));
        }
    }
    for length in 0..record.len() {
        if length >= CHECKED_FROM {
            assert!(decoded(&sealed(record[..length].to_vec())).is_err(), "{length} bytes were read");
        }
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let mut record = encoded(&full());
    record.push(0);
    assert!(matches!(decoded(&record), Err(RecordError::Checksum { .. })));
    assert!(matches!(decoded(&sealed(record)), Err(RecordError::Trailing { found: 1 })));
}

/// Returns `record` with these bytes as its extensions.
fn with_extensions(mut record: Vec<u8>, area: &[u8]) -> Vec<u8> {
    let length = u32::try_from(area.len()).unwrap();
    record[FIXED_LEN - 4..FIXED_LEN].copy_from_slice(&length.to_be_bytes());
    record.extend_from_slice(area);
    sealed(record)
}

#[test]
fn extensions_of_a_later_version_are_skipped() {
    let area = [&[0x00, 0x01, 0, 0, 0, 3][..], b"abc", &[0xff, 0xff, 0, 0, 0, 0]].concat();
    assert_eq!(decoded(&with_extensions(encoded(&keyless()), &area)).unwrap(), keyless());
    assert_eq!(area.len(), 2 * EXTENSION_HEAD_LEN + 3);
}

#[test]
fn an_extension_longer_than_its_area_is_refused() {
    let record = with_extensions(encoded(&keyless()), &[0x00, 0x01, 0, 0, 0, 3, b'a', b'b']);
    assert!(matches!(decoded(&record), Err(RecordError::Length { field: "extension", expected: 3, found: 2 })));
}

/// The expected bytes are from the documentation of the extension, not from the encoder.
#[test]
fn unique_keys_are_in_an_extension_next_to_others() {
    let value = b"\x01\x00\x05email\x00\x03ada\x02\x00\x05email\x00\x02\xc3\xa9";
    let keys = [&[0x00, 0x05, 0, 0, 0, 25][..], value].concat();
    assert_eq!(with_extensions(encoded(&keyless()), &keys), encoded(&full()));
    let other = [0xff, 0xff, 0, 0, 0, 0];
    for area in [[&keys[..], &other].concat(), [&other, &keys[..]].concat()] {
        assert_eq!(decoded(&with_extensions(encoded(&keyless()), &area)).unwrap(), full());
    }
    let twice = with_extensions(encoded(&keyless()), &[&keys[..], &keys].concat());
    assert!(matches!(decoded(&twice), Err(RecordError::KeysTwice)));
}

#[test]
fn invalid_unique_keys_are_refused() {
    let refused = |value: &[u8]| {
        let length = u8::try_from(value.len()).unwrap();
        let area = [&[0x00, 0x05, 0, 0, 0, length][..], value].concat();
        decoded(&with_extensions(encoded(&keyless()), &area)).unwrap_err().to_string()
    };
    assert_eq!(refused(b""), "expected 1 bytes for the unique key, found 0");
    assert_eq!(
        refused(b"\x03\x00\x01s\x00\x01v"),
        "expected a claim (1) or a release (2) of a unique key, found code 3"
    );
    assert_eq!(refused(b"\x01\x00\x01s\x00\x02v"), "expected 2 bytes for the unique key, found 1");
    assert!(refused(b"\x01\x00\x00\x00\x01v").contains("part of a unique key must have 1 to 512 bytes"));
    assert_eq!(refused(b"\x01\x00\x01\xff\x00\x01v"), "expected UTF-8 in the unique key, found other bytes");
}

/// The bytes of a record do not depend on whether the program knows unique keys.
#[test]
fn an_event_without_unique_keys_has_no_extension() {
    let record = encoded(&keyless());
    assert_eq!(record[FIXED_LEN - 4..FIXED_LEN], [0; 4]);
    assert!(record.ends_with(b"payload"));
}

#[test]
fn tags_out_of_order_are_refused() {
    let record = encoded(&full());
    let text = String::from_utf8_lossy(&record).into_owned();
    assert!(text.contains("customer:VINET"));
    let at = record.windows(3).position(|bytes| bytes == b"vip").unwrap();
    let mut swapped = record;
    swapped[at..at + 3].copy_from_slice(b"aaa");
    assert!(matches!(decoded(&sealed(swapped)), Err(RecordError::TagOrder { .. })));
}

#[test]
fn the_error_names_an_unknown_version() {
    let mut record = encoded(&full());
    record[0] = 3;
    assert_eq!(decoded(&sealed(record)).unwrap_err().to_string(), "expected record version 1 or 2, found 3");
}

#[test]
fn a_tombstone_is_read_back_and_every_flipped_bit_is_detected() {
    let removed = full().without_content();
    let record = encoded(&removed);
    assert_eq!(decoded(&record).unwrap(), removed);
    assert!(!record.windows(4).any(|bytes| bytes == &full().data.payload[..4]), "the tombstone has payload bytes");
    for bit in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decoded(&flipped).is_err(), "bit {bit}");
    }
    for length in 0..record.len() {
        assert!(decoded(&record[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_stamp_is_refused_and_not_dropped() {
    let dot = es_core::model::Dot { origin: es_core::model::OriginId::new(1), sequence: std::num::NonZeroU64::MIN };
    let time = es_core::model::HybridTime::from_bits(1);
    let mut event = full();
    event.data.stamp = Some(es_core::model::Stamp { dot, time, seen: None, command: None }.into());
    assert!(matches!(encode(&event, &mut Vec::new()), Err(RecordError::Stamped)));
}

#[test]
fn metadata_that_could_not_be_read_back_is_not_written() {
    let deep = (0..200).fold(serde_json::Value::Null, |inner, _| serde_json::Value::Array(vec![inner]));
    let mut event = full();
    event.data.metadata = Metadata::new().with("deep", deep);
    assert!(matches!(encode(&event, &mut Vec::new()), Err(RecordError::Metadata(_))));
}

proptest! {
    #[test]
    fn random_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decoded(&bytes).is_err());
        let mut record = bytes;
        if let Some(version) = record.first_mut() {
            *version = RECORD_VERSION;
        }
        if record.len() >= FIXED_LEN {
            let mut removed = record.clone();
            removed[0] = 2;
            let _ = (decoded(&sealed(record)), decoded(&sealed(removed)));
        }
    }

    #[test]
    fn any_event_is_read_back(
        (position, revision) in (1..u64::MAX, 0..u64::MAX),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        tags in proptest::collection::btree_set("[a-zé]{1,8}", 0..6),
        (number, text) in (any::<f64>().prop_filter("finite", |f| f.is_finite()), ".{0,20}"),
        micros in -8_000_000_000_000_000_000i64..8_000_000_000_000_000_000,
        code in 0u8..3,
    ) {
        let content_types = [ContentType::Json, ContentType::MessagePack, ContentType::Other("x/y".into())];
        let event = RecordedEvent {
            position: Position::new(position).unwrap(),
            revision: Revision::new(revision),
            occurred_at: DateTime::from_timestamp_micros(micros).unwrap().trunc_subsecs(6),
            data: EventData {
                payload: payload.into(),
                tags: tags.iter().map(|tag| Tag::new(tag).unwrap()).collect(),
                metadata: Metadata::new().with("number", number).with("text", text),
                content_type: content_types[usize::from(code)].clone(),
                correlation_id: (code == 1).then(CorrelationId::new),
                ..full().data
            },
            ..full()
        };
        prop_assert_eq!(decoded(&encoded(&event)).unwrap(), event);
    }
}
