//! [`TransactionBuilder`] and [`Tx`]: one transaction, from its first participant to its outcome.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use es_core::Repository;
use es_core::aggregate::{Aggregate, CommandBatch, CommandFor, Decide, ExecuteError};
use es_core::model::{OneOrder, TransactionId};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::coordinator::driver::{Report, Voting};
use crate::coordinator::error::{EnlistError, TransactionError};
use crate::coordinator::shared::{RunState, Shared};
use crate::coordinator::{Transactions, tasks};
use crate::machine::{CoordinatorState, TransactionPlan};
use crate::participant::{Outcome, Participant, Prepare, Protocol};

/// How strongly a transaction was protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    /// All changes were in one store, and in one commit. No participant was ever in doubt.
    OneCommit,
    /// Two-phase commit. A participant that is in doubt waits for the coordinator.
    TwoPhase,
    /// Three-phase commit. The participants decide without the coordinator if it crashes, and may disagree in a
    /// partition of the network.
    ThreePhase,
}

/// A committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it says how strongly the transaction was protected"]
pub struct Completed<T> {
    /// What the function returned.
    pub value: T,
    /// The transaction.
    pub transaction: TransactionId,
    /// How strongly it was protected.
    pub strength: Strength,
}

/// Begins a transaction. See [`Transactions::begin`].
#[derive(Debug, Clone)]
#[must_use = "a transaction does nothing until `run` is awaited"]
pub struct TransactionBuilder {
    transactions: Transactions,
    protocol: Protocol,
    timeout: Duration,
}

/// The participants of a transaction, as its function enlists them.
///
/// Nothing is prepared before the function has returned. The transaction then commits if the function returned `Ok`;
/// if it returned an error, panicked or was dropped, nothing has happened.
pub struct Tx {
    shared: Arc<Shared>,
    transaction: TransactionId,
    deadline: Instant,
    batch: CommandBatch,
    requests: BTreeMap<String, Value>,
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("transaction", &self.transaction)
            .field("own", &self.batch)
            .field("participants", &self.requests.keys())
            .finish_non_exhaustive()
    }
}

impl Transactions {
    /// Begins a transaction with two-phase commit and the time-out of the coordinator.
    ///
    /// ```text
    /// let done = transactions.begin().timeout(..).run(async |tx| {
    ///     tx.enlist(&accounts, from, Withdraw { cents }).await?;      // an aggregate of the coordinator's store
    ///     tx.enlist_participant(&bank, &deposit)?;                    // a participant, perhaps in another service
    ///     Ok(())
    /// }).await?;
    /// ```
    pub fn begin(&self) -> TransactionBuilder {
        let timeout = self.shared.times.transaction;
        TransactionBuilder { transactions: self.clone(), protocol: Protocol::TwoPhase, timeout }
    }
}

impl TransactionBuilder {
    /// Sets the protocol. The coordinator's own store takes no part in three-phase commit: register a
    /// [`StoreParticipant`](crate::StoreParticipant) for it.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets the time within which the function must return and the participants must vote.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Runs a function that enlists participants, and commits the transaction if it returns `Ok`. The changes of all
    /// participants become visible, or none.
    ///
    /// If this future is dropped, the transaction aborts unless all participants have voted.
    ///
    /// [`timeout`](Self::timeout) has no effect after the votes. This future then waits without a bound while the only
    /// prepared participant of a one-phase commit, or each participant of a three-phase commit, is unreachable. With
    /// two or more prepared participants of a two-phase commit it waits only for the store.
    ///
    /// # Errors
    /// - [`TransactionError::Function`] if the function returns an error.
    /// - [`TransactionError::TimedOut`] if the function does not return in time.
    /// - [`TransactionError::Aborted`] if a participant refuses, or does not vote in time.
    /// - [`TransactionError::Unknown`] if the store fails while the decision is written, or the coordinator stops.
    /// - [`TransactionError::Stopped`] if the coordinator has stopped.
    pub async fn run<T, E>(
        self,
        function: impl AsyncFnOnce(&mut Tx) -> Result<T, E>,
    ) -> Result<Completed<T>, TransactionError<E>> {
        let started = self.transactions.shared.clock.elapsed();
        let mut tx = self.tx().ok_or(TransactionError::Stopped)?;
        let value = match tokio::time::timeout_at(tx.deadline, function(&mut tx)).await {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => return Err(TransactionError::Function(error)),
            Err(_) => return Err(TransactionError::TimedOut { transaction: tx.transaction }),
        };
        let (transaction, shared) = (tx.transaction.clone(), Arc::clone(&tx.shared));
        let (is_prepared, report) = self.decide(tx).await?;
        shared.metrics.took(shared.clock.elapsed().saturating_sub(started));
        match report {
            Some(Report { outcome: Outcome::Committed, is_one_commit, .. }) => {
                shared.metrics.committed.increment(1);
                let strength = match self.protocol {
                    _ if is_one_commit || !is_prepared => Strength::OneCommit,
                    Protocol::TwoPhase => Strength::TwoPhase,
                    Protocol::ThreePhase => Strength::ThreePhase,
                };
                Ok(Completed { value, transaction, strength })
            }
            Some(Report { outcome: Outcome::Aborted, reason, .. }) => {
                shared.metrics.aborted.increment(1);
                let reason = reason.unwrap_or_else(|| "no reason is known".to_owned());
                Err(TransactionError::Aborted { transaction, reason })
            }
            None => {
                shared.metrics.unknown.increment(1);
                Err(TransactionError::Unknown { transaction })
            }
        }
    }

