//! Maintains a view of the customers of an order service in SQLite, and exits at the head of the log.
//!
//! ```text
//! cargo run -p order-service -- --data shop import --orders orders.csv --lines lines.csv
//! cargo run -p sqlite-projection -- shop customers.db         # continues after its checkpoint
//! sqlite3 customers.db 'SELECT * FROM customers'
//! ```
//!
//! The optional third argument is the maximum number of events per batch.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use es_core::model::ErrorChain;
use es_core::{EventStore, Subscription};
use es_rocksdb::RocksDbStore;
use sqlite_projection::{View, follow};

/// Prints the checkpoint. Returns false at the head of the log.
fn print_checkpoint(subscription: &Subscription) -> bool {
    println!("position {}", subscription.scanned().map_or(0, es_core::Position::get));
    !subscription.is_at_head()
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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (store, view, batch) = match arguments.as_slice() {
        [store, view] => (store, view, 500),
        [store, view, batch] => (store, view, batch.parse()?),
        _ => return Err("usage: sqlite-projection STORE VIEW [BATCH]".into()),
    };
    let mut view = View::open(&PathBuf::from(view))?;
    let store = RocksDbStore::open(PathBuf::from(store)).await?;
    let result = follow(Arc::new(store.clone()), &mut view, batch, print_checkpoint).await;
    store.close().await?;
    Ok(result?)
}
