//! An event as a line of JSON: the format of `es export` and `es import`, and of lists with `--json`.
//!
//! ```json
//! {"stream":"order-1","type":"order-placed","id":"0190a6f2-…","revision":0,"position":1,"version":1,
//!  "recorded_at":"2026-01-01T00:00:00Z","occurred_at":"2026-01-01T00:00:00Z","tags":[],"metadata":{},
//!  "commit":{"index":0,"size":1},"data":{"customer":"VINET"}}
//! ```
//!
//! The object is on one line. `correlation_id`, `causation_id`, `keys` and `stamp` are present if the event has them.
//! `keys` are the unique keys that it claims and releases, such as
//! `[{"claim":{"scope":"email","value":"ada@example.org"}}]`; `stamp` is the metadata of a replicated event.
//!
//! The line keeps all of the event. A JSON payload is written byte for byte. A payload that is not JSON, or does not
//! fit on one line, is written as `content_type` and `data_base64`. A store truncates times to microseconds.
//!
//! A hidden event or a tombstone is
//! `{"removed":{"stream":…,"id":…,"revision":…,"position":…,"recorded_at":…,"commit":…}}`, without the content. If the
//! event still holds unique keys, the line has their number as `claims`.

mod keys;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::model::reserved::REMOVED;
use crate::model::{CommitPart, ContentType, CorrelationId, EventView, Keys, Metadata, Stamp, Tags};
use crate::model::{EventData, EventId, EventType, NewEvent, StreamId, Timestamp};
use keys::KeyList;

/// The line of a recorded event.
#[derive(Serialize)]
struct OutputLine<'a> {
    stream: &'a StreamId,
    r#type: &'a EventType,
    id: EventId,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
    tags: &'a Tags,
    metadata: &'a Metadata,
    #[serde(skip_serializing_if = "Keys::is_empty", serialize_with = "keys::serialize")]
    keys: &'a Keys,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<CorrelationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stamp: Option<&'a Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<CommitPart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// The fields of a hidden event or a tombstone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removed {
    stream: StreamId,
    id: EventId,
    revision: u64,
    position: u64,
    recorded_at: Timestamp,
    #[serde(deserialize_with = "object")]
    commit: CommitPart,
    /// The number of unique keys that the event holds.
    #[serde(default, skip_serializing_if = "is_zero")]
    claims: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The line of a hidden event or a tombstone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemovedLine {
    #[serde(deserialize_with = "object")]
    removed: Removed,
}

/// Returns whether a line, which begins with a brace, is a [`RemovedLine`].
fn is_removed(line: &[u8]) -> bool {
    let field = line.strip_prefix(b"{").unwrap_or_default().trim_ascii_start();
    field.strip_prefix(b"\"removed\"").is_some_and(|rest| rest.trim_ascii_start().starts_with(b":"))
}

/// Writes an event as a line.
///
/// # Errors
/// The error of `out`.
pub fn write<'a>(event: impl Into<EventView<'a>>, out: &mut impl Write) -> io::Result<()> {
    write_with_claims(event, 0, out)
}

