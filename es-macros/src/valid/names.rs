//! Names that go into the log: wire names, categories, keys of tags.

use std::collections::BTreeMap;

use proc_macro2::Span;
use syn::LitStr;

use crate::ast::EventInput;
use crate::ctxt::Ctxt;

/// The prefix of categories and event types that a store refuses from users.
const RESERVED_PREFIX: &str = "es.";
/// The longest name, in bytes; the same as `es_core::model::MAX_NAME_BYTES`.
const MAX_NAME_BYTES: usize = 512;
/// The longest category, in bytes: what remains of a name is for `-` and the id.
const MAX_CATEGORY_BYTES: usize = 400;
/// The longest key of a tag, in bytes: what remains of a name is for `:` and the value.
const MAX_KEY_BYTES: usize = 400;

/// Checks the names of an event type by themselves and against each other.
pub(crate) fn all(cx: &Ctxt, input: &EventInput<'_>) {
    let mut seen = BTreeMap::new();
    for case in input.body.cases() {
        for name in case.name.iter().chain(&case.aliases) {
            wire_name(cx, name);
            unique(cx, &mut seen, name, &format!("`{}`", case.ident));
        }
        for tag in &case.tags {
            text(cx, tag.key_span, "the key of a tag", &tag.key, MAX_KEY_BYTES);
        }
    }
    for name in &input.retired {
        wire_name(cx, name);
        unique(cx, &mut seen, name, "`retired`");
    }
}

fn unique(cx: &Ctxt, seen: &mut BTreeMap<String, String>, name: &LitStr, owner: &str) {
    let text = name.value();
    match seen.get(&text) {
        Some(first) => cx.error_on(
            name,
            format!(
                "the wire name {text:?} belongs to {first} already: a record under it could be read in one way only"
            ),
        ),
        None => drop(seen.insert(text, owner.to_owned())),
    }
}

fn wire_name(cx: &Ctxt, name: &LitStr) {
    text(cx, name.span(), "a wire name", &name.value(), MAX_NAME_BYTES);
    not_of_the_framework(cx, name, "wire name");
}

/// Refuses a name that a store keeps for the framework.
fn not_of_the_framework(cx: &Ctxt, name: &LitStr, what: &str) {
    let text = name.value();
    if text.starts_with(RESERVED_PREFIX) {
        cx.error_on(
            name,
            format!("names that begin with {RESERVED_PREFIX:?} belong to the framework, found the {what} {text:?}; choose another name"),
        );
    }
}

/// Checks the category of an aggregate.
pub(crate) fn category(cx: &Ctxt, category: &LitStr) {
    let value = category.value();
    text(cx, category.span(), "a category", &value, MAX_CATEGORY_BYTES);
    not_of_the_framework(cx, category, "category");
    if value.contains('-') {
        let other = value.replace('-', "_");
        cx.error_on(
            category,
            format!(
                "a category must not have `-`, because the category of a stream ends at the first one: \
                 `{value}-1` would be of the category `{}`; write {other:?}",
                value.split('-').next().unwrap_or_default()
            ),
        );
    }
}

fn text(cx: &Ctxt, span: Span, what: &str, text: &str, longest: usize) {
    if text.is_empty() || text.len() > longest {
        cx.error(span, format!("{what} has 1 to {longest} bytes, found {}", text.len()));
    }
    if let Some(found) = text.chars().find(|c| c.is_control()) {
        cx.error(span, format!("{what} must not have control characters, found {found:?}; remove it"));
    }
}
