//! Recovery: ends the transactions that an earlier process, or a lost message, has left unfinished or in doubt.
//!
//! 1. From the log: each transaction with a record that has not ended continues.
//! 2. From the participants: each transaction that a participant reports as in doubt, and that has no record, is
//!    aborted. Nobody else can decide it: its epoch has ended, or this process began it and no longer drives it.
//! 3. From both: a participant that reports a transaction that has ended according to the log is told its outcome.
//!
//! A record whose write failed may become durable later. The coordinator then stops, so that step 2 happens in a later
//! epoch only, whose lease the late record fails on.
//!
//! The first search begins when the coordinator starts. Asking a participant also makes it refuse earlier epochs.
//! Transactions that this process has driven since a search started are left to the next one: what the search has read
//! of them may be out of date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use es_core::StoreError;
use es_core::model::{ErrorChain, TransactionId};

use crate::any::within;
use crate::coordinator::calls::{Answer, CallContext};
use crate::coordinator::log::UnfinishedRow;
use crate::coordinator::shared::{Registered, RunState, Shared};
use crate::coordinator::{log, tasks};
use crate::machine::{Call, CoordinatorPhase, CoordinatorState, LogRecord};
use crate::participant::{Finished, Outcome, ParticipantError};

/// The number of unfinished transactions that one read returns.
const PAGE: usize = 256;

/// Searches until the coordinator ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut pause = shared.times.first_pause;
    loop {
        let is_complete = search(&shared).await;
        shared.end_search();
        // A participant that was not reached is asked again soon.
        pause = if is_complete { shared.times.search } else { (pause * 2).min(shared.times.search) };
        tokio::select! {
            () = shared.ended() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if shared.state() != RunState::Running {
            return;
        }
    }
}

/// Searches once. Returns whether the log and all participants could be read.
async fn search(shared: &Arc<Shared>) -> bool {
    let started = Started(shared.start_search());
    let mut is_complete = match recover_log(shared, &started).await {
        Ok(is_complete) => is_complete,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "unfinished transactions could not be read from the log");
            false
        }
    };
    let mut in_doubt = BTreeMap::<TransactionId, Vec<String>>::new();
    for Registered { name, participant } in shared.participants.values() {
        let asked = within(name, shared.times.call, participant.in_doubt(&shared.epoch)).await;
        match asked {
            Ok(transactions) => {
                for transaction in transactions {
                    in_doubt.entry(transaction).or_default().push(name.to_string());
                }
            }
            Err(ParticipantError::Fenced { known, .. }) => {
                tracing::warn!(participant = %name, epoch = %shared.epoch, %known, "a participant knows a later epoch");
                shared.enter(RunState::Fenced);
                return false;
            }
            // Nothing is concluded from a participant that cannot be read.
            Err(error) => {
                is_complete = false;
                tracing::warn!(
                    participant = %name, error = %ErrorChain(&error),
                    "a participant could not be asked for its transactions in doubt"
                );
            }
        }
    }
    for (transaction, names) in in_doubt.into_iter().filter(|(transaction, _)| started.covers(shared, transaction)) {
        if let Err(error) = recover(shared, &transaction, names).await {
            is_complete = false;
            tracing::warn!(%transaction, error = %ErrorChain(&error), "a transaction in doubt could not be recovered");
        }
    }
    is_complete
}

/// The transactions that this process drove when a search started.
struct Started(BTreeSet<TransactionId>);

impl Started {
    /// Returns whether the search may recover a transaction: no task of this process has driven it since the search
    /// started.
    fn covers(&self, shared: &Shared, transaction: &TransactionId) -> bool {
        !self.0.contains(transaction) && !shared.ended_during_search(transaction)
    }
}

/// Recovers the transactions of the log. Returns whether each could be read.
async fn recover_log(shared: &Arc<Shared>, started: &Started) -> Result<bool, StoreError> {
    let (mut last, mut is_complete) = (None, true);
    loop {
        let page = log::unfinished(&*shared.store, shared.epoch.coordinator(), last.take(), PAGE).await?;
        let is_last = page.len() < PAGE;
        for UnfinishedRow { key, transaction } in page {
            last = Some(key);
            if let Err(error) = recover_row(shared, started, transaction).await {
                is_complete = false;
                tracing::warn!(error = %ErrorChain(&error), "an unfinished transaction could not be read from the log");
            }
        }
        if is_last {
            return Ok(is_complete);
        }
    }
}

