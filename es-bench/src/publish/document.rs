//! The generated part of `docs/benchmarks.md`: goals, all figures, profile and contenders. [`rewrite`] replaces it
//! between two markers, so that no figure is typed by hand.

use std::fmt::Write as _;

use super::goals;
use crate::contender::Role;
use crate::failure::Failure;
use crate::limits::{BARE_FILE, ROCKSDB_EACH, ROCKSDB_ONE};
use crate::ours::ES_ROCKSDB;
use crate::profile::Used;
use crate::report::Report;
use crate::report::stats::{Unit, number};
use crate::workload::append::APPEND;

pub(crate) const BEGIN: &str = "<!-- bench:begin -->";
pub(crate) const END: &str = "<!-- bench:end -->";

/// Returns the text with the section between the markers replaced.
pub(crate) fn rewrite(text: &str, section: &str) -> Result<String, Failure> {
    let missing = |marker| Failure::new("write generated text", format!("expected the marker {marker}, found none"));
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| missing(END))?;
    Ok(format!("{before}{BEGIN}\n{section}{END}{after}"))
}

/// Returns the section of `docs/benchmarks.md`; `chart` is the path of the chart from there, if there is one.
pub(crate) fn section(report: &Report, chart: Option<&str>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let measured = format!("Measured on {}. {}", report.machine.line(), report.form);
    let _ = writeln!(text, "{}\n", wrapped(&measured, ""));
    if report.quick {
        text.push_str("**This is the short form, which shows that it runs; its figures say little.**\n\n");
    }
    if let Some(chart) = chart {
        let _ = writeln!(text, "![Durable appends of one event per commit, events per second]({chart})\n");
    }
    goals_table(&mut text, report);
    appends(&mut text, report);
    others(&mut text, report);
    profile(&mut text, report);
    contenders(&mut text, report);
    text
}

fn goals_table(text: &mut String, report: &Report) {
    text.push_str("## Goals\n\n| goal | wanted | found | result | reason of a miss |\n|---|---|---:|---|---|\n");
    for verdict in goals::verdicts(report) {
        let found = verdict.found.map_or_else(|| "–".into(), |found| format!("{found:.2}"));
        let result = match verdict.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not measured",
        };
        let reason = verdict.reason.unwrap_or_default();
        let _ = writeln!(text, "| {} | {} | {found} | {result} | {reason} |", verdict.goal, verdict.wanted);
    }
    text.push('\n');
}

/// A line for each case that was sampled, its parts in descending order.
fn profile(text: &mut String, report: &Report) {
    let mut cases: Vec<(&str, Vec<&Used>)> = Vec::new();
    for used in &report.profile {
        match cases.iter_mut().find(|(case, _)| *case == used.case) {
            Some((_, parts)) => parts.push(used),
            None => cases.push((&used.case, vec![used])),
        }
    }
    if cases.is_empty() {
        return;
    }
    text.push_str(
        "## Where the processor time goes\n\nSampled stacks of es-rocksdb, including the creation of the events. ",
    );
    text.push_str("Time spent waiting for the disk is not included.\n\n");
    text.push_str("| | µs per event | parts |\n|---|---:|---|\n");
    for (case, parts) in cases {
        let all = parts.iter().map(|used| used.per_event).sum::<f64>();
        let part = |used: &&Used| format!("{} {:.0} %", used.part, used.share * 100.0);
        let parts: Vec<_> = parts.iter().copied().filter(|used| used.share >= 0.015).collect();
        let parts: Vec<_> = parts.iter().map(part).collect();
        let _ = writeln!(text, "| {case} | {} | {} |", number(all), parts.join("; "));
    }
    text.push('\n');
}

