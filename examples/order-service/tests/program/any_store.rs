//! Imports into the memory store, with a fault at each commit in turn.

use std::sync::Arc;

use es_core::model::ErrorChain;
use es_core::store::memory::MemoryStore;
use es_core::testing::{Fault, FaultyStore};
use order_service::domain::Order;
use order_service::import::{Files, Plan, Progress, Summary, run};
use order_service::report::Report;
use order_service::shop::Shop;

use crate::sample::sample;
use crate::support::TestDir;

fn plan(dir: &TestDir) -> Plan {
    let products = Some(dir.path("products.csv"));
    let files = Files { orders: dir.path("orders.csv"), lines: dir.path("lines.csv"), products };
    Plan::read(&files, false).expect("the sample is valid")
}

async fn import_all(shop: &Shop, dir: &TestDir) -> Result<Summary, String> {
    let imported = run(shop, plan(dir), &mut Progress::silent()).await;
    imported.map(|(summary, _)| summary).map_err(|failure| ErrorChain(&failure).to_string())
}

async fn report(shop: &Shop) -> Report {
    let folded = shop.fold::<Order>().await.expect("the log can be read");
    Report::of(&folded.states, folded.log_events).expect("the sums are exact")
}

#[tokio::test]
async fn an_import_that_failed_at_any_commit_can_be_repeated() {
    let dir = sample();
    let fault_free_store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let expected = Shop::new(Arc::new(fault_free_store.clone()));
    import_all(&expected, &dir).await.unwrap();
    assert_eq!(fault_free_store.commits(), 9, "one commit for each event");
    for commit in 0..fault_free_store.commits() {
        for fault in [Fault::Refuse, Fault::LoseAcknowledgement] {
            let store = FaultyStore::new(Arc::new(MemoryStore::new()));
            store.at_commit(commit, fault.clone());
            let shop = Shop::new(Arc::new(store));
            let error = import_all(&shop, &dir).await.expect_err("the store has a fault");
            assert!(error.contains("injected fault"), "{error}");
            import_all(&shop, &dir).await.unwrap();
            assert_eq!(report(&shop).await, report(&expected).await, "{fault:?} at commit {commit}");
        }
    }
}

#[tokio::test]
async fn an_import_retries_after_conflicts_with_another_writer() {
    let dir = sample();
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    (0..5).for_each(|commit| store.at_commit(commit, Fault::Conflict));
    let shop = Shop::new(Arc::new(store));
    let summary = import_all(&shop, &dir).await.unwrap();
    assert_eq!((summary.placed, summary.products_registered), (3, 2));
    assert_eq!(report(&shop).await.events, 9);
}
