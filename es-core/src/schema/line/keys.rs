//! The unique keys of an event on a line: `[{"claim":{"scope":"email","value":"ada@example.org"}},{"release":{…}}]`.

use crate::model::{KeyChange, Keys, NameError, UniqueKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A claim or release of a key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Change<T> {
    Claim(T),
    Release(T),
}

/// A key in an exported line.
#[derive(Serialize)]
struct WrittenKey<'a> {
    scope: &'a str,
    value: &'a str,
}

/// A key in an imported line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadKey {
    scope: String,
    value: String,
}

/// Deserializes a key from an object only. serde also accepts an array for a struct.
#[derive(Deserialize)]
struct KeyObject(#[serde(deserialize_with = "super::object")] ReadKey);

/// Serializes the keys of an event.
pub(super) fn serialize<S: Serializer>(keys: &Keys, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(keys.iter().map(|change| match change {
        KeyChange::Claim(key) => Change::Claim(WrittenKey { scope: key.scope(), value: key.value() }),
        KeyChange::Release(key) => Change::Release(WrittenKey { scope: key.scope(), value: key.value() }),
    }))
}

/// The keys of an event in an imported line.
pub(super) struct KeyList(pub(super) Keys);

impl<'de> Deserialize<'de> for KeyList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let changes = Vec::<Change<KeyObject>>::deserialize(from)?;
        let keys: Result<Keys, NameError> = changes.into_iter().map(change).collect();
        keys.map(Self).map_err(serde::de::Error::custom)
    }
}

fn change(change: Change<KeyObject>) -> Result<KeyChange, NameError> {
    let key = |KeyObject(ReadKey { scope, value })| UniqueKey::new(scope, value);
    Ok(match change {
        Change::Claim(claimed) => KeyChange::Claim(key(claimed)?),
        Change::Release(released) => KeyChange::Release(key(released)?),
    })
}
