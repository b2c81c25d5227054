//! Distributed transactions for es-core: several aggregates and services change together or not at all.

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
    CommandList, LockedStreams, ParticipantTransaction, ResolveError, RunningParticipant, StoreParticipant,
};

#[cfg(feature = "derive")]
pub use es_macros::transaction;

// rustdoc compiles the example in the documentation of the macro here: es-macros does not depend on es-transaction.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../es-macros/src/docs/transaction.md")]
const _: () = ();
