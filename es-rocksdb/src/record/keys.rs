//! The record extension that stores the unique keys of an event. The record of an event without keys has none.

use es_core::model::{KeyChange, Keys, UniqueKey};

use super::error::RecordError;
use super::extensions::encode_head;
use super::layout::KEYS_TAG;
use super::primitive::{FieldReader, length_u16};

/// The first byte of a claimed key.
pub(crate) const CLAIM: u8 = 1;
/// The first byte of a released key.
pub(crate) const RELEASE: u8 = 2;
/// The length of a key without its texts: the code, and the lengths of scope and value.
const CHANGE_LEN: usize = 1 + 2 + 2;

fn value_length(keys: &Keys) -> usize {
    keys.len() * CHANGE_LEN + keys.bytes()
}

/// Appends the extension to `out`, unless the event has no keys.
pub(super) fn encode(keys: &Keys, out: &mut Vec<u8>) -> Result<(), RecordError> {
    if keys.is_empty() {
        return Ok(());
    }
    encode_head(KEYS_TAG, value_length(keys), out)?;
    for change in keys {
        let (code, key) = match change {
            KeyChange::Claim(key) => (CLAIM, key),
            KeyChange::Release(key) => (RELEASE, key),
        };
        out.push(code);
        for text in [key.scope(), key.value()] {
            out.extend_from_slice(&length_u16("length of a unique key", text.len())?);
            out.extend_from_slice(text.as_bytes());
        }
    }
    Ok(())
}

/// Decodes the value of the extension.
pub(super) fn decode(value: &[u8]) -> Result<Keys, RecordError> {
    let mut reader = FieldReader { record: value, at: 0 };
    let mut keys = Keys::new();
    while keys.is_empty() || reader.at < value.len() {
        let code = reader.u8("unique key")?;
        let mut text = || {
            let length = reader.u16("length of a unique key")?;
            reader.text("unique key", usize::from(length))
        };
        let key = UniqueKey::new(text()?, text()?)?;
        keys.push(match code {
            CLAIM => KeyChange::Claim(key),
            RELEASE => KeyChange::Release(key),
            found => return Err(RecordError::KeyCode { found }),
        });
    }
    Ok(keys)
}
