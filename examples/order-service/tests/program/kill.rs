//! The import is killed (SIGKILL) fifty times at random moments. Each time the directory opens, every order that the
//! program said to be done is there, whole; and the same import again ends as if it had run once.
//!
//! A kill shows that nothing is acknowledged before it was handed to the operating system. It says nothing about a power
//! failure: what the operating system was told to write is written, synced or not.

use es_core::EventStore;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use es_rocksdb::RocksDbStore;
use order_service::domain::{Order, OrderStatus};
use order_service::shop::{Folded, Shop};
use serde_json::Value;

use crate::made::made;
use crate::support::TestDir;

const KILLS: u64 = 50;
const ORDERS: u64 = 300;
const IMPORT: [&str; 6] = ["import", "--orders", "orders.csv", "--lines", "lines.csv", "--verbose"];

#[test]
fn a_killed_import_loses_no_acknowledged_order_and_ends_as_if_it_had_run_once() {
    let (expected, whole) = undisturbed();
    let mut interrupted = 0;
    for round in 0..KILLS {
        let dir = with_orders();
        // NOTE: moments spread over the time of a whole import, in an order without a pattern (17 and 50 have no divisor
        // in common).
        let moment = whole * u32::try_from(round * 17 % KILLS).expect("small") / u32::try_from(KILLS).expect("small");
        let acknowledged = import_and_kill(&dir, moment);
        interrupted += u64::from((acknowledged.len() as u64) < ORDERS);
        expect_whole(&dir, &acknowledged);
        dir.done(&IMPORT);
        assert_eq!(report(&dir), expected, "killed after {moment:?}");
    }
    assert!(interrupted > KILLS / 3, "only {interrupted} of {KILLS} kills came before the end");
}

fn with_orders() -> TestDir {
    let dir = TestDir::new();
    let (orders, lines, _) = made(ORDERS);
    dir.write("orders.csv", orders);
    dir.write("lines.csv", lines);
    dir
}

/// What an import comes to that nobody disturbs, and how long it takes: the shortest of three, so that a machine that was
/// busy for a moment does not put most of the kills behind the end.
fn undisturbed() -> (Value, Duration) {
    let import = || {
        let dir = with_orders();
        let started = Instant::now();
        dir.done(&IMPORT);
        let whole = started.elapsed();
        (report(&dir), whole)
    };
    let runs = [import(), import(), import()];
    assert!(runs.iter().all(|(found, _)| *found == runs[0].0), "the same files give the same report");
    runs.into_iter().min_by_key(|(_, whole)| *whole).expect("three runs")
}

fn report(dir: &TestDir) -> Value {
    dir.json(&["report"])
}

/// Imports until the moment, kills the program, and returns the orders that it had said to be done.
fn import_and_kill(dir: &TestDir, moment: Duration) -> BTreeSet<String> {
    let mut program = dir.command(&IMPORT).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    let errors = BufReader::new(program.stderr.take().expect("standard error is a pipe"));
    let listener = std::thread::spawn(move || {
        let lines = errors.split(b'\n').map_while(Result::ok);
        lines.filter_map(|line| acknowledged(&String::from_utf8_lossy(&line))).collect()
    });
    std::thread::sleep(moment);
    program.kill().expect("it can be killed");
    program.wait().expect("it ends");
    listener.join().expect("its words can be read")
}

/// The order of a whole line; the last line may be torn by the kill.
fn acknowledged(line: &str) -> Option<String> {
    Some(line.strip_prefix("order ")?.strip_suffix(" is done")?.to_owned())
}

/// The directory opens, and each of the orders is there: shipped where the file says so, else placed.
fn expect_whole(dir: &TestDir, acknowledged: &BTreeSet<String>) {
    if !dir.path("shop").exists() {
        assert!(acknowledged.is_empty(), "orders were acknowledged without a store");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = RocksDbStore::open(dir.path("shop")).await.expect("the directory opens after a kill");
        let shop = Shop::new(Arc::new(store.clone()));
        let Folded { states, .. } = shop.fold::<Order>().await.expect("the log can be read");
        for id in acknowledged {
            let order = states.get(&id.parse().expect("an order id")).and_then(Order::placed);
            let number: u64 = id.parse().expect("made orders are numbers");
            let expected = if number.is_multiple_of(5) { OrderStatus::Placed } else { OrderStatus::Shipped };
            assert_eq!(order.map(|order| order.status), Some(expected), "order {id} was acknowledged");
        }
        drop(shop);
        store.close().await.expect("closed");
    });
}
