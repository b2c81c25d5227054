//! The conformance suite for the memory store, and for a layer over it.

use std::sync::Arc;

use async_trait::async_trait;
use es_core::EventStore;
use es_core::model::Clock;
use es_core::store::implement::{PrepareHook, StoreLayer};
use es_core::store::memory::MemoryStore;
use es_core::testing::conformance::Harness;

struct Memory;

#[async_trait]
impl Harness for Memory {
    async fn open_with(&self, hooks: Vec<Arc<dyn PrepareHook>>) -> Arc<dyn EventStore> {
        let mut store = MemoryStore::new();
        for hook in hooks {
            store = store.with_hook(hook).await.expect("the hook starts");
        }
        Arc::new(store)
    }

    async fn open_with_clock(&self, clock: Arc<dyn Clock>) -> Option<Arc<dyn EventStore>> {
        Some(Arc::new(MemoryStore::with_clock(clock)))
    }

    async fn reopen(&self, _: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        None
    }
}

/// A layer that changes nothing. It must have the contract of the inner store.
#[derive(Debug)]
struct Unchanged(Arc<dyn EventStore>);

impl StoreLayer for Unchanged {
    fn inner(&self) -> &dyn EventStore {
        &*self.0
    }
}

struct Layered;

#[async_trait]
impl Harness for Layered {
    async fn open_with(&self, hooks: Vec<Arc<dyn PrepareHook>>) -> Arc<dyn EventStore> {
        Arc::new(Unchanged(Memory.open_with(hooks).await))
    }

    async fn open_with_clock(&self, clock: Arc<dyn Clock>) -> Option<Arc<dyn EventStore>> {
        Some(Arc::new(Unchanged(Arc::new(MemoryStore::with_clock(clock)))))
    }

    async fn reopen(&self, _: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        None
    }
}

mod memory {
    es_core::conformance_tests!(super::Memory);
}

mod layer {
    es_core::conformance_tests!(super::Layered);
}
