//! The derive macros of `es_core`: [`macro@Event`] and [`macro@Aggregate`].
//!
//! They are used through `es_core`, which exports them, and they name everything that they use in full, so that nothing
//! has to be imported for them.
//!
//! # How it works
//!
//! ```text
//! tokens ──syn──▶ DeriveInput ──ast──▶ EventInput ──valid──▶ checked ──expand──▶ impl Event, impl EventSamples
//!                        attr: what the       │                 │
//!                        attributes say       └──── Ctxt ◀──────┘  every mistake, on its own span
//!                                                     │
//!                                                     └──fallback──▶ compile_error! and empty implementations
//! ```
//!
//! A mistake never ends the work: it goes into one `Ctxt`, and all of them are reported by one compilation. Then the
//! empty implementations keep the compiler from reporting, wherever the type is used, that a trait is missing.
//!
//! The tests of the generated code are in `es-core/tests`, because this crate does not depend on es-core. For the same
//! reason, es-core compiles the examples of `docs/`.

mod ast;
mod attr;
mod ctxt;
mod duration;
mod expand;
mod fallback;
mod fingerprint;
mod generics;
mod suggest;
#[cfg(test)]
mod tests;
mod valid;

use proc_macro::TokenStream;

#[doc = include_str!("docs/event.md")]
#[proc_macro_derive(Event, attributes(event))]
pub fn event(input: TokenStream) -> TokenStream {
    expand::derive_event(input.into()).into()
}

#[doc = include_str!("docs/aggregate.md")]
#[proc_macro_derive(Aggregate, attributes(aggregate))]
pub fn aggregate(input: TokenStream) -> TokenStream {
    expand::derive_aggregate(input.into()).into()
}
