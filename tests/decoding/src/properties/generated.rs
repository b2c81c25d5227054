//! Generates valid values from bytes.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use chrono::DateTime;
use es_core::model::{CommandDigest, CommandId, Dot, HybridTime, KeyChange, Keys, OriginId, Stamp};
use es_core::model::{CommitPart, ContentType, CorrelationId, Metadata, Tag, UniqueKey};
use es_core::{
    Commit, EventData, EventId, EventType, NewEvent, Position, RecordedEvent, Revision, StreamId, Timestamp,
};
use serde_json::Value;
use uuid::Uuid;

/// Any text without the characters that names must not have.
pub(crate) fn name(from: &mut Unstructured<'_>) -> Result<String> {
    let text: String = from.arbitrary::<&str>()?.chars().filter(|c| !c.is_control()).collect();
    let mut end = text.len().min(es_core::model::MAX_NAME_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Ok(if end == 0 { "-".to_owned() } else { text[..end].to_owned() })
}

pub(crate) fn stream(from: &mut Unstructured<'_>) -> Result<StreamId> {
    Ok(StreamId::new(name(from)?).expect("every name is a valid stream id"))
}

/// The last position or revision that an event can have.
const LAST: u64 = u64::MAX - 1;

pub(crate) fn position(from: &mut Unstructured<'_>) -> Result<Position> {
    Ok(Position::new(from.arbitrary::<u64>()?.min(LAST)).unwrap_or(Position::FIRST))
}

pub(crate) fn revision(from: &mut Unstructured<'_>) -> Result<Revision> {
    Ok(Revision::new(from.arbitrary::<u64>()?.min(LAST)))
}

/// A time that a record can hold: whole microseconds.
fn time(from: &mut Unstructured<'_>) -> Result<Timestamp> {
    let micros: i64 = from.arbitrary()?;
    // Most numbers are out of range. Dividing these by 4096 brings them into the range.
    let in_range = DateTime::from_timestamp_micros(micros);
    Ok(in_range.unwrap_or_else(|| DateTime::from_timestamp_micros(micros >> 12).expect("in range")))
}

fn value(from: &mut Unstructured<'_>, levels: u8) -> Result<Value> {
    Ok(match from.int_in_range(0..=if levels == 0 { 5 } else { 7 })? {
        0 => Value::Null,
        1 => from.arbitrary::<bool>()?.into(),
        2 => from.arbitrary::<u64>()?.into(),
        3 => from.arbitrary::<i64>()?.into(),
        4 => from.arbitrary::<f64>()?.into(),
        5 => from.arbitrary::<String>()?.into(),
        6 => {
            let mut items = Vec::new();
            for _ in 0..from.int_in_range(0..=3)? {
                items.push(value(from, levels - 1)?);
            }
            items.into()
        }
        _ => {
            let mut fields = serde_json::Map::new();
            for _ in 0..from.int_in_range(0..=3)? {
                let key = if from.ratio(1, 16)? { "$serde_json::private::RawValue".into() } else { from.arbitrary()? };
                fields.insert(key, value(from, levels - 1)?);
            }
            fields.into()
        }
    })
}

fn metadata(from: &mut Unstructured<'_>) -> Result<Metadata> {
    let mut metadata = Metadata::new();
    for _ in 0..from.int_in_range(0..=3)? {
        metadata = metadata.with(from.arbitrary::<String>()?, value(from, 3)?);
    }
    Ok(metadata)
}

fn content_type(from: &mut Unstructured<'_>) -> Result<ContentType> {
    Ok(match from.int_in_range(0..=3)? {
        0 | 1 => ContentType::Json,
        2 => ContentType::MessagePack,
        // `from` returns the variants above for their texts.
        _ => ContentType::from(from.arbitrary::<&str>()?.chars().take(60).collect::<String>()),
    })
}

pub(crate) fn unique_key(from: &mut Unstructured<'_>) -> Result<UniqueKey> {
    Ok(UniqueKey::new(name(from)?, name(from)?).expect("two names are a valid unique key"))
}

fn keys(from: &mut Unstructured<'_>) -> Result<Keys> {
    let mut keys = Keys::new();
    for _ in 0..from.int_in_range(0..=3)? {
        let key = unique_key(from)?;
        keys.push(if from.arbitrary()? { KeyChange::Claim(key) } else { KeyChange::Release(key) });
    }
    Ok(keys)
}

/// A recorded event that a store accepts.
pub(crate) fn event(from: &mut Unstructured<'_>) -> Result<RecordedEvent> {
    let id = |from: &mut Unstructured<'_>| from.arbitrary().map(Uuid::from_u128);
    let mut tags = es_core::model::Tags::new();
    for _ in 0..from.int_in_range(0..=4)? {
        tags.insert(Tag::new(name(from)?).expect("every name is a valid tag"));
    }
    let keys = keys(from)?;
    let event = RecordedEvent {
        position: position(from)?,
        stream: stream(from)?,
        revision: revision(from)?,
        recorded_at: time(from)?,
        occurred_at: time(from)?,
        part: CommitPart { index: from.arbitrary()?, size: from.arbitrary()? },
        data: EventData {
            id: EventId::from_uuid(id(from)?),
            event_type: EventType::new(name(from)?).expect("every name is a valid event type"),
            version: from.arbitrary::<u32>()?.max(1),
            content_type: content_type(from)?,
            tags,
            keys,
            metadata: metadata(from)?,
            correlation_id: from.arbitrary::<bool>()?.then(|| id(from)).transpose()?.map(CorrelationId::from_uuid),
            causation_id: from.arbitrary::<bool>()?.then(|| id(from)).transpose()?.map(EventId::from_uuid),
            stamp: from.arbitrary::<bool>()?.then(|| stamp(from)).transpose()?.map(Box::new),
            payload: match from.int_in_range(0..=2)? {
                0 => Bytes::from(value(from, 3)?.to_string()),
                _ => Bytes::copy_from_slice(from.arbitrary::<&[u8]>()?),
            },
        },
    };
    let commit = Commit::new().append(event.stream.clone(), as_new(&event));
    // A log has no events that a store rejects.
    if commit.validate().is_err() {
        return Err(arbitrary::Error::IncorrectFormat);
    }
    Ok(if from.ratio(1, 8)? { event.without_content() } else { event })
}

pub(crate) fn stamp(from: &mut Unstructured<'_>) -> Result<Stamp> {
    let dot =
        |from: &mut Unstructured<'_>| Ok(Dot { origin: OriginId::new(from.arbitrary()?), sequence: from.arbitrary()? });
    let command = |from: &mut Unstructured<'_>| {
        let id = CommandId::new(name(from)?).expect("every name is a valid command id");
        Ok((id, CommandDigest::from_bits(from.arbitrary()?)))
    };
    let seen = |from: &mut Unstructured<'_>| (0..from.int_in_range(0..=3)?).map(|_| dot(from)).collect();
    Ok(Stamp {
        dot: dot(from)?,
        time: HybridTime::from_bits(from.arbitrary()?),
        seen: from.arbitrary::<bool>()?.then(|| seen(from)).transpose()?,
        command: from.arbitrary::<bool>()?.then(|| command(from)).transpose()?,
    })
}

/// Returns the event as a client would append it.
pub(crate) fn as_new(event: &RecordedEvent) -> NewEvent {
    let occurred_at = (!event.is_removed()).then_some(event.occurred_at);
    NewEvent { data: event.data.clone(), occurred_at }
}
