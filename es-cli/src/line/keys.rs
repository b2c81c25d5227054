//! The unique keys of an event on its line: `[{"claim":{"scope":"email","value":"ada@example.org"}},{"release":{…}}]`.

use es_core::model::{KeyChange, Keys};
use es_core::model::{NameError, UniqueKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One change of a key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Change<T> {
    Claim(T),
    Release(T),
}

/// A key as it is written.
#[derive(Serialize)]
struct WrittenKey<'a> {
    scope: &'a str,
    value: &'a str,
}

/// A key as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadKey {
    scope: String,
    value: String,
}

/// Reads a key only from an object: serde also takes an array for a struct.
#[derive(Deserialize)]
struct KeyObject(#[serde(deserialize_with = "super::object")] ReadKey);

/// Writes the keys of an event.
pub(super) fn serialize<S: Serializer>(keys: &Keys, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(keys.iter().map(|change| match change {
        KeyChange::Claim(key) => Change::Claim(WrittenKey { scope: key.scope(), value: key.value() }),
        KeyChange::Release(key) => Change::Release(WrittenKey { scope: key.scope(), value: key.value() }),
    }))
}

/// The keys of an event as they are in a file.
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
