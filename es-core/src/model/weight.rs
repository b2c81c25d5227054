//! The approximate memory use of events, for limits on queues and buffers.

use crate::model::{EventData, MetadataValue, RecordedEvent, Stamp, StreamId};

/// The memory use of an entry in a set or a map, in bytes, in addition to the text of its name or key.
const PLACE: usize = 64;

impl RecordedEvent {
    /// Returns the approximate memory use of the event in bytes: its payload, its names, tags and metadata, and the
    /// struct itself. Limits on buffered events count it.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.data.payload.len() + beside_payload(&self.stream, &self.data)
    }
}

/// Returns the memory use of the names, tags and metadata of an event, in bytes.
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
    let metadata: usize =
        metadata.iter().map(|(key, value)| name(key) + size_of::<MetadataValue>() + value.len()).sum();
    words + tags + keys + metadata + stamp.as_deref().map_or(0, of_stamp)
}

/// Returns the memory use of a name in a set, in bytes.
pub(crate) fn name(text: &str) -> usize {
    PLACE + text.len()
}

fn of_stamp(Stamp { dot: _, time: _, seen, command }: &Stamp) -> usize {
    let entries = seen.as_ref().map_or(0, |seen| seen.iter().len());
    size_of::<Stamp>() + PLACE * entries + command.as_ref().map_or(0, |(id, _)| id.as_str().len())
}
