#![doc = include_str!("docs/crate.md")]
//!
//! # How it works
//!
//! ```text
//! tokens ──syn──▶ DeriveInput ──ast──▶ EventInput ──valid──▶ checked ──expand──▶ impl Event, impl EventSamples
//!                        attr: parses         │                 │
//!                        attributes           └──── Ctxt ◀──────┘  all errors, each with its span
//!                                                     │
//!                                                     └──fallback──▶ compile_error! and empty implementations
//! ```
//!
//! `Ctxt` collects errors, so that one compilation reports all of them. The empty implementations keep the compiler
//! from reporting a missing implementation wherever the type is used.
//!
//! The tests of the generated code are in the `tests` of es-core, es-saga and es-transaction, because this crate does
//! not depend on them. For the same reason, they compile the examples of `docs/`. `saga` has the macros of es-saga,
//! `transaction` that of es-transaction.

mod ast;
mod attr;
mod ctxt;
mod deprecated;
mod duration;
mod expand;
mod fallback;
mod fingerprint;
mod generics;
mod saga;
mod suggest;
#[cfg(test)]
mod tests;
mod transaction;
mod valid;

use proc_macro::TokenStream;

#[doc = include_str!("docs/event.md")]
#[proc_macro_derive(Event, attributes(event))]
pub fn event(input: TokenStream) -> TokenStream {
    expand::derive_event(input.into()).into()
}

#[doc = include_str!("docs/saga_step.md")]
#[proc_macro_derive(SagaStep, attributes(saga_step))]
pub fn saga_step(input: TokenStream) -> TokenStream {
    saga::derive_saga_step(input.into()).into()
}

#[doc = include_str!("docs/aggregate.md")]
#[proc_macro_derive(Aggregate, attributes(aggregate))]
pub fn aggregate(input: TokenStream) -> TokenStream {
    expand::derive_aggregate(input.into()).into()
}

#[doc = include_str!("docs/step_function.md")]
#[proc_macro_attribute]
pub fn step_function(attribute: TokenStream, item: TokenStream) -> TokenStream {
    saga::step_function(attribute.into(), &item.into()).into()
}

#[doc = include_str!("docs/saga.md")]
#[proc_macro]
pub fn saga(input: TokenStream) -> TokenStream {
    saga::saga(input.into()).into()
}

#[doc = include_str!("docs/transaction.md")]
#[proc_macro_attribute]
pub fn transaction(attribute: TokenStream, item: TokenStream) -> TokenStream {
    transaction::transaction(attribute.into(), &item.into()).into()
}
