//! [`StoreParticipant`]: the aggregates of a store as one participant of transactions.
//!
//! ```text
//!   prepare --> decide, one commit: es.tx-prepared in each stream, row "prepared"     the streams are locked
//!   commit  --> one commit: es.tx-committed and the decided events, row "outcome"     the streams are unlocked
//!   abort   --> one commit: es.tx-aborted, row "outcome"
//! ```
//!
//! - `commands`: the commands that the participant accepts.
//! - `rows`: the rows that find transactions without a search of the log.
//! - `participant`: the calls of a coordinator. `outcome`: the changes of a prepared transaction.
//! - `background`: the termination rule of three-phase commit, and heuristic outcomes.

mod background;
mod commands;
mod outcome;
mod participant;
pub(crate) mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::__private::Bytes;
use es_core::aggregate::{Aggregate, CommandFor, Decide};
use es_core::model::{Clock, OneOrder, SystemClock, TransactionId};
use es_core::retention::Note;
use es_core::{EventStore, Repository, StoreError, Timestamp};
use serde::de::DeserializeOwned;

pub use background::RunningParticipant;
use commands::CommandTypes;
pub use commands::{CommandList, MAX_COMMANDS};
use outcome::Cause;
pub use outcome::ResolveError;
pub use participant::LockedStreams;

use crate::any::AnyParticipant;
use crate::machine::ParticipantRecord;
use crate::participant::{Outcome, Participant, ParticipantError, ParticipantState};
use rows::{Kind, OutcomeRow, PreparedRow};

/// The aggregates of a store as one participant of transactions, without code in the domain. A coordinator in another
/// process reaches it through HTTP, see `es_http::transactions`.
///
/// An aggregate in a prepared transaction is locked: no other commit can write it. Commands to it wait for a bounded
/// time, then fail with [`ExecuteError::Locked`](es_core::ExecuteError::Locked). It stays locked until its coordinator
/// or an operator decides, unless the aggregate has opted in to a [heuristic](es_core::aggregate::Heuristic) outcome.
///
/// All prepared aggregates of a transaction are locked in one commit. If one of them is locked by another transaction,
/// an older transaction waits until the vote is due, and a younger one for at most
/// [`YOUNGER_WAIT`](Self::YOUNGER_WAIT), then votes no: transactions that lock aggregates of several stores in opposite
/// order cannot wait for each other for longer (wait-die, Rosenkrantz et al. 1978).
#[derive(Clone)]
pub struct StoreParticipant {
    name: Arc<str>,
    store: Arc<dyn EventStore>,
    commands: CommandTypes,
    clock: Arc<dyn Clock>,
    keep_outcomes: Duration,
    heuristic_after: Duration,
    terminate_after: Duration,
    /// The key up to which all outcomes are [kept](OutcomeRow::is_kept), so that a search for old ones begins after it.
    kept: Arc<Mutex<Option<Bytes>>>,
    /// The other participants of three-phase commits, by name.
    peers: BTreeMap<String, Arc<dyn AnyParticipant>>,
    /// The transactions that this participant is about to end on its own, and whose state it has not reported since.
    rounds: Arc<tokio::sync::Mutex<BTreeSet<TransactionId>>>,
}

impl fmt::Debug for StoreParticipant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreParticipant")
            .field("name", &self.name)
            .field("store", &self.store)
            .field("commands", &self.commands)
            .finish_non_exhaustive()
    }
}

/// A transaction at a participant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParticipantTransaction {
    /// The transaction.
    pub transaction: TransactionId,
    /// Its state.
    pub state: ParticipantState,
    /// Whether it was decided here without the coordinator.
    pub is_heuristic: bool,
    /// The time at which it was prepared; `None` if it was aborted before.
    pub prepared_at: Option<Timestamp>,
    /// The names of all participants; empty for an outcome.
    pub participants: Vec<String>,
}

impl StoreParticipant {
    /// How long a participant remembers the outcome of a transaction by default.
    pub const KEEP_OUTCOMES: Duration = Duration::from_secs(24 * 60 * 60);

    /// How long a transaction waits at most for an older one that has locked its aggregates. The older one is often
    /// decided, and about to end.
    pub const YOUNGER_WAIT: Duration = Duration::from_millis(200);

    /// How long a transaction is in doubt by default before aggregates that have opted in decide it.
    pub const HEURISTIC_AFTER: Duration = Duration::from_secs(60 * 60);
    /// How long a three-phase commit is in doubt by default before its participants end it without the coordinator.
    pub const TERMINATE_AFTER: Duration = Duration::from_secs(60);

    /// Returns the participant with this name in a store, without commands. The name is unique among the participants
    /// of a coordinator, and never changes.
    #[must_use]
    pub fn new(name: &str, store: Arc<dyn EventStore>) -> Self {
        Self {
            name: name.into(),
            store,
            commands: CommandTypes::default(),
            clock: Arc::new(SystemClock::new()),
            keep_outcomes: Self::KEEP_OUTCOMES,
            heuristic_after: Self::HEURISTIC_AFTER,
            terminate_after: Self::TERMINATE_AFTER,
            kept: Arc::default(),
            peers: BTreeMap::new(),
            rounds: Arc::default(),
        }
    }

