//! The declaration that `saga!` reads.

use std::time::Duration;

use proc_macro2::{Ident, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, LitStr, Path, Token, Type, Visibility, braced, parenthesized, parse_quote};

use super::line::{self, Line};
use crate::attr;
use crate::attr::keys::{Derive, Place};
use crate::attr::value::{Number, Reader};
use crate::ctxt::Ctxt;
use crate::saga::options::check_name;
use crate::suggest;

/// A saga.
pub(super) struct SagaDeclaration {
    pub(super) attributes: Vec<Attribute>,
    pub(super) vis: Visibility,
    pub(super) ident: Ident,
    /// The name and the type of the input.
    pub(super) input: (Ident, Type),
    /// The type of the output; `None` for `()`.
    pub(super) output: Option<Type>,
    pub(super) head: Head,
    /// The lines, without the last one of a saga with an output.
    pub(super) lines: Vec<Line>,
    /// The line that gives the output of the saga.
    pub(super) result: Option<Line>,
    /// The names before the `=` of lines with a syntax error.
    pub(super) unreadable: Vec<String>,
}

impl SagaDeclaration {
    /// Returns the name of the saga.
    pub(super) fn name(&self) -> String {
        let derived = || suggest::kebab_case(&self.ident.unraw().to_string());
        self.head.name.as_ref().map_or_else(derived, LitStr::value)
    }
}

/// The keys of a saga.
pub(super) struct Head {
    /// The path of es-saga.
    pub(super) krate: Path,
    pub(super) name: Option<LitStr>,
    pub(super) version: Option<Number>,
    pub(super) deadline: Option<Duration>,
}

const HEAD: &str = "expected the head of a saga, as in \
                    `pub saga Fulfilment(order: OrderPlaced) -> Parcel, version = 1 { ... }`";

/// The parts of a saga before they are read.
struct Parts {
    attributes: Vec<Attribute>,
    vis: Visibility,
    ident: Ident,
    input: (Ident, Type),
    output: Option<Type>,
    keys: TokenStream,
    body: TokenStream,
}

/// Parses a saga and reports errors to `cx`. Returns `None` if the head cannot be parsed.
pub(super) fn declaration(cx: &Ctxt, tokens: TokenStream) -> Option<SagaDeclaration> {
    let parts = match parts.parse2(tokens) {
        Ok(parts) => parts,
        Err(error) => {
            cx.push(error);
            return None;
        }
    };
    let head = head(cx, parts.keys);
    let lines = line::split(parts.body);
    let has_result = lines.last().is_some_and(|(_, has_semicolon)| !has_semicolon);
    let mut unreadable = Vec::new();
    let mut parsed: Vec<Option<Line>> = Vec::new();
    for (tokens, _) in lines {
        let line = parse_line(cx, tokens.clone());
        if line.is_none() {
            line::collect_declared(tokens, &mut unreadable);
        }
        parsed.push(line);
    }
    let result = if has_result && parts.output.is_some() { parsed.pop() } else { None };
    if parts.output.is_some() && result.is_none() {
        let (ident, last) = (&parts.ident, "its last line is the step or the handle that gives it, without a `;`");
        cx.error_on(&parts.output, format!("`{ident}` has an output: {last}"));
    }
    let Parts { attributes, vis, ident, input, output, .. } = parts;
    let lines = parsed.into_iter().flatten().collect();
    Some(SagaDeclaration { attributes, vis, ident, input, output, head, lines, result: result.flatten(), unreadable })
}

fn parse_line(cx: &Ctxt, tokens: TokenStream) -> Option<Line> {
    if tokens.is_empty() {
        return None;
    }
    let line = |input: ParseStream<'_>| {
        let line = input.parse()?;
        if input.is_empty() { Ok(line) } else { Err(input.error("expected `;` after a step")) }
    };
    line.parse2(tokens).map_err(|error| cx.push(error)).ok()
}

fn parts(input: ParseStream<'_>) -> syn::Result<Parts> {
    let attributes = input.call(Attribute::parse_outer)?;
    let vis = input.parse()?;
    let start = input.span();
    let with_help = |error: syn::Error| syn::Error::new(error.span(), HEAD);
    let keyword: Ident = input.parse().map_err(with_help)?;
    if keyword != "saga" {
        return Err(syn::Error::new(start, HEAD));
    }
    let ident = input.parse().map_err(with_help)?;
    let argument = argument(input).map_err(with_help)?;
    let output = if input.peek(Token![->]) {
        input.parse::<Token![->]>()?;
        Some(input.parse()?)
    } else {
        None
    };
    let mut keys = TokenStream::new();
    if input.peek(Token![,]) {
        input.parse::<Token![,]>()?;
    }
    while !input.is_empty() && !input.peek(syn::token::Brace) {
        keys.extend([input.parse::<proc_macro2::TokenTree>()?]);
    }
    if input.is_empty() {
        return Err(syn::Error::new(start, HEAD));
    }
    let content;
    braced!(content in input);
    let body = content.parse()?;
    if !input.is_empty() {
        return Err(input.error("expected one saga: write `saga!` once for each"));
    }
    Ok(Parts { attributes, vis, ident, input: argument, output, keys, body })
}

/// Parses `(input: Type)`.
fn argument(input: ParseStream<'_>) -> syn::Result<(Ident, Type)> {
    let content;
    parenthesized!(content in input);
    let ident = content.parse()?;
    content.parse::<Token![:]>()?;
    let ty = content.parse()?;
    if content.peek(Token![,]) {
        content.parse::<Token![,]>()?;
    }
    if content.is_empty() { Ok((ident, ty)) } else { Err(content.error("expected `)`")) }
}

fn head(cx: &Ctxt, tokens: TokenStream) -> Head {
    let derive = Derive::Saga;
    let mut head = Head { krate: parse_quote!(::es_saga), name: None, version: None, deadline: None };
    let (items, _) = attr::nested_items(cx, derive, Place::Head, tokens);
    for item in &items {
        let reader = Reader { cx, derive, item };
        match item.key.to_string().as_str() {
            "name" => {
                head.name = reader.text();
                if let Some(name) = &head.name {
                    check_name(cx, "a saga", name);
                }
            }
            "version" => head.version = reader.number(),
            "deadline" => head.deadline = reader.time(),
            "crate" => {
                if let Some(path) = reader.crate_path() {
                    head.krate = path;
                }
            }
            _ => {}
        }
    }
    head
}
