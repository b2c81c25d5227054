//! Generates sample values of serde types for golden files.
//!
//! A [`Sampler`] is a deserializer that answers every request of a type with a plausible value. Some strings must parse
//! (a date, a UUID, a decimal). If the type rejects a string, the next attempt tries the next one of [`TEXTS`]. The
//! approach is that of the `serde-reflection` crate.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

/// The strings to try where a type asks for one, in this order.
const TEXTS: [&str; 12] = [
    "sample",
    "1",
    "1.5",
    "2024-02-29T12:30:00Z",
    "2024-02-29",
    "12:30:00",
    "2024-02-29T12:30:00",
    "67e55044-10b1-726f-9247-bb680e5fe0c8",
    "https://example.org/",
    "ada@example.org",
    "127.0.0.1",
    "true",
];
/// The maximum depth of a sample. At this depth, options are `None` and sequences and maps are empty, so that a
/// recursive type terminates.
const MAX_DEPTH: usize = 12;
/// The maximum number of attempts to deserialize a type.
const MAX_TRIES: usize = 2_000;

/// No sample of a type could be generated, for example because it accepts only strings of a format of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not make a sample of {type_name}: {reason}; give one with `#[event(sample = path::to::function)]`")]
pub struct SampleError {
    /// The Rust type.
    pub type_name: &'static str,
    /// The last error of the type.
    pub reason: String,
}

/// Returns a sample of a type.
///
/// # Errors
/// [`SampleError`] if the type rejects every attempt.
pub fn sample<T: DeserializeOwned>() -> Result<T, SampleError> {
    generate(None)
}

/// Returns a sample of the variant with this index of an enum.
///
/// # Errors
/// [`SampleError`] if the type rejects every attempt.
pub fn sample_variant<T: DeserializeOwned>(index: u32) -> Result<T, SampleError> {
    generate(Some(index))
}

/// Deserializes `T` from a [`Sampler`] until an attempt succeeds. If `T` is an enum, `variant` selects its variant.
fn generate<T: DeserializeOwned>(variant: Option<u32>) -> Result<T, SampleError> {
    let mut choices = Vec::new();
    let mut aliases = BTreeSet::new();
    for _ in 0..MAX_TRIES {
        let mut sampler = Sampler {
            variant,
            aliases: &aliases,
            last_field: None,
            choices: &mut choices,
            texts: 0,
            depth: 0,
            parent: ("", ""),
        };
        let error = match T::deserialize(&mut sampler) {
            Ok(sample) => return Ok(sample),
            Err(error) => error,
        };
        let (requested_texts, last_field) = (sampler.texts, sampler.last_field);
        if let (true, Some(field)) = (error.is_duplicate, last_field) {
            aliases.insert(field);
            continue;
        }
        if !advance_choice(&mut choices, requested_texts) {
            return Err(SampleError { type_name: std::any::type_name::<T>(), reason: error.message });
        }
    }
    Err(SampleError {
        type_name: std::any::type_name::<T>(),
        reason: format!("every one of {MAX_TRIES} attempts was rejected"),
    })
}

/// Selects the next string for the last request, which is the one that the type rejected. Returns `false` if no string
/// is left.
fn advance_choice(choices: &mut Vec<usize>, requested_texts: usize) -> bool {
    choices.truncate(requested_texts);
    match choices.last_mut() {
        Some(choice) if *choice + 1 < TEXTS.len() => {
            *choice += 1;
            true
        }
        _ => false,
    }
}

/// The error of a type that rejects a value.
#[derive(Debug)]
struct Rejected {
    message: String,
    /// Whether the last field was already given under another name: serde lists the aliases of a field as fields.
    is_duplicate: bool,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Rejected {}

impl de::Error for Rejected {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self { message: message.to_string(), is_duplicate: false }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self { message: format!("duplicate field `{field}`"), is_duplicate: true }
    }
}

/// The name of a struct, or of an enum and its variant.
type Parent = (&'static str, &'static str);

