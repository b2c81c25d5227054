//! The domain: accounts, and a transfer between two of them.

use es_core::prelude::*;
use serde::{Deserialize, Serialize};

/// The account that pays. It begins with [`CENTS`].
pub(crate) const ADA: &str = "ada";
/// The account that is paid.
pub(crate) const BOB: &str = "bob";
/// An account that nobody has opened: a transfer to it is refused.
pub(crate) const EVE: &str = "eve";
/// The cents of each open account before the transfer.
pub(crate) const CENTS: u64 = 100;

/// An event of an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub(crate) enum AccountEvent {
    #[event(name = "opened")]
    Opened { cents: u64 },
    #[event(name = "deposited")]
    Deposited { cents: u64 },
    #[event(name = "withdrawn")]
    Withdrawn { cents: u64 },
}

/// An account. It is not open if it has no `cents`.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "account", id = String, event = AccountEvent)]
pub(crate) struct Account {
    pub(crate) cents: Option<u64>,
}

impl Evolve for Account {
    fn initial(_: &String) -> Self {
        Self { cents: None }
    }

    fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
        let cents = self.cents.unwrap_or_default();
        self.cents = Some(match event {
            AccountEvent::Opened { cents } => *cents,
            AccountEvent::Deposited { cents: deposited } => cents + deposited,
            AccountEvent::Withdrawn { cents: withdrawn } => cents.saturating_sub(*withdrawn),
        });
    }
}

/// The account refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the account is not open; open it first")]
    NotOpen,
    #[error("expected at least {wanted} cents, found {found}")]
    TooFewCents { wanted: u64, found: u64 },
}

/// Opens an account. Has no effect on an open one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) cents: u64,
}

/// Adds money to an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Deposit {
    pub(crate) cents: u64,
}

/// Takes money from an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Withdraw {
    pub(crate) cents: u64,
}

impl Decide<Open> for Account {
    type Rejection = Refusal;

    fn decide(&self, command: Open, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Refusal> {
        match self.cents {
            Some(_) => Ok(Decision::unchanged()),
            None => Ok(AccountEvent::Opened { cents: command.cents }.into()),
        }
    }
}

impl Decide<Deposit> for Account {
    type Rejection = Refusal;

    fn decide(&self, command: Deposit, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Refusal> {
        self.cents.ok_or(Refusal::NotOpen)?;
        Ok(AccountEvent::Deposited { cents: command.cents }.into())
    }
}

impl Decide<Withdraw> for Account {
    type Rejection = Refusal;

    fn decide(&self, command: Withdraw, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Refusal> {
        let found = self.cents.ok_or(Refusal::NotOpen)?;
        if found < command.cents {
            return Err(Refusal::TooFewCents { wanted: command.cents, found });
        }
        Ok(AccountEvent::Withdrawn { cents: command.cents }.into())
    }
}

/// A transfer from [`ADA`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Transfer {
    /// The account that is paid.
    pub(crate) to: String,
    pub(crate) cents: u64,
}

/// What the caller of a transfer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// The money was transferred.
    Done,
    /// The money was not transferred.
    Refused,
    /// Nothing: the machine died before.
    Nothing,
}

/// The cents of both accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Balances {
    pub(crate) ada: u64,
    pub(crate) bob: u64,
}

impl Balances {
    /// The balances before the transfer.
    pub(crate) const BEFORE: Self = Self { ada: CENTS, bob: CENTS };

    /// Returns the balances after a transfer to [`BOB`].
    pub(crate) const fn after(cents: u64) -> Self {
        Self { ada: CENTS - cents, bob: CENTS + cents }
    }
}

/// What a transfer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Requests to the banks, each with its answer.
    pub(crate) round_trips: u64,
    /// Syncs of all stores to disk.
    pub(crate) syncs: u64,
}

impl std::ops::Sub for Cost {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        let round_trips = self.round_trips.saturating_sub(earlier.round_trips);
        Self { round_trips, syncs: self.syncs.saturating_sub(earlier.syncs) }
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { round_trips: self.round_trips + other.round_trips, syncs: self.syncs + other.syncs }
    }
}
