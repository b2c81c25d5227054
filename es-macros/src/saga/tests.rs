//! Tests of the errors of the macros of es-saga. `es-saga/tests/ui` has the messages with their places.

use proc_macro2::TokenStream;
use quote::quote;

use super::{derive_saga_step, saga, step_function};

/// Returns the number of errors in an expansion.
fn errors(expansion: &TokenStream) -> usize {
    expansion.to_string().matches("compile_error !").count()
}

#[test]
fn each_mistake_of_a_saga_is_reported() {
    let expansion = saga(quote! {
        saga Order(order: u64) -> Parcel, version = 0, verson = 1, deadline = "x" {
            let stock = Reserve(ordr);
            let (a, b) = Pay(order);
            let paid = Pay(order, a, later);
            let later = if unrelated + stock > 0 { Check(order) };
            pivot;
            pivot;
            for item in later { Ship(order) }
            Reserve(order);
            child Order(order);
            saga Ride(order);
            delay("3 days");
            delay(order);
            delay("0s");
            delay("3d", order);
            for item in later { delay("3d") }
            stock;
            later
        }
    });
    assert_eq!(errors(&expansion), 21, "{expansion}");
    assert!(expansion.to_string().contains("struct Order"), "the type exists, so that its uses are not errors, too");
}

#[test]
fn a_line_ends_at_its_semicolon_or_its_block() {
    let expansion = saga(quote! {
        saga Order(order: u64) {
            if *order > 0 { First(order) }
            for item in order { Second(item); }
            let third = if { let limit = 7; *order > limit } { Third(order) };
            if matches!(order, 1..=9) { Fourth(order) };
            if *order > 0 { Fifth(order) }
        }
    });
    assert_eq!(errors(&expansion), 0, "{expansion}");
    assert_eq!(expansion.to_string().matches(". node").count(), 5, "{expansion}");
}

#[test]
fn each_mistake_of_a_step_is_reported() {
    let step = derive_saga_step(quote! {
        #[saga_step(
            nam = 1, version = 0, retry(first = "0s", atempts = 1), undo = "none", concurrency = "x", pivot = 1
        )]
        struct Pay(#[saga_step(name = "a")] u64);
    });
    assert_eq!(errors(&step), 8, "{step}");
    let function = quote!(
        fn pay<T>(&self, a: &str, b: T) -> u64 {}
    );
    let function = step_function(quote!(undo = 5, retry), &function);
    assert_eq!(errors(&function), 9, "{function}");
}

/// Returns the prefixes of tokens, with the prefixes of their groups.
fn prefixes(tokens: &TokenStream) -> Vec<TokenStream> {
    let mut prefixes = vec![TokenStream::new()];
    let mut before = TokenStream::new();
    for token in tokens.clone() {
        if let proc_macro2::TokenTree::Group(group) = &token {
            for content in self::prefixes(&group.stream()) {
                let group = proc_macro2::Group::new(group.delimiter(), content);
                prefixes.push(quote!(#before #group));
            }
        }
        before.extend([token]);
        prefixes.push(before.clone());
    }
    prefixes
}

#[test]
fn an_incomplete_input_causes_no_panic() {
    let whole = quote! {
        #[doc = "text"]
        pub saga Order(order: u64) -> Parcel, version = 1 {
            let stock = local Reserve::<u64>(order) as "first" after order, order;
            let ride = child Ride(order) as "ride" after stock;
            if *order > 1 { delay("3d", order) as "pause" after ride }
            let paid = if *order > 0 { Pay(order, (stock, order)) };
            for item in stock { Ship(item) }
            pivot;
            Ship(stock)
        }
    };
    assert_eq!(errors(&saga(whole.clone())), 1, "a second node of `Ship`");
    let prefixes = prefixes(&whole);
    assert!(prefixes.len() > 50);
    for prefix in prefixes {
        let _ = saga(prefix.clone());
        let _ = derive_saga_step(quote!(
            #[saga_step(#prefix)]
            struct S;
        ));
        let _ = step_function(
            prefix.clone(),
            &quote!(
                async fn f() -> Result<(), E> {}
            ),
        );
        let _ = step_function(quote!(step = S), &prefix);
    }
}
