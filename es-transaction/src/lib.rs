//! Distributed transactions for es-core: several aggregates and services change together or not at all.

pub mod machine;
mod participant;

pub use participant::{
    Finished, Outcome, Participant, ParticipantError, ParticipantState, ParticipantStatus, Prepare, Protocol, Vote,
};
