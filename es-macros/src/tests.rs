//! What the derive macros make of tokens: which mistakes they find, and what they write.

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

/// What is wrong with an event type.
fn event_mistakes(tokens: TokenStream) -> Vec<String> {
    let source: DeriveInput = syn::parse2(tokens).expect("an item");
    let cx = Ctxt::default();
    let input = EventInput::new(&cx, &source);
    valid::event(&cx, &input);
    messages(cx)
}

/// What is wrong with an aggregate.
fn aggregate_mistakes(tokens: TokenStream) -> Vec<String> {
    let source: DeriveInput = syn::parse2(tokens).expect("an item");
    let cx = Ctxt::default();
    let input = AggregateInput::new(&cx, &source);
    valid::aggregate(&cx, &input);
    messages(cx)
}

/// The items of an expansion.
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

/// A constant or function of the first implementation, as tokens.
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

fn same(found: &str, expected: &TokenStream) {
    assert_eq!(found, expected.to_string());
}

#[test]
fn what_is_right_has_no_mistakes() {
    let none: [&str; 0] = [];
    let event = quote! {
        #[event(codec = "msgpack", retired("c",),)]
        enum E {
            #[event(name = "a", version = 3, upcast(1 = Map<K, V>, 2 = fn() -> (A, B)), alias("b"),)]
            A { #[event(tag)] id: u64 },
        }
    };
    assert_eq!(event_mistakes(event), none);
    let aggregate = quote! {
        #[aggregate(category = "a", id = Id<A, B>, event = <T as Trait<A, B>>::Event, snapshot(every = 1))]
        struct S;
    };
    assert_eq!(aggregate_mistakes(aggregate), none);
}

#[test]
fn one_mistake_does_not_hide_another() {
    let mistakes = event_mistakes(quote! {
        #[event(codec = 1, retire("x"), "y", =, codec)]
        enum E {
            #[event(name = 1, version = 0, alias(2, 3), 4)]
            A(#[event(tag)] u8, #[event(tagg)] u8),
        }
    });
    assert_eq!(mistakes.len(), 12, "{mistakes:#?}");
}

#[test]
fn a_key_that_is_misspelt_or_unreadable_is_not_missing_too() {
    for attribute in [quote!(nmae = "a"), quote!(name), quote!(name = 5), quote!(name: "a"), quote!(name =)] {
        let mistakes = event_mistakes(quote! { #[event(#attribute)] struct E; });
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    }
    let mistakes = aggregate_mistakes(quote! { #[aggregate(categry = "a", id = "u8", evnt = E)] struct S; });
    assert_eq!(mistakes.len(), 3, "{mistakes:#?}");
}

#[test]
fn an_unreadable_version_says_nothing_of_the_chain() {
    for attribute in [
        quote!(version = "2", upcast(1 = V1)),
        quote!(version = 3, upcast(1 = V1, 2)),
        quote!(version = 2, upcast),
        quote!(version = 3, oldest = x),
    ] {
        let mistakes = event_mistakes(quote! { #[event(name = "a", #attribute)] struct E; });
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    }
}

#[test]
fn the_missing_old_type_is_named_after_its_neighbours() {
    let mistakes = event_mistakes(quote! {
        #[event(name = "a", version = 4, upcast(1 = OrderPlacedV1, 3 = OrderPlacedV3))]
        struct Placed;
    });
    assert_eq!(
        mistakes,
        ["version 1 leads to version 2, which is not listed: add `2 = OrderPlacedV2` to `upcast(...)`"]
    );
}

#[test]
fn any_attribute_is_read_without_a_panic() {
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
fn after_a_mistake_the_traits_are_implemented_all_the_same() {
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
fn the_schema_lists_every_wire_name() {
    let expansion = expand::derive_event(quote! {
        #[event(retired("c"))]
        enum E { #[event(name = "a", version = 2, oldest = 2, alias("b"))] A }
    });
    same(
        &member(expansion, "SCHEMA"),
        &quote! {
            const SCHEMA: &'static [::es_core::schema::EventSchema] = &[
                ::es_core::schema::EventSchema { name: "a", version: 2u32, aliases: &["b"], oldest: 2u32 },
                ::es_core::schema::EventSchema { name: "c", version: 0u32, aliases: &[], oldest: 0u32 }
            ];
        },
    );
}

#[test]
fn decoding_goes_by_name_and_version() {
    let expansion = expand::derive_event(quote! {
        #[event(crate = "facade::es", retired("c"))]
        enum E { #[event(name = "a", version = 2, upcast(1 = Old), alias("b"))] A }
    });
    same(
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
fn the_level_is_always_written_for_an_aggregate_and_snapshots_where_declared() {
    let plain = quote!(
        #[aggregate(category = "a", id = u8, event = E)]
        struct S;
    );
    same(
        &member(expand::derive_aggregate(plain.clone()), "Level"),
        &quote!(
            type Level = ::es_core::model::Local;
        ),
    );
    assert_eq!(member(expand::derive_aggregate(plain), "snapshots"), "");
    let full = quote! {
        #[aggregate(category = "a", id = u8, event = E, consistency = "causal", snapshot(load_cost = "1500us"))]
        struct S;
    };
    same(
        &member(expand::derive_aggregate(full.clone()), "Level"),
        &quote!(
            type Level = ::es_core::model::Causal;
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
