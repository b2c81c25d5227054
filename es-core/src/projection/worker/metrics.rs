//! Metrics of background projections, recorded with the `metrics` crate. Install a recorder to export them.
//!
//! Each metric has the label `projection`.
//!
//! | name | kind | meaning |
//! |---|---|---|
//! | `es_projection_events_total` | counter | events applied, skipped or parked |
//! | `es_projection_commits_total` | counter | commits of rows and checkpoints |
//! | `es_projection_commit_seconds` | histogram | duration of such a commit |
//! | `es_projection_conflicts_total` | counter | commits retried because another worker had changed a row that was read |
//! | `es_projection_retries_total` | counter | repeated attempts to apply an event |
//! | `es_projection_parked_total` | counter | events added to the dead-letter list |
//! | `es_projection_failures_total` | counter | failures of the store or of a task |
//! | `es_projection_late_events_total` | counter | events that arrived below the settled time, after which the view is rebuilt |
//! | `es_projection_swaps_total` | counter | rebuilt views that replaced the active one |
//! | `es_projection_position` | gauge | position up to which the active view has applied the log |
//! | `es_projection_lag_events` | gauge | positions between that position and the head of the log |
//! | `es_projection_lag_seconds` | gauge | age of the last processed event; 0 at the head |

pub(crate) const EVENTS: &str = "es_projection_events_total";
pub(crate) const COMMITS: &str = "es_projection_commits_total";
pub(crate) const COMMIT_SECONDS: &str = "es_projection_commit_seconds";
pub(crate) const CONFLICTS: &str = "es_projection_conflicts_total";
pub(crate) const RETRIES: &str = "es_projection_retries_total";
pub(crate) const PARKED: &str = "es_projection_parked_total";
pub(crate) const FAILURES: &str = "es_projection_failures_total";
pub(crate) const LATE_EVENTS: &str = "es_projection_late_events_total";
pub(crate) const SWAPS: &str = "es_projection_swaps_total";
pub(crate) const POSITION: &str = "es_projection_position";
pub(crate) const LAG_EVENTS: &str = "es_projection_lag_events";
pub(crate) const LAG_SECONDS: &str = "es_projection_lag_seconds";

/// Registers the counters of a projection, so that they are exported with 0 before the first event.
pub(crate) fn register(projection: &'static str) {
    for name in [EVENTS, COMMITS, CONFLICTS, RETRIES, PARKED, FAILURES, LATE_EVENTS, SWAPS] {
        count(name, projection, 0);
    }
}

/// Increments a counter of a projection.
pub(crate) fn count(name: &'static str, projection: &'static str, increment: u64) {
    metrics::counter!(name, "projection" => projection).increment(increment);
}

/// Sets a gauge of a projection.
pub(crate) fn gauge(name: &'static str, projection: &'static str, value: f64) {
    metrics::gauge!(name, "projection" => projection).set(value);
}

/// Records a duration in a histogram of a projection.
pub(crate) fn record_duration(name: &'static str, projection: &'static str, duration: std::time::Duration) {
    metrics::histogram!(name, "projection" => projection).record(duration.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_documents_every_metric() {
        let all = [
            EVENTS,
            COMMITS,
            COMMIT_SECONDS,
            CONFLICTS,
            RETRIES,
            PARKED,
            FAILURES,
            LATE_EVENTS,
            SWAPS,
            POSITION,
            LAG_EVENTS,
            LAG_SECONDS,
        ];
        let text = include_str!("metrics.rs");
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("//! | `")).collect();
        assert_eq!(lines.len(), all.len());
        for name in all {
            assert!(lines.iter().any(|line| line.contains(&format!("`{name}`"))), "{name}");
        }
    }
}
