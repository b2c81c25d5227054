//! Compares recorded metrics with the table of metrics in the book.

use std::collections::BTreeMap;

use metrics::{SharedString, Unit};
use metrics_util::debugging::DebugValue;
use metrics_util::{CompositeKey, MetricKind};

/// An entry of a snapshot of the recorder.
pub(crate) type Recorded = (CompositeKey, Option<Unit>, Option<SharedString>, DebugValue);

/// Checks that the table of the book has each recorded metric with its kind, and no other metric with this prefix.
#[track_caller]
pub(crate) fn assert_documented(recorded: &[Recorded], prefix: &str) {
    let (documented, recorded) = (documented(), kinds(recorded));
    let with_prefix = |metrics: &BTreeMap<String, String>| {
        let mut metrics = metrics.clone();
        metrics.retain(|name, _| name.starts_with(prefix));
        metrics
    };
    assert_eq!(with_prefix(&recorded), with_prefix(&documented), "found and documented metrics");
    for (name, kind) in &recorded {
        assert_eq!(documented.get(name), Some(kind), "the book has no row for {name}");
    }
}

/// Returns the names and kinds of metrics in the table of the book.
fn documented() -> BTreeMap<String, String> {
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/book/src/operations.md");
    let book = std::fs::read_to_string(book).expect("the chapter can be read");
    let rows = book.lines().filter(|line| line.starts_with("| `es_"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells.map(|cells| (cells[1].trim_matches('`').to_owned(), cells[2].to_owned())).collect()
}

/// Returns the names and kinds of recorded metrics.
fn kinds(recorded: &[Recorded]) -> BTreeMap<String, String> {
    let kind = |key: &CompositeKey| match key.kind() {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    recorded.iter().map(|(key, ..)| (key.key().name().to_owned(), kind(key).to_owned())).collect()
}
