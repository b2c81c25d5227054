//! Runs commands of the account on a RocksDB store, which it reopens.

use std::sync::Arc;

use es_core::prelude::*;
use es_rocksdb::RocksDbStore;

mod account;

use account::{Account, Deposit, Withdraw};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).ok_or("expected the directory of the store as argument")?;
    let ada = "ada".to_owned();

    let store = RocksDbStore::open(&directory).await?;
    let accounts = Repository::<Account>::new(Arc::new(store.clone()));
    accounts.execute(&ada, Deposit { cents: 500 }).await?;
    drop(accounts);
    store.close().await?;

    let store = RocksDbStore::open(&directory).await?;
    let accounts = Repository::<Account>::new(Arc::new(store.clone()));
    let withdrawn = accounts.execute(&ada, Withdraw { cents: 200 }).await?;
    assert_eq!(withdrawn.state.cents, 300);
    println!("RocksDB store: the account holds {} cents after reopening", withdrawn.state.cents);
    drop(accounts);
    store.close().await?;
    Ok(())
}
