//! About how much memory things take: for limits on what waits, which have to count all of it.

use serde_json::Value;

use crate::event::Metadata;
use crate::tags::Tags;

/// The tags and the metadata of an event, in bytes.
pub(crate) fn labels(tags: &Tags, metadata: &Metadata) -> usize {
    let tags: usize = tags.iter().map(|tag| tag.as_str().len()).sum();
    tags + metadata.iter().map(|(key, value)| key.len() + of_value(value)).sum::<usize>()
}

/// About how many bytes a value has when it is written as JSON.
fn of_value(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(values) => values.iter().map(|value| of_value(value) + 1).sum::<usize>() + 2,
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + of_value(value) + 4).sum::<usize>() + 2,
        _ => 8,
    }
}
