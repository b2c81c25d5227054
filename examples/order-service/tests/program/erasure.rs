//! Deleted orders and products leave the read models.

use std::sync::Arc;
use std::time::Duration;

use es_core::StreamId;
use es_core::prelude::*;
use es_core::projection::{ProjectionOptions, Supervisor};
use es_core::retention::{DeleteKind, Note, Scavenge};
use es_core::store::StoreAdmin;
use es_rocksdb::RocksDbStore;
use order_service::domain::{Order, OrderEvent};
use serde_json::{Value, json};
use ureq::Agent;

use crate::sample::{import, sample};
use crate::serve::Service;
use crate::support::TestDir;

/// Runs operations on the store, which no program has open.
async fn administer(dir: &TestDir, operate: impl AsyncFnOnce(StoreAdmin)) {
    let store = RocksDbStore::open(dir.path("shop")).await.expect("opened");
    operate(StoreAdmin::new(Arc::new(store.clone()))).await;
    store.close().await.expect("closed");
}

async fn delete(dir: &TestDir, stream: &str, kind: DeleteKind) {
    let stream = StreamId::new(stream).expect("a name");
    administer(dir, async |admin| {
        admin.delete_stream(&stream, kind, ExpectedRevision::StreamExists, Note::default()).await.expect("deleted");
    })
    .await;
}

/// The content of each read model.
fn read_models(service: &Service) -> Value {
    let rows = |path: &str| service.get(path, &[]).expect(200).body;
    let ids = |path: &str, id: &str| -> Vec<Value> {
        rows(path)["rows"].as_array().expect("rows").iter().map(|row| row[id].clone()).collect()
    };
    json!({
        "orders": ids("/orders", "order_id"), "products": ids("/products", "product_id"),
        "demand": ids("/demand", "product_id"), "countries": rows("/revenue")["by_country"],
    })
}

/// The views kept the rows of deleted orders and products, and `report --verify` found a difference.
#[tokio::test]
async fn deleted_streams_leave_the_read_models() {
    let dir = sample();
    dir.done(&import(&[]));
    dir.done(&["cancel", "A-2", "--reason", "late"]);
    assert_eq!(dir.json(&["report", "--verify"])["orders"], 3);

    delete(&dir, "order-A-1", DeleteKind::Soft).await;
    let report = dir.json(&["report", "--verify"]);
    assert_eq!((&report["orders"], &report["by_status"]["cancelled"]), (&json!(2), &json!(1)));
    assert_eq!(report["revenue_by_country"], json!({"Germany": report["revenue"]}));
    delete(&dir, "order-A-2", DeleteKind::Hard).await;
    assert_eq!(dir.json(&["report", "--verify"])["by_status"]["cancelled"], 0);
    delete(&dir, "product-P-10", DeleteKind::Soft).await;
    administer(&dir, async |admin| {
        admin.scavenge(&Scavenge::default()).await.expect("scavenged");
    })
    .await;
    assert_eq!(dir.json(&["report", "--verify"])["orders"], 1);
    administer(&dir, async |admin| admin.compact().await.expect("compacted")).await;
    assert_eq!(dir.json(&["report", "--verify"])["orders"], 1);

    let service = Service::new(&dir);
    let expected =
        json!({"orders": ["A-3"], "products": ["P-11"], "demand": ["P-13"], "countries": {"Germany": "122.40"}});
    assert_eq!(read_models(&service), expected);
    service.stop();
    // A soft deletion permits the same id again.
    dir.done(&["place", "A-1", "--customer", "MORLAND", "--line", "P-10:1:4.50"]);
    assert_eq!(dir.json(&["report", "--verify"])["orders"], 2);
    dir.done(&["projections", "rebuild", "sales"]);
    assert_eq!(dir.json(&["report", "--verify"])["orders"], 2);
}

/// The same for a deletion while the service runs, as `es --url` requests it.
#[test]
fn a_stream_that_is_deleted_in_a_running_service_leaves_the_read_models() {
    let dir = sample();
    dir.done(&import(&[]));
    let service = Service::new(&dir);
    let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
    let mut position = Value::Null;
    for (stream, kind) in [("order-A-3", "hard"), ("order-A-1", "soft"), ("product-P-11", "hard")] {
        let uri = format!("{}/streams/{stream}?kind={kind}", service.operations);
        let mut response = agent.delete(uri).call().expect("a response");
        assert_eq!(response.status().as_u16(), 200);
        let text = response.body_mut().read_to_string().expect("text");
        position = serde_json::from_str::<Value>(&text).expect("JSON")["position"].clone();
    }
    for path in ["orders", "products", "demand", "revenue"] {
        service.get(&format!("/{path}?at_least={position}"), &[]).expect(200);
    }
    let expected =
        json!({"orders": ["A-2"], "products": ["P-10"], "demand": ["P-11"], "countries": {"Ireland": "64.00"}});
    assert_eq!(read_models(&service), expected);
    let report = service.get("/report", &[]).expect(200).body;
    service.stop();
    assert_eq!(dir.json(&["report", "--verify"]), report);
}

/// The revenue report of an earlier version, whose view lacks everything.
struct OldSales;

impl Projection for OldSales {
    type Source = Order;
    const NAME: &'static str = "sales";

    fn apply(&self, _: &OrderEvent, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
        Ok(())
    }
}

/// The first report after an upgrade was that of the view of the earlier version, which had caught up with the log.
#[tokio::test]
async fn a_report_waits_for_the_view_of_a_new_version() {
    const TIMEOUT: Duration = Duration::from_secs(60);
    let dir = sample();
    dir.done(&import(&[]));
    let store = RocksDbStore::open(dir.path("shop")).await.expect("opened");
    let old = Supervisor::new().projection(OldSales, ProjectionOptions::new());
    let running = old.start(Arc::new(store.clone())).await.expect("started");
    running.wait_for(store.head().await.expect("read"), TIMEOUT).await.expect("caught up");
    running.shutdown(TIMEOUT).await.expect("stopped");
    store.close().await.expect("closed");
    assert_eq!(dir.json(&["report", "--verify"])["orders"], 3);
}
