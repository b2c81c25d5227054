//! The domain of the tests: accounts in several banks, each with a store of its own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_transaction::{CommandList, Coordinator, LockedStreams, Participant, Prepare, StoreParticipant, Vote};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub(crate) enum AccountEvent {
    #[event(name = "deposited")]
    Deposited { cents: u64 },
    #[event(name = "withdrawn")]
    Withdrawn { cents: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "account", id = u64, event = AccountEvent, snapshot(every = 4))]
pub(crate) struct Account {
    pub(crate) cents: u64,
}

impl Evolve for Account {
    fn initial(_: &u64) -> Self {
        Self { cents: 0 }
    }

    fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
        match event {
            AccountEvent::Deposited { cents } => self.cents += cents,
            AccountEvent::Withdrawn { cents } => self.cents -= cents,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Deposit {
    pub(crate) cents: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Withdraw {
    pub(crate) cents: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the account has {cents} cents")]
pub(crate) struct TooLittle {
    pub(crate) cents: u64,
}

impl Decide<Deposit> for Account {
    type Rejection = Infallible;

    fn decide(&self, command: Deposit, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Infallible> {
        if command.cents == 0 {
            return Ok(Decision::unchanged());
        }
        Ok(AccountEvent::Deposited { cents: command.cents }.into())
    }
}

impl Decide<Withdraw> for Account {
    type Rejection = TooLittle;

    fn decide(&self, command: Withdraw, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, TooLittle> {
        if self.cents < command.cents {
            return Err(TooLittle { cents: self.cents });
        }
        Ok(AccountEvent::Withdrawn { cents: command.cents }.into())
    }
}

/// A bank: a store with accounts.
#[derive(Clone)]
pub(crate) struct Bank {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) accounts: Arc<Repository<Account>>,
    pub(crate) participant: StoreParticipant,
}

impl Bank {
    pub(crate) fn new(name: &str) -> Self {
        Self::on(name, Arc::new(MemoryStore::new()))
    }

    pub(crate) fn on(name: &str, store: Arc<dyn EventStore>) -> Self {
        let accounts = Repository::<Account>::new(Arc::clone(&store)).with_lock_wait(Duration::from_millis(200));
        let accounts = Arc::new(accounts);
        let participant = StoreParticipant::new(name, Arc::clone(&store))
            .command::<Account, Deposit>("deposit", &accounts)
            .command::<Account, Withdraw>("withdraw", &accounts);
        Self { store, accounts, participant }
    }

    pub(crate) async fn with_account(self, id: u64, cents: u64) -> Self {
        self.accounts.execute(&id, Deposit { cents }).await.unwrap();
        self
    }

    pub(crate) async fn cents(&self, id: u64) -> u64 {
        self.accounts.load(&id).await.unwrap().state.cents
    }

    pub(crate) async fn is_locked(&self, id: u64) -> bool {
        self.accounts.load(&id).await.unwrap().locked_by().is_some()
    }
}

/// Waits until a condition holds.
pub(crate) async fn wait_until(condition: impl AsyncFn() -> bool) {
    for _ in 0..1_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the condition does not hold after 5 s");
}

pub(crate) fn deposit(id: u64, cents: u64) -> CommandList {
    CommandList::new().command("deposit", id, &Deposit { cents }).unwrap()
}

pub(crate) fn withdraw(id: u64, cents: u64) -> CommandList {
    CommandList::new().command("withdraw", id, &Withdraw { cents }).unwrap()
}

/// Returns a coordinator with short times.
pub(crate) fn coordinator(store: &Arc<dyn EventStore>, participants: &[&Bank]) -> Coordinator {
    let coordinator = Coordinator::new("head", Arc::clone(store))
        .timeout(Duration::from_secs(2))
        .call_timeout(Duration::from_secs(1))
        .pauses(Duration::from_millis(2), Duration::from_millis(20))
        .search_interval(Duration::from_millis(50))
        .lease(Duration::from_millis(300));
    participants.iter().fold(coordinator, |coordinator, bank| coordinator.participant(bank.participant.clone()))
}

/// An account that aborts on its own.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "impatient", id = u64, event = AccountEvent, heuristic = "abort")]
pub(crate) struct ImpatientAccount;

impl Evolve for ImpatientAccount {
    fn initial(_: &u64) -> Self {
        Self
    }

    fn evolve(&mut self, _: &AccountEvent, _: &EventContext<'_>) {}
}

impl Decide<Deposit> for ImpatientAccount {
    type Rejection = Infallible;

    fn decide(&self, command: Deposit, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Infallible> {
        Ok(AccountEvent::Deposited { cents: command.cents }.into())
    }
}

/// A participant with accounts that abort on their own.
pub(crate) struct Impatient {
    pub(crate) participant: StoreParticipant,
}

impl Impatient {
    pub(crate) async fn new(name: &str) -> Self {
        let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
        let accounts = Arc::new(Repository::<ImpatientAccount>::new(Arc::clone(&store)));
        let participant = StoreParticipant::new(name, store);
        Self { participant: participant.command::<ImpatientAccount, Deposit>("deposit", &accounts) }
    }

    pub(crate) async fn prepare(&self, prepare: &Prepare) -> Vote<LockedStreams> {
        self.participant.prepare(prepare, &deposit(1, 1)).await.unwrap()
    }
}
