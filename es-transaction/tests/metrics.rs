//! The metrics of a coordinator, compared with the table of the book.
#![allow(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod bank;
#[path = "../../es-saga/tests/book/mod.rs"]
mod book;

use std::sync::Arc;
use std::time::Duration;

use bank::*;
use es_core::EventStore;
use es_core::store::memory::MemoryStore;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

#[tokio::test(flavor = "current_thread")]
async fn a_coordinator_counts_outcomes_and_the_book_names_its_metrics() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // The coordinator runs on the thread of the test, too.
    let _guard = metrics::set_default_local_recorder(&recorder);
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let a = Bank::new("a").with_account(1, 100).await;
    let running = coordinator(&store, &[&a]).start().await.unwrap();
    for cents in [30, 1_000] {
        let transfer = running.begin().run(async |tx| tx.enlist_participant(&a.participant, &withdraw(1, cents)));
        assert_eq!(transfer.await.is_ok(), cents == 30);
    }
    assert!(running.shutdown(Duration::from_secs(5)).await);
    let recorded = snapshotter.snapshot().into_vec();
    for prefix in ["es_transactions_", "es_transaction_seconds", "es_transaction_calls"] {
        book::assert_documented(&recorded, prefix);
    }
    let outcome = |expected: &str| {
        let is_outcome = |key: &metrics::Key| key.labels().any(|label| label.value() == expected);
        let found = recorded.iter().find(|(key, ..)| is_outcome(key.key()));
        found.map(|(.., value)| value)
    };
    assert_eq!(outcome("committed"), Some(&DebugValue::Counter(1)));
    assert_eq!(outcome("aborted"), Some(&DebugValue::Counter(1)));
    assert_eq!(outcome("unknown"), Some(&DebugValue::Counter(0)));
}
