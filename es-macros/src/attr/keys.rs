//! The keys of the attributes, and the places where each is allowed.

use crate::attr::{Form, Item};
use crate::suggest;

/// One of the macros whose input has keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Derive {
    Event,
    Aggregate,
    SagaStep,
    StepFunction,
    Saga,
    Transaction,
}

impl Derive {
    /// Returns the name of its attribute.
    pub(crate) const fn attribute(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Aggregate => "aggregate",
            Self::SagaStep => "saga_step",
            Self::StepFunction => "step_function",
            Self::Saga => "saga",
            Self::Transaction => "transaction",
        }
    }

    /// Returns the keys, in the order in which messages list them.
    fn keys(self) -> impl Iterator<Item = &'static Key> {
        let (keys, inner): (&[Key], &[Key]) = match self {
            Self::Event => (EVENT, &[]),
            Self::Aggregate => (AGGREGATE, &[]),
            Self::SagaStep => (SAGA_STEP, RETRY),
            Self::StepFunction => (STEP_FUNCTION, RETRY),
            Self::Saga => (SAGA, &[]),
            Self::Transaction => (TRANSACTION, &[]),
        };
        keys.iter().chain(inner)
    }
}

/// The place of an attribute, or of a list in an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Enum,
    Struct,
    Variant,
    Field,
    /// In `snapshot(...)`.
    Snapshot,
    /// In `retry(...)`.
    Retry,
    Function,
    /// In the head of `saga!`, after the types.
    Head,
}

impl Place {
    /// Returns the place as a part of a sentence.
    const fn name(self) -> &'static str {
        match self {
            Self::Enum => "on the enum",
            Self::Struct => "on the struct",
            Self::Variant => "on a variant",
            Self::Field => "on a field",
            Self::Snapshot => "in `snapshot(...)`",
            Self::Retry => "in `retry(...)`",
            Self::Function => "on the function",
            Self::Head => "in the head of the saga",
        }
    }

    /// Returns whether one type can have both places: a struct has no variants.
    const fn can_coexist_with(self, other: Self) -> bool {
        !matches!(
            (self, other),
            (Self::Struct, Self::Enum | Self::Variant) | (Self::Enum | Self::Variant, Self::Struct)
        )
    }

    /// Returns an example of the items at this place.
    pub(crate) const fn example(self, derive: Derive) -> &'static str {
        match (derive, self) {
            (Derive::Aggregate, Self::Snapshot) => "every = 100",
            (Derive::SagaStep | Derive::StepFunction, Self::Retry) => "attempts = 5",
            (Derive::SagaStep, _) => r#"name = "take-payment""#,
            (Derive::StepFunction, _) => r#"step = PrintLabel, name = "print-label""#,
            (Derive::Saga, _) => "version = 2",
            (Derive::Transaction, _) => r#"timeout = "30s""#,
            (Derive::Aggregate, _) => r#"category = "order", id = OrderId, event = OrderEvent"#,
            (Derive::Event, Self::Enum) => r#"codec = "json""#,
            (Derive::Event, Self::Field) => "tag",
            (Derive::Event, _) => r#"name = "order-placed""#,
        }
    }
}

/// A key of an attribute.
struct Key {
    name: &'static str,
    /// The key with a value.
    example: &'static str,
    places: &'static [Place],
}

const fn key(name: &'static str, example: &'static str, places: &'static [Place]) -> Key {
    Key { name, example, places }
}

const TYPE: &[Place] = &[Place::Enum, Place::Struct];
const EVENT_ITEM: &[Place] = &[Place::Variant, Place::Struct];

