//! The rules of `#[derive(Event)]`.

use syn::Data;

use super::{names, serde, versions};
use crate::ast::{Body, Case, EventInput};
use crate::ctxt::Ctxt;

/// Checks an event type.
pub(crate) fn event(cx: &Ctxt, input: &EventInput<'_>) {
    let source = input.source;
    for lifetime in source.generics.lifetimes() {
        cx.error_on(&lifetime.lifetime, "events are owned: use `String` or `Cow<'static, str>` instead of a borrow");
    }
    match (&input.body, &source.data) {
        (Body::Union, Data::Union(data)) => {
            cx.error_on(data.union_token, "an event cannot be a union: make it an enum with a variant for each event");
        }
        (Body::Enum(cases), _) => {
            if cases.is_empty() {
                cx.error(source.ident.span(), "an event enum has at least one variant, and each variant is an event");
            }
            serde::container(cx, &source.attrs);
            cases.iter().for_each(|case| serde::variant(cx, case.attributes));
        }
        (Body::Struct(_), _) => serde::single(cx, &source.attrs),
        _ => {}
    }
    for case in input.body.cases() {
        check_name(cx, case);
        if case.versions_are_readable {
            versions::check(cx, case);
        }
    }
    names::all(cx, input);
}

fn check_name(cx: &Ctxt, case: &Case<'_>) {
    if !case.meant.has("name") {
        let (ident, name) = (case.ident, case.wire_name());
        cx.error(
            ident.span(),
            format!(
                "`{ident}` has no wire name: add `#[event(name = {name:?})]`, the name under which it is recorded, \
                 which outlives every renaming of the type"
            ),
        );
    }
}
