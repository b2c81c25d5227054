//! Process managers: processes that last for weeks and react to events, signals, timers and answers from outside.
//!
//! ```text
//!   log --correlate--> start | continue | stop --+
//!   caller --signal, completion--> --------------+--> reaction --> one commit: input handled, events of the state,
//!   clock --timer--> ----------------------------+                 timers, keys, waits, commands, sagas
//! ```
//!
//! A [`Process`] is the code; its state is an aggregate in a category of its own, whose events only the process writes.
//! The inputs that an instance has handled, its timers, keys and waits are in its [journal](ProcessJournal), a second
//! stream. A reaction and the record of its input are one commit, so an input has its effect once: a crash before the
//! commit leaves nothing, and one after it leaves everything.
//!
//! - **Correlation is strict.** An event that [starts](Correlation::Start) an instance needs a new one, and an event
//!   that [continues](Correlation::Continue) or [stops](Correlation::Stop) one needs a running one, found by its id or
//!   by a [key](ProcessKey) that it has. Any other event is parked, or skipped with its reason if
//!   [the process decides so](Process::on_mismatch).
//! - **Signals** have an id; a repeated one has no effect. **Waits** are completed from outside with a
//!   [token](CompletionToken). Both return after the reaction, or with the error of the process.
//! - **Timers** are durable and fire once, whatever the clock does.
//! - **Queries** read the state with its type: [`ProcessManager::query`].
//! - **A failing instance does not stop others.** An error, a panic, a rejected command or an unreadable stream
//!   quarantines the instance; its events are pending until an operator [retries](ProcessAdmin::retry),
//!   [drops](ProcessAdmin::drop_pending) or [abandons](ProcessAdmin::abandon). Each action is an event, with who and
//!   why. One that commands an aggregate which a distributed transaction locks is not quarantined: its event is
//!   pending, or its timer stays, until the transaction has ended.
//!
//! A process records metrics through the facade `metrics`, and a span `process_reaction` for each input.
//!
//! Not in this module: effects outside of the store. Start a saga for them, or let a
//! [reactor](es_core::consumer::reactor) follow the state. See `docs/adr/0049-process-managers-react-in-one-commit.md`.
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! # use es_core::prelude::*;
//! # use es_core::{CommandContext, RecordedEvent};
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
//! # enum OrderEvent {
//! #     #[event(name = "order-placed")] Placed,
//! #     #[event(name = "order-paid")] Paid,
//! #     #[event(name = "order-cancelled")] Cancelled,
//! # }
//! # #[derive(Clone, Debug, Aggregate)]
//! # #[aggregate(category = "order", id = u64, event = OrderEvent)]
//! # struct Order;
//! # impl Evolve for Order {
//! #     fn initial(_: &u64) -> Self { Self }
//! #     fn evolve(&mut self, _: &OrderEvent, _: &EventContext<'_>) {}
//! # }
//! # #[derive(Clone, Debug, PartialEq)] struct Cancel;
//! # impl Decide<Cancel> for Order {
//! #     type Rejection = std::convert::Infallible;
//! #     fn decide(&self, _: Cancel, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
//! #         Ok(OrderEvent::Cancelled.into())
//! #     }
//! # }
//! use std::time::Duration;
//! use es_saga::process::{Correlation, Process, ProcessContext, Reaction, ReactionError, Target};
//!
//! /// Whether an order is paid in time: the state of the process.
//! #[derive(Clone, Debug, Aggregate)]
//! #[aggregate(category = "payment_deadline", id = u64, event = DeadlineEvent)]
//! struct Deadline {
//!     is_passed: bool,
//! }
//!
//! #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
//! enum DeadlineEvent {
//!     #[event(name = "payment-deadline-passed")]
//!     Passed,
//! }
//!
//! impl Evolve for Deadline {
//!     fn initial(_: &u64) -> Self {
//!         Self { is_passed: false }
//!     }
//!
//!     fn evolve(&mut self, _: &DeadlineEvent, _: &EventContext<'_>) {
//!         self.is_passed = true;
//!     }
//! }
//!
//! /// Cancels an order that is not paid within three days.
//! struct PaymentDeadline;
//!
//! impl Process for PaymentDeadline {
//!     type State = Deadline;
//!     type Source = Order;
//!     type Signal = ();
//!
//!     fn correlate(&self, event: &OrderEvent, record: &RecordedEvent) -> Correlation<u64> {
//!         let Some(order) = Order::id_of(&record.stream) else { return Correlation::Ignore };
//!         match event {
//!             OrderEvent::Placed => Correlation::Start(order),
//!             OrderEvent::Paid => Correlation::Stop(Target::Id(order)),
//!             OrderEvent::Cancelled => Correlation::Ignore,
//!         }
//!     }
//!
//!     fn on_event(
//!         &self,
//!         _: &Deadline,
//!         event: &OrderEvent,
//!         context: &ProcessContext<'_>,
//!     ) -> Result<Reaction<Deadline>, ReactionError> {
//!         let in_three_days = context.now() + Duration::from_secs(3 * 86_400);
//!         Ok(match event {
//!             OrderEvent::Placed => Reaction::none().timer("deadline", in_three_days),
//!             _ => Reaction::none(),
//!         })
//!     }
//!
//!     fn on_timer(
//!         &self,
//!         _: &Deadline,
//!         _: &str,
//!         context: &ProcessContext<'_>,
//!     ) -> Result<Reaction<Deadline>, ReactionError> {
//!         let order = context.id().instance().parse()?;
//!         Ok(Reaction::none().event(DeadlineEvent::Passed).execute::<Order, _>(order, Cancel).end())
//!     }
//! }
//!
//! // A test needs no store.
//! use es_saga::process::testing::given_process;
//! given_process(PaymentDeadline)
//!     .event::<Order>(&7, &OrderEvent::Placed)
//!     .when_timer(&7, "deadline")
//!     .then_executes::<Order, _>(&7, &Cancel)
//!     .then_state(|deadline| assert!(deadline.is_passed))
//!     .then_ended();
//!
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
//! # let store: std::sync::Arc<dyn EventStore> = std::sync::Arc::new(es_core::store::memory::MemoryStore::new());
//! use es_saga::process::ProcessManager;
//!
//! let deadlines = ProcessManager::new(PaymentDeadline, store);
//! let running = deadlines.start().await?;
//! assert!(!deadlines.query(&7).await?.state.is_passed);
//! running.shutdown(Duration::from_secs(10)).await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admin;
mod definition;
mod engine;
mod error;
mod id;
mod journal;
mod manager;
mod metrics;
mod reaction;
mod rows;
mod runner;
mod settle;
pub mod testing;
mod transition;

#[cfg(test)]
mod tests;

pub use admin::{ProcessAdmin, UnfinishedProcess};
pub use definition::{Correlation, Mismatch, MismatchPolicy, Process, ProcessContext, ReactionError, Target};
pub use error::{OperateProcessError, ProcessStartError, SignalError};
pub use id::{CompletionToken, ParseProcessIdError, ProcessId, ProcessKey};
pub use journal::{ConsumedEvent, InputRecord, ProcessEvent, ProcessJournal, ProcessPhase, RecordedChanges};
pub use manager::{ProcessManager, ProcessView, RunningProcess, SignalOutcome};
pub use reaction::Reaction;
pub use rows::ParkedEvent;
