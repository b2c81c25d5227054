//! The rules of `#[derive(Event)]`.

use syn::Data;

use super::{fields, names, serde, versions};
use crate::ast::{Body, Case, EventInput};
use crate::ctxt::Ctxt;

/// Checks an event type.
pub(crate) fn check_event(cx: &Ctxt, input: &EventInput<'_>) {
    let source = input.source;
    for lifetime in source.generics.lifetimes() {
        cx.error_on(&lifetime.lifetime, "an event cannot borrow: use `String` or `Cow<'static, str>`");
    }
    match (&input.body, &source.data) {
        (Body::Union, Data::Union(data)) => {
            cx.error_on(data.union_token, "an event cannot be a union: use an enum with a variant for each event");
        }
        (Body::Enum(cases), _) => {
            if cases.is_empty() {
                cx.error(source.ident.span(), "an event enum needs at least one variant: each variant is an event");
            }
            serde::check_enum(cx, &source.attrs);
            cases.iter().for_each(|case| serde::check_variant(cx, case.attributes));
        }
        (Body::Struct(_), _) => serde::check_struct(cx, &source.attrs),
        _ => {}
    }
    fields::check(cx, &source.data, fields::Owner::Event);
    for case in input.body.cases() {
        check_name(cx, case);
        if case.has_valid_versions {
            versions::check(cx, case);
        }
    }
    names::check(cx, input);
}

fn check_name(cx: &Ctxt, case: &Case<'_>) {
    if !case.mentioned.has("name") {
        let (ident, name) = (case.ident, case.wire_name());
        cx.error(
            ident.span(),
            format!(
                "`{ident}` has no wire name: add `#[event(name = {name:?})]`, the name in the log, which must \
                 not change when the type is renamed"
            ),
        );
    }
}
