use std::num::NonZeroU64;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound};
use es_core::model::{CommandDigest, CommandId, Dot, HybridTime, OriginId, Stamp, VectorClock};
use es_core::model::{CommitPart, ContentType, CorrelationId, KeyChange, Keys, Metadata, Tag, Tags, UniqueKey};
use es_core::store::MAX_ORIGINS;
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
            stamp: Some(Box::new(full_stamp())),
        },
    }
}

/// Returns a stamp with a vector clock and a command.
fn full_stamp() -> Stamp {
    Stamp {
        dot: dot(0xa1, 7),
        time: HybridTime::from_bits(0x0102_0304_0506_0708),
        seen: Some([dot(0xa2, 300), dot(0xa3, 1)].into_iter().collect()),
        command: Some((CommandId::new("request-é").unwrap(), CommandDigest::from_bits(0x11))),
    }
}

fn dot(origin: u64, sequence: u64) -> Dot {
    Dot { origin: OriginId::new(origin), sequence: NonZeroU64::new(sequence).unwrap() }
}

fn claim(value: &str) -> KeyChange {
    KeyChange::Claim(UniqueKey::new("email", value).unwrap())
}

fn release(value: &str) -> KeyChange {
    KeyChange::Release(UniqueKey::new("email", value).unwrap())
}

/// Returns an event with every field set except the unique keys and the stamp, so that its record has no extension.
fn without_extensions() -> RecordedEvent {
    let full = full();
    RecordedEvent { data: EventData { keys: Keys::new(), stamp: None, ..full.data }, ..full }
}

