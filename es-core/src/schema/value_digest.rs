//! The digest of a serde value. Equal values have equal digests, whatever the iteration order of their maps and sets.
//!
//! [`Digester`] is a serializer whose result is a number. It covers what an encoding of the value contains (names of
//! structs, variants and fields, kinds and values), and also the names of fields that `skip_serializing_if` omits. The
//! digest ignores the order of map entries, because a `HashMap` may iterate in another order after each decoding.
//!
//! serde does not distinguish a set from a list, so the caller chooses: [`value_digest`] ignores the order of sequence
//! elements, too, so that a `HashSet` has one digest; [`ordered_value_digest`] does not, so that a reordered list has
//! another one.
//!
//! A [`Walk`] can also record the digest of each part, as a [`Node`], to name the part in which two values differ.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant, Serializer,
};

use crate::model::digest::Fnv;
use crate::schema::value_node::{Node, Recorder, Segment};

/// The greatest number of nested values that a walk enters. It bounds the use of the stack.
pub(crate) const MAX_VALUE_DEPTH: u32 = 1024;

/// Returns the digest of a value, or `None` if its `Serialize` implementation fails or the value is nested deeper than
/// [`MAX_VALUE_DEPTH`].
pub(crate) fn value_digest<T: Serialize + ?Sized>(value: &T) -> Option<u64> {
    Walk::default().digest(value)
}

/// Returns the digest of a value whose sequences are lists: other orders of their elements have other digests. Returns
/// `None` like [`value_digest`].
pub(crate) fn ordered_value_digest<T: Serialize + ?Sized>(value: &T) -> Option<u64> {
    Walk { sequences: ElementOrder::Kept, ..Walk::default() }.digest(value)
}

/// Whether a digest depends on the order of elements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ElementOrder {
    Kept,
    #[default]
    Ignored,
}

/// One walk over a value.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The order of the elements of a sequence.
    sequences: ElementOrder,
    human_readable: bool,
    depth: Cell<u32>,
    is_too_deep: Cell<bool>,
    has_not_finite: Cell<bool>,
    recorder: Option<RefCell<Recorder>>,
}

impl Walk {
    /// Returns a walk over a value as it is serialized for human readers, such as in JSON.
    pub(crate) fn human_readable() -> Self {
        Self { human_readable: true, ..Self::default() }
    }

    /// Returns the digest of a value, or `None` if its `Serialize` implementation fails or it is nested too deep.
    pub(crate) fn digest<T: Serialize + ?Sized>(&self, value: &T) -> Option<u64> {
        value.serialize(Digester(self)).ok()
    }

    /// Returns the digests of all parts of a value, or `None` like [`digest`](Self::digest).
    pub(crate) fn record<T: Serialize + ?Sized>(mut self, value: &T) -> Option<Node> {
        self.recorder = Some(RefCell::default());
        let digest = self.digest(value)?;
        Some(self.recorder?.into_inner().finish(digest))
    }

    /// Returns `true` if the value is nested deeper than [`MAX_VALUE_DEPTH`].
    pub(crate) const fn is_too_deep(&self) -> bool {
        self.is_too_deep.get()
    }

    /// Returns `true` if the value contains a float that is NaN or infinite.
    pub(crate) const fn has_not_finite(&self) -> bool {
        self.has_not_finite.get()
    }

    /// Digests a part of the value.
    fn part<T: Serialize + ?Sized>(&self, segment: Segment<'_>, part: &T) -> Result<u64, fmt::Error> {
        let depth = self.depth.get() + 1;
        if depth > MAX_VALUE_DEPTH {
            self.is_too_deep.set(true);
            return Err(fmt::Error);
        }
        self.depth.set(depth);
        if let Some(recorder) = &self.recorder {
            recorder.borrow_mut().enter();
        }
        let digest = part.serialize(Digester(self))?;
        if let Some(recorder) = &self.recorder {
            recorder.borrow_mut().leave(segment, digest);
        }
        self.depth.set(depth - 1);
        Ok(digest)
    }

