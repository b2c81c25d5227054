//! Medians, spreads and ratios, as a table and as JSON.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;

use crate::measure::{Contender, Failure, Measured};

pub(crate) struct Report {
    rounds: u32,
    seconds: u64,
    payload: u32,
    results: BTreeMap<(u32, Contender), Vec<f64>>,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Line {
    workload: &'static str,
    writers: u32,
    contender: &'static str,
    events_per_second: f64,
    lowest: f64,
    highest: f64,
    /// This contender's median by that of L1.
    to_l1: f64,
    /// This contender's median by that of L2.
    to_l2: f64,
}

impl Report {
    pub(crate) fn new(rounds: u32, seconds: u64, payload: u32) -> Self {
        Self { rounds, seconds, payload, results: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, writers: u32, contender: Contender, measured: Measured) {
        self.results.entry((writers, contender)).or_default().push(measured.per_second());
    }

    fn median(&self, writers: u32, contender: Contender) -> f64 {
        self.results.get(&(writers, contender)).map_or(f64::NAN, |rounds| median(rounds))
    }

    fn lines(&self) -> Vec<Line> {
        let mut writers: Vec<u32> = self.results.keys().map(|(writers, _)| *writers).collect();
        writers.dedup();
        let line = |writers, contender: Contender| {
            let rounds = self.results.get(&(writers, contender)).map_or(&[][..], Vec::as_slice);
            let events_per_second = median(rounds);
            Line {
                workload: "durable append, one event per commit",
                writers,
                contender: contender.name(),
                events_per_second,
                lowest: rounds.iter().copied().fold(f64::INFINITY, f64::min),
                highest: rounds.iter().copied().fold(0.0, f64::max),
                to_l1: events_per_second / self.median(writers, Contender::EachThread),
                to_l2: events_per_second / self.median(writers, Contender::OneThread),
            }
        };
        writers.into_iter().flat_map(|writers| Contender::ALL.map(|contender| line(writers, contender))).collect()
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "writers",
            "durable append, one event per commit",
            "events/s",
            "lowest",
            "highest",
            "to L1",
            "to L2",
        ]);
        for line in self.lines() {
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row([
                right(line.writers.to_string()),
                Cell::new(line.contender),
                right(format!("{:.0}", line.events_per_second)),
                right(format!("{:.0}", line.lowest)),
                right(format!("{:.0}", line.highest)),
                right(format!("{:.2}", line.to_l1)),
                right(format!("{:.2}", line.to_l2)),
            ]);
        }
        format!(
            "{table}\n{} interleaved rounds of {} s each, payloads of {} bytes; medians with lowest and highest round",
            self.rounds, self.seconds, self.payload
        )
    }

    pub(crate) fn json(&self) -> Result<String, Failure> {
        serde_json::to_string_pretty(&self.lines()).map_err(|error| Failure::new("write JSON", error))
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len() / 2, sorted.len() % 2) {
        (_, _) if sorted.is_empty() => f64::NAN,
        (middle, 1) => sorted[middle],
        (middle, _) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }
}
