//! Numbers, lengths and texts in a record, and [`FieldReader`], which reads them.

use super::error::RecordError;

/// Decodes a length.
pub(super) fn length(bytes: [u8; 4]) -> Result<usize, RecordError> {
    let length = u32::from_be_bytes(bytes);
    usize::try_from(length).map_err(|_| RecordError::Length { field: "record", expected: usize::MAX, found: 0 })
}

/// Reads the variable part of a record, field by field. A field never reaches beyond the record.
pub(crate) struct FieldReader<'a> {
    pub(crate) record: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> FieldReader<'a> {
    /// Takes the next `length` bytes.
    pub(super) fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], RecordError> {
        let rest = self.record.get(self.at..).unwrap_or_default();
        let Some(taken) = rest.get(..length) else {
            return Err(RecordError::Length { field, expected: length, found: rest.len() });
        };
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let taken = self.take(field, N)?;
        taken.try_into().map_err(|_| RecordError::Length { field, expected: N, found: taken.len() })
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, RecordError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, RecordError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, RecordError> {
        self.array(field).map(u64::from_be_bytes)
    }

    pub(super) fn length(&mut self, field: &'static str) -> Result<usize, RecordError> {
        length(self.array(field)?)
    }

    /// Reads a number in LEB128. Accepts only its shortest encoding, so that a value has one encoding.
    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u64, RecordError> {
        let mut number = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8(field)?;
            let bits = u64::from(byte & 0x7f);
            let is_in_range = bits << shift >> shift == bits;
            let is_shortest = byte != 0 || shift == 0;
            if !is_in_range || !is_shortest {
                return Err(RecordError::Varint { field });
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(RecordError::Varint { field })
    }

    pub(super) fn text(&mut self, field: &'static str, length: usize) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.take(field, length)?).map_err(|_| RecordError::NotUtf8 { field })
    }
}

/// Appends a number in LEB128 to `out`: seven bits per byte, the lowest first.
pub(crate) fn encode_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Returns the length of a number in LEB128.
pub(super) fn varint_len(number: u64) -> usize {
    (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// Encodes a length in two bytes.
///
/// # Errors
/// [`RecordError::TooLarge`].
pub(super) fn length_u16(field: &'static str, length: usize) -> Result<[u8; 2], RecordError> {
    let too_large = |_| RecordError::TooLarge { field, max: u64::from(u16::MAX), found: length };
    u16::try_from(length).map(u16::to_be_bytes).map_err(too_large)
}

/// Encodes a length in four bytes.
///
/// # Errors
/// [`RecordError::TooLarge`].
pub(super) fn length_u32(field: &'static str, length: usize) -> Result<[u8; 4], RecordError> {
    let too_large = |_| RecordError::TooLarge { field, max: u64::from(u32::MAX), found: length };
    u32::try_from(length).map(u32::to_be_bytes).map_err(too_large)
}