/// Writes an event as a line. The line of a tombstone has the number of unique keys that the removed event holds.
///
/// # Errors
/// The error of `out`.
pub fn write_with_claims<'a>(event: impl Into<EventView<'a>>, claims: u64, out: &mut impl Write) -> io::Result<()> {
    let event = event.into();
    if event.is_removed() {
        let removed = Removed {
            stream: event.stream().clone(),
            id: event.id(),
            revision: event.revision().get(),
            position: event.position().get(),
            recorded_at: event.recorded_at(),
            commit: event.part(),
            claims,
        };
        serde_json::to_writer(&mut *out, &RemovedLine { removed })?;
        return out.write_all(b"\n");
    }
    let raw = raw(event.content_type(), event.payload());
    let line = OutputLine {
        stream: event.stream(),
        r#type: event.event_type(),
        id: event.id(),
        revision: Some(event.revision().get()),
        position: Some(event.position().get()),
        version: event.version(),
        recorded_at: Some(event.recorded_at()),
        occurred_at: Some(event.occurred_at()),
        tags: event.tags(),
        metadata: event.metadata(),
        keys: event.keys(),
        correlation_id: event.correlation_id(),
        causation_id: event.causation_id(),
        stamp: event.stamp(),
        commit: Some(event.part()),
        content_type: raw.is_none().then(|| event.content_type().as_str()),
        data: raw,
        data_base64: raw.is_none().then(|| STANDARD.encode(event.payload())),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Returns the line of an event that is not recorded yet, without a line break. [`parse`] reads it.
pub(crate) fn of_new_event(stream: &StreamId, event: &NewEvent) -> Result<Box<RawValue>, serde_json::Error> {
    let NewEvent { data, occurred_at } = event;
    let raw = raw(&data.content_type, &data.payload);
    serde_json::value::to_raw_value(&OutputLine {
        stream,
        r#type: &data.event_type,
        id: data.id,
        revision: None,
        position: None,
        version: data.version,
        recorded_at: None,
        occurred_at: *occurred_at,
        tags: &data.tags,
        metadata: &data.metadata,
        keys: &data.keys,
        correlation_id: data.correlation_id,
        causation_id: data.causation_id,
        stamp: data.stamp.as_deref(),
        commit: None,
        content_type: raw.is_none().then(|| data.content_type.as_str()),
        data: raw,
        data_base64: raw.is_none().then(|| STANDARD.encode(&data.payload)),
    })
}

/// Returns the payload if it is JSON that fits on one line.
fn raw<'a>(content_type: &ContentType, payload: &'a [u8]) -> Option<&'a RawValue> {
    let is_one_line = !payload.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    let is_json = *content_type == ContentType::Json && is_one_line;
    let raw: &RawValue = is_json.then(|| serde_json::from_slice(payload).ok()).flatten()?;
    // Whitespace around the value would be lost.
    (raw.get().len() == payload.len()).then_some(raw)
}

/// The line of an event in an import.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputLine<'a> {
    stream: StreamId,
    r#type: EventType,
    id: Option<EventId>,
    #[serde(rename = "revision")]
    _revision: Option<u64>,
    position: Option<u64>,
    version: Option<NonZeroU32>,
    recorded_at: Option<Timestamp>,
    occurred_at: Option<Timestamp>,
    tags: Option<Tags>,
    metadata: Option<Metadata>,
    keys: Option<KeyList>,
    correlation_id: Option<CorrelationId>,
    causation_id: Option<EventId>,
    stamp: Option<StampObject>,
    commit: Option<Part>,
    content_type: Option<String>,
    // A plain `Option` would read the payload `null` as a missing payload.
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// The part of a commit that a line is.
#[derive(Deserialize)]
struct Part(#[serde(deserialize_with = "object")] CommitPart);

/// The stamp of a line.
#[derive(Deserialize)]
struct StampObject(#[serde(deserialize_with = "object")] Stamp);

/// Deserializes a struct from an object only. serde also accepts an array with the fields in their order.
fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    struct Object<T>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    from.deserialize_map(Object(std::marker::PhantomData))
}

/// A parsed line of an import.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its stream.
    pub stream: StreamId,
    /// The event, with a new id if the line has none. A tombstone has the type [`REMOVED`].
    pub event: NewEvent,
    /// Whether the line has an id.
    pub has_id: bool,
    /// The position of the event in the exported log.
    pub position: Option<u64>,
    /// The time at which the event was first recorded.
    pub recorded_at: Option<Timestamp>,
    /// The part of a commit that the event is; `None` for a commit with one event.
    pub part: Option<CommitPart>,
    /// The number of unique keys that a tombstone holds in the exported store. An import cannot claim them.
    pub claims: u64,
}

/// The error of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// The column, from 1; `None` if the error is about the whole line.
    pub column: Option<usize>,
    /// What was expected and what was found.
    pub message: String,
}

impl LineFault {
    /// Returns the error of a whole line.
    pub fn new(message: impl Into<String>) -> Self {
        Self { column: None, message: printable(&message.into()) }
    }

    /// Returns the error at a byte offset of the line.
    fn at(byte: usize, message: &str) -> Self {
        Self { column: Some(byte + 1), message: printable(message) }
    }
}

