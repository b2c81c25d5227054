//! The chart of durable appends: a panel for each number of writers, a bar for each contender. Plain SVG whose colours
//! follow the reader's light or dark scheme.

use std::fmt::Write as _;

use crate::contender::Role;
use crate::report::Report;
use crate::report::stats::number;
use crate::workload::append::APPEND;

const WIDTH: f64 = 860.0;
const NAMES: f64 = 118.0;
const VALUES: f64 = 70.0;
const GAP: f64 = 28.0;
const BAR: f64 = 20.0;
const TOP: f64 = 62.0;

const STYLE: &str = "\
svg{background:#fff;font-family:system-ui,sans-serif;font-size:13px;fill:#1f2328}\
.t{font-size:16px;font-weight:600}.h{font-weight:600}.s{font-size:12px;fill:#59636e}.e{text-anchor:end}\
.o{fill:#0969da}.p{fill:#d1782f}.l{fill:#afb8c1}\
@media(prefers-color-scheme:dark){svg{background:#0d1117;fill:#e6edf3}.s{fill:#9198a1}\
.o{fill:#4493f8}.p{fill:#e3965c}.l{fill:#565f6b}}";

/// Draws the chart; `None` if no durable append was measured.
pub(crate) fn svg(report: &Report) -> Option<String> {
    let cases: Vec<&str> =
        report.cases().into_iter().filter(|(workload, _)| *workload == APPEND).map(|(_, case)| case).collect();
    let names: Vec<&str> = (report.contenders.iter())
        .map(|about| about.name.as_str())
        .filter(|name| cases.iter().any(|case| report.figure(APPEND, case, name).is_some()))
        .collect();
    if names.is_empty() {
        return None;
    }
    let columns = cases.len().min(2);
    let panel = (WIDTH - GAP * (columns as f64 + 1.0)) / columns as f64;
    let height = names.len() as f64 * BAR + 46.0;
    let rows = cases.len().div_ceil(columns);
    let total = TOP + rows as f64 * height + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {total:.0}\" \
         role=\"img\">\n<style>{STYLE}</style>\n\
         <title>Durable appends, events per second</title>\n\
         <text class=\"t\" x=\"{GAP}\" y=\"30\">Durable appends of one event per commit, events per second</text>\n"
    );
    legend(&mut svg);
    for (index, case) in cases.iter().enumerate() {
        let x = GAP + (index % columns) as f64 * (panel + GAP);
        let y = TOP + (index / columns) as f64 * height;
        bars(&mut svg, report, case, &names, (x, y, panel));
    }
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<text class=\"s\" x=\"{GAP}\" y=\"{:.0}\">{}</text>\n</svg>",
        total - 12.0,
        escaped(&report.machine.line())
    );
    Some(svg)
}

fn class(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::Ours) => "o",
        Some(Role::Limit) => "l",
        _ => "p",
    }
}

fn legend(svg: &mut String) {
    let entries = [(Role::Ours, "this project"), (Role::Limit, "limits of engine and disk"), (Role::Peer, "peers")];
    for ((role, text), x) in entries.into_iter().zip([GAP, GAP + 115.0, GAP + 300.0]) {
        let class = class(Some(role));
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x}\" y=\"41\" width=\"11\" height=\"11\" rx=\"2\"/><text class=\"s\" \
             x=\"{}\" \
             y=\"51\">{text}</text>",
            x + 16.0
        );
    }
}

fn bars(svg: &mut String, report: &Report, case: &str, names: &[&str], (x, y, width): (f64, f64, f64)) {
    let value = |name: &str| report.median(APPEND, case, name).filter(|value| value.is_finite());
    let most = names.iter().filter_map(|name| value(name)).fold(1.0, f64::max);
    let room = width - NAMES - VALUES;
    let _ = writeln!(svg, "<text class=\"h\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>", y + 22.0, escaped(case));
    for (index, name) in names.iter().enumerate() {
        let top = y + 32.0 + index as f64 * BAR;
        let text = top + 14.0;
        let left = x + NAMES;
        let _ = writeln!(svg, "<text class=\"e\" x=\"{:.1}\" y=\"{text:.1}\">{}</text>", left - 8.0, escaped(name));
        let Some(value) = value(name) else {
            let _ = writeln!(svg, "<text class=\"s\" x=\"{left:.1}\" y=\"{text:.1}\">not run</text>");
            continue;
        };
        let length = (value / most * room).max(1.0);
        let _ = writeln!(
            svg,
            "<rect class=\"{}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{:.1}\" rx=\"2\"/><text \
             class=\"s\" \
             x=\"{:.1}\" y=\"{text:.1}\">{}</text>",
            class(report.role(name)),
            top + 2.0,
            BAR - 5.0,
            left + length + 6.0,
            number(value)
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn bars_are_proportional_to_the_longest_one() {
        let report = report(&[
            ("append", "1 writer", "es-rocksdb", &[500.0]),
            ("append", "1 writer", "bare-file", &[1000.0]),
            ("append", "16 writers", "es-rocksdb", &[5.0]),
            ("load", "10 events", "umadb", &[5.0]),
        ]);
        let svg = svg(&report).unwrap();
        let widths: Vec<f64> = (svg.match_indices("width=\""))
            .filter_map(|(at, _)| svg[at + 7..].split('"').next()?.parse().ok())
            .filter(|width| *width > 11.0)
            .collect();
        assert!((widths[1] / widths[0] - 2.0).abs() < 0.01, "{widths:?}");
        assert!(svg.contains("not run") && svg.contains("1,000") && !svg.contains("umadb"));
    }

    #[test]
    fn without_appends_there_is_no_chart() {
        assert_eq!(svg(&report(&[])), None);
    }
}
