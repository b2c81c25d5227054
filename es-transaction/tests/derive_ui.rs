//! Compiler output for invalid transactions: `ui/transaction` has one file for each message, with the expected output
//! in the `.stderr` file of the same name. The files in `ui/pass` must compile and run.
//!
//! Some messages are from the compiler and change with its version; the expected ones are from the `rust-version` of
//! the workspace. `TRYBUILD=overwrite cargo test -p es-transaction --test derive_ui` rewrites them: review the diff.
//!
//! | mistake | here |
//! |---|---|
//! | no `&mut Tx`, or not first | `missing_tx`, `tx_not_first` |
//! | `Tx`, `&Tx`, `&'a mut Tx` | `tx_by_value`, `tx_by_shared_reference`, `tx_with_lifetime` |
//! | not an `async fn` | `not_async`, `not_a_function`, `method_of_trait` |
//! | no `Result` with two named types | `nothing_returned`, `no_result`, `result_alias`, `impl_trait` |
//! | an option | `bad_timeout`, `zero_timeout`, `unknown_protocol`, `unknown_key`, `duplicate_key` |
//! | the body | `enlist_of_other_request`, `other_error` |
//! | several mistakes at once | `several_errors` |
#![cfg(feature = "derive")]

#[test]
fn errors_of_transactions() {
    trybuild::TestCases::new().compile_fail("tests/ui/transaction/*.rs");
}

#[test]
fn valid_declarations_compile() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}
