//! Renders the tables of `docs/storage-format.md` from the constants, and compares them with the file.

use std::fmt::Write as _;
use std::num::NonZeroU64;
use std::path::Path;

use bytes::Bytes;
use chrono::DateTime;
use es_core::model::KeyChange;
use es_core::model::{CommandDigest, CommandId, Dot, HybridTime, OriginId, Stamp};
use es_core::model::{CommitPart, ContentType, CorrelationId, Metadata, Table, Tag, UniqueKey};
use es_core::store::MAX_ORIGINS;
use es_core::store::implement::KeySecret;
use es_core::{EventData, EventId, EventType, Position, RecordedEvent, Revision, StreamId};
use es_log::{Body, ContentCode, EventFields, TagTexts};
use uuid::Uuid;

use crate::engine::key;
use crate::record::encode_varint;
use crate::record::layout::{COMMAND_TAG, EXTENSION_HEAD_LEN, KEYS_TAG, SEEN_TAG, STAMP_TAG};
use crate::record::{encode_keys_and_stamp, encode_metadata, keys, stamp};
use crate::schema::{Cf, FORMAT_VERSION, META_ROWS};

/// Set to write the tables instead of comparing them.
const UPDATE: &str = "ES_UPDATE_DOCS";

fn families() -> String {
    let mut table = String::from("| family | key | value | example of a key |\n|---|---|---|---|\n");
    for cf in Cf::ALL {
        let (key, value) = cf.layout();
        let _ = writeln!(table, "| `{}` | {key} | {value} | `{}` |", cf.name(), sample_key(cf).escape_ascii());
    }
    table
}

/// Returns the key of the sample in a family.
fn sample_key(cf: Cf) -> Vec<u8> {
    let event = sample();
    match cf {
        Cf::Streams => key::in_stream(&event.stream, event.revision),
        Cf::Heads => event.stream.as_str().as_bytes().to_vec(),
        Cf::Ids => key::id(event.data.id).to_vec(),
        Cf::Categories => key::posting(event.stream.category_str(), event.position),
        Cf::Types => key::posting(event.data.event_type.as_str(), event.position),
        Cf::Tags => key::posting("vip", event.position),
        Cf::Keys => KeySecret::from_bytes([0; KeySecret::BYTES]).hash(&unique_key()).as_bytes().to_vec(),
        Cf::Rows => key::row(&Table::new("views").unwrap(), b"VINET"),
        Cf::Meta => META_ROWS[0].0.to_vec(),
    }
}

fn meta() -> String {
    let mut table = format!("Format version {FORMAT_VERSION}.\n\n| key | value |\n|---|---|\n");
    for (key, value) in META_ROWS {
        let _ = writeln!(table, "| `{}` | {value} |", key.escape_ascii());
    }
    table
}

fn extension() -> String {
    let tag = 2;
    format!(
        "| offset | length | field |\n|---:|---:|---|\n| 0 | {tag} | tag |\n| {tag} | {} | length of the value |\n\
         | {EXTENSION_HEAD_LEN} | given | value |\n",
        EXTENSION_HEAD_LEN - tag
    )
}

fn replication_stamp() -> String {
    let mut table = format!("The value of tag `{STAMP_TAG}` has\n\n| offset | length | field |\n|---:|---:|---|\n");
    let mut offset = 0;
    for (name, length) in stamp::FIELDS {
        let _ = writeln!(table, "| {offset} | {length} | {name} |");
        offset += length;
    }
    let _ = write!(
        table,
        "\nThe value of tag `{}` has the number of origins as a varint, at most {MAX_ORIGINS}, and for each, in \
         ascending order,\n\n| length | field |\n|---|---|\n| {} | origin |\n| varint | sequence number |\n\n\
         The value of tag `{}` has\n\n| length | field |\n|---:|---|\n| {} | digest of the command |\n\
         | given | command id |\n",
        SEEN_TAG,
        stamp::ORIGIN_LEN,
        COMMAND_TAG,
        stamp::DIGEST_LEN
    );
    table
}

