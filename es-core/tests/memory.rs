//! The conformance suite for the memory store.

use std::sync::Arc;

use async_trait::async_trait;
use es_core::EventStore;
use es_core::store::implement::PrepareHook;
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

    async fn reopen(&self, _: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        None
    }
}

es_core::conformance_tests!(Memory);
