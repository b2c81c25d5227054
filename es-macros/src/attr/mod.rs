//! Attributes as they are written: `#[event(key, key = value, key(...))]` as a list of [`Item`]s.
//!
//! An attribute is taken apart at its commas before anything is understood, so that a mistake in one item does not hide
//! those in the others. What the keys are is said in [`keys`], what their values are in [`value`].

pub(crate) mod keys;
pub(crate) mod value;

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Meta};

use crate::ctxt::Ctxt;
use keys::{Derive, Place};

/// One item of an attribute.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key: Ident,
    pub(crate) form: Form,
}

/// What stands behind the key of an item.
#[derive(Debug)]
pub(crate) enum Form {
    /// `key`
    Flag,
    /// `key = tokens`
    Value(TokenStream),
    /// `key(tokens)`
    List(TokenStream),
}

impl ToTokens for Item {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.key.to_tokens(tokens);
        match &self.form {
            Form::Flag => {}
            Form::Value(more) | Form::List(more) => more.to_tokens(tokens),
        }
    }
}

/// The keys that stand at one place, readable or not, right or misspelt: what was meant is not missing, too.
#[derive(Debug, Default)]
pub(crate) struct Meant {
    keys: Vec<String>,
    anything: bool,
}

impl Meant {
    /// Whether a key stands there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.anything || self.keys.iter().any(|meant| meant == key)
    }

    fn add(&mut self, key: &impl ToString) {
        self.keys.push(key.to_string());
    }
}

/// The items of all attributes of a derive that stand at one place. Keys that are unknown, stand at the wrong place or
/// stand twice are reported and left out.
pub(crate) fn items(cx: &Ctxt, derive: Derive, place: Place, attributes: &[Attribute]) -> (Vec<Item>, Meant) {
    let mut items: Vec<Item> = Vec::new();
    let mut meant = Meant::default();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(derive.attribute())) {
        match content(cx, derive, place, attribute) {
            Some(tokens) => more_items(cx, derive, place, tokens, &mut items, &mut meant),
            None => meant.anything = true,
        }
    }
    (items, meant)
}

/// The items of a list within an attribute, as [`items`].
pub(crate) fn nested_items(cx: &Ctxt, derive: Derive, place: Place, tokens: TokenStream) -> (Vec<Item>, Meant) {
    let mut items = Vec::new();
    let mut meant = Meant::default();
    more_items(cx, derive, place, tokens, &mut items, &mut meant);
    (items, meant)
}

fn more_items(cx: &Ctxt, derive: Derive, place: Place, tokens: TokenStream, items: &mut Vec<Item>, meant: &mut Meant) {
    for tokens in split(cx, tokens) {
        let Some(item) = parse_item(cx, tokens, place.example(derive), meant) else { continue };
        match keys::check(derive, place, &item, items) {
            Ok(()) => items.push(item),
            Err(wrong) => {
                cx.error(item.key.span(), wrong.message);
                wrong.meant.into_iter().for_each(|key| meant.add(&key));
            }
        }
    }
}

/// What stands within the parentheses of an attribute.
fn content(cx: &Ctxt, derive: Derive, place: Place, attribute: &Attribute) -> Option<TokenStream> {
    match &attribute.meta {
        Meta::List(list) => Some(list.tokens.clone()),
        other => {
            let (name, example) = (derive.attribute(), place.example(derive));
            cx.error_on(other, format!("expected a list in parentheses, as in `#[{name}({example})]`"));
            None
        }
    }
}

fn parse_item(cx: &Ctxt, tokens: TokenStream, example: &str, meant: &mut Meant) -> Option<Item> {
    let all = tokens.clone();
    let mut rest = tokens.into_iter();
    let Some(TokenTree::Ident(key)) = rest.next() else {
        cx.error_on(all, format!("expected a key, as in `{example}`"));
        return None;
    };
    meant.add(&key);
    let form = match rest.next() {
        None => Form::Flag,
        Some(TokenTree::Punct(equals)) if equals.as_char() == '=' => {
            let value: TokenStream = rest.collect();
            if value.is_empty() {
                cx.error(equals.span(), format!("expected a value behind the `=` of `{key}`"));
                return None;
            }
            return Some(Item { key, form: Form::Value(value) });
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => Form::List(group.stream()),
        Some(other) => {
            cx.error(other.span(), format!("expected `,`, `=` or `(` behind `{key}`"));
            return None;
        }
    };
    if let Some(more) = rest.next() {
        cx.error(more.span(), format!("expected `,` behind `{key}`"));
    }
    Some(Item { key, form })
}

/// The items of all `#[serde(...)]` attributes. What serde cannot read, serde reports.
pub(crate) fn serde_items(attributes: &[Attribute]) -> Vec<Item> {
    let (quiet, mut meant) = (Ctxt::default(), Meant::default());
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("serde"))
        .filter_map(|attribute| attribute.meta.require_list().ok())
        .flat_map(|list| split(&quiet, list.tokens.clone()))
        .filter_map(|tokens| parse_item(&quiet, tokens, "", &mut meant))
        .collect()
}

/// Takes tokens apart at the commas that stand within neither parentheses nor the angle brackets of a type.
pub(crate) fn split(cx: &Ctxt, tokens: TokenStream) -> Vec<TokenStream> {
    let mut parts = Vec::new();
    let mut part = TokenStream::new();
    let (mut depth, mut previous) = (0_usize, ' ');
    for token in tokens {
        let punct = if let TokenTree::Punct(punct) = &token { punct.as_char() } else { ' ' };
        match punct {
            ',' if depth == 0 => take_part(cx, &mut parts, &mut part, token.span()),
            _ => part.extend([token]),
        }
        match punct {
            '<' => depth += 1,
            // NOTE: the `>` of `->` and `=>` closes nothing.
            '>' if previous != '-' && previous != '=' => depth = depth.saturating_sub(1),
            _ => {}
        }
        previous = punct;
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

fn take_part(cx: &Ctxt, parts: &mut Vec<TokenStream>, part: &mut TokenStream, comma: Span) {
    if part.is_empty() {
        cx.error(comma, "expected something before this `,`; remove it");
    } else {
        parts.push(std::mem::take(part));
    }
}
