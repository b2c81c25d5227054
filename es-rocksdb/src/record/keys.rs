//! The extension of a record with the unique keys of its event. An event without keys has none.

use es_core::model::UniqueKey;
use es_core::model::{KeyChange, Keys};

use super::{RecordError, Rest, long, short};

/// The tag of the extension. The tags 1 to 4 are reserved for stamps.
pub(crate) const TAG: u16 = 5;
/// The first byte of a key that is claimed.
pub(crate) const CLAIM: u8 = 1;
/// The first byte of a key that is released.
pub(crate) const RELEASE: u8 = 2;
/// The length of a key without its texts: what happens to it, and the lengths of scope and value.
const CHANGE_LEN: usize = 1 + 2 + 2;

/// Returns the length of the extension with its head; 0 for an event without keys.
pub(super) fn length(keys: &Keys) -> usize {
    if keys.is_empty() { 0 } else { super::EXTENSION_HEAD_LEN + value_length(keys) }
}

fn value_length(keys: &Keys) -> usize {
    keys.len() * CHANGE_LEN + keys.bytes()
}

/// Writes the extension after what `out` holds; nothing for an event without keys.
pub(super) fn encode(keys: &Keys, out: &mut Vec<u8>) -> Result<(), RecordError> {
    if keys.is_empty() {
        return Ok(());
    }
    out.extend_from_slice(&TAG.to_be_bytes());
    out.extend_from_slice(&long("length of an extension", value_length(keys))?);
    for change in keys {
        let (code, key) = match change {
            KeyChange::Claim(key) => (CLAIM, key),
            KeyChange::Release(key) => (RELEASE, key),
        };
        out.push(code);
        for text in [key.scope(), key.value()] {
            out.extend_from_slice(&short("length of a unique key", text.len())?);
            out.extend_from_slice(text.as_bytes());
        }
    }
    Ok(())
}

/// Reads the value of the extension.
pub(super) fn decode(value: &[u8]) -> Result<Keys, RecordError> {
    let mut rest = Rest { record: value, at: 0 };
    let mut keys = Keys::new();
    while keys.is_empty() || rest.at < value.len() {
        let code = rest.u8("unique key")?;
        let mut text = || {
            let length = rest.u16("length of a unique key")?;
            rest.text("unique key", usize::from(length))
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
