//! The chain of versions of an event: without a gap from the oldest that is read to the one that is written.

use quote::ToTokens;

use crate::ast::Case;
use crate::attr::value::Number;
use crate::ctxt::Ctxt;

/// Checks the versions of one event.
pub(crate) fn check(cx: &Ctxt, case: &Case<'_>) {
    if check_order(cx, case) {
        check_gaps(cx, case);
        check_oldest(cx, case);
    }
}

/// Old versions are listed upwards, each once, and are older than the one that is written.
fn check_order(cx: &Ctxt, case: &Case<'_>) -> bool {
    let current = case.current();
    let mut in_order = true;
    let mut previous = 0;
    for old in &case.upcasts {
        let Number { value, span } = old.version;
        let message = if value >= current {
            let next = value.saturating_add(1);
            format!(
                "version {value} is not older than version {current}, which is written: remove it, or write `version = {next}`"
            )
        } else if value == previous {
            format!("version {value} is listed twice: remove one")
        } else if value < previous {
            format!("version {value} stands behind version {previous}: list old versions upwards, the oldest first")
        } else {
            previous = value;
            continue;
        };
        cx.error(span, message);
        in_order = false;
    }
    in_order
}

/// Each version between two that are known is known.
fn check_gaps(cx: &Ctxt, case: &Case<'_>) {
    let next = case.upcasts.iter().skip(1).map(|old| old.version.value).chain([case.current()]);
    for (old, next) in case.upcasts.iter().zip(next) {
        let Number { value, span } = old.version;
        if value + 1 < next {
            let add = add(case, value + 1, next);
            cx.error(span, format!("version {value} leads to version {}, which is not listed: {add}", value + 1));
        }
    }
}

/// Versions older than the oldest that is listed are left out knowingly.
fn check_oldest(cx: &Ctxt, case: &Case<'_>) {
    let (current, listed) = (case.current(), case.oldest());
    match (case.oldest, case.version) {
        (Some(Number { value, span }), _) if value > current => {
            cx.error(span, format!("`oldest` is at most the version that is written, {current}"));
        }
        (Some(Number { value, span }), _) if value > listed => {
            cx.error(span, format!("`upcast` lists version {listed}, which is older: write `oldest = {listed}`"));
        }
        (Some(Number { value, span }), _) if value < listed => {
            let add = add(case, value, listed);
            cx.error(span, format!("version {value} is to be read, but is not listed: {add}"));
        }
        (None, Some(Number { span, .. })) if case.upcasts.is_empty() && current > 1 => {
            let add = add(case, 1, current);
            cx.error(
                span,
                format!(
                    "version {current} has older versions that must stay readable: {add}; if no record of them was \
                     ever written, add `oldest = {current}`"
                ),
            );
        }
        _ => {}
    }
}

/// What to add for the versions from `first` to before `end`.
fn add(case: &Case<'_>, first: u32, end: u32) -> String {
    let stem = stem(case);
    let item = |version: u32| format!("{version} = {stem}V{version}");
    let last = end - 1;
    let items = match end - first {
        1 => item(first),
        2 => format!("{}, {}", item(first), item(last)),
        _ => format!("{}, ..., {}", item(first), item(last)),
    };
    if case.upcasts.is_empty() {
        format!("add `upcast({items})`, with the types that the event had")
    } else {
        format!("add `{items}` to `upcast(...)`")
    }
}

/// What the names of the old types begin with: `OrderPlaced` where one is `OrderPlacedV1`, else the name of the event.
fn stem(case: &Case<'_>) -> String {
    let listed = case.upcasts.iter().find_map(|old| {
        let name = old.ty.to_token_stream().to_string();
        let stem = name.strip_suffix(&format!("V{}", old.version.value))?;
        stem.chars().all(|c| c.is_alphanumeric() || c == '_').then(|| stem.to_owned())
    });
    listed.unwrap_or_else(|| case.ident.to_string())
}
