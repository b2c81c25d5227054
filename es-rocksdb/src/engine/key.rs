//! Encoding of keys and of short values. Numbers are big-endian, so that RocksDB's byte order is their numeric order.
//!
//! The byte [`SEPARATOR`] ends a name in a key. Names have no control characters, so the keys of one name never start
//! with the prefix of another name.

use bytes::Bytes;
use es_core::model::{NameError, Table};
use es_core::store::implement::{KeyHash, KeyOwner};
use es_core::{EventId, Position, Revision, StreamId};

/// The byte after a name in a key.
pub(crate) const SEPARATOR: u8 = 0x00;
/// The length of a position or a revision in a key or a value.
pub(crate) const NUMBER_LEN: usize = 8;
/// The length of an event id.
pub(crate) const ID_LEN: usize = 16;

const _: () = assert!(NUMBER_LEN == size_of::<u64>());
const _: () = assert!(ID_LEN == size_of::<u128>());

/// Bytes on disk that are not a key or value of this format. A read reports it as a damaged store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// The length is wrong.
    #[error("expected {expected} bytes, found {found}")]
    Length { expected: usize, found: usize },
    /// A position is 0.
    #[error("expected a position from 1, found 0")]
    PositionZero,
    /// A revision or a position is `u64::MAX`. No event has it, because no number could follow it.
    #[error("expected a number below {max}, found {max}", max = u64::MAX)]
    NoNext,
    /// The key does not start with the expected prefix.
    #[error("expected a key that begins with {expected:?}, found {}", .found.escape_ascii())]
    Prefix { expected: String, found: Vec<u8> },
    /// The name of a stream is not UTF-8.
    #[error("expected UTF-8 in the name of a stream, found other bytes")]
    NotUtf8,
    /// The name of a stream is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Encodes a position, as a key or a value.
pub(crate) fn position(position: Position) -> [u8; NUMBER_LEN] {
    position.get().to_be_bytes()
}

/// Encodes a revision as a value.
pub(crate) fn revision(revision: Revision) -> [u8; NUMBER_LEN] {
    revision.get().to_be_bytes()
}

/// Encodes an event id as a key.
pub(crate) fn id(id: EventId) -> [u8; ID_LEN] {
    *id.as_uuid().as_bytes()
}

/// Decodes the result of [`id`].
pub(crate) fn decode_id(bytes: &[u8]) -> Result<EventId, KeyError> {
    let id = bytes.try_into().map_err(|_| KeyError::Length { expected: ID_LEN, found: bytes.len() })?;
    Ok(EventId::from_uuid(uuid::Uuid::from_bytes(id)))
}

fn decode_number(bytes: &[u8]) -> Result<u64, KeyError> {
    let number = bytes.try_into().map_err(|_| KeyError::Length { expected: NUMBER_LEN, found: bytes.len() })?;
    match u64::from_be_bytes(number) {
        u64::MAX => Err(KeyError::NoNext),
        number => Ok(number),
    }
}

/// Decodes the result of [`position`].
pub(crate) fn decode_position(bytes: &[u8]) -> Result<Position, KeyError> {
    Position::new(decode_number(bytes)?).ok_or(KeyError::PositionZero)
}

/// Decodes the result of [`revision`].
pub(crate) fn decode_revision(bytes: &[u8]) -> Result<Revision, KeyError> {
    decode_number(bytes).map(Revision::new)
}

/// Returns the prefix of all keys of a name.
pub(crate) fn prefix(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 1 + NUMBER_LEN);
    key.extend_from_slice(name.as_bytes());
    key.push(SEPARATOR);
    key
}

fn numbered(name: &str, number: u64) -> Vec<u8> {
    let mut key = prefix(name);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Decodes the number after a [`prefix`].
fn decode_numbered(key: &[u8], prefix: &[u8]) -> Result<u64, KeyError> {
    decode_number(strip(key, prefix)?)
}

fn strip<'a>(key: &'a [u8], prefix: &[u8]) -> Result<&'a [u8], KeyError> {
    key.strip_prefix(prefix)
        .ok_or_else(|| KeyError::Prefix { expected: String::from_utf8_lossy(prefix).into_owned(), found: key.to_vec() })
}

/// Encodes the key of a record in its stream.
pub(crate) fn in_stream(stream: &StreamId, revision: Revision) -> Vec<u8> {
    numbered(stream.as_str(), revision.get())
}

/// Decodes the revision in the result of [`in_stream`].
pub(crate) fn decode_in_stream(key: &[u8], prefix: &[u8]) -> Result<Revision, KeyError> {
    decode_numbered(key, prefix).map(Revision::new)
}

/// Encodes the key of an index entry: a category, type or tag, and the position of an event that has it.
pub(crate) fn posting(name: &str, position: Position) -> Vec<u8> {
    numbered(name, position.get())
}

