//! The derives reject exactly the reserved names that a store rejects. The test compiles the sources of es-macros,
//! because a procedural macro crate exports only its macros.
#![allow(clippy::unwrap_used, dead_code, reason = "a test, which uses a part of the sources")]

#[path = "../../es-macros/src/ast/mod.rs"]
mod ast;
#[path = "../../es-macros/src/attr/mod.rs"]
mod attr;
#[path = "../../es-macros/src/ctxt.rs"]
mod ctxt;
#[path = "../../es-macros/src/deprecated.rs"]
mod deprecated;
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

fn is_rejected_by_derive(expanded: &TokenStream) -> bool {
    expanded.to_string().contains("are for the framework")
}

async fn is_rejected_by_store(stream: &str, event_type: &str) -> bool {
    let event = NewEvent::json(EventType::new(event_type).unwrap(), "{}");
    let commit = Commit::to(&StreamId::new(stream).unwrap(), ExpectedRevision::Any, [event]);
    match MemoryStore::new().commit(commit).await {
        Ok(_) => false,
        Err(CommitError::Invalid(InvalidCommit::Reserved { .. })) => true,
        Err(other) => panic!("stream {stream:?}, event type {event_type:?}: {other:?}"),
    }
}

#[tokio::test]
async fn the_derives_reject_the_reserved_names_that_a_store_rejects() {
    let mut rejected = 0;
    for name in NAMES {
        let event = expand::derive_event(quote! {
            #[event(name = #name)]
            struct Happened;
        });
        let by_store = is_rejected_by_store("a-1", name).await;
        assert_eq!(is_rejected_by_derive(&event), by_store, "event type {name:?}");
        let former = expand::derive_event(quote! {
            #[event(name = "x", alias(#name))]
            struct Happened;
        });
        assert_eq!(is_rejected_by_derive(&former), by_store, "former event type {name:?}");
        let aggregate = expand::derive_aggregate(quote! {
            #[aggregate(category = #name, id = u64, event = Happened)]
            struct Happening;
        });
        assert_eq!(
            is_rejected_by_derive(&aggregate),
            is_rejected_by_store(&format!("{name}-1"), "x").await,
            "{name:?}"
        );
        rejected += usize::from(by_store);
    }
    assert_eq!(rejected, 5, "the list has reserved and other names");
}
