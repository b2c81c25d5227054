//! What the tests of events do with events.

use es_core::model::ContentType;
use es_core::schema::{DecodeEventError, RawEvent};
use es_core::{Event, Events};

/// The wire name and the payload of an event.
pub(crate) fn encoded<E: Event>(event: &E) -> (String, String) {
    let encoded = event.encode().expect("encodes");
    (encoded.event_type.to_string(), String::from_utf8_lossy(&encoded.payload).into_owned())
}

/// What an event is after it was written and read.
pub(crate) fn round_trip<E: Event>(event: &E) -> Vec<E> {
    let encoded = event.encode().expect("encodes");
    E::decode(encoded.raw()).expect("decodes").into_vec()
}

/// What is read from a record.
pub(crate) fn decode<E: Event>(event_type: &str, version: u32, json: &str) -> Result<Events<E>, DecodeEventError> {
    E::decode(RawEvent { event_type, version, content_type: &ContentType::Json, payload: json.as_bytes() })
}

/// The tags of an event, in order.
pub(crate) fn tags<E: Event>(event: &E) -> Vec<String> {
    event.encode().expect("encodes").tags.iter().map(ToString::to_string).collect()
}