    /// Records the text of the current value.
    fn describe(&self, text: impl FnOnce() -> String) {
        if let Some(recorder) = &self.recorder {
            recorder.borrow_mut().describe(text());
        }
    }

    /// Records a float that is not finite.
    fn check_finite(&self, is_finite: bool) {
        if !is_finite {
            self.has_not_finite.set(true);
            if let Some(recorder) = &self.recorder {
                recorder.borrow_mut().mark_not_finite();
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Digester<'w>(&'w Walk);

/// Digests the parts of a tuple or a struct, in order.
struct Ordered<'w> {
    walk: &'w Walk,
    digest: Fnv,
    parts: usize,
}

/// Digests the elements of a sequence or the entries of a map.
struct ElementDigest<'w> {
    walk: &'w Walk,
    kind: &'static str,
    order: ElementOrder,
    key: u64,
    sum: u64,
    count: u64,
}

impl<'w> ElementDigest<'w> {
    const fn new(walk: &'w Walk, kind: &'static str, order: ElementOrder) -> Self {
        Self { walk, kind, order, key: 0, sum: 0, count: 0 }
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

fn start_named<'w>(walk: &'w Walk, kind: &str, name: &str, variant: &str) -> Ordered<'w> {
    let mut digest = start_digest(kind);
    write_text(&mut digest, name);
    write_text(&mut digest, variant);
    walk.describe(|| match (variant, name) {
        ("", "") => format!("a {kind}"),
        ("", name) => name.to_owned(),
        (variant, _) => variant.to_owned(),
    });
    Ordered { walk, digest, parts: 0 }
}

fn write_text(digest: &mut Fnv, text: &str) {
    digest.write(&(text.len() as u64).to_be_bytes());
    digest.write(text.as_bytes());
}

impl Ordered<'_> {
    fn part<T: Serialize + ?Sized>(&mut self, segment: Segment<'_>, part: &T) -> Result<(), fmt::Error> {
        self.parts += 1;
        self.digest.write(&self.walk.part(segment, part)?.to_be_bytes());
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), fmt::Error> {
        write_text(&mut self.digest, name);
        self.part(Segment::Field(name), value)
    }

    fn skipped(&mut self, name: &str) {
        write_text(&mut self.digest, "skipped");
        write_text(&mut self.digest, name);
    }
}

macro_rules! numbers {
    ($($method:ident $type:ident)*) => {$(
        fn $method(self, value: $type) -> Result<u64, fmt::Error> {
            self.0.describe(|| value.to_string());
            Ok(digest_bytes(stringify!($type), &value.to_be_bytes()))
        }
    )*};
}

macro_rules! floats {
    ($($method:ident $type:ident)*) => {$(
        fn $method(self, value: $type) -> Result<u64, fmt::Error> {
            self.0.describe(|| value.to_string());
            self.0.check_finite(value.is_finite());
            // All NaN are one value: a format may keep no bits of its payload.
            let value = if value.is_nan() { $type::NAN } else { value };
            Ok(digest_bytes(stringify!($type), &value.to_be_bytes()))
        }
    )*};
}

impl<'w> Serializer for Digester<'w> {
    type Ok = u64;
    type Error = fmt::Error;
    type SerializeSeq = ElementDigest<'w>;
    type SerializeTuple = Ordered<'w>;
    type SerializeTupleStruct = Ordered<'w>;
    type SerializeTupleVariant = Ordered<'w>;
    type SerializeMap = ElementDigest<'w>;
    type SerializeStruct = Ordered<'w>;
    type SerializeStructVariant = Ordered<'w>;

    numbers! {
        serialize_i8 i8 serialize_i16 i16 serialize_i32 i32 serialize_i64 i64 serialize_i128 i128
        serialize_u8 u8 serialize_u16 u16 serialize_u32 u32 serialize_u64 u64 serialize_u128 u128
    }

    floats! { serialize_f32 f32 serialize_f64 f64 }

