//! [`ViewKey`]: order-preserving encoding of keys.

use std::cmp::Reverse;

use bytes::Bytes;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use uuid::Uuid;

/// A key of a [`View`](crate::projection::view::View), or a sort key of an [`Order`](crate::projection::view::Order).
///
/// An implementation must ensure:
///
/// - **Order**: `a < b` if and only if the encoding of `a` is less than that of `b`, compared byte by byte.
/// - **Round trip**: an encoded value decodes to an equal value.
/// - **Prefix-free**: no encoding is a prefix of another one, so that keys can be concatenated in a tuple.
///
/// For a newtype use [`view_key!`](crate::view_key). The encodings follow the idea of FoundationDB's tuple layer:
/// numbers are big-endian with an inverted sign bit, and texts end with a terminator.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a view",
    label = "not a `ViewKey`",
    note = "for a newtype `struct {Self}(T)` write `es_core::view_key!({Self}(T));` next to it; integers, `bool`, \
            `String`, `Uuid`, dates, times and tuples implement `ViewKey`"
)]
pub trait ViewKey: Sized + 'static {
    /// Returns the name of the encoding, which never changes. It is stored with the rows, so that a view with another
    /// key type is rejected and not misread.
    fn shape() -> String;

    /// Appends the encoding of the key.
    fn encode_key(&self, bytes: &mut Vec<u8>);

    /// Decodes a key and removes it from the front of `bytes`; `None` if `bytes` does not start with such a key.
    fn decode_key(bytes: &mut &[u8]) -> Option<Self>;

    /// Returns the encoding of the key.
    fn to_key(&self) -> Bytes {
        let mut bytes = Vec::new();
        self.encode_key(&mut bytes);
        bytes.into()
    }

    /// Decodes a key from all of `bytes`; `None` if they are not exactly such a key.
    fn from_key(mut bytes: &[u8]) -> Option<Self> {
        let key = Self::decode_key(&mut bytes)?;
        bytes.is_empty().then_some(key)
    }
}

/// Implements [`ViewKey`] for a newtype, with the encoding of its field.
///
/// ```
/// #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
/// struct ProductId(u32);
/// es_core::view_key!(ProductId(u32));
/// # use es_core::projection::view::ViewKey;
/// # assert_eq!(ProductId::from_key(&ProductId(7).to_key()), Some(ProductId(7)));
/// ```
#[macro_export]
macro_rules! view_key {
    ($name:ident($inner:ty)) => {
        impl $crate::projection::view::ViewKey for $name {
            fn shape() -> ::std::string::String {
                <$inner as $crate::projection::view::ViewKey>::shape()
            }

            fn encode_key(&self, bytes: &mut ::std::vec::Vec<u8>) {
                $crate::projection::view::ViewKey::encode_key(&self.0, bytes)
            }

            fn decode_key(bytes: &mut &[u8]) -> ::std::option::Option<Self> {
                <$inner as $crate::projection::view::ViewKey>::decode_key(bytes).map($name)
            }
        }
    };
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*chunk)
}

macro_rules! unsigned {
    ($($type:ident)*) => {$(
        impl ViewKey for $type {
            fn shape() -> String {
                stringify!($type).to_owned()
            }

            fn encode_key(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_be_bytes());
            }

            fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
                take(bytes).map(Self::from_be_bytes)
            }
        }
    )*};
}

unsigned!(u8 u16 u32 u64 u128);

macro_rules! signed {
    ($($type:ident as $unsigned:ident)*) => {$(
        impl ViewKey for $type {
            fn shape() -> String {
                stringify!($type).to_owned()
            }

            fn encode_key(&self, bytes: &mut Vec<u8>) {
                // With the sign bit inverted, negative numbers sort before the others.
                (self.cast_unsigned() ^ (1 << ($unsigned::BITS - 1))).encode_key(bytes);
            }

            fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
                $unsigned::decode_key(bytes).map(|number| (number ^ (1 << ($unsigned::BITS - 1))).cast_signed())
            }
        }
    )*};
}

