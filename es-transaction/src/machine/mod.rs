//! The state machines of distributed commit: synchronous functions without clock, randomness or I/O.
//!
//! ```text
//!              votes, answers, "record N is durable"            call, answer (Finished)
//!   driver --------------------------------> CoordinatorState   ParticipantRecord <-------- driver of the
//!          <--------------------------------                                                participant
//!              calls, records, the outcome for the caller
//!
//!   two-phase    Preparing --> Deciding ---------------------------------> Finishing --> Ended
//!   three-phase  Preparing --> RecordingPreCommit --> PreCommitting --> Deciding --> Finishing --> Ended
//!                    \--> Finishing (abort: no record)                                   \--> Damaged --> Ended
//!   recovery     Terminating (three-phase: pre-committing, not decided) --> Deciding       an operator forgets it
//! ```
//!
//! - `coordinator`: a transaction at its coordinator, and its recovery from the log.
//! - `record`: the records of the log of the coordinator.
//! - `participant`: a transaction at a participant that keeps its state durably.
//! - `termination`: the rule by which participants, or a recovered coordinator, end a three-phase commit.
//! - `lock`: wait-die, the strategy against deadlocks.
//!
//! # Rules
//!
//! - The decision to commit is durable before a participant or the caller is told of it.
//! - Presumed abort (Mohan, Lindsay 1983): no record means aborted. An abort writes no record, except when a
//!   participant contradicts it, or when a three-phase commit has begun to pre-commit.
//! - A participant that votes read-only takes no further part. If all do, nothing is written.
//! - If exactly one participant is prepared and the plan allows it, the transaction commits in one phase, without a
//!   record: that participant decides.
//! - A commit is sent until every prepared participant has answered, an abort until every participant has that is
//!   prepared or did not vote.
//! - In three-phase commit the record `pre-committing` is durable before the first pre-commit. A transaction without a
//!   record was therefore never pre-committed, so that it can be aborted in both protocols.
//!
//! # Failures that three-phase commit survives
//!
//! | failure | two-phase | three-phase |
//! |---|---|---|
//! | the coordinator crashes | participants in doubt wait for it | the participants decide |
//! | and some participants crash | the others wait for the coordinator | one that was never down decides |
//! | and all participants crash | they wait for the coordinator | they wait for it, or until all are up again |
//! | messages are lost or late, partition | **safe**: participants wait | **not safe**: some commit, others abort |
//!
//! A participant that has restarted in doubt never decides by itself: it waits for another that has decided or was
//! never down, for the coordinator, or until all participants are up.
//!
//! Three-phase commit assumes a synchronous network: a call that was sent arrives, or its receiver is down, before
//! anybody times out, and before a coordinator that crashed is replaced. The tests in `tests/model` check both
//! protocols with a model checker, and find the violation in a partition.

mod coordinator;
mod lock;
mod participant;
mod record;
mod termination;

pub use coordinator::{
    AbortReason, Call, CoordinatorAct, CoordinatorInput, CoordinatorPhase, CoordinatorState, Damage, RecoverError,
    TransactionPlan,
};
pub use lock::{LockAnswer, on_locked};
pub use participant::{ParticipantRecord, PrepareAnswer};
pub use record::{LogRecord, RecordedParticipant};
pub use termination::{Asker, StateReport, Termination, terminate};