fn unique_keys() -> String {
    format!(
        "The tag is `{}`. The value has one or more keys, each of\n\n| length | field |\n|---:|---|\n\
         | 1 | `{}` for a claim, `{}` for a release |\n| 2 | length of the scope |\n| given | scope |\n\
         | 2 | length of the value |\n| given | value |\n",
        KEYS_TAG,
        keys::CLAIM,
        keys::RELEASE
    )
}

fn unique_key() -> UniqueKey {
    UniqueKey::new("email", "ada@example.org").unwrap()
}

fn dot(origin: u64, sequence: u64) -> Dot {
    Dot { origin: OriginId::new(origin), sequence: NonZeroU64::new(sequence).unwrap() }
}

/// Returns an event with every field set to a different value.
fn sample() -> RecordedEvent {
    let uuid = |n: u8| Uuid::from_bytes([n; 16]);
    RecordedEvent {
        position: Position::new(0x0102).unwrap(),
        stream: StreamId::new("order-10248").unwrap(),
        revision: Revision::new(3),
        recorded_at: DateTime::from_timestamp_micros(1_700_000_000_000_001).unwrap(),
        occurred_at: DateTime::from_timestamp_micros(-1).unwrap(),
        part: CommitPart { index: 1, size: 4 },
        data: EventData {
            id: EventId::from_uuid(uuid(0xe1)),
            event_type: EventType::new("order-placed").unwrap(),
            version: 2,
            content_type: ContentType::Other("text/plain".into()),
            payload: Bytes::from_static(b"hello"),
            tags: [Tag::new("customer:VINET").unwrap(), Tag::new("vip").unwrap()].into(),
            metadata: Metadata::new().with("user", "ada"),
            correlation_id: Some(CorrelationId::from_uuid(uuid(0xc0))),
            causation_id: Some(EventId::from_uuid(uuid(0xca))),
            keys: [KeyChange::Claim(unique_key())].into_iter().collect(),
            stamp: Some(Box::new(Stamp {
                dot: dot(0xa1, 7),
                time: HybridTime::from_bits(0x0006_0a24_181e_4001),
                seen: Some([dot(0xa2, 300), dot(0xa3, 1)].into_iter().collect()),
                command: Some((CommandId::new("request-7").unwrap(), CommandDigest::from_bits(9))),
            })),
        },
    }
}

/// The base time of the segment of the sample: a microsecond before its recorded time.
const BASE_TIME: i64 = 1_700_000_000_000_000;

