//! What the compiler says of wrong input: one file under `ui/event`, `ui/aggregate` or `ui/view` for each message, with what
//! is said beside it. `ui/pass` holds what must compile.
//!
//! The part of a message that is the compiler's own changes with its version; these are of the `rust-version` of the
//! workspace. `TRYBUILD=overwrite cargo test -p es-core --test derive_ui` rewrites them: review the diff.
//!
//! Twenty-four wrong inputs were tried with the macros of other frameworks. Where ours have a counterpart, it is here:
//!
//! | input elsewhere | here |
//! |---|---|
//! | a variant that does not exist | `event/upcast_from_unknown_type`, `aggregate/unknown_event` |
//! | bad syntax in an attribute | `event/bad_syntax`, `event/no_list`, `aggregate/bad_syntax` |
//! | a union | `event/union`, `aggregate/union` |
//! | an id of type `f64` | `aggregate/id_is_a_float` |
//! | no attribute at all | `aggregate/missing_attribute`, `event/missing_name` |
//! | an id by a name that does not exist | none: ids are types; `event/tag_without_key` is nearest |
//! | a struct in the place of an enum | right with us: a struct is a single event (`derive/event.rs`) |
//! | an unknown option | `event/unknown_key_on_*`, `aggregate/unknown_key` |
//! | an upcast to an unknown sibling | `event/upcast_from_unknown_type` |
//! | an upcast without its implementation | `event/upcast_without_impl` |
//! | a handler with its arguments in the wrong order | `aggregate/evolve_with_arguments_swapped` |
//! | a field that cannot be encoded | `event/field_not_serialize` |
//! | an option with a typing error | `event/unknown_key_on_variant`, `event/unknown_key_like_one_of_another_place` |
//! | an event enum without an id | `event/missing_name` |
//! | an entity without its events | `aggregate/missing_event` |
//! | an event enum without `#[serde(tag)]` | the other way round: `event/serde_on_enum`, `event/serde_on_variant` |
//! | an aggregate without its events | `aggregate/missing_event` |
//! | an enum in the place of a struct | right with us: a state may be an enum (`pass/trailing_commas`) |
//! | an unknown key | `event/unknown_key_on_*`, `aggregate/unknown_key` |
//! | a missing handler for an event | `aggregate/no_evolve`; of a command `aggregate/no_decide` |
//! | the trait is not imported | `pass/no_imports`, `derive/hygiene.rs` |
//! | two events of one name | `event/name_twice` |
//! | an unknown key, an unknown field | `event/unknown_key_on_*`; fields are not named in attributes |
//! | a duplicate event name | `event/name_twice` |
//! | several mistakes at once | `event/many_mistakes`, `aggregate/many_mistakes` |
#![cfg(feature = "derive")]

#[test]
fn mistakes_in_events_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/event/*.rs");
}

#[test]
fn mistakes_in_aggregates_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/aggregate/*.rs");
}

#[test]
fn mistakes_in_views_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/view/*.rs");
}

#[test]
fn what_is_right_compiles() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}
