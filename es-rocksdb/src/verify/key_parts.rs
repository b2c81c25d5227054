//! The parts of keys.

use es_core::__private::table;
use es_core::{Revision, StoreError, StreamId};

use crate::engine::database::bad_name;
use crate::engine::key::{self, NUMBER_LEN, SEPARATOR};
use crate::schema::Cf;

/// Returns whether the key of a row begins with the name of a table.
pub(crate) fn has_table(key: &[u8]) -> bool {
    let Some(end) = key.iter().position(|byte| *byte == SEPARATOR) else { return false };
    let name = key.get(..end).and_then(|name| std::str::from_utf8(name).ok());
    name.is_some_and(|name| table(name).is_ok())
}

/// Splits a key into its name and its number.
pub(crate) fn split_numbered(key: &[u8]) -> Option<(&str, &[u8])> {
    let (name, number) = key.split_at_checked(key.len().checked_sub(NUMBER_LEN)?)?;
    let (separator, name) = name.split_last()?;
    (*separator == SEPARATOR).then_some((std::str::from_utf8(name).ok()?, number))
}

/// Decodes the stream and the revision of a key.
pub(crate) fn place_in_stream(key: &[u8]) -> Result<(StreamId, Revision), StoreError> {
    let place = split_numbered(key)
        .and_then(|(name, number)| Some((StreamId::new(name).ok()?, key::decode_revision(number).ok()?)));
    place.ok_or_else(|| bad_name(Cf::Streams, key))
}
