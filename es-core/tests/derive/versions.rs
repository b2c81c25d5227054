//! Tests of decoding former wire names and old versions with `#[derive(Event)]`.

use es_core::schema::DecodeEventError;
use es_core::{Event, Events, Upcast};
use serde::{Deserialize, Serialize};

use crate::support::decode;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(retired("order-blinked", "order-winked"))]
enum OrderEvent {
    #[event(name = "order-placed", alias("order-made", "order-bought"))]
    Placed { customer: String },
    #[event(name = "order-closed")]
    Closed(u8),
}

#[test]
fn aliases_are_decoded_and_the_name_is_encoded() {
    let placed = OrderEvent::Placed { customer: "ada".into() };
    for name in ["order-placed", "order-made", "order-bought"] {
        let read = decode::<OrderEvent>(name, 1, r#"{"customer":"ada"}"#).expect("decodes");
        assert_eq!(read.as_slice(), std::slice::from_ref(&placed), "{name}");
    }
    assert_eq!(placed.encode().expect("encodes").event_type, "order-placed");
}

#[test]
fn a_retired_event_decodes_to_no_event() {
    for version in [0, 1, 77] {
        assert_eq!(decode::<OrderEvent>("order-winked", version, "not even JSON").expect("decodes"), Events::none());
    }
    let versions: Vec<_> = OrderEvent::SCHEMA.iter().map(|schema| (schema.name, schema.version)).collect();
    assert_eq!(versions, [("order-placed", 1), ("order-closed", 1), ("order-blinked", 0), ("order-winked", 0)]);
}

#[test]
fn errors_list_the_known_names_and_versions() {
    let error = decode::<OrderEvent>("order-lost", 1, "{}").expect_err("unknown").to_string();
    assert!(
        error.contains("\"order-lost\" (known: order-placed, order-closed, order-blinked, order-winked)"),
        "{error}"
    );
    let error = decode::<OrderEvent>("order-made", 2, "{}").expect_err("unknown").to_string();
    assert!(error.contains("unknown version 2 of event \"order-placed\" (known: 1 to 1)"), "{error}");
    let error = decode::<OrderEvent>("order-closed", 0, "{}").expect_err("versions count from 1");
    assert!(matches!(error, DecodeEventError::UnknownVersion { found: 0, .. }));
}

/// The former record of a person, with the name in one string.
#[derive(Serialize, Deserialize)]
struct NamedV1 {
    full: String,
}

#[derive(Serialize, Deserialize)]
struct NamedV2 {
    first: String,
    last: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
enum Customer {
    #[event(name = "customer-named", version = 3, upcast(1 = NamedV1, 2 = NamedV2), alias("customer-renamed"))]
    FirstNamed { first: String },
    #[event(name = "customer-last-named")]
    LastNamed { last: String },
}

impl Upcast<NamedV2> for NamedV1 {
    fn upcast(self) -> Events<NamedV2> {
        // A record of two persons becomes two events, and an empty record none.
        let split = |full: &str| full.split_once(' ').map(|(first, last)| (first.to_owned(), last.to_owned()));
        self.full.split('&').filter_map(split).map(|(first, last)| NamedV2 { first, last }).collect()
    }
}

impl Upcast<Customer> for NamedV2 {
    fn upcast(self) -> Events<Customer> {
        [Customer::FirstNamed { first: self.first }, Customer::LastNamed { last: self.last }].into()
    }
}

#[test]
fn old_versions_pass_through_all_upcasters() {
    let read = |version, json| decode::<Customer>("customer-named", version, json).expect("decodes").into_vec();
    let named = |first: &str, last: &str| {
        [Customer::FirstNamed { first: first.into() }, Customer::LastNamed { last: last.into() }]
    };
    assert_eq!(read(3, r#"{"first":"Ada"}"#), [Customer::FirstNamed { first: "Ada".into() }]);
    assert_eq!(read(2, r#"{"first":"Ada","last":"L"}"#), named("Ada", "L"));
    assert_eq!(read(1, r#"{"full":"Ada L"}"#), named("Ada", "L"));
    assert_eq!(read(1, r#"{"full":"Ada L&Bob M"}"#), [named("Ada", "L"), named("Bob", "M")].concat());
    assert_eq!(read(1, r#"{"full":"nobody"}"#), [], "an old event may become none");
    let by_alias = decode::<Customer>("customer-renamed", 1, r#"{"full":"Ada L"}"#).expect("decodes");
    assert_eq!(by_alias.into_vec(), named("Ada", "L"));
    assert_eq!(Customer::SCHEMA.iter().map(|schema| schema.oldest).collect::<Vec<_>>(), [1, 1]);
}

/// A generic event whose old version is generic, too. It did not compile: nothing said that the old version can be
/// decoded and upcast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "value-set", version = 3, upcast(1 = SetV1, 2 = SetV2<T>))]
struct Set<T> {
    value: T,
    note: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SetV1 {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct SetV2<T> {
    value: T,
}

impl<T: std::str::FromStr> Upcast<SetV2<T>> for SetV1 {
    fn upcast(self) -> Events<SetV2<T>> {
        self.text.parse().ok().map(|value| SetV2 { value }).into_iter().collect()
    }
}

impl<T> Upcast<Set<T>> for SetV2<T> {
    fn upcast(self) -> Events<Set<T>> {
        Events::one(Set { value: self.value, note: None })
    }
}

#[test]
fn a_generic_event_reads_its_generic_old_versions() {
    let read = |version, json| decode::<Set<u8>>("value-set", version, json).expect("decodes").into_vec();
    let set = Set { value: 7, note: None };
    assert_eq!(read(2, r#"{"value":7}"#), std::slice::from_ref(&set));
    assert_eq!(read(1, r#"{"text":"7"}"#), [set]);
}

#[test]
fn invalid_content_of_an_old_version_is_an_error() {
    let error = decode::<Customer>("customer-named", 1, r#"{"first":"Ada"}"#).expect_err("version 1 has `full`");
    assert!(matches!(error, DecodeEventError::Content { name: "customer-named", version: 1, .. }), "{error}");
}
