//! Kills the import (SIGKILL) 50 times, at different times. After each kill the store opens, and has every order that
//! the program reported as done, complete. A repeated import then gives the same report as one without a kill.
//!
//! A kill shows that no order is acknowledged before its events were written to the operating system. It does not show
//! that they survive a power failure: data that was written but not synced survives a kill.

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

use crate::generated::generate_orders;
use crate::support::TestDir;

const KILLS: u64 = 50;
const ORDERS: u64 = 300;
const IMPORT: [&str; 6] = ["import", "--orders", "orders.csv", "--lines", "lines.csv", "--verbose"];

#[test]
fn a_killed_import_loses_no_acknowledged_order_and_can_be_repeated() {
    let (expected, mut duration) = uninterrupted();
    let mut interrupted = 0;
    for round in 0..KILLS {
        let dir = with_orders();
        // The kills are spread evenly over the duration of an import, in a shuffled order (17 and 50 are coprime).
        let delay = duration * u32::try_from(round * 17 % KILLS).expect("small") / u32::try_from(KILLS).expect("small");
        let acknowledged = import_and_kill(&dir, delay);
        match acknowledged.len() as u64 == ORDERS {
            // The machine is less busy now than it was when the duration was measured.
            true => duration = duration * 4 / 5,
            false => interrupted += 1,
        }
        expect_complete(&dir, &acknowledged);
        dir.done(&IMPORT);
        assert_eq!(report(&dir), expected, "killed after {delay:?}");
    }
    assert!(interrupted > KILLS / 3, "only {interrupted} of {KILLS} kills were before the end of the import");
}

fn with_orders() -> TestDir {
    let dir = TestDir::new();
    let generated = generate_orders(ORDERS);
    dir.write("orders.csv", generated.orders);
    dir.write("lines.csv", generated.lines);
    dir
}

/// Returns the report after an import without a kill, and the duration of the import. The duration is the shortest of
/// three, so that a temporary load on the machine does not move most of the kills after the end of the import.
fn uninterrupted() -> (Value, Duration) {
    let import = || {
        let dir = with_orders();
        let started = Instant::now();
        dir.done(&IMPORT);
        let duration = started.elapsed();
        (report(&dir), duration)
    };
    let runs = [import(), import(), import()];
    assert!(runs.iter().all(|(found, _)| *found == runs[0].0), "the same files give the same report");
    runs.into_iter().min_by_key(|(_, duration)| *duration).expect("three runs")
}

fn report(dir: &TestDir) -> Value {
    dir.json(&["report"])
}

/// Starts an import, kills it after `delay`, and returns the orders that it reported as done.
fn import_and_kill(dir: &TestDir, delay: Duration) -> BTreeSet<String> {
    let mut command = dir.command(&IMPORT);
    let mut program = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program starts");
    let errors = BufReader::new(program.stderr.take().expect("standard error is a pipe"));
    let listener = std::thread::spawn(move || {
        let lines = errors.split(b'\n').map_while(Result::ok);
        lines.filter_map(|line| acknowledged(&String::from_utf8_lossy(&line))).collect()
    });
    std::thread::sleep(delay);
    program.kill().expect("kill the program");
    program.wait().expect("wait for the program");
    listener.join().expect("standard error can be read")
}

/// Returns the order id in a line of standard error; `None` for a last line that was cut off by the kill.
fn acknowledged(line: &str) -> Option<String> {
    Some(line.strip_prefix("order ")?.strip_suffix(" is done")?.to_owned())
}

/// Opens the store and checks that it has each of the orders, shipped if it has a shipped date, otherwise placed.
fn expect_complete(dir: &TestDir, acknowledged: &BTreeSet<String>) {
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
            let number: u64 = id.parse().expect("ids of generated orders are numbers");
            let expected = if number.is_multiple_of(5) { OrderStatus::Placed } else { OrderStatus::Shipped };
            assert_eq!(order.map(|order| order.status), Some(expected), "order {id} was acknowledged");
        }
        drop(shop);
        store.close().await.expect("closed");
    });
}
