//! Tests of the errors and the code of `#[transaction]`. `es-transaction/tests/ui` has the messages with their places.

use proc_macro2::TokenStream;
use quote::quote;

use super::transaction;

/// Returns the number of errors in an expansion.
fn errors(expansion: &TokenStream) -> usize {
    expansion.to_string().matches("compile_error !").count()
}

#[test]
fn a_transaction_is_run_by_its_coordinator() {
    let function = quote! {
        /// Books seats.
        #[inline]
        pub async fn book<T: Send>(tx: &mut Tx, seats: &Seats<T>) -> Result<T, Failed> where T: Copy {
            tx.enlist(seats).await
        }
    };
    let expected = quote! {
        /// Books seats.
        #[inline]
        pub async fn book<T: Send>(
            transactions: &::es_transaction::Transactions,
            seats: &Seats<T>
        ) -> ::core::result::Result<::es_transaction::Completed<T>, ::es_transaction::TransactionError<Failed> >
        where T: Copy
        {
            ::es_transaction::Transactions::begin(transactions)
                .protocol(::es_transaction::Protocol::ThreePhase)
                .timeout(::core::time::Duration::new(0u64, 5000000u32))
                .run(async move |tx: &mut Tx| -> Result<T, Failed> { tx.enlist(seats).await })
                .await
        }
    };
    let options = quote!(protocol = "three-phase", timeout = "5ms");
    assert_eq!(transaction(options, &function).to_string(), expected.to_string());
}

#[test]
fn without_options_the_coordinator_has_the_defaults() {
    let function = quote!(
        async fn book(self: Arc<Self>, _: &mut a::Tx) -> a::Result<(), Failed> {
            #![allow(unused)]
        }
    );
    let expected = quote! {
        async fn book(
            self: Arc<Self>,
            transactions: &a::b::Transactions
        ) -> ::core::result::Result<a::b::Completed<()>, a::b::TransactionError<Failed> > {
            #![allow(unused)]
            a::b::Transactions::begin(transactions).run(async move |_: &mut a::Tx| -> a::Result<(), Failed> {}).await
        }
    };
    assert_eq!(transaction(quote!(crate = a::b), &function).to_string(), expected.to_string());
}

#[test]
fn each_mistake_is_reported() {
    let function = quote!(
        fn book(&self, seats: Seats) -> Option<u64> {}
    );
    let options = quote!(timeout = 5, timeot = "1s", protocol = "none", protocol = "two-phase", crate);
    let expansion = transaction(options, &function);
    assert_eq!(errors(&expansion), 8, "{expansion}");
}

/// Mistakes in the attribute, and a missing `async`, cause no errors at the callers.
#[test]
fn a_signature_that_is_understood_is_expanded_in_spite_of_mistakes() {
    let function = quote!(
        fn book(tx: &mut Tx) -> Result<(), Failed> {}
    );
    let expansion = transaction(quote!(timeout = "0s"), &function);
    assert_eq!(errors(&expansion), 2, "{expansion}");
    assert!(expansion.to_string().contains("async fn book (transactions"), "{expansion}");
}

#[test]
fn an_incomplete_input_causes_no_panic() {
    let attribute = quote!(timeout = "30s", protocol = "two-phase", crate = a::b);
    let function = quote!(
        pub async fn book(&self, tx: &mut Tx, seats: u64) -> Result<(), Failed> {
            Ok(())
        }
    );
    assert_eq!(errors(&transaction(attribute.clone(), &function)), 0);
    let prefix = |tokens: &TokenStream, length| tokens.clone().into_iter().take(length).collect::<TokenStream>();
    for length in 0..attribute.clone().into_iter().count() {
        let _ = transaction(prefix(&attribute, length), &function);
    }
    for length in 0..function.clone().into_iter().count() {
        assert_eq!(errors(&transaction(attribute.clone(), &prefix(&function, length))), 1);
    }
}
