//! Tests of encoding and decoding with `#[derive(Event)]`.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;

use es_core::model::ContentType;
use es_core::schema::{DecodeEventError, EncodeEventError, EventSamples, EventSchema};
use es_core::{Event, Events};
use serde::{Deserialize, Serialize};

use crate::support::{decode, encoded, round_trip, tags};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed {
        #[event(tag)]
        customer: String,
        #[serde(rename = "sum", default)]
        total: u64,
    },
    #[event(name = "order-noted", codec = "msgpack")]
    Noted(String),
    #[event(name = "order-moved")]
    Moved(i32, Option<i32>),
    #[event(name = "order-packed", codec = "msgpack")]
    Packed(Parcel),
    #[event(name = "order-closed")]
    Closed,
    #[event(name = "order-emptied")]
    Emptied {},
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Parcel {
    grams: u32,
}

fn order_events() -> [OrderEvent; 6] {
    [
        OrderEvent::Placed { customer: "ada".into(), total: 5 },
        OrderEvent::Noted("fragile".into()),
        OrderEvent::Moved(-3, None),
        OrderEvent::Packed(Parcel { grams: 900 }),
        OrderEvent::Closed,
        OrderEvent::Emptied {},
    ]
}

#[test]
fn each_kind_of_variant_survives_a_round_trip() {
    for event in order_events() {
        assert_eq!(round_trip(&event), [event]);
    }
}

