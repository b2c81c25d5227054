//! Sends letters for the orders of an order service, and exits at the head of the log.
//!
//! ```text
//! cargo run -p order-service -- --data shop import --orders orders.csv --lines lines.csv
//! cargo run -p outbox -- shop post-office.db                  # continues after its checkpoint
//! sqlite3 post-office.db 'SELECT * FROM letters'
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use es_core::consumer::reactor::{DeliveryKey, ReactorRunner, StartAt};
use es_core::model::ErrorChain;
use es_core::{EventReader, EventStore};
use es_rocksdb::RocksDbStore;
use outbox::{Letters, PostOffice};

/// The time to reach the head of the log, and to shut down.
const TIMEOUT: Duration = Duration::from_secs(3600);

fn print_sent(key: DeliveryKey) {
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
    let [store, post_office] = arguments.as_slice() else { return Err("usage: outbox STORE POST_OFFICE".into()) };
    let letters = Letters { post_office: PostOffice::open(post_office)?, on_sent: print_sent };
    let store = RocksDbStore::open(store).await?;
    let running = ReactorRunner::new(letters).start_at(StartAt::Beginning).start(Arc::new(store.clone())).await?;
    running.wait_for(store.head().await?, TIMEOUT).await?;
    running.shutdown(TIMEOUT).await?;
    Ok(store.close().await?)
}