/// A field: its parent and its name.
type FieldName = (Parent, &'static str);

struct Sampler<'a> {
    /// The variant to generate if the outermost type is an enum.
    variant: Option<u32>,
    /// The field names that are aliases of another field. They are skipped.
    aliases: &'a BTreeSet<FieldName>,
    last_field: Option<FieldName>,
    /// For each request of a string, in order, the index in [`TEXTS`] to answer with; 0 for a request beyond the end.
    choices: &'a mut Vec<usize>,
    /// The number of strings requested in this attempt.
    texts: usize,
    depth: usize,
    parent: Parent,
}

impl Sampler<'_> {
    fn text(&mut self) -> &'static str {
        let index = self.texts;
        self.texts += 1;
        if index == self.choices.len() {
            self.choices.push(0);
        }
        self.choices.get(index).and_then(|choice| TEXTS.get(*choice)).copied().unwrap_or(TEXTS[0])
    }

    /// Runs `visit` one level deeper, with `parent` as the parent of the fields that it visits.
    fn inside<R>(&mut self, parent: Parent, visit: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.parent, parent);
        self.depth += 1;
        let result = visit(self);
        self.depth -= 1;
        self.parent = outer;
        result
    }

    fn is_deep(&self) -> bool {
        self.depth >= MAX_DEPTH
    }
}

