//! The state machine of a saga instance: synchronous functions without clock, randomness or I/O.
//!
//! ```text
//!   state --next(now)--> acts: what to call now        the coordinator calls
//!   state --transition(outcome)--> events              the coordinator commits them, and they are folded
//!
//!   Running --all steps done--> Completed              Compensating --all effects undone--> Compensated
//!      |  \--a step has no attempt left----------------^   |
//!      |                                                   |
//!      +--after the pivot, or by its policy--> Stuck <-----+ an undo has no attempt left
//!                                        a person retries, skips, cancels, kills or abandons
//! ```
//!
//! - `event`: what is recorded.
//! - `state`: the state of an instance.
//! - `fold`: the fold of the events.
//! - `migrate`: the change to another version of the graph.
//! - `next`: what to do next, and when.
//! - `transition`: the outcomes of calls, delays, and the consequences for the saga.
//! - `verbs`: what an operator can do.
//!
//! The semantics are those of Garcia-Molina and Salem, "Sagas" (1987), with compensations that are computed before the
//! call, so that a call whose outcome is unknown can be undone.

mod event;
mod fold;
mod migrate;
mod next;
mod state;
mod transition;
mod verbs;

pub use event::{MigratedOutput, OperatorNote, RecordedValue, SagaEvent, Unit};
pub use next::Act;
pub use state::{NodeState, Phase, SagaInstance, UnitState, UnitStatus};
pub use transition::{StaleTransition, Transition};
pub use verbs::{Operate, SagaVerb, VerbRefused};

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verb_tests;
