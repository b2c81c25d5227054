//! Kills the program repeatedly. After each kill, the view equals a replay of the log up to its checkpoint.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use es_core::retention::{DeleteKind, Note};
use es_core::store::StoreAdmin;
use es_core::{EventReader, EventStore, ExpectedRevision, LogRead, Position, StreamId};
use es_rocksdb::{Backups, Options, RocksDbStore};
use order_service::domain::order::{Approve, Cancel, Deliver, Place, Ship};
use order_service::domain::{Destination, OrderEvent, OrderLine, OrderLines};
use order_service::shop::Shop;
use sqlite_projection::{Failure, View, follow};

const ORDERS: usize = 120;
const BATCH: &str = "3";

async fn open(dir: &Path) -> RocksDbStore {
    let options = Options::new().block_cache_bytes(4 << 20).write_buffer_bytes(1 << 20);
    options.open(dir).await.expect("the store opens")
}

/// Places orders of seven customers, in all statuses.
async fn place_orders(dir: &Path) {
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

/// A replay of the log up to a position.
struct Replay {
    /// The expected view.
    customers: Vec<(String, [u64; 4])>,
    /// Whether the position is the end of the log.
    is_complete: bool,
}

/// Replays the log up to a position.
async fn replay(dir: &Path, to: Option<Position>) -> Replay {
    let store = open(dir).await;
    let mut customers: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    let mut owners = BTreeMap::new();
    let log = LogRead::category("order".parse().expect("a name"));
    let log = store.read_log(log).await.expect("a log").collect().await.expect("events");
    let is_complete = log.last().map(|event| event.position) <= to;
    for record in log.iter().filter(|record| Some(record.position) <= to) {
        for event in record.decode::<OrderEvent>().expect("an order's event") {
            let index = match event {
                OrderEvent::Placed { customer, .. } => {
                    owners.insert(record.stream.clone(), customer.as_str().to_owned());
                    0
                }
                OrderEvent::Approved | OrderEvent::PaymentReminded => continue,
                OrderEvent::Shipped => 1,
                OrderEvent::Delivered => 2,
                OrderEvent::Cancelled { .. } => 3,
            };
            customers.entry(owners[&record.stream].clone()).or_default()[index] += 1;
        }
    }
    store.close().await.expect("closed");
    Replay { customers: customers.into_iter().collect(), is_complete }
}

/// Runs the program and kills it after it has written this many checkpoints, while it applies the next batch.
fn run_and_kill(store: &Path, view: &Path, checkpoints: usize) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sqlite-projection"));
    let mut child = command.arg(store).arg(view).arg(BATCH).stdout(Stdio::piped()).spawn().expect("the program starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let printed = lines.map_while(Result::ok).take(checkpoints).count();
    // An error means that the program has exited already.
    let _ = child.kill();
    child.wait().expect("wait for the program");
    assert!(printed > 0, "the program printed no checkpoint");
}

#[tokio::test]
async fn a_killed_projection_applies_each_event_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, view) = (dir.path().join("store"), dir.path().join("view.db"));
    place_orders(&store).await;
    let mut kills = 0;
    loop {
        run_and_kill(&store, &view, 4 + kills % 9);
        let view = View::open(&view).expect("a view");
        let expected = replay(&store, view.checkpoint().expect("a checkpoint").position).await;
        assert_eq!(view.customers().expect("customers"), expected.customers, "after {kills} kills");
        if expected.is_complete {
            break;
        }
        kills += 1;
        assert!(kills < 200, "the program does not reach the head of the log");
    }
    assert!(kills > 3, "too few kills for a valid test: {kills}");
}

/// Case 09a: a view continued with a restored store at a position of the lost history.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_a_lost_history_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (source, restored, path) = (dir.path().join("store"), dir.path().join("restored"), dir.path().join("view.db"));
    place_orders(&source).await;
    let backups = Backups::new(dir.path().join("backups"));
    backups.create(&source, &mut |_, _, _| {}).await.expect("a backup");
    backups.restore(None, &restored, &mut |_, _, _| {}).await.expect("restored");
    let mut view = View::open(&path).expect("a view");
    let store = Arc::new(open(&source).await);
    follow(store.clone(), &mut view, 100, |log| !log.is_at_head()).await.expect("the view follows");
    assert_eq!(view.checkpoint().expect("a checkpoint").log_id, Some(store.log_id()));
    drop(view);
    let mut view = View::open(&path).expect("a view");
    follow(store, &mut view, 100, |log| !log.is_at_head()).await.expect("it continues with its own log");
    let refused = follow(Arc::new(open(&restored).await), &mut view, 100, |_| false).await;
    assert!(matches!(refused, Err(Failure::OtherLog(_))), "{refused:?}");
}

/// The view kept the customer of a deleted order, and counted the order.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_order_leaves_the_view() {
    let dir = tempfile::tempdir().expect("a directory");
    let (source, path) = (dir.path().join("store"), dir.path().join("view.db"));
    place_orders(&source).await;
    let store = Arc::new(open(&source).await);
    let mut view = View::open(&path).expect("a view");
    follow(store.clone(), &mut view, 100, |log| !log.is_at_head()).await.expect("the view follows");
    let admin = StoreAdmin::new(store.clone());
    // All orders of the customer C0, in each status, and an order of another.
    for number in (0..ORDERS).step_by(7).chain([1]) {
        let stream = StreamId::new(format!("order-A-{number}")).expect("a name");
        let kind = if number % 2 == 0 { DeleteKind::Hard } else { DeleteKind::Soft };
        admin.delete_stream(&stream, kind, ExpectedRevision::StreamExists, Note::default()).await.expect("deleted");
    }
    follow(store.clone(), &mut view, 100, |log| !log.is_at_head()).await.expect("the view follows");
    let mut rebuilt = View::open(&dir.path().join("rebuilt.db")).expect("a view");
    follow(store.clone(), &mut rebuilt, 100, |log| !log.is_at_head()).await.expect("the view follows");
    let head = store.head().await.expect("read");
    drop(admin);
    store.close().await.expect("closed");
    let customers = view.customers().expect("customers");
    assert_eq!(customers, replay(&source, head).await.customers);
    assert_eq!(customers, rebuilt.customers().expect("customers"));
    assert!(customers.iter().all(|(customer, _)| customer != "C0"), "{customers:?}");
}
