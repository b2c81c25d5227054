//! The values of items. Each method reads the value that a key expects, or reports what is expected.

use std::fmt::Display;
use std::time::Duration;

use proc_macro2::{Ident, Span, TokenStream};
use syn::parse::{Parse, ParseStream, Parser};
use syn::{ExprPath, LitInt, LitStr, Path, Token, Type};

use crate::attr::keys::{self, Derive};
use crate::attr::{Form, Item, split};
use crate::ctxt::Ctxt;
use crate::{duration, suggest};

/// A number from 1, and its span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number {
    pub(crate) value: u32,
    pub(crate) span: Span,
}

/// An old version and its type: `1 = OrderPlacedV1`.
#[derive(Debug, Clone)]
pub(crate) struct OldVersion {
    pub(crate) version: Number,
    pub(crate) ty: Type,
}

/// Reads the value of one item.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) cx: &'a Ctxt,
    pub(crate) derive: Derive,
    pub(crate) item: &'a Item,
}

impl Reader<'_> {
    /// Formats the message for a value of the wrong kind.
    fn expected(self, what: impl Display) -> String {
        let key = &self.item.key;
        let example = keys::example(self.derive, &key.to_string());
        format!("`{key}` expects {what}, as in `{example}`")
    }

    fn report_form<T>(self, what: impl Display) -> Option<T> {
        self.cx.error_on(self.item, self.expected(what));
        None
    }

    /// Parses all tokens of `key = tokens`.
    fn value<T: Parse>(self, what: &str) -> Option<T> {
        let Form::Value(tokens) = &self.item.form else { return self.report_form(what) };
        let mut is_parsed = false;
        let parse = |input: ParseStream<'_>| {
            let value = input.parse()?;
            is_parsed = true;
            if input.is_empty() {
                return Ok(value);
            }
            Err(syn::Error::new(input.span(), format!("expected `,` after the value of `{}`", self.item.key)))
        };
        match parse.parse2(tokens.clone()) {
            Ok(value) => return Some(value),
            Err(error) if is_parsed => self.cx.push(error),
            Err(_) => self.cx.error_on(tokens, self.expected(what)),
        }
        None
    }

    /// Reads `key = "text"`.
    pub(crate) fn text(self) -> Option<LitStr> {
        self.value("a string")
    }

    /// Reads `key = "5s"`, longer than zero.
    pub(crate) fn time(self) -> Option<Duration> {
        let text = self.text()?;
        let duration = duration::parse_literal(self.cx, &text)?;
        if duration.is_zero() {
            self.cx.error_on(&text, format!("`{}` must be longer than zero", self.item.key));
            return None;
        }
        Some(duration)
    }

    /// Reads one of a few strings. `choices` has each string and the variant that it names, which is returned.
    pub(crate) fn choice(self, choices: &[(&str, &str)]) -> Option<Ident> {
        let text = self.text()?;
        let found = text.value();
        let names = || choices.iter().map(|(name, _)| *name);
        if let Some((_, variant)) = choices.iter().find(|(name, _)| *name == found) {
            return Some(Ident::new(variant, Span::call_site()));
        }
        let (expected, hint) = (suggest::expected(names()), suggest::did_you_mean(&found, names()));
        self.cx.error_on(&text, format!("unknown `{}` {found:?}: expected {expected}{hint}", self.item.key));
        None
    }

    /// Reads `key = 3`.
    pub(crate) fn number(self) -> Option<Number> {
        let literal: LitInt = self.value("a number")?;
        self.number_of(&literal)
    }

    fn number_of(self, literal: &LitInt) -> Option<Number> {
        match literal.base10_parse() {
            Ok(value) if value > 0 => Some(Number { value, span: literal.span() }),
            _ => {
                self.cx.error_on(literal, self.expected(format_args!("a number from 1 to {}", u32::MAX)));
                None
            }
        }
    }

    /// Reads `key = Type`.
    pub(crate) fn ty(self) -> Option<Type> {
        if let Form::Value(tokens) = &self.item.form
            && let Ok(text) = syn::parse2::<LitStr>(tokens.clone())
        {
            let (key, value) = (&self.item.key, text.value());
            self.cx.error_on(&text, format!("`{key}` expects a type: remove the quotes and write `{key} = {value}`"));
            return None;
        }
        self.value("a type")
    }

    /// Reads `key = Name`.
    pub(crate) fn ident(self) -> Option<Ident> {
        self.value("a name")
    }

    /// Reads `key = path::to::function`.
    pub(crate) fn path(self) -> Option<ExprPath> {
        self.value("the path of a function")
    }

    /// Reads `crate = path::to::es_core` or `crate = "path::to::es_core"`. A macro of a facade crate needs the path
    /// without quotes, because a string does not know `$crate`.
    pub(crate) fn crate_path(self) -> Option<Path> {
        const WHAT: &str = "a path";
        let Form::Value(tokens) = &self.item.form else { return self.report_form(WHAT) };
        let path = match syn::parse2::<LitStr>(tokens.clone()) {
            Ok(text) => text.parse_with(Path::parse_mod_style),
            Err(_) => Path::parse_mod_style.parse2(tokens.clone()),
        };
        if path.is_err() {
            self.cx.error_on(tokens, self.expected(WHAT));
        }
        path.ok()
    }

    /// Reads `key`, which gives `Some(None)`, or `key = "text"`.
    pub(crate) fn flag_or_text(self) -> Option<Option<LitStr>> {
        match &self.item.form {
            Form::Flag => Some(None),
            Form::Value(_) => self.text().map(Some),
            Form::List(_) => self.report_form("no value or a string"),
        }
    }

    /// Returns the tokens of `key(tokens)`; an empty list is an error.
    pub(crate) fn list(self, what: &str) -> Option<TokenStream> {
        match &self.item.form {
            Form::List(tokens) if !tokens.is_empty() => Some(tokens.clone()),
            _ => self.report_form(what),
        }
    }

    /// Reads `key("text", "text")`.
    pub(crate) fn texts(self) -> Vec<LitStr> {
        const WHAT: &str = "a list of strings";
        let Some(tokens) = self.list(WHAT) else { return Vec::new() };
        let text = |tokens: TokenStream| match syn::parse2::<LitStr>(tokens.clone()) {
            Ok(text) => Some(text),
            Err(_) => {
                self.cx.error_on(tokens, self.expected(WHAT));
                None
            }
        };
        split(self.cx, tokens).into_iter().filter_map(text).collect()
    }

    /// Reads `key(1 = TypeV1, 2 = TypeV2)`. Returns `None` if one version cannot be parsed.
    pub(crate) fn old_versions(self) -> Option<Vec<OldVersion>> {
        const WHAT: &str = "a list of old versions, each a number, `=` and a type";
        let tokens = self.list(WHAT)?;
        let old = |tokens: TokenStream| match parse_old_version.parse2(tokens.clone()) {
            Ok((version, ty)) => Some(OldVersion { version: self.number_of(&version)?, ty }),
            Err(_) => {
                self.cx.error_on(tokens, self.expected(WHAT));
                None
            }
        };
        // Collects twice: collecting into an `Option` directly would stop at the first error.
        let versions: Vec<Option<OldVersion>> = split(self.cx, tokens).into_iter().map(old).collect();
        versions.into_iter().collect()
    }
}

fn parse_old_version(input: ParseStream<'_>) -> syn::Result<(LitInt, Type)> {
    let version = input.parse()?;
    input.parse::<Token![=]>()?;
    Ok((version, input.parse()?))
}
