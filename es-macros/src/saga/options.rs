//! The options of a step: the keys that `#[saga_step(...)]` and `#[step_function(...)]` share.

use std::time::Duration;

use proc_macro2::Ident;
use syn::{LitStr, Path, parse_quote};

use crate::attr::keys::Place;
use crate::attr::value::{Number, Reader};
use crate::attr::{self, Form, MentionedKeys};
use crate::ctxt::Ctxt;
use crate::suggest;

/// The name and the options of a step.
pub(super) struct Options {
    /// The path of es-saga.
    pub(super) krate: Path,
    pub(super) name: Option<LitStr>,
    pub(super) version: Option<Number>,
    pub(super) retry: Retry,
    pub(super) timeout: Option<Duration>,
    /// The variant of `es_saga::Undo`.
    pub(super) undo: Option<Ident>,
    pub(super) is_pivot: bool,
    pub(super) concurrency: Option<Number>,
}

/// The content of `retry(...)`.
#[derive(Default)]
pub(super) struct Retry {
    pub(super) attempts: Option<Number>,
    pub(super) first: Option<Duration>,
    pub(super) cap: Option<Duration>,
    pub(super) max_elapsed: Option<Duration>,
    /// The variant of `es_saga::Exhausted`.
    pub(super) exhausted: Option<Ident>,
}

/// The values of `undo = "..."` and the variants of `es_saga::Undo`.
const UNDO: [(&str, &str); 3] = [("compensate", "Compensate"), ("ignore", "Ignore"), ("pause", "Pause")];
/// The values of `exhausted = "..."` and the variants of `es_saga::Exhausted`.
const EXHAUSTED: [(&str, &str); 3] = [("compensate", "Compensate"), ("pause", "Pause"), ("kill", "Kill")];
/// `cap` of `es_saga::StepRetry::DEFAULT`.
const DEFAULT_CAP: Duration = Duration::from_secs(30);

impl Options {
    pub(super) fn new() -> Self {
        Self {
            krate: parse_quote!(::es_saga),
            name: None,
            version: None,
            retry: Retry::default(),
            timeout: None,
            undo: None,
            is_pivot: false,
            concurrency: None,
        }
    }

    /// Reads one item. Errors are reported to the context of the reader.
    pub(super) fn read_item(&mut self, reader: Reader<'_>) {
        match reader.item.key.to_string().as_str() {
            "name" => self.name = reader.text().filter(|name| check_name(reader.cx, "a saga step", name)),
            "version" => self.version = reader.number(),
            "retry" => self.retry = retry(reader),
            "timeout" => self.timeout = reader.time(),
            "undo" => self.undo = undo(reader),
            "pivot" => self.is_pivot = flag(reader),
            "concurrency" => self.concurrency = reader.number(),
            "crate" => {
                if let Some(path) = reader.crate_path() {
                    self.krate = path;
                }
            }
            _ => {}
        }
    }

    /// Reports a missing name.
    pub(super) fn check_mentioned(cx: &Ctxt, mentioned: &MentionedKeys, ident: &Ident) {
        if !mentioned.has("name") {
            let example = suggest::kebab_case(&ident.to_string());
            cx.error(
                ident.span(),
                format!("missing `name`: add `name = {example:?}`, under which stored sagas find the step"),
            );
        }
    }
}

/// Reads `undo = "policy"`.
pub(super) fn undo(reader: Reader<'_>) -> Option<Ident> {
    reader.choice(&UNDO)
}

fn retry(reader: Reader<'_>) -> Retry {
    let mut retry = Retry::default();
    let Some(tokens) = reader.list("options in parentheses") else { return retry };
    let (cx, derive) = (reader.cx, reader.derive);
    let (items, _) = attr::nested_items(cx, derive, Place::Retry, tokens);
    for item in &items {
        let reader = Reader { cx, derive, item };
        match item.key.to_string().as_str() {
            "attempts" => retry.attempts = reader.number(),
            "first" => retry.first = reader.time(),
            "cap" => retry.cap = reader.time(),
            "max_elapsed" => retry.max_elapsed = reader.time(),
            "exhausted" => retry.exhausted = reader.choice(&EXHAUSTED),
            _ => {}
        }
    }
    let cap = retry.cap.unwrap_or(DEFAULT_CAP);
    if let Some(first) = retry.first.filter(|first| *first > cap)
        && let Some(item) = items.iter().find(|item| item.key == "first")
    {
        cx.error_on(item, format!("`first` is longer than `cap`: expected at most {cap:?}, found {first:?}"));
    }
    retry
}

/// Reads `key`.
fn flag(reader: Reader<'_>) -> bool {
    let key = &reader.item.key;
    if !matches!(reader.item.form, Form::Flag) {
        reader.cx.error_on(reader.item, format!("`{key}` has no value: write `{key}`"));
    }
    true
}

/// Returns whether a name is valid, as `Saga::define` requires.
pub(super) fn is_valid_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.chars().all(is_allowed)
}

/// Checks a name as `Saga::define` does. Returns whether it is valid.
pub(super) fn check_name(cx: &Ctxt, owner: &str, name: &LitStr) -> bool {
    let text = name.value();
    let is_valid = is_valid_name(&text);
    if !is_valid {
        cx.error_on(
            name,
            format!("the name of {owner} consists of ASCII letters, digits, `-`, `_` and `.`, found {text:?}"),
        );
    }
    is_valid
}
