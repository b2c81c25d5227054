//! A bank account: the domain of a user's crate, which `cargo xtask package` builds against the packaged crates.

use es_core::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub enum AccountEvent {
    #[event(name = "money-deposited")]
    Deposited { cents: u64 },
    #[event(name = "money-withdrawn")]
    Withdrawn { cents: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "account", id = String, event = AccountEvent, snapshot(every = 100))]
pub struct Account {
    pub cents: u64,
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

#[derive(Clone, Debug)]
pub struct Deposit {
    pub cents: u64,
}

#[derive(Clone, Debug)]
pub struct Withdraw {
    pub cents: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct InsufficientFunds {
    pub available: u64,
}

impl std::fmt::Display for InsufficientFunds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "insufficient funds: {} cents available", self.available)
    }
}

impl Decide<Deposit> for Account {
    type Rejection = std::convert::Infallible;

    fn decide(&self, command: Deposit, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(AccountEvent::Deposited { cents: command.cents }.into())
    }
}

impl Decide<Withdraw> for Account {
    type Rejection = InsufficientFunds;

    fn decide(&self, command: Withdraw, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        if command.cents > self.cents {
            return Err(InsufficientFunds { available: self.cents });
        }
        Ok(AccountEvent::Withdrawn { cents: command.cents }.into())
    }
}
