//! Frames and records of es-log: a decoder accepts only what the encoder writes.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use es_core::model::{CommitPart, CorrelationId, LogId};
use es_core::{EventId, Position, Revision};
use es_log::{
    Body, ContentCode, EntryKind, EventFields, Frame, FrameHeader, KeyFields, Place, RowFields, TagTexts,
    TombstoneFields,
};
use uuid::Uuid;

/// The length of the header of a frame.
const HEADER: usize = 64;
/// The length of the fields of a record before its kind.
const HEAD: usize = 8;
const BASE_TIME: i64 = 1_700_000_000_000_000;

fn place() -> Place {
    Place { log_id: LogId::from_uuid(Uuid::from_u128(7)), segment: 3, base_time: BASE_TIME }
}

fn header(records: u32, kind: EntryKind) -> FrameHeader {
    FrameHeader {
        checksum: 0,
        length: 0,
        commits: u32::from(kind == EntryKind::Commits),
        records,
        number: 5,
        first_position: Position::FIRST,
        term: 2,
        opens: 1,
        previous: 9,
        original: None,
        kind,
    }
}

/// The properties of frames, for bytes that are a frame, and for bytes that become the record of one:
///
/// - decoding does not panic;
/// - a decoded record is encoded as the same bytes;
/// - a frame with a flipped bit, and a shortened one, is rejected.
pub fn frames(data: &[u8]) {
    if let Ok(frame) = Frame::verify(&Bytes::copy_from_slice(data), place()) {
        check_records(&frame);
    }
    // A fuzzer does not find checksums by chance. With the correct ones, the rest is decoded.
    let mut bytes = vec![0; HEADER + HEAD];
    bytes.extend_from_slice(data);
    let length = u32::try_from(bytes.len() - HEADER).expect("small");
    bytes[HEADER..HEADER + 4].copy_from_slice(&length.to_be_bytes());
    for kind in [EntryKind::Commits, EntryKind::Membership] {
        if let Ok(frame) = Frame::complete(bytes.clone(), header(1, kind), place()) {
            check_records(&frame);
            check_changed(&frame, data);
        }
    }
}

/// The properties of records: each value that can be encoded is decoded as the same value.
pub fn log_records(data: &[u8]) {
    let mut from = Unstructured::new(data);
    let mut bytes = vec![0; HEADER];
    let mut buffers = [Vec::new(), Vec::new(), Vec::new()];
    let mut bodies = Vec::new();
    for buffer in &mut buffers {
        let Ok(body) = body(&mut from, buffer) else { break };
        if body.encode(BASE_TIME, &mut bytes).is_ok() {
            bodies.push(body);
        }
    }
    if bodies.is_empty() {
        return;
    }
    let is_opaque = |body: &Body<'_>| matches!(body, Body::Opaque(_));
    let kind = if bodies.iter().all(is_opaque) { EntryKind::Membership } else { EntryKind::Commits };
    let frame = Frame::complete(bytes, header(u32::try_from(bodies.len()).expect("few"), kind), place());
    // Opaque records are for memberships only.
    if kind == EntryKind::Commits && bodies.iter().any(is_opaque) {
        assert!(frame.is_err(), "a commit has an opaque record");
        return;
    }
    let frame = frame.expect("encoded records can be verified");
    let batch = frame.batch();
    let found: Vec<_> = batch.records().map(|record| record.expect("an encoded record can be decoded").body).collect();
    assert_eq!(found, bodies);
    check_changed(&frame, data);
}

/// Returns the bytes of a frame with the record that is generated from the bytes.
#[must_use]
pub fn frame_of(data: &[u8]) -> Vec<u8> {
    let (mut bytes, mut buffer) = (vec![0; HEADER], Vec::new());
    let body = body(&mut Unstructured::new(data), &mut buffer).unwrap_or(Body::Opaque(data));
    if body.encode(BASE_TIME, &mut bytes).is_err() {
        return bytes;
    }
    let kind = if matches!(body, Body::Opaque(_)) { EntryKind::Membership } else { EntryKind::Commits };
    Frame::complete(bytes, header(1, kind), place()).expect("an encoded record can be verified").bytes().to_vec()
}

