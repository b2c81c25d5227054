//! Sends letters for the orders of an order service, until all that there is was written about.
//!
//! ```text
//! cargo run -p order-service -- --data shop import --orders orders.csv --lines lines.csv
//! cargo run -p outbox -- shop post-office.db                  # goes on where it was, whenever it was stopped
//! sqlite3 post-office.db 'SELECT * FROM letters'
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use es_core::consumer::reactor::{DeliveryKey, ReactorRunner, StartAt};
use es_core::model::ErrorChain;
use es_core::{EventReader, EventStore};
use es_rocksdb::RocksDbStore;
use outbox::{Letters, PostOffice};

/// The time for all letters that are due.
const PATIENCE: Duration = Duration::from_secs(3600);

fn tell(key: DeliveryKey) {
    println!("sent {key}");
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", ErrorChain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [store, post_office] = arguments.as_slice() else { return Err("expected STORE POST_OFFICE".into()) };
    let letters = Letters { post_office: PostOffice::open(post_office)?, told: tell };
    let store = RocksDbStore::open(store).await?;
    let running = ReactorRunner::new(letters).start_at(StartAt::Beginning).start(Arc::new(store.clone())).await?;
    running.wait_for(store.head().await?, PATIENCE).await?;
    running.shutdown(PATIENCE).await?;
    Ok(store.close().await?)
}
