//! The rows of the README: five cases beside the faster limit and the fastest peer.

use std::fmt::Write as _;

use crate::contender::Role;
use crate::limits::{ROCKSDB_EACH, ROCKSDB_ONE};
use crate::ours::ES_ROCKSDB;
use crate::report::stats::number;
use crate::report::{Figure, Report};
use crate::workload::append::{self, APPEND};
use crate::workload::latency::{FSYNC, LATENCY, P99};
use crate::workload::load::{self, LOAD};
use crate::workload::read::{READ, WHOLE};

/// Returns the table of the README. A case that was not measured has no row.
pub(crate) fn table(report: &Report) -> String {
    let rows = [
        ("durable append, 1 writer", APPEND, append::writers(1)),
        ("durable append, 64 writers", APPEND, append::writers(64)),
        ("load and fold 100 events", LOAD, load::case(100)),
        ("read the whole log", READ, WHOLE.to_owned()),
        ("command to live subscriber, p99", LATENCY, P99.to_owned()),
    ];
    let mut text = String::from("| | unit | es-rocksdb | limit | fastest peer |\n|---|---|---:|---:|---:|\n");
    for (title, workload, case) in rows {
        let Some(ours) = report.figure(workload, &case, ES_ROCKSDB) else { continue };
        let is_limit = |figure: &Figure| [ROCKSDB_EACH, ROCKSDB_ONE, FSYNC].contains(&figure.contender.as_str());
        let limit = best(report, ours, is_limit).map_or_else(|| "–".into(), |(_, value)| number(value));
        let peer = best(report, ours, |figure| report.role(&figure.contender) == Some(Role::Peer));
        let peer = peer.map_or_else(|| "–".into(), |(name, value)| format!("{} ({name})", number(value)));
        let found = number(ours.spread().median);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {title} | {} | {found} | {limit} | {peer} |", ours.unit.name());
    }
    text
}

/// Returns the best figure of a case among some contenders.
fn best<'r>(report: &'r Report, ours: &Figure, is_asked: impl Fn(&Figure) -> bool) -> Option<(&'r str, f64)> {
    let figures = report.of_case(&ours.workload, &ours.case).into_iter().filter(|figure| is_asked(figure));
    let values = figures.map(|figure| (figure.contender.as_str(), figure.spread().median));
    values.reduce(|one, other| match ours.unit.ratio(one.1, other.1) {
        Some(ratio) if ratio < 1.0 => other,
        _ => one,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::publish::{chart, document};
    use crate::report::tests::report;

    #[test]
    fn a_row_has_our_figure_the_faster_limit_and_the_fastest_peer() {
        let table = table(&report(&[
            ("append", "1 writer", "es-rocksdb", &[9000.0]),
            ("append", "1 writer", "rocksdb-each", &[10_000.0]),
            ("append", "1 writer", "rocksdb-one", &[11_000.0]),
            ("append", "1 writer", "umadb", &[3000.0]),
            ("append", "1 writer", "redb", &[2000.0]),
            ("latency", P99, "es-rocksdb", &[50.0]),
            ("latency", P99, "umadb", &[40.0]),
            ("latency", P99, "redb", &[30.0]),
        ]));
        assert!(table.contains("| durable append, 1 writer | events/s | 9,000 | 11,000 | 3,000 (umadb) |"), "{table}");
        assert!(table.contains("| command to live subscriber, p99 | µs | 50 | – | 30 (redb) |"), "{table}");
        assert_eq!(table.lines().count(), 4);
    }

    /// Every figure in the documents comes from the run that is kept in `docs/benchmark.json`.
    #[test]
    fn readme_document_and_chart_match_the_stored_run() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let read = |name: &str| std::fs::read_to_string(project.join(name)).unwrap();
        let stored: Report = serde_json::from_str(&read("docs/benchmark.json")).unwrap();
        let differs = "run `cargo xtask bench --from docs/benchmark.json --svg --docs --readme`";
        let (readme, document) = (read("README.md"), read("docs/benchmarks.md"));
        assert!(document::rewrite(&readme, &table(&stored)).unwrap() == readme, "README.md differs: {differs}");
        let section = document::section(&stored, Some("benchmark.svg"));
        assert!(document::rewrite(&document, &section).unwrap() == document, "docs/benchmarks.md differs: {differs}");
        assert!(chart::svg(&stored).unwrap() == read("docs/benchmark.svg"), "docs/benchmark.svg differs: {differs}");
    }
}
