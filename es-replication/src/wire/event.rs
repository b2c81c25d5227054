//! Conversions of events, stamps, dots and clocks.

use std::num::NonZeroU64;

use bytes::Bytes;
use chrono::DateTime;
use es_core::model::{
    CommandDigest, CommandId, ContentType, CorrelationId, Dot, HybridTime, Keys, LogId, LogPosition, Metadata,
    NameError, OriginId, Stamp, Tag, VectorClock,
};
use es_core::store::{MAX_METADATA_BYTES, MAX_TAGS};
use es_core::{EventData, EventId, EventType, Position, StreamId, Timestamp};
use uuid::Uuid;

use crate::page::{ForeignEvent, GapReason, Item};
use crate::wire::error::{DecodeError, EncodeError};
use crate::wire::proto;

/// Converts an event for sending.
pub(super) fn encode_event(event: ForeignEvent, starts_commit: bool) -> Result<proto::WireEvent, EncodeError> {
    let ForeignEvent { stream, data, occurred_at } = event;
    let EventData {
        id,
        event_type,
        version,
        content_type,
        payload,
        tags,
        metadata,
        correlation_id,
        causation_id,
        keys,
        stamp,
    } = data;
    if !keys.is_empty() {
        return Err(EncodeError::UniqueKey(id));
    }
    let stamp = stamp.ok_or(EncodeError::NoStamp(id))?;
    Ok(proto::WireEvent {
        starts_commit,
        stream: stream.as_str().to_owned(),
        occurred_at: occurred_at.timestamp_micros(),
        id: encode_uuid(id.as_uuid()),
        event_type: event_type.as_str().to_owned(),
        version,
        content_type: content_type.as_str().to_owned(),
        payload,
        tags: tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        metadata: if metadata.is_empty() { String::new() } else { metadata.to_string() },
        correlation_id: correlation_id.map(|id| encode_uuid(id.as_uuid())),
        causation_id: causation_id.map(|id| encode_uuid(id.as_uuid())),
        stamp: Some(encode_stamp(*stamp)),
    })
}

impl TryFrom<proto::WireEvent> for ForeignEvent {
    type Error = DecodeError;

    fn try_from(event: proto::WireEvent) -> Result<Self, DecodeError> {
        if event.version == 0 {
            return Err(DecodeError::field("the version of an event", "a number from 1", 0));
        }
        let media_type = event.content_type.as_str();
        if media_type.is_empty() || media_type.len() > ContentType::MAX_BYTES {
            return Err(DecodeError::field("the content type of an event", "1 to 255 bytes", media_type.len()));
        }
        if event.tags.len() > MAX_TAGS {
            return Err(DecodeError::field("the tags of an event", "at most 256", event.tags.len()));
        }
        let tags = event.tags.iter().map(|tag| name("a tag", Tag::new(tag))).collect::<Result<_, _>>()?;
        let stamp = event.stamp.ok_or_else(|| DecodeError::field("the stamp of an event", "a stamp", "none"))?;
        let occurred_at = decode_time("the time of an event", event.occurred_at)?;
        let correlation_id = event.correlation_id.map(|id| decode_uuid("a correlation id", &id)).transpose()?;
        let causation_id = event.causation_id.map(|id| decode_uuid("a causation id", &id)).transpose()?;
        let data = EventData {
            id: EventId::from_uuid(decode_uuid("an event id", &event.id)?),
            event_type: name("an event type", EventType::new(&event.event_type))?,
            version: event.version,
            content_type: ContentType::from(media_type),
            payload: event.payload,
            tags,
            metadata: decode_metadata(&event.metadata)?,
            correlation_id: correlation_id.map(CorrelationId::from_uuid),
            causation_id: causation_id.map(EventId::from_uuid),
            keys: Keys::new(),
            stamp: Some(Box::new(stamp.try_into()?)),
        };
        Ok(Self { stream: name("a stream", StreamId::new(&event.stream))?, data, occurred_at })
    }
}

pub(super) fn decode_time(field: &'static str, micros: i64) -> Result<Timestamp, DecodeError> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| DecodeError::field(field, "microseconds since 1970", micros))
}

fn decode_metadata(text: &str) -> Result<Metadata, DecodeError> {
    if text.is_empty() {
        return Ok(Metadata::new());
    }
    if text.len() > MAX_METADATA_BYTES {
        return Err(DecodeError::field("the metadata of an event", "at most 64 KiB", text.len()));
    }
    text.parse().map_err(|_| DecodeError::field("the metadata of an event", "a JSON object", text))
}

