//! Keys: each place has one key, and each key one place, in the same order.

use arbitrary::{Result, Unstructured};
use es_core::__private::table as any_table;
use es_core::EventId;
use es_core::store::implement::{KeyOwner, KeySecret};
use uuid::Uuid;

use super::made;
use crate::key;

/// Keys, with any bytes as a key and as the choices for one:
///
/// - what a decoder accepts is written again as the same bytes, so that two keys are never one place;
/// - what is written is read back, and sorts as name and number do;
/// - no key of one name begins as the keys of another do;
/// - a flipped bit is refused, or is another place: a key has no checksum, the record under it has.
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
    // NOTE: an error says that the bytes are used up.
    let _ = of_choices(data);
}

fn of_choices(data: &[u8]) -> Result<()> {
    let mut choices = Unstructured::new(data);
    let from = &mut choices;
    let (a, b) = (made::stream(from)?, made::stream(from)?);
    let (one, two) = (made::revision(from)?, made::revision(from)?);
    let prefix = key::prefix(a.as_str());
    let (first, second) = (key::in_stream(&a, one), key::in_stream(&b, two));
    assert_eq!(key::decode_in_stream(&first, &prefix), Ok(one));
    assert_eq!(first.cmp(&second), (a.as_str(), one).cmp(&(b.as_str(), two)), "{a:?} {one}, {b:?} {two}");
    assert_eq!(second.starts_with(&prefix), a == b, "{a:?} and {b:?} share keys");
    let place = made::position(from)?;
    assert_eq!(key::decode_posting(&key::posting(a.as_str(), place), &prefix), Ok(place));
    assert_eq!(key::decode_position(&key::position(place)), Ok(place));
    let id = EventId::from_uuid(Uuid::from_u128(from.arbitrary()?));
    assert_eq!(Uuid::from_bytes(key::id(id)), *id.as_uuid());

    let mut flipped = first.clone();
    let bit = from.arbitrary::<usize>()? % (flipped.len() * 8);
    flipped[bit / 8] ^= 1 << (bit % 8);
    assert_ne!(key::decode_in_stream(&flipped, &prefix), Ok(one), "bit {bit} of the key of {a:?} changes nothing");

    let (table, other) = (made::name(from)?, made::name(from)?);
    // Names of the framework included: `Table::new` refuses them.
    let (table, other) = (any_table(&table).expect("a table"), any_table(&other).expect("a table"));
    let row: &[u8] = from.arbitrary()?;
    let in_table = key::row(&table, row);
    assert_eq!(key::decode_row(&in_table, &table).as_deref(), Ok(row));
    assert_eq!(key::decode_row(&in_table, &other).is_ok(), table == other, "{table:?} and {other:?} share rows");
    let (x, y) = (made::unique_key(from)?, made::unique_key(from)?);
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
