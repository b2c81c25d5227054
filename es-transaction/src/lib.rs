//! Distributed transactions for es-core: several aggregates and services change together or not at all.

mod machine;
mod participant;
mod store;

pub use participant::{
    Finished, Outcome, Participant, ParticipantError, ParticipantState, ParticipantStatus, Prepare, Protocol, Vote,
};
pub use store::{CommandList, ParticipantTransaction, ResolveError, StoreParticipant};
