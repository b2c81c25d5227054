//! Kills the program repeatedly. In the end, each letter is stored once, although some were delivered twice.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use es_core::consumer::reactor::DeliveryKey;
use es_core::retention::{DeleteKind, Note};
use es_core::{Commit, EventReader, EventStore, LogRead, Revision, StreamId};
use es_rocksdb::{Options, RocksDbStore};
use order_service::domain::order::{Cancel, Place};
use order_service::domain::{Destination, OrderEvent, OrderLine, OrderLines};
use order_service::shop::Shop;
use outbox::PostOffice;

async fn open(dir: &Path) -> RocksDbStore {
    let options = Options::new().block_cache_bytes(4 << 20).write_buffer_bytes(1 << 20);
    options.open(dir).await.expect("the store opens")
}

/// Places 100 orders and cancels every fifth. Returns the delivery keys of the letters for these events.
async fn place_orders(dir: &Path) -> BTreeSet<String> {
    let store = open(dir).await;
    let shop = Shop::new(Arc::new(store.clone()));
    for number in 0..100 {
        let id = format!("A-{number:03}").parse().expect("an id");
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
        }
    }
    let log = store.read_log(LogRead::all()).await.expect("a log").collect().await.expect("events");
    assert!(log.iter().all(|record| record.decode::<OrderEvent>().is_ok()));
    drop(shop);
    store.close().await.expect("closed");
    log.iter().map(|record| DeliveryKey::of("letters", record.data.id, 0).to_string()).collect()
}

/// Runs the program and kills it after it has reported this many letters. Returns whether it exited before the kill.
fn run_and_kill(store: &Path, post_office: &Path, letters: usize) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    let mut child = command.arg(store).arg(post_office).stdout(Stdio::piped()).spawn().expect("the program starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    if lines.map_while(Result::ok).take(letters).count() == letters {
        // An error means that the program has exited already.
        let _ = child.kill();
    }
    child.wait().expect("wait for the program").success()
}

#[tokio::test]
async fn a_killed_reactor_has_each_effect_once_per_delivery_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, office) = (dir.path().join("store"), dir.path().join("post-office.db"));
    let expected = place_orders(&store).await;
    let mut kills = 0;
    while !run_and_kill(&store, &office, 2 + kills % 9) {
        kills += 1;
        assert!(kills < 200, "the program does not reach the head of the log");
    }
    let office = PostOffice::open(&office).expect("a post office");
    let letters = office.letters().expect("letters");
    let keys: Vec<String> = letters.iter().map(|[key, ..]| key.clone()).collect();
    assert_eq!(keys.len(), expected.len());
    assert_eq!(keys.into_iter().collect::<BTreeSet<_>>(), expected);
    let duplicates = office.deliveries().expect("a number") - expected.len() as u64;
    println!("{kills} kills, {} letters, {duplicates} duplicate deliveries", letters.len());
    assert!(kills > 3 && duplicates > 0, "too few kills ({kills}) or duplicates ({duplicates}) for a valid test");
}

/// The post office keeps no letter about an order that was deleted.
#[tokio::test]
async fn the_letters_of_a_deleted_order_are_deleted() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, database) = (dir.path().join("store"), dir.path().join("post-office.db"));
    place_orders(&path).await;
    assert!(run_and_kill(&path, &database, usize::MAX), "the program fails");
    let office = PostOffice::open(&database).expect("a post office");
    let about = |order: &str| {
        let letters = office.letters().expect("letters");
        letters.iter().filter(|[.., text]| text.contains(order)).count()
    };
    assert_eq!((about("A-005"), about("A-006")), (2, 1));

    let store = open(&path).await;
    let order = StreamId::new("order-A-005").expect("a stream");
    let deletion = Commit::delete_stream(order, DeleteKind::Hard, Some(Revision::new(1)), Note::default());
    store.commit(deletion).await.expect("deleted");
    store.close().await.expect("closed");
    assert!(run_and_kill(&path, &database, usize::MAX), "the program fails");
    assert_eq!((about("A-005"), about("A-006"), office.letters().expect("letters").len()), (0, 1, 118));
}