    fn serialize_bool(self, value: bool) -> Result<u64, fmt::Error> {
        self.0.describe(|| value.to_string());
        Ok(digest_bytes("bool", &[u8::from(value)]))
    }

    fn serialize_char(self, value: char) -> Result<u64, fmt::Error> {
        self.0.describe(|| format!("{value:?}"));
        Ok(digest_bytes("char", &u32::from(value).to_be_bytes()))
    }

    fn serialize_str(self, value: &str) -> Result<u64, fmt::Error> {
        self.0.describe(|| format!("{value:?}"));
        Ok(digest_bytes("text", value.as_bytes()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<u64, fmt::Error> {
        self.0.describe(|| format!("{} bytes", value.len()));
        Ok(digest_bytes("bytes", value))
    }

    fn serialize_none(self) -> Result<u64, fmt::Error> {
        self.0.describe(|| "None".to_owned());
        Ok(digest_bytes("none", &[]))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<u64, fmt::Error> {
        self.serialize_newtype_variant("Option", 1, "Some", value)
    }

    fn serialize_unit(self) -> Result<u64, fmt::Error> {
        self.0.describe(|| "()".to_owned());
        Ok(digest_bytes("unit", &[]))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<u64, fmt::Error> {
        Ok(start_named(self.0, "unit", name, "").digest.value())
    }

    fn serialize_unit_variant(self, name: &'static str, _: u32, variant: &'static str) -> Result<u64, fmt::Error> {
        Ok(start_named(self.0, "unit", name, variant).digest.value())
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
        let mut newtype = start_named(self.0, "newtype", name, variant);
        newtype.part(Segment::Inner, value)?;
        Ok(newtype.digest.value())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<ElementDigest<'w>, fmt::Error> {
        self.0.describe(|| "a sequence".to_owned());
        Ok(ElementDigest::new(self.0, "sequence", self.0.sequences))
    }

    fn serialize_tuple(self, _: usize) -> Result<Ordered<'w>, fmt::Error> {
        Ok(start_named(self.0, "tuple", "", ""))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Ordered<'w>, fmt::Error> {
        Ok(start_named(self.0, "tuple", name, ""))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Ordered<'w>, fmt::Error> {
        Ok(start_named(self.0, "tuple", name, variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<ElementDigest<'w>, fmt::Error> {
        self.0.describe(|| "a map".to_owned());
        Ok(ElementDigest::new(self.0, "map", ElementOrder::Ignored))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Ordered<'w>, fmt::Error> {
        Ok(start_named(self.0, "struct", name, ""))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Ordered<'w>, fmt::Error> {
        Ok(start_named(self.0, "struct", name, variant))
    }

    /// Returns `false` by default, like the codec of snapshots. Some types serialize differently for human readers.
    fn is_human_readable(&self) -> bool {
        self.0.human_readable
    }
}

impl SerializeSeq for ElementDigest<'_> {
    type Ok = u64;
    type Error = fmt::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), fmt::Error> {
        let digest = self.walk.part(Segment::Index(self.count), element)?;
        self.add(digest);
        Ok(())
    }

    fn end(self) -> Result<u64, fmt::Error> {
        Ok(self.digest())
    }
}

impl SerializeMap for ElementDigest<'_> {
    type Ok = u64;
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), fmt::Error> {
        self.key = self.walk.part(Segment::Key, key)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
        let mut entry = start_digest("entry");
        entry.write(&self.key.to_be_bytes());
        entry.write(&self.walk.part(Segment::Value, value)?.to_be_bytes());
        self.add(entry.value());
        Ok(())
    }

    fn end(self) -> Result<u64, fmt::Error> {
        Ok(self.digest())
    }
}

macro_rules! parts {
    ($($trait:ident $method:ident)*) => {$(
        impl $trait for Ordered<'_> {
            type Ok = u64;
            type Error = fmt::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, part: &T) -> Result<(), fmt::Error> {
                self.part(Segment::Index(self.parts as u64), part)
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
        impl $trait for Ordered<'_> {
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