    /// Accepts commands of the type `C` to aggregates of the type `A`, under a name that never changes. The last of two
    /// types with one name counts. The repository must use the store of the participant.
    ///
    /// The aggregate's consistency level must have [one order](OneOrder): a lock on one node cannot keep another node
    /// from writing.
    #[must_use]
    pub fn command<A, C>(mut self, name: &str, repository: &Arc<Repository<A>>) -> Self
    where
        A: Decide<C::Accepted> + Aggregate<Level: OneOrder>,
        A::Rejection: fmt::Display,
        C: CommandFor<A> + DeserializeOwned + Send + Sync + 'static,
        C::Accepted: 'static,
    {
        self.commands.register::<A, C>(name, repository);
        self
    }

    /// Registers another participant of three-phase commits. If the coordinator is unavailable, this participant asks
    /// it for its state, and applies the [termination rule](crate::machine::terminate).
    #[must_use]
    pub fn peer(mut self, participant: impl Participant) -> Self {
        self.peers.insert(participant.name().to_owned(), Arc::new(participant));
        self
    }

    /// Sets how long a transaction is in doubt before it gets the heuristic outcome of its aggregates, if they have
    /// [opted in](es_core::aggregate::Heuristic). The default is [`HEURISTIC_AFTER`](Self::HEURISTIC_AFTER).
    #[must_use]
    pub const fn heuristic_after(mut self, time: Duration) -> Self {
        self.heuristic_after = time;
        self
    }

    /// Sets how long a three-phase commit is in doubt before this participant asks its peers. It must be longer than
    /// the time-out of a transaction. The default is [`TERMINATE_AFTER`](Self::TERMINATE_AFTER).
    #[must_use]
    pub const fn terminate_after(mut self, time: Duration) -> Self {
        self.terminate_after = time;
        self
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how long the participant remembers the outcome of a transaction, by default
    /// [`KEEP_OUTCOMES`](Self::KEEP_OUTCOMES). The termination rule of three-phase commit and late messages need it.
    /// Heuristic outcomes are kept until an operator forgets them, and that of a three-phase commit that ended without
    /// its coordinator until the coordinator has called with its decision.
    ///
    /// All participants of three-phase commits have the same time: after it, a participant in doubt does not conclude
    /// anything from a peer that does not know the transaction, and waits for the coordinator.
    #[must_use]
    pub const fn keep_outcomes(mut self, time: Duration) -> Self {
        self.keep_outcomes = time;
        self
    }

    /// Returns the transactions that are prepared and not decided, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails, or a row cannot be read.
    pub async fn prepared(&self, limit: usize) -> Result<Vec<ParticipantTransaction>, StoreError> {
        let rows = self.store.rows(Kind::Prepared.scan(&self.name, limit)?).await?;
        rows.iter()
            .map(|row| {
                let prepared: PreparedRow = rows::decode(&row.key, &row.value)?;
                Ok(ParticipantTransaction {
                    state: prepared.record.state(),
                    transaction: prepared.transaction,
                    is_heuristic: false,
                    prepared_at: Some(prepared.prepared_at),
                    participants: prepared.participants,
                })
            })
            .collect()
    }

    /// Returns the heuristic outcomes that no operator has forgotten, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails, or a row cannot be read.
    pub async fn heuristics(&self, limit: usize) -> Result<Vec<ParticipantTransaction>, StoreError> {
        let rows = self.store.rows(Kind::Heuristic.scan(&self.name, limit)?).await?;
        rows.iter()
            .map(|row| {
                let row: OutcomeRow = rows::decode(&row.key, &row.value)?;
                Ok(ParticipantTransaction {
                    transaction: row.transaction,
                    state: row.record.state(),
                    is_heuristic: row.record.is_heuristic(),
                    prepared_at: row.prepared_at,
                    participants: Vec::new(),
                })
            })
            .collect()
    }

    /// Decides a prepared transaction without its coordinator, as an operator does if the coordinator is lost. The
    /// outcome may contradict the decision of the coordinator; it is then reported as mixed.
    ///
    /// # Errors
    /// - [`ResolveError::NotPrepared`] if the transaction is not prepared here.
    /// - [`ResolveError::Participant`] if the store fails.
    pub async fn resolve(
        &self,
        transaction: &TransactionId,
        outcome: Outcome,
        note: &Note,
    ) -> Result<(), ResolveError> {
        let decide = |record: &mut ParticipantRecord| record.decide_heuristically(outcome);
        match self.change(transaction, Cause::Heuristic(note), decide).await? {
            true => Ok(()),
            false => Err(ResolveError::NotPrepared { transaction: transaction.clone() }),
        }
    }

    /// Returns the error for a failure of the store.
    fn failed(&self, error: StoreError) -> ParticipantError {
        let participant = self.name.to_string();
        match error {
            StoreError::Damaged { .. } => ParticipantError::Unreadable { participant, detail: error.to_string() },
            error => ParticipantError::Unavailable { participant, source: error.into() },
        }
    }
}
