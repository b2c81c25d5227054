//! The loan log: the cases of a bank's loan applications, as a replicated aggregate and as a plain fold.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;

use es_core::EventId;
use es_core::prelude::*;
use es_tool::input::Input;
use serde::{Deserialize, Serialize};

/// The number of a case.
pub(crate) type CaseId = u64;

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// The number of the row, from 1.
    pub(crate) row: u64,
    /// The row of the same case before this one. A node without it does not take the step.
    pub(crate) previous: Option<u64>,
    pub(crate) activity: String,
    pub(crate) transition: String,
    /// The user; empty for the system.
    pub(crate) resource: String,
    pub(crate) amount: u64,
}

/// An event of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(name = "step-taken")]
pub(crate) struct StepTaken {
    pub(crate) step: Step,
    /// The last event that the client had seen on the node. Every node must have it before this event.
    pub(crate) after: Option<EventId>,
}

/// A case: a loan application and the work on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "loan",
    id = CaseId,
    event = StepTaken,
    consistency = "causal",
    conflict = "canonical",
    snapshot(every = 20)
)]
pub(crate) struct Loan {
    /// The rows of the case in the order of the fold.
    pub(crate) rows: Vec<u64>,
    /// The last activity and its transition.
    status: String,
    /// The last user who worked on the case.
    resource: String,
    amount: u64,
}

impl Loan {
    fn apply(&mut self, step: &Step) {
        self.rows.push(step.row);
        self.status = format!("{} {}", step.activity, step.transition);
        if !step.resource.is_empty() {
            self.resource.clone_from(&step.resource);
        }
        self.amount = step.amount;
    }
}

impl Evolve for Loan {
    fn initial(_: &CaseId) -> Self {
        Self::default()
    }

    fn evolve(&mut self, event: &StepTaken, _: &EventContext<'_>) {
        self.apply(&event.step);
    }
}

/// Takes a step.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TakeStep {
    /// The step.
    pub(crate) step: Step,
    /// See [`StepTaken::after`]. Not part of the identity of the command: a repeat may have seen more.
    #[serde(skip)]
    pub(crate) after: Option<EventId>,
}

/// The node does not have the step before this one yet.
#[derive(Debug, thiserror::Error)]
#[error("the node does not have row {0} yet")]
pub(crate) struct StaleCase(pub(crate) u64);

impl Decide<TakeStep> for Loan {
    type Rejection = StaleCase;

    fn decide(
        &self,
        TakeStep { step, after }: TakeStep,
        _: &CommandContext<'_, Self>,
    ) -> Result<Decision<Self>, Self::Rejection> {
        match step.previous {
            Some(previous) if !self.rows.contains(&previous) => Err(StaleCase(previous)),
            _ => Ok(StepTaken { step, after }.into()),
        }
    }
}

/// The steps of some cases in the order of the log, each with its case.
#[derive(Clone, Debug)]
pub(crate) struct LoanLog(Vec<(CaseId, Step)>);

impl LoanLog {
    /// Reads the first `cases` cases of `loan_applications_2012.csv.gz` in a directory.
    ///
    /// # Errors
    /// If the file does not exist or has another form.
    pub(crate) fn read(directory: &Path, cases: usize) -> Result<Self, Box<dyn Error>> {
        let file = Input::open_file(&directory.join("loan_applications_2012.csv.gz"))?;
        let (mut steps, mut last) = (Vec::new(), BTreeMap::<CaseId, u64>::new());
        let mut selected = BTreeSet::new();
        for (row, record) in (1..).zip(csv::Reader::from_reader(file).into_records()) {
            let record = record?;
            let field = |column| record.get(column).map(str::trim).unwrap_or_default();
            let case = field(1).parse()?;
            if !selected.contains(&case) && selected.len() == cases {
                continue;
            }
            selected.insert(case);
            let [activity, transition, resource] = [2, 3, 4].map(|column| field(column).to_owned());
            let (previous, amount) = (last.insert(case, row), field(5).parse()?);
            steps.push((case, Step { row, previous, activity, transition, resource, amount }));
        }
        // `next` removes the last step.
        steps.reverse();
        Ok(Self(steps))
    }

    /// Removes and returns the next step.
    pub(crate) fn next(&mut self) -> Option<(CaseId, Step)> {
        self.0.pop()
    }

    /// Returns the state of every case, folded in the order of the log without a store.
    #[must_use]
    pub(crate) fn fold(&self) -> BTreeMap<CaseId, Loan> {
        let mut loans = BTreeMap::<CaseId, Loan>::new();
        self.0.iter().rev().for_each(|(case, step)| loans.entry(*case).or_default().apply(step));
        loans
    }
}
