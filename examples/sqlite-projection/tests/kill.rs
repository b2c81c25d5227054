//! Whenever the program is killed, the view is the fold of the log up to its checkpoint, and in the end of the whole log.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use es_core::{EventReader, EventStore, LogRead, Position};
use es_rocksdb::{Options, RocksDbStore};
use order_service::domain::order::{Approve, Cancel, Deliver, Place, Ship};
use order_service::domain::{Destination, OrderEvent, OrderLine, OrderLines};
use order_service::shop::Shop;
use sqlite_projection::View;

const ORDERS: usize = 120;
const BATCH: &str = "3";

async fn open(dir: &Path) -> RocksDbStore {
    let small = Options::new().block_cache_bytes(4 << 20).write_buffer_bytes(1 << 20);
    small.open(dir).await.expect("the store opens")
}

/// Orders of seven customers, in all states.
async fn fill(dir: &Path) {
    let store = open(dir).await;
    let shop = Shop::new(Arc::new(store.clone()));
    for number in 0..ORDERS {
        let id = format!("A-{number}").parse().expect("an id");
        let line = OrderLine {
            product: "11".parse().expect("an id"),
            unit_price: "9.80".parse().expect("a price"),
            quantity: "2".parse().expect("a quantity"),
            discount: "0".parse().expect("a discount"),
        };
        let lines = OrderLines::new(vec![line]).expect("lines");
        let customer = format!("C{}", number % 7).parse().expect("an id");
        shop.orders.execute(&id, Place { customer, destination: Destination::default(), lines }).await.expect("placed");
        if number % 5 == 0 {
            shop.orders.execute(&id, Cancel { reason: "no".parse().expect("a reason") }).await.expect("cancelled");
            continue;
        }
        shop.orders.execute(&id, Approve).await.expect("approved");
        if number % 2 == 0 {
            shop.orders.execute(&id, Ship).await.expect("shipped");
        }
        if number % 4 == 0 {
            shop.orders.execute(&id, Deliver).await.expect("delivered");
        }
    }
    drop(shop);
    store.close().await.expect("closed");
}

/// What the view must be: the log up to a position, folded by hand.
async fn fold(dir: &Path, to: Option<Position>) -> (Vec<(String, [u64; 4])>, bool) {
    let store = open(dir).await;
    let mut customers: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    let mut owners = BTreeMap::new();
    let log = store.read_log(LogRead::all()).await.expect("a log").collect().await.expect("events");
    let is_whole = log.last().map(|event| event.position) <= to;
    for record in log.iter().filter(|record| Some(record.position) <= to) {
        for event in record.decode::<OrderEvent>().expect("an order's event") {
            let index = match event {
                OrderEvent::Placed { customer, .. } => {
                    owners.insert(record.stream.clone(), customer.as_str().to_owned());
                    0
                }
                OrderEvent::Approved => continue,
                OrderEvent::Shipped => 1,
                OrderEvent::Delivered => 2,
                OrderEvent::Cancelled { .. } => 3,
            };
            customers.entry(owners[&record.stream].clone()).or_default()[index] += 1;
        }
    }
    store.close().await.expect("closed");
    (customers.into_iter().collect(), is_whole)
}

/// Runs the program and kills it when it has written so many checkpoints, in the middle of the next.
fn run_and_kill(store: &Path, view: &Path, checkpoints: usize) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sqlite-projection"));
    let mut child = command.arg(store).arg(view).arg(BATCH).stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let heard = lines.map_while(Result::ok).take(checkpoints).count();
    // NOTE: an error says that it has ended by itself.
    let _ = child.kill();
    child.wait().expect("it ends");
    assert!(heard > 0, "it said nothing");
}

#[tokio::test]
async fn a_view_that_is_killed_counts_each_event_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, view) = (dir.path().join("store"), dir.path().join("view.db"));
    fill(&store).await;
    let mut kills = 0;
    loop {
        run_and_kill(&store, &view, 4 + kills % 9);
        let found = View::open(&view).expect("a view");
        let (expected, is_whole) = fold(&store, found.checkpoint().expect("a checkpoint")).await;
        assert_eq!(found.customers().expect("customers"), expected, "after {kills} kills");
        if is_whole {
            break;
        }
        kills += 1;
        assert!(kills < 200, "it never gets to the end");
    }
    assert!(kills > 3, "it was killed {kills} times only");
}
