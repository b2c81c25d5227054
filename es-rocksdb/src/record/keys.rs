//! The record extension that stores the unique keys of an event. The record of an event without keys has none.

use es_core::model::{KeyChange, Keys, UniqueKey};

use super::error::RecordError;
use super::layout::EXTENSION_HEAD_LEN;
use super::primitive::{FieldReader, length_u16, length_u32};

/// The tag of the extension. The tags 1 to 4 are reserved for stamps.
pub(crate) const TAG: u16 = 5;
/// The first byte of a claimed key.
pub(crate) const CLAIM: u8 = 1;
/// The first byte of a released key.
pub(crate) const RELEASE: u8 = 2;
/// The length of a key without its texts: the code, and the lengths of scope and value.
const CHANGE_LEN: usize = 1 + 2 + 2;

/// Returns the length of the extension with its head; 0 for an event without keys.
pub(super) fn length(keys: &Keys) -> usize {
    if keys.is_empty() { 0 } else { EXTENSION_HEAD_LEN + value_length(keys) }
}

fn value_length(keys: &Keys) -> usize {
    keys.len() * CHANGE_LEN + keys.bytes()
}

/// Appends the extension to `out`, unless the event has no keys.
pub(super) fn encode(keys: &Keys, out: &mut Vec<u8>) -> Result<(), RecordError> {
    if keys.is_empty() {
        return Ok(());
    }
    out.extend_from_slice(&TAG.to_be_bytes());
    out.extend_from_slice(&length_u32("length of an extension", value_length(keys))?);
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

/// Returns the unique keys in the extensions of a record. Skips unknown extensions by their lengths.
pub(super) fn find(extensions: &[u8]) -> Result<Keys, RecordError> {
    let mut reader = FieldReader { record: extensions, at: 0 };
    let mut keys = None;
    while reader.at < extensions.len() {
        let tag = reader.u16("tag of an extension")?;
        let length = reader.length("length of an extension")?;
        let value = reader.take("extension", length)?;
        if tag == TAG && keys.replace(decode(value)?).is_some() {
            return Err(RecordError::KeysTwice);
        }
    }
    Ok(keys.unwrap_or_default())
}

/// Decodes the value of the extension.
fn decode(value: &[u8]) -> Result<Keys, RecordError> {
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
