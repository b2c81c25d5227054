//! `#[transaction]`, the macro of es-transaction: a function that runs as a distributed transaction.
//!
//! - `signature`: what the function must look like.

mod signature;
#[cfg(test)]
mod tests;

use std::time::Duration;

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::{AttrStyle, FnArg, ItemFn, Path, Token, TraitItemFn, parse_quote};

use crate::attr;
use crate::attr::keys::{Derive, Place};
use crate::attr::value::Reader;
use crate::ctxt::Ctxt;
use crate::duration;
use signature::Checked;

/// The values of `protocol = "..."` and the variants of `es_transaction::Protocol`.
const PROTOCOLS: [(&str, &str); 2] = [("two-phase", "TwoPhase"), ("three-phase", "ThreePhase")];

/// The content of `#[transaction(...)]`.
struct TransactionOptions {
    /// The path of es-transaction.
    krate: Path,
    /// `None`: the time-out of the coordinator.
    timeout: Option<Duration>,
    /// The variant of `es_transaction::Protocol`. `None`: two-phase commit.
    protocol: Option<Ident>,
}

/// Expands `#[transaction(...)]`.
pub(crate) fn transaction(attribute: TokenStream, tokens: &TokenStream) -> TokenStream {
    let cx = Ctxt::default();
    let options = read(&cx, attribute);
    let expansion = match syn::parse2::<ItemFn>(tokens.clone()) {
        Ok(function) => match signature::check(&cx, &function.sig) {
            Some(checked) => expand(&function, &options, checked),
            None => quote!(#[allow(dead_code, unused_variables)] #function),
        },
        Err(_) => {
            refuse(&cx, tokens);
            tokens.clone()
        }
    };
    let error = cx.into_error().map(syn::Error::into_compile_error);
    quote!(#expansion #error)
}

fn read(cx: &Ctxt, attribute: TokenStream) -> TransactionOptions {
    let derive = Derive::Transaction;
    let (items, _) = attr::nested_items(cx, derive, Place::Function, attribute);
    let mut options = TransactionOptions { krate: parse_quote!(::es_transaction), timeout: None, protocol: None };
    for item in &items {
        let reader = Reader { cx, derive, item };
        match item.key.to_string().as_str() {
            "timeout" => options.timeout = reader.time(),
            "protocol" => options.protocol = reader.choice(&PROTOCOLS),
            "crate" => {
                if let Some(path) = reader.crate_path() {
                    options.krate = path;
                }
            }
            _ => {}
        }
    }
    options
}

/// Reports an item that is not a function with a body.
fn refuse(cx: &Ctxt, tokens: &TokenStream) {
    match syn::parse2::<TraitItemFn>(tokens.clone()) {
        Ok(method) => cx.error_on(
            &method.sig.ident,
            "`#[transaction]` needs a function with a body: in the trait, write `transactions: &Transactions` instead \
             of `tx: &mut Tx` and `-> Result<Completed<Value>, TransactionError<Error>>`, and move the attribute to \
             the implementation",
        ),
        Err(_) => cx.error_on(tokens, "`#[transaction]` is for a function: write it on an `async fn`"),
    }
}

/// Generates the function that begins the transaction, and runs the body of the declared function in it.
fn expand(function: &ItemFn, options: &TransactionOptions, checked: Checked) -> TokenStream {
    let ItemFn { attrs, vis, sig: declared, block, .. } = function;
    let (krate, Checked { tx_index, value, error }) = (&options.krate, checked);
    // Hygienic, so that the function can have a parameter of the same name.
    let transactions = Ident::new("transactions", Span::mixed_site());
    let mut signature = declared.clone();
    signature.asyncness.get_or_insert_with(|| Token![async](declared.fn_token.span));
    signature.output = parse_quote! {
        -> ::core::result::Result<#krate::Completed<#value>, #krate::TransactionError<#error>>
    };
    let replace = |(index, parameter): (usize, &FnArg)| match index == tx_index {
        true => parse_quote!(#transactions: &#krate::Transactions),
        false => parameter.clone(),
    };
    signature.inputs = declared.inputs.iter().enumerate().map(replace).collect();
    let tx = declared.inputs.iter().nth(tx_index);
    let returned = &declared.output;
    let protocol = options.protocol.as_ref().map(|protocol| quote!(.protocol(#krate::Protocol::#protocol)));
    let timeout = options.timeout.map(|timeout| {
        let timeout = duration::expand(timeout);
        quote!(.timeout(#timeout))
    });
    let (inner, outer): (Vec<_>, Vec<_>) = attrs.iter().partition(|attr| matches!(attr.style, AttrStyle::Inner(_)));
    quote! {
        #(#outer)*
        #vis #signature {
            #(#inner)*
            #krate::Transactions::begin(#transactions)
                #protocol
                #timeout
                .run(async move |#tx| #returned #block)
                .await
        }
    }
}
