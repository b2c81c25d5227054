//! The digest of a serde value. Equal values have equal digests, whatever the iteration order of their maps and sets.
//!
//! [`Digester`] is a serializer whose result is a number. It covers what an encoding of the value contains (names of
//! structs, variants and fields, kinds and values), and also the names of fields that `skip_serializing_if` omits. The
//! digest ignores the order of map entries, because a `HashMap` may iterate in another order after each decoding.
//!
//! serde does not distinguish a set from a list, so the caller chooses: [`value_digest`] ignores the order of sequence
//! elements, too, so that a `HashSet` has one digest; [`ordered_value_digest`] does not, so that a reordered list has
//! another one.

use std::fmt;

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant, Serializer,
};

use crate::model::digest::Fnv;

/// Returns the digest of a value, or `None` if its `Serialize` implementation fails.
pub(crate) fn value_digest<T: Serialize + ?Sized>(value: &T) -> Option<u64> {
    value.serialize(Digester { sequences: ElementOrder::Ignored }).ok()
}

/// Returns the digest of a value whose sequences are lists: other orders of their elements have other digests. Returns
/// `None` if its `Serialize` implementation fails.
pub(crate) fn ordered_value_digest<T: Serialize + ?Sized>(value: &T) -> Option<u64> {
    value.serialize(Digester { sequences: ElementOrder::Kept }).ok()
}

/// Whether a digest depends on the order of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ElementOrder {
    Kept,
    Ignored,
}

#[derive(Debug, Clone, Copy)]
struct Digester {
    /// The order of the elements of a sequence.
    sequences: ElementOrder,
}

/// Digests the parts of a tuple or a struct, in order.
struct Ordered {
    digest: Fnv,
    digester: Digester,
}

/// Digests the elements of a sequence or the entries of a map.
struct ElementDigest {
    kind: &'static str,
    order: ElementOrder,
    key: u64,
    sum: u64,
    count: u64,
    digester: Digester,
}

impl ElementDigest {
    const fn new(kind: &'static str, order: ElementOrder, digester: Digester) -> Self {
        Self { kind, order, key: 0, sum: 0, count: 0, digester }
    }

    fn add(&mut self, digest: u64) {
        self.sum = match self.order {
            ElementOrder::Ignored => self.sum.wrapping_add(mixed(digest)),
            ElementOrder::Kept => mixed(self.sum.wrapping_add(digest)),
        };
        self.count += 1;
    }

    fn digest(&self) -> u64 {
        let mut digest = start_digest(self.kind);
        digest.write(&self.sum.to_be_bytes());
        digest.write(&self.count.to_be_bytes());
        digest.value()
    }
}

