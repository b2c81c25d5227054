//! A bank account: the domain of the tests.

use chrono::{DateTime, Utc};
use es_core::prelude::*;
use serde::{Deserialize, Serialize};

/// What happens to an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, es_core::Event)]
pub enum AccountEvent {
    /// It was opened.
    #[event(name = "account-opened")]
    Opened {
        /// By whom.
        #[event(tag)]
        owner: String,
    },
    /// Money came in.
    #[event(name = "money-deposited", codec = "msgpack")]
    Deposited {
        /// How much.
        cents: u64,
    },
    /// Money went out.
    #[event(name = "money-withdrawn")]
    Withdrawn {
        /// How much.
        cents: u64,
    },
    /// It was closed.
    #[event(name = "account-closed")]
    Closed,
}

/// The state of an account. Not `Default`: there is no account without an id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "account", id = String, event = AccountEvent, snapshot(every = 10, keep = 2))]
pub struct Account {
    /// Its own id.
    pub id: String,
    /// Who opened it.
    pub owner: Option<String>,
    /// What it holds.
    pub cents: u64,
    /// The number of its movements.
    pub movements: u64,
    /// When the last movement happened in the business.
    pub last_movement: Option<DateTime<Utc>>,
    /// Whether it was closed.
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
#[derive(Clone, Debug)]
pub struct Open {
    /// For whom.
    pub owner: String,
}

/// Puts money in.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// How much.
    pub cents: u64,
}

/// Takes money out.
#[derive(Clone, Debug)]
pub struct Withdraw {
    /// How much.
    pub cents: u64,
}

/// Pays everything out and closes the account: two events, or unchanged.
#[derive(Clone, Debug)]
pub struct Close;

/// Looks whether the account could be used, and changes nothing.
#[derive(Clone, Debug)]
pub struct Check;

/// Why a bank says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is too little in it.
    #[error("account {id}: expected at least {wanted} cents, found {found}")]
    TooLittle {
        /// The account's own id.
        id: String,
        /// What was asked for.
        wanted: u64,
        /// What is there.
        found: u64,
    },
    /// It was closed.
    #[error("the account is closed")]
    Closed,
}

type Answer = Result<Decision<Account>, Refusal>;

impl Decide<Open> for Account {
    type Rejection = Refusal;
    fn decide(&self, Open { owner }: Open, _: &CommandContext<'_, Self>) -> Answer {
        if self.owner.is_some() {
            return Ok(Decision::unchanged());
        }
        Ok(AccountEvent::Opened { owner }.into())
    }
}

impl Decide<Deposit> for Account {
    type Rejection = Refusal;
    fn decide(&self, Deposit { cents }: Deposit, _: &CommandContext<'_, Self>) -> Answer {
        if self.closed {
            return Err(Refusal::Closed);
        }
        Ok(AccountEvent::Deposited { cents }.into())
    }
}

impl Decide<Withdraw> for Account {
    type Rejection = Refusal;
    fn decide(&self, Withdraw { cents }: Withdraw, at: &CommandContext<'_, Self>) -> Answer {
        if cents > self.cents {
            return Err(Refusal::TooLittle { id: at.id().clone(), wanted: cents, found: self.cents });
        }
        Ok(AccountEvent::Withdrawn { cents }.into())
    }
}

impl Decide<Close> for Account {
    type Rejection = Refusal;
    fn decide(&self, _: Close, _: &CommandContext<'_, Self>) -> Answer {
        if self.closed {
            return Ok(Decision::unchanged());
        }
        let paid_out = (self.cents > 0).then_some(AccountEvent::Withdrawn { cents: self.cents });
        Ok(paid_out.into_iter().chain([AccountEvent::Closed]).collect())
    }
}

impl Decide<Check> for Account {
    type Rejection = Refusal;
    fn decide(&self, _: Check, _: &CommandContext<'_, Self>) -> Answer {
        if self.closed { Err(Refusal::Closed) } else { Ok(Decision::none()) }
    }
}