/// Replaces control characters in a message: a terminal must not interpret text from a file.
fn printable(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Parses a line. A time is not checked by [`parse_time`](crate::model::parse_time): a store truncates it.
///
/// # Errors
/// [`LineFault`]: the line is not a valid event.
pub fn parse(text: &[u8]) -> Result<Line, LineFault> {
    // serde would accept an array for a struct.
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(text.len());
    if text.get(start) != Some(&b'{') {
        let found = text.get(start..).filter(|text| !text.is_empty()).map_or("nothing".to_owned(), excerpt);
        return Err(LineFault::at(
            start,
            &format!("expected an event as a JSON object, which begins with {{, found {found}"),
        ));
    }
    if is_removed(text.get(start..).unwrap_or_default()) {
        let RemovedLine { removed } = serde_json::from_slice(text).map_err(|error| serde_fault(&error))?;
        let Removed { stream, id, position, recorded_at, commit, claims, .. } = removed;
        let event_type = EventType::new(REMOVED).map_err(|error| LineFault::new(error.to_string()))?;
        let event = NewEvent::json(event_type, Bytes::new()).with_id(id);
        let (position, recorded_at) = (Some(position), Some(recorded_at));
        return Ok(Line { stream, event, has_id: true, position, recorded_at, part: Some(commit), claims });
    }
    let line: InputLine<'_> = serde_json::from_slice(text).map_err(|error| fault(text, &error))?;
    if line.r#type == REMOVED {
        return Err(LineFault::new(format!("expected another type than {REMOVED:?}, which is reserved")));
    }
    let (content_type, payload) = payload(&line)?;
    let data = EventData {
        id: line.id.unwrap_or_else(EventId::new),
        event_type: line.r#type,
        version: line.version.map_or(1, NonZeroU32::get),
        content_type,
        payload,
        tags: line.tags.unwrap_or_default(),
        metadata: line.metadata.unwrap_or_default(),
        correlation_id: line.correlation_id,
        causation_id: line.causation_id,
        keys: line.keys.map(|KeyList(keys)| keys).unwrap_or_default(),
        stamp: line.stamp.map(|StampObject(stamp)| Box::new(stamp)),
    };
    let event = NewEvent { data, occurred_at: line.occurred_at };
    let part = line.commit.map(|Part(part)| part);
    let (stream, has_id, position, recorded_at) = (line.stream, line.id.is_some(), line.position, line.recorded_at);
    Ok(Line { stream, event, has_id, position, recorded_at, part, claims: 0 })
}

fn payload(line: &InputLine<'_>) -> Result<(ContentType, Bytes), LineFault> {
    let content_type = line.content_type.as_deref().map_or(ContentType::Json, ContentType::from);
    match (line.data, &line.data_base64) {
        (Some(data), None) if content_type == ContentType::Json => {
            Ok((content_type, Bytes::copy_from_slice(data.get().as_bytes())))
        }
        (Some(_), None) => {
            Err(LineFault::new(format!("expected data_base64 with content_type {content_type}, found data")))
        }
        (None, Some(text)) => match STANDARD.decode(text) {
            Ok(bytes) => Ok((content_type, bytes.into())),
            Err(error) => Err(LineFault::new(format!("expected base64 in data_base64, found: {error}"))),
        },
        (Some(_), Some(_)) => Err(LineFault::new("expected one of data and data_base64, found both")),
        (None, None) => Err(LineFault::new("expected one of data and data_base64, found neither")),
    }
}

/// Returns the fault of a line that serde rejects: the first invalid field, or the error of serde if no field is
/// invalid.
fn fault(text: &[u8], error: &serde_json::Error) -> LineFault {
    let found = std::str::from_utf8(text).ok().and_then(first_invalid_field);
    found.unwrap_or_else(|| serde_fault(error))
}

