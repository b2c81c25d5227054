//! The code of `#[derive(Event)]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{GenericArgument, Path, PathArguments, Type};

use crate::ast::{Body, Case, CodecName, EventInput, TagField};
use crate::generics::{mentions_parameter, serde_bounds, where_clause};

/// The implementations of `Event` and `EventSamples`.
pub(crate) fn expand(input: &EventInput<'_>) -> TokenStream {
    let (krate, ident) = (&input.krate, &input.source.ident);
    let (impl_generics, ty_generics, _) = input.source.generics.split_for_impl();
    let serde = serde_bounds(krate);
    let bounds = quote!(#serde + ::core::marker::Send + ::core::marker::Sync + 'static);
    let where_clause = where_clause(input.source, &bounds, &tag_bounds(input));
    let (schema, encode, decode, samples) = (schema(input), encode(input), decode(input), samples(input));
    let doc = doc(input);
    quote! {
        #[doc = #doc]
        #[allow(deprecated)]
        #[automatically_derived]
        impl #impl_generics #krate::Event for #ident #ty_generics #where_clause {
            const SCHEMA: &'static [#krate::schema::EventSchema] = &[#(#schema),*];

            fn encode(&self) -> ::core::result::Result<#krate::schema::EncodedEvent, #krate::schema::EncodeEventError> {
                #encode
            }

            fn decode(
                __event: #krate::schema::RawEvent<'_>,
            ) -> ::core::result::Result<#krate::Events<Self>, #krate::schema::DecodeEventError> {
                match __event.event_type {
                    #(#decode)*
                    _ => ::core::result::Result::Err(#krate::__private::unknown_type::<Self>(__event)),
                }
            }
        }

        #[automatically_derived]
        impl #impl_generics #krate::schema::EventSamples for #ident #ty_generics #where_clause {
            fn samples() -> ::std::vec::Vec<::core::result::Result<Self, #krate::schema::SampleError>> {
                ::std::vec![#(#samples),*]
            }
        }
    }
}

/// What the documentation of the implementation says: the wire names.
fn doc(input: &EventInput<'_>) -> String {
    let line = |case: &Case<'_>| format!("- `{}`, version {}", case.wire_name(), case.current());
    let lines: Vec<String> = input.body.cases().iter().map(line).collect();
    format!("By `#[derive(Event)]`. Wire names:\n{}", lines.join("\n"))
}

/// `Self` at the place of the type's name, so that a missing `Serialize` is reported there, once for all variants.
fn this(input: &EventInput<'_>) -> TokenStream {
    quote_spanned!(at(input.source.ident.span())=> Self)
}

/// The place of `span`, for names that mean what they mean in generated code.
fn at(span: Span) -> Span {
    Span::call_site().located_at(span)
}

fn schema(input: &EventInput<'_>) -> Vec<TokenStream> {
    let krate = &input.krate;
    let entry = |name: String, version: u32, aliases: Vec<String>, oldest: u32| quote!(#krate::schema::EventSchema { name: #name, version: #version, aliases: &[#(#aliases),*], oldest: #oldest });
    let case = |case: &Case<'_>| {
        let aliases = case.aliases.iter().map(syn::LitStr::value).collect();
        entry(case.wire_name(), case.current(), aliases, case.oldest())
    };
    let cases = input.body.cases().iter().map(case);
    cases.chain(input.retired.iter().map(|name| entry(name.value(), 0, Vec::new(), 0))).collect()
}

