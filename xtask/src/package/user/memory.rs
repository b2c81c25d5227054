//! Runs commands of the account on the memory store.

use std::sync::Arc;

use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::testing::given;

mod account;

use account::{Account, AccountEvent, Deposit, InsufficientFunds, Withdraw};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    given::<Account>("ada".to_owned(), [AccountEvent::Deposited { cents: 300 }])
        .when(Withdraw { cents: 500 })
        .then_rejected(InsufficientFunds { available: 300 });

    let accounts = Repository::<Account>::new(Arc::new(MemoryStore::new()));
    let ada = "ada".to_owned();
    accounts.execute(&ada, Deposit { cents: 500 }).await?;
    let withdrawn = accounts.execute(&ada, Withdraw { cents: 200 }).await?;
    assert_eq!(withdrawn.state.cents, 300);
    println!("memory store: the account holds {} cents", withdrawn.state.cents);
    Ok(())
}
