//! The log of a bank's loan applications: its events, a [projection](Loans), and the [fold in memory](FoldedLoans).

mod log;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use es_core::prelude::*;
use es_core::projection::view::{View, Views};
use es_core::{EventStore, LogRead, Timestamp};
use serde::{Deserialize, Serialize};

pub(crate) use log::{Log, REAL};

use crate::failure::Failure;

/// The content of all kinds of event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) activity: String,
    pub(crate) transition: String,
    /// The user; empty for the system.
    pub(crate) resource: String,
    pub(crate) amount: u64,
}

/// The log has the events of three related processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
pub(crate) enum LoanEvent {
    #[event(name = "application-moved")]
    Application(Step),
    #[event(name = "offer-moved")]
    Offer(Step),
    #[event(name = "work-moved")]
    Work(Step),
}

/// A case of the log: an application and the work on it.
#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "loan", id = String, event = LoanEvent)]
pub(crate) struct Loan;

impl LoanEvent {
    pub(crate) fn step(&self) -> &Step {
        let (Self::Application(step) | Self::Offer(step) | Self::Work(step)) = self;
        step
    }
}

/// The state of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Application {
    amount: u64,
    /// The last activity of the application itself.
    status: String,
    /// The last user who worked on it.
    resource: String,
    steps: u64,
    offers: u64,
    /// The numbers of started and completed work items.
    started: u64,
    completed: u64,
    last: Timestamp,
}

impl Application {
    fn apply(&mut self, event: &LoanEvent, at: Timestamp) {
        let step = event.step();
        self.steps += 1;
        (self.amount, self.last) = (step.amount, self.last.max(at));
        if !step.resource.is_empty() {
            self.resource.clone_from(&step.resource);
        }
        match event {
            LoanEvent::Application(step) => self.status.clone_from(&step.activity),
            LoanEvent::Offer(step) => self.offers += u64::from(step.activity == "O_CREATED"),
            LoanEvent::Work(step) => {
                self.started += u64::from(step.transition == "START");
                self.completed += u64::from(step.transition == "COMPLETE");
            }
        }
    }
}

/// A day in UTC, and an activity.
type DayAndActivity = (NaiveDate, String);

const APPLICATIONS: View<String, Application> = View::new("applications");
const BY_DAY: View<DayAndActivity, u64> = View::new("by-day");

/// The projection of the state of each application, and of the number of each activity per day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loans {
    /// Whether to count activities. Without counts, no two applications change the same row.
    pub(crate) counts: bool,
}

impl Projection for Loans {
    type Source = Loan;
    const NAME: &'static str = "loans";

    fn apply(&self, event: &LoanEvent, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let (application, at) = (context.stream().as_str().to_owned(), context.occurred_at());
        rows.view(&APPLICATIONS)?.update(&application, |application| application.apply(event, at))?;
        if self.counts {
            let day = (at.date_naive(), event.step().activity.clone());
            rows.view(&BY_DAY)?.update(&day, |count| *count += 1)?;
        }
        Ok(())
    }
}

/// The expected content of the views.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FoldedLoans {
    applications: BTreeMap<String, Application>,
    by_day: BTreeMap<DayAndActivity, u64>,
}

impl FoldedLoans {
    /// Reads, decodes and folds the log in memory. The limit of the projection.
    pub(crate) async fn of_log(store: &dyn EventStore, projection: Loans) -> Result<Self, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| Failure::caused_by("fold the log", error);
        let mut folded = Self::default();
        let read = LogRead::matching(projection.query());
        let mut events = store.read_log(read).await.map_err(|error| failed(&error))?;
        while let Some(batch) = events.next_batch().await.map_err(|error| failed(&error))? {
            for record in &batch {
                for event in record.decode::<LoanEvent>().map_err(|error| failed(&error))?.as_slice() {
                    folded.apply(projection, record.stream.as_str(), event, record.occurred_at);
                }
            }
        }
        Ok(folded)
    }

    fn apply(&mut self, projection: Loans, application: &str, event: &LoanEvent, at: Timestamp) {
        match self.applications.get_mut(application) {
            Some(application) => application.apply(event, at),
            None => self.applications.entry(application.to_owned()).or_default().apply(event, at),
        }
        if projection.counts {
            *self.by_day.entry((at.date_naive(), event.step().activity.clone())).or_default() += 1;
        }
    }

    /// Reads the views of a store.
    pub(crate) async fn of_views(store: Arc<dyn EventStore>) -> Result<Self, Failure> {
        const PAGE: usize = 2000;
        let views = Views::of::<Loans>(store);
        let failed = |error| Failure::caused_by("read the views", &error);
        let applications = views.view(&APPLICATIONS).scan().limit(PAGE).read_all().await.map_err(failed)?;
        let by_day = views.view(&BY_DAY).scan().limit(PAGE).read_all().await.map_err(failed)?;
        Ok(Self { applications: applications.into_iter().collect(), by_day: by_day.into_iter().collect() })
    }

    /// Compares the fold with the content of the views.
    ///
    /// # Errors
    /// Returns a [`Failure`] with the first difference.
    pub(crate) fn check(&self, views: &Self) -> Result<(), Failure> {
        if self == views {
            return Ok(());
        }
        let sizes = |folded: &Self| (folded.applications.len(), folded.by_day.len());
        let differs =
            self.applications.iter().find(|(name, application)| views.applications.get(*name) != Some(application));
        let reason = format!(
            "expected the fold of the log with {:?} applications and counts, found {:?}; the first application that \
             differs is {:?}",
            sizes(self),
            sizes(views),
            differs.map(|(name, _)| name),
        );
        Err(Failure::new("build the views", reason))
    }

    pub(crate) fn rows(&self) -> usize {
        self.applications.len() + self.by_day.len()
    }
}

#[cfg(test)]
mod tests {
    use es_core::projection::Live;
    use es_core::projection::LiveEvents;
    use es_core::store::memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn projection_and_fold_agree_and_differences_are_found() {
        let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
        let log = Log::generated(500);
        log.import(&*store).await.unwrap();
        let counts = Loans { counts: true };
        let folded = FoldedLoans::of_log(&*store, counts).await.unwrap();
        let live = Live::fold(store.clone(), counts, LiveEvents::All).await.unwrap();
        let applications = live.view(&APPLICATIONS).scan().limit(1000).read().into_iter().collect();
        let mut shown =
            FoldedLoans { applications, by_day: live.view(&BY_DAY).scan().limit(1000).read().into_iter().collect() };
        assert_eq!(shown.by_day.values().sum::<u64>(), 500);
        assert_eq!(shown.applications.values().map(|application| application.steps).sum::<u64>(), 500);
        folded.check(&shown).unwrap();
        shown.applications.first_entry().unwrap().get_mut().steps += 1;
        assert!(folded.check(&shown).unwrap_err().to_string().contains("loan-"));
        let without = FoldedLoans::of_log(&*store, Loans { counts: false }).await.unwrap();
        assert!(without.by_day.is_empty() && without.applications == folded.applications);
    }
}