fn encode(input: &EventInput<'_>) -> TokenStream {
    match &input.body {
        Body::Enum(cases) => {
            let arms = cases.iter().map(|case| {
                let (ident, pattern) = (case.ident, tag_pattern(case));
                let body = encode_case(input, case, "encode_variant");
                quote!(Self::#ident { #pattern .. } => #body)
            });
            quote!(match self { #(#arms)* })
        }
        Body::Struct(case) => {
            let (pattern, body) = (tag_pattern(case), encode_case(input, case, "encode_struct"));
            quote!(let Self { #pattern .. } = self; #body)
        }
        Body::Union => TokenStream::new(),
    }
}

/// The bindings of the fields that are tags.
fn tag_pattern(case: &Case<'_>) -> TokenStream {
    let members = case.tags.iter().map(|tag| &tag.member);
    let bindings = (0..case.tags.len()).map(|index| format_ident!("__tag_{index}"));
    quote!(#(#members: #bindings,)*)
}

fn encode_case(input: &EventInput<'_>, case: &Case<'_>, function: &str) -> TokenStream {
    let (krate, name, version) = (&input.krate, case.wire_name(), case.current());
    let function = format_ident!("{function}");
    let codec = match case.codec.unwrap_or(input.codec) {
        CodecName::Json => quote!(#krate::schema::Json),
        CodecName::MessagePack => quote!(#krate::schema::MessagePack),
    };
    let this = this(input);
    let encoded = quote!(#krate::__private::#function::<#codec, #this>(#name, #version, self));
    if case.tags.is_empty() {
        return quote!({ #encoded });
    }
    let tags = case.tags.iter().enumerate().map(|(index, tag)| {
        let (key, span) = (&tag.key, at(tag.ty.span()));
        let (field, value) = (format_ident!("__tag_{index}"), format_ident!("__value", span = span));
        let add = quote_spanned!(span=> #krate::__private::add_tag(&mut __event, #name, #key, #value)?;);
        if item_type(tag.ty).is_some() {
            quote!(for #value in ::core::iter::IntoIterator::into_iter(#field) { #add })
        } else {
            quote!(let #value = #field; #add)
        }
    });
    quote!({ let mut __event = #encoded?; #(#tags)* ::core::result::Result::Ok(__event) })
}

/// The bounds of the tags of a generic type: their values must be displayable.
fn tag_bounds(input: &EventInput<'_>) -> Vec<TokenStream> {
    let value = |tag: &TagField<'_>| item_type(tag.ty).unwrap_or(tag.ty).clone();
    let tags = input.body.cases().iter().flat_map(|case| &case.tags).map(value);
    tags.filter(|ty| mentions_parameter(ty, &input.source.generics))
        .map(|ty| quote!(#ty: ::core::fmt::Display))
        .collect()
}

/// The type of the items of a field that holds any number of values, and has a tag for each.
fn item_type(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Group(group) => item_type(&group.elem),
        Type::Paren(paren) => item_type(&paren.elem),
        Type::Array(array) => Some(&array.elem),
        Type::Path(path) => {
            let segment = path.path.segments.last()?;
            let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
            let GenericArgument::Type(item) = arguments.args.first()? else { return None };
            match (segment.ident.to_string().as_str(), item) {
                ("Option" | "Vec" | "BTreeSet" | "HashSet", _) => Some(item),
                ("Box", Type::Slice(slice)) => Some(&slice.elem),
                _ => None,
            }
        }
        _ => None,
    }
}

fn decode(input: &EventInput<'_>) -> Vec<TokenStream> {
    let krate = &input.krate;
    let cases = input.body.cases().iter().enumerate().map(|(index, case)| decode_case(input, index, case));
    let retired = input.retired.iter().map(|name| {
        let name = name.value();
        quote!(#name => ::core::result::Result::Ok(#krate::Events::none()),)
    });
    cases.chain(retired).collect()
}

fn decode_case(input: &EventInput<'_>, index: usize, case: &Case<'_>) -> TokenStream {
    let (krate, name, current, oldest) = (&input.krate, case.wire_name(), case.current(), case.oldest());
    let names = std::iter::once(case.wire_name()).chain(case.aliases.iter().map(syn::LitStr::value));
    let this = this(input);
    // NOTE: serde counts the variants from 0 and leaves out those that it skips; an event may not be skipped.
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let decoded = match input.body {
        Body::Enum(_) => quote!(#krate::__private::decode_variant::<#this>(#name, #index, __event)?),
        _ => quote!(#krate::__private::decode_struct::<#this>(#name, __event)?),
    };
    let old = (0..case.upcasts.len()).map(|first| decode_old(krate, &name, case, first));
    quote! {
        #(#names)|* => match __event.version {
            #current => ::core::result::Result::Ok(#krate::Events::one(#decoded)),
            #(#old)*
            __found => ::core::result::Result::Err(#krate::schema::DecodeEventError::UnknownVersion {
                name: #name,
                found: __found,
                oldest: #oldest,
                newest: #current,
            }),
        },
    }
}

/// The chain of upcasters that begins with the version that is listed at `first`.
fn decode_old(krate: &Path, name: &str, case: &Case<'_>, first: usize) -> Option<TokenStream> {
    let chain = case.upcasts.get(first..)?;
    let (begin, version) = chain.first().map(|old| (&old.ty, old.version.value))?;
    let steps = chain.iter().enumerate().map(|(index, old)| {
        let (from, span) = (&old.ty, at(old.ty.span()));
        let to = chain.get(index + 1).map_or_else(
            || quote!(Self),
            |next| {
                let ty = &next.ty;
                quote!(#ty)
            },
        );
        quote_spanned!(span=> let __events = #krate::__private::upcast::<#from, #to>(__events);)
    });
    Some(quote! {
        #version => {
            let __events = #krate::Events::one(#krate::__private::decode_struct::<#begin>(#name, __event)?);
            #(#steps)*
            ::core::result::Result::Ok(__events)
        }
    })
}

fn samples(input: &EventInput<'_>) -> Vec<TokenStream> {
    let (krate, this) = (&input.krate, this(input));
    let sample = |(index, case): (usize, &Case<'_>)| {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        match (&case.sample, &input.body) {
            (Some(path), _) => quote_spanned!(at(path.span())=> {
                let __sample: fn() -> Self = #path;
                ::core::result::Result::Ok(__sample())
            }),
            (None, Body::Enum(_)) => quote!(#krate::__private::sample_variant::<#this>(#index)),
            (None, _) => quote!(#krate::__private::sample::<#this>()),
        }
    };
    input.body.cases().iter().enumerate().map(sample).collect()
}
