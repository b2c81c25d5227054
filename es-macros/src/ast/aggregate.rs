//! The input of `#[derive(Aggregate)]`.

use std::time::Duration;

use proc_macro2::{Ident, Span};
use syn::{Attribute, Data, DeriveInput, LitStr, Path, Type};

use super::{default_crate, read_crate};
use crate::attr::keys::{Derive, Place};
use crate::attr::value::{Number, Reader};
use crate::attr::{self, Meant};
use crate::ctxt::Ctxt;
use crate::{duration, suggest};

/// An aggregate.
pub(crate) struct AggregateInput<'a> {
    pub(crate) source: &'a DeriveInput,
    /// Where es-core is.
    pub(crate) krate: Path,
    pub(crate) category: Option<LitStr>,
    pub(crate) id: Option<Type>,
    pub(crate) event: Option<Type>,
    /// The type of the consistency level.
    pub(crate) consistency: Option<Ident>,
    pub(crate) snapshot: Option<Snapshot>,
    /// Which keys were given, readable or not.
    pub(crate) meant: Meant,
}

/// `snapshot(...)`
pub(crate) struct Snapshot {
    pub(crate) span: Span,
    pub(crate) every: Option<Number>,
    pub(crate) load_cost: Option<Duration>,
    pub(crate) keep: Option<Number>,
    pub(crate) version: Option<Number>,
    /// Which keys were given, readable or not.
    pub(crate) meant: Meant,
}

/// The levels of `consistency = "..."` and their types in `es_core::model`.
const LEVELS: [(&str, &str); 5] = [
    ("local", "Local"),
    ("causal", "Causal"),
    ("eventual", "Eventual"),
    ("sequential", "Sequential"),
    ("linearizable", "Linearizable"),
];

impl<'a> AggregateInput<'a> {
    /// Takes in what was declared.
    pub(crate) fn new(cx: &Ctxt, source: &'a DeriveInput) -> Self {
        let place = if matches!(source.data, Data::Enum(_)) { Place::Enum } else { Place::Struct };
        let (items, meant) = attr::items(cx, Derive::Aggregate, place, &source.attrs);
        let mut input = Self {
            source,
            krate: default_crate(),
            category: None,
            id: None,
            event: None,
            consistency: None,
            snapshot: None,
            meant,
        };
        for item in items {
            input.take(Reader { cx, derive: Derive::Aggregate, item: &item });
        }
        refuse_inside(cx, &source.data);
        input
    }

    fn take(&mut self, reader: Reader<'_>) {
        match reader.item.key.to_string().as_str() {
            "category" => self.category = reader.text(),
            "id" => self.id = reader.ty(),
            "event" => self.event = reader.ty(),
            "consistency" => self.consistency = consistency(reader),
            "snapshot" => self.snapshot = snapshot(reader),
            "crate" => read_crate(reader, &mut self.krate),
            _ => {}
        }
    }
}

fn consistency(reader: Reader<'_>) -> Option<Ident> {
    let text = reader.text()?;
    let found = text.value();
    let names = || LEVELS.iter().map(|(name, _)| *name);
    match LEVELS.iter().find(|(name, _)| *name == found) {
        Some((_, level)) => Some(Ident::new(level, Span::call_site())),
        None => {
            let (expected, hint) = (suggest::expected(names()), suggest::did_you_mean(&found, names()));
            reader.cx.error_on(&text, format!("unknown consistency {found:?}: expected {expected}{hint}"));
            None
        }
    }
}

fn snapshot(reader: Reader<'_>) -> Option<Snapshot> {
    let tokens = reader.list("conditions in parentheses")?;
    let (cx, derive) = (reader.cx, reader.derive);
    let (items, meant) = attr::nested_items(cx, derive, Place::Snapshot, tokens);
    let span = reader.item.key.span();
    let mut snapshot = Snapshot { span, every: None, load_cost: None, keep: None, version: None, meant };
    for item in items {
        let reader = Reader { cx, derive, item: &item };
        match item.key.to_string().as_str() {
            "every" => snapshot.every = reader.number(),
            "load_cost" => snapshot.load_cost = reader.text().and_then(|text| duration::read(cx, &text)),
            "keep" => snapshot.keep = reader.number(),
            "version" => snapshot.version = reader.number(),
            _ => {}
        }
    }
    Some(snapshot)
}

/// An attribute on a variant or a field has no meaning: all of it is reported.
fn refuse_inside(cx: &Ctxt, data: &Data) {
    let on = |place, attributes: &[Attribute]| drop(attr::items(cx, Derive::Aggregate, place, attributes));
    match data {
        Data::Enum(data) => {
            for variant in &data.variants {
                on(Place::Variant, &variant.attrs);
                variant.fields.iter().for_each(|field| on(Place::Field, &field.attrs));
            }
        }
        Data::Struct(data) => data.fields.iter().for_each(|field| on(Place::Field, &field.attrs)),
        Data::Union(_) => {}
    }
}
