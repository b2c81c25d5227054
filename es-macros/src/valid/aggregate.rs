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
    check_conflict(cx, input);
    check_owner(cx, input);
    check_heuristic(cx, input);
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

/// The levels without one order of events: two nodes may append to one aggregate at the same time.
const CONCURRENT_LEVELS: [&str; 2] = ["causal", "eventual"];

/// Checks that a causal aggregate answers conflicts, and that an aggregate without conflicts does not.
fn check_conflict(cx: &Ctxt, input: &AggregateInput<'_>) {
    if input.consistency.is_none() && input.mentioned.has("consistency") {
        // The level is unknown, which is reported.
        return;
    }
    let level = input.consistency.as_ref().map_or_else(|| "local".to_owned(), |level| level.text.value());
    match (&input.consistency, &input.conflict) {
        (Some(consistency), None)
            if level == "causal" && !input.mentioned.has("conflict") && !input.mentioned.has("owner") =>
        {
            cx.error_on(
                &consistency.text,
                "missing `conflict`: two nodes can append to a causal aggregate without knowing of each other; add \
                 `conflict = \"canonical\"` if the state that `evolve` derives from their events in canonical order is \
                 right, `conflict = \"resolve\"` to answer each pair of such events by `impl es_core::Resolve`, or \
                 `conflict = \"crdt\"` if each field of the state is a CRDT, as the types of es-crdt are; or add \
                 `owner` to let one node decide each stream",
            );
        }
        (_, Some(conflict)) if !CONCURRENT_LEVELS.contains(&level.as_str()) => cx.error_on(
            &conflict.text,
            format!(
                "`conflict` is for the levels `causal` and `eventual`: the events of a `{level}` aggregate have one \
                 order, so none of them conflict; remove `conflict`"
            ),
        ),
        (_, Some(conflict)) if conflict.name == "Crdt" && matches!(input.source.data, Data::Enum(_)) => cx.error_on(
            &conflict.text,
            "an enum is not a CRDT: which variant it has depends on the order of concurrent events; use a struct whose \
             fields are CRDTs, or another `conflict`",
        ),
        _ => {}
    }
}

/// Checks that an aggregate with an owner is replicated, and has no answer to conflicts.
fn check_owner(cx: &Ctxt, input: &AggregateInput<'_>) {
    let Some(owner) = &input.owner else { return };
    if input.consistency.is_none() && input.mentioned.has("consistency") {
        // The level is unknown, which is reported.
        return;
    }
    let level = input.consistency.as_ref().map_or_else(|| "local".to_owned(), |level| level.text.value());
    if level != "causal" {
        cx.error(
            owner.span,
            format!(
                "`owner` is for the level `causal`, of which one node decides each stream and the others have copies; \
                 the level here is `{level}`: declare `consistency = \"causal\"`, or remove `owner`"
            ),
        );
    } else if let Some(conflict) = &input.conflict {
        cx.error_on(
            &conflict.text,
            "`conflict` is for aggregates that every node decides; with `owner`, one node decides each stream: remove \
             one of them",
        );
    }
}

/// Checks that an aggregate with a heuristic outcome can take part in a transaction.
fn check_heuristic(cx: &Ctxt, input: &AggregateInput<'_>) {
    let (Some(heuristic), Some(level)) = (&input.heuristic, &input.consistency) else { return };
    let level = level.text.value();
    if CONCURRENT_LEVELS.contains(&level.as_str()) {
        cx.error_on(
            &heuristic.text,
            format!(
                "`heuristic` is for aggregates that take part in distributed transactions: a lock cannot keep other \
                 nodes from writing an aggregate of the level `{level}`; remove `heuristic`"
            ),
        );
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
