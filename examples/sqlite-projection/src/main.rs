//! Keeps a view of the customers of an order service in SQLite.
//!
//! ```text
//! cargo run -p order-service -- --data shop import --orders orders.csv --lines lines.csv
//! cargo run -p sqlite-projection -- shop customers.db         # goes on where it was, whenever it was stopped
//! sqlite3 customers.db 'SELECT * FROM customers'
//! ```
//!
//! It ends when it has seen all that there is; with a number as the third argument, batches have that many events.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use es_core::model::ErrorChain;
use es_core::{EventStore, Subscription};
use es_rocksdb::RocksDbStore;
use sqlite_projection::{View, follow};

fn tell(subscription: &Subscription) -> bool {
    println!("at {}", subscription.scanned().map_or(0, es_core::Position::get));
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
        _ => return Err("expected STORE VIEW [BATCH]".into()),
    };
    let mut view = View::open(&PathBuf::from(view))?;
    let store = RocksDbStore::open(PathBuf::from(store)).await?;
    let followed = follow(Arc::new(store.clone()), &mut view, batch, tell).await;
    store.close().await?;
    Ok(followed?)
}
