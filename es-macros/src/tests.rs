//! Tests of the errors that the derive macros report, and of the code that they generate.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser;
use syn::{DeriveInput, ImplItem, Item};

use crate::ast::{AggregateInput, EventInput};
use crate::ctxt::Ctxt;
use crate::{expand, valid};

fn messages(cx: Ctxt) -> Vec<String> {
    cx.into_error().into_iter().flatten().map(|error| error.to_string()).collect()
}

/// Returns the errors of an event type.
fn event_errors(tokens: TokenStream) -> Vec<String> {
    let source: DeriveInput = syn::parse2(tokens).expect("an item");
    let cx = Ctxt::default();
    let input = EventInput::new(&cx, &source);
    valid::check_event(&cx, &input);
    messages(cx)
}

/// Returns the errors of an aggregate.
fn aggregate_errors(tokens: TokenStream) -> Vec<String> {
    let source: DeriveInput = syn::parse2(tokens).expect("an item");
    let cx = Ctxt::default();
    let input = AggregateInput::new(&cx, &source);
    valid::check_aggregate(&cx, &input);
    messages(cx)
}

/// Parses the items of an expansion.
fn items(tokens: TokenStream) -> Vec<Item> {
    let parse = |input: syn::parse::ParseStream<'_>| {
        let mut items = Vec::new();
        while !input.is_empty() {
            items.push(input.parse()?);
        }
        Ok(items)
    };
    parse.parse2(tokens).expect("items")
}