async fn recover_row(
    shared: &Arc<Shared>,
    started: &Started,
    transaction: Result<TransactionId, StoreError>,
) -> Result<(), StoreError> {
    let transaction = transaction?;
    match started.covers(shared, &transaction) {
        true => recover(shared, &transaction, Vec::new()).await,
        false => Ok(()),
    }
}

/// Continues one transaction. `in_doubt` has the names of the participants that report it.
async fn recover(shared: &Arc<Shared>, transaction: &TransactionId, in_doubt: Vec<String>) -> Result<(), StoreError> {
    let Some((guard, operator)) = shared.activate(transaction) else { return Ok(()) };
    let records = log::records(&*shared.store, transaction).await?;
    abort_unrecorded(shared, transaction, &records, &in_doubt).await;
    let (state, acts) = match CoordinatorState::recover(&records, in_doubt.clone()) {
        Ok(recovered) => recovered,
        Err(error) => {
            // It is not changed, and stays in the list.
            tracing::error!(%transaction, %error, "the records of a transaction contradict each other");
            return Ok(());
        }
    };
    match state.phase() {
        CoordinatorPhase::Ended { outcome } if acts.is_empty() => {
            let is_accepted = records.last() == Some(&LogRecord::Forgotten);
            let ended = Ended { state: &state, outcome: *outcome, is_accepted };
            ended.tell(shared, transaction, &in_doubt).await;
            return Ok(());
        }
        CoordinatorPhase::Damaged { .. } if acts.is_empty() => return Ok(()),
        _ => {}
    }
    tracing::info!(%transaction, phase = ?state.phase(), "a transaction is recovered");
    shared.metrics.recovered.increment(1);
    tasks::spawn(shared, guard, operator, transaction.clone(), state, acts, None);
    Ok(())
}

/// A transaction that has ended according to its records.
struct Ended<'a> {
    state: &'a CoordinatorState,
    outcome: Outcome,
    /// Whether an operator has accepted contradictions.
    is_accepted: bool,
}

impl Ended<'_> {
    /// Tells the outcome to the participants that report the transaction. Each then forgets a heuristic outcome that is
    /// the same, or was accepted.
    async fn tell(&self, shared: &Arc<Shared>, transaction: &TransactionId, in_doubt: &[String]) {
        let call = match self.outcome {
            Outcome::Committed => Call::Commit,
            Outcome::Aborted => Call::Abort,
        };
        for (index, name) in self.state.participants().enumerate() {
            if !in_doubt.iter().any(|reporting| reporting == name) {
                continue;
            }
            let context = CallContext {
                shared: Arc::clone(shared),
                transaction: transaction.clone(),
                name: name.to_owned(),
                prepare: None,
                request: None,
                prepared: self.state.prepared(index).cloned(),
            };
            let mut answer = context.call(call).await;
            if let Answer::Finished(Finished::Heuristic(found)) = answer {
                if found != self.outcome && !self.is_accepted {
                    tracing::error!(
                        %transaction, participant = %name, outcome = ?self.outcome, ?found,
                        "a participant contradicts the outcome of a transaction that has ended; its heuristic outcome \
                         is not forgotten"
                    );
                    continue;
                }
                answer = context.call(Call::Forget).await;
            }
            if let Answer::Failed(error) = answer {
                tracing::warn!(
                    %transaction, participant = %name, error = %ErrorChain(&error),
                    "a participant was not told the outcome of a transaction that has ended"
                );
            }
        }
    }
}

/// Aborts a transaction at participants that its records do not name: they had voted read-only, and a repeated message
/// prepared them again.
async fn abort_unrecorded(
    shared: &Arc<Shared>,
    transaction: &TransactionId,
    records: &[LogRecord],
    in_doubt: &[String],
) {
    let recorded: BTreeSet<&str> = records
        .iter()
        .filter_map(|record| match record {
            LogRecord::PreCommitting { participants } | LogRecord::Decided { participants, .. } => Some(participants),
            _ => None,
        })
        .flatten()
        .map(|participant| participant.name.as_str())
        .collect();
    if records.is_empty() {
        return;
    }
    for name in in_doubt.iter().filter(|name| !recorded.contains(name.as_str())) {
        let Some(Registered { participant, .. }) = shared.participants.get(name.as_str()) else { continue };
        if let Err(error) = within(name, shared.times.call, participant.abort(transaction, None)).await {
            tracing::warn!(
                %transaction, participant = %name, error = %ErrorChain(&error),
                "a participant that the records do not name has not aborted the transaction"
            );
        }
    }
}
