//! The declaration that `#[derive(Aggregate)]` reads.

use std::time::Duration;

use proc_macro2::{Ident, Span};
use syn::{Attribute, Data, DeriveInput, ExprPath, LitStr, Path, Type};

use super::{default_crate, read_crate};
use crate::attr::keys::{Derive, Place};
use crate::attr::value::{Number, Reader};
use crate::attr::{self, Form, MentionedKeys};
use crate::ctxt::Ctxt;
use crate::{duration, suggest};

/// The declaration of an aggregate.
pub(crate) struct AggregateInput<'a> {
    pub(crate) source: &'a DeriveInput,
    /// The path of es-core.
    pub(crate) krate: Path,
    pub(crate) category: Option<LitStr>,
    pub(crate) id: Option<Type>,
    pub(crate) event: Option<Type>,
    pub(crate) consistency: Option<Declared>,
    pub(crate) conflict: Option<Declared>,
    pub(crate) owner: Option<OwnerOption>,
    pub(crate) heuristic: Option<Declared>,
    pub(crate) snapshot: Option<Snapshot>,
    /// The keys in the attribute, including those whose values cannot be parsed.
    pub(crate) mentioned: MentionedKeys,
}

/// A declared value: the text of the attribute, and the name that it stands for in es-core.
pub(crate) struct Declared {
    pub(crate) text: LitStr,
    pub(crate) name: Ident,
}

/// The key `owner`.
pub(crate) struct OwnerOption {
    pub(crate) span: Span,
    /// The function that returns the name of the node which creates an aggregate, from its id.
    pub(crate) home_of: Option<ExprPath>,
}

/// The content of `snapshot(...)`.
pub(crate) struct Snapshot {
    pub(crate) span: Span,
    pub(crate) every: Option<Number>,
    pub(crate) load_cost: Option<Duration>,
    pub(crate) keep: Option<Number>,
    pub(crate) version: Option<Number>,
    /// The keys in the attribute, including those whose values cannot be parsed.
    pub(crate) mentioned: MentionedKeys,
}

/// The levels of `consistency = "..."` and their types in `es_core::model`.
const LEVELS: [(&str, &str); 5] = [
    ("local", "Local"),
    ("causal", "Causal"),
    ("eventual", "Eventual"),
    ("sequential", "Sequential"),
    ("linearizable", "Linearizable"),
];

/// The answers of `conflict = "..."` and their variants of `es_core::model::ConflictAnswer`.
const ANSWERS: [(&str, &str); 3] = [("canonical", "Canonical"), ("resolve", "Resolve"), ("crdt", "Crdt")];

/// The outcomes of `heuristic = "..."` and their variants of `es_core::aggregate::Heuristic`.
const HEURISTICS: [(&str, &str); 3] = [("never", "Never"), ("commit", "Commit"), ("abort", "Abort")];

impl<'a> AggregateInput<'a> {
    /// Parses the attributes and reports errors to `cx`.
    pub(crate) fn new(cx: &Ctxt, source: &'a DeriveInput) -> Self {
        let place = if matches!(source.data, Data::Enum(_)) { Place::Enum } else { Place::Struct };
        let (items, mentioned) = attr::items(cx, Derive::Aggregate, place, &source.attrs);
        let mut input = Self {
            source,
            krate: default_crate(),
            category: None,
            id: None,
            event: None,
            consistency: None,
            conflict: None,
            owner: None,
            heuristic: None,
            snapshot: None,
            mentioned,
        };
        for item in items {
            input.read_item(Reader { cx, derive: Derive::Aggregate, item: &item });
        }
        refuse_nested_attributes(cx, &source.data);
        input
    }

    fn read_item(&mut self, reader: Reader<'_>) {
        match reader.item.key.to_string().as_str() {
            "category" => self.category = reader.text(),
            "id" => self.id = reader.ty(),
            "event" => self.event = reader.ty(),
            "consistency" => self.consistency = declared(reader, &LEVELS),
            "conflict" => self.conflict = declared(reader, &ANSWERS),
            "owner" => self.owner = owner(reader),
            "heuristic" => self.heuristic = declared(reader, &HEURISTICS),
            "snapshot" => self.snapshot = snapshot(reader),
            "crate" => read_crate(reader, &mut self.krate),
            _ => {}
        }
    }
}

/// Reads `key = "text"` with one of the texts of a table.
fn declared(reader: Reader<'_>, table: &[(&str, &str)]) -> Option<Declared> {
    let text = reader.text()?;
    let found = text.value();
    let names = || table.iter().map(|(name, _)| *name);
    match table.iter().find(|(name, _)| *name == found) {
        Some((_, name)) => Some(Declared { text, name: Ident::new(name, Span::call_site()) }),
        None => {
            let (expected, hint) = (suggest::expected(names()), suggest::did_you_mean(&found, names()));
            let key = &reader.item.key;
            reader.cx.error_on(&text, format!("unknown {key} {found:?}: expected {expected}{hint}"));
            None
        }
    }
}

/// Reads `owner` or `owner = path::to::function`.
fn owner(reader: Reader<'_>) -> Option<OwnerOption> {
    let span = reader.item.key.span();
    match &reader.item.form {
        Form::Flag => Some(OwnerOption { span, home_of: None }),
        Form::Value(_) | Form::List(_) => reader.path().map(|path| OwnerOption { span, home_of: Some(path) }),
    }
}

fn snapshot(reader: Reader<'_>) -> Option<Snapshot> {
    let tokens = reader.list("conditions in parentheses")?;
    let (cx, derive) = (reader.cx, reader.derive);
    let (items, mentioned) = attr::nested_items(cx, derive, Place::Snapshot, tokens);
    let span = reader.item.key.span();
    let mut snapshot = Snapshot { span, every: None, load_cost: None, keep: None, version: None, mentioned };
    for item in items {
        let reader = Reader { cx, derive, item: &item };
        match item.key.to_string().as_str() {
            "every" => snapshot.every = reader.number(),
            "load_cost" => snapshot.load_cost = reader.text().and_then(|text| duration::parse_literal(cx, &text)),
            "keep" => snapshot.keep = reader.number(),
            "version" => snapshot.version = reader.number(),
            _ => {}
        }
    }
    Some(snapshot)
}

/// Reports each key of an attribute on a variant or a field, where none is allowed.
fn refuse_nested_attributes(cx: &Ctxt, data: &Data) {
    let refuse = |place, attributes: &[Attribute]| drop(attr::items(cx, Derive::Aggregate, place, attributes));
    match data {
        Data::Enum(data) => {
            for variant in &data.variants {
                refuse(Place::Variant, &variant.attrs);
                variant.fields.iter().for_each(|field| refuse(Place::Field, &field.attrs));
            }
        }
        Data::Struct(data) => data.fields.iter().for_each(|field| refuse(Place::Field, &field.attrs)),
        Data::Union(_) => {}
    }
}
