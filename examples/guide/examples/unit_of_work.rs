//! How do I change two aggregates in one commit?
//!
//! ```text
//! cargo run -p es-examples --example unit_of_work
//! ```

use std::sync::Arc;

use es_core::UnitOfWork;
use es_core::aggregate::{UnitError, UnitRejection};
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum AccountEvent {
    #[event(name = "money-deposited")]
    Deposited { cents: u64 },
    #[event(name = "money-withdrawn")]
    Withdrawn { cents: u64 },
}

#[derive(Clone, Debug, PartialEq, Aggregate)]
#[aggregate(category = "account", id = String, event = AccountEvent)]
struct Account {
    cents: u64,
}

impl Evolve for Account {
    fn initial(_: &String) -> Self {
        Self { cents: 0 }
    }

    fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
        match event {
            AccountEvent::Deposited { cents } => self.cents += cents,
            AccountEvent::Withdrawn { cents } => self.cents -= cents,
        }
    }
}

#[derive(Clone)]
struct Deposit {
    cents: u64,
}

impl Decide<Deposit> for Account {
    type Rejection = std::convert::Infallible;

    fn decide(&self, command: Deposit, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(AccountEvent::Deposited { cents: command.cents }.into())
    }
}

#[derive(Clone)]
struct Withdraw {
    cents: u64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("expected at least {wanted} cents, found {found}")]
struct InsufficientFunds {
    wanted: u64,
    found: u64,
}

impl Decide<Withdraw> for Account {
    type Rejection = InsufficientFunds;

    fn decide(&self, command: Withdraw, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, InsufficientFunds> {
        if command.cents > self.cents {
            return Err(InsufficientFunds { wanted: command.cents, found: self.cents });
        }
        Ok(AccountEvent::Withdrawn { cents: command.cents }.into())
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let accounts = Repository::<Account>::new(Arc::clone(&store));
    let (ada, bob) = ("ada".to_owned(), "bob".to_owned());
    accounts.execute(&ada, Deposit { cents: 100 }).await?;

    // Both events are in one commit. The result has one element for each command.
    let (from, to) = UnitOfWork::new(&store)
        .execute(&accounts, ada.clone(), Withdraw { cents: 70 })
        .execute(&accounts, bob.clone(), Deposit { cents: 70 })
        .await?;
    assert_eq!((from.state.cents, to.state.cents), (30, 70));

    // A rejection of one command writes nothing. The variant names the call, and the index the command.
    let rejected = UnitOfWork::new(&store)
        .execute(&accounts, bob.clone(), Deposit { cents: 31 })
        .execute(&accounts, ada.clone(), Withdraw { cents: 31 })
        .await;
    match rejected {
        Err(UnitError::Rejected { index: 1, rejection: UnitRejection::Second(rejection) }) => {
            assert_eq!(rejection, InsufficientFunds { wanted: 31, found: 30 });
            println!("rejected: {rejection}");
        }
        other => panic!("expected a rejection of the second command, found {other:?}"),
    }
    assert_eq!(accounts.load(&bob).await?.state.cents, 70);
    Ok(())
}