/// Returns the expected bytes of each field of the sample, independent of the encoder.
fn parts_of_sample() -> Vec<(&'static str, Vec<u8>)> {
    let mut occurred = Vec::new();
    // The zigzag code of the distance to the recorded time, which is negative.
    encode_varint(2 * (1_700_000_000_000_001 + 1) - 1, &mut occurred);
    let extensions = [
        &b"\x00\x01\x00\x00\x00\x18\x00\x00\x00\x00\x00\x00\x00\xa1\x00\x00\x00\x00\x00\x00\x00\x07"[..],
        b"\x00\x06\x0a\x24\x18\x1e\x40\x01",
        b"\x00\x02\x00\x00\x00\x14\x02\x00\x00\x00\x00\x00\x00\x00\xa2\xac\x02\x00\x00\x00\x00\x00\x00\x00\xa3\x01",
        b"\x00\x03\x00\x00\x00\x11\x00\x00\x00\x00\x00\x00\x00\x09request-7",
        b"\x00\x05\x00\x00\x00\x19\x01\x00\x05email\x00\x0fada@example.org",
    ];
    let mut parts = vec![
        ("crc32c, written with the frame", vec![0; 4]),
        ("kind", vec![1]),
        ("flags", vec![0xff]),
        ("revision", vec![3]),
        ("recorded at", vec![2]),
        ("event id", vec![0xe1; 16]),
        ("occurred at", occurred),
        ("index and size of the commit part", vec![1, 4]),
        ("schema version", vec![2]),
        ("correlation id", vec![0xc0; 16]),
        ("causation id", vec![0xca; 16]),
        ("content type", b"\x00\x0atext/plain".to_vec()),
        ("lengths of stream and type, number of tags", vec![11, 12, 2]),
        ("length of metadata", vec![14]),
        ("length of extensions", vec![110]),
        ("stream", b"order-10248".to_vec()),
        ("type", b"order-placed".to_vec()),
        ("tags", b"\x0ecustomer:VINET\x03vip".to_vec()),
        ("metadata", br#"{"user":"ada"}"#.to_vec()),
        ("payload", b"hello".to_vec()),
        ("extensions", extensions.concat()),
    ];
    let length = 4 + parts.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    parts.insert(0, ("length of the record", u32::try_from(length).unwrap().to_be_bytes().to_vec()));
    parts
}

/// Returns the record of the sample.
fn record_of_sample() -> Vec<u8> {
    let RecordedEvent { position: _, stream, revision, recorded_at, occurred_at, part, data } = sample();
    let (mut tags, mut extensions, mut record) = (Vec::new(), Vec::new(), Vec::new());
    encode_keys_and_stamp(&data.keys, data.stamp.as_deref(), &mut extensions).unwrap();
    let metadata = encode_metadata(&data.metadata).unwrap();
    let fields = EventFields {
        stream: stream.as_str().as_bytes(),
        revision,
        id: data.id,
        recorded_at: recorded_at.timestamp_micros(),
        occurred_at: occurred_at.timestamp_micros(),
        part,
        event_type: data.event_type.as_str().as_bytes(),
        version: data.version,
        content_type: ContentCode::from(&data.content_type),
        correlation_id: data.correlation_id,
        causation_id: data.causation_id,
        tags: TagTexts::encode_into(data.tags.iter().map(|tag| tag.as_str().as_bytes()), &mut tags).unwrap(),
        metadata: &metadata,
        payload: &data.payload,
        extensions: &extensions,
    };
    Body::Event(fields).encode(BASE_TIME, &mut record).unwrap();
    record
}

fn example() -> String {
    let record = record_of_sample();
    let mut dump = format!("```text\n{} bytes\n\n", record.len());
    let mut offset = 0;
    for (name, bytes) in &parts_of_sample() {
        let found = &record[offset..offset + bytes.len()];
        assert_eq!(found, bytes, "bytes of {name}, at offset {offset} according to the tables");
        for (line, chunk) in found.chunks(16).enumerate() {
            let hex: Vec<_> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
            let label = if line == 0 { *name } else { "" };
            let text = format!("{:4}  {:47}  {label}", offset + line * 16, hex.join(" "));
            let _ = writeln!(dump, "{}", text.trim_end());
        }
        offset += bytes.len();
    }
    assert_eq!(offset, record.len(), "the tables name every byte of a record");
    dump.push_str("```\n");
    dump
}

/// Replaces the tables between the markers of the document.
fn rendered(mut document: String) -> String {
    let tables = [
        ("families", families()),
        ("meta", meta()),
        ("extension", extension()),
        ("stamp", replication_stamp()),
        ("keys", unique_keys()),
        ("example", example()),
    ];
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- begin: {name} -->\n"), format!("<!-- end: {name} -->"));
        let from = document.find(&begin).unwrap_or_else(|| panic!("the document has no {begin}")) + begin.len();
        let to = from + document[from..].find(&end).unwrap_or_else(|| panic!("the document has no {end}"));
        document.replace_range(from..to, &format!("\n{table}\n"));
    }
    document
}

#[test]
fn the_document_matches_the_constants() {
    // tests/schedules includes this file from a deeper directory.
    let above =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|directory| directory.join("docs/storage-format.md"));
    let path = above.into_iter().find(|path| path.is_file()).unwrap();
    let document = std::fs::read_to_string(&path).unwrap();
    let rendered = rendered(document.clone());
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &rendered).unwrap();
    } else {
        let differs = document.lines().zip(rendered.lines()).find(|(found, expected)| found != expected);
        assert!(
            document == rendered,
            "docs/storage-format.md differs from the code, first at {differs:?}; if the format change is intended, \
             run: {UPDATE}=1 cargo test --workspace format_document"
        );
    }
}
