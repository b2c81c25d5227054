//! Names in the log: wire names, categories and keys of tags.

use std::collections::BTreeMap;

use proc_macro2::Span;
use syn::LitStr;

use crate::ast::EventInput;
use crate::ctxt::Ctxt;

/// The prefix of the categories and event types that are reserved for the framework.
const RESERVED_PREFIX: &str = "es.";
/// The maximum length of a name in bytes; equal to `es_core::model::MAX_NAME_BYTES`.
const MAX_NAME_BYTES: usize = 512;
/// The maximum length of a category in bytes. The rest of a stream name is for `-` and the id.
const MAX_CATEGORY_BYTES: usize = 400;
/// The maximum length of a tag key in bytes. The rest of a tag is for `:` and the value.
const MAX_KEY_BYTES: usize = 400;

/// Checks that the names of an event type are valid and unique.
pub(crate) fn check(cx: &Ctxt, input: &EventInput<'_>) {
    let mut seen = BTreeMap::new();
    for case in input.body.cases() {
        for name in case.name.iter().chain(&case.aliases) {
            check_wire_name(cx, name);
            check_unique(cx, &mut seen, name, &format!("`{}`", case.ident));
        }
        for tag in &case.tags {
            check_text(cx, tag.key_span, "the key of a tag", &tag.key, MAX_KEY_BYTES);
        }
    }
    for name in &input.retired {
        check_wire_name(cx, name);
        check_unique(cx, &mut seen, name, "`retired`");
    }
}

fn check_unique(cx: &Ctxt, seen: &mut BTreeMap<String, String>, name: &LitStr, owner: &str) {
    let text = name.value();
    match seen.get(&text) {
        Some(first) => cx.error_on(name, format!("duplicate wire name {text:?}: {first} has it already")),
        None => drop(seen.insert(text, owner.to_owned())),
    }
}

fn check_wire_name(cx: &Ctxt, name: &LitStr) {
    check_text(cx, name.span(), "a wire name", &name.value(), MAX_NAME_BYTES);
    refuse_reserved(cx, name, "wire name");
}

/// Reports a name that is reserved for the framework.
fn refuse_reserved(cx: &Ctxt, name: &LitStr, what: &str) {
    let text = name.value();
    if text.starts_with(RESERVED_PREFIX) {
        cx.error_on(
            name,
            format!("reserved {what} {text:?}: names that start with {RESERVED_PREFIX:?} are for the framework"),
        );
    }
}

/// Checks the category of an aggregate.
pub(crate) fn category(cx: &Ctxt, category: &LitStr) {
    let value = category.value();
    check_text(cx, category.span(), "a category", &value, MAX_CATEGORY_BYTES);
    refuse_reserved(cx, category, "category");
    if value.contains('-') {
        let other = value.replace('-', "_");
        cx.error_on(
            category,
            format!(
                "a category cannot contain `-`, which ends the category in a stream name: the stream `{value}-1` \
                 has the category `{}`; write {other:?}",
                value.split('-').next().unwrap_or_default()
            ),
        );
    }
}

fn check_text(cx: &Ctxt, span: Span, what: &str, text: &str, longest: usize) {
    if text.is_empty() || text.len() > longest {
        cx.error(span, format!("{what} must have 1 to {longest} bytes, found {}", text.len()));
    }
    if let Some(found) = text.chars().find(|c| c.is_control()) {
        cx.error(span, format!("{what} cannot contain control characters, found {found:?}"));
    }
}
