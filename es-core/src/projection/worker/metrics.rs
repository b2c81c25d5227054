//! The numbers that the machinery of projections hands to the facade of the `metrics` crate. Install a recorder to see them.
//!
//! Each has the label `projection`.
//!
//! | name | kind | what |
//! |---|---|---|
//! | `es_projection_events_total` | counter | events applied, passed over or parked |
//! | `es_projection_commits_total` | counter | commits of rows and checkpoints |
//! | `es_projection_commit_seconds` | histogram | how long such a commit took |
//! | `es_projection_conflicts_total` | counter | commits made anew, because another worker had changed a row that was read |
//! | `es_projection_retries_total` | counter | attempts to apply an event again |
//! | `es_projection_parked_total` | counter | events put into the dead-letter list |
//! | `es_projection_failures_total` | counter | failures of the store or of a task, after which it was started again |
//! | `es_projection_swaps_total` | counter | rebuilt views that took the place of old ones |
//! | `es_projection_position` | gauge | up to where every event counts in the view that is read |
//! | `es_projection_lag_events` | gauge | how many positions the head of the log is ahead |
//! | `es_projection_lag_seconds` | gauge | how old the last event was, when it was applied; 0 at the head |

pub(crate) const EVENTS: &str = "es_projection_events_total";
pub(crate) const COMMITS: &str = "es_projection_commits_total";
pub(crate) const COMMIT_SECONDS: &str = "es_projection_commit_seconds";
pub(crate) const CONFLICTS: &str = "es_projection_conflicts_total";
pub(crate) const RETRIES: &str = "es_projection_retries_total";
pub(crate) const PARKED: &str = "es_projection_parked_total";
pub(crate) const FAILURES: &str = "es_projection_failures_total";
pub(crate) const SWAPS: &str = "es_projection_swaps_total";
pub(crate) const POSITION: &str = "es_projection_position";
pub(crate) const LAG_EVENTS: &str = "es_projection_lag_events";
pub(crate) const LAG_SECONDS: &str = "es_projection_lag_seconds";

/// Raises a counter of a projection.
pub(crate) fn count(name: &'static str, projection: &'static str, by: u64) {
    metrics::counter!(name, "projection" => projection).increment(by);
}

/// Sets a gauge of a projection.
pub(crate) fn gauge(name: &'static str, projection: &'static str, value: f64) {
    metrics::gauge!(name, "projection" => projection).set(value);
}

/// Adds a duration to a histogram of a projection.
pub(crate) fn histogram_of(name: &'static str, projection: &'static str, took: std::time::Duration) {
    metrics::histogram!(name, "projection" => projection).record(took.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_stands_in_the_table() {
        let all = [
            EVENTS,
            COMMITS,
            COMMIT_SECONDS,
            CONFLICTS,
            RETRIES,
            PARKED,
            FAILURES,
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