/// Calls `used` with the body that is generated from the bytes.
pub(super) fn generated_body(data: &[u8], buffer: &mut Vec<u8>, used: impl FnOnce(&Body<'_>)) {
    if let Ok(body) = body(&mut Unstructured::new(data), buffer) {
        used(&body);
    }
}

fn check_records(frame: &Frame) {
    let batch = frame.batch();
    for record in batch.records().flatten() {
        let mut again = Vec::new();
        record.body.encode(BASE_TIME, &mut again).expect("a decoded record can be encoded");
        assert_eq!(again[HEAD..], record.bytes[HEAD..], "a record is encoded as other bytes: {:?}", record.body);
    }
}

fn check_changed(frame: &Frame, data: &[u8]) {
    let is_accepted = |bytes: &[u8]| Frame::verify(&Bytes::copy_from_slice(bytes), place()).is_ok();
    super::check_changed(frame.bytes(), data, is_accepted);
}

fn id(from: &mut Unstructured<'_>) -> Result<Uuid> {
    from.arbitrary().map(Uuid::from_u128)
}

fn part(from: &mut Unstructured<'_>) -> Result<CommitPart> {
    Ok(CommitPart { index: from.int_in_range(0..=2)?, size: from.int_in_range(0..=3)? })
}

fn revision(from: &mut Unstructured<'_>) -> Result<Revision> {
    Ok(Revision::new(from.arbitrary::<u64>()?.min(u64::MAX - 1)))
}

/// A body of any kind. Tags are encoded into `tags`.
fn body<'a>(from: &mut Unstructured<'a>, tags: &'a mut Vec<u8>) -> Result<Body<'a>> {
    Ok(match from.int_in_range(0..=5)? {
        0 => Body::Tombstone(TombstoneFields {
            revision: revision(from)?,
            id: EventId::from_uuid(id(from)?),
            recorded_at: from.arbitrary()?,
            part: part(from)?,
            stream: from.arbitrary()?,
        }),
        1 => Body::Row(RowFields { table: from.arbitrary()?, key: from.arbitrary()?, value: from.arbitrary()? }),
        2 => Body::Key(KeyFields { key: from.arbitrary()?, value: from.arbitrary()? }),
        3 => Body::Opaque(from.arbitrary()?),
        _ => Body::Event(event(from, tags)?),
    })
}

fn event<'a>(from: &mut Unstructured<'a>, tags: &'a mut Vec<u8>) -> Result<EventFields<'a>> {
    let recorded_at: i64 = from.arbitrary()?;
    let texts: std::collections::BTreeSet<&[u8]> = from.arbitrary()?;
    Ok(EventFields {
        stream: from.arbitrary()?,
        revision: revision(from)?,
        id: EventId::from_uuid(id(from)?),
        recorded_at,
        occurred_at: if from.arbitrary()? { recorded_at } else { from.arbitrary()? },
        part: part(from)?,
        event_type: from.arbitrary()?,
        version: from.int_in_range(0..=3)?,
        content_type: match from.int_in_range(0..=3)? {
            0 | 1 => ContentCode::Json,
            2 => ContentCode::MessagePack,
            _ => ContentCode::Other(from.arbitrary()?),
        },
        correlation_id: from.arbitrary::<bool>()?.then(|| id(from)).transpose()?.map(CorrelationId::from_uuid),
        causation_id: from.arbitrary::<bool>()?.then(|| id(from)).transpose()?.map(EventId::from_uuid),
        tags: TagTexts::encode_into(texts, tags).expect("a set is in order"),
        metadata: from.arbitrary()?,
        payload: from.arbitrary()?,
        extensions: from.arbitrary()?,
    })
}