/// The fields of a line: name, expected value in a message, and the check of a value.
const FIELDS: [(&str, &str, FieldCheck); 17] = [
    ("stream", "the name of a stream as a string", is::<StreamId>),
    ("type", "an event type as a string", is::<EventType>),
    ("id", "a UUID", is::<Option<EventId>>),
    ("revision", "a number from 0", is::<Option<u64>>),
    ("position", "a number from 0", is::<Option<u64>>),
    ("version", "a number from 1", is::<Option<NonZeroU32>>),
    ("recorded_at", TIME, is::<Option<Timestamp>>),
    ("occurred_at", TIME, is::<Option<Timestamp>>),
    ("tags", "an array of strings", is::<Option<Tags>>),
    ("metadata", "an object", is::<Option<Metadata>>),
    (
        "keys",
        "an array such as [{\"claim\": {\"scope\": \"email\", \"value\": \"ada@example.org\"}}]",
        is::<Option<KeyList>>,
    ),
    ("correlation_id", "a UUID", is::<Option<CorrelationId>>),
    ("causation_id", "a UUID", is::<Option<EventId>>),
    ("stamp", STAMP, is::<Option<StampObject>>),
    ("commit", "{\"index\": N, \"size\": N}", is::<Option<Part>>),
    ("content_type", "a string", is::<Option<String>>),
    ("data_base64", "a string", is::<Option<String>>),
];
const STAMP: &str = "{\"dot\": \"ORIGIN.N\", \"time\": HEX}, with seen and command where the event has them,";
const TIME: &str = "a time such as 2026-01-31T12:00:00Z";

type FieldCheck = fn(&str) -> Result<(), serde_json::Error>;

fn is<T: DeserializeOwned>(value: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<T>(value).map(|_| ())
}

fn first_invalid_field(text: &str) -> Option<LineFault> {
    let values: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let invalid = FIELDS.iter().filter_map(|(name, expected, is)| {
        let value = values.get(*name)?.get();
        let error = is(value).err()?;
        let at = (value.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
        let detail = detail(&error);
        // The errors of names, tags and metadata describe the rule that the value breaks.
        let has_rule = match *name {
            "metadata" => value.starts_with('{'),
            _ => detail.contains(" must ") && value.starts_with(['"', '[']),
        };
        let message = if has_rule {
            format!("{name}: {detail}")
        } else {
            format!("expected {expected} in {name}, found {}", excerpt(value.as_bytes()))
        };
        Some((at, message))
    });
    let (at, message) = invalid.min_by_key(|(at, _)| *at)?;
    Some(LineFault::at(at, &message))
}

/// Returns the beginning of a found value for a message.
fn excerpt(found: &[u8]) -> String {
    const MAX_CHARS: usize = 40;
    let text = String::from_utf8_lossy(found.get(..MAX_CHARS * 4).unwrap_or(found));
    let shown: String = text.chars().take(MAX_CHARS).collect();
    if found.len() > shown.len() { shown + "…" } else { shown }
}

/// Returns the message of a serde error without its line and column.
fn detail(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(detail, _)| detail).to_owned()
}

