//! What serde may not be told of an event.

use syn::Attribute;

use crate::attr::serde_items;
use crate::ctxt::Ctxt;

const WIRE_NAME: &str = "the wire name is `#[event(name = \"...\")]`, and serde's name is not recorded";

/// An enum of events is written without the name of the variant, which takes serde's default representation.
pub(crate) fn container(cx: &Ctxt, attributes: &[Attribute]) {
    for item in serde_items(attributes) {
        let key = item.key.to_string();
        let why = match key.as_str() {
            "tag" | "content" | "untagged" => "the wire name stands in the record, so the content has no tag",
            "into" | "from" | "try_from" | "transparent" | "remote" => {
                "each variant is written by itself, not as part of another type; convert in an upcaster or in a field"
            }
            "variant_identifier" | "field_identifier" => "an event is more than an identifier",
            "rename_all" => "the wire name of a variant is `#[event(name = \"...\")]`; fields have `rename_all_fields`",
            _ => continue,
        };
        cx.error_on(&item.key, format!("remove `{key}` from the `#[serde(...)]` of an event enum: {why}"));
    }
}

/// The wire name of a struct that is a single event is not the name that serde gives it.
pub(crate) fn single(cx: &Ctxt, attributes: &[Attribute]) {
    for item in serde_items(attributes).iter().filter(|item| item.key == "rename") {
        cx.error_on(&item.key, format!("remove `rename` from the `#[serde(...)]` of an event: {WIRE_NAME}"));
    }
}

/// Each variant is an event that is written as itself and read again.
pub(crate) fn variant(cx: &Ctxt, attributes: &[Attribute]) {
    for item in serde_items(attributes) {
        let key = item.key.to_string();
        let why = match key.as_str() {
            "rename" => WIRE_NAME,
            "alias" => "a former wire name is `#[event(alias(\"...\"))]`",
            "untagged" => "the wire name stands in the record, so the content has no tag",
            "other" => {
                "a record with an unknown wire name is an error, so that no event is lost; list known ones in \
                 `#[event(retired(\"...\"))]` on the enum"
            }
            "skip" | "skip_deserializing" => {
                "what is written must be read again; use `skip_serializing` for an event that is no longer written"
            }
            _ => continue,
        };
        cx.error_on(&item.key, format!("remove `{key}` from the `#[serde(...)]` of an event: {why}"));
    }
}
