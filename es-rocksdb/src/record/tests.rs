use std::num::NonZeroU64;

use es_core::model::{CommandDigest, CommandId, Dot, HybridTime, OriginId, Stamp, VectorClock};
use es_core::model::{KeyChange, Keys, Metadata, UniqueKey};
use es_core::store::MAX_ORIGINS;
use proptest::prelude::*;

use super::*;

/// The unique keys and the stamp of an event.
type Extended = (Keys, Option<Stamp>);

fn encoded((keys, stamp): &Extended) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_keys_and_stamp(keys, stamp.as_ref(), &mut bytes).unwrap();
    bytes
}

fn decoded(extensions: &[u8]) -> Result<Extended, RecordError> {
    let (keys, stamp) = decode_keys_and_stamp(extensions)?;
    Ok((keys, stamp.map(|stamp| *stamp)))
}

fn stamped(stamp: Stamp) -> Extended {
    (Keys::new(), Some(stamp))
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

#[test]
fn extensions_of_a_later_version_are_skipped() {
    let area = [&[0x00, 0x06, 0, 0, 0, 3][..], b"abc", &[0xff, 0xff, 0, 0, 0, 0]].concat();
    assert_eq!(decoded(&area).unwrap(), (Keys::new(), None));
}

#[test]
fn an_extension_longer_than_its_area_is_refused() {
    let area = [0x00, 0x01, 0, 0, 0, 3, b'a', b'b'];
    assert!(matches!(decoded(&area), Err(RecordError::Length { field: "extension", expected: 3, found: 2 })));
}

/// The expected bytes are from the documentation of the extension, not from the encoder.
#[test]
fn unique_keys_are_in_an_extension_next_to_others() {
    let value = b"\x01\x00\x05email\x00\x03ada\x02\x00\x05email\x00\x02\xc3\xa9";
    let keys = [&[0x00, 0x05, 0, 0, 0, 25][..], value].concat();
    let keyed = ([claim("ada"), release("é")].into_iter().collect(), None);
    assert_eq!(keys, encoded(&keyed));
    let other = [0xff, 0xff, 0, 0, 0, 0];
    for area in [[&keys[..], &other].concat(), [&other, &keys[..]].concat()] {
        assert_eq!(decoded(&area).unwrap(), keyed);
    }
}

/// Returns an extension.
fn extension(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap();
    [&[0, tag], &length.to_be_bytes()[..], value].concat()
}

/// Returns the value of tag 1 for [`full_stamp`].
fn dot_and_time() -> Vec<u8> {
    b"\x00\x00\x00\x00\x00\x00\x00\xa1\x00\x00\x00\x00\x00\x00\x00\x07\x01\x02\x03\x04\x05\x06\x07\x08".to_vec()
}

/// Returns the error of these extensions.
fn refused_extensions(extensions: &[Vec<u8>]) -> String {
    decoded(&extensions.concat()).unwrap_err().to_string()
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
        assert_eq!(extensions, encoded(&event));
        for area in [[&extensions[..], &other].concat(), [&other[..], &extensions].concat()] {
            assert_eq!(decoded(&area).unwrap(), event);
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
    let (keys, stamp) = larger;
    let encoded = encode_keys_and_stamp(&keys, stamp.as_ref(), &mut Vec::new());
    assert!(matches!(encoded, Err(RecordError::TooManyOrigins { .. })));
}

#[test]
fn invalid_unique_keys_are_refused() {
    let refused = |value: &[u8]| {
        let length = u8::try_from(value.len()).unwrap();
        let area = [&[0x00, 0x05, 0, 0, 0, length][..], value].concat();
        decoded(&area).unwrap_err().to_string()
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

#[test]
fn an_event_without_unique_keys_and_stamp_has_no_extension() {
    assert!(encoded(&(Keys::new(), None)).is_empty());
}

#[test]
fn metadata_that_could_not_be_read_back_is_not_written() {
    let deep = (0..200).fold(serde_json::Value::Null, |inner, _| serde_json::Value::Array(vec![inner]));
    assert!(matches!(encode_metadata(&Metadata::new().with("deep", deep)), Err(RecordError::Metadata(_))));
}

proptest! {
    #[test]
    fn any_metadata_is_read_back(
        (number, text) in (any::<f64>().prop_filter("finite", |f| f.is_finite()), ".{0,20}"),
    ) {
        let metadata = Metadata::new().with("number", number).with("text", text);
        prop_assert_eq!(decode_metadata(&encode_metadata(&metadata).unwrap()).unwrap(), metadata);
    }

    #[test]
    fn random_bytes_as_metadata_do_not_panic(json in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_metadata(&json);
    }

    #[test]
    fn any_stamp_is_read_back(stamp in any_stamp(), length in any::<proptest::sample::Index>()) {
        let event = stamped(stamp);
        let extensions = encoded(&event);
        prop_assert_eq!(&decoded(&extensions).unwrap(), &event);
        let length = length.index(extensions.len());
        let cut = decoded(&extensions[..length]);
        prop_assert!(cut.is_err() || cut.unwrap() != event, "{length} bytes were read");
    }

    /// An accepted extension is the one that the encoder writes.
    #[test]
    fn random_extensions_are_refused_or_canonical(
        extensions in proptest::collection::vec(
            (0u8..7, proptest::collection::vec(prop_oneof![0u8..3, any::<u8>()], 0..30)), 0..4),
    ) {
        let area: Vec<u8> = extensions.iter().flat_map(|(tag, value)| extension(*tag, value)).collect();
        if let Ok(event) = decoded(&area) && extensions.iter().all(|(tag, _)| [1, 2, 3, 5].contains(tag)) {
            prop_assert_eq!(encoded(&event), area);
        }
    }

    #[test]
    fn random_bytes_as_extensions_do_not_panic(
        area in proptest::collection::vec(prop_oneof![0u8..9, any::<u8>()], 0..200),
    ) {
        let _ = decoded(&area);
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
