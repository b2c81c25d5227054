//! The serde attributes that are not allowed on events.

use syn::Attribute;

use crate::attr::serde_items;
use crate::ctxt::Ctxt;

const WIRE_NAME: &str = "serde's name is not recorded; the wire name is `#[event(name = \"...\")]`";

/// Checks an event enum: its content is encoded without the name of the variant, which requires serde's default
/// representation.
pub(crate) fn check_enum(cx: &Ctxt, attributes: &[Attribute]) {
    for item in serde_items(attributes) {
        let key = item.key.to_string();
        let why = match key.as_str() {
            "tag" | "content" | "untagged" => "the record has the wire name, so the content needs no tag",
            "into" | "from" | "try_from" | "transparent" | "remote" => {
                "each variant is encoded separately; convert in an upcaster or in a field"
            }
            "variant_identifier" | "field_identifier" => "an event is not an identifier",
            "rename_all" => {
                "the wire name of a variant is `#[event(name = \"...\")]`; for fields use `rename_all_fields`"
            }
            _ => continue,
        };
        cx.error_on(&item.key, format!("remove `{key}` from the `#[serde(...)]` of an event enum: {why}"));
    }
}

/// Checks a struct that is a single event.
pub(crate) fn check_struct(cx: &Ctxt, attributes: &[Attribute]) {
    for item in serde_items(attributes).iter().filter(|item| item.key == "rename") {
        cx.error_on(&item.key, format!("remove `rename` from the `#[serde(...)]` of an event: {WIRE_NAME}"));
    }
}

/// Checks a variant of an event enum: it must be encoded under its wire name, and decoded again.
pub(crate) fn check_variant(cx: &Ctxt, attributes: &[Attribute]) {
    for item in serde_items(attributes) {
        let key = item.key.to_string();
        let why = match key.as_str() {
            "rename" => WIRE_NAME,
            "alias" => "a former wire name is `#[event(alias(\"...\"))]`",
            "untagged" => "the record has the wire name, so the content needs no tag",
            "other" => {
                "an unknown wire name is an error, so that no event is lost; list former names in \
                 `#[event(retired(\"...\"))]` on the enum"
            }
            "skip" | "skip_deserializing" => {
                "an encoded event must be decodable; use `skip_serializing` for an event that is no longer recorded"
            }
            _ => continue,
        };
        cx.error_on(&item.key, format!("remove `{key}` from the `#[serde(...)]` of an event: {why}"));
    }
}
