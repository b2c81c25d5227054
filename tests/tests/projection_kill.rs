//! A killed process: the view and its checkpoint are one, whatever the workers were doing.
//!
//! A child writes at full speed and runs the ledger with one, two or four workers, half of the time with a rebuild
//! under way. The parent kills it with SIGKILL at a random moment, opens the directory and compares the rows with the
//! log; the next child goes on in the same directory with another number of workers. In the end everything is brought
//! to the end and compared again.
//!
//! `ES_PROJECTION_KILLS=200` for long; `ES_SEED` for the same plan again.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use es_core::EventStore;
use es_core::projection::{ProjectionOptions, Supervisor};
use es_rocksdb::RocksDbStore;
use es_tests::crash::{Random, number, options, seed};
use es_tests::ledger::{Ledger, check, read_books};

#[test]
fn a_killed_process_leaves_a_view_that_is_the_fold_of_the_log_up_to_its_checkpoint() {
    let (seed, kills) = (seed(), number("ES_PROJECTION_KILLS", 10));
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("store");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let mut behind = 0;
    for kill in 0..kills {
        let mut command = Command::new(env!("CARGO_BIN_EXE_projection-child"));
        command.arg(&dir).arg(random.below(1_000_000).to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the child starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it says something");
        assert_eq!(line, "started\n", "ES_SEED={seed}, kill {kill}");
        std::thread::sleep(Duration::from_millis(random.below(150)));
        child.kill().expect("killed");
        child.wait().expect("gone");
        runtime.block_on(async {
            let opened = RocksDbStore::open_with(&dir, options()).await.expect("the store opens");
            let store: Arc<dyn EventStore> = Arc::new(opened.clone());
            let books = check(&store, &format!("ES_SEED={seed}, kill {kill}")).await;
            let head = store.head().await.expect("a head").map_or(0, es_core::Position::get);
            behind += u64::from(books.events() < head);
            opened.close().await.expect("closed");
        });
    }
    runtime.block_on(async {
        let opened = RocksDbStore::open_with(&dir, options()).await.expect("the store opens");
        let store: Arc<dyn EventStore> = Arc::new(opened.clone());
        let given = ProjectionOptions::new().partitions(3);
        let running = Supervisor::new()
            .projection(Ledger::<1>::default(), given)
            .start(Arc::clone(&store))
            .await
            .expect("started");
        let ledger = running.projection("ledger").expect("given");
        let head = store.head().await.expect("a head");
        ledger.wait_for(head, Duration::from_secs(60)).await.unwrap_or_else(|error| panic!("ES_SEED={seed}: {error}"));
        running.shutdown(Duration::from_secs(60)).await.expect("it ends");
        check(&store, &format!("ES_SEED={seed}, the end")).await;
        assert!(read_books(&*store).await.expect("rows").events() > 0, "ES_SEED={seed}: nothing was written at all");
        opened.close().await.expect("closed");
    });
    println!("{kills} kills from ES_SEED={seed}, {behind} of them with the view behind the log");
    assert!(behind > 0, "ES_SEED={seed}: no kill has met a view that was behind");
}
