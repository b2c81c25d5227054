//! The chain of versions of an event, which has no gap between the oldest version and the current one.

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

/// Checks that old versions are listed in ascending order without duplicates, and are older than the current version.
fn check_order(cx: &Ctxt, case: &Case<'_>) -> bool {
    let current = case.current();
    let mut in_order = true;
    let mut previous = 0;
    for old in &case.upcasts {
        let Number { value, span } = old.version;
        let message = if value >= current {
            let next = value.saturating_add(1);
            format!(
                "version {value} is not older than the current version {current}: remove it, or write \
                 `version = {next}`"
            )
        } else if value == previous {
            format!("duplicate version {value}: remove one")
        } else if value < previous {
            format!("version {value} is listed after version {previous}: list old versions in ascending order")
        } else {
            previous = value;
            continue;
        };
        cx.error(span, message);
        in_order = false;
    }
    in_order
}

/// Checks that no version is missing between two listed ones.
fn check_gaps(cx: &Ctxt, case: &Case<'_>) {
    let next = case.upcasts.iter().skip(1).map(|old| old.version.value).chain([case.current()]);
    for (old, next) in case.upcasts.iter().zip(next) {
        let Number { value, span } = old.version;
        if value + 1 < next {
            let advice = advice(case, value + 1, next);
            cx.error(span, format!("version {} is missing after version {value}: {advice}", value + 1));
        }
    }
}

/// Checks `oldest`, which declares that older versions were never recorded.
fn check_oldest(cx: &Ctxt, case: &Case<'_>) {
    let (current, listed) = (case.current(), case.oldest());
    match (case.oldest, case.version) {
        (Some(Number { value, span }), _) if value > current => {
            cx.error(span, format!("`oldest` cannot be greater than the current version {current}"));
        }
        (Some(Number { value, span }), _) if value > listed => {
            cx.error(span, format!("`upcast` lists the older version {listed}: write `oldest = {listed}`"));
        }
        (Some(Number { value, span }), _) if value < listed => {
            let advice = advice(case, value, listed);
            cx.error(span, format!("version {value} is not listed: {advice}"));
        }
        (None, Some(Number { span, .. })) if case.upcasts.is_empty() && current > 1 => {
            let advice = advice(case, 1, current);
            cx.error(
                span,
                format!(
                    "version {current} has older versions, which must stay readable: {advice}; if they were never \
                     recorded, add `oldest = {current}`"
                ),
            );
        }
        (None, _) if listed > 1 => {
            if let Some(first) = case.upcasts.first() {
                let advice = advice(case, 1, listed);
                cx.error(
                    first.version.span,
                    format!(
                        "version 1 is not listed before version {listed}: {advice}; if {}, add `oldest = {listed}`",
                        if listed == 2 {
                            "it was never recorded"
                        } else {
                            "the versions before it were never recorded"
                        },
                    ),
                );
            }
        }
        _ => {}
    }
}

/// Returns the advice to add the versions from `first` to before `end`.
fn advice(case: &Case<'_>, first: u32, end: u32) -> String {
    let stem = stem(case);
    let item = |version: u32| format!("{version} = {stem}V{version}");
    let last = end - 1;
    let items = match end - first {
        1 => item(first),
        2 => format!("{}, {}", item(first), item(last)),
        _ => format!("{}, ..., {}", item(first), item(last)),
    };
    if case.upcasts.is_empty() {
        format!("add `upcast({items})`, with the former types of the event")
    } else {
        format!("add `{items}` to `upcast(...)`")
    }
}

/// Returns the prefix of the old types' names: `OrderPlaced` if one is `OrderPlacedV1`, otherwise the name of the
/// event.
fn stem(case: &Case<'_>) -> String {
    let listed = case.upcasts.iter().find_map(|old| {
        let name = old.ty.to_token_stream().to_string();
        let stem = name.strip_suffix(&format!("V{}", old.version.value))?;
        stem.chars().all(|c| c.is_alphanumeric() || c == '_').then(|| stem.to_owned())
    });
    listed.unwrap_or_else(|| case.ident.to_string())
}
