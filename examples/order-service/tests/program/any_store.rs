//! The shop on other stores than the program's: in memory, and on one that fails at every moment in turn.

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
    Plan::read(&files, false).expect("the sample is good")
}

async fn import_all(shop: &Shop, dir: &TestDir) -> Result<Summary, String> {
    let done = run(shop, plan(dir), &mut Progress::silent()).await;
    done.map(|(summary, _)| summary).map_err(|failure| ErrorChain(&failure).to_string())
}

async fn report(shop: &Shop) -> Report {
    let folded = shop.fold::<Order>().await.expect("the log can be read");
    Report::of(&folded.states, folded.log_events).expect("the sums are exact")
}

#[tokio::test]
async fn an_import_that_failed_at_any_moment_ends_as_if_it_had_run_once() {
    let dir = sample();
    let counting = FaultyStore::new(Arc::new(MemoryStore::new()));
    let whole = Shop::new(Arc::new(counting.clone()));
    import_all(&whole, &dir).await.unwrap();
    assert_eq!(counting.commits(), 9, "one commit for each event");
    for commit in 0..counting.commits() {
        for fault in [Fault::Refuse, Fault::LoseAcknowledgement] {
            let store = FaultyStore::new(Arc::new(MemoryStore::new()));
            store.at_commit(commit, fault.clone());
            let shop = Shop::new(Arc::new(store));
            let failed = import_all(&shop, &dir).await.expect_err("the store failed");
            assert!(failed.contains("injected fault"), "{failed}");
            import_all(&shop, &dir).await.unwrap();
            assert_eq!(report(&shop).await, report(&whole).await, "{fault:?} at commit {commit}");
        }
    }
}

#[tokio::test]
async fn another_writer_in_between_does_no_harm() {
    let dir = sample();
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    (0..5).for_each(|commit| store.at_commit(commit, Fault::Conflict));
    let shop = Shop::new(Arc::new(store));
    let summary = import_all(&shop, &dir).await.unwrap();
    assert_eq!((summary.placed, summary.products_registered), (3, 2));
    assert_eq!(report(&shop).await.events, 9);
}
