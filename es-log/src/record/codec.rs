//! Numbers of variable length, and [`Cursor`], which reads the fields of a record.

use super::RecordError;

/// The longest encoding of a number, in bytes.
const MAX_VARINT_LEN: usize = 10;

/// Appends a number as LEB128: seven bits per byte, the lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number; small absolute values are short (zigzag).
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_varint(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// Reads the fields of a record in order. A field never extends beyond the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns all bytes that are left.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Takes the next `length` bytes.
    #[inline]
    pub(crate) fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], RecordError> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(RecordError::Length { field, expected: length, found: self.rest.len() });
        };
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(RecordError::Length { field, expected: N, found: self.rest.len() });
        };
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn byte(&mut self, field: &'static str) -> Result<u8, RecordError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Reads a number. Only its shortest encoding is accepted, so that a value has one encoding.
    #[inline]
    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u64, RecordError> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(field),
        }
    }

    fn long_varint(&mut self, field: &'static str) -> Result<u64, RecordError> {
        let mut number = 0u64;
        for index in 0..MAX_VARINT_LEN {
            let byte = self.byte(field)?;
            let bits = u64::from(byte & 0x7f);
            if index == MAX_VARINT_LEN - 1 && bits > 1 {
                return Err(RecordError::Number { field });
            }
            number |= bits << (7 * index);
            if byte & 0x80 == 0 {
                let is_shortest = byte != 0 || index == 0;
                return if is_shortest { Ok(number) } else { Err(RecordError::Number { field }) };
            }
        }
        Err(RecordError::Number { field })
    }

    #[inline]
    pub(crate) fn signed(&mut self, field: &'static str) -> Result<i64, RecordError> {
        let number = self.varint(field)?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, RecordError> {
        u32::try_from(self.varint(field)?).map_err(|_| RecordError::Number { field })
    }

    #[inline]
    pub(crate) fn length(&mut self, field: &'static str) -> Result<usize, RecordError> {
        usize::try_from(self.varint(field)?).map_err(|_| RecordError::Number { field })
    }

    pub(crate) fn text(&mut self, field: &'static str, length: usize) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.take(field, length)?).map_err(|_| RecordError::NotUtf8 { field })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_back_from_their_shortest_encoding_only() {
        for number in [0, 1, 127, 128, 300, 1 << 32, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            assert_eq!(Cursor::new(&out).varint("n").unwrap(), number);
            // One more byte without bits.
            *out.last_mut().unwrap() |= 0x80;
            out.push(0);
            assert!(Cursor::new(&out).varint("n").is_err(), "{number}");
        }
        for number in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_signed(&mut out, number);
            assert_eq!(Cursor::new(&out).signed("n").unwrap(), number);
        }
        assert!(Cursor::new(&[0xff; 11]).varint("n").is_err());
        assert!(Cursor::new(&[0x80]).varint("n").is_err());
    }
}
