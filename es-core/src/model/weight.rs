//! About how much memory things take: for limits on what waits, which have to count all of it.

use serde_json::Value;

use crate::model::{EventData, RecordedEvent, Stamp, StreamId};

/// What a name or a key takes beside its bytes, with its place in a set or a map.
const PLACE: usize = 64;

impl RecordedEvent {
    /// Returns about how many bytes of memory the event uses: its payload, its names, tags and metadata, and itself. Limits on
    /// buffered events count this.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.data.payload.len() + beside_payload(&self.stream, &self.data)
    }
}

/// Returns the memory of the names, tags and metadata of an event, in bytes. The depth of metadata is limited in every event of a log
/// and in every commit.
pub(crate) fn beside_payload(stream: &StreamId, data: &EventData) -> usize {
    let EventData {
        event_type,
        content_type,
        tags,
        metadata,
        keys,
        stamp,
        // Part of `size_of`, or counted by the caller.
        id: _,
        version: _,
        payload: _,
        correlation_id: _,
        causation_id: _,
    } = data;
    let words = stream.as_str().len() + event_type.as_str().len() + content_type.as_str().len();
    let tags: usize = tags.iter().map(|tag| name(tag.as_str())).sum();
    let keys: usize = keys.iter().map(|change| name(change.key().scope()) + name(change.key().value())).sum();
    let metadata: usize = metadata.iter().map(|(key, value)| name(key) + of_value(value)).sum();
    words + tags + keys + metadata + stamp.as_deref().map_or(0, of_stamp)
}

/// A name with its place in a set, in bytes.
pub(crate) fn name(text: &str) -> usize {
    PLACE + text.len()
}

fn of_stamp(Stamp { dot: _, time: _, seen, command }: &Stamp) -> usize {
    let entries = seen.as_ref().map_or(0, |seen| seen.iter().len());
    size_of::<Stamp>() + PLACE * entries + command.as_ref().map_or(0, |(id, _)| id.as_str().len())
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