/// Durable appends: a line for each contender, a column for each number of writers.
fn appends(text: &mut String, report: &Report) {
    let cases: Vec<&str> =
        report.cases().into_iter().filter(|(workload, _)| *workload == APPEND).map(|(_, case)| case).collect();
    if cases.is_empty() {
        return;
    }
    text.push_str(
        "## Durable appends\n\nOne event per commit, events per second. In brackets: the ratios to L1, L2 and ",
    );
    text.push_str("the bare file.\n\n");
    let _ = writeln!(text, "| | {} |\n|---|{}", cases.join(" | "), "---:|".repeat(cases.len()));
    for about in &report.contenders {
        let cells: Vec<_> = cases.iter().map(|case| append_cell(report, case, &about.name)).collect();
        if cells.iter().any(|cell| cell != "–") {
            let _ = writeln!(text, "| {} | {} |", name(&about.name, about.role), cells.join(" | "));
        }
    }
    text.push('\n');
}

fn append_cell(report: &Report, case: &str, contender: &str) -> String {
    let Some(value) = report.median(APPEND, case, contender) else { return "–".into() };
    let ratio = |limit| report.ratio(APPEND, case, contender, limit).map(|ratio| format!("{ratio:.2}"));
    let ratios: Vec<_> = [ROCKSDB_EACH, ROCKSDB_ONE, BARE_FILE].into_iter().filter_map(ratio).collect();
    if report.role(contender) == Some(Role::Limit) || ratios.is_empty() {
        return number(value);
    }
    format!("{} ({})", number(value), ratios.join(", "))
}

/// The other workloads: a table for each, with a row for each case and a column for each contender that was measured.
fn others(text: &mut String, report: &Report) {
    let mut workloads: Vec<&str> = report.cases().into_iter().map(|(workload, _)| workload).collect();
    workloads.dedup();
    for workload in workloads.into_iter().filter(|workload| *workload != APPEND) {
        workload_table(text, report, workload);
    }
}

fn workload_table(text: &mut String, report: &Report, workload: &str) {
    let cases: Vec<_> =
        report.cases().into_iter().filter(|(name, _)| *name == workload).map(|(_, case)| case).collect();
    let mut columns: Vec<&str> = Vec::new();
    let known = report.contenders.iter().map(|about| about.name.as_str());
    let others = report.figures.iter().filter(|figure| figure.workload == workload).map(|it| it.contender.as_str());
    for name in known.chain(others) {
        let is_measured = cases.iter().any(|case| report.figure(workload, case, name).is_some());
        if is_measured && !columns.contains(&name) {
            columns.push(name);
        }
    }
    let title = |name: &&str| if *name == ES_ROCKSDB { format!("**{name}**") } else { format!("`{name}`") };
    let titles: Vec<_> = columns.iter().map(title).collect();
    let _ = writeln!(text, "## {}\n\n| case | unit | {} |", heading(workload), titles.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---:|".repeat(columns.len()));
    for case in cases {
        let Some(unit) = report.of_case(workload, case).first().map(|figure| figure.unit) else { continue };
        let unit = if unit == Unit::Flatness { "last to first" } else { unit.name() };
        let cell = |name: &&str| report.median(workload, case, name).map_or_else(|| "–".into(), number);
        let cells: Vec<_> = columns.iter().map(cell).collect();
        let _ = writeln!(text, "| {case} | {unit} | {} |", cells.join(" | "));
    }
    text.push('\n');
}

fn heading(workload: &str) -> String {
    let text = match workload {
        "append-10" => "Durable appends of ten events per commit",
        "append-buffered" => "Buffered appends",
        "append-if" => "Durable appends with a condition on a tag",
        "encode" => "Encoding an event, and reading it back before the commit",
        "load" => "Loads of one stream",
        "read" => "Reads of the log",
        "latency" => "Command to live subscriber",
        "footprint" => "Memory and disk per event",
        "volume" => "Appends while the log grows",
        "scale" => "One store that grows",
        "catch-up" => "Building views",
        "view-latency" => "Command to view",
        "replication" => "Replication to another node",
        "transactions" => "One transfer in several strengths",
        other => other,
    };
    text.to_owned()
}

/// A line for each contender: what it is, which workloads were not run, and why.
fn contenders(text: &mut String, report: &Report) {
    text.push_str("## Contenders\n\n");
    for about in &report.contenders {
        let mut line = format!("- {}: {}.", name(&about.name, about.role), about.about);
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for skipped in report.not_run.iter().filter(|skipped| skipped.contender == about.name) {
            match reasons.iter_mut().find(|(reason, _)| *reason == skipped.reason) {
                Some((_, workloads)) => workloads.push(&skipped.workload),
                None => reasons.push((&skipped.reason, vec![&skipped.workload])),
            }
        }
        for (reason, workloads) in reasons {
            let _ = write!(line, " Not run: {} ({}).", workloads.join(", "), reason.replace('\n', " "));
        }
        let _ = writeln!(text, "{}", wrapped(&line, "  "));
    }
}

/// Breaks a text into lines of at most 120 columns; later lines begin with the indent.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > 120 {
            lines.push('\n');
            lines.push_str(indent);
            width = indent.len();
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    lines
}

