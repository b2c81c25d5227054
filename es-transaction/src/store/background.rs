//! What a participant does on its own: it ends three-phase commits whose coordinator is unavailable, and gives
//! transactions that stay in doubt the outcome that their aggregates have opted in to.

use std::time::Duration;

use es_core::aggregate::Heuristic;
use es_core::model::ErrorChain;
use es_core::retention::Note;
use es_core::{StoreError, Timestamp};
use tokio::task::JoinHandle;

use crate::any::within;
use crate::machine::{ParticipantRecord, StateReport, Termination};
use crate::participant::{Outcome, ParticipantError, ParticipantState};
use crate::store::StoreParticipant;
use crate::store::outcome::Cause;
use crate::store::rows::{self, Kind, PreparedRow, TransactionRows};

/// The longest time between two searches.
const INTERVAL: Duration = Duration::from_secs(1);
/// The number of prepared transactions that one search looks at.
const PAGE: usize = 1_000;
/// The time within which a peer must report its state.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);

/// The task of a participant that decides without the coordinator. It ends when this is dropped.
#[derive(Debug)]
pub struct RunningParticipant {
    task: JoinHandle<()>,
}

impl Drop for RunningParticipant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl StoreParticipant {
    /// Starts the task that ends three-phase commits without their coordinator, by the termination rule, and decides
    /// transactions for aggregates that have opted in. Without it, every transaction waits for its coordinator. It must
    /// be called in a tokio runtime.
    #[must_use = "the task ends when the result is dropped"]
    pub fn start(&self) -> RunningParticipant {
        let participant = self.clone();
        let interval = INTERVAL.min(self.terminate_after / 4).min(self.heuristic_after / 4);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval.max(Duration::from_millis(1))).await;
                match participant.search().await {
                    Ok(()) => {}
                    Err(StoreError::Closed) => return,
                    Err(error) => tracing::warn!(
                        participant = %participant.name, error = %ErrorChain(&error),
                        "prepared transactions could not be read"
                    ),
                }
            }
        });
        RunningParticipant { task }
    }

    /// Looks at each prepared transaction once.
    async fn search(&self) -> Result<(), StoreError> {
        for row in self.store.rows(Kind::Prepared.scan(&self.name, PAGE)?).await? {
            let row: PreparedRow = match rows::decode(&row.key, &row.value) {
                Ok(row) => row,
                Err(error) => {
                    tracing::warn!(
                        participant = %self.name, error = %ErrorChain(&error),
                        "a prepared transaction could not be read; it is left alone"
                    );
                    continue;
                }
            };
            let age = age(row.prepared_at, self.clock.now());
            let decided = match () {
                () if age >= self.heuristic_after && row.heuristic != Heuristic::Never => {
                    self.decide_heuristically(&row).await
                }
                () if age >= self.terminate_after => self.terminate(&row).await,
                () => Ok(()),
            };
            if let Err(error) = decided {
                tracing::warn!(
                    transaction = %row.transaction, participant = %self.name, error = %ErrorChain(&error),
                    "a transaction in doubt could not be ended"
                );
            }
        }
        Ok(())
    }

    async fn decide_heuristically(&self, row: &PreparedRow) -> Result<(), ParticipantError> {
        let outcome = if row.heuristic == Heuristic::Commit { Outcome::Committed } else { Outcome::Aborted };
        let reason = format!("in doubt for longer than {:?}", self.heuristic_after);
        let note = Note { by: Some(format!("participant {}", self.name)), reason: Some(reason) };
        let decide = |record: &mut ParticipantRecord| record.decide_heuristically(outcome);
        if self.change(&row.transaction, Cause::Heuristic(&note), decide).await? {
            tracing::error!(
                transaction = %row.transaction, participant = %self.name, ?outcome,
                "a transaction in doubt got a heuristic outcome"
            );
        }
        Ok(())
    }

    /// Asks the other participants of a three-phase commit, and applies the termination rule.
    async fn terminate(&self, row: &PreparedRow) -> Result<(), ParticipantError> {
        let rows = TransactionRows::read(&*self.store, &self.name, &row.transaction).await;
        let mut record = rows.map_err(|error| self.failed(error))?.record();
        let own = row.participants.iter().position(|name| **name == *self.name);
        let is_begun = own.is_some_and(|own| record.begin_round(own, row.participants.len()));
        if !is_begun {
            return Ok(());
        }
        self.rounds.lock().await.insert(row.transaction.clone());
        while let Some(name) = record.next_to_ask().and_then(|next| row.participants.get(next)) {
            let report = self.ask(name, row).await;
            // The peer may have committed or aborted so long ago that it has forgotten it.
            let is_forgotten = report.state() == Some(ParticipantState::Unknown)
                && age(row.prepared_at, self.clock.now()) >= self.keep_outcomes;
            if is_forgotten {
                tracing::warn!(
                    transaction = %row.transaction, participant = %self.name, peer = name,
                    "a three-phase commit waits for its coordinator, because a peer may have forgotten its outcome"
                );
                self.rounds.lock().await.remove(&row.transaction);
                return Ok(());
            }
            record.on_report(report);
        }
        // ORDER: no report is made between this check and the commit.
        let mut rounds = self.rounds.lock().await;
        if !rounds.remove(&row.transaction) {
            return Ok(());
        }
        let before = record.state();
        let end = |current: &mut ParticipantRecord| {
            if current.state() != before {
                return None;
            }
            let mut ended = record.clone();
            let termination = ended.end_round();
            *current = ended;
            termination
        };
        let termination = self.change(&row.transaction, Cause::Protocol, end).await?;
        if let Some(Termination::Commit | Termination::Abort) = termination {
            tracing::warn!(
                transaction = %row.transaction, participant = %self.name, ?termination,
                "a three-phase commit was ended without its coordinator"
            );
        }
        Ok(())
    }

    async fn ask(&self, name: &str, row: &PreparedRow) -> StateReport {
        let Some(peer) = self.peers.get(name) else { return StateReport::Unreachable };
        match within(name, PEER_TIMEOUT, peer.status(&row.transaction)).await {
            Ok(status) => StateReport::from(&status),
            Err(error) => {
                tracing::warn!(peer = name, error = %ErrorChain(&error), "a peer did not report its state");
                StateReport::Unreachable
            }
        }
    }
}

/// Returns how long ago a time was; zero for a time in the future.
fn age(from: Timestamp, now: Timestamp) -> Duration {
    (now - from).to_std().unwrap_or(Duration::ZERO)
}
