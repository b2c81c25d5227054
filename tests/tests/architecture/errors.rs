//! An error either formats its cause or returns it from `source()`, so that a chain of errors prints each message once.

use std::fmt::Write as _;

use quote::ToTokens;
use syn::visit::{self, Visit};

use crate::sources::{Module, crates};

#[test]
fn no_error_formats_the_cause_that_it_returns() {
    let mut report = String::new();
    for krate in crates() {
        for module in &krate.modules {
            let mut finder = ErrorFinder { module, found: Vec::new() };
            module.items.iter().for_each(|item| finder.visit_item(item));
            finder.found.iter().for_each(|place| writeln!(report, "{place}").expect("a string takes it"));
        }
    }
    assert!(report.is_empty(), "these messages repeat the message of their cause; leave it to `source()`:\n{report}");
}

struct ErrorFinder<'m> {
    module: &'m Module,
    found: Vec<String>,
}

impl ErrorFinder<'_> {
    fn check(&mut self, attributes: &[syn::Attribute], name: &syn::Ident, fields: &syn::Fields) {
        let messages = attributes.iter().filter(|attribute| attribute.path().is_ident("error"));
        for message in messages {
            let message = message.meta.to_token_stream().to_string();
            let repeated = causes(fields).into_iter().find(|cause| is_formatted(&message, cause));
            if let Some(cause) = repeated {
                let (file, line) = (self.module.file.display(), name.span().start().line);
                self.found.push(format!("{file}:{line}: {name} formats {cause}"));
            }
        }
    }
}

/// Returns the names of the fields that `source()` returns: `thiserror` takes one by its name or by an attribute.
fn causes(fields: &syn::Fields) -> Vec<String> {
    let named = |(index, field): (usize, &syn::Field)| {
        let name = field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
        let is_marked = field.attrs.iter().any(|it| it.path().is_ident("from") || it.path().is_ident("source"));
        (is_marked || name == "source").then_some(name)
    };
    fields.iter().enumerate().filter_map(named).collect()
}

/// Whether a message has a field as `{field}`, `{field:?}` or as the argument `.field`.
fn is_formatted(message: &str, field: &str) -> bool {
    let argument = format!(". {field}");
    [format!("{{{field}}}"), format!("{{{field}:")].iter().any(|placeholder| message.contains(placeholder))
        || message.split(',').any(|part| part.trim_start().trim_start_matches('*').trim_start().starts_with(&argument))
}

impl<'a> Visit<'a> for ErrorFinder<'_> {
    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        self.check(&item.attrs, &item.ident, &item.fields);
        visit::visit_item_struct(self, item);
    }

    fn visit_variant(&mut self, variant: &'a syn::Variant) {
        self.check(&variant.attrs, &variant.ident, &variant.fields);
    }
}

#[test]
fn the_check_finds_each_way_to_format_a_cause() {
    let repeats = |item: syn::ItemEnum| {
        let module = Module { path: Vec::new(), file: "error.rs".into(), is_public: true, items: Vec::new() };
        let mut finder = ErrorFinder { module: &module, found: Vec::new() };
        finder.visit_item_enum(&item);
        finder.found.len()
    };
    assert_eq!(
        repeats(syn::parse_quote!(
            enum E {
                #[error("a: {source}")]
                A { source: B },
            }
        )),
        1
    );
    assert_eq!(
        repeats(syn::parse_quote!(
            enum E {
                #[error("a: {0:?}")]
                A(#[from] B),
            }
        )),
        1
    );
    assert_eq!(
        repeats(syn::parse_quote!(
            enum E {
                #[error("a: {}", .0)]
                A(#[source] B),
            }
        )),
        1
    );
    assert_eq!(
        repeats(syn::parse_quote!(
            enum E {
                #[error("a: {0}")]
                A(String),
                #[error(transparent)]
                C(#[from] D),
            }
        )),
        0
    );
}