fn name(name: &str, role: Role) -> String {
    if role == Role::Ours { format!("**{name}**") } else { format!("`{name}`") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn only_the_text_between_the_markers_is_replaced() {
        let text = format!("# Title\n{BEGIN}\nold 1\nold 2\n{END}\nend");
        let once = rewrite(&text, "new\n").unwrap();
        assert_eq!(once, format!("# Title\n{BEGIN}\nnew\n{END}\nend"));
        assert_eq!(rewrite(&once, "new\n").unwrap(), once);
    }

    #[test]
    fn lines_break_before_column_121_and_lose_no_word() {
        let text = "word ".repeat(100);
        let lines = wrapped(&text, "  ");
        assert!(
            lines.lines().all(|line| line.len() <= 120) && lines.lines().skip(1).all(|line| line.starts_with("  w"))
        );
        assert_eq!(lines.split_whitespace().count(), 100);
    }

    #[test]
    fn a_text_without_markers_is_refused() {
        assert!(rewrite("# Title", "new").unwrap_err().to_string().contains(BEGIN));
        assert!(rewrite(BEGIN, "new").unwrap_err().to_string().contains(END));
    }

    #[test]
    fn the_section_has_figures_ratios_verdicts_and_what_was_not_run() {
        let mut report = report(&[
            ("append", "1 writer", "es-rocksdb", &[9000.0]),
            ("append", "1 writer", "rocksdb-each", &[10_000.0]),
            ("append", "1 writer", "bare-file", &[18_000.0]),
            ("append", "16 writers", "es-rocksdb", &[80.0]),
            ("append", "16 writers", "bare-file", &[100.0]),
            ("append", "16 writers", "umadb", &[40.0]),
            ("load", "10 events", "es-rocksdb", &[5.0]),
            ("load", "10 events", "umadb", &[4.0]),
            ("load", "10 events", "redb", &[3.0]),
            ("catch-up", "1 worker", "es-rocksdb", &[60.0]),
            ("catch-up", "1 worker", "plain-fold", &[80.0]),
        ]);
        report.skip("read", "umadb", "it does not build here");
        report.skip("load", "umadb", "it does not build here");
        let used = |part: &str, share| Used {
            contender: "es-rocksdb".into(),
            case: "load, 10 events".into(),
            part: part.into(),
            share,
            per_event: 0.5 * share,
        };
        report.profile.extend([used("JSON", 0.7), used("checksums", 0.295), used("little", 0.005)]);
        let section = section(&report, Some("benchmark.svg"));
        for part in [
            "| load, 10 events | 0.50 | JSON 70 %; checksums 30 % |",
            "| **es-rocksdb** | 9,000 (0.90, 0.50) |",
            "| `bare-file` | 18,000 |",
            "| case | unit | **es-rocksdb** | `umadb` | `redb` |",
            "| 10 events | events/s | 5.00 | 4.00 | 3.00 |",
            "| case | unit | **es-rocksdb** | `plain-fold` |",
            "| 1 worker | events/s | 60 | 80 |",
            "| durable append, 16 writers, to a growing file | at least 1.50 | 0.80 | missed |  |",
            "| at least as good as every peer: append, lowest ratio | at least 1.00 | 2.00 | met |  |",
            "- `umadb`: about umadb. Not run: read, load (it does not build here).",
            "](benchmark.svg)",
        ] {
            assert!(section.contains(part), "{part} is missing in\n{section}");
        }
        assert!(!section.contains("short form"));
    }
}