    /// Returns an empty transaction, unless the coordinator has stopped.
    fn tx(&self) -> Option<Tx> {
        let shared = Arc::clone(&self.transactions.shared);
        if shared.state() != RunState::Running {
            return None;
        }
        Some(Tx {
            transaction: TransactionId::new(shared.epoch.clone(), shared.new_id()),
            deadline: Instant::now() + self.timeout,
            batch: CommandBatch::new(Arc::clone(&shared.store)),
            requests: BTreeMap::new(),
            shared,
        })
    }

    /// Prepares the participants and decides. Returns whether there are participants, and the report; `None` if the
    /// outcome is not known.
    async fn decide<E>(&self, tx: Tx) -> Result<(bool, Option<Report>), TransactionError<E>> {
        let Tx { shared, transaction, deadline, batch, requests } = tx;
        if self.protocol == Protocol::ThreePhase && !batch.is_empty() {
            let reason = "the coordinator's own store takes no part in three-phase commit; register a StoreParticipant";
            return Err(TransactionError::Aborted { transaction, reason: reason.to_owned() });
        }
        let Some((guard, operator)) = shared.activate(&transaction) else { return Err(TransactionError::Stopped) };
        let participants: Vec<String> = requests.keys().cloned().collect();
        let remaining = deadline.saturating_duration_since(Instant::now());
        let prepare = Prepare {
            transaction: transaction.clone(),
            protocol: self.protocol,
            participants: participants.clone(),
            timeout_ms: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX),
        };
        let has_participants = !participants.is_empty();
        let allows_one_phase = batch.is_empty();
        let plan = TransactionPlan { protocol: self.protocol, participants, allows_one_phase };
        let (state, acts) = CoordinatorState::begin(plan);
        let (caller, report) = oneshot::channel();
        let voting = Voting { prepare, requests, batch, caller };
        tasks::spawn(&shared, guard, operator, transaction, state, acts, Some(voting));
        Ok((has_participants, report.await.ok()))
    }
}

impl Tx {
    /// Returns the id of the transaction.
    #[must_use]
    pub const fn id(&self) -> &TransactionId {
        &self.transaction
    }

    /// Enlists an aggregate of the coordinator's own store with a command. The command is decided now, so that a
    /// rejection is returned here, and again in the commit of the decision, on the state of that time. The aggregate is
    /// not locked meanwhile.
    ///
    /// # Errors
    /// - [`ExecuteError::Rejected`] if the domain rejects the command.
    /// - [`ExecuteError::Failed`] if the infrastructure fails, or the repository uses another store.
    pub async fn enlist<A, C>(
        &mut self,
        repository: &Arc<Repository<A>>,
        id: A::Id,
        command: C,
    ) -> Result<(), ExecuteError<A::Rejection>>
    where
        A: Decide<C::Accepted> + Aggregate<Level: OneOrder>,
        A::Rejection: fmt::Display,
        C: CommandFor<A>,
        C::Accepted: 'static,
    {
        self.batch.add(repository, &id, command).await
    }

    /// Enlists a participant with a request. It is called after the function has returned, in parallel with the others.
    ///
    /// # Errors
    /// - [`EnlistError::Unregistered`] if the participant is not registered with the coordinator.
    /// - [`EnlistError::Twice`] if it is enlisted already.
    /// - [`EnlistError::Request`] if the request cannot be written as JSON.
    pub fn enlist_participant<P: Participant>(
        &mut self,
        participant: &P,
        request: &P::Request,
    ) -> Result<(), EnlistError> {
        let name = participant.name().to_owned();
        if !self.shared.participants.contains_key(name.as_str()) {
            return Err(EnlistError::Unregistered { participant: name });
        }
        let encoded = serde_json::to_value(request);
        let encoded = encoded.map_err(|source| EnlistError::Request { participant: name.clone(), source })?;
        match self.requests.entry(name) {
            Entry::Occupied(occupied) => Err(EnlistError::Twice { participant: occupied.key().clone() }),
            Entry::Vacant(vacant) => {
                vacant.insert(encoded);
                Ok(())
            }
        }
    }
}
