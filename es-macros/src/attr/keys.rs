//! Which keys there are, and where each belongs.

use crate::attr::{Form, Item};
use crate::suggest;

/// Which of the derive macros runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Derive {
    Event,
    Aggregate,
}

impl Derive {
    /// The name of its attribute.
    pub(crate) const fn attribute(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Aggregate => "aggregate",
        }
    }

    const fn keys(self) -> &'static [Key] {
        match self {
            Self::Event => EVENT,
            Self::Aggregate => AGGREGATE,
        }
    }
}

/// Where an attribute, or a list in it, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Enum,
    Struct,
    Variant,
    Field,
    /// Within `snapshot(...)`.
    Snapshot,
}

impl Place {
    /// The place in a sentence.
    const fn name(self) -> &'static str {
        match self {
            Self::Enum => "on the enum",
            Self::Struct => "on the struct",
            Self::Variant => "on a variant",
            Self::Field => "on a field",
            Self::Snapshot => "within `snapshot(...)`",
        }
    }

    /// Whether a type may have both places: a struct has no variants, and an enum is no struct.
    const fn goes_with(self, other: Self) -> bool {
        !matches!(
            (self, other),
            (Self::Struct, Self::Enum | Self::Variant) | (Self::Enum | Self::Variant, Self::Struct)
        )
    }

    /// What could stand at this place.
    pub(crate) const fn example(self, derive: Derive) -> &'static str {
        match (derive, self) {
            (Derive::Aggregate, Self::Snapshot) => "every = 100",
            (Derive::Aggregate, _) => r#"category = "order", id = OrderId, event = OrderEvent"#,
            (Derive::Event, Self::Enum) => r#"codec = "json""#,
            (Derive::Event, Self::Field) => "tag",
            (Derive::Event, _) => r#"name = "order-placed""#,
        }
    }
}

/// A key, how it is written, and where it may stand.
struct Key {
    name: &'static str,
    example: &'static str,
    places: &'static [Place],
}

const fn key(name: &'static str, example: &'static str, places: &'static [Place]) -> Key {
    Key { name, example, places }
}

const TYPE: &[Place] = &[Place::Enum, Place::Struct];
const EACH: &[Place] = &[Place::Variant, Place::Struct];

const EVENT: &[Key] = &[
    key("name", r#"name = "order-placed""#, EACH),
    key("version", "version = 2", EACH),
    key("upcast", "upcast(1 = OrderPlacedV1)", EACH),
    key("oldest", "oldest = 2", EACH),
    key("alias", r#"alias("former-name")"#, EACH),
    key("codec", r#"codec = "json""#, &[Place::Variant, Place::Struct, Place::Enum]),
    key("sample", "sample = path::to::function", EACH),
    key("retired", r#"retired("former-name")"#, TYPE),
    key("crate", r#"crate = "path::to::es_core""#, TYPE),
    key("tag", r#"tag = "customer""#, &[Place::Field]),
];

const AGGREGATE: &[Key] = &[
    key("category", r#"category = "order""#, TYPE),
    key("id", "id = OrderId", TYPE),
    key("event", "event = OrderEvent", TYPE),
    key("consistency", r#"consistency = "local""#, TYPE),
    key("snapshot", "snapshot(every = 100)", TYPE),
    key("crate", r#"crate = "path::to::es_core""#, TYPE),
    key("every", "snapshot(every = 100)", &[Place::Snapshot]),
    key("load_cost", r#"snapshot(load_cost = "5ms")"#, &[Place::Snapshot]),
    key("keep", "snapshot(every = 100, keep = 2)", &[Place::Snapshot]),
    key("version", "snapshot(every = 100, version = 2)", &[Place::Snapshot]),
];

/// How a key is written, for messages about its value.
pub(crate) fn example(derive: Derive, name: &str) -> &'static str {
    derive.keys().iter().find(|key| key.name == name).map_or("key = value", |key| key.example)
}

/// Why an item may not stand where it stands.
pub(crate) struct Wrong {
    pub(crate) message: String,
    /// The key that was probably meant.
    pub(crate) meant: Option<&'static str>,
}

/// Whether an item may stand at a place behind others.
pub(crate) fn check(derive: Derive, place: Place, item: &Item, before: &[Item]) -> Result<(), Wrong> {
    let name = item.key.to_string();
    let message = match derive.keys().iter().find(|key| key.name == name) {
        None => return Err(unknown(derive, place, &name)),
        Some(key) if !key.places.contains(&place) => {
            format!("`{}` does not belong {}: {}", key.name, place.name(), belongs(derive, place, key))
        }
        Some(_) if before.iter().any(|other| other.key == item.key) => twice(derive, &name, &item.form),
        Some(_) => return Ok(()),
    };
    Err(Wrong { message, meant: None })
}

fn unknown(derive: Derive, place: Place, name: &str) -> Wrong {
    let here = || derive.keys().iter().filter(|key| key.places.contains(&place)).map(|key| key.name);
    if here().next().is_none() {
        let attribute = derive.attribute();
        let message = format!("unknown key `{name}`: `#[{attribute}(...)]` does not belong {}", place.name());
        return Wrong { message, meant: None };
    }
    let expected = suggest::expected(here());
    let meant = suggest::closest(name, here());
    let elsewhere = || suggest::closest(name, derive.keys().iter().map(|key| key.name));
    let hint = match derive.keys().iter().find(|key| meant.or_else(elsewhere) == Some(key.name)) {
        Some(key) if meant.is_some() => format!("; did you mean `{}`?", key.name),
        Some(key) => format!("; did you mean `{}`? {}", key.name, belongs(derive, place, key)),
        None => String::new(),
    };
    Wrong { message: format!("unknown key `{name}` {}: expected {expected}{hint}", place.name()), meant }
}

/// Where a key belongs in a type that has the place where it was found.
fn belongs(derive: Derive, found: Place, key: &Key) -> String {
    let places = key.places.iter().filter(|place| place.goes_with(found)).map(|place| place.name());
    let places = places.collect::<Vec<_>>().join(" or ");
    format!("it belongs {places}, as in `#[{}({})]`", derive.attribute(), key.example)
}

fn twice(derive: Derive, name: &str, form: &Form) -> String {
    match form {
        Form::List(_) => {
            format!("`{name}` stands here twice; put everything into one list, as in `{}`", example(derive, name))
        }
        Form::Flag | Form::Value(_) => format!("`{name}` stands here twice; remove one"),
    }
}
