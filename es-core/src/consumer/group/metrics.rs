//! Metrics of consumer groups and reactors, for the facade `metrics`. The handles are registered when a group starts.

use metrics::{Counter, Gauge};

use crate::consumer::group::settlement::Settlement;
use crate::model::Position;

const DELIVERIES: &str = "es_group_deliveries_total";
const SETTLED: &str = "es_group_settled_total";
const FAILURES: &str = "es_group_failures_total";
const POSITION: &str = "es_group_position";
const LAG_EVENTS: &str = "es_group_lag_events";
const PARKED: &str = "es_group_parked_events";

/// The kind of an answer of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettledOutcome {
    Ack,
    Retry,
    Park,
    Skip,
}

impl SettledOutcome {
    pub(crate) fn of(settlement: &Settlement) -> Self {
        match settlement {
            Settlement::Ack => Self::Ack,
            Settlement::Retry(_) => Self::Retry,
            Settlement::Park(_) => Self::Park,
            Settlement::Skip(_) => Self::Skip,
        }
    }
}

/// The metrics of one group.
pub(crate) struct GroupMetrics {
    pub(crate) deliveries: Counter,
    acked: Counter,
    retried: Counter,
    parked: Counter,
    skipped: Counter,
    pub(crate) failures: Counter,
    position: Gauge,
    lag_events: Gauge,
    parked_events: Gauge,
}

impl std::fmt::Debug for GroupMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupMetrics").finish_non_exhaustive()
    }
}

impl GroupMetrics {
    pub(crate) fn new(group: &str) -> Self {
        let group = || group.to_owned();
        let settled = |outcome: &'static str| metrics::counter!(SETTLED, "group" => group(), "outcome" => outcome);
        Self {
            deliveries: metrics::counter!(DELIVERIES, "group" => group()),
            acked: settled("ack"),
            retried: settled("retry"),
            parked: settled("park"),
            skipped: settled("skip"),
            failures: metrics::counter!(FAILURES, "group" => group()),
            position: metrics::gauge!(POSITION, "group" => group()),
            lag_events: metrics::gauge!(LAG_EVENTS, "group" => group()),
            parked_events: metrics::gauge!(PARKED, "group" => group()),
        }
    }

    /// Counts the answer of a consumer.
    pub(crate) fn count(&self, outcome: SettledOutcome) {
        let counter = match outcome {
            SettledOutcome::Ack => &self.acked,
            SettledOutcome::Retry => &self.retried,
            SettledOutcome::Park => &self.parked,
            SettledOutcome::Skip => &self.skipped,
        };
        counter.increment(1);
    }

    /// Sets the gauges.
    pub(crate) fn set_progress(&self, checkpoint: Option<Position>, head: Option<Position>, parked: usize) {
        let number = |position: Option<Position>| position.map_or(0, Position::get);
        self.position.set(number(checkpoint) as f64);
        self.lag_events.set(number(head).saturating_sub(number(checkpoint)) as f64);
        self.parked_events.set(parked as f64);
    }
}