/// Decodes the position in the result of [`posting`].
pub(crate) fn decode_posting(key: &[u8], prefix: &[u8]) -> Result<Position, KeyError> {
    Position::new(decode_numbered(key, prefix)?).ok_or(KeyError::PositionZero)
}

/// Decodes the key of a unique key, which is its hash.
pub(crate) fn decode_hash(bytes: &[u8]) -> Result<KeyHash, KeyError> {
    let hash = bytes.try_into().map_err(|_| KeyError::Length { expected: KeyHash::BYTES, found: bytes.len() })?;
    Ok(KeyHash::from_bytes(hash))
}

/// Encodes the value of a unique key: the revision of its claim, and the stream.
pub(crate) fn owner(owner: &KeyOwner) -> Vec<u8> {
    [&revision(owner.revision), owner.stream.as_str().as_bytes()].concat()
}

/// Decodes the result of [`owner`].
pub(crate) fn decode_owner(value: &[u8]) -> Result<KeyOwner, KeyError> {
    let Some((number, stream)) = value.split_at_checked(NUMBER_LEN) else {
        return Err(KeyError::Length { expected: NUMBER_LEN, found: value.len() });
    };
    let stream = std::str::from_utf8(stream).map_err(|_| KeyError::NotUtf8)?;
    Ok(KeyOwner { stream: StreamId::new(stream)?, revision: decode_revision(number)? })
}

/// Encodes the key of a row.
pub(crate) fn row(table: &Table, key: &[u8]) -> Vec<u8> {
    let mut bytes = prefix(table.as_str());
    bytes.extend_from_slice(key);
    bytes
}

/// Decodes the key within the table from the result of [`row`].
pub(crate) fn decode_row(key: &[u8], table: &Table) -> Result<Bytes, KeyError> {
    strip(key, &prefix(table.as_str())).map(Bytes::copy_from_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &str) -> StreamId {
        StreamId::new(text).unwrap()
    }

    #[test]
    fn keys_sort_by_name_then_number() {
        let sorted = [
            in_stream(&stream("a"), Revision::new(0)),
            in_stream(&stream("a"), Revision::new(255)),
            in_stream(&stream("a"), Revision::new(256)),
            in_stream(&stream("a"), Revision::new(u64::MAX)),
            in_stream(&stream("a b"), Revision::new(0)),
            in_stream(&stream("ab"), Revision::new(0)),
        ];
        assert!(sorted.is_sorted());
    }

    #[test]
    fn keys_and_values_are_decoded_as_they_were_encoded() {
        let name = prefix("a-1");
        assert_eq!(decode_in_stream(&in_stream(&stream("a-1"), Revision::new(7)), &name), Ok(Revision::new(7)));
        assert_eq!(decode_posting(&posting("a-1", Position::FIRST), &name), Ok(Position::FIRST));
        assert_eq!(decode_position(&position(Position::FIRST)), Ok(Position::FIRST));
        assert_eq!(decode_revision(&revision(Revision::new(3))), Ok(Revision::new(3)));
        let claim = KeyOwner { stream: stream("a-1"), revision: Revision::new(7) };
        assert_eq!(decode_owner(&owner(&claim)), Ok(claim));
        let hash = KeyHash::from_bytes([7; KeyHash::BYTES]);
        assert_eq!(decode_hash(hash.as_bytes()), Ok(hash));
        let table = Table::new("snapshots").unwrap();
        assert_eq!(decode_row(&row(&table, b"\0x\0"), &table), Ok(Bytes::from_static(b"\0x\0")));
    }

    #[test]
    fn invalid_keys_and_values_are_errors() {
        assert_eq!(decode_position(&[0; 7]), Err(KeyError::Length { expected: 8, found: 7 }));
        assert_eq!(decode_position(&[0; 8]), Err(KeyError::PositionZero));
        assert_eq!(decode_hash(b"short"), Err(KeyError::Length { expected: 16, found: 5 }));
        assert_eq!(decode_owner(b"short"), Err(KeyError::Length { expected: 8, found: 5 }));
        assert_eq!(decode_owner(b"\0\0\0\0\0\0\0\x01\xff"), Err(KeyError::NotUtf8));
        assert!(matches!(decode_owner(&[0; 8]), Err(KeyError::Name(_))));
        assert_eq!(decode_position(&[0xff; 8]), Err(KeyError::NoNext));
        assert_eq!(decode_revision(&[0xff; 8]), Err(KeyError::NoNext));
        assert_eq!(
            KeyError::NoNext.to_string(),
            "expected a number below 18446744073709551615, found 18446744073709551615"
        );
        assert_eq!(decode_posting(b"a\0", &prefix("a")), Err(KeyError::Length { expected: 8, found: 0 }));
        let error = decode_posting(b"b\0", &prefix("a")).unwrap_err();
        assert_eq!(error.to_string(), "expected a key that begins with \"a\\0\", found b\\x00");
    }
}