/// Returns a constant, type or function of the implementations, as tokens.
fn member(tokens: TokenStream, name: &str) -> String {
    let members = items(tokens).into_iter().filter_map(|item| match item {
        Item::Impl(item) => Some(item.items),
        _ => None,
    });
    let member = members.flatten().find_map(|member| match &member {
        ImplItem::Const(item) if item.ident == name => Some(quote!(#member).to_string()),
        ImplItem::Fn(item) if item.sig.ident == name => Some(quote!(#member).to_string()),
        ImplItem::Type(item) if item.ident == name => Some(quote!(#member).to_string()),
        _ => None,
    });
    member.unwrap_or_default()
}

fn assert_tokens(found: &str, expected: &TokenStream) {
    assert_eq!(found, expected.to_string());
}

#[test]
fn valid_declarations_have_no_errors() {
    let none: [&str; 0] = [];
    let event = quote! {
        #[event(codec = "msgpack", retired("c",),)]
        enum E {
            #[event(name = "a", version = 3, upcast(1 = Map<K, V>, 2 = fn() -> (A, B)), alias("b"),)]
            A { #[event(tag)] id: u64 },
        }
    };
    assert_eq!(event_errors(event), none);
    let aggregate = quote! {
        #[aggregate(category = "a", id = Id<A, B>, event = <T as Trait<A, B>>::Event, snapshot(every = 1))]
        struct S;
    };
    assert_eq!(aggregate_errors(aggregate), none);
}

#[test]
fn one_error_does_not_hide_another() {
    let errors = event_errors(quote! {
        #[event(codec = 1, retire("x"), "y", =, codec)]
        enum E {
            #[event(name = 1, version = 0, alias(2, 3), 4)]
            A(#[event(tag)] u8, #[event(tagg)] u8),
        }
    });
    assert_eq!(errors.len(), 12, "{errors:#?}");
}

#[test]
fn a_misspelt_or_unreadable_key_is_not_reported_as_missing() {
    for attribute in [quote!(nmae = "a"), quote!(name), quote!(name = 5), quote!(name: "a"), quote!(name =)] {
        let errors = event_errors(quote! { #[event(#attribute)] struct E; });
        assert_eq!(errors.len(), 1, "{errors:#?}");
    }
    let errors = aggregate_errors(quote! { #[aggregate(categry = "a", id = "u8", evnt = E)] struct S; });
    assert_eq!(errors.len(), 3, "{errors:#?}");
}

#[test]
fn an_unreadable_version_is_not_checked_against_others() {
    for attribute in [
        quote!(version = "2", upcast(1 = V1)),
        quote!(version = 3, upcast(1 = V1, 2)),
        quote!(version = 2, upcast),
        quote!(version = 3, oldest = x),
    ] {
        let errors = event_errors(quote! { #[event(name = "a", #attribute)] struct E; });
        assert_eq!(errors.len(), 1, "{errors:#?}");
    }
}

#[test]
fn a_missing_old_type_is_named_like_the_others() {
    let errors = event_errors(quote! {
        #[event(name = "a", version = 4, upcast(1 = OrderPlacedV1, 3 = OrderPlacedV3))]
        struct Placed;
    });
    assert_eq!(errors, ["version 2 is missing after version 1: add `2 = OrderPlacedV2` to `upcast(...)`"]);
}

#[test]
fn no_attribute_causes_a_panic() {
    let attributes = [
        quote!(event),
        quote!(event = 5),
        quote!(event()),
        quote!(event[name = "a"]),
        quote!(event(,,)),
        quote!(event(name = "a",,)),
        quote!(event(name = ,)),
        quote!(event(= "a")),
        quote!(event(name == "a")),
        quote!(event(name = "a" "b")),
        quote!(event(name("a") = "b")),
        quote!(event(a::b = "c")),
        quote!(event((name = "a"))),
        quote!(event(upcast(1 = A < B, 2 = C))),
        quote!(event(upcast(= A, 1 =, 1 A))),
        quote!(event(version = 1.5, oldest = 0xffff_ffff_ffff_ffff_f)),
        quote!(event(>>> name, -> <)),
        quote!(event(crate = "not a path", sample = 3)),
        quote!(event(r#name = "a")),
    ];
    for attribute in attributes {
        for item in [
            quote!(
                struct E;
            ),
            quote!(
                enum E {
                    A,
                }
            ),
            quote!(union E { a: u8 }),
        ] {
            let tokens = quote!(#[#attribute] #item);
            assert!(!expand::derive_event(tokens.clone()).is_empty(), "{tokens}");
            assert!(!expand::derive_aggregate(tokens.clone()).is_empty(), "{tokens}");
        }
    }
    assert!(
        expand::derive_event(quote!(
            fn no_type() {}
        ))
        .to_string()
        .contains("compile_error")
    );
}

#[test]
fn the_traits_are_implemented_after_an_error() {
    let expansion = expand::derive_event(quote!(
        enum E<'a, T: Clone, const N: usize> {
            A(&'a T),
        }
    ));
    let implemented: Vec<String> = items(expansion)
        .into_iter()
        .filter_map(|item| match item {
            Item::Impl(item) => {
                let (generics, ty) = (&item.generics, &item.self_ty);
                let (generics, _, _) = generics.split_for_impl();
                Some(quote!(#generics #ty).to_string())
            }
            _ => None,
        })
        .collect();
    let expected = quote!(<T: Clone, const N: usize> E<'static, T, N>).to_string();
    assert_eq!(implemented, [expected.clone(), expected]);
}

#[test]
fn the_schema_lists_each_wire_name() {
    let expansion = expand::derive_event(quote! {
        #[event(retired("c"))]
        enum E { #[event(name = "a", version = 2, oldest = 2, alias("b"))] A(#[event(tag = "k")] u8) }
    });
    assert_tokens(
        &member(expansion, "SCHEMA"),
        &quote! {
            const SCHEMA: &'static [::es_core::schema::EventSchema] = &[
                ::es_core::schema::EventSchema {
                    name: "a",
                    version: 2u32,
                    aliases: &["b"],
                    oldest: 2u32,
                    tags: &["k"]
                },
                ::es_core::schema::EventSchema { name: "c", version: 0u32, aliases: &[], oldest: 0u32, tags: &[] }
            ];
        },
    );
}

#[test]
fn decoding_matches_name_and_version() {
    let expansion = expand::derive_event(quote! {
        #[event(crate = "facade::es", retired("c"))]
        enum E { #[event(name = "a", version = 2, upcast(1 = Old), alias("b"))] A }
    });
    assert_tokens(
        &member(expansion, "decode"),
        &quote! {
            fn decode(
                __event: facade::es::schema::RawEvent<'_>,
            ) -> ::core::result::Result<facade::es::Events<Self>, facade::es::schema::DecodeEventError> {
                match __event.event_type {
                    "a" | "b" => match __event.version {
                        2u32 => ::core::result::Result::Ok(facade::es::Events::one(
                            facade::es::__private::decode_variant::<Self>("a", 0u32, __event)?
                        )),
                        1u32 => {
                            let __events = facade::es::Events::one(
                                facade::es::__private::decode_struct::<Old>("a", __event)?
                            );
                            let __events = facade::es::__private::upcast::<Old, Self>(__events);
                            ::core::result::Result::Ok(__events)
                        }
                        __found => ::core::result::Result::Err(facade::es::schema::DecodeEventError::UnknownVersion {
                            name: "a",
                            found: __found,
                            oldest: 1u32,
                            newest: 2u32,
                        }),
                    },
                    "c" => ::core::result::Result::Ok(facade::es::Events::none()),
                    _ => ::core::result::Result::Err(facade::es::__private::unknown_type::<Self>(__event)),
                }
            }
        },
    );
}

#[test]
fn aggregates_have_a_level_and_declared_snapshots() {
    let plain = quote!(
        #[aggregate(category = "a", id = u8, event = E)]
        struct S;
    );
    assert_tokens(
        &member(expand::derive_aggregate(plain.clone()), "Level"),
        &quote!(
            type Level = ::es_core::model::Local;
        ),
    );
    assert_eq!(member(expand::derive_aggregate(plain), "snapshots"), "");
    let full = quote! {
        #[aggregate(
            category = "a", id = u8, event = E,
            consistency = "causal", conflict = "canonical", snapshot(load_cost = "1500us")
        )]
        struct S;
    };
    assert_tokens(
        &member(expand::derive_aggregate(full.clone()), "Level"),
        &quote!(
            type Level = ::es_core::model::Causal;
        ),
    );
    let crdt = quote! {
        #[aggregate(category = "a", id = u8, event = E, consistency = "eventual", conflict = "crdt")]
        struct S(A, B);
    };
    assert_tokens(
        &member(expand::derive_aggregate(crdt), "CONFLICT"),
        &quote!(
            const CONFLICT: ::core::option::Option<::es_core::model::ConflictAnswer> = ::core::option::Option::Some({
                ::es_core::__private::crdt_field::<A>();
                ::es_core::__private::crdt_field::<B>();
                ::es_core::model::ConflictAnswer::Crdt
            });
        ),
    );
    let heuristic = quote! {
        #[aggregate(category = "a", id = u8, event = E, heuristic = "abort")]
        struct S;
    };
    assert_tokens(
        &member(expand::derive_aggregate(heuristic), "HEURISTIC"),
        &quote!(
            const HEURISTIC: ::es_core::aggregate::Heuristic = ::es_core::aggregate::Heuristic::Abort;
        ),
    );
    let snapshots = member(expand::derive_aggregate(full), "snapshots");
    let expected = quote! {
        ::es_core::aggregate::SnapshotPolicy {
            every: ::core::option::Option::None,
            load_cost: ::core::option::Option::Some(::core::time::Duration::new(0u64, 1500000u32)),
            keep: ::es_core::aggregate::SnapshotPolicy::DEFAULT_KEEP
        }
    };
    assert!(snapshots.contains(&expected.to_string()), "{snapshots}");
}
