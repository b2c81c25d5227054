//! The domain of the tests: a bank account.

use chrono::{DateTime, Utc};
use es_core::prelude::*;
use serde::{Deserialize, Serialize};

/// An event of an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, es_core::Event)]
pub enum AccountEvent {
    /// The account was opened.
    #[event(name = "account-opened")]
    Opened {
        /// The owner.
        #[event(tag)]
        owner: String,
    },
    /// Money was deposited.
    #[event(name = "money-deposited", codec = "msgpack")]
    Deposited {
        /// The amount.
        cents: u64,
    },
    /// Money was withdrawn.
    #[event(name = "money-withdrawn")]
    Withdrawn {
        /// The amount.
        cents: u64,
    },
    /// The account was closed.
    #[event(name = "account-closed")]
    Closed,
}

/// The state of an account. It has no `Default`, because every account has an id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "account", id = String, event = AccountEvent, snapshot(every = 10, keep = 2))]
pub struct Account {
    /// The id of the account.
    pub id: String,
    /// The owner; `None` before the account is opened.
    pub owner: Option<String>,
    /// The balance.
    pub cents: u64,
    /// Number of deposits and withdrawals.
    pub movements: u64,
    /// Business time of the last deposit or withdrawal.
    pub last_movement: Option<DateTime<Utc>>,
    /// Whether the account is closed.
    pub closed: bool,
}

impl Evolve for Account {
    fn initial(id: &String) -> Self {
        Self { id: id.clone(), owner: None, cents: 0, movements: 0, last_movement: None, closed: false }
    }

    fn evolve(&mut self, event: &AccountEvent, at: &EventContext<'_>) {
        match event {
            AccountEvent::Opened { owner } => self.owner = Some(owner.clone()),
            AccountEvent::Deposited { cents } => self.moved(self.cents + cents, at),
            AccountEvent::Withdrawn { cents } => self.moved(self.cents - cents, at),
            AccountEvent::Closed => self.closed = true,
        }
    }
}

impl Account {
    fn moved(&mut self, cents: u64, at: &EventContext<'_>) {
        self.cents = cents;
        self.movements += 1;
        self.last_movement = Some(at.occurred_at());
    }
}

/// Opens an account.
#[derive(Clone, Debug, Serialize)]
pub struct Open {
    /// The owner.
    pub owner: String,
}

/// Deposits money.
#[derive(Clone, Debug, Serialize)]
pub struct Deposit {
    /// The amount.
    pub cents: u64,
}

/// Withdraws money.
#[derive(Clone, Debug, Serialize)]
pub struct Withdraw {
    /// The amount.
    pub cents: u64,
}

/// Withdraws the balance and closes the account: up to two events, or unchanged.
#[derive(Clone, Debug, Serialize)]
pub struct Close;

/// Checks that the account is not closed. Produces no events.
#[derive(Clone, Debug, Serialize)]
pub struct Check;

/// The reason why an account rejects a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The balance is too low.
    #[error("account {id}: expected at least {wanted} cents, found {found}")]
    TooLittle {
        /// The id of the account.
        id: String,
        /// The amount to withdraw.
        wanted: u64,
        /// The balance.
        found: u64,
    },
    /// The account is closed.
    #[error("the account is closed")]
    Closed,
}

type DecisionResult = Result<Decision<Account>, Refusal>;

impl Decide<Open> for Account {
    type Rejection = Refusal;
    fn decide(&self, Open { owner }: Open, _: &CommandContext<'_, Self>) -> DecisionResult {
        if self.owner.is_some() {
            return Ok(Decision::unchanged());
        }
        Ok(AccountEvent::Opened { owner }.into())
    }
}

impl Decide<Deposit> for Account {
    type Rejection = Refusal;
    fn decide(&self, Deposit { cents }: Deposit, _: &CommandContext<'_, Self>) -> DecisionResult {
        if self.closed {
            return Err(Refusal::Closed);
        }
        Ok(AccountEvent::Deposited { cents }.into())
    }
}

impl Decide<Withdraw> for Account {
    type Rejection = Refusal;
    fn decide(&self, Withdraw { cents }: Withdraw, at: &CommandContext<'_, Self>) -> DecisionResult {
        if cents > self.cents {
            return Err(Refusal::TooLittle { id: at.id().clone(), wanted: cents, found: self.cents });
        }
        Ok(AccountEvent::Withdrawn { cents }.into())
    }
}

impl Decide<Close> for Account {
    type Rejection = Refusal;
    fn decide(&self, _: Close, _: &CommandContext<'_, Self>) -> DecisionResult {
        if self.closed {
            return Ok(Decision::unchanged());
        }
        let paid_out = (self.cents > 0).then_some(AccountEvent::Withdrawn { cents: self.cents });
        Ok(paid_out.into_iter().chain([AccountEvent::Closed]).collect())
    }
}

impl Decide<Check> for Account {
    type Rejection = Refusal;
    fn decide(&self, _: Check, _: &CommandContext<'_, Self>) -> DecisionResult {
        if self.closed { Err(Refusal::Closed) } else { Ok(Decision::none()) }
    }
}
