//! The memory store passes the suite that it is the specification of.

use std::sync::Arc;

use async_trait::async_trait;
use es_core::EventStore;
use es_core::store::memory::MemoryStore;
use es_core::testing::conformance::Harness;

struct Memory;

#[async_trait]
impl Harness for Memory {
    async fn open(&self) -> Arc<dyn EventStore> {
        Arc::new(MemoryStore::new())
    }

    async fn reopen(&self, _: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        None
    }
}

es_core::conformance_tests!(Memory);
