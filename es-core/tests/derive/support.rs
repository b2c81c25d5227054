//! Functions that encode and decode events.

use es_core::model::ContentType;
use es_core::schema::{DecodeEventError, RawEvent};
use es_core::{Event, Events};

/// Returns the wire name and the payload of an event.
pub(crate) fn encoded<E: Event>(event: &E) -> (String, String) {
    let encoded = event.encode().expect("encodes");
    (encoded.event_type.to_string(), String::from_utf8_lossy(&encoded.payload).into_owned())
}

/// Encodes and decodes an event.
pub(crate) fn round_trip<E: Event>(event: &E) -> Vec<E> {
    let encoded = event.encode().expect("encodes");
    E::decode(encoded.raw()).expect("decodes").into_vec()
}

/// Decodes a record with JSON content.
pub(crate) fn decode<E: Event>(event_type: &str, version: u32, json: &str) -> Result<Events<E>, DecodeEventError> {
    E::decode(RawEvent { event_type, version, content_type: &ContentType::Json, payload: json.as_bytes() })
}

/// Returns the tags of an event in order.
pub(crate) fn tags<E: Event>(event: &E) -> Vec<String> {
    event.encode().expect("encodes").tags.iter().map(ToString::to_string).collect()
}