fn serde_fault(error: &serde_json::Error) -> LineFault {
    let detail = detail(error);
    let column = (error.column() > 0).then(|| error.column());
    LineFault { column, ..LineFault::new(format!("expected an event as a JSON object, found: {detail}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_field_has_a_default() {
        let line = parse(br#"{"stream":"a-1","type":"t","data": {"n": 1.0} }"#).unwrap();
        assert_eq!((line.stream.as_str(), line.event.data.version, line.part), ("a-1", 1, None));
        assert_eq!(line.event.data.payload, br#"{"n": 1.0}"#.as_slice());
        assert_eq!(parse(br#"{"stream":"a","type":"t","data":null}"#).unwrap().event.data.payload, b"null".as_slice());
    }

    #[test]
    fn a_fault_names_the_column_and_what_was_expected() {
        let fault = |text: &str| {
            let fault = parse(text.as_bytes()).unwrap_err();
            (fault.column, fault.message)
        };
        let expected = "expected an event as a JSON object, found: ";
        assert_eq!(
            fault("{\"stream\":5}"),
            (Some(11), "expected the name of a stream as a string in stream, found 5".to_owned())
        );
        assert_eq!(fault("{\"stream\":nope}").1, format!("{expected}expected ident"));
        assert!(fault(r#"{"strem":"a"}"#).1.contains("unknown field `strem`, expected one of `stream`"));
        assert!(fault(r#"{"stream":"","type":"t","data":1}"#).1.contains("a stream id must have 1 to 512 bytes"));
        assert_eq!(fault(r#"{"stream":"a","type":"t"}"#).1, "expected one of data and data_base64, found neither");
        let other = fault(r#"{"stream":"a","type":"t","content_type":"text/plain","data":1}"#).1;
        assert_eq!(other, "expected data_base64 with content_type text/plain, found data");
        let with = |more: &str| fault(&format!(r#"{{"stream":"a","type":"t","data":1,{more}}}"#));
        for (more, message) in [
            (r#""recorded_at":"2026-99-01T00:00:00Z""#, "expected a time such as 2026-01-31T12:00:00Z in recorded_at"),
            (r#""id":"x""#, "expected a UUID in id, found \"x\""),
            (r#""version":0"#, "expected a number from 1 in version, found 0"),
            (r#""tags":["a",5]"#, "expected an array of strings in tags, found [\"a\",5]"),
            (r#""keys":{}"#, "expected an array such as [{\"claim\": {\"scope\": "),
            (r#""keys":[{"claim":["s","v"]}]"#, "expected an array such as [{\"claim\": {\"scope\": "),
            (r#""keys":[{"claim":{"scope":"","value":"v"}}]"#, "keys: a part of a unique key must have 1 to 512 bytes"),
            (r#""commit":[0,1]"#, "expected {\"index\": N, \"size\": N} in commit, found [0,1]"),
        ] {
            let (column, found) = with(more);
            assert!(found.starts_with(message), "{found}");
            assert_eq!(column, Some(35 + more.find(':').unwrap() + 1), "{found}");
        }
    }

    /// Found by fuzzing: serde quotes an unknown field unchanged, and a content type is any text.
    #[test]
    fn a_fault_is_one_line_without_control_characters() {
        for text in [
            r#"{"x\nerror: the disk is full\u001b[2J":1}"#,
            r#"{"stream":"a","type":"t","content_type":"a\nb","data":1}"#,
            "\u{1b}[2J",
        ] {
            let fault = parse(text.as_bytes()).unwrap_err();
            assert!(!fault.message.contains(char::is_control), "{fault:?}");
        }
    }

    #[test]
    fn a_tombstone_line_may_have_whitespace() {
        let id = "00000000-0000-8000-8000-000000000001";
        let time = "2026-01-01T00:00:00Z";
        let place = format!(r#""stream":"a","id":"{id}","revision":0,"position":7,"recorded_at":"{time}""#);
        let fields = format!(r#"{place},"commit":{{"index":0,"size":1}}"#);
        for text in [format!(r#"{{"removed":{{{fields}}}}}"#), format!(r#" {{ "removed" : {{{fields}}} }}"#)] {
            let line = parse(text.as_bytes()).unwrap();
            assert_eq!((line.event.data.event_type.as_str(), line.position), (REMOVED, Some(7)), "{text}");
        }
    }

    /// serde accepts an array with the fields in their order for a struct, so that such a line was imported.
    #[test]
    fn a_line_must_be_an_object_and_not_an_array() {
        let id = "00000000-0000-8000-8000-000000000001";
        let fields = format!(r#""a","t","{id}",null,null,null,null,null,null,null,null,null,null,null,null,1,null"#);
        let fault = parse(format!(" [{fields}]").as_bytes()).unwrap_err();
        assert_eq!(fault.column, Some(2));
        assert!(fault.message.contains("which begins with {, found [\"a\""), "{}", fault.message);
        let time = "2026-01-01T00:00:00Z";
        let place = format!(r#""stream":"a","id":"{id}","revision":0,"position":1,"recorded_at":"{time}""#);
        for removed in [
            format!(r#"{{"removed":["a","{id}",0,1,"{time}",{{"index":0,"size":1}}]}}"#),
            format!(r#"{{"removed":{{{place},"commit":[0,1]}}}}"#),
        ] {
            assert!(parse(removed.as_bytes()).unwrap_err().message.contains("expected an object"), "{removed}");
        }
    }
}
