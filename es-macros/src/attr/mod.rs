//! Parsing of attributes: `#[event(key, key = value, key(...))]` becomes a list of [`Item`]s.
//!
//! An attribute is split at its commas before the items are parsed, so that an error in one item does not hide the
//! errors in others. [`keys`] defines the keys, [`value`] reads their values.

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

/// The form of an item.
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

/// The keys at one place, including misspelt ones and those whose values cannot be parsed. A key that is mentioned is
/// not reported as missing.
#[derive(Debug, Default)]
pub(crate) struct MentionedKeys {
    keys: Vec<String>,
    /// Whether an attribute could not be parsed, which may mention any key.
    has_unreadable_attribute: bool,
}

impl MentionedKeys {
    /// Returns whether a key is mentioned.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.has_unreadable_attribute || self.keys.iter().any(|mentioned| mentioned == key)
    }

    fn add(&mut self, key: &impl ToString) {
        self.keys.push(key.to_string());
    }
}

/// Returns the items of all attributes of a derive macro at one place.
///
/// A key that is unknown, duplicate or not allowed at the place is reported to `cx` and omitted.
pub(crate) fn items(cx: &Ctxt, derive: Derive, place: Place, attributes: &[Attribute]) -> (Vec<Item>, MentionedKeys) {
    let mut items: Vec<Item> = Vec::new();
    let mut mentioned = MentionedKeys::default();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(derive.attribute())) {
        match content(cx, derive, place, attribute) {
            Some(tokens) => collect_items(cx, derive, place, tokens, &mut items, &mut mentioned),
            None => mentioned.has_unreadable_attribute = true,
        }
    }
    (items, mentioned)
}

/// Returns the items of a list in an attribute, checked as in [`items`].
pub(crate) fn nested_items(cx: &Ctxt, derive: Derive, place: Place, tokens: TokenStream) -> (Vec<Item>, MentionedKeys) {
    let mut items = Vec::new();
    let mut mentioned = MentionedKeys::default();
    collect_items(cx, derive, place, tokens, &mut items, &mut mentioned);
    (items, mentioned)
}

fn collect_items(
    cx: &Ctxt,
    derive: Derive,
    place: Place,
    tokens: TokenStream,
    items: &mut Vec<Item>,
    mentioned: &mut MentionedKeys,
) {
    for tokens in split(cx, tokens) {
        let Some(item) = parse_item(cx, tokens, place.example(derive), mentioned) else { continue };
        match keys::check(derive, place, &item, items) {
            Ok(()) => items.push(item),
            Err(error) => {
                cx.error(item.key.span(), error.message);
                error.suggestion.into_iter().for_each(|key| mentioned.add(&key));
            }
        }
    }
}

/// Returns the tokens in the parentheses of an attribute.
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

fn parse_item(cx: &Ctxt, tokens: TokenStream, example: &str, mentioned: &mut MentionedKeys) -> Option<Item> {
    let all = tokens.clone();
    let mut rest = tokens.into_iter();
    let Some(TokenTree::Ident(key)) = rest.next() else {
        cx.error_on(all, format!("expected a key, as in `{example}`"));
        return None;
    };
    mentioned.add(&key);
    let form = match rest.next() {
        None => Form::Flag,
        Some(TokenTree::Punct(equals)) if equals.as_char() == '=' => {
            let value: TokenStream = rest.collect();
            if value.is_empty() {
                cx.error(equals.span(), format!("expected a value after the `=` of `{key}`"));
                return None;
            }
            return Some(Item { key, form: Form::Value(value) });
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => Form::List(group.stream()),
        Some(other) => {
            cx.error(other.span(), format!("expected `,`, `=` or `(` after `{key}`"));
            return None;
        }
    };
    if let Some(more) = rest.next() {
        cx.error(more.span(), format!("expected `,` after `{key}`"));
    }
    Some(Item { key, form })
}

/// Returns the items of all `#[serde(...)]` attributes. Items that cannot be parsed are omitted: serde reports them.
pub(crate) fn serde_items(attributes: &[Attribute]) -> Vec<Item> {
    let (ignored, mut mentioned) = (Ctxt::default(), MentionedKeys::default());
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("serde"))
        .filter_map(|attribute| attribute.meta.require_list().ok())
        .flat_map(|list| split(&ignored, list.tokens.clone()))
        .filter_map(|tokens| parse_item(&ignored, tokens, "", &mut mentioned))
        .collect()
}

/// Splits tokens at commas, except at commas in parentheses or in the angle brackets of a type.
pub(crate) fn split(cx: &Ctxt, tokens: TokenStream) -> Vec<TokenStream> {
    let mut parts = Vec::new();
    let mut part = TokenStream::new();
    let (mut depth, mut previous) = (0_usize, ' ');
    for token in tokens {
        let punct = if let TokenTree::Punct(punct) = &token { punct.as_char() } else { ' ' };
        match punct {
            ',' if depth == 0 => push_part(cx, &mut parts, &mut part, token.span()),
            _ => part.extend([token]),
        }
        match punct {
            '<' => depth += 1,
            // The `>` of `->` and `=>` does not close a bracket.
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

fn push_part(cx: &Ctxt, parts: &mut Vec<TokenStream>, part: &mut TokenStream, comma: Span) {
    if part.is_empty() {
        cx.error(comma, "unexpected `,`: remove it");
    } else {
        parts.push(std::mem::take(part));
    }
}