signed!(i8 as u8 i16 as u16 i32 as u32 i64 as u64 i128 as u128);

impl ViewKey for bool {
    fn shape() -> String {
        "bool".to_owned()
    }

    fn encode_key(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(*self));
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        match take(bytes)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

/// The key of a view with a single row. Its encoding is one byte, because a row key cannot be empty.
impl ViewKey for () {
    fn shape() -> String {
        "()".to_owned()
    }

    fn encode_key(&self, bytes: &mut Vec<u8>) {
        bytes.push(1);
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        (take(bytes)? == [1]).then_some(())
    }
}

const ESCAPED: u8 = 0xff;
const END: u8 = 0x01;

/// Appends bytes with each zero byte escaped, and a terminator that sorts before every continuation. The encoding
/// preserves the order.
fn encode_bytes(content: &[u8], bytes: &mut Vec<u8>) {
    bytes.reserve(content.len() + 2);
    for byte in content {
        bytes.push(*byte);
        if *byte == 0 {
            bytes.push(ESCAPED);
        }
    }
    bytes.extend_from_slice(&[0, END]);
}

fn decode_bytes(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        match take(bytes)? {
            [0] => match take(bytes)? {
                [END] => return Some(content),
                [ESCAPED] => content.push(0),
                _ => return None,
            },
            [byte] => content.push(byte),
        }
    }
}

impl ViewKey for String {
    fn shape() -> String {
        "text".to_owned()
    }

    fn encode_key(&self, bytes: &mut Vec<u8>) {
        encode_bytes(self.as_bytes(), bytes);
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        String::from_utf8(decode_bytes(bytes)?).ok()
    }
}

impl ViewKey for Bytes {
    fn shape() -> String {
        "bytes".to_owned()
    }

    fn encode_key(&self, bytes: &mut Vec<u8>) {
        encode_bytes(self, bytes);
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        decode_bytes(bytes).map(Self::from)
    }
}

impl ViewKey for Uuid {
    fn shape() -> String {
        "uuid".to_owned()
    }

    fn encode_key(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.as_bytes());
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        take(bytes).map(Self::from_bytes)
    }
}

/// Encodes the number of the day, where 0001-01-01 is day 1.
impl ViewKey for NaiveDate {
    fn shape() -> String {
        "date".to_owned()
    }

    fn encode_key(&self, bytes: &mut Vec<u8>) {
        self.num_days_from_ce().encode_key(bytes);
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        Self::from_num_days_from_ce_opt(i32::decode_key(bytes)?)
    }
}

/// Encodes the date, the second of the day and the nanosecond.
impl ViewKey for NaiveDateTime {
    fn shape() -> String {
        "date-time".to_owned()
    }

    fn encode_key(&self, bytes: &mut Vec<u8>) {
        use chrono::Timelike;
        self.date().encode_key(bytes);
        self.time().num_seconds_from_midnight().encode_key(bytes);
        // A leap second has a nanosecond of 1,000,000,000 or more, so it sorts after the second before it.
        self.time().nanosecond().encode_key(bytes);
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        let (date, second, nanos) = (NaiveDate::decode_key(bytes)?, u32::decode_key(bytes)?, u32::decode_key(bytes)?);
        Some(date.and_time(NaiveTime::from_num_seconds_from_midnight_opt(second, nanos)?))
    }
}

/// Encodes the date and time in UTC.
impl ViewKey for DateTime<Utc> {
    fn shape() -> String {
        "utc".to_owned()
    }

    fn encode_key(&self, bytes: &mut Vec<u8>) {
        self.naive_utc().encode_key(bytes);
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        NaiveDateTime::decode_key(bytes).map(|time| time.and_utc())
    }
}

/// `None` sorts before all values.
impl<T: ViewKey> ViewKey for Option<T> {
    fn shape() -> String {
        format!("option({})", T::shape())
    }

