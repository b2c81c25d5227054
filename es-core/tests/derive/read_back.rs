//! Case 01: an event that serde writes but cannot read back was committed, and its aggregate could never be loaded
//! again. `encode` reads every event back, and names the field that would be lost or changed.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use es_core::model::{ContentType, ErrorChain};
use es_core::prelude::*;
use es_core::schema::{
    Codec, DecodeEventError, EncodeEventError, EncodedEvent, EventSchema, Json, MessagePack, RawEvent,
};
use es_core::{EventType, Events, model::Tags};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Small(u8),
    Large(i128),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Total { cents: u128 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nested {
    inner: Option<Box<Nested>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Reading {
    celsius: f64,
    by_hour: BTreeMap<String, Vec<Option<f64>>>,
}

// The derive refuses `Option<Option<_>>` and `Option<()>`, but it cannot see through a name.
type Remark = Option<String>;
type Empty = ();

macro_rules! events {
    ($name:ident $codec:literal) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
        #[event(codec = $codec)]
        enum $name {
            #[event(name = "measured")]
            Measured { reading: Reading },
            #[event(name = "maybe")]
            Maybe { celsius: Option<f64> },
            #[event(name = "counted")]
            Counted { number: Number, tagged: Option<Tagged> },
            #[event(name = "twice")]
            Twice { note: Option<Remark>, unit: Option<Empty> },
            #[event(name = "nested")]
            Nested(Box<Nested>),
            #[event(name = "keyed")]
            Keyed { by_point: Vec<HashMap<u64, HashSet<String>>>, by_flag: BTreeMap<bool, u8> },
            #[event(name = "rounded")]
            Rounded {
                #[serde(serialize_with = "rounded")]
                price: f64,
            },
            #[event(name = "wide")]
            Wide { all: (i128, u128, u64, i64, f64, f32, char) },
        }
    };
}

fn rounded<S: serde::Serializer>(price: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() { serializer.serialize_str("1.5") } else { serializer.serialize_f64(*price) }
}

events!(InJson "json");
events!(InMessagePack "msgpack");

fn error<E: Event>(event: &E) -> String {
    ErrorChain(&event.encode().expect_err("it cannot be read back")).to_string()
}

fn nested(depth: usize) -> Box<Nested> {
    (0..depth).fold(Box::new(Nested { inner: None }), |inner, _| Box::new(Nested { inner: Some(inner) }))
}

#[test]
fn json_refuses_a_float_that_is_not_finite_and_names_the_field() {
    let reading = |celsius, hour| {
        let by_hour = BTreeMap::from([("noon".to_owned(), vec![None, Some(1.0), hour])]);
        InJson::Measured { reading: Reading { celsius, by_hour } }
    };
    assert_eq!(
        error(&reading(f64::NAN, None)),
        "could not write event \"measured\"; correct its type: reading.celsius: application/json cannot represent NaN; \
         use the codec MessagePack or another type"
    );
    let hour = error(&reading(0.0, Some(f64::NEG_INFINITY)));
    assert!(hour.contains("reading.by_hour[\"noon\"][2]: application/json cannot represent -inf"), "{hour}");
    // `null` is read back as `None` without an error.
    let maybe = error(&InJson::Maybe { celsius: Some(f64::INFINITY) });
    assert!(maybe.contains("\"maybe\"") && maybe.contains("celsius: application/json cannot represent inf"), "{maybe}");
    assert!(reading(-0.0, Some(f64::MIN_POSITIVE)).encode().is_ok());
}

#[test]
fn message_pack_keeps_floats_that_are_not_finite() {
    for float in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let (encoded, decoded) = InMessagePack::Maybe { celsius: Some(float) }.encode_and_decode().expect("encodes");
        let InMessagePack::Maybe { celsius: Some(read) } = decoded else { panic!("{decoded:?}") };
        assert!(read.total_cmp(&float).is_eq() || (read.is_nan() && float.is_nan()), "{read}");
        assert!(InMessagePack::decode(encoded.raw()).is_ok());
    }
}

#[test]
fn both_codecs_refuse_what_is_read_back_as_another_value() {
    let nothing = Some(None);
    let json = error(&InJson::Twice { note: nothing.clone(), unit: None });
    let packed = error(&InMessagePack::Twice { note: nothing, unit: None });
    let expected = |media_type: &str, advice: &str| {
        format!(
            "note: Some(None) would be read back from {media_type} as None; correct the serde attributes of its type, \
             or use another type{advice}"
        )
    };
    assert!(json.ends_with(&expected("application/json", " or the codec MessagePack")), "{json}");
    assert!(packed.ends_with(&expected("application/msgpack", "")), "{packed}");
    let unit = error(&InJson::Twice { note: None, unit: Some(()) });
    assert!(unit.contains("unit: Some(()) would be read back"), "{unit}");
    // An untagged enum is read back as its first variant that fits.
    let small = error(&InJson::Counted { number: Number::Large(7), tagged: None });
    assert!(small.contains("number: 7 would be read back"), "{small}");
    let price = error(&InJson::Rounded { price: 1.25 });
    assert!(price.contains("could not be read back") && price.contains("price: invalid type: string"), "{price}");
}