const EVENT: &[Key] = &[
    key("name", r#"name = "order-placed""#, EVENT_ITEM),
    key("version", "version = 2", EVENT_ITEM),
    key("upcast", "upcast(1 = OrderPlacedV1)", EVENT_ITEM),
    key("oldest", "oldest = 2", EVENT_ITEM),
    key("alias", r#"alias("former-name")"#, EVENT_ITEM),
    key("codec", r#"codec = "json""#, &[Place::Variant, Place::Struct, Place::Enum]),
    key("sample", "sample = path::to::function", EVENT_ITEM),
    key("retired", r#"retired("former-name")"#, TYPE),
    key("crate", "crate = path::to::es_core", TYPE),
    key("tag", r#"tag = "customer""#, &[Place::Field]),
];

const AGGREGATE: &[Key] = &[
    key("category", r#"category = "order""#, TYPE),
    key("id", "id = OrderId", TYPE),
    key("event", "event = OrderEvent", TYPE),
    key("consistency", r#"consistency = "local""#, TYPE),
    key("conflict", r#"conflict = "canonical""#, TYPE),
    key("owner", "owner = path::to::function", TYPE),
    key("heuristic", r#"heuristic = "abort""#, TYPE),
    key("snapshot", "snapshot(every = 100)", TYPE),
    key("crate", "crate = path::to::es_core", TYPE),
    key("every", "snapshot(every = 100)", &[Place::Snapshot]),
    key("load_cost", r#"snapshot(load_cost = "5ms")"#, &[Place::Snapshot]),
    key("keep", "snapshot(every = 100, keep = 2)", &[Place::Snapshot]),
    key("version", "snapshot(every = 100, version = 2)", &[Place::Snapshot]),
];

const SAGA_STEP: &[Key] = &[
    key("name", r#"name = "take-payment""#, TYPE),
    key("version", "version = 2", TYPE),
    key("retry", "retry(attempts = 5)", TYPE),
    key("timeout", r#"timeout = "5s""#, TYPE),
    key("undo", r#"undo = "pause""#, TYPE),
    key("pivot", "pivot", TYPE),
    key("concurrency", "concurrency = 8", TYPE),
    key("crate", "crate = path::to::es_saga", TYPE),
];

/// The keys in `retry(...)`.
const RETRY: &[Key] = &[
    key("attempts", "retry(attempts = 5)", &[Place::Retry]),
    key("first", r#"retry(first = "50ms")"#, &[Place::Retry]),
    key("cap", r#"retry(cap = "10s")"#, &[Place::Retry]),
    key("max_elapsed", r#"retry(max_elapsed = "60s")"#, &[Place::Retry]),
    key("exhausted", r#"retry(exhausted = "pause")"#, &[Place::Retry]),
];

const FUNCTION: &[Place] = &[Place::Function];

const STEP_FUNCTION: &[Key] = &[
    key("step", "step = PrintLabel", FUNCTION),
    key("name", r#"name = "print-label""#, FUNCTION),
    key("version", "version = 2", FUNCTION),
    key("retry", "retry(attempts = 5)", FUNCTION),
    key("timeout", r#"timeout = "5s""#, FUNCTION),
    key("undo", "undo = cancel_label", FUNCTION),
    key("pivot", "pivot", FUNCTION),
    key("concurrency", "concurrency = 8", FUNCTION),
    key("crate", "crate = path::to::es_saga", FUNCTION),
];

const SAGA: &[Key] = &[
    key("version", "version = 2", &[Place::Head]),
    key("name", r#"name = "fulfilment""#, &[Place::Head]),
    key("deadline", r#"deadline = "60s""#, &[Place::Head]),
    key("crate", "crate = path::to::es_saga", &[Place::Head]),
];

const TRANSACTION: &[Key] = &[
    key("timeout", r#"timeout = "30s""#, FUNCTION),
    key("protocol", r#"protocol = "three-phase""#, FUNCTION),
    key("crate", "crate = path::to::es_transaction", FUNCTION),
];

/// Returns an example of a key with its value, for messages.
pub(crate) fn example(derive: Derive, name: &str) -> &'static str {
    derive.keys().find(|key| key.name == name).map_or("key = value", |key| key.example)
}

/// The error of a key that is unknown, duplicate or not allowed at its place.
pub(crate) struct KeyError {
    pub(crate) message: String,
    /// The key that the user probably meant.
    pub(crate) suggestion: Option<&'static str>,
}

/// Checks that an item is allowed at a place, after `previous` items.
pub(crate) fn check(derive: Derive, place: Place, item: &Item, previous: &[Item]) -> Result<(), KeyError> {
    let name = item.key.to_string();
    let message = match derive.keys().find(|key| key.name == name) {
        None => return Err(unknown(derive, place, &name)),
        Some(key) if !key.places.contains(&place) => {
            format!("`{}` is not allowed {}: {}", key.name, place.name(), allowed_places(derive, place, key))
        }
        Some(_) if previous.iter().any(|other| other.key == item.key) => duplicate(derive, &name, &item.form),
        Some(_) => return Ok(()),
    };
    Err(KeyError { message, suggestion: None })
}

fn unknown(derive: Derive, place: Place, name: &str) -> KeyError {
    let here = || derive.keys().filter(|key| key.places.contains(&place)).map(|key| key.name);
    if here().next().is_none() {
        let attribute = derive.attribute();
        let message = format!("unknown key `{name}`: `#[{attribute}(...)]` is not allowed {}", place.name());
        return KeyError { message, suggestion: None };
    }
    let expected = suggest::expected(here());
    let suggestion = suggest::closest(name, here());
    let elsewhere = || suggest::closest(name, derive.keys().map(|key| key.name));
    let hint = match derive.keys().find(|key| suggestion.or_else(elsewhere) == Some(key.name)) {
        Some(key) if suggestion.is_some() => format!("; did you mean `{}`?", key.name),
        Some(key) => format!("; did you mean `{}`? {}", key.name, allowed_places(derive, place, key)),
        None => String::new(),
    };
    KeyError { message: format!("unknown key `{name}` {}: expected {expected}{hint}", place.name()), suggestion }
}

/// Returns where a key is allowed, in a type that has the place `found`.
fn allowed_places(derive: Derive, found: Place, key: &Key) -> String {
    let places = key.places.iter().filter(|place| place.can_coexist_with(found)).map(|place| place.name());
    let places = places.collect::<Vec<_>>().join(" or ");
    format!("write it {places}, as in `#[{}({})]`", derive.attribute(), key.example)
}

fn duplicate(derive: Derive, name: &str, form: &Form) -> String {
    match form {
        Form::List(_) => {
            format!("duplicate key `{name}`: write one list, as in `{}`", example(derive, name))
        }
        Form::Flag | Form::Value(_) => format!("duplicate key `{name}`: remove one"),
    }
}
