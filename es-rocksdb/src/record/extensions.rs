//! [`Extensions`]: the extensions at the end of a record, of which each has a tag.

use super::error::RecordError;
use super::layout::{COMMAND_TAG, KEYS_TAG, SEEN_TAG, STAMP_TAG};
use super::primitive::{FieldReader, length_u32};

/// The values of the known extensions of a record as slices, not decoded yet.
#[derive(Debug, Default)]
pub(super) struct Extensions<'a> {
    pub(super) stamp: Option<&'a [u8]>,
    pub(super) seen: Option<&'a [u8]>,
    pub(super) command: Option<&'a [u8]>,
    pub(super) keys: Option<&'a [u8]>,
}

impl<'a> Extensions<'a> {
    /// Finds the known extensions. Skips unknown extensions by their lengths.
    ///
    /// # Errors
    /// - [`RecordError::Length`] if an extension is longer than the rest of the record.
    /// - [`RecordError::ExtensionOrder`] if the tags of the known extensions are not strictly ascending.
    pub(super) fn read(extensions: &'a [u8]) -> Result<Self, RecordError> {
        let mut found = Self::default();
        let mut last = None;
        let mut reader = FieldReader { record: extensions, at: 0 };
        while reader.at < extensions.len() {
            let tag = reader.u16("tag of an extension")?;
            let length = reader.length("length of an extension")?;
            let value = reader.take("extension", length)?;
            let known = match tag {
                STAMP_TAG => &mut found.stamp,
                SEEN_TAG => &mut found.seen,
                COMMAND_TAG => &mut found.command,
                KEYS_TAG => &mut found.keys,
                _ => continue,
            };
            if let Some(last) = last.replace(tag)
                && last >= tag
            {
                return Err(RecordError::ExtensionOrder { found: tag, last });
            }
            *known = Some(value);
        }
        Ok(found)
    }
}

/// Appends the head of an extension to `out`: its tag and the length of its value.
pub(super) fn encode_head(tag: u16, length: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
    out.extend_from_slice(&tag.to_be_bytes());
    out.extend_from_slice(&length_u32("length of an extension", length)?);
    Ok(())
}