/// Mixes the bits of a digest (the finalizer of `MurmurHash3`) before it is added to a sum. Without this, different
/// elements can have the same sum: the FNV digests of 1 and 4 may add up to the same number as those of 2 and 3.
const fn mixed(digest: u64) -> u64 {
    let digest = (digest ^ (digest >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let digest = (digest ^ (digest >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    digest ^ (digest >> 33)
}

/// Starts a digest with the name of a kind of value.
fn start_digest(kind: &str) -> Fnv {
    let mut digest = Fnv::new();
    write_text(&mut digest, kind);
    digest
}

fn digest_bytes(kind: &str, bytes: &[u8]) -> u64 {
    let mut digest = start_digest(kind);
    digest.write(bytes);
    digest.value()
}

impl Digester {
    fn start_named(self, kind: &str, name: &str, variant: &str) -> Ordered {
        let mut digest = start_digest(kind);
        write_text(&mut digest, name);
        write_text(&mut digest, variant);
        Ordered { digest, digester: self }
    }
}

fn write_text(digest: &mut Fnv, text: &str) {
    digest.write(&(text.len() as u64).to_be_bytes());
    digest.write(text.as_bytes());
}

impl Ordered {
    fn part<T: Serialize + ?Sized>(&mut self, part: &T) -> Result<(), fmt::Error> {
        self.digest.write(&part.serialize(self.digester)?.to_be_bytes());
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), fmt::Error> {
        write_text(&mut self.digest, name);
        self.part(value)
    }

    fn skipped(&mut self, name: &str) {
        write_text(&mut self.digest, "skipped");
        write_text(&mut self.digest, name);
    }
}

macro_rules! numbers {
    ($($method:ident $type:ident)*) => {$(
        fn $method(self, value: $type) -> Result<u64, fmt::Error> {
            Ok(digest_bytes(stringify!($type), &value.to_be_bytes()))
        }
    )*};
}

impl Serializer for Digester {
    type Ok = u64;
    type Error = fmt::Error;
    type SerializeSeq = ElementDigest;
    type SerializeTuple = Ordered;
    type SerializeTupleStruct = Ordered;
    type SerializeTupleVariant = Ordered;
    type SerializeMap = ElementDigest;
    type SerializeStruct = Ordered;
    type SerializeStructVariant = Ordered;

    numbers! {
        serialize_i8 i8 serialize_i16 i16 serialize_i32 i32 serialize_i64 i64 serialize_i128 i128
        serialize_u8 u8 serialize_u16 u16 serialize_u32 u32 serialize_u64 u64 serialize_u128 u128
        serialize_f32 f32 serialize_f64 f64
    }

    fn serialize_bool(self, value: bool) -> Result<u64, fmt::Error> {
        Ok(digest_bytes("bool", &[u8::from(value)]))
    }

    fn serialize_char(self, value: char) -> Result<u64, fmt::Error> {
        Ok(digest_bytes("char", &u32::from(value).to_be_bytes()))
    }

    fn serialize_str(self, value: &str) -> Result<u64, fmt::Error> {
        Ok(digest_bytes("text", value.as_bytes()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<u64, fmt::Error> {
        Ok(digest_bytes("bytes", value))
    }

    fn serialize_none(self) -> Result<u64, fmt::Error> {
        Ok(digest_bytes("none", &[]))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<u64, fmt::Error> {
        self.serialize_newtype_variant("Option", 1, "Some", value)
    }

    fn serialize_unit(self) -> Result<u64, fmt::Error> {
        Ok(digest_bytes("unit", &[]))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<u64, fmt::Error> {
        Ok(self.start_named("unit", name, "").digest.value())
    }

    fn serialize_unit_variant(self, name: &'static str, _: u32, variant: &'static str) -> Result<u64, fmt::Error> {
        Ok(self.start_named("unit", name, variant).digest.value())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<u64, fmt::Error> {
        self.serialize_newtype_variant(name, 0, "", value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<u64, fmt::Error> {
        let mut newtype = self.start_named("newtype", name, variant);
        newtype.part(value)?;
        Ok(newtype.digest.value())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<ElementDigest, fmt::Error> {
        Ok(ElementDigest::new("sequence", self.sequences, self))
    }

    fn serialize_tuple(self, _: usize) -> Result<Ordered, fmt::Error> {
        Ok(self.start_named("tuple", "", ""))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Ordered, fmt::Error> {
        Ok(self.start_named("tuple", name, ""))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Ordered, fmt::Error> {
        Ok(self.start_named("tuple", name, variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<ElementDigest, fmt::Error> {
        Ok(ElementDigest::new("map", ElementOrder::Ignored, self))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Ordered, fmt::Error> {
        Ok(self.start_named("struct", name, ""))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Ordered, fmt::Error> {
        Ok(self.start_named("struct", name, variant))
    }

    /// Returns `false`, like the codec of snapshots, because some types serialize differently for human readers.
    fn is_human_readable(&self) -> bool {
        false
    }
}

impl SerializeSeq for ElementDigest {
    type Ok = u64;
    type Error = fmt::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), fmt::Error> {
        self.add(element.serialize(self.digester)?);
        Ok(())
    }

    fn end(self) -> Result<u64, fmt::Error> {
        Ok(self.digest())
    }
}

impl SerializeMap for ElementDigest {
    type Ok = u64;
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), fmt::Error> {
        self.key = key.serialize(self.digester)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
        let mut entry = start_digest("entry");
        entry.write(&self.key.to_be_bytes());
        entry.write(&value.serialize(self.digester)?.to_be_bytes());
        self.add(entry.value());
        Ok(())
    }

    fn end(self) -> Result<u64, fmt::Error> {
        Ok(self.digest())
    }
}

macro_rules! parts {
    ($($trait:ident $method:ident)*) => {$(
        impl $trait for Ordered {
            type Ok = u64;
            type Error = fmt::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, part: &T) -> Result<(), fmt::Error> {
                self.part(part)
            }

            fn end(self) -> Result<u64, fmt::Error> {
                Ok(self.digest.value())
            }
        }
    )*};
}

parts! {
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

macro_rules! fields {
    ($($trait:ident)*) => {$(
        impl $trait for Ordered {
            type Ok = u64;
            type Error = fmt::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), fmt::Error> {
                self.field(name, value)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), fmt::Error> {
                self.skipped(name);
                Ok(())
            }

            fn end(self) -> Result<u64, fmt::Error> {
                Ok(self.digest.value())
            }
        }
    )*};
}

fields! { SerializeStruct SerializeStructVariant }

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use super::*;

    fn digest<T: Serialize>(value: T) -> u64 {
        value_digest(&value).expect("the value can be serialized")
    }

    #[test]
    fn the_order_of_maps_and_sets_does_not_change_the_digest() {
        let numbers = 0..200_u64;
        let forward: HashMap<u64, HashSet<u64>> = numbers.clone().map(|n| (n, (0..n).collect())).collect();
        let backward: HashMap<u64, HashSet<u64>> = numbers.rev().map(|n| (n, (0..n).rev().collect())).collect();
        assert_eq!(digest(&forward), digest(&backward));
    }

    /// A command with reordered lines is another command; a map has no order.
    #[test]
    fn an_ordered_digest_depends_on_the_order_of_lists_only() {
        let ordered = |value: &[u64]| ordered_value_digest(value).expect("serializes");
        assert_ne!(ordered(&[1, 4]), ordered(&[4, 1]));
        assert_ne!(ordered(&[1, 4]), ordered(&[2, 3]));
        assert_ne!(ordered(&[0]), ordered(&[0, 0]));
        assert_eq!(digest(vec![1, 4]), digest(vec![4, 1]));
        let forward: HashMap<u64, u64> = (0..200).map(|n| (n, n + 1)).collect();
        let backward: HashMap<u64, u64> = (0..200).rev().map(|n| (n, n + 1)).collect();
        assert_eq!(ordered_value_digest(&forward), ordered_value_digest(&backward));
    }

    #[test]
    fn different_values_have_different_digests() {
        #[derive(Serialize)]
        enum Kind {
            Unit,
            New(u8),
            Tuple(u8, u8),
            Named { left: u8 },
        }
        #[derive(Serialize)]
        struct Unit;
        #[derive(Serialize)]
        struct New(u8);
        #[derive(Serialize)]
        struct Tuple(u8, u8);
        let mut seen = HashSet::new();
        let digests = [
            digest(1_u8),
            digest(1_u64),
            digest(1_i64),
            digest(1_i128),
            digest(1.0_f32),
            digest(true),
            digest('1'),
            digest("1"),
            digest(()),
            digest(None::<u8>),
            digest(Some(1_u8)),
            digest([1_u8, 4]),
            digest([4_u8, 1]),
            digest(vec![1_u8, 4]),
            digest(vec![2_u8, 3]),
            digest(vec![1_u8, 4, 0]),
            digest(vec![vec![1_u8], vec![4]]),
            digest(BTreeMap::from([(1_u8, 4_u8)])),
            digest(BTreeMap::from([(4_u8, 1_u8)])),
            digest(Unit),
            digest(New(1)),
            digest(Tuple(1, 4)),
            digest(Kind::Unit),
            digest(Kind::New(1)),
            digest(Kind::Tuple(1, 4)),
            digest(Kind::Named { left: 1 }),
            digest(uuid::Uuid::from_bytes([1; 16])),
        ];
        assert!(digests.iter().all(|digest| seen.insert(*digest)), "{digests:?}");
    }

    #[test]
    fn a_skipped_field_contributes_its_name() {
        #[derive(Serialize)]
        struct Noted {
            #[serde(skip_serializing_if = "Option::is_none")]
            note: Option<u8>,
        }
        mod renamed {
            #[derive(serde::Serialize)]
            pub(super) struct Noted {
                #[serde(skip_serializing_if = "Option::is_none")]
                pub(super) remark: Option<u8>,
            }
        }
        assert_ne!(digest(Noted { note: None }), digest(renamed::Noted { remark: None }));
        assert_ne!(digest(Noted { note: None }), digest(Noted { note: Some(1) }));
    }
}
