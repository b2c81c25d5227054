//! [`Checked`]: a record whose checksum has been verified.

use es_core::Position;

use super::error::RecordError;
use super::layout::{
    CHECKED_FROM, CHECKSUM_AT, FIXED_LEN, POSITION_AT, RECORD_VERSION, TOMBSTONE_LEN, TOMBSTONE_NUMBERS_AT,
    TOMBSTONE_VERSION,
};
use super::primitive::{FieldReader, position};

/// A record whose length, version and checksum have been verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked<'a>(&'a [u8]);

impl<'a> Checked<'a> {
    /// Verifies the length, version and checksum of a record.
    ///
    /// # Errors
    /// [`RecordError::TooShort`], [`RecordError::Version`], [`RecordError::Checksum`].
    pub(crate) fn new(record: &'a [u8]) -> Result<Self, RecordError> {
        let least = if record.first() == Some(&TOMBSTONE_VERSION) { TOMBSTONE_LEN } else { FIXED_LEN };
        let (Some(&version), true) = (record.first(), record.len() >= least) else {
            return Err(RecordError::TooShort { expected: least, found: record.len() });
        };
        if version != RECORD_VERSION && version != TOMBSTONE_VERSION {
            return Err(RecordError::Version { found: version });
        }
        let expected = FieldReader { record, at: CHECKSUM_AT }.u32("crc32c")?;
        let found = checksum(record);
        if expected != found {
            return Err(RecordError::Checksum { expected, found });
        }
        Ok(Self(record))
    }

    /// Returns a record from a copy of the bytes of a checked one.
    pub(crate) const fn copied(copy: &'a [u8]) -> Self {
        Self(copy)
    }

    /// Returns the bytes of the record.
    pub(crate) const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Returns the position of the event.
    ///
    /// # Errors
    /// [`RecordError::PositionZero`], [`RecordError::NoNext`]: no event can have the position.
    pub(crate) fn position(self) -> Result<Position, RecordError> {
        let at = if self.is_removed() { TOMBSTONE_NUMBERS_AT.0 } else { POSITION_AT };
        position(FieldReader { record: self.0, at }.u64("position")?)
    }

    /// Returns whether the record is a tombstone.
    pub(crate) fn is_removed(self) -> bool {
        self.0.first() == Some(&TOMBSTONE_VERSION)
    }
}

/// Returns the CRC32C over the version byte and everything after the checksum.
pub(super) fn checksum(record: &[u8]) -> u32 {
    let before = crc32c::crc32c(record.get(..CHECKSUM_AT).unwrap_or_default());
    crc32c::crc32c_append(before, record.get(CHECKED_FROM..).unwrap_or_default())
}