fn encode_stamp(stamp: Stamp) -> proto::WireStamp {
    let Stamp { dot, time, seen, command } = stamp;
    let command = command.map(|(id, digest)| proto::WireCommand { id: id.to_string(), digest: digest.to_bits() });
    proto::WireStamp { dot: Some(dot.into()), time: time.to_bits(), seen: seen.as_ref().map(Into::into), command }
}

impl TryFrom<proto::WireStamp> for Stamp {
    type Error = DecodeError;

    fn try_from(stamp: proto::WireStamp) -> Result<Self, DecodeError> {
        let dot = stamp.dot.ok_or_else(|| DecodeError::field("the dot of a stamp", "a dot", "none"))?;
        let command = |command: proto::WireCommand| {
            let id = name("a command id", CommandId::new(&command.id))?;
            Ok::<_, DecodeError>((id, CommandDigest::from_bits(command.digest)))
        };
        Ok(Self {
            dot: dot.try_into()?,
            time: HybridTime::from_bits(stamp.time),
            seen: stamp.seen.map(TryInto::try_into).transpose()?,
            command: stamp.command.map(command).transpose()?,
        })
    }
}

impl From<Dot> for proto::WireDot {
    fn from(dot: Dot) -> Self {
        Self { origin: dot.origin.get(), sequence: dot.sequence.get() }
    }
}

impl TryFrom<proto::WireDot> for Dot {
    type Error = DecodeError;

    fn try_from(dot: proto::WireDot) -> Result<Self, DecodeError> {
        Ok(Self { origin: OriginId::new(dot.origin), sequence: sequence(dot.sequence)? })
    }
}

impl From<&VectorClock> for proto::WireClock {
    fn from(clock: &VectorClock) -> Self {
        Self { pairs: clock.iter().flat_map(|dot| [dot.origin.get(), dot.sequence.get()]).collect() }
    }
}

impl TryFrom<proto::WireClock> for VectorClock {
    type Error = DecodeError;

    fn try_from(clock: proto::WireClock) -> Result<Self, DecodeError> {
        let (pairs, rest) = clock.pairs.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(DecodeError::field("a vector clock", "pairs", format_args!("{} numbers", clock.pairs.len())));
        }
        if !pairs.is_sorted_by(|[before, _], [after, _]| before < after) {
            return Err(DecodeError::field("a vector clock", "ascending origins", "another order"));
        }
        let dot =
            |[origin, number]: &[u64; 2]| Ok(Dot { origin: OriginId::new(*origin), sequence: sequence(*number)? });
        pairs.iter().map(dot).collect()
    }
}

impl From<LogPosition> for proto::WireLogPosition {
    fn from(position: LogPosition) -> Self {
        let LogPosition { log_id, position } = position;
        Self { log_id: log_id.map(|id| encode_uuid(id.as_uuid())), position: position.map_or(0, Position::get) }
    }
}

impl TryFrom<proto::WireLogPosition> for LogPosition {
    type Error = DecodeError;

    fn try_from(position: proto::WireLogPosition) -> Result<Self, DecodeError> {
        let number = position.position;
        let out_of_range = || DecodeError::field("a position", "a position of a log", number);
        let log_id = position.log_id.map(|id| decode_uuid("a log id", &id)).transpose()?.map(LogId::from_uuid);
        let position = (number != 0).then(|| Position::new(number).ok_or_else(out_of_range)).transpose()?;
        Ok(Self { log_id, position })
    }
}

impl TryFrom<proto::WireGap> for Item {
    type Error = DecodeError;

    fn try_from(gap: proto::WireGap) -> Result<Self, DecodeError> {
        let (from, through) = (sequence(gap.from)?, sequence(gap.through)?);
        if from > through {
            return Err(DecodeError::field("a gap", "a first sequence before the last", format_args!("{from}")));
        }
        let reason = if gap.is_withheld { GapReason::Withheld } else { GapReason::Removed };
        Ok(Self::Gap { origin: OriginId::new(gap.origin), from, through, reason })
    }
}

fn sequence(number: u64) -> Result<NonZeroU64, DecodeError> {
    NonZeroU64::new(number).ok_or_else(|| DecodeError::field("a sequence", "a number from 1", number))
}

pub(super) fn name<T>(field: &'static str, name: Result<T, NameError>) -> Result<T, DecodeError> {
    name.map_err(|error| DecodeError::field(field, "a valid name", error))
}

pub(super) fn encode_uuid(id: &Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

pub(super) fn decode_uuid(field: &'static str, bytes: &[u8]) -> Result<Uuid, DecodeError> {
    Uuid::from_slice(bytes).map_err(|_| DecodeError::field(field, "16 bytes", bytes.len()))
}