/// Returns an event without extensions except this stamp.
fn stamped(stamp: Stamp) -> RecordedEvent {
    let event = without_extensions();
    RecordedEvent { data: EventData { stamp: Some(Box::new(stamp)), ..event.data }, ..event }
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
        stamp: None,
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
    for event in [full(), bare(), stamped(full_stamp())] {
        let record = encoded(&event);
        for length in 0..record.len() {
            assert!(decoded(&record[..length]).is_err(), "{length} of {} bytes were read", record.len());
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for event in [full(), bare(), stamped(full_stamp())] {
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
    let area = [&[0x00, 0x06, 0, 0, 0, 3][..], b"abc", &[0xff, 0xff, 0, 0, 0, 0]].concat();
    assert_eq!(decoded(&with_extensions(encoded(&without_extensions()), &area)).unwrap(), without_extensions());
    assert_eq!(area.len(), 2 * EXTENSION_HEAD_LEN + 3);
}

#[test]
fn an_extension_longer_than_its_area_is_refused() {
    let record = with_extensions(encoded(&without_extensions()), &[0x00, 0x01, 0, 0, 0, 3, b'a', b'b']);
    assert!(matches!(decoded(&record), Err(RecordError::Length { field: "extension", expected: 3, found: 2 })));
}

/// The expected bytes are from the documentation of the extension, not from the encoder.
#[test]
fn unique_keys_are_in_an_extension_next_to_others() {
    let value = b"\x01\x00\x05email\x00\x03ada\x02\x00\x05email\x00\x02\xc3\xa9";
    let keys = [&[0x00, 0x05, 0, 0, 0, 25][..], value].concat();
    let full = full();
    let keyed = RecordedEvent { data: EventData { stamp: None, ..full.data }, ..full };
    assert_eq!(with_extensions(encoded(&without_extensions()), &keys), encoded(&keyed));
    let other = [0xff, 0xff, 0, 0, 0, 0];
    for area in [[&keys[..], &other].concat(), [&other, &keys[..]].concat()] {
        assert_eq!(decoded(&with_extensions(encoded(&without_extensions()), &area)).unwrap(), keyed);
    }
}

/// Returns an extension.
fn extension(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap();
    [&[0, tag], &length.to_be_bytes()[..], value].concat()
}

/// Returns the value of tag 1 in the record of [`full_stamp`].
fn dot_and_time() -> Vec<u8> {
    b"\x00\x00\x00\x00\x00\x00\x00\xa1\x00\x00\x00\x00\x00\x00\x00\x07\x01\x02\x03\x04\x05\x06\x07\x08".to_vec()
}

/// Returns the error of a record with these extensions.
fn refused_extensions(extensions: &[Vec<u8>]) -> String {
    decoded(&with_extensions(encoded(&without_extensions()), &extensions.concat())).unwrap_err().to_string()
}

/// The expected bytes are from the documentation of the extensions, not from the encoder.
#[test]
fn a_stamp_is_in_extensions_next_to_others() {
    let clock = b"\x02\x00\x00\x00\x00\x00\x00\x00\xa2\xac\x02\x00\x00\x00\x00\x00\x00\x00\xa3\x01";
    let command = b"\x00\x00\x00\x00\x00\x00\x00\x11request-\xc3\xa9";
    let [first, clock, command] = [extension(1, &dot_and_time()), extension(2, clock), extension(3, command)];
    let other = [0xff, 0xff, 0, 0, 0, 0].to_vec();
    let stamp = full_stamp();
    for (stamp, extensions) in [
        (stamp.clone(), [&first[..], &clock, &command].concat()),
        (Stamp { command: None, ..stamp.clone() }, [&first[..], &clock].concat()),
        (Stamp { seen: None, ..stamp.clone() }, [&first[..], &command].concat()),
        (Stamp { seen: None, command: None, ..stamp.clone() }, first.clone()),
        (Stamp { seen: Some(VectorClock::new()), command: None, ..stamp }, [&first[..], &extension(2, &[0])].concat()),
    ] {
        let event = stamped(stamp);
        assert_eq!(with_extensions(encoded(&without_extensions()), &extensions), encoded(&event));
        for area in [[&extensions[..], &other].concat(), [&other[..], &extensions].concat()] {
            assert_eq!(decoded(&with_extensions(encoded(&without_extensions()), &area)).unwrap(), event);
        }
    }
}

#[test]
fn extensions_are_refused_out_of_order_and_twice() {
    let [first, keys] = [extension(1, &dot_and_time()), extension(5, b"\x01\x00\x01s\x00\x01v")];
    let expected = "expected extensions in ascending order of their tags without duplicates, found tag";
    let cases = [
        ([keys.clone(), keys.clone()], "5 after 5"),
        ([first.clone(), first.clone()], "1 after 1"),
        ([keys, first.clone()], "1 after 5"),
        ([extension(2, &[0]), first.clone()], "1 after 2"),
    ];
    for (extensions, found) in cases {
        assert_eq!(refused_extensions(&extensions), format!("{expected} {found}"));
    }
    let [clock, command] = [extension(2, &[0]), extension(3, b"\x00\x00\x00\x00\x00\x00\x00\x11c")];
    for (extensions, found) in [
        ([first.clone(), clock.clone(), clock.clone()], "2 after 2"),
        ([first.clone(), command.clone(), command.clone()], "3 after 3"),
        ([first, command, clock], "2 after 3"),
    ] {
        assert_eq!(refused_extensions(&extensions), format!("{expected} {found}"));
    }
}

#[test]
fn an_invalid_dot_or_time_is_refused() {
    let refused = |value: &[u8]| refused_extensions(&[extension(1, value)]);
    let valid = dot_and_time();
    assert_eq!(refused(&valid[..3]), "expected 8 bytes for the origin, found 3");
    assert_eq!(refused(&valid[..15]), "expected 8 bytes for the sequence number, found 7");
    assert_eq!(refused(&valid[..23]), "expected 8 bytes for the hybrid time, found 7");
    assert_eq!(
        refused(&[&valid[..], &[0]].concat()),
        "expected the end of the extension with tag 1, found 1 more bytes"
    );
    assert_eq!(refused(&[0; 24]), "expected a sequence number from 1, found 0");
    for (tag, value) in [(2, &[0][..]), (3, b"\x00\x00\x00\x00\x00\x00\x00\x11c")] {
        assert_eq!(
            refused_extensions(&[extension(tag, value)]),
            format!("expected an extension with tag 1 before the one with tag {tag}, found none")
        );
    }
}

#[test]
fn an_invalid_vector_clock_is_refused() {
    let refused = |value: &[u8]| refused_extensions(&[extension(1, &dot_and_time()), extension(2, value)]);
    let entry = |origin: u8, sequence: &[u8]| [&[0, 0, 0, 0, 0, 0, 0, origin], sequence].concat();
    let clock = |count: u8, entries: &[Vec<u8>]| [vec![count], entries.concat()].concat();
    let no_varint = |field| {
        format!("expected a varint of at most 64 bits in its shortest form in the {field}, found another encoding")
    };
    assert_eq!(refused(&[]), "expected 1 bytes for the number of origins, found 0");
    assert_eq!(refused(&[0x80, 0x00]), no_varint("number of origins"));
    assert_eq!(refused(&[1]), "expected 8 bytes for the origin, found 0");
    assert_eq!(refused(&clock(1, &[entry(1, &[])])), "expected 1 bytes for the sequence number, found 0");
    assert_eq!(refused(&clock(1, &[entry(1, &[0])])), "expected a sequence number from 1, found 0");
    for not_shortest in [&[0x81, 0x00][..], &[0xff; 10], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02]]
    {
        assert_eq!(refused(&clock(1, &[entry(1, not_shortest)])), no_varint("sequence number"));
    }
    let order = |found, last| {
        let [found, last] = [found, last].map(OriginId::new);
        format!("expected origins in ascending order without duplicates, found {found} after {last}")
    };
    assert_eq!(refused(&clock(2, &[entry(2, &[1]), entry(1, &[1])])), order(1, 2));
    assert_eq!(refused(&clock(2, &[entry(2, &[1]), entry(2, &[2])])), order(2, 2));
    let trailing = "expected the end of the extension with tag 2, found 1 more bytes";
    assert_eq!(refused(&[0, 0]), trailing);
    assert_eq!(refused(&[clock(1, &[entry(1, &[1])]), vec![0]].concat()), trailing);
    // 4097 as a varint.
    let too_many = format!("expected at most {MAX_ORIGINS} origins in the vector clock, found {}", MAX_ORIGINS + 1);
    assert_eq!(refused(&[0x81, 0x20]), too_many);
}

#[test]
fn an_invalid_command_is_refused() {
    let refused = |value: &[u8]| refused_extensions(&[extension(1, &dot_and_time()), extension(3, value)]);
    let digest = [0; 8];
    assert_eq!(refused(&digest[..7]), "expected 8 bytes for the digest of the command, found 7");
    assert!(refused(&digest).contains("command id must have 1 to 512 bytes"), "{}", refused(&digest));
    let not_utf8 = [&digest[..], &[0xff]].concat();
    assert_eq!(refused(&not_utf8), "expected UTF-8 in the command id, found other bytes");
}

#[test]
fn a_vector_clock_has_at_most_the_origins_that_a_store_accepts() {
    let clock = |count: usize| (0..count as u64).map(|origin| dot(origin, u64::MAX - origin)).collect();
    let largest = stamped(Stamp { seen: Some(clock(MAX_ORIGINS)), ..full_stamp() });
    assert_eq!(decoded(&encoded(&largest)).unwrap(), largest);
    let larger = stamped(Stamp { seen: Some(clock(MAX_ORIGINS + 1)), ..full_stamp() });
    assert!(matches!(encode(&larger, &mut Vec::new()), Err(RecordError::TooManyOrigins { .. })));
}

/// The decoder keeps the parts of the last event that the next record has as well.
#[test]
fn an_event_that_is_decoded_over_another_has_its_own_stamp() {
    let other = Stamp { dot: dot(0xa1, 8), ..full_stamp() };
    let events = [
        bare(),
        full(),
        RecordedEvent { position: Position::new(8).unwrap(), ..full() },
        stamped(full_stamp()),
        stamped(other),
        without_extensions(),
        stamped(full_stamp()),
        full().without_content(),
        full(),
        full().without_content(),
        bare(),
    ];
    let records: Vec<_> = events.iter().map(encoded).collect();
    let mut decoder = Decoder::default();
    for has_fields in [false, true] {
        let (mut buffer, mut before) = (None, None);
        for (event, record) in events.iter().zip(&records) {
            let record = Checked::new(record).unwrap();
            let (found, fields) = decoder.decode_into(record, None, &mut buffer, before.as_ref()).unwrap();
            assert_eq!(found, event);
            before = fields.filter(|_| has_fields);
        }
    }
}

#[test]
fn invalid_unique_keys_are_refused() {
    let refused = |value: &[u8]| {
        let length = u8::try_from(value.len()).unwrap();
        let area = [&[0x00, 0x05, 0, 0, 0, length][..], value].concat();
        decoded(&with_extensions(encoded(&without_extensions()), &area)).unwrap_err().to_string()
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

/// The bytes of a record do not depend on whether the program knows unique keys and stamps.
#[test]
fn an_event_without_unique_keys_and_stamp_has_no_extension() {
    let record = encoded(&without_extensions());
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

/// A tombstone has no extensions, so a stamp would be lost.
#[test]
fn a_tombstone_with_a_stamp_is_refused() {
    let mut removed = full().without_content();
    removed.data.stamp = Some(Box::new(full_stamp()));
    assert!(matches!(encode(&removed, &mut Vec::new()), Err(RecordError::StampedTombstone)));
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

    #[test]
    fn any_stamp_is_read_back(stamp in any_stamp(), bit in any::<proptest::sample::Index>()) {
        let event = stamped(stamp);
        let record = encoded(&event);
        prop_assert_eq!(&decoded(&record).unwrap(), &event);
        let (bit, length) = (bit.index(record.len() * 8), bit.index(record.len()));
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decoded(&flipped).is_err(), "bit {} was flipped and read", bit);
        prop_assert!(decoded(&record[..length]).is_err(), "{} bytes were read", length);
    }

    /// An accepted extension is the one that the encoder writes.
    #[test]
    fn random_extensions_are_refused_or_canonical(
        extensions in proptest::collection::vec(
            (0u8..7, proptest::collection::vec(prop_oneof![0u8..3, any::<u8>()], 0..30)), 0..4),
    ) {
        let area: Vec<u8> = extensions.iter().flat_map(|(tag, value)| extension(*tag, value)).collect();
        let record = with_extensions(encoded(&without_extensions()), &area);
        if let Ok(event) = decoded(&record) && extensions.iter().all(|(tag, _)| [1, 2, 3, 5].contains(tag)) {
            prop_assert_eq!(encoded(&event), record);
        }
    }

    #[test]
    fn random_bytes_as_extensions_do_not_panic(
        area in proptest::collection::vec(prop_oneof![0u8..9, any::<u8>()], 0..200),
    ) {
        let _ = decoded(&with_extensions(encoded(&without_extensions()), &area));
    }
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    let any_dot = || (any::<u64>(), any::<NonZeroU64>()).prop_map(|(origin, sequence)| dot(origin, sequence.get()));
    let clock = proptest::collection::vec(any_dot(), 0..20).prop_map(|dots| dots.into_iter().collect());
    let command = ("[a-zé]{1,20}", any::<u64>())
        .prop_map(|(id, digest)| (CommandId::new(id).unwrap(), CommandDigest::from_bits(digest)));
    (any_dot(), any::<u64>(), proptest::option::of(clock), proptest::option::of(command))
        .prop_map(|(dot, time, seen, command)| Stamp { dot, time: HybridTime::from_bits(time), seen, command })
}
