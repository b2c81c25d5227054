//! The section of the README. No figure in it is typed by hand: it stands between two markers and is written anew.

use std::fmt::Write as _;

use super::goals;
use crate::contender::Role;
use crate::failure::Failure;
use crate::limits::{BARE_FILE, ROCKSDB_EACH, ROCKSDB_ONE};
use crate::profile::Used;
use crate::report::Report;
use crate::report::stats::{Unit, number};
use crate::workload::append::APPEND;
use crate::workload::catch_up::PLAIN_FOLD;
use crate::workload::latency::FSYNC;

pub(crate) const BEGIN: &str = "<!-- bench:begin -->";
pub(crate) const END: &str = "<!-- bench:end -->";

/// The text with what stands between the markers replaced.
pub(crate) fn rewrite(text: &str, section: &str) -> Result<String, Failure> {
    let missing =
        |marker| Failure::new("write the section of the README", format!("expected the marker {marker}, found none"));
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| missing(END))?;
    Ok(format!("{before}{BEGIN}\n{section}{END}{after}"))
}

/// What stands between the markers; `chart` is the path of the chart, where there is one.
pub(crate) fn section(report: &Report, chart: Option<&str>) -> String {
    let mut text = String::new();
    // NOTE: writing to a String cannot fail.
    let _ = writeln!(text, "Measured on {}.\n{}\n", report.machine.line(), report.form);
    if report.quick {
        text.push_str("**This is the short form, which shows that it runs; its figures say little.**\n\n");
    }
    if let Some(chart) = chart {
        let _ = writeln!(text, "![Durable appends of one event per commit, events per second]({chart})\n");
    }
    goals_table(&mut text, report);
    profile(&mut text, report);
    appends(&mut text, report);
    others(&mut text, report);
    contenders(&mut text, report);
    text
}

fn goals_table(text: &mut String, report: &Report) {
    text.push_str("| goal | wanted | found | |\n|---|---|---:|---|\n");
    for verdict in goals::verdicts(report) {
        let found = verdict.found.map_or_else(|| "–".into(), |found| format!("{found:.2}"));
        let outcome = match (verdict.met, verdict.missed) {
            (Some(true), _) => "met".into(),
            (Some(false), missed) => format!("missed {}", missed.unwrap_or_default()),
            (None, _) => "not measured".into(),
        };
        let _ = writeln!(text, "| {} | {} | {found} | {outcome} |", verdict.goal, verdict.wanted);
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
        "Where the processor time of es-rocksdb goes, by sampled stacks, the making of the events included. ",
    );
    text.push_str("Waiting for the disk takes none.\n\n");
    text.push_str("| | µs per event | |\n|---|---:|---|\n");
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
    let _ = writeln!(
        text,
        "Durable appends of one event per commit, events per second; in brackets the ratios to L1, L2 and the bare file.\n"
    );
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

/// The other workloads: a line for each case, with ours, the limit, and the best peer.
fn others(text: &mut String, report: &Report) {
    let cases: Vec<_> = report.cases().into_iter().filter(|(workload, _)| *workload != APPEND).collect();
    if cases.is_empty() {
        return;
    }
    text.push_str("| workload | case | | es-rocksdb | limit | best peer | es-memory |\n");
    text.push_str("|---|---|---|---:|---:|---:|---:|\n");
    for (workload, case) in cases {
        let figures = report.of_case(workload, case);
        let Some(unit) = figures.first().map(|figure| figure.unit) else { continue };
        let value = |name: &str| report.median(workload, case, name).map_or_else(|| "–".into(), number);
        let peers = figures.iter().filter(|figure| report.role(&figure.contender) == Some(Role::Peer));
        let better = |one: f64, other: f64| unit.ratio(one, other).unwrap_or(0.0).total_cmp(&1.0);
        let best = peers.max_by(|one, other| better(one.spread().median, other.spread().median));
        let best =
            best.map_or_else(|| "–".into(), |best| format!("{} ({})", number(best.spread().median), best.contender));
        let limit = [ROCKSDB_ONE, ROCKSDB_EACH, FSYNC, PLAIN_FOLD]
            .into_iter()
            .filter_map(|name| report.median(workload, case, name));
        let limit = limit.reduce(|one, other| if better(one, other).is_ge() { one } else { other });
        let limit = limit.map_or_else(|| "–".into(), number);
        let unit = if unit == Unit::Flatness { "last to first" } else { unit.name() };
        let _ = writeln!(
            text,
            "| {workload} | {case} | {unit} | {} | {limit} | {best} | {} |",
            value(crate::ours::ES_ROCKSDB),
            value(crate::ours::ES_MEMORY)
        );
    }
    text.push('\n');
}

/// Who they are, and what of them was not measured, and why.
fn contenders(text: &mut String, report: &Report) {
    for about in &report.contenders {
        let _ = write!(text, "- {}: {}.", name(&about.name, about.role), about.about);
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for skipped in report.not_run.iter().filter(|skipped| skipped.contender == about.name) {
            match reasons.iter_mut().find(|(reason, _)| *reason == skipped.reason) {
                Some((_, workloads)) => workloads.push(&skipped.workload),
                None => reasons.push((&skipped.reason, vec![&skipped.workload])),
            }
        }
        for (reason, workloads) in reasons {
            let _ = write!(text, " Not run: {} ({}).", workloads.join(", "), reason.replace('\n', " "));
        }
        text.push('\n');
    }
}

fn name(name: &str, role: Role) -> String {
    if role == Role::Ours { format!("**{name}**") } else { format!("`{name}`") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::publish::chart;
    use crate::report::tests::report;

    #[test]
    fn what_stands_between_the_markers_is_replaced_and_nothing_else() {
        let text = format!("# Title\n{BEGIN}\nold 1\nold 2\n{END}\nend");
        let once = rewrite(&text, "new\n").unwrap();
        assert_eq!(once, format!("# Title\n{BEGIN}\nnew\n{END}\nend"));
        assert_eq!(rewrite(&once, "new\n").unwrap(), once);
    }

    /// No figure of the README is typed by hand: the run that it is of is kept beside it.
    #[test]
    fn the_readme_and_its_chart_are_of_the_run_that_is_kept() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let read = |name: &str| std::fs::read_to_string(project.join(name)).unwrap();
        let report: Report = serde_json::from_str(&read("docs/benchmark.json")).unwrap();
        let chart = "docs/benchmark.svg";
        let readme = read("README.md");
        let differs = "run `cargo xtask bench --from docs/benchmark.json --svg --readme`, or measure anew with `--json --svg --readme`";
        assert!(rewrite(&readme, &section(&report, Some(chart))).unwrap() == readme, "{differs}");
        assert!(chart::svg(&report).unwrap() == read(chart), "{differs}");
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
        let section = section(&report, Some("docs/benchmark.svg"));
        for part in [
            "| load, 10 events | 0.50 | JSON 70 %; checksums 30 % |",
            "| **es-rocksdb** | 9,000 (0.90, 0.50) |",
            "| `bare-file` | 18,000 |",
            "| load | 10 events | events/s | 5.00 | – | 4.00 (umadb) | – |",
            "| catch-up | 1 worker | events/s | 60 | 80 | – | – |",
            "| durable append, 1 writer, to L1 | at least 0.90 | 0.90 | met |",
            "- `umadb`: about umadb. Not run: read, load (it does not build here).",
            "](docs/benchmark.svg)",
        ] {
            assert!(section.contains(part), "{part} is missing in\n{section}");
        }
        assert!(!section.contains("short form"));
    }
}