macro_rules! answer {
    ($($method:ident $visit:ident $value:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
            visitor.$visit($value)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Sampler<'_> {
    type Error = Rejected;

    answer! {
        deserialize_bool visit_bool true;
        deserialize_i8 visit_i8 1;
        deserialize_i16 visit_i16 1;
        deserialize_i32 visit_i32 1;
        deserialize_i64 visit_i64 1;
        deserialize_i128 visit_i128 1;
        deserialize_u8 visit_u8 1;
        deserialize_u16 visit_u16 1;
        deserialize_u32 visit_u32 1;
        deserialize_u64 visit_u64 1;
        deserialize_u128 visit_u128 1;
        deserialize_f32 visit_f32 1.5;
        deserialize_f64 visit_f64 1.5;
        deserialize_char visit_char 'a';
        deserialize_bytes visit_bytes b"sample";
        deserialize_byte_buf visit_bytes b"sample";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        visitor.visit_str(self.text())
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        visitor.visit_str(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        if self.is_deep() {
            return visitor.visit_none();
        }
        self.inside(self.parent, |inner| visitor.visit_some(inner))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Rejected> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Rejected> {
        self.inside((name, ""), |inner| visitor.visit_newtype_struct(inner))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        let left = usize::from(!self.is_deep());
        self.inside(self.parent, |inner| visitor.visit_seq(Elements { sampler: inner, left }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Rejected> {
        self.inside(self.parent, |inner| visitor.visit_seq(Elements { sampler: inner, left: len }))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Rejected> {
        self.inside((name, ""), |inner| visitor.visit_seq(Elements { sampler: inner, left: len }))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        let left = usize::from(!self.is_deep());
        self.inside(self.parent, |inner| visitor.visit_map(Entries { sampler: inner, left }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Rejected> {
        self.inside((name, ""), |inner| visitor.visit_map(Fields { sampler: inner, fields }))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Rejected> {
        let count = u32::try_from(variants.len()).unwrap_or(u32::MAX);
        let index = self.variant.filter(|_| self.depth == 0).unwrap_or(0);
        // At the maximum depth every enum is its last variant, so that `enum List { Cons(Box<List>), Nil }` terminates.
        let index = if self.is_deep() { count.saturating_sub(1) } else { index };
        let variant = variants.get(index as usize).copied().unwrap_or_default();
        self.inside((name, variant), |inner| visitor.visit_enum(Variant { sampler: inner, index }))
    }
}

struct Elements<'a, 'p> {
    sampler: &'a mut Sampler<'p>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, '_> {
    type Error = Rejected;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Rejected> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.sampler).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

struct Entries<'a, 'p> {
    sampler: &'a mut Sampler<'p>,
    left: usize,
}

impl<'de> de::MapAccess<'de> for Entries<'_, '_> {
    type Error = Rejected;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Rejected> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let parent = self.sampler.parent;
        self.sampler.inside(parent, |inner| seed.deserialize(inner)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Rejected> {
        seed.deserialize(&mut *self.sampler)
    }
}

struct Fields<'a, 'p> {
    sampler: &'a mut Sampler<'p>,
    fields: &'static [&'static str],
}

impl<'de> de::MapAccess<'de> for Fields<'_, '_> {
    type Error = Rejected;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Rejected> {
        while let Some((first, rest)) = self.fields.split_first() {
            self.fields = rest;
            let field = (self.sampler.parent, *first);
            if self.sampler.aliases.contains(&field) {
                continue;
            }
            self.sampler.last_field = Some(field);
            let name: StrDeserializer<'_, Rejected> = (*first).into_deserializer();
            return seed.deserialize(name).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Rejected> {
        let parent = self.sampler.parent;
        self.sampler.inside(parent, |inner| seed.deserialize(inner))
    }
}

struct Variant<'a, 'p> {
    sampler: &'a mut Sampler<'p>,
    index: u32,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, '_> {
    type Error = Rejected;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Rejected> {
        let index: U32Deserializer<Rejected> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, '_> {
    type Error = Rejected;

    fn unit_variant(self) -> Result<(), Rejected> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Rejected> {
        seed.deserialize(self.sampler)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Rejected> {
        visitor.visit_seq(Elements { sampler: self.sampler, left: len })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Rejected> {
        visitor.visit_map(Fields { sampler: self.sampler, fields })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use chrono::{NaiveDate, NaiveTime};
    use serde::Deserialize;
    use uuid::Uuid;

    #[derive(Debug, Deserialize)]
    struct Nested {
        id: Uuid,
        on: NaiveDate,
        at: Option<crate::Timestamp>,
        #[serde(default)]
        notes: BTreeMap<String, Vec<NaiveTime>>,
        kind: Kind,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    enum Kind {
        Plain,
        Wrapped(u32),
        Named { left: Option<Box<Kind>>, right: char },
    }

    #[test]
    fn strings_that_must_parse_are_found() {
        let nested: Nested = sample().expect("a sample");
        assert_eq!(nested.id.to_string(), "67e55044-10b1-726f-9247-bb680e5fe0c8");
        assert_eq!(nested.on.to_string(), "2024-02-29");
        assert_eq!(nested.at.map(|at| at.to_rfc3339()).as_deref(), Some("2024-02-29T12:30:00+00:00"));
        assert_eq!(nested.notes.get("sample").map(Vec::len), Some(1));
        assert_eq!(nested.kind, Kind::Plain);
    }

    #[test]
    fn each_variant_has_a_sample() {
        assert_eq!(sample_variant(1), Ok(Kind::Wrapped(1)));
        let named = Kind::Named { left: Some(Box::new(Kind::Plain)), right: 'a' };
        assert_eq!(sample_variant(2), Ok(named));
    }

    /// serde lists an alias among the fields, and rejects a field that is given under both of its names.
    #[test]
    fn an_alias_is_not_a_second_field() {
        #[derive(Debug, Deserialize)]
        struct Renamed {
            #[serde(alias = "old", alias = "older")]
            new: u32,
            #[serde(alias = "before")]
            after: Option<Box<Renamed>>,
        }
        let renamed: Renamed = sample().expect("a sample");
        assert_eq!(renamed.new, 1);
        assert_eq!(renamed.after.map(|inner| inner.new), Some(1));
    }

    #[test]
    fn a_type_that_accepts_nothing_is_an_error() {
        #[derive(Debug, Deserialize)]
        #[serde(try_from = "String")]
        struct Picky;
        impl TryFrom<String> for Picky {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                Err(format!("{text:?} is not picky enough"))
            }
        }
        let error = sample::<Picky>().expect_err("nothing fits");
        assert!(error.to_string().contains("is not picky enough"), "{error}");
    }
}
