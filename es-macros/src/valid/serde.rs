//! What serde may not be told of an event.

use syn::Attribute;

use crate::attr::serde_items;
use crate::ctxt::Ctxt;

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
            _ => continue,
        };
        cx.error_on(&item.key, format!("remove `{key}` from the `#[serde(...)]` of an event enum: {why}"));
    }
}

/// Each variant is an event that is written as itself and read again.
pub(crate) fn variant(cx: &Ctxt, attributes: &[Attribute]) {
    for item in serde_items(attributes) {
        let key = item.key.to_string();
        let why = match key.as_str() {
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
