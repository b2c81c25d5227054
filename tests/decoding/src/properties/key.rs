//! Keys and the values they encode: one to one, and in the same order.

use arbitrary::{Result, Unstructured};
use es_core::__private::table as any_table;
use es_core::EventId;
use es_core::store::implement::{KeyOwner, KeySecret};
use uuid::Uuid;

use super::generated;
use crate::key;

/// The properties of keys:
///
/// - a decoded key is encoded as the same bytes, so that two keys never encode the same value;
/// - an encoded key is decoded as the same name and number, and keys sort by name and number;
/// - the prefix of the keys of one name is not a prefix of the keys of another name;
/// - a key with a flipped bit is rejected or has another value. A key has no checksum, but its record has one.
pub fn keys(data: &[u8]) {
    if let Ok(position) = key::decode_position(data) {
        assert_eq!(key::position(position), data);
    }
    if let Ok(revision) = key::decode_revision(data) {
        assert_eq!(key::revision(revision), data);
    }
    if let Ok(owner) = key::decode_owner(data) {
        assert_eq!(key::owner(&owner), data);
    }
    // An error means that there are not enough bytes to generate a key.
    let _ = check_generated(data);
}

fn check_generated(data: &[u8]) -> Result<()> {
    let mut choices = Unstructured::new(data);
    let from = &mut choices;
    let (a, b) = (generated::stream(from)?, generated::stream(from)?);
    let (one, two) = (generated::revision(from)?, generated::revision(from)?);
    let prefix = key::prefix(a.as_str());
    let (first, second) = (key::in_stream(&a, one), key::in_stream(&b, two));
    assert_eq!(key::decode_in_stream(&first, &prefix), Ok(one));
    assert_eq!(first.cmp(&second), (a.as_str(), one).cmp(&(b.as_str(), two)), "{a:?} {one}, {b:?} {two}");
    assert_eq!(second.starts_with(&prefix), a == b, "{a:?} and {b:?} share keys");
    let position = generated::position(from)?;
    assert_eq!(key::decode_posting(&key::posting(a.as_str(), position), &prefix), Ok(position));
    assert_eq!(key::decode_position(&key::position(position)), Ok(position));
    let id = EventId::from_uuid(Uuid::from_u128(from.arbitrary()?));
    assert_eq!(Uuid::from_bytes(key::id(id)), *id.as_uuid());

    let mut flipped = first.clone();
    let bit = from.arbitrary::<usize>()? % (flipped.len() * 8);
    flipped[bit / 8] ^= 1 << (bit % 8);
    assert_ne!(key::decode_in_stream(&flipped, &prefix), Ok(one), "bit {bit} of the key of {a:?} has no effect");

    let (table, other) = (generated::name(from)?, generated::name(from)?);
    // Includes the names of the framework, which `Table::new` rejects.
    let (table, other) = (any_table(&table).expect("a table"), any_table(&other).expect("a table"));
    let row: &[u8] = from.arbitrary()?;
    let in_table = key::row(&table, row);
    assert_eq!(key::decode_row(&in_table, &table).as_deref(), Ok(row));
    assert_eq!(key::decode_row(&in_table, &other).is_ok(), table == other, "{table:?} and {other:?} share rows");
    let (x, y) = (generated::unique_key(from)?, generated::unique_key(from)?);
    let (secret, other) = (KeySecret::from_bytes([1; KeySecret::BYTES]), KeySecret::from_bytes([2; KeySecret::BYTES]));
    assert_eq!(secret.hash(&x) == secret.hash(&y), x == y, "{x} and {y} share a unique key");
    assert_ne!(secret.hash(&x), other.hash(&x), "the hash of {x} does not depend on the secret");
    assert_eq!(key::decode_hash(secret.hash(&x).as_bytes()), Ok(secret.hash(&x)));
    let owner = KeyOwner { stream: b, revision: two };
    assert_eq!(key::decode_owner(&key::owner(&owner)), Ok(owner));

    let rest = choices.take_rest();
    if let Ok(revision) = key::decode_in_stream(rest, &prefix) {
        assert_eq!(key::in_stream(&a, revision), rest);
    }
    if let Ok(position) = key::decode_posting(rest, &prefix) {
        assert_eq!(key::posting(a.as_str(), position), rest);
    }
    if let Ok(row) = key::decode_row(rest, &table) {
        assert_eq!(key::row(&table, &row), rest);
    }
    Ok(())
}
