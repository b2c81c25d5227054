//! Metrics of transactions, for the facade `metrics`. The handles are registered when a coordinator starts.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

const TRANSACTIONS: &str = "es_transactions_total";
const SECONDS: &str = "es_transaction_seconds";
const ACTIVE: &str = "es_transactions_active";
const DAMAGED: &str = "es_transactions_damaged_total";
const RECOVERED: &str = "es_transactions_recovered_total";
const CALLS_FAILED: &str = "es_transaction_calls_failed_total";

/// The metrics of one coordinator.
pub(super) struct CoordinatorMetrics {
    pub(super) committed: Counter,
    pub(super) aborted: Counter,
    pub(super) unknown: Counter,
    /// The time until the caller knows the outcome.
    seconds: Histogram,
    /// The transactions that a task of this process drives.
    pub(super) active: Gauge,
    pub(super) mixed: Counter,
    pub(super) hazard: Counter,
    /// The transactions that an earlier process or a lost message had left in doubt.
    pub(super) recovered: Counter,
    pub(super) calls_failed: Counter,
}

impl CoordinatorMetrics {
    pub(super) fn new(coordinator: &str) -> Self {
        let name = || coordinator.to_owned();
        let transactions =
            |outcome: &'static str| metrics::counter!(TRANSACTIONS, "coordinator" => name(), "outcome" => outcome);
        let damaged = |kind: &'static str| metrics::counter!(DAMAGED, "coordinator" => name(), "kind" => kind);
        Self {
            committed: transactions("committed"),
            aborted: transactions("aborted"),
            unknown: transactions("unknown"),
            seconds: metrics::histogram!(SECONDS, "coordinator" => name()),
            active: metrics::gauge!(ACTIVE, "coordinator" => name()),
            mixed: damaged("mixed"),
            hazard: damaged("hazard"),
            recovered: metrics::counter!(RECOVERED, "coordinator" => name()),
            calls_failed: metrics::counter!(CALLS_FAILED, "coordinator" => name()),
        }
    }

    pub(super) fn took(&self, time: Duration) {
        self.seconds.record(time.as_secs_f64());
    }
}
