//! The macros of es-saga.
//!
//! - `step`: `#[derive(SagaStep)]`.
//! - `function`: `#[step_function(...)]`.
//! - `options`: the keys that both share.
//! - `graph`: `saga!`.

mod function;
mod graph;
mod options;
mod step;
#[cfg(test)]
mod tests;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

pub(crate) use function::step_function;
pub(crate) use graph::saga;
pub(crate) use step::derive_saga_step;

/// The largest number of handles in one input: `es_saga::Provides` is implemented for tuples up to this length.
const MAX_INPUTS: usize = 8;

/// Returns tokens at another place of the source, so that the compiler reports an error there. Names are resolved as
/// before.
fn relocate(tokens: impl ToTokens, span: Span) -> TokenStream {
    let relocated = tokens.into_token_stream().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(span));
        token
    });
    relocated.collect()
}
