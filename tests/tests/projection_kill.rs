//! After a kill of the process, a view agrees with its checkpoint.
//!
//! A child commits without pause and runs the ledger projection with 1, 2 or 4 workers, in half of the runs during a
//! rebuild. The parent kills it (SIGKILL) at a random time, opens the store and compares the rows with the log. The
//! next child continues in the same store with another number of workers. In the end, the projection catches up and is
//! compared again.
//!
//! Leases are longer than the test. A child that was killed does not release its lease, so a view only progresses if
//! the next process takes over at once (user row 9).
//!
//! `ES_PROJECTION_KILLS=200` runs the long form; `ES_SEED` repeats the random choices.

#![allow(clippy::print_stdout, reason = "a test prints its figures")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use es_core::EventStore;
use es_core::projection::{ProjectionOptions, Supervisor};
use es_rocksdb::RocksDbStore;
use es_tests::crash::{Random, number, options, seed};
use es_tests::ledger::{LEASE, Ledger, check, read_books};

#[test]
fn a_view_agrees_with_its_checkpoint_after_a_kill() {
    kill_and_compare();
}

fn kill_and_compare() {
    let (seed, kills) = (seed(), number("ES_PROJECTION_KILLS", 10));
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("store");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let mut lagging = 0;
    for kill in 0..kills {
        let mut command = Command::new(env!("CARGO_BIN_EXE_projection-child"));
        command.arg(&dir).arg(random.below(1_000_000).to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the child starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("read standard output");
        assert_eq!(line, "started\n", "ES_SEED={seed}, kill {kill}");
        std::thread::sleep(Duration::from_millis(random.below(150)));
        child.kill().expect("kill the child");
        child.wait().expect("wait for the child");
        runtime.block_on(async {
            let opened = RocksDbStore::open_with(&dir, options()).await.expect("the store opens");
            let store: Arc<dyn EventStore> = Arc::new(opened.clone());
            let books = check(&store, &format!("ES_SEED={seed}, kill {kill}")).await;
            let head = store.head().await.expect("a head").map_or(0, es_core::Position::get);
            lagging += u64::from(books.events() < head);
            opened.close().await.expect("closed");
        });
    }
    runtime.block_on(async {
        let opened = RocksDbStore::open_with(&dir, options()).await.expect("the store opens");
        let store: Arc<dyn EventStore> = Arc::new(opened.clone());
        let options = ProjectionOptions::new().partitions(3).lease(LEASE);
        let reopened = Instant::now();
        let running = Supervisor::new()
            .projection(Ledger::<1>::default(), options)
            .start(Arc::clone(&store))
            .await
            .expect("started");
        let ledger = running.projection("ledger").expect("the supervisor has the projection");
        let head = store.head().await.expect("a head");
        ledger.wait_for(head, Duration::from_secs(60)).await.unwrap_or_else(|error| panic!("ES_SEED={seed}: {error}"));
        let waited = reopened.elapsed();
        assert!(waited < LEASE / 10, "ES_SEED={seed}: the view caught up {waited:?} after the reopening");
        running.shutdown(Duration::from_secs(60)).await.expect("the projection stops");
        check(&store, &format!("ES_SEED={seed}, after the last kill")).await;
        assert!(read_books(&*store).await.expect("rows").events() > 0, "ES_SEED={seed}: no event was committed");
        opened.close().await.expect("closed");
    });
    println!("{kills} kills with ES_SEED={seed}, {lagging} of them with a view that lagged the log");
    assert!(lagging > 0, "ES_SEED={seed}: the view had no lag at any kill");
}