#[test]
fn the_payload_is_the_content_without_the_name() {
    let [placed, _, moved, _, closed, emptied] = order_events();
    assert_eq!(encoded(&placed), ("order-placed".into(), r#"{"customer":"ada","sum":5}"#.into()));
    assert_eq!(encoded(&moved), ("order-moved".into(), "[-3,null]".into()));
    assert_eq!(encoded(&closed), ("order-closed".into(), "{}".into()));
    assert_eq!(encoded(&emptied), ("order-emptied".into(), "{}".into()));
}

#[test]
fn variants_of_a_type_can_have_different_codecs() {
    let codecs = order_events().map(|event| event.encode().expect("encodes").content_type);
    let (json, packed) = (ContentType::Json, ContentType::MessagePack);
    assert_eq!(codecs, [json.clone(), packed.clone(), json.clone(), packed, json.clone(), json]);

    let noted: Events<OrderEvent> = decode("order-noted", 1, r#""by hand""#).expect("decodes");
    assert_eq!(noted.into_vec(), [OrderEvent::Noted("by hand".into())], "it is not the derive that knows the codec");
}

#[test]
fn serde_attributes_of_fields_have_their_effect() {
    let read: Events<OrderEvent> = decode("order-placed", 1, r#"{"customer":"ada","new":1}"#).expect("decodes");
    assert_eq!(read.into_vec(), [OrderEvent::Placed { customer: "ada".into(), total: 0 }]);
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[serde(rename_all_fields = "camelCase")]
enum Flat {
    #[event(name = "flattened")]
    Flattened {
        parcel_number: u8,
        #[serde(flatten)]
        parcel: Parcel,
        #[serde(skip)]
        unit: std::marker::PhantomData<u8>,
    },
    #[event(name = "flattened-and-packed", codec = "msgpack")]
    Packed {
        #[serde(flatten)]
        parcel: Parcel,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    #[event(name = "as-text")]
    #[serde(with = "as_text")]
    AsText(u8),
}

/// Serializes a number as a string.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(number: &u8, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[test]
fn serde_attributes_of_variants_have_their_effect() {
    let flattened = Flat::Flattened { parcel_number: 1, parcel: Parcel { grams: 9 }, unit: std::marker::PhantomData };
    assert_eq!(encoded(&flattened).1, r#"{"parcelNumber":1,"grams":9}"#);
    assert_eq!(encoded(&Flat::AsText(7)).1, r#""7""#);
    let packed = Flat::Packed { parcel: Parcel { grams: 9 }, note: None };
    for event in [flattened, packed, Flat::AsText(7)] {
        assert_eq!(round_trip(&event), [event]);
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(codec = "msgpack")]
enum Packed {
    #[event(name = "unit")]
    Unit,
    #[event(name = "newtype")]
    Newtype(Vec<u8>),
    #[event(name = "tuple")]
    Tuple(String, u8),
    #[event(name = "struct", codec = "json")]
    Struct { at: f64 },
}

#[test]
fn the_codec_of_the_type_is_the_default_of_its_variants() {
    let events = [Packed::Unit, Packed::Newtype(vec![1, 2]), Packed::Tuple("a".into(), 1), Packed::Struct { at: 0.5 }];
    for event in events {
        let encoded = event.encode().expect("encodes");
        let is_json = encoded.content_type == ContentType::Json;
        assert_eq!(is_json, matches!(event, Packed::Struct { .. }));
        assert_eq!(round_trip(&event), [event]);
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "price-set", version = 2, codec = "msgpack", oldest = 2, alias("price-changed"))]
struct PriceSet {
    #[event(tag = "product")]
    product_id: u32,
    cents: u64,
}

#[test]
fn a_struct_is_a_single_event() {
    let event = PriceSet { product_id: 7, cents: 250 };
    assert_eq!(round_trip(&event), std::slice::from_ref(&event));
    assert_eq!(tags(&event), ["product:7"]);
    let schema =
        EventSchema { name: "price-set", version: 2, aliases: &["price-changed"], oldest: 2, tags: &["product"] };
    assert_eq!(PriceSet::SCHEMA, [schema]);
    let by_alias: Events<PriceSet> = decode("price-changed", 2, r#"{"product_id":7,"cents":250}"#).expect("decodes");
    assert_eq!(by_alias.into_vec(), [event]);
    let error = decode::<PriceSet>("price-set", 1, "{}").expect_err("version 1 was never written");
    assert_eq!(
        error.to_string(),
        "unknown version 1 of event \"price-set\" (known: 2 to 2); deploy the code that wrote it"
    );
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
enum Tagged {
    #[event(name = "tagged")]
    All {
        #[event(tag = "customer")]
        buyer: String,
        #[event(tag)]
        coupon: Option<u8>,
        #[event(tag = "line")]
        lines: Vec<u32>,
        #[event(tag = "set")]
        set: BTreeSet<char>,
        #[event(tag = "hash")]
        hash: HashSet<bool>,
        #[event(tag = "array")]
        array: [i8; 2],
        #[event(tag = "boxed")]
        boxed: Box<[u16]>,
        #[event(tag)]
        r#type: std::borrow::Cow<'static, str>,
    },
    #[event(name = "tuple")]
    Tuple(u8, #[event(tag = "second")] u8),
}

#[test]
fn each_value_of_a_tag_field_is_a_tag() {
    let event = Tagged::All {
        buyer: "ada".into(),
        coupon: Some(1),
        lines: vec![3, 2, 3],
        set: ['x'].into(),
        hash: [true].into(),
        array: [-1, 1],
        boxed: Box::new([9]),
        r#type: "gift".into(),
    };
    let expected = [
        "array:-1",
        "array:1",
        "boxed:9",
        "coupon:1",
        "customer:ada",
        "hash:true",
        "line:2",
        "line:3",
        "set:x",
        "type:gift",
    ];
    assert_eq!(tags(&event), expected);
    assert_eq!(tags(&Tagged::Tuple(1, 2)), ["second:2"]);
}

#[test]
fn an_invalid_tag_value_is_an_encode_error() {
    let event = OrderEvent::Placed { customer: "a\u{0}b".into(), total: 0 };
    let error = event.encode().expect_err("a control character");
    assert!(matches!(error, EncodeEventError::Tag { name: "order-placed", .. }), "{error}");
}

#[test]
fn the_error_of_invalid_content_has_name_and_version() {
    let error = decode::<OrderEvent>("order-placed", 1, "[]").expect_err("a list");
    assert!(matches!(error, DecodeEventError::Content { name: "order-placed", version: 1, .. }), "{error}");
}

/// serde numbers all variants that can be deserialized, including those with `skip_serializing`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
enum Indexed {
    #[event(name = "first")]
    First(u8),
    #[event(name = "no-longer-written")]
    #[serde(skip_serializing)]
    Second(u8),
    #[event(name = "third")]
    Third(u8),
}

#[test]
fn the_index_of_a_variant_is_the_index_of_serde() {
    for (name, event) in
        [("first", Indexed::First(1)), ("no-longer-written", Indexed::Second(1)), ("third", Indexed::Third(1))]
    {
        assert_eq!(decode::<Indexed>(name, 1, "1").expect("decodes").into_vec(), [event]);
    }
    let error = Indexed::Second(1).encode().expect_err("it is never written");
    assert!(matches!(error, EncodeEventError::Content { name: "no-longer-written", .. }), "{error}");
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
enum Generic<T, const N: usize>
where
    T: Clone,
{
    #[event(name = "with-value")]
    Value {
        #[event(tag)]
        value: T,
        #[event(tag = "more")]
        more: Vec<T>,
    },
    #[event(name = "with-phantom")]
    Phantom(std::marker::PhantomData<[T; N]>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "changed", retired("unchanged"))]
struct Changed<T> {
    from: Option<T>,
    to: T,
}

#[test]
fn generic_types_can_be_events() {
    let value: Generic<u8, 3> = Generic::Value { value: 1, more: vec![2] };
    assert_eq!(tags(&value), ["more:2", "value:1"]);
    assert_eq!(round_trip(&value), [value]);
    let phantom: Generic<u8, 3> = Generic::Phantom(std::marker::PhantomData);
    assert_eq!(round_trip(&phantom), [phantom]);
    assert_eq!(decode::<Changed<u8>>("unchanged", 1, "").expect("retired"), Events::none());
    let changed = Changed { from: None, to: String::from("a") };
    assert_eq!(round_trip(&changed), [changed]);
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(retired("thrown-away"))]
enum Sampled {
    #[event(name = "made")]
    Made { text: String, number: u32 },
    #[event(name = "given", sample = Sampled::given)]
    Given { text: String },
}

impl Sampled {
    fn given() -> Self {
        Self::Given { text: "given".into() }
    }
}

#[test]
fn each_variant_has_a_sample() {
    fn all<E: EventSamples + Debug>() -> Vec<E> {
        E::samples().into_iter().map(|sample| sample.expect("a sample")).collect()
    }
    let made = Sampled::Made { text: "sample".into(), number: 1 };
    assert_eq!(all::<Sampled>(), [made, Sampled::given()], "a retired event has none");
    let names: Vec<_> = all::<OrderEvent>().iter().map(|event| encoded(event).0).collect();
    let schema: Vec<_> = OrderEvent::SCHEMA.iter().map(|schema| schema.name).collect();
    assert_eq!(names, schema, "samples have the order of the schema");
    assert_eq!(all::<PriceSet>(), [PriceSet { product_id: 1, cents: 1 }]);
}
