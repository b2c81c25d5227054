//! Compiler output for invalid declarations: `ui/event`, `ui/aggregate`, `ui/view` and `ui/projection` have one file
//! for each message, with the expected output in the `.stderr` file of the same name. The files in `ui/pass` must
//! compile.
//!
//! Some messages are from the compiler and change with its version; the expected ones are from the `rust-version` of
//! the workspace. `TRYBUILD=overwrite cargo test -p es-core --test derive_ui` rewrites them: review the diff.
//!
//! The invalid inputs below are from the tests of other frameworks, with their counterparts here:
//!
//! | input elsewhere | here |
//! |---|---|
//! | a variant that does not exist | `event/upcast_from_unknown_type`, `aggregate/unknown_event` |
//! | bad syntax in an attribute | `event/bad_syntax`, `event/missing_list`, `aggregate/bad_syntax` |
//! | a union | `event/union`, `aggregate/union` |
//! | an id of type `f64` | `aggregate/id_is_a_float` |
//! | no attribute at all | `aggregate/missing_attribute`, `event/missing_name` |
//! | an id with an unknown name | none, because ids are types; similar: `event/tag_without_key` |
//! | a struct instead of an enum | valid: a struct is a single event (`derive/event.rs`) |
//! | an unknown option | `event/unknown_key_on_*`, `aggregate/unknown_key` |
//! | an upcast to an unknown sibling | `event/upcast_from_unknown_type` |
//! | an upcast without its implementation | `event/upcast_without_impl` |
//! | a handler with its arguments in the wrong order | `aggregate/evolve_with_arguments_swapped` |
//! | a field that cannot be encoded | `event/field_not_serialize` |
//! | an option with a typing error | `event/unknown_key_on_variant`, `event/misspelt_misplaced_key` |
//! | an event enum without an id | `event/missing_name` |
//! | an entity without its events | `aggregate/missing_event` |
//! | an event enum without `#[serde(tag)]` | valid; the attribute is an error: `event/serde_on_enum`, `event/serde_on_variant` |
//! | an aggregate without its events | `aggregate/missing_event` |
//! | an enum instead of a struct | valid: a state can be an enum (`pass/trailing_commas`) |
//! | an unknown key | `event/unknown_key_on_*`, `aggregate/unknown_key` |
//! | a missing handler for an event | `aggregate/no_evolve`; of a command `aggregate/no_decide` |
//! | a trait that is not imported | `pass/no_imports`, `derive/hygiene.rs` |
//! | two events with one name | `event/duplicate_name` |
//! | an unknown key, an unknown field | `event/unknown_key_on_*`; fields are not named in attributes |
//! | a duplicate event name | `event/duplicate_name` |
//! | several errors at once | `event/several_errors`, `aggregate/several_errors` |
//!
//! Declarations that compiled and lost data, with their pairs here:
//!
//! | fault | here |
//! |---|---|
//! | `None` and `Some(None)` have one encoding | `event/nested_option`, `aggregate/snapshot_with_nested_option` |
//! | a field that serde leaves out | `event/serde_skips_field`, `aggregate/snapshot_skips_field`; nested types: `derive/snapshots.rs` |
//! | `upcast(2 = V2)` without a way from version 1 | `event/upcast_without_first` |
//! | a serde name without effect | `event/serde_rename` |
#![cfg(feature = "derive")]

#[test]
fn errors_of_events() {
    trybuild::TestCases::new().compile_fail("tests/ui/event/*.rs");
}

#[test]
fn errors_of_aggregates() {
    trybuild::TestCases::new().compile_fail("tests/ui/aggregate/*.rs");
}

#[test]
fn errors_of_views() {
    trybuild::TestCases::new().compile_fail("tests/ui/view/*.rs");
}

#[test]
fn errors_of_projections() {
    trybuild::TestCases::new().compile_fail("tests/ui/projection/*.rs");
}

#[test]
fn valid_declarations_compile() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}
