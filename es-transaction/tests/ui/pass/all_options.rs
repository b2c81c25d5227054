#[path = "../parties.rs"]
mod parties;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use es_core::store::memory::MemoryStore;
use es_transaction::{Coordinator, Strength, TransactionError};
use parties::*;

#[transaction(timeout = "2m", protocol = "two-phase", crate = ::es_transaction)]
pub(crate) async fn book<'a, const N: usize>(
    tx: &mut es_transaction::Tx,
    seats: &'a Seats,
    (numbers, _): ([u32; N], u32),
) -> std::result::Result<&'a Seats, Box<dyn Error + Send + Sync>> {
    #![allow(clippy::needless_return)]
    tx.enlist_participant(seats, &numbers.iter().sum())?;
    return Ok(seats);
}

#[transaction(protocol = "three-phase")]
async fn wait(_tx: &'_ mut Tx) -> Result<(), EnlistError> {
    Ok(())
}

#[transaction(timeout = "1ms")]
async fn wait_forever(_: &mut Tx) -> Result<(), EnlistError> {
    std::future::pending().await
}

/// A macro passes types in invisible groups.
macro_rules! transaction_of {
    ($name:ident, $tx:ty, $result:ty) => {
        #[transaction]
        async fn $name(tx: $tx, seats: &Seats) -> $result {
            tx.enlist_participant(seats, &1)
        }
    };
}

transaction_of!(book_one, &mut Tx, Result<(), EnlistError>);

fn is_send(future: impl Future + Send) -> impl Future + Send {
    future
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let coordinator = Coordinator::new("agency", Arc::new(MemoryStore::new())).participant(Seats).start().await?;
        drop(is_send(book(&coordinator, &Seats, ([1, 2], 3))));
        assert_eq!(book(&coordinator, &Seats, ([1], 2)).await?.strength, Strength::TwoPhase);
        assert_eq!(book_one(&coordinator, &Seats).await?.strength, Strength::TwoPhase);
        let _ = wait(&coordinator).await?;
        let late = tokio::time::timeout(Duration::from_secs(5), wait_forever(&coordinator)).await?;
        assert!(matches!(late, Err(TransactionError::TimedOut { .. })));
        Ok(())
    })
}
