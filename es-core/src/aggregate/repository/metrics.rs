//! Metrics of commands, loads and snapshots, for the facade `metrics`.
//!
//! The handles are registered when a repository is created. Without a recorder they do nothing, and cost one branch.

use std::sync::LazyLock;
use std::time::Duration;

use metrics::{Counter, Histogram};

const COMMANDS: &str = "es_commands_total";
const COMMAND_SECONDS: &str = "es_command_seconds";
const COMMAND_RETRIES: &str = "es_command_retries_total";
const COMMIT_SECONDS: &str = "es_commit_seconds";
const LOADS: &str = "es_loads_total";
const LOADS_FOLDED_AGAIN: &str = "es_loads_folded_again_total";
const SNAPSHOTS: &str = "es_snapshots_total";

/// The metrics of units of work, which can have aggregates of several categories.
pub(super) static UNIT: LazyLock<CommandMetrics> = LazyLock::new(|| CommandMetrics::new("several"));

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandOutcome {
    Executed,
    Rejected,
    Conflict,
    Locked,
    NotOwner,
    Failed,
}

impl CommandOutcome {
    /// Returns the value of the label.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Rejected => "rejected",
            Self::Conflict => "conflict",
            Self::Locked => "locked",
            Self::NotOwner => "not_owner",
            Self::Failed => "failed",
        }
    }
}

/// The metrics of the commands to one category.
pub(super) struct CommandMetrics {
    executed: Counter,
    rejected: Counter,
    conflict: Counter,
    locked: Counter,
    not_owner: Counter,
    failed: Counter,
    pub(super) retries: Counter,
    seconds: Histogram,
    pub(super) commit_seconds: Histogram,
}

impl CommandMetrics {
    pub(super) fn new(category: &'static str) -> Self {
        let commands =
            |outcome: CommandOutcome| metrics::counter!(COMMANDS, "category" => category, "outcome" => outcome.name());
        Self {
            executed: commands(CommandOutcome::Executed),
            rejected: commands(CommandOutcome::Rejected),
            conflict: commands(CommandOutcome::Conflict),
            locked: commands(CommandOutcome::Locked),
            not_owner: commands(CommandOutcome::NotOwner),
            failed: commands(CommandOutcome::Failed),
            retries: metrics::counter!(COMMAND_RETRIES, "category" => category),
            seconds: metrics::histogram!(COMMAND_SECONDS, "category" => category),
            commit_seconds: metrics::histogram!(COMMIT_SECONDS, "category" => category),
        }
    }

    /// Records the result and the duration of a command, with its retries.
    pub(super) fn record(&self, outcome: CommandOutcome, duration: Duration) {
        let counter = match outcome {
            CommandOutcome::Executed => &self.executed,
            CommandOutcome::Rejected => &self.rejected,
            CommandOutcome::Conflict => &self.conflict,
            CommandOutcome::Locked => &self.locked,
            CommandOutcome::NotOwner => &self.not_owner,
            CommandOutcome::Failed => &self.failed,
        };
        counter.increment(1);
        self.seconds.record(duration.as_secs_f64());
    }
}

/// The metrics of the loads of one category.
#[derive(Debug)]
pub(crate) struct LoadMetrics {
    pub(super) from_cache: Counter,
    pub(super) from_snapshot: Counter,
    pub(super) from_events: Counter,
    /// Loads that a late event made start again.
    pub(super) folded_again: Counter,
}

impl LoadMetrics {
    pub(super) fn new(category: &'static str) -> Self {
        let loads = |source: &'static str| metrics::counter!(LOADS, "category" => category, "source" => source);
        Self {
            from_cache: loads("cache"),
            from_snapshot: loads("snapshot"),
            from_events: loads("events"),
            folded_again: metrics::counter!(LOADS_FOLDED_AGAIN, "category" => category),
        }
    }
}

/// Counts a snapshot that was taken, or that could not be taken.
pub(super) fn count_snapshot(category: &'static str, is_taken: bool) {
    let outcome = if is_taken { "taken" } else { "failed" };
    metrics::counter!(SNAPSHOTS, "category" => category, "outcome" => outcome).increment(1);
}
