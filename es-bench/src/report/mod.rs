//! The results of a run: [`Report`], with medians and ratios ([`stats`]). The JSON output is the report, from which an
//! earlier run can be published again.

pub(crate) mod stats;

use serde::{Deserialize, Serialize};

use crate::contender::Role;
use crate::machine::Machine;
use crate::profile::Used;
use stats::{Spread, Unit};

/// The results of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// The form of the benchmark, with rounds and seconds.
    pub(crate) form: String,
    /// Whether this is the short form.
    pub(crate) quick: bool,
    pub(crate) contenders: Vec<About>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) not_run: Vec<NotRun>,
    pub(crate) profile: Vec<Used>,
    /// Computed from the figures, for readers of the JSON.
    #[serde(default)]
    pub(crate) goals: Vec<Verdict>,
}

/// A contender of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) about: String,
}

/// The values of a contender in a case of a workload, one for each round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) workload: String,
    pub(crate) case: String,
    pub(crate) contender: String,
    pub(crate) unit: Unit,
    pub(crate) rounds: Vec<f64>,
}

impl Figure {
    pub(crate) fn spread(&self) -> Spread {
        Spread::of(&self.rounds)
    }
}

/// A workload that a contender did not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NotRun {
    pub(crate) workload: String,
    pub(crate) contender: String,
    pub(crate) reason: String,
}

/// The result of a goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) goal: String,
    /// The goal as text: `at least 0.90`.
    pub(crate) wanted: String,
    /// The measured value; `None` if it was not measured.
    pub(crate) found: Option<f64>,
    pub(crate) met: Option<bool>,
    /// The amount or the cases by which it was missed.
    pub(crate) missed: Option<String>,
    /// The reason of the miss, if known.
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

impl Report {
    /// Adds the value of a round.
    pub(crate) fn add(&mut self, workload: &str, case: &str, contender: &str, unit: Unit, value: f64) {
        let same = |figure: &&mut Figure| {
            (figure.workload.as_str(), figure.case.as_str(), figure.contender.as_str()) == (workload, case, contender)
        };
        match self.figures.iter_mut().find(same) {
            Some(figure) => figure.rounds.push(value),
            None => self.figures.push(Figure {
                workload: workload.into(),
                case: case.into(),
                contender: contender.into(),
                unit,
                rounds: vec![value],
            }),
        }
    }

    /// Records, once, that a workload was not measured.
    pub(crate) fn skip(&mut self, workload: &str, contender: &str, reason: impl Into<String>) {
        let skipped = NotRun { workload: workload.into(), contender: contender.into(), reason: reason.into() };
        if !self.not_run.contains(&skipped) {
            self.not_run.push(skipped);
        }
    }

    /// Returns the median of a figure.
    pub(crate) fn median(&self, workload: &str, case: &str, contender: &str) -> Option<f64> {
        self.figure(workload, case, contender).map(|figure| figure.spread().median)
    }

    pub(crate) fn figure(&self, workload: &str, case: &str, contender: &str) -> Option<&Figure> {
        let is_it = |figure: &&Figure| {
            (figure.workload.as_str(), figure.case.as_str(), figure.contender.as_str()) == (workload, case, contender)
        };
        self.figures.iter().find(is_it)
    }

    /// Returns workloads and cases in the order of measurement.
    pub(crate) fn cases(&self) -> Vec<(&str, &str)> {
        let mut cases = Vec::new();
        for figure in &self.figures {
            let case = (figure.workload.as_str(), figure.case.as_str());
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        cases
    }

    /// Returns the figures of a case in the order of the contenders.
    pub(crate) fn of_case(&self, workload: &str, case: &str) -> Vec<&Figure> {
        let place = |name: &str| self.contenders.iter().position(|contender| contender.name == name);
        let mut figures: Vec<_> =
            self.figures.iter().filter(|figure| figure.workload == workload && figure.case == case).collect();
        figures.sort_by_key(|figure| place(&figure.contender));
        figures
    }

    pub(crate) fn role(&self, contender: &str) -> Option<Role> {
        self.contenders.iter().find(|about| about.name == contender).map(|about| about.role)
    }

    /// Returns how a contender compares with another in a case: 1 is equal, a greater value is better. `None` if one
    /// was not measured.
    pub(crate) fn ratio(&self, workload: &str, case: &str, contender: &str, to: &str) -> Option<f64> {
        let unit = self.figure(workload, case, contender)?.unit;
        unit.ratio(self.median(workload, case, contender)?, self.median(workload, case, to)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Creates a report with a figure for each contender.
    pub(crate) fn report(figures: &[(&str, &str, &str, &[f64])]) -> Report {
        let mut report = Report::default();
        for (name, role) in [
            ("es-rocksdb", Role::Ours),
            ("rocksdb-each", Role::Limit),
            ("rocksdb-one", Role::Limit),
            ("bare-file", Role::Limit),
            ("umadb", Role::Peer),
            ("redb", Role::Peer),
        ] {
            report.contenders.push(About { name: name.into(), role, about: format!("about {name}") });
        }
        for (workload, case, contender, rounds) in figures {
            let unit = if *workload == "latency" { Unit::Microseconds } else { Unit::EventsPerSecond };
            rounds.iter().for_each(|value| report.add(workload, case, contender, unit, *value));
        }
        report
    }

    #[test]
    fn rounds_are_one_figure_and_cases_keep_their_order() {
        let report = report(&[
            ("append", "16 writers", "umadb", &[3.0, 1.0]),
            ("append", "16 writers", "es-rocksdb", &[10.0, 30.0, 20.0]),
            ("append", "1 writer", "es-rocksdb", &[5.0]),
            ("append", "16 writers", "umadb", &[2.0]),
        ]);
        assert_eq!(report.median("append", "16 writers", "umadb"), Some(2.0));
        assert_eq!(report.cases(), [("append", "16 writers"), ("append", "1 writer")]);
        let order: Vec<_> = report.of_case("append", "16 writers").iter().map(|f| f.contender.as_str()).collect();
        assert_eq!(order, ["es-rocksdb", "umadb"]);
        assert_eq!(report.ratio("append", "16 writers", "es-rocksdb", "umadb"), Some(10.0));
        assert_eq!(report.ratio("append", "1 writer", "es-rocksdb", "umadb"), None);
    }

    #[test]
    fn a_report_survives_json() {
        let mut report = report(&[("append", "1 writer", "es-rocksdb", &[5.5, 1.25])]);
        report.skip("load", "umadb", "no streams");
        report.skip("load", "umadb", "no streams");
        assert_eq!(report.not_run.len(), 1);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