    fn encode_key(&self, bytes: &mut Vec<u8>) {
        self.is_some().encode_key(bytes);
        if let Some(value) = self {
            value.encode_key(bytes);
        }
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        if bool::decode_key(bytes)? { T::decode_key(bytes).map(Some) } else { Some(None) }
    }
}

/// Inverts each bit of the encoding. This reverses the order, because no encoding is a prefix of another one.
impl<T: ViewKey> ViewKey for Reverse<T> {
    fn shape() -> String {
        format!("reverse({})", T::shape())
    }

    fn encode_key(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        self.0.encode_key(bytes);
        bytes.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        let inverted: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        let mut rest = inverted.as_slice();
        let value = T::decode_key(&mut rest)?;
        *bytes = bytes.get(bytes.len() - rest.len()..)?;
        Some(Self(value))
    }
}

macro_rules! tuple {
    ($($type:ident $field:tt),*) => {
        impl<$($type: ViewKey),*> ViewKey for ($($type,)*) {
            fn shape() -> String {
                format!("({})", [$($type::shape()),*].join(","))
            }

            fn encode_key(&self, bytes: &mut Vec<u8>) {
                $(self.$field.encode_key(bytes);)*
            }

            fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($type::decode_key(bytes)?,)*))
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);

/// A prefix of keys of type `K`: the first elements of a tuple, or the [first characters](Beginning) of a text.
pub trait KeyPrefix<K> {
    /// Appends the bytes with which the encodings of the keys start.
    fn encode_prefix(&self, bytes: &mut Vec<u8>);
}

macro_rules! prefix {
    (($($part:ident),*) of ($($all:ident),*)) => {
        impl<$($all: ViewKey),*> KeyPrefix<($($all,)*)> for ($($part,)*) {
            fn encode_prefix(&self, bytes: &mut Vec<u8>) {
                self.encode_key(bytes);
            }
        }
    };
}

prefix!((A) of (A, B));
prefix!((A) of (A, B, C));
prefix!((A) of (A, B, C, D));
prefix!((A) of (A, B, C, D, E));
prefix!((A) of (A, B, C, D, E, F));
prefix!((A, B) of (A, B, C));
prefix!((A, B) of (A, B, C, D));
prefix!((A, B) of (A, B, C, D, E));
prefix!((A, B) of (A, B, C, D, E, F));
prefix!((A, B, C) of (A, B, C, D));
prefix!((A, B, C) of (A, B, C, D, E));
prefix!((A, B, C) of (A, B, C, D, E, F));
prefix!((A, B, C, D) of (A, B, C, D, E));
prefix!((A, B, C, D) of (A, B, C, D, E, F));
prefix!((A, B, C, D, E) of (A, B, C, D, E, F));

/// The first characters of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning<'a>(pub &'a str);

impl Beginning<'_> {
    fn encode_open(self, bytes: &mut Vec<u8>) {
        encode_bytes(self.0.as_bytes(), bytes);
        // The terminator would match the whole text only.
        bytes.truncate(bytes.len() - 2);
    }
}

impl KeyPrefix<String> for Beginning<'_> {
    fn encode_prefix(&self, bytes: &mut Vec<u8>) {
        self.encode_open(bytes);
    }
}

impl<A: ViewKey> KeyPrefix<(A, String)> for (A, Beginning<'_>) {
    fn encode_prefix(&self, bytes: &mut Vec<u8>) {
        self.0.encode_key(bytes);
        self.1.encode_open(bytes);
    }
}

/// Returns the predecessor of `key` among keys of up to `max_bytes` bytes; `None` for an empty key. A scan starts after
/// a key, so this makes it start at one.
pub(crate) fn predecessor(key: &[u8], max_bytes: usize) -> Option<Bytes> {
    let (last, front) = key.split_last()?;
    let mut before = front.to_vec();
    // The predecessor of a key that ends in zero is the key without that zero. That of any other key has its last byte
    // decremented and is padded with the highest byte.
    if let Some(decremented) = last.checked_sub(1) {
        before.push(decremented);
        before.resize(max_bytes.max(key.len()), u8::MAX);
    }
    Some(before.into())
}
