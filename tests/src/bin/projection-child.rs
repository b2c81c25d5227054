//! The child of the kill test of projections: `projection-child DIRECTORY SEED`. Opens the store, commits without
//! pause, and runs the ledger projection with a number of workers derived from the seed, until it is killed.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use es_core::EventStore;
use es_core::projection::{ProjectionAdmin, ProjectionOptions, RebuildFrom, Supervisor};
use es_tests::account::AccountEvent;
use es_tests::crash::{Random, options};
use es_tests::ledger::{LEASE, Ledger, append};

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, seed] = arguments.as_slice() else {
        panic!("expected DIRECTORY SEED, found {arguments:?}");
    };
    let mut random = Random::new(seed.parse().expect("a number"));
    let store: Arc<dyn EventStore> = Arc::new(options().open(PathBuf::from(dir)).await.expect("the store opens"));
    let partitions = random.pick(&[1, 2, 4]);
    let options = ProjectionOptions::new().partitions(partitions).batch(random.pick(&[4, 64]));
    let options = options.keep_retired(Duration::ZERO).lease(LEASE);
    let running =
        Supervisor::new().projection(Ledger::<1>::default(), options).start(Arc::clone(&store)).await.expect("started");
    writeln!(std::io::stdout(), "started").expect("the parent reads standard output");
    let admin = ProjectionAdmin::new(Arc::clone(&store), "ledger").expect("a name");
    if random.once_in(2) {
        admin.rebuild(RebuildFrom::Start, "a test").await.expect("start a rebuild");
    }
    let writers = (0..4).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 0.. {
                append(&*store, (writer + number) % 9, AccountEvent::Deposited { cents: number }).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer does not panic");
    }
    drop(running);
}
