//! About how much memory things take: for limits on what waits, which have to count all of it.

use serde_json::Value;

use crate::model::ContentType;
use crate::model::Metadata;
use crate::model::Tags;
use crate::model::{EventType, StreamId};

/// What a name or a key takes beside its bytes, with its place in a set or a map.
const PLACE: usize = 64;

/// The names, tags and metadata of an event, in bytes. The nesting of metadata has a bound in all that is in a log or may be.
pub(crate) fn beside_payload(
    stream: &StreamId,
    event_type: &EventType,
    content_type: &ContentType,
    tags: &Tags,
    metadata: &Metadata,
) -> usize {
    let words = stream.as_str().len() + event_type.as_str().len() + content_type.as_str().len();
    let tags: usize = tags.iter().map(|tag| name(tag.as_str())).sum();
    words + tags + metadata.iter().map(|(key, value)| name(key) + of_value(value)).sum::<usize>()
}

/// A name with its place in a set, in bytes.
pub(crate) fn name(text: &str) -> usize {
    PLACE + text.len()
}

fn of_value(value: &Value) -> usize {
    let within = match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(of_value).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| name(key) + of_value(value)).sum(),
        _ => 0,
    };
    size_of::<Value>() + within
}
