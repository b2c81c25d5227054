//! Generation of code from a validated declaration.

mod aggregate;
mod event;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::DeriveInput;

use crate::ast::{AggregateInput, EventInput};
use crate::ctxt::Ctxt;
use crate::{fallback, valid};

/// Expands `#[derive(Event)]`.
pub(crate) fn derive_event(tokens: TokenStream) -> TokenStream {
    let source = match syn::parse2::<DeriveInput>(tokens) {
        Ok(source) => source,
        Err(error) => return error.into_compile_error(),
    };
    let cx = Ctxt::default();
    let input = EventInput::new(&cx, &source);
    valid::check_event(&cx, &input);
    match cx.into_error() {
        None => event::expand(&input),
        Some(error) => with_error(&error, fallback::event(&input)),
    }
}

/// Expands `#[derive(Aggregate)]`.
pub(crate) fn derive_aggregate(tokens: TokenStream) -> TokenStream {
    let source = match syn::parse2::<DeriveInput>(tokens) {
        Ok(source) => source,
        Err(error) => return error.into_compile_error(),
    };
    let cx = Ctxt::default();
    let input = AggregateInput::new(&cx, &source);
    let declaration = valid::check_aggregate(&cx, &input);
    match (cx.into_error(), declaration) {
        (None, Some(declaration)) => aggregate::expand(&declaration),
        (Some(error), _) => with_error(&error, fallback::aggregate(&input)),
        // An incomplete declaration has an error: this arm is unreachable.
        (None, None) => fallback::aggregate(&input),
    }
}

fn with_error(error: &syn::Error, fallback: impl ToTokens) -> TokenStream {
    let error = error.to_compile_error();
    quote!(#error #fallback)
}
