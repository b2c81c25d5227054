//! Metrics of the decisions of a store, for the facade `metrics`. The handles are registered when a store is opened.

use metrics::Counter;

use crate::store::CommitError;
use crate::store::decide::CommitDecision;

const COMMITS: &str = "es_store_commits_total";
const EVENTS: &str = "es_store_events_total";

/// The metrics of one store.
pub(super) struct StoreMetrics {
    accepted: Counter,
    repeated: Counter,
    conflict: Counter,
    rejected: Counter,
    failed: Counter,
    events: Counter,
}

impl std::fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreMetrics").finish_non_exhaustive()
    }
}

impl Default for StoreMetrics {
    fn default() -> Self {
        let commits = |outcome: &'static str| metrics::counter!(COMMITS, "outcome" => outcome);
        Self {
            accepted: commits("accepted"),
            repeated: commits("repeated"),
            conflict: commits("conflict"),
            rejected: commits("rejected"),
            failed: commits("failed"),
            events: metrics::counter!(EVENTS),
        }
    }
}

impl StoreMetrics {
    /// Counts a decision.
    pub(super) fn count(&self, decision: &Result<CommitDecision, CommitError>) {
        let counter = match decision {
            Ok(CommitDecision::Write(committed)) => {
                self.events.increment(committed.events.len() as u64);
                &self.accepted
            }
            Ok(CommitDecision::Repeat(_)) => &self.repeated,
            Err(CommitError::Conflict(_) | CommitError::IdConflict(_)) => &self.conflict,
            Err(CommitError::Rejected(_) | CommitError::Invalid(_)) => &self.rejected,
            Err(CommitError::Store(_)) => &self.failed,
        };
        counter.increment(1);
    }
}
