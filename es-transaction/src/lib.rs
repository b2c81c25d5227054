//! Distributed transactions for es-core: aggregates in several stores, and services, change together or not at all.
//!
//! es-transaction has a [`Coordinator`], which decides transactions, and the [`Participant`]s, which prepare, commit
//! and abort them. The protocol is two-phase commit with presumed abort, or three-phase commit. It is
//!
//! - **no replacement for a saga**: participants are locked from their vote to the outcome, so that a transaction is
//!   short. A process that lasts longer, or that waits for a person, is a saga of es-saga;
//! - **no snapshot isolation**: all changes become visible, or none, but not at the same instant. A reader of two
//!   stores can see the new state of one and the old state of the other;
//! - **not available in every failure**: a participant in doubt waits for its coordinator. It never guesses, unless its
//!   aggregates have opted in.
//!
//! # Example
//!
//! Two banks have a store each. The first one runs the coordinator; the second one is a [`StoreParticipant`].
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use es_core::prelude::*;
//! use es_core::store::memory::MemoryStore;
//! use es_transaction::{CommandList, Coordinator, StoreParticipant, Strength, TransactionError, Tx, transaction};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Deposit {
//!     cents: u64,
//! }
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Withdraw {
//!     cents: u64,
//! }
//!
//! /// An ordinary aggregate: it has no code for transactions.
//! #[derive(Clone, Aggregate)]
//! #[aggregate(category = "account", id = u64, event = AccountEvent)]
//! struct Account {
//!     cents: u64,
//! }
//! # #[derive(Clone, Serialize, Deserialize, Event)]
//! # enum AccountEvent {
//! #     #[event(name = "deposited")]
//! #     Deposited { cents: u64 },
//! #     #[event(name = "withdrawn")]
//! #     Withdrawn { cents: u64 },
//! # }
//! # impl Evolve for Account {
//! #     fn initial(_: &u64) -> Self {
//! #         Self { cents: 0 }
//! #     }
//! #     fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
//! #         match event {
//! #             AccountEvent::Deposited { cents } => self.cents += cents,
//! #             AccountEvent::Withdrawn { cents } => self.cents -= cents,
//! #         }
//! #     }
//! # }
//! # impl Decide<Deposit> for Account {
//! #     type Rejection = std::convert::Infallible;
//! #     fn decide(&self, command: Deposit, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
//! #         Ok(AccountEvent::Deposited { cents: command.cents }.into())
//! #     }
//! # }
//! # #[derive(Debug, thiserror::Error)]
//! # #[error("the account has {cents} cents")]
//! # struct TooLittle { cents: u64 }
//! # impl Decide<Withdraw> for Account {
//! #     type Rejection = TooLittle;
//! #     fn decide(&self, command: Withdraw, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, TooLittle> {
//! #         match self.cents < command.cents {
//! #             true => Err(TooLittle { cents: self.cents }),
//! #             false => Ok(AccountEvent::Withdrawn { cents: command.cents }.into()),
//! #         }
//! #     }
//! # }
//!
//! #[derive(Debug, thiserror::Error)]
//! enum TransferError {
//!     #[error(transparent)]
//!     Withdraw(#[from] es_core::ExecuteError<TooLittle>),
//!     #[error(transparent)]
//!     Deposit(#[from] es_transaction::EnlistError),
//!     #[error("a command could not be written as JSON")]
//!     Command(#[from] serde_json::Error),
//! }
//!
//! /// Moves money from account 1 here to account 2 of the other bank, or changes neither.
//! #[transaction(timeout = "5s")]
//! async fn transfer(
//!     tx: &mut Tx,
//!     accounts: &Arc<Repository<Account>>,
//!     bank: &StoreParticipant,
//!     cents: u64,
//! ) -> Result<(), TransferError> {
//!     tx.enlist(accounts, 1, Withdraw { cents }).await?;
//!     tx.enlist_participant(bank, &CommandList::new().command("deposit", 2, &Deposit { cents })?)?;
//!     Ok(())
//! }
//!
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
//! let here: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
//! let accounts = Arc::new(Repository::<Account>::new(Arc::clone(&here)));
//! accounts.execute(&1, Deposit { cents: 100 }).await?;
//!
//! let there: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
//! let others = Arc::new(Repository::<Account>::new(Arc::clone(&there)));
//! let bank = StoreParticipant::new("other-bank", there).command::<Account, Deposit>("deposit", &others);
//!
//! let transactions = Coordinator::new("bank", here).participant(bank.clone()).start().await?;
//! let done = transfer(&transactions, &accounts, &bank, 30).await?;
//! assert_eq!(done.strength, Strength::TwoPhase);
//!
//! let rejected = transfer(&transactions, &accounts, &bank, 71).await;
//! assert!(matches!(rejected, Err(TransactionError::Function(TransferError::Withdraw(_)))));
//!
//! assert!(transactions.shutdown(Duration::from_secs(5)).await);
//! assert_eq!(accounts.load(&1).await?.state.cents, 70);
//! assert_eq!(others.load(&2).await?.state.cents, 30);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `#[transaction]` generates a function that begins the transaction, runs the body, and commits if it returns `Ok`.
//! [`Transactions::begin`] does the same for a closure. Nothing is prepared before the body has returned: if it returns
//! an error, panics or is dropped, nothing has happened.
//!
//! The caller is told the outcome as soon as the decision is durable. The participants are told afterwards, so that a
//! read that follows at once can still find an account locked, in its old state.
//!
//! # Strength
//!
//! How strongly a transaction is protected follows from its protocol and from what it enlists. [`Completed::strength`]
//! tells the caller.
//!
//! | [`Strength`] | when | the coordinator's machine dies | a participant's machine dies | a partition |
//! |---|---|---|---|---|
//! | [`OneCommit`](Strength::OneCommit) | only the coordinator's own store changes | the commit is on disk, or nothing has happened; nobody is in doubt | no participant changes anything | no participant changes anything |
//! | [`TwoPhase`](Strength::TwoPhase) | participants take part | undecided: aborted at its restart. Decided: committed at its restart. Participants that have voted wait for it, locked. | before its vote: aborted. After it: the participant commits or aborts after its restart; the others do not wait for it. | the participants that have voted wait, locked |
//! | [`ThreePhase`](Strength::ThreePhase) | as above, with [`Protocol::ThreePhase`] | the participants that are up decide among themselves | as for two-phase commit; a participant that has restarted in doubt waits for the coordinator or another participant | **may break the promise**: some commit, others abort |
//!
//! A participant whose request changes nothing votes [`Vote::ReadOnly`], and takes no further part. If exactly one
//! participant is prepared, and the coordinator's own store does not change, it commits without a record: it decides
//! alone.
//!
//! # Aggregates
//!
//! An aggregate takes part without code in the domain, in one of two ways:
//!
//! - [`Tx::enlist`] takes a command to an aggregate of the coordinator's own store. Its events are in the commit of the
//!   decision, so that it is never locked and never in doubt. The command is decided again in that commit; if it is
//!   rejected there, the transaction aborts.
//! - [`Tx::enlist_participant`] takes a [`CommandList`] to a [`StoreParticipant`]. At its vote, the decided events are
//!   written into the streams inside of `es.tx-prepared`, and unique keys, limits and inline projections are checked.
//!   At the outcome, one commit has `es.tx-committed` and the decided events, or `es.tx-aborted`. Projections skip the
//!   events `es.tx-*`.
//!
//! An aggregate that is prepared is **locked**. The store refuses every commit that writes its stream: commands, units
//! of work, raw commits and steps of sagas. A command waits for a bounded time
//! ([`Repository::with_lock_wait`](es_core::Repository::with_lock_wait)), then fails with
//! [`ExecuteError::Locked`](es_core::ExecuteError::Locked). Reads do not wait: they see the state before the
//! transaction, and [`Loaded::locked_by`](es_core::aggregate::Loaded::locked_by) names the transaction.
//!
//! Of two transactions that want the same aggregate, the older one waits until its vote is due, and the younger one
//! aborts after [`StoreParticipant::YOUNGER_WAIT`] (wait-die), so that transactions cannot wait for each other for
//! longer. A decided transaction usually ends within this time. Both protocols need an aggregate whose level has
//! [one order](es_core::model::OneOrder): a lock on one node cannot keep another node from writing.
//!
//! # Recovery
//!
//! The log of a coordinator is in its store, one stream for each transaction. The decision to commit is durable before
//! anybody is told of it; no record means aborted (presumed abort, Mohan and Lindsay 1983). A coordinator that starts,
//! and from then on at [intervals](Coordinator::search_interval), continues what is unfinished:
//!
//! 1. each transaction of its log that has not ended: it repeats the calls until every participant has answered;
//! 2. each transaction that a participant reports as in doubt, and that has no record: it is aborted.
//!
//! A start begins a new epoch under a lease, so that recovery does not wait for an old process: the process of an
//! earlier epoch can record no decision any more, and participants refuse to prepare its transactions. A second process
//! can start the same coordinator on the same store, and takes over when the lease of the first one has expired.
//! Nothing is concluded from a participant, or a record, that cannot be read. A caller that got
//! [`TransactionError::Unknown`] asks [`Transactions::outcome`] later.
//!
//! # Doubt and operators
//!
//! | question or action | where |
//! |---|---|
//! | which transactions have not ended, and for whom do they wait? | [`Transactions::unfinished`] |
//! | which transactions are prepared here, since when? | [`StoreParticipant::prepared`] |
//! | the coordinator is lost forever | [`StoreParticipant::resolve`] decides at the participant |
//! | a participant is lost forever | [`Transactions::resolve`] answers for it |
//! | the answers contradict the decision | [`UnfinishedTransaction::damage`], then [`Transactions::forget`] |
//!
//! An outcome that an operator, or the aggregate itself, chose without the coordinator is *heuristic*. It is final, it
//! is listed by [`StoreParticipant::heuristics`], and the coordinator compares it with its decision when it is
//! reachable again. If both agree, it is forgotten. Otherwise the transaction is damaged:
//! [`Mixed`](machine::Damage::Mixed) if a participant has the opposite outcome, [`Hazard`](machine::Damage::Hazard) if
//! a participant does not know what it is to commit, for example after a restore of an old backup. A damaged
//! transaction is listed until an operator has repaired the data and forgets it.
//!
//! An aggregate whose availability matters more than agreement opts in to decide by itself:
//! `#[aggregate(heuristic = "abort")]`, or `"commit"`. [`StoreParticipant::start`] starts the task that does it, after
//! [`StoreParticipant::heuristic_after`]. The default is [`Heuristic::Never`](es_core::aggregate::Heuristic::Never).
//!
//! # Three-phase commit
//!
//! In three-phase commit, the participants learn that all of them are prepared before anybody commits. If the
//! coordinator is unavailable for [`StoreParticipant::terminate_after`], they ask each other and end the transaction by
//! the [termination rule](machine::terminate). Register every participant at each other one with
//! [`StoreParticipant::peer`], and [start](StoreParticipant::start) their tasks. The coordinator's own store takes no
//! part; it needs a [`StoreParticipant`], too.
//!
//! **Three-phase commit does not survive a partition of the network.** It assumes that a participant that does not
//! answer is down. If it is only unreachable, one side can commit while the other one aborts. Use it where a crash is
//! likelier than a partition, such as between processes of one machine. Otherwise use two-phase commit, and keep a
//! second process ready to take over the coordinator. [`machine`] has the table of the failures that each protocol
//! survives, and a model checker tests both.
//!
//! # Remote participants
//!
//! A participant in another service is called over HTTP: `es_http::transactions` has the routes of a participant, and a
//! client that is itself a [`Participant`], which the coordinator registers as any other. A resource that is not a
//! store of aggregates, such as a table of another database, implements [`Participant`] itself.
//!
//! The coordinator records metrics through the facade `metrics`, and spans. Its task of a transaction, and all other
//! tasks, end with it. [`Coordinator::test_hook`] interferes at each point of a transaction, for tests of crashes.

mod any;
mod coordinator;
mod hooks;
pub mod machine;
mod participant;
mod store;

pub use coordinator::{
    Completed, Coordinator, EnlistError, OperateTransactionError, RunningCoordinator, StartCoordinatorError, Strength,
    TransactionBuilder, TransactionError, Transactions, Tx, UnfinishedParticipant, UnfinishedTransaction,
};
pub use hooks::{HookAction, HookPlace, HookPoint};
pub use participant::{
    Finished, Outcome, Participant, ParticipantError, ParticipantState, ParticipantStatus, Prepare, Protocol, Vote,
};
pub use store::{
    CommandList, LockedStreams, MAX_COMMANDS, ParticipantTransaction, ResolveError, RunningParticipant,
    StoreParticipant,
};

#[cfg(feature = "derive")]
pub use es_macros::transaction;

// rustdoc compiles the example in the documentation of the macro here: es-macros does not depend on es-transaction.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../es-macros/src/docs/transaction.md")]
const _: () = ();
