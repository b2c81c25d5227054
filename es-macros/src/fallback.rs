//! Implementations without content, for declarations with an error. They keep the compiler from reporting a missing
//! implementation wherever the type is used.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Generics, Path, parse_quote};

use crate::ast::{AggregateInput, EventInput};
use crate::generics::{level, where_clause};

/// Generates empty implementations of `Event` and `EventSamples`.
pub(crate) fn event(input: &EventInput<'_>) -> TokenStream {
    let (krate, ident) = (&input.krate, &input.source.ident);
    let generics = without_lifetimes(&input.source.generics);
    let (impl_generics, _, _) = generics.split_for_impl();
    let ty = arguments(&input.source.generics);
    let bounds = quote!(::core::marker::Send + ::core::marker::Sync + 'static);
    let where_clause = where_clause(input.source, &bounds, &[]);
    let body = event_body(krate);
    quote! {
        #[automatically_derived]
        impl #impl_generics #krate::Event for #ident #ty #where_clause { #body }

        #[automatically_derived]
        impl #impl_generics #krate::schema::EventSamples for #ident #ty #where_clause {
            fn samples() -> ::std::vec::Vec<::core::result::Result<Self, #krate::schema::SampleError>> {
                ::core::unreachable!()
            }
        }
    }
}

fn event_body(krate: &Path) -> TokenStream {
    quote! {
        const SCHEMA: &'static [#krate::schema::EventSchema] = &[];

        fn encode(&self) -> ::core::result::Result<#krate::schema::EncodedEvent, #krate::schema::EncodeEventError> {
            ::core::unreachable!()
        }

        fn decode(
            _: #krate::schema::RawEvent<'_>,
        ) -> ::core::result::Result<#krate::Events<Self>, #krate::schema::DecodeEventError> {
            ::core::unreachable!()
        }
    }
}

/// Generates an empty implementation of `Aggregate`, with placeholders for missing types.
pub(crate) fn aggregate(input: &AggregateInput<'_>) -> TokenStream {
    let (krate, ident) = (&input.krate, &input.source.ident);
    let generics = without_lifetimes(&input.source.generics);
    let (impl_generics, _, _) = generics.split_for_impl();
    let ty = arguments(&input.source.generics);
    let bounds = quote!(::core::clone::Clone + ::core::marker::Send + ::core::marker::Sync + 'static);
    let where_clause = where_clause(input.source, &bounds, &[]);
    let id = input.id.clone().unwrap_or_else(|| parse_quote!(::std::string::String));
    let event = input.event.clone().unwrap_or_else(|| parse_quote!(__Missing));
    let level = level(input);
    let missing = input.event.is_none().then(|| {
        let body = event_body(krate);
        quote!(pub enum __Missing {} impl #krate::Event for __Missing { #body })
    });
    quote! {
        const _: () = {
            #missing
            #[automatically_derived]
            impl #impl_generics #krate::Aggregate for #ident #ty #where_clause {
                const CATEGORY: &'static ::core::primitive::str = "";
                type Id = #id;
                type Event = #event;
                type Level = #level;
            }
        };
    }
}

/// Returns the type parameters without lifetimes: an event is `'static`.
fn without_lifetimes(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    let parameters = std::mem::take(&mut generics.params);
    generics.params = parameters.into_iter().filter(|p| !matches!(p, syn::GenericParam::Lifetime(_))).collect();
    generics
}

/// Returns the type arguments, with `'static` for lifetimes.
fn arguments(generics: &Generics) -> TokenStream {
    let arguments = generics.params.iter().map(|parameter| match parameter {
        syn::GenericParam::Lifetime(_) => quote!('static),
        syn::GenericParam::Type(parameter) => {
            let ident = &parameter.ident;
            quote!(#ident)
        }
        syn::GenericParam::Const(parameter) => {
            let ident = &parameter.ident;
            quote!(#ident)
        }
    });
    if generics.params.is_empty() { TokenStream::new() } else { quote!(<#(#arguments),*>) }
}
