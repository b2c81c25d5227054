//! `saga!`: the graph of a saga, which expands line by line to calls of `es_saga::SagaGraph`.
//!
//! ```text
//! tokens --parse--> SagaDeclaration --check--> handles are known, names are unique --expand--> fn define()
//! ```

mod check;
mod expand;
mod line;
mod parse;

use proc_macro2::TokenStream;
use quote::quote;

use crate::ctxt::Ctxt;

/// Expands `saga!`.
pub(crate) fn saga(tokens: TokenStream) -> TokenStream {
    let cx = Ctxt::default();
    let Some(declaration) = parse::declaration(&cx, tokens) else {
        return cx.into_error().map_or_else(TokenStream::new, syn::Error::into_compile_error);
    };
    check::check(&cx, &declaration);
    match cx.into_error() {
        None => expand::saga(&declaration, &expand::graph(&declaration)),
        // The type is generated in any case: otherwise, the compiler would report that it is missing, too.
        Some(error) => {
            let error = error.into_compile_error();
            let saga = expand::saga(&declaration, &quote!(::core::unreachable!()));
            quote!(#error #saga)
        }
    }
}
