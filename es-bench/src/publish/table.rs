//! The report for a terminal.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Table};

use super::goals;
use crate::contender::Role;
use crate::limits::{BARE_FILE, ROCKSDB_EACH, ROCKSDB_ONE};
use crate::report::stats::number;
use crate::report::{Figure, Report};

/// Returns the whole report.
pub(crate) fn all(report: &Report) -> String {
    let mut text = format!("{}\n{}\n", report.machine.line(), report.form);
    for about in &report.contenders {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<13} {}", about.name, about.about);
    }
    let mut workloads: Vec<&str> = report.cases().iter().map(|(workload, _)| *workload).collect();
    workloads.dedup();
    for workload in workloads {
        let _ = writeln!(text, "\n{}", of_workload(report, workload));
    }
    for skipped in &report.not_run {
        let _ = writeln!(text, "not run: {} {}: {}", skipped.workload, skipped.contender, skipped.reason);
    }
    if !report.profile.is_empty() {
        let _ = writeln!(text, "\n{}", profile(report));
    }
    let _ = writeln!(text, "\n{}", verdicts(report));
    text
}

fn right(text: impl Into<String>) -> Cell {
    Cell::new(text.into()).set_alignment(CellAlignment::Right)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(header);
    table
}

fn of_workload(report: &Report, workload: &str) -> Table {
    let mut table = table(&[workload, "contender", "median", "lowest", "highest", "", "to L1", "to L2", "to file"]);
    for (_, case) in report.cases().into_iter().filter(|(name, _)| *name == workload) {
        for (index, figure) in report.of_case(workload, case).into_iter().enumerate() {
            let spread = figure.spread();
            table.add_row([
                Cell::new(if index == 0 { case } else { "" }),
                Cell::new(&figure.contender),
                right(number(spread.median)),
                right(number(spread.lowest)),
                right(number(spread.highest)),
                Cell::new(figure.unit.name()),
                right(to(report, figure, ROCKSDB_EACH)),
                right(to(report, figure, ROCKSDB_ONE)),
                right(to(report, figure, BARE_FILE)),
            ]);
        }
    }
    table
}

/// Returns the ratio of a figure to a limit as text; empty if there is none.
pub(crate) fn to(report: &Report, figure: &Figure, limit: &str) -> String {
    if report.role(&figure.contender) == Some(Role::Limit) && figure.contender == limit {
        return String::new();
    }
    let ratio = report.ratio(&figure.workload, &figure.case, &figure.contender, limit);
    ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
}

fn profile(report: &Report) -> Table {
    let mut table = table(&["where processor time goes", "contender", "part", "share", "µs per event"]);
    for used in &report.profile {
        table.add_row([
            Cell::new(&used.case),
            Cell::new(&used.contender),
            Cell::new(&used.part),
            right(format!("{:.0} %", used.share * 100.0)),
            right(number(used.per_event)),
        ]);
    }
    table
}

fn verdicts(report: &Report) -> Table {
    let mut table = table(&["goal", "wanted", "found", "", "missed", "reason"]);
    for verdict in goals::verdicts(report) {
        let mark = match verdict.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        table.add_row([
            Cell::new(&verdict.goal),
            Cell::new(&verdict.wanted),
            right(verdict.found.map_or_else(String::new, |found| format!("{found:.2}"))),
            Cell::new(mark),
            Cell::new(verdict.missed.unwrap_or_default().replace("; ", "\n")),
            Cell::new(verdict.reason.unwrap_or_default()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_table_has_medians_spreads_and_ratios_and_what_was_not_run() {
        let mut report = report(&[
            ("append", "1 writer", "es-rocksdb", &[8000.0, 9000.0, 10_000.0]),
            ("append", "1 writer", "rocksdb-each", &[10_000.0]),
            ("append", "1 writer", "bare-file", &[18_000.0]),
            ("append", "1 writer", "redb", &[3000.0]),
        ]);
        report.skip("append", "umadb", "it does not build here");
        let text = all(&report);
        for part in ["9,000", "8,000", "10,000", "0.90", "0.50", "not run: append umadb: it does not build here", "met"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
