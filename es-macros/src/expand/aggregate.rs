//! The code of `#[derive(Aggregate)]`.

use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};

use crate::ast::Snapshot;
use crate::fingerprint;
use crate::generics::{level, mentions_parameter, serde_bounds, where_clause};
use crate::valid::Declaration;

/// The implementation of `Aggregate`.
pub(crate) fn expand(declaration: &Declaration<'_>) -> TokenStream {
    let Declaration { input, category, id, event } = declaration;
    let (krate, ident) = (&input.krate, &input.source.ident);
    let (impl_generics, ty_generics, _) = input.source.generics.split_for_impl();
    let where_clause = bounds(declaration);
    let level = level(input);
    let snapshots = input.snapshot.iter().map(|snapshot| snapshots(declaration, snapshot));
    let doc = format!("By `#[derive(Aggregate)]`: the streams `{}-{{id}}`.", category.value());
    quote! {
        #[doc = #doc]
        #[allow(deprecated)]
        #[automatically_derived]
        impl #impl_generics #krate::Aggregate for #ident #ty_generics #where_clause {
            const CATEGORY: &'static ::core::primitive::str = #category;
            type Id = #id;
            type Event = #event;
            type Level = #level;
            #(#snapshots)*
        }
    }
}

fn bounds(declaration: &Declaration<'_>) -> TokenStream {
    let Declaration { input, id, event, .. } = declaration;
    let krate = &input.krate;
    let serde = input.snapshot.as_ref().map(|_| serde_bounds(krate)).into_iter();
    let bounds = quote! {
        ::core::clone::Clone + ::core::marker::Send + ::core::marker::Sync + 'static #(+ #serde)*
    };
    let mut more = Vec::new();
    if mentions_parameter(id, &input.source.generics) {
        more.push(quote!(#id: #krate::aggregate::AggregateId));
    }
    if mentions_parameter(event, &input.source.generics) {
        more.push(quote!(#event: #krate::Event));
    }
    where_clause(input.source, &bounds, &more)
}

fn snapshots(declaration: &Declaration<'_>, snapshot: &Snapshot) -> TokenStream {
    let krate = &declaration.input.krate;
    let some = |value: TokenStream| quote!(::core::option::Option::Some(#value));
    let none = || quote!(::core::option::Option::None);
    let every = snapshot.every.map_or_else(none, |every| {
        let events = Literal::u64_suffixed(every.value.into());
        some(quote!(#events))
    });
    let load_cost = snapshot.load_cost.map_or_else(none, |cost| {
        let (seconds, nanoseconds) = (cost.as_secs(), cost.subsec_nanos());
        some(quote!(::core::time::Duration::new(#seconds, #nanoseconds)))
    });
    let keep = snapshot.keep.map_or_else(
        || quote!(#krate::aggregate::SnapshotPolicy::DEFAULT_KEEP),
        |keep| Literal::u32_unsuffixed(keep.value).into_token_stream(),
    );
    let version = snapshot.version.map_or(1, |version| version.value);
    let fingerprint = Literal::u64_suffixed(fingerprint::of(declaration.input.source, version));
    // NOTE: at the place of `snapshot`, so that a missing `Serialize` is reported there.
    let span = Span::call_site().located_at(snapshot.span);
    let support = quote_spanned!(span=> #krate::__private::snapshot_support::<Self>);
    quote! {
        fn snapshots() -> ::core::option::Option<#krate::aggregate::SnapshotSupport<Self>> {
            ::core::option::Option::Some(#support(
                #krate::aggregate::SnapshotPolicy { every: #every, load_cost: #load_cost, keep: #keep },
                #fingerprint,
            ))
        }
    }
}
