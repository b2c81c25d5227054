//! A process that records each of its inputs: the deposits of an account, numbered signals, and a series of timers.

use std::sync::Arc;
use std::time::Duration;

use es_core::consumer::group::StartAt;
use es_core::prelude::*;
use es_core::{CommandContext, RecordedEvent};
use es_saga::process::{Correlation, Process, ProcessContext, ProcessManager, Reaction, ReactionError, Target};
use serde::{Deserialize, Serialize};

use crate::account::{Account, AccountEvent};

/// The lease in the kill test, which is longer than the test.
pub const LEASE: Duration = Duration::from_secs(300);
/// The number of accounts of each run of the child.
pub const ACCOUNTS: u64 = 2;
/// The number of timers of each account, which fire one after the other.
pub const TICKS: u64 = 12;
/// The time from one timer to the next.
const TICK: Duration = Duration::from_millis(10);

/// An input of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, es_core::Event)]
pub enum TallyEvent {
    /// A deposit of the account.
    #[event(name = "tally-counted")]
    Counted {
        /// The amount.
        cents: u64,
    },
    /// A signal.
    #[event(name = "tally-signalled")]
    Signalled {
        /// The number of the signal.
        number: u64,
    },
    /// A timer that fired.
    #[event(name = "tally-ticked")]
    Ticked {
        /// The number of the timer.
        number: u64,
    },
}

/// The inputs that the process has handled, in order.
#[derive(Clone, Debug, Default, Aggregate)]
#[aggregate(category = "tally", id = String, event = TallyEvent)]
pub struct Tally {
    /// The inputs.
    pub events: Vec<TallyEvent>,
}

impl Evolve for Tally {
    fn initial(_: &String) -> Self {
        Self::default()
    }

    fn evolve(&mut self, event: &TallyEvent, _: &EventContext<'_>) {
        self.events.push(event.clone());
    }
}

/// An event of a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, es_core::Event)]
pub enum MirrorEvent {
    /// A deposit was copied.
    #[event(name = "deposit-copied")]
    Copied {
        /// The amount.
        cents: u64,
    },
}

/// The deposits that the process has copied by commands.
#[derive(Clone, Debug, Default, Aggregate)]
#[aggregate(category = "mirror", id = String, event = MirrorEvent)]
pub struct Mirror {
    /// The amounts.
    pub deposits: Vec<u64>,
}

impl Evolve for Mirror {
    fn initial(_: &String) -> Self {
        Self::default()
    }

    fn evolve(&mut self, MirrorEvent::Copied { cents }: &MirrorEvent, _: &EventContext<'_>) {
        self.deposits.push(*cents);
    }
}

/// Copies a deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyDeposit {
    /// The amount.
    pub cents: u64,
}

impl Decide<CopyDeposit> for Mirror {
    type Rejection = std::convert::Infallible;

    fn decide(
        &self,
        CopyDeposit { cents }: CopyDeposit,
        _: &CommandContext<'_, Self>,
    ) -> Result<Decision<Self>, Self::Rejection> {
        Ok(MirrorEvent::Copied { cents }.into())
    }
}

/// The process.
#[derive(Debug, Clone, Copy)]
pub struct Counting;

impl Process for Counting {
    type State = Tally;
    type Source = Account;
    type Signal = u64;

    fn correlate(&self, event: &AccountEvent, record: &RecordedEvent) -> Correlation<String> {
        let Some(account) = Account::id_of(&record.stream) else { return Correlation::Ignore };
        match event {
            AccountEvent::Opened { .. } => Correlation::Start(account),
            AccountEvent::Deposited { .. } => Correlation::Continue(Target::Id(account)),
            AccountEvent::Withdrawn { .. } | AccountEvent::Closed => Correlation::Ignore,
        }
    }

    fn on_event(
        &self,
        _: &Tally,
        event: &AccountEvent,
        context: &ProcessContext<'_>,
    ) -> Result<Reaction<Tally>, ReactionError> {
        Ok(match event {
            AccountEvent::Opened { .. } => Reaction::none().timer("tick-0", context.now() + TICK),
            AccountEvent::Deposited { cents } => {
                let (account, cents) = (context.id().instance().to_owned(), *cents);
                let reaction = Reaction::none().event(TallyEvent::Counted { cents });
                reaction.execute::<Mirror, _>(account, CopyDeposit { cents })
            }
            AccountEvent::Withdrawn { .. } | AccountEvent::Closed => Reaction::none(),
        })
    }

    fn on_signal(&self, _: &Tally, number: u64, _: &ProcessContext<'_>) -> Result<Reaction<Tally>, ReactionError> {
        Ok(Reaction::none().event(TallyEvent::Signalled { number }))
    }

    fn on_timer(&self, _: &Tally, timer: &str, context: &ProcessContext<'_>) -> Result<Reaction<Tally>, ReactionError> {
        let number: u64 = timer.strip_prefix("tick-").ok_or("expected a tick")?.parse()?;
        let (reaction, next) = (Reaction::none().event(TallyEvent::Ticked { number }), number + 1);
        Ok(if next < TICKS { reaction.timer(format!("tick-{next}"), context.now() + TICK) } else { reaction })
    }
}

/// Returns the process over a store.
#[must_use]
pub fn manager(store: Arc<dyn EventStore>) -> ProcessManager<Counting> {
    ProcessManager::new(Counting, store).start_at(StartAt::Beginning).poll(Duration::from_millis(5)).lease(LEASE)
}

/// Returns the name of an account of a run of the child.
#[must_use]
pub fn account(run: u64, number: u64) -> String {
    format!("{run}-{number}")
}

/// Returns the id of a signal.
#[must_use]
pub fn signal_id(number: u64) -> String {
    format!("signal-{number}")
}
