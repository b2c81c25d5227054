//! The rules of `#[derive(Aggregate)]`.

use syn::{Data, LitStr, Type};

use super::{fields, names};
use crate::ast::{AggregateInput, Snapshot};
use crate::ctxt::Ctxt;

/// A complete declaration of an aggregate.
pub(crate) struct Declaration<'a> {
    pub(crate) input: &'a AggregateInput<'a>,
    pub(crate) category: &'a LitStr,
    pub(crate) id: &'a Type,
    pub(crate) event: &'a Type,
}

/// Checks an aggregate. Returns `None` if a required key is missing.
pub(crate) fn check_aggregate<'a>(cx: &Ctxt, input: &'a AggregateInput<'a>) -> Option<Declaration<'a>> {
    if let Data::Union(data) = &input.source.data {
        cx.error_on(data.union_token, "an aggregate cannot be a union: use a struct or an enum");
    }
    check_required(cx, input);
    if let Some(category) = &input.category {
        names::category(cx, category);
    }
    if let Some(snapshot) = &input.snapshot {
        check_snapshot(cx, snapshot);
        fields::check_state_variants(cx, &input.source.data);
        fields::check(cx, &input.source.data, fields::Owner::State);
    }
    Some(Declaration {
        input,
        category: input.category.as_ref()?,
        id: input.id.as_ref()?,
        event: input.event.as_ref()?,
    })
}

/// Reports each required key that is missing.
fn check_required(cx: &Ctxt, input: &AggregateInput<'_>) {
    let attribute = input.source.attrs.iter().find(|attribute| attribute.path().is_ident("aggregate"));
    for (key, example, what) in [
        ("category", "category = \"order\"", "the prefix of its streams"),
        ("id", "id = OrderId", "the type of its id"),
        ("event", "event = OrderEvent", "the type of its events"),
    ] {
        if input.mentioned.has(key) {
            continue;
        }
        let message = format!("missing `{key}`: add `{example}`, {what}, to `#[aggregate(...)]`");
        match attribute {
            Some(attribute) => cx.error_on(&attribute.meta, message),
            None => cx.error(input.source.ident.span(), message),
        }
    }
}

fn check_snapshot(cx: &Ctxt, snapshot: &Snapshot) {
    if !snapshot.mentioned.has("every") && !snapshot.mentioned.has("load_cost") {
        cx.error(
            snapshot.span,
            "`snapshot` needs a condition: add `every = 100` (events), `load_cost = \"5ms\"`, or both",
        );
    }
}