#[test]
fn both_codecs_refuse_what_they_cannot_read() {
    for error in [
        error(&InJson::Counted { number: Number::Large(i128::MAX), tagged: None }),
        error(&InMessagePack::Counted { number: Number::Large(i128::MAX), tagged: None }),
        error(&InJson::Counted { number: Number::Small(1), tagged: Some(Tagged::Total { cents: u128::MAX }) }),
    ] {
        assert!(error.contains("could not write event \"counted\""), "{error}");
        assert!(error.contains("could not be read back from application/"), "{error}");
        assert!(error.contains("number: ") || error.contains("tagged: "), "{error}");
    }
    // serde_json reads 128 levels, and rmp-serde 1,024.
    assert!(InJson::Nested(nested(100)).encode().is_ok());
    let deep = error(&InJson::Nested(nested(130)));
    assert!(deep.contains("recursion limit exceeded"), "{deep}");
    assert!(InMessagePack::Nested(nested(500)).encode().is_ok());
    let deeper = error(&InMessagePack::Nested(nested(5_000)));
    assert!(deeper.contains("the value is nested deeper than 1024 levels"), "{deeper}");
}

#[test]
fn every_other_value_is_read_back() {
    let all = (i128::MIN, u128::MAX, u64::MAX, i64::MIN, 0.1 + 0.2, f32::MIN_POSITIVE, '\u{10ffff}');
    let words = |n: u64| (0..n).map(|n| n.to_string()).collect::<HashSet<_>>();
    let by_point: Vec<HashMap<_, _>> = vec![(0..50).map(|n| (n, words(n))).collect(), HashMap::new()];
    let by_flag = BTreeMap::from([(true, 1), (false, 2)]);
    let reading = Reading { celsius: f64::MAX, by_hour: BTreeMap::new() };
    let json = [
        InJson::Wide { all },
        InJson::Keyed { by_point: by_point.clone(), by_flag: by_flag.clone() },
        InJson::Measured { reading: reading.clone() },
        InJson::Counted { number: Number::Small(7), tagged: None },
    ];
    for event in json {
        assert_eq!(event.encode_and_decode().expect("is read back").1, event);
    }
    let packed = [
        InMessagePack::Wide { all },
        InMessagePack::Keyed { by_point, by_flag },
        InMessagePack::Measured { reading },
        InMessagePack::Rounded { price: 1.25 },
    ];
    for event in packed {
        assert_eq!(event.encode_and_decode().expect("is read back").1, event);
    }
}

/// An event without the derive. It decodes as `decoded`, and its bytes start with a number that differs each time.
#[derive(Debug, PartialEq)]
struct Handmade {
    text: String,
    decoded: Result<Vec<String>, ()>,
}

static NONCE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

impl Event for Handmade {
    const SCHEMA: &'static [EventSchema] =
        &[EventSchema { name: "handmade", version: 1, aliases: &[], oldest: 1, tags: &[] }];

    fn encode(&self) -> Result<EncodedEvent, EncodeEventError> {
        let nonce = match self.text.as_str() {
            "random" => NONCE.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string(),
            text => text.to_owned(),
        };
        let payload = format!("{nonce}|{}", self.decoded.as_ref().map_or("?".to_owned(), |texts| texts.join(",")));
        Ok(EncodedEvent {
            event_type: EventType::new("handmade").expect("a name"),
            version: 1,
            content_type: ContentType::from("text/plain"),
            payload: Bytes::from(payload),
            tags: Tags::new(),
        })
    }

    fn decode(event: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError> {
        let text = String::from_utf8_lossy(event.payload);
        let (_, texts) = text.split_once('|').unwrap_or_default();
        if texts == "?" {
            return Err(DecodeEventError::UnknownVersion { name: "handmade", found: 1, oldest: 2, newest: 2 });
        }
        let texts: Vec<String> = texts.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect();
        Ok(texts.iter().map(|text| Handmade { text: text.clone(), decoded: Ok(texts.clone()) }).collect())
    }
}

#[test]
fn a_hand_written_event_is_read_back_too() {
    let handmade = |text: &str, texts: &[&str]| Handmade {
        text: text.to_owned(),
        decoded: Ok(texts.iter().map(|text| (*text).to_owned()).collect()),
    };
    assert!(handmade("a", &["a"]).encode_and_decode().is_ok());
    assert!(handmade("random", &["random"]).encode_and_decode().is_ok());
    for (texts, of) in [(&["b"][..], "another event"), (&["a", "a"], "several events"), (&[], "none")] {
        let error = handmade("a", texts).encode_and_decode().expect_err(of);
        assert!(matches!(error, EncodeEventError::Changed { .. }), "{of}: {error}");
    }
    let error = Handmade { text: "a".into(), decoded: Err(()) }.encode_and_decode().expect_err("it does not decode");
    assert!(matches!(error, EncodeEventError::Unreadable { .. }), "{error}");
}

#[test]
fn the_codec_json_refuses_a_float_that_is_not_finite() {
    let error = Json::encode(&(1.0, [f32::NAN])).expect_err("it would become null");
    assert!(error.to_string().starts_with("[1][0]: application/json cannot represent NaN"), "{error}");
    assert_eq!(Json::encode(&(1.0, None::<f64>)).expect("encodes"), "[1.0,null]");
    assert!(MessagePack::encode(&f64::NAN).is_ok());
}
