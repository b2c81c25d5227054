//! The derives refuse exactly the reserved names that a store refuses. The sources of es-macros are compiled again
//! here, because a procedural macro exports nothing else.
#![allow(clippy::unwrap_used, dead_code, reason = "a test, and sources of which it uses a part")]

#[path = "../../es-macros/src/ast/mod.rs"]
mod ast;
#[path = "../../es-macros/src/attr/mod.rs"]
mod attr;
#[path = "../../es-macros/src/ctxt.rs"]
mod ctxt;
#[path = "../../es-macros/src/duration.rs"]
mod duration;
#[path = "../../es-macros/src/expand/mod.rs"]
mod expand;
#[path = "../../es-macros/src/fallback.rs"]
mod fallback;
#[path = "../../es-macros/src/fingerprint.rs"]
mod fingerprint;
#[path = "../../es-macros/src/generics.rs"]
mod generics;
#[path = "../../es-macros/src/suggest.rs"]
mod suggest;
#[path = "../../es-macros/src/valid/mod.rs"]
mod valid;

use es_core::store::memory::MemoryStore;
use es_core::store::{CommitError, InvalidCommit};
use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, StreamId};
use proc_macro2::TokenStream;
use quote::quote;

const NAMES: [&str; 14] = [
    "es.",
    "es.x",
    "es.es.",
    "es.retention",
    "es.projections",
    "es",
    "es_x",
    "escorted",
    "ES.x",
    " es.x",
    "x.es.y",
    "es\u{2024}x",
    "node.x",
    "snapshots",
];

fn is_refused_by_derive(expanded: &TokenStream) -> bool {
    expanded.to_string().contains("are for the framework")
}

async fn is_refused_by_store(stream: &str, event_type: &str) -> bool {
    let event = NewEvent::json(EventType::new(event_type).unwrap(), "{}");
    let commit = Commit::to(&StreamId::new(stream).unwrap(), ExpectedRevision::Any, [event]);
    match MemoryStore::new().commit(commit).await {
        Ok(_) => false,
        Err(CommitError::Invalid(InvalidCommit::Reserved { .. })) => true,
        Err(other) => panic!("stream {stream:?}, event type {event_type:?}: {other:?}"),
    }
}

#[tokio::test]
async fn the_derives_refuse_the_reserved_names_that_a_store_refuses() {
    let mut refused = 0;
    for name in NAMES {
        let event = expand::derive_event(quote! {
            #[event(name = #name)]
            struct Happened;
        });
        let of_store = is_refused_by_store("a-1", name).await;
        assert_eq!(is_refused_by_derive(&event), of_store, "event type {name:?}");
        let former = expand::derive_event(quote! {
            #[event(name = "x", alias(#name))]
            struct Happened;
        });
        assert_eq!(is_refused_by_derive(&former), of_store, "former event type {name:?}");
        let aggregate = expand::derive_aggregate(quote! {
            #[aggregate(category = #name, id = u64, event = Happened)]
            struct Happening;
        });
        assert_eq!(is_refused_by_derive(&aggregate), is_refused_by_store(&format!("{name}-1"), "x").await, "{name:?}");
        refused += usize::from(of_store);
    }
    assert_eq!(refused, 5, "both kinds of names are tried");
}
