//! The content of an enum variant without its name, which the record stores as the event type.
//!
//! serde writes the variant `Placed { total: 5 }` as `{"Placed":{"total":5}}`. [`Content`] writes only the inner part,
//! and [`VariantSeed`] reads it back as the variant with a given index. Attributes of fields, such as
//! `#[serde(rename, default, with)]`, keep their effect, because serde's own code for the variant runs.

use std::marker::PhantomData;

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde::ser::{self, Impossible, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleVariant};
use serde::{Deserialize, Serialize, Serializer};

/// Serializes an enum variant as its content, without its name.
#[derive(Debug)]
pub(crate) struct Content<'a, T>(pub(crate) &'a T);

impl<T: Serialize> Serialize for Content<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(ContentSerializer(serializer))
    }
}

/// Forwards the content of a variant to the inner serializer, and rejects every other value.
struct ContentSerializer<S>(S);

/// Serializes the content of a struct variant.
struct Struct<S: Serializer>(S::SerializeStruct);
/// Serializes the content of a tuple variant.
struct Tuple<S: Serializer>(S::SerializeTuple);

const NOT_A_VARIANT: &str = "expected an enum in serde's default representation; remove \
     `#[serde(tag, content, untagged, into)]` from the event";

macro_rules! reject {
    ($($method:ident($($argument:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$ok, S::Error> {
            Err(ser::Error::custom(NOT_A_VARIANT))
        }
    )*};
}

impl<S: Serializer> Serializer for ContentSerializer<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Impossible<S::Ok, S::Error>;
    type SerializeTuple = Impossible<S::Ok, S::Error>;
    type SerializeTupleStruct = Impossible<S::Ok, S::Error>;
    type SerializeTupleVariant = Tuple<S>;
    type SerializeMap = Impossible<S::Ok, S::Error>;
    type SerializeStruct = Impossible<S::Ok, S::Error>;
    type SerializeStructVariant = Struct<S>;

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        // An empty object instead of `null`, so that fields can be added to the variant later.
        self.0.serialize_struct(variant, 0)?.end()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(self.0)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        len: usize,
    ) -> Result<Tuple<S>, S::Error> {
        self.0.serialize_tuple(len).map(Tuple)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Struct<S>, S::Error> {
        self.0.serialize_struct(variant, len).map(Struct)
    }

    reject! {
        serialize_bool(bool) -> S::Ok;
        serialize_i8(i8) -> S::Ok;
        serialize_i16(i16) -> S::Ok;
        serialize_i32(i32) -> S::Ok;
        serialize_i64(i64) -> S::Ok;
        serialize_u8(u8) -> S::Ok;
        serialize_u16(u16) -> S::Ok;
        serialize_u32(u32) -> S::Ok;
        serialize_u64(u64) -> S::Ok;
        serialize_f32(f32) -> S::Ok;
        serialize_f64(f64) -> S::Ok;
        serialize_char(char) -> S::Ok;
        serialize_str(&str) -> S::Ok;
        serialize_bytes(&[u8]) -> S::Ok;
        serialize_none() -> S::Ok;
        serialize_unit() -> S::Ok;
        serialize_unit_struct(&'static str) -> S::Ok;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom(NOT_A_VARIANT))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom(NOT_A_VARIANT))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

impl<S: Serializer> SerializeStructVariant for Struct<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), S::Error> {
        self.0.serialize_field(key, value)
    }

    fn skip_field(&mut self, key: &'static str) -> Result<(), S::Error> {
        self.0.skip_field(key)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

impl<S: Serializer> SerializeTupleVariant for Tuple<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_element(value)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

/// Deserializes a content as the variant with this index, counted from 0 over the variants that serde knows.
#[derive(Debug)]
pub(crate) struct VariantSeed<T> {
    index: u32,
    of: PhantomData<T>,
}

impl<T> VariantSeed<T> {
    /// Returns the seed of the variant with this index.
    #[must_use]
    pub(crate) const fn new(index: u32) -> Self {
        Self { index, of: PhantomData }
    }
}

impl<T> Clone for VariantSeed<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for VariantSeed<T> {}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for VariantSeed<T> {
    type Value = T;

    fn deserialize<D: de::Deserializer<'de>>(self, content: D) -> Result<T, D::Error> {
        T::deserialize(ContentDeserializer { index: self.index, content })
    }
}

/// Answers `deserialize_enum` with the known variant.
struct ContentDeserializer<D> {
    index: u32,
    content: D,
}

impl<'de, D: de::Deserializer<'de>> de::Deserializer<'de> for ContentDeserializer<D> {
    type Error = D::Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_enum(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, D::Error> {
        Err(de::Error::custom(NOT_A_VARIANT))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }

    fn is_human_readable(&self) -> bool {
        self.content.is_human_readable()
    }
}

impl<'de, D: de::Deserializer<'de>> de::EnumAccess<'de> for ContentDeserializer<D> {
    type Error = D::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), D::Error> {
        let index: U32Deserializer<D::Error> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de, D: de::Deserializer<'de>> de::VariantAccess<'de> for ContentDeserializer<D> {
    type Error = D::Error;

    fn unit_variant(self) -> Result<(), D::Error> {
        // Any content is accepted, so that fields which a later version dropped are not an error.
        de::IgnoredAny::deserialize(self.content).map(drop)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, D::Error> {
        seed.deserialize(self.content)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.content.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.content.deserialize_struct("", fields, visitor)
    }
}
